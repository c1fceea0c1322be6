//! The plain boot: no verb, no change, only mount the root that the command line names and go on.
//!
//! It is what a second worker ends with after the first one died, so it shares as little as possible
//! with the rest: no store, no state, no plan.

use std::path::Path;

use kernel_cmdline::Boot;

use super::block::Places;
use super::modules::Modules;
use super::pid1::End;
use super::{device, mount};
use crate::say;
use crate::sys::probe::Content;

/// Where the new root is mounted in the initramfs.
pub const SYSROOT: &str = "/sysroot";

/// Why the plain boot could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing to boot.
    #[error("the command line names no root: give root=UUID=...")]
    NoRoot,
    /// It is not there.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// A disk that is not a root.
    #[error("{0} holds no file system that is known here: give rootfstype=")]
    UnknownType(String),
    /// A system call failed.
    #[error(transparent)]
    Call(#[from] crate::sys::Error),
}

/// Loads drivers, waits for the root of `cmdline`, mounts it at [`SYSROOT`] and says where to go.
/// Works after any other worker: what that left mounted is unmounted first.
///
/// # Errors
/// For people, with the remedy.
pub fn boot(cmdline: &[u8]) -> Result<End, Error> {
    let boot = Boot::read(cmdline);
    let sysroot = Path::new(SYSROOT);
    mount::api_for_worker()?;
    mount::clear(sysroot);
    let name = boot.root_device().ok_or(Error::NoRoot)?;
    let mut modules = Modules::of_running_kernel();
    modules.cold_plug(Path::new("/sys/bus"));
    let found = device::wait(name, device::limit(&boot), &Places::default(), &mut modules)?;
    for copy in &found.copies {
        say!(
            "{} is a copy of the same file system: remove one of the disks",
            copy.path.display()
        );
    }
    mount_root(&boot, &found, sysroot, &mut modules)?;
    Ok(End::SwitchRoot {
        root: SYSROOT.into(),
        init: boot.init.map(str::to_owned),
        args: init_args(),
    })
}

fn mount_root(
    boot: &Boot<'_>,
    found: &device::Found,
    at: &Path,
    modules: &mut Modules,
) -> Result<(), Error> {
    let read_only = !boot.writable.unwrap_or(false);
    let flags = boot.rootflags.unwrap_or_default();
    let _ = std::fs::create_dir(at);
    let Some(first) = found.devices.first() else {
        return Err(Error::UnknownType("nothing".into()));
    };
    let fs = match (&first.content, boot.rootfstype) {
        (Content::Btrfs(_), _) => {
            // Without subvol= it is the default subvolume, as everywhere else.
            match boot.subvolume() {
                Some(subvol) => mount::subvolume(&found.paths(), subvol, at, flags, read_only)?,
                None => mount::default_subvolume(&found.paths(), at, flags, read_only)?,
            }
            let which = match (boot.subvolume(), boot.subvolume_id()) {
                (Some(subvol), _) => subvol.to_owned(),
                (None, Some(id)) => format!("subvolid={id}"),
                (None, None) => "default subvolume".to_owned(),
            };
            say!("root: {} ({which})", first.path.display());
            return Ok(());
        }
        (_, Some(fs)) => fs.split(',').next().unwrap_or(fs),
        (Content::Ext(_), None) => "ext4",
        (_, None) => return Err(Error::UnknownType(first.path.display().to_string())),
    };
    modules.load(fs);
    mount::root(&first.path, fs, at, flags, read_only)?;
    say!("root: {} ({fs})", first.path.display());
    Ok(())
}

/// What the kernel meant for init: its own arguments, which it gave to us instead.
pub fn init_args() -> Vec<String> {
    std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect()
}
