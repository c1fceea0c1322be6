//! A hibernated system is resumed or left alone: its image on disk is a promise that nothing else writes to its file
//! systems.
//!
//! The image that `resume=` names is this boot's to resume. Whose another one is, only the initramfs of the system that
//! was hibernated knows, from its own configuration: resumed here, another installation could start in the live one's
//! place, and an image that the kernel refuses is lost.
//!
//! `noresume` gives an image up, and only the system that starts then takes its mark away (swapon(8) does): a change
//! before that would lie under an image which the next start without `noresume` resumes.

use super::block::{self, Places};
use super::device;
use super::modules::Modules;
use crate::say;
use crate::sys::probe::{self, Content};
use kernel_cmdline::{Boot, Device as Name};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod efi;

/// How long a device named by `resume=` is waited for, after the root's device is there.
const WAIT: Duration = device::WAIT_DEFAULT;
const RESUME: &str = "/sys/power/resume";
const OFFSET: &str = "/sys/power/resume_offset";

const GIVE_UP: &str =
    "to give it up, type FORGET in the recovery menu, or start the system once with 'noresume'";

/// What runs the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initramfs {
    /// The distribution's, which resumes before that.
    Host,
    /// The live system's own.
    Own,
    /// The recovery kernel's.
    Recovery,
}

/// What follows from an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met {
    /// The live system starts, and nothing is changed.
    StartsUnchanged(Image),
    /// It may be the live system's, which only its own kernel and initramfs may start then.
    MayBeLive(Image),
}

/// An image of a hibernated system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    path: PathBuf,
    /// In pages.
    offset: u64,
    /// Whether it is this boot's to resume.
    is_ours: bool,
}

impl Image {
    /// Gives it up: what that system had not saved is lost, and the swap area is swap again. On disk on return.
    pub fn forget(&self) -> std::io::Result<()> {
        let mut device = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)?;
        probe::swap::forget(&mut device, bytes(self.offset))?;
        device.sync_all()
    }
}

/// Whether an image is on any disk that is there now, as far as it can be found without `resume=`.
pub fn is_on_any_disk(places: &Places) -> bool {
    on_any_disk(places).is_some()
}

/// Looks for an image; where there is one, says so and what follows. One that is this boot's to resume is resumed: then this
/// call does not return, unless the kernel refuses the image, which is lost by that.
pub fn meet(boot: &Boot<'_>, runs: Initramfs, modules: &mut Modules) -> Option<Met> {
    let image = find(boot, modules)?;
    let path = image.path.display();
    Some(match runs {
        Initramfs::Own | Initramfs::Recovery if image.is_ours => {
            say!("a hibernated system lies on {path}: resuming it, nothing is touched");
            if let Err(error) = resume(&image) {
                say!("it was not resumed: {error}");
            }
            say!("the image could not be resumed: no change is made, the system starts as it is");
            Met::StartsUnchanged(image)
        }
        Initramfs::Own | Initramfs::Host => {
            say!(
                "a hibernated system lies on {path}: nothing is changed, the system starts as it is"
            );
            say!("{GIVE_UP}");
            Met::StartsUnchanged(image)
        }
        Initramfs::Recovery => {
            say!(
                "a hibernated system lies on {path}, not this kernel's to resume: nothing is changed"
            );
            say!("{GIVE_UP}");
            Met::MayBeLive(image)
        }
    })
}

/// The image that `resume=` names, else one on any disk. What is named and cannot be read counts as one.
fn find(boot: &Boot<'_>, modules: &mut Modules) -> Option<Image> {
    let offset = boot.resume_offset.unwrap_or(0);
    if let Some(path) = named(boot, modules) {
        let hibernated = is_hibernated(&path, offset).unwrap_or_else(|error| {
            say!(
                "{} cannot be read ({error}): treated as hibernated",
                path.display()
            );
            true
        });
        if hibernated {
            let is_ours = !(boot.noresume || boot.nohibernate);
            return Some(Image {
                path,
                offset,
                is_ours,
            });
        }
    }
    efi::prepare(modules);
    on_any_disk(&Places::default())
}

/// An image on a swap partition, or where the firmware says that one is.
fn on_any_disk(places: &Places) -> Option<Image> {
    let devices = block::list(places);
    let image = |device: &block::Device, offset| Image {
        path: device.path.clone(),
        offset,
        is_ours: false,
    };
    let holds_image = |content: &Content| matches!(content, Content::Swap(swap) if swap.hibernated);
    if let Some(device) = devices.iter().find(|device| holds_image(&device.content)) {
        return Some(image(device, 0));
    }
    let location = efi::location()?;
    let is_there = |device: &&block::Device| {
        device::answers(Name::Uuid(&location.uuid), device)
            && is_hibernated(&device.path, location.offset).unwrap_or(false)
    };
    let device = devices.iter().find(is_there)?;
    Some(image(device, location.offset))
}

/// The device that `resume=` names, once it is there.
fn named(boot: &Boot<'_>, modules: &mut Modules) -> Option<PathBuf> {
    let name = boot.resume_device()?;
    match device::wait(name, Some(WAIT), &Places::default(), modules) {
        // A swap file's file system may lie on several devices; the offset counts on the one that is named.
        Ok(found) => {
            let named = |device: &&block::Device| device::answers(name, device);
            let device = found.devices.iter().find(named).or(found.devices.first());
            device.map(|device| device.path.clone())
        }
        Err(error) => {
            say!("resume= names a device that is not there: {error}");
            None
        }
    }
}

fn is_hibernated(path: &Path, offset: u64) -> std::io::Result<bool> {
    let mut device = File::open(path)?;
    let header = probe::swap::read(&mut device, bytes(offset))?;
    Ok(header.is_some_and(|header| header.hibernated))
}

/// An offset in bytes; swap on x86 and arm64 Debian has pages of 4 KiB.
fn bytes(pages: u64) -> u64 {
    pages.saturating_mul(4096)
}

fn resume(image: &Image) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(&image.path)?.rdev();
    if image.offset != 0 {
        std::fs::write(OFFSET, image.offset.to_string())?;
    }
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    std::fs::write(RESUME, format!("{major}:{minor}"))
}
