//! Mounts the system that boots: the root, configuration and data, under their constant names.

use super::device::Found;
use super::mount;
use super::plain::SYSROOT;
use crate::record::layout::{Dataset, Layout};
use crate::say;
use crate::store::place::STORE;
use crate::sys;
use kernel_cmdline::Boot;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The root could not be mounted.
#[derive(Debug, Error)]
pub enum Error {
    /// No mount point, or the mount failed.
    #[error("the root {what} could not be mounted: {error}")]
    Mount {
        /// Which subvolume or device.
        what: String,
        /// The call.
        error: sys::Error,
    },
}

/// Which subvolume boots: the live one, unless the command line names another that is not ours.
pub fn subvolume(boot: &Boot<'_>, layout: Option<&Layout>) -> Option<String> {
    let asked = boot.subvolume().map(plain_name);
    let asked = asked.as_deref();
    let live = layout.map(|layout| layout.system.live.as_str());
    match (asked, live) {
        (Some(asked), Some(live)) if asked != live => {
            if asked == STORE || asked.starts_with(&format!("{STORE}/")) {
                say!("rootflags names {asked}, which is never booted itself: starting {live}");
                say!("to boot a snapshot once, use backstay.select=ID");
                return Some(live.to_owned());
            }
            say!("rootflags names {asked}, not {live}: a rollback does not change what boots");
            Some(asked.to_owned())
        }
        (_, Some(live)) => Some(live.to_owned()),
        (asked, None) => asked.map(str::to_owned),
    }
}

/// A subvolume's path as the kernel resolves it: `./@rootfs/`, `/@rootfs` and `@rootfs` are one.
pub fn plain_name(name: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(names.pop()),
            part => names.push(part),
        }
    }
    names.join("/")
}

/// Mounts a btrfs root at [`SYSROOT`], read-only unless the command line says `rw`; then, where it
/// is the live one, configuration and data below it.
pub fn mount_btrfs(
    found: &Found,
    boot: &Boot<'_>,
    layout: Option<&Layout>,
) -> Result<PathBuf, Error> {
    let at = sysroot()?;
    let flags = boot.rootflags.unwrap_or_default();
    let read_only = boot.writable != Some(true);
    let subvolume = subvolume(boot, layout);
    let name = subvolume
        .clone()
        .unwrap_or_else(|| "(default subvolume)".to_owned());
    let failed = |error| Error::Mount {
        what: name.clone(),
        error,
    };
    writable_or_not(&name, read_only, |read_only| match &subvolume {
        Some(subvolume) => mount::subvolume(&found.paths(), subvolume, &at, flags, read_only),
        None => mount::default_subvolume(&found.paths(), &at, flags, read_only),
    })
    .map_err(failed)?;
    if let Some(layout) = layout
        && subvolume.as_deref() == Some(layout.system.live.as_str())
    {
        mount_others(found, layout, &at);
    }
    Ok(at)
}

fn sysroot() -> Result<PathBuf, Error> {
    let at = PathBuf::from(SYSROOT);
    mount::clear(&at);
    match std::fs::create_dir(&at) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::Mount {
            what: SYSROOT.to_owned(),
            error: sys::Error::from_io(format!("mkdir({SYSROOT})"), &error),
        }),
        _ => Ok(at),
    }
}

/// Configuration and data. What does not mount is said; the system boots without it, because its
/// own fstab may still mount it, and a person can look.
fn mount_others(found: &Found, layout: &Layout, root: &Path) {
    for dataset in layout.config.iter().chain(&layout.data) {
        if let Err(error) = mount_one(found, dataset, root) {
            say!(
                "{} is not mounted at {}: {error}",
                dataset.live,
                dataset.mount
            );
        }
    }
    let Some(config) = &layout.config else { return };
    let from = root.join(config.mount.trim_start_matches('/'));
    for path in &layout.config_paths {
        if let Err(error) = mount::bind_path(&from, root, Path::new(path.as_str())) {
            say!("{path} is not mounted from the config dataset: {error}");
        }
    }
}

fn mount_one(found: &Found, dataset: &Dataset, root: &Path) -> sys::Result<()> {
    let at = Path::new(dataset.mount.as_str());
    writable_or_not(&dataset.live, false, |read_only| {
        mount::subvolume_in_root(&found.paths(), &dataset.live, root, at, "", read_only)
    })
}

/// Mounts, and where the file system takes no writes, read-only: a system that says so is better than one
/// without its configuration.
fn writable_or_not(
    what: &str,
    read_only: bool,
    mount: impl Fn(bool) -> sys::Result<()>,
) -> sys::Result<()> {
    let Err(error) = mount(read_only) else {
        return Ok(());
    };
    if read_only || mount(true).is_err() {
        return Err(error);
    }
    say!("{what} is mounted read-only, as it could not be otherwise: {error}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_a_name_below_the_store_boots_a_snapshot() {
        let layout = crate::transaction::model::layout();
        for (named, boots) in [
            ("@rootfs", "@rootfs"),
            ("/@rootfs/", "@rootfs"),
            ("./@rootfs", "@rootfs"),
            ("@other", "@other"),
            ("@backstay/snapshots/1/system", "@rootfs"),
            ("./@backstay/snapshots/1/system", "@rootfs"),
            ("//@backstay//./snapshots/1/system/", "@rootfs"),
            ("@other/../@backstay/factory/system", "@rootfs"),
        ] {
            let line = format!("root=UUID=1 rootflags=subvol={named}");
            let boot = Boot::read(line.as_bytes());
            assert_eq!(
                subvolume(&boot, Some(&layout)).as_deref(),
                Some(boots),
                "{named}"
            );
        }
    }
}
