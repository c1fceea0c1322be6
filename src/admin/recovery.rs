//! The recovery kernel: `@backstay/kernels/recovery`, outside every dataset.
//!
//! Its initramfs is ours and mounts the root by itself, where it can. Where the root's device is made of others by
//! programs that ask for a passphrase or read a configuration (LUKS, LVM, RAID), it is the distribution's own, with
//! the agent in it. Where GRUB may not be able to read the root's device either, the directory lies on /boot.
//!
//! A new one is made whole and durable beside the present one, then the two directories are
//! exchanged, and what was there becomes `recovery-previous`. At every instant GRUB finds a whole
//! recovery kernel under the one name or the other.

use super::error::{Error, Result};
use super::files::{copy, replace};
use super::initramfs::{AGENT, build};
use super::install::tools;
use crate::agent::block;
use crate::record::layout::Part;
use crate::record::manifest::Release;
use crate::record::sums::{self, FILES, SUMS};
use crate::store::Store;
use crate::store::place::Place;
use crate::sys::Context;
use crate::transaction::check;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where recovery kernels lie, in the store's top level or on /boot. The same name in both: the agent knows by it what
/// GRUB started.
const KERNELS: &str = "@backstay/kernels";

/// Where a machine's recovery kernel lies, and whose its initramfs is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The store's top level.
    top: PathBuf,
    kernels: PathBuf,
    /// The initramfs is the distribution's.
    pub is_hosts: bool,
}

impl Recovery {
    /// In the store, with an initramfs of ours.
    pub fn in_store(top: &Path) -> Recovery {
        Recovery {
            top: top.to_owned(),
            kernels: top.join(KERNELS),
            is_hosts: false,
        }
    }

    /// Of the machine that runs, whose root was mounted from `device`.
    pub fn of_running(top: &Path, device: &Path, boot_is_apart: bool) -> Recovery {
        let in_store = Recovery::in_store(top);
        let is_hosts = block::is_made_of_others(device);
        match is_hosts && boot_is_apart {
            true => Recovery {
                kernels: Path::new("/boot").join(KERNELS),
                is_hosts,
                ..in_store
            },
            false => Recovery {
                is_hosts,
                ..in_store
            },
        }
    }

    /// Whether it lies where GRUB reads nothing else of the store.
    pub fn is_on_boot(&self) -> bool {
        !self.kernels.starts_with(&self.top)
    }

    /// Removes all of it from /boot, if it lies there; what lies in the store goes with that.
    pub fn remove_from_boot(&self) -> Result<()> {
        match self.kernels.parent().filter(|_| self.is_on_boot()) {
            Some(directory) => remove(directory),
            None => Ok(()),
        }
    }

    /// What is missing of it; `None` when it is whole.
    pub fn missing(&self) -> Option<&'static str> {
        let directory = self.directory();
        FILES.into_iter().find(|name| {
            let length = std::fs::metadata(directory.join(name)).map(|file| file.len());
            length.unwrap_or(0) == 0
        })
    }

    /// Its release where it is the live system's own kernel.
    pub fn of_live<S: Store>(&self, store: &S) -> Result<Option<Release>> {
        let Some(kernel) = check::kernel(store, Place::Live(Part::System))? else {
            return Ok(None);
        };
        let [own, recovery] = [
            self.live(store).join(&kernel.image),
            self.directory().join("vmlinuz"),
        ]
        .map(|path| std::fs::read(&path).map_err(Error::file("reading", &path)));
        Ok((own? == recovery?).then_some(kernel.release))
    }

    /// Its initramfs and that of the one before, where they would lie.
    pub fn initramfs(&self) -> [PathBuf; 2] {
        ["recovery", "recovery-previous"].map(|name| self.kernels.join(name).join("initrd.img"))
    }

    /// Where it lies.
    pub fn directory(&self) -> PathBuf {
        self.kernels.join("recovery")
    }

    /// The policy and the keys that it has, by their paths below etc/backstay.
    pub fn settings(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let settings = match self.is_hosts {
            // The hook of the distribution's initramfs has copied them from there.
            true => backstay_initramfs::settings_of_root(Path::new("/")),
            false => backstay_initramfs::settings(&self.directory().join("initrd.img")),
        };
        settings.map_err(|error| Error::RecoveryUnread(error.to_string()))
    }

    fn live<S: Store>(&self, store: &S) -> PathBuf {
        self.top.join(store.layout().system.live.as_str())
    }

    fn named(&self, names: [&str; 3]) -> [PathBuf; 3] {
        names.map(|name| self.kernels.join(name))
    }
}

/// What is the recovery kernel now.
#[derive(Debug)]
pub struct Installed {
    /// Its release.
    pub release: Release,
    /// Whether it is another one than before.
    pub is_new: bool,
}

/// Makes the live system's kernel, with an initramfs that holds the agent, the recovery kernel, unless it
/// is that already. On disk on return. `agent` is a program; without it the system's own is taken.
pub fn install<S: Store>(
    store: &mut S,
    recovery: &Recovery,
    agent: Option<&Path>,
    progress: &mut dyn FnMut(&str),
) -> Result<Installed> {
    let system = Place::Live(Part::System);
    let live = store.layout().system.live.to_string();
    let Some(kernel) = check::kernel(store, system)? else {
        return Err(Error::NoKernel(live));
    };
    progress(&format!(
        "building the recovery kernel from {}",
        kernel.release
    ));
    let root = recovery.live(store);
    let [made_at, new, present] = recovery.named(["recovery.made", "recovery.new", "recovery"]);
    let initramfs = made_at.join("initrd.img");
    let make_initramfs = || match (recovery.is_hosts, &kernel.initrd) {
        (false, _) => {
            let agent = program(&root, &live, agent)?;
            build(&root, &kernel.release, &agent, &initramfs).map(drop)
        }
        (true, Some(hosts)) => copy_hosts(&root.join(hosts), &initramfs),
        (true, None) => Err(Error::NoKernel(format!("{live}, with an initramfs"))),
    };
    remove(&made_at)?;
    std::fs::create_dir_all(&made_at).map_err(Error::file("making", &made_at))?;
    let made = make_initramfs()
        .and_then(|()| copy(&root.join(&kernel.image), &made_at.join("vmlinuz")))
        .and_then(|()| {
            let text = sums::of(&made_at).map_err(Error::file("reading", &made_at))?;
            replace(&made_at.join(SUMS), text.as_bytes())
        });
    if let Err(error) = made {
        remove(&made_at)?;
        return Err(error);
    }
    if is_same(&made_at, &present) {
        remove(&made_at)?;
        // A power cut between the exchange and the last step leaves the one before there.
        match new.exists() && sums::hold(&new).is_ok_and(|hold| hold) && !is_same(&new, &present) {
            true => keep_previous(recovery)?,
            false => remove(&new)?,
        }
        sync(recovery)?;
        return Ok(Installed {
            release: kernel.release,
            is_new: false,
        });
    }
    remove(&new)?;
    std::fs::rename(&made_at, &new).map_err(Error::file("renaming", &made_at))?;
    sync(recovery)?;
    put_in_place(recovery)?;
    sync(recovery)?;
    Ok(Installed {
        release: kernel.release,
        is_new: true,
    })
}

/// Copies the distribution's initramfs. Without the agent in it, it would carry nothing out.
fn copy_hosts(from: &Path, to: &Path) -> Result<()> {
    if tools::lists(from, "backstay-init") == Some(false) {
        return Err(Error::Initramfs(format!(
            "{from:?} does not have the agent: make it anew ('update-initramfs -u' or 'dracut --force')"
        )));
    }
    copy(from, to)
}

/// Puts everything of the file system that it lies on on disk.
fn sync(recovery: &Recovery) -> Result<()> {
    tools::sync(&recovery.kernels)
}

/// Whether two recovery kernels are the same, byte for byte.
fn is_same(one: &Path, other: &Path) -> bool {
    FILES.into_iter().chain([SUMS]).all(|name| {
        let bytes = |directory: &Path| std::fs::read(directory.join(name));
        bytes(one).is_ok_and(|new| bytes(other).is_ok_and(|old| old == new))
    })
}

/// The agent's program: the named one, else that of the live system. Where it is missing, its path is
/// told from the store's top level, wherever that is mounted.
fn program(root: &Path, live: &str, named: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let own = root.join(AGENT);
    match own.is_file() {
        true => Ok(own),
        false => Err(Error::NoAgent(Path::new(live).join(AGENT))),
    }
}

fn put_in_place(recovery: &Recovery) -> Result<()> {
    let [new, present, _] = recovery.named(["recovery.new", "recovery", "recovery-previous"]);
    if !present.exists() {
        return std::fs::rename(&new, &present).map_err(Error::file("renaming", &new));
    }
    renameat_with(CWD, &new, CWD, &present, RenameFlags::EXCHANGE)
        .call(|| format!("renameat2({new:?}, {present:?}, EXCHANGE)"))?;
    // The exchange must be on disk before the one before the last goes.
    sync(recovery)?;
    keep_previous(recovery)
}

/// What was the recovery kernel before the exchange gets its name.
fn keep_previous(recovery: &Recovery) -> Result<()> {
    let [new, _, previous] = recovery.named(["recovery.new", "recovery", "recovery-previous"]);
    remove(&previous)?;
    std::fs::rename(&new, &previous).map_err(Error::file("renaming", &new))
}

/// Removes a directory with all that is in it; one that is not there is removed already.
pub(super) fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("removing", directory)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(recovery: &Recovery, text: &str) {
        let new = recovery.kernels.join("recovery.new");
        std::fs::create_dir_all(&new).unwrap();
        for name in FILES {
            std::fs::write(new.join(name), text).unwrap();
        }
    }

    #[test]
    fn a_missing_agent_is_named_from_the_top_level() {
        let root = Path::new("/proc/self/fd/3/@rootfs");
        let text = program(root, "@rootfs", None).unwrap_err().to_string();
        assert!(
            text.contains("\"@rootfs/usr/lib/backstay/backstay-init\""),
            "{text}"
        );
        assert!(!text.contains("/proc/"), "{text}");
        let named = Path::new("/tmp/agent");
        assert_eq!(program(root, "@rootfs", Some(named)).unwrap(), named);
    }

    #[test]
    fn a_plain_partition_is_mounted_by_our_own_initramfs_wherever_boot_is() {
        let top = Path::new("/top");
        for apart in [false, true] {
            let of_null = Recovery::of_running(top, Path::new("/dev/null"), apart);
            assert_eq!(of_null, Recovery::in_store(top));
            assert!(!of_null.is_on_boot());
        }
    }

    #[test]
    fn the_newest_kernel_is_in_place_and_the_one_before_is_kept() {
        let top = tempfile::tempdir().unwrap();
        let recovery = Recovery::in_store(top.path());
        assert_eq!(recovery.missing(), Some("vmlinuz"));
        for text in ["1", "2", "3"] {
            staged(&recovery, text);
            put_in_place(&recovery).unwrap();
            assert_eq!(recovery.missing(), None);
        }
        let at = |name: &str| recovery.kernels.join(name);
        let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
        assert_eq!(read("recovery/vmlinuz"), "3");
        assert_eq!(read("recovery-previous/initrd.img"), "2");
        assert!(!at("recovery.new").exists());
        std::fs::write(at("recovery/initrd.img"), "").unwrap();
        assert_eq!(recovery.missing(), Some("initrd.img"));
    }
}
