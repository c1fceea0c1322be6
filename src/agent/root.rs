//! Mounts the system that boots: the root, configuration and data, under their constant names.

use super::device::Found;
use super::mount::Rung;
use super::plain::SYSROOT;
use super::{mount, options};
use crate::record::layout::{Dataset, Layout};
use crate::say;
use crate::store::place::STORE;
use crate::sys;
use kernel_cmdline::Boot;
use rustix::io::Errno;
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

/// What a command line says that hinders every change: its result would not be what boots.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Hindrance {
    /// `subvol=` names another root.
    #[error(
        "refused: rootflags names {named}: write subvol={live}, or the change would not be what boots"
    )]
    Other {
        /// What it names.
        named: String,
        /// The live system.
        live: String,
    },
    /// The kernel does not take the options.
    #[error("refused: the root would not mount with {options} ({errno}): correct rootflags=")]
    Options {
        /// Those that name no subvolume.
        options: String,
        /// What the kernel said to them.
        errno: Errno,
    },
    /// `subvolid=`: a number stays with the dataset that a change puts aside.
    #[error(
        "refused: rootflags=subvolid={id} would name the former system after the change: write \
         subvol={live} instead"
    )]
    Number {
        /// What it says.
        id: String,
        /// The live system.
        live: String,
    },
}

/// What in `rootflags=` hinders a change, whatever it is. `mount` tries a mount with these options.
pub fn hindrance(
    rootflags: &str,
    live: &str,
    mount: impl FnOnce(&str) -> sys::Result<()>,
) -> Option<Hindrance> {
    let boot = Boot {
        rootflags: Some(rootflags),
        ..Boot::default()
    };
    let live = live.to_owned();
    match (boot.subvolume().map(plain_name), boot.subvolume_id()) {
        (Some(named), _) if named != live && !never_boots(&named) => {
            Some(Hindrance::Other { named, live })
        }
        (_, Some(id)) => Some(Hindrance::Number {
            id: id.to_owned(),
            live,
        }),
        _ => refused_options(rootflags, mount),
    }
}

/// Options that the kernel does not take. The change would be made, and then no root would mount.
fn refused_options(
    rootflags: &str,
    mount: impl FnOnce(&str) -> sys::Result<()>,
) -> Option<Hindrance> {
    let options = without_names(rootflags);
    // Flags alone are always taken.
    if options::split(&options).1.is_empty() {
        return None;
    }
    let errno = mount(&options).err()?.errno;
    Some(Hindrance::Options { options, errno })
}

/// Which subvolume boots: the live one, unless the command line names another that is not ours. A
/// number is never followed: after a change it is that of a snapshot.
pub fn subvolume(boot: &Boot<'_>, layout: Option<&Layout>) -> Option<String> {
    let chosen = named(boot, layout);
    if let (Some(id), Some(layout), Some(chosen)) = (boot.subvolume_id(), layout, &chosen) {
        let live = &layout.system.live;
        say!(
            "rootflags=subvolid={id} is not followed: starting {chosen}; write subvol={live} instead, \
             since after a change the number is a snapshot's"
        );
    }
    chosen
}

fn named(boot: &Boot<'_>, layout: Option<&Layout>) -> Option<String> {
    let asked = boot.subvolume().map(plain_name);
    let asked = asked.as_deref();
    let live = layout.map(|layout| layout.system.live.as_str());
    match (asked, live) {
        (Some(""), Some(live)) => {
            say!("rootflags names the top level, which is never booted itself: starting {live}");
            Some(live.to_owned())
        }
        (Some(asked), Some(live)) if asked != live => {
            if never_boots(asked) {
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

/// Whether a plain name is one in whose place the live system boots: the top level, and the store.
fn never_boots(name: &str) -> bool {
    let below = name.strip_prefix(STORE);
    name.is_empty() || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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

/// `rootflags=` for another kernel, whose initramfs may know nothing of us: `None` where the present
/// ones name the root that was chosen.
pub fn flags_naming(boot: &Boot<'_>, chosen: Option<&str>) -> Option<String> {
    let chosen = chosen?;
    if boot.subvolume_id().is_none() && boot.subvolume().map(plain_name).as_deref() == Some(chosen)
    {
        return None;
    }
    Some(with_name(boot.rootflags.unwrap_or_default(), Some(chosen)))
}

/// Mount options that name this subvolume and no other one.
pub fn with_name(rootflags: &str, chosen: Option<&str>) -> String {
    let name = chosen.map_or(String::new(), |chosen| format!("subvol={chosen}"));
    options::join(&[&name, &without_names(rootflags)])
}

/// Mount options without what names a subvolume.
pub fn without_names(rootflags: &str) -> String {
    options::without(rootflags, &["subvol", "subvolid"])
}

/// A mounted root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub at: PathBuf,
    /// Which subvolume; `None`: what the kernel took without a name of ours.
    pub subvolume: Option<String>,
}

/// Mounts a btrfs root at [`SYSROOT`], read-only unless the command line says `rw`; then, where it
/// is the live one, configuration and data below it. `damaged`: all of it read-only, because it holds in no other way.
pub fn mount_btrfs(
    found: &Found,
    boot: &Boot<'_>,
    layout: Option<&Layout>,
    damaged: bool,
) -> Result<Mounted, Error> {
    let read_only = damaged || boot.writable != Some(true);
    let root = mount_chosen(found, boot, layout, |name, mount| {
        writable_or_not(name, read_only, mount)
    })?;
    if let Some(layout) = layout
        && root.subvolume.as_deref() == Some(layout.system.live.as_str())
    {
        mount_others(found, layout, &root.at, damaged);
    }
    Ok(root)
}

/// Mounts a btrfs root at [`SYSROOT`] to read its kernel there; not a byte is written, not even a log replayed.
pub fn mount_untouched(found: &Found, boot: &Boot<'_>) -> Result<Mounted, Error> {
    mount_chosen(found, boot, None, |_, mount| {
        mount(true, Rung::NoReplay.data())
    })
}

/// Mounts the subvolume that boots. `by` is given its name, and what mounts it: read-only or not, with more options.
fn mount_chosen(
    found: &Found,
    boot: &Boot<'_>,
    layout: Option<&Layout>,
    by: impl FnOnce(&str, &dyn Fn(bool, &str) -> sys::Result<()>) -> sys::Result<()>,
) -> Result<Mounted, Error> {
    let at = sysroot()?;
    let flags = boot.rootflags.unwrap_or_default();
    let subvolume = subvolume(boot, layout);
    let name = match (&subvolume, boot.subvolume_id()) {
        (Some(subvolume), _) => subvolume.clone(),
        (None, Some(id)) => format!("subvolid={id}"),
        (None, None) => "(default subvolume)".to_owned(),
    };
    by(&name, &|read_only, rescue| {
        let flags = options::join(&[flags, rescue]);
        match &subvolume {
            Some(subvolume) => mount::subvolume(&found.paths(), subvolume, &at, &flags, read_only),
            None => mount::default_subvolume(&found.paths(), &at, &flags, read_only),
        }
    })
    .map_err(|error| Error::Mount { what: name, error })?;
    Ok(Mounted { at, subvolume })
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
fn mount_others(found: &Found, layout: &Layout, root: &Path, read_only: bool) {
    for dataset in layout.config.iter().chain(&layout.data) {
        if let Err(error) = mount_one(found, dataset, root, read_only) {
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

fn mount_one(found: &Found, dataset: &Dataset, root: &Path, read_only: bool) -> sys::Result<()> {
    let at = Path::new(dataset.mount.as_str());
    writable_or_not(&dataset.live, read_only, |read_only, rescue| {
        mount::subvolume_in_root(&found.paths(), &dataset.live, root, at, rescue, read_only)
    })
}

/// Mounts, and where the file system takes no writes, read-only: a system that says so is better than one
/// without its configuration. Where it has a log to replay, which writes, also without that.
fn writable_or_not(
    what: &str,
    read_only: bool,
    mount: impl Fn(bool, &str) -> sys::Result<()>,
) -> sys::Result<()> {
    let Err(error) = mount(read_only, "") else {
        return Ok(());
    };
    let rungs = [Rung::ReadOnly, Rung::NoReplay];
    let mut rungs = rungs.into_iter().skip(usize::from(read_only));
    match rungs.find(|rung| mount(true, rung.data()).is_ok()) {
        Some(rung) => {
            say!("{what} is mounted {rung}, as it could not be otherwise: {error}");
            Ok(())
        }
        None => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_cannot_be_mounted_as_asked_is_mounted_in_the_next_best_way() {
        let broken = || Err(sys::Error::new("mount", Errno::IO));
        for (holds, read_only, mounted) in [
            ((false, ""), false, true),
            ((true, ""), false, true),
            ((true, "rescue=nologreplay"), false, true),
            ((true, "rescue=nologreplay"), true, true),
            ((true, "rescue=usebackuproot"), true, false),
        ] {
            let tried = std::cell::RefCell::new(Vec::new());
            let result = writable_or_not("@rootfs", read_only, |read_only, rescue| {
                tried.borrow_mut().push((read_only, rescue.to_owned()));
                match (read_only, rescue) == holds {
                    true => Ok(()),
                    false => broken(),
                }
            });
            assert_eq!(result.is_ok(), mounted, "{holds:?}");
            let tried = tried.into_inner();
            assert!(!read_only || tried.iter().all(|(read_only, _)| *read_only));
            assert!(!mounted || tried.last() == Some(&(holds.0, holds.1.to_owned())));
        }
    }

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
            ("/", "@rootfs"),
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

    #[test]
    fn a_number_is_not_followed_and_hinders_every_change() {
        let layout = crate::transaction::model::layout();
        for (flags, boots, refused) in [
            ("", "@rootfs", None),
            ("noatime,subvol=/@rootfs", "@rootfs", None),
            ("subvolid=256", "@rootfs", Some("subvol=@rootfs instead")),
            (
                "subvolid=5,subvol=@rootfs",
                "@rootfs",
                Some("rootflags=subvolid=5 would"),
            ),
            ("subvolid=0x100", "@rootfs", Some("write subvol=@rootfs")),
            (
                "subvol=@other",
                "@other",
                Some("names @other: write subvol=@rootfs"),
            ),
            (
                "subvol=@other,subvolid=256",
                "@other",
                Some("names @other: write subvol=@rootfs"),
            ),
            // In their place the live system boots, also after a change.
            ("subvol=/", "@rootfs", None),
            ("subvol=/@backstay/factory/system", "@rootfs", None),
            (
                "subvol=@backstay-of-mine",
                "@backstay-of-mine",
                Some("names @backstay-of-mine"),
            ),
            ("subvol=/,subvolid=5", "@rootfs", Some("subvolid=5 would")),
        ] {
            let line = format!("root=UUID=1 rootflags={flags}");
            let boot = Boot::read(line.as_bytes());
            let chosen = subvolume(&boot, Some(&layout));
            assert_eq!(chosen.as_deref(), Some(boots), "{flags}");
            let why = hindrance(flags, "@rootfs", |_| Ok(())).map(|why| why.to_string());
            assert_eq!(why.is_some(), refused.is_some(), "{flags}: {why:?}");
            if let (Some(why), Some(says)) = (why, refused) {
                assert!(why.contains(says) && !why.contains('\n'), "{flags}: {why}");
            }
        }
        // Without a store nobody knows better than the command line.
        assert_eq!(
            subvolume(&Boot::read(b"rootflags=subvolid=256"), None),
            None
        );
    }

    #[test]
    fn options_that_the_kernel_does_not_take_hinder_every_change_and_flags_are_not_tried() {
        let taken = |options: &str| match options.contains("bogus") {
            true => Err(sys::Error::new("mount", Errno::INVAL)),
            false => Ok(()),
        };
        for (flags, refused) in [
            ("subvol=@rootfs,compress=zstd", None),
            (
                "noatime,bogus=1,subvol=@rootfs",
                Some("mount with noatime,bogus=1 ("),
            ),
        ] {
            let why = hindrance(flags, "@rootfs", taken).map(|why| why.to_string());
            match (why, refused) {
                (None, None) => {}
                (Some(why), Some(says)) => assert!(why.contains(says), "{why}"),
                (why, _) => panic!("{flags}: {why:?}"),
            }
        }
        for flags in ["", "subvol=@rootfs", "noatime,ro,subvol=@rootfs,defaults"] {
            let untried = |_: &str| -> sys::Result<()> { panic!("{flags} was tried") };
            assert_eq!(hindrance(flags, "@rootfs", untried), None);
        }
    }

    #[test]
    fn another_kernel_is_told_the_root_that_was_chosen() {
        for (flags, chosen, told) in [
            ("subvol=@rootfs", Some("@rootfs"), None),
            ("noatime,subvol=/@other/", Some("@other"), None),
            ("", Some("@rootfs"), Some("subvol=@rootfs")),
            (
                "subvolid=256,noatime",
                Some("@rootfs"),
                Some("subvol=@rootfs,noatime"),
            ),
            (
                "subvol=@rootfs,subvolid=256",
                Some("@rootfs"),
                Some("subvol=@rootfs"),
            ),
            (
                "subvol=@backstay/snapshots/1/system",
                Some("@rootfs"),
                Some("subvol=@rootfs"),
            ),
            ("subvolid=256", None, None),
        ] {
            let boot = Boot {
                rootflags: Some(flags),
                ..Boot::default()
            };
            assert_eq!(flags_naming(&boot, chosen).as_deref(), told, "{flags}");
        }
    }
}
