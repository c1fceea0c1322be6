//! A hibernated system is resumed or left alone: its image on disk is a promise that nothing else
//! writes to its file systems.

use super::block::{self, Places};
use super::device;
use super::modules::Modules;
use crate::say;
use crate::sys::probe::{self, Content};
use kernel_cmdline::Boot;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// How long a device named by `resume=` is waited for, after the root's device is there.
const WAIT: Duration = Duration::from_secs(5);
const RESUME: &str = "/sys/power/resume";
const OFFSET: &str = "/sys/power/resume_offset";

/// Whether an image is there that the command line would resume. If so, resumes it: then this call
/// does not return, unless the kernel refuses the image.
pub fn resume_if_hibernated(boot: &Boot<'_>, modules: &mut Modules) -> bool {
    if boot.noresume || boot.nohibernate {
        return false;
    }
    let Some(named) = boot.resume_device() else {
        return hibernated_elsewhere();
    };
    let found = match device::wait(named, Some(WAIT), &Places::default(), modules) {
        Ok(found) => found,
        Err(error) => {
            say!("resume= names a device that is not there: {error}");
            return false;
        }
    };
    let Some(path) = found.paths().into_iter().next() else {
        return false;
    };
    let offset = boot.resume_offset.unwrap_or(0);
    match is_hibernated(&path, offset) {
        Ok(false) => false,
        Ok(true) => {
            say!(
                "a hibernated system lies on {}: resuming it, nothing is touched",
                path.display()
            );
            if let Err(error) = resume(&path, offset) {
                say!("it was not resumed: {error}");
            }
            say!("the image could not be resumed: no change is made, the system starts as it is");
            true
        }
        Err(error) => {
            say!(
                "{} cannot be read ({error}): treated as hibernated",
                path.display()
            );
            true
        }
    }
}

/// Whether an image is there, whoever would resume it: then nothing may be touched.
pub fn is_there(boot: &Boot<'_>, modules: &mut Modules) -> bool {
    if boot.noresume || boot.nohibernate {
        return false;
    }
    let offset = boot.resume_offset.unwrap_or(0);
    let named = boot.resume_device();
    let found =
        named.and_then(|named| device::wait(named, Some(WAIT), &Places::default(), modules).ok());
    let path = found.and_then(|found| found.paths().into_iter().next());
    // One that cannot be read is treated as hibernated.
    path.is_some_and(|path| is_hibernated(&path, offset).unwrap_or(true)) || hibernated_elsewhere()
}

/// Whether any swap that is there holds an image, although the command line names none: another
/// initramfs may resume it, so nothing may be changed.
fn hibernated_elsewhere() -> bool {
    let image = block::list(&Places::default())
        .into_iter()
        .find(|device| matches!(&device.content, Content::Swap(swap) if swap.hibernated));
    if let Some(device) = &image {
        say!(
            "a hibernated system lies on {}: nothing is changed, the system starts as it is",
            device.path.display()
        );
        say!("to give it up, boot with 'noresume', or run mkswap on it");
    }
    image.is_some()
}

fn is_hibernated(path: &Path, offset: u64) -> std::io::Result<bool> {
    let mut device = File::open(path)?;
    // The offset is in pages; swap on x86 and arm64 Debian has pages of 4 KiB.
    let header = probe::swap::read(&mut device, offset.saturating_mul(4096))?;
    Ok(header.is_some_and(|header| header.hibernated))
}

fn resume(path: &Path, offset: u64) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(path)?.rdev();
    if offset != 0 {
        std::fs::write(OFFSET, offset.to_string())?;
    }
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    std::fs::write(RESUME, format!("{major}:{minor}"))
}
