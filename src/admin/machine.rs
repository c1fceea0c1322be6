//! The store of the machine: found, opened, locked.
//!
//! In the running system the top level is mounted apart from every directory tree (a detached
//! mount, since Linux 5.2): nobody else sees it, and it is gone when this process is, however that
//! ends. The lock is a flock(2) on the top level's directory itself: it is one inode however often
//! the file system is mounted, so that two commands exclude each other even where one was given
//! `--root`; and nothing is written for it.

use super::copies;
use super::error::{Error, Result};
use super::recovery::Recovery;
use super::upgrade::room::MARK;
use crate::agent::block::Places;
use crate::record::Uuid;
use crate::record::block::Block;
use crate::record::layout::{Dataset, Layout, Name};
use crate::store::StoreError;
use crate::store::btrfs::Btrfs;
use crate::sys::Context;
use crate::sys::mountinfo::{self, Mount};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};
use std::path::{Path, PathBuf};

/// How the store is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Not at all: for looking only.
    None,
    /// At once, or not at all: a person is waiting.
    Try,
    /// Until the other one has ended: nobody is waiting.
    Wait,
}

/// An opened top level.
#[derive(Debug)]
pub struct Machine {
    /// A path of it for ordinary file calls, valid as long as this is.
    pub top: PathBuf,
    /// In the running system, the dataset that it was booted from.
    pub booted: Option<String>,
    /// In the running system, what the file system was mounted from.
    pub device: Option<String>,
    /// Its recovery kernel.
    pub recovery: Recovery,
    fd: OwnedFd,
}

impl Machine {
    /// Opens `root`, or the file system of the running system.
    pub fn open(root: Option<&Path>, lock: Lock) -> Result<Machine> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let (fd, running) = match root {
            Some(root) => (offline(root)?, None),
            None => {
                let (fd, running) = running()?;
                (fd, Some(running))
            }
        };
        match lock {
            Lock::None => {}
            Lock::Try => match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Locked),
                other => other.call(|| "flock(top level, LOCK_EX|LOCK_NB)".to_owned())?,
            },
            Lock::Wait => flock(&fd, FlockOperation::LockExclusive)
                .call(|| "flock(top level, LOCK_EX)".to_owned())?,
        }
        let top = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        Ok(Machine {
            recovery: match &running {
                Some(running) => {
                    Recovery::of_running(&top, Path::new(&running.device), running.boot_is_apart)
                }
                None => Recovery::in_store(&top),
            },
            device: running.as_ref().map(|running| running.device.clone()),
            booted: running.map(|running| running.dataset),
            top,
            fd,
        })
    }

    /// The store with the layout that is recorded in it.
    pub fn store(&self) -> Result<Btrfs> {
        match Btrfs::recorded_layout(&self.fd)? {
            Some(Block::Valid { value, .. }) => self.store_with(value),
            Some(Block::Newer(version)) => Err(crate::transaction::Error::Newer(version).into()),
            Some(Block::Zero | Block::Damaged) => Err(Error::LayoutDamaged),
            None => Err(Error::NotSetUp),
        }
    }

    /// The store with another layout than the recorded one.
    pub fn store_with(&self, layout: Layout) -> Result<Btrfs> {
        let fd = self.fd.try_clone();
        Ok(Btrfs::open(
            fd.call(|| "dup(top level)".to_owned())?,
            layout,
        )?)
    }

    /// Refuses where a second disk carries the same file system.
    pub fn refuse_copies(&self) -> Result<()> {
        copies::refuse(self.uuid()?, &Places::default())
    }

    /// Whether a second disk carries the same file system.
    pub fn is_copied(&self) -> Result<bool> {
        Ok(copies::copied(self.uuid()?, &Places::default()))
    }

    /// The file system's.
    pub fn uuid(&self) -> Result<Uuid> {
        Ok(Uuid(crate::sys::btrfs::file_system_uuid(&self.fd)?))
    }

    /// The layout that is recorded; `None` when there is none that can be read.
    pub fn recorded_layout(&self) -> Result<Option<Layout>> {
        match Btrfs::recorded_layout(&self.fd)? {
            Some(Block::Valid { value, .. }) => Ok(Some(value)),
            Some(Block::Newer(version)) => Err(crate::transaction::Error::Newer(version).into()),
            Some(Block::Zero | Block::Damaged) | None => Ok(None),
        }
    }
}

fn offline(root: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(root, flags, Mode::empty()).call(|| format!("open({root:?})"))?;
    // The same look as for any store, for a better line when it is something else.
    let copy = fd.try_clone().call(|| "dup(top level)".to_owned())?;
    match Btrfs::open(copy, system_only("@rootfs")) {
        Ok(_) => Ok(fd),
        Err(StoreError::Place(_)) => Err(Error::NotTopLevel(root.to_owned())),
        Err(error) => Err(error.into()),
    }
}

/// A layout for the time before there is one.
fn system_only(live: &str) -> Layout {
    let name = |text: &str| Name::try_from(text).unwrap_or_default();
    Layout {
        system: Dataset {
            name: name("system"),
            live: name(live),
            mount: Default::default(),
        },
        config: None,
        config_paths: Default::default(),
        data: Default::default(),
    }
}

/// What runs.
struct Running {
    /// What `/` is.
    dataset: String,
    /// What it was mounted from.
    device: String,
    boot_is_apart: bool,
}

/// The top level of the file system that `/` lies on.
fn running() -> Result<(OwnedFd, Running)> {
    if Path::new(MARK).exists() {
        return Err(Error::InClone);
    }
    let path = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(path).map_err(Error::file("reading", path))?;
    let Some(root) = mountinfo::at(&text, "/") else {
        return Err(Error::NotBtrfs("nothing is mounted at /".to_owned()));
    };
    let running = Running {
        dataset: dataset(&root)?,
        device: root.device.clone(),
        boot_is_apart: mountinfo::at(&text, "/boot").is_some(),
    };
    let device = root.device.as_str();
    let text = || format!("mounting the top level of {device}");
    let open = || -> rustix::io::Result<OwnedFd> {
        let context = fsopen("btrfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(context.as_fd(), "source", device)?;
        fsconfig_set_string(context.as_fd(), "subvolid", "5")?;
        fsconfig_create(context.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NOEXEC
            | MountAttrFlags::MOUNT_ATTR_NOATIME;
        let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&mount, ".", flags, Mode::empty())
    };
    Ok((open().call(text)?, running))
}

fn dataset(root: &Mount) -> Result<String> {
    if root.fs != "btrfs" {
        return Err(Error::NotBtrfs(format!("the root is on {}", root.fs)));
    }
    match root.directory.trim_start_matches('/') {
        "" => Err(Error::RootOnTopLevel),
        name => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_cannot_have_snapshots_is_named_as_what_it_is() {
        let root = |fs: &str, directory: &str| Mount {
            fs: fs.to_owned(),
            device: "/dev/vda2".to_owned(),
            directory: directory.to_owned(),
            point: "/".to_owned(),
            ..Mount::default()
        };
        assert_eq!(dataset(&root("btrfs", "/@rootfs")).unwrap(), "@rootfs");
        for (root, says) in [
            (root("ext4", "/"), "on ext4"),
            (root("btrfs", "/"), "top level"),
        ] {
            let error = dataset(&root).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("--root"), "{error}");
        }
    }
}
