//! A hibernated system is resumed or left alone: its image on disk is a promise that nothing else
//! writes to its file systems.
//!
//! Where `resume=` names no image, one on the root's own disk is resumed all the same: initramfs-tools has the device in
//! its own configuration, and the recovery kernel starts without it. One on another disk is not: whoever plugs a disk in
//! would put a system of their own in this one's place.

use super::block::{self, Places};
use super::device::{self, Found};
use super::modules::Modules;
use crate::say;
use crate::sys::probe::{self, Content};
use kernel_cmdline::Boot;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a device named by `resume=` is waited for, after the root's device is there.
const WAIT: Duration = Duration::from_secs(5);
const RESUME: &str = "/sys/power/resume";
const OFFSET: &str = "/sys/power/resume_offset";

/// Where an image lies.
struct Image {
    path: PathBuf,
    /// In pages.
    offset: u64,
    /// Whether it is this boot's to resume.
    ours: bool,
}

/// Whether an image is there. One that is this boot's to resume is resumed: then this call does not return, unless the
/// kernel refuses the image.
pub fn resume_if_hibernated(boot: &Boot<'_>, found: &Found, modules: &mut Modules) -> bool {
    let Some(image) = find(boot, found, modules) else {
        return false;
    };
    if !image.ours {
        left_alone(&image.path);
        return true;
    }
    say!(
        "a hibernated system lies on {}: resuming it, nothing is touched",
        image.path.display()
    );
    if let Err(error) = resume(&image) {
        say!("it was not resumed: {error}");
    }
    say!("the image could not be resumed: no change is made, the system starts as it is");
    true
}

/// Whether an image is there, whoever would resume it: then nothing may be touched.
pub fn is_there(boot: &Boot<'_>, found: &Found, modules: &mut Modules) -> bool {
    let image = find(boot, found, modules);
    if let Some(image) = &image {
        left_alone(&image.path);
    }
    image.is_some()
}

fn left_alone(path: &Path) {
    say!(
        "a hibernated system lies on {}: nothing is changed, the system starts as it is",
        path.display()
    );
    say!("to give it up, boot with 'noresume', or run mkswap on it");
}

/// The image that `resume=` names, else one on any swap. What is named and cannot be read counts as one.
fn find(boot: &Boot<'_>, root: &Found, modules: &mut Modules) -> Option<Image> {
    if boot.noresume || boot.nohibernate {
        return None;
    }
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
            let ours = true;
            return Some(Image { path, offset, ours });
        }
    }
    let places = Places::default();
    let holds_image = |content: &Content| matches!(content, Content::Swap(swap) if swap.hibernated);
    let device = block::list(&places)
        .into_iter()
        .find(|device| holds_image(&device.content))?;
    let beside = |member| block::are_on_one_disk(&places, &device, member);
    Some(Image {
        ours: root.devices.iter().any(beside),
        path: device.path,
        offset: 0,
    })
}

/// The device that `resume=` names, once it is there.
fn named(boot: &Boot<'_>, modules: &mut Modules) -> Option<PathBuf> {
    let name = boot.resume_device()?;
    match device::wait(name, Some(WAIT), &Places::default(), modules) {
        Ok(found) => found.paths().into_iter().next(),
        Err(error) => {
            say!("resume= names a device that is not there: {error}");
            None
        }
    }
}

fn is_hibernated(path: &Path, offset: u64) -> std::io::Result<bool> {
    let mut device = File::open(path)?;
    // The offset is in pages; swap on x86 and arm64 Debian has pages of 4 KiB.
    let header = probe::swap::read(&mut device, offset.saturating_mul(4096))?;
    Ok(header.is_some_and(|header| header.hibernated))
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
