//! The store during one boot: read-only until something has to be written.
//!
//! A clean file system is mounted read-only, which writes nothing, and held until the hand-over. An
//! unclean one is mounted writable, so that btrfs replays its log before GRUB's view and ours can
//! differ. What has to be written is written through a second, writable mount.
//!
//! Where a write fails, the kernel makes the file system read-only and goes on showing what may never reach the
//! disk: [`Session::settled`] turns to what is on it.

use super::block::{self, Places};
use super::device::{self, Found};
use super::hibernation;
use super::mount::{self, NotMounted, Rung};
use super::root::{self, Hindrance};
use crate::record::block::{Block, decode};
use crate::record::layout::Layout;
use crate::say;
use crate::store::btrfs::Btrfs;
use crate::store::place::{File, STORE};
use crate::store::{Store, StoreError};
use crate::sys;
use kernel_cmdline::Boot;
use std::path::Path;
use thiserror::Error;

const READ_ONLY_AT: &str = "/store";
const WRITABLE_AT: &str = "/store-writable";
const TRIAL_AT: &str = "/store-trial";

/// Why there is no store to work with.
#[derive(Debug, Error)]
pub enum Error {
    /// The file system does not mount.
    #[error(transparent)]
    NotMounted(#[from] NotMounted),
    /// It mounts, but not writable, and something was to be written.
    #[error(
        "the disk cannot be written to ({}), and nothing was changed: take its write protection off, or \
         see docs/recovery.md, section 14; then ask again",
        .0.reasons()
    )]
    NotWritable(NotMounted),
    /// It mounts only in a way in which nothing may be written.
    #[error(
        "the file system is damaged and mounted {0}: nothing was changed; docs/recovery.md, section 14"
    )]
    Damaged(Rung),
    /// A slow disk has come since the root's device was found.
    #[error("{0}, which was not there at first: nothing was changed; restart")]
    CameSince(&'static str),
    /// It mounts, but holds no store.
    #[error("this file system has no {STORE}: run 'backstay init' in the running system")]
    NoStore,
    /// The layout record cannot be used.
    #[error("the record of the datasets ({STORE}/layout) is {0}: run 'backstay init' again")]
    Layout(&'static str),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A mount point could not be made.
    #[error(transparent)]
    Call(#[from] sys::Error),
}

/// The mounted store.
#[derive(Debug)]
pub struct Session {
    found: Found,
    rootflags: String,
    /// Without the devices that are missing: a person has said so.
    degraded: bool,
    /// Whether it was looked, before the first change, for what came late.
    looked_again: bool,
    /// How it is mounted.
    pub rung: Rung,
    /// The store; where [`Session::rung`] is not writable, only its reading half works.
    pub store: Btrfs,
}

impl Session {
    /// The same without a write, not even of the log: what it shows may be older than what a mount would.
    pub fn untouched(found: &Found, boot: &Boot<'_>) -> Result<Session, Error> {
        let rootflags = boot.rootflags.unwrap_or_default();
        Session::by(found, rootflags, &[Rung::NoReplay], false)
    }

    /// The same by the ways that a person chose; `degraded`: without the devices that are missing.
    pub fn by_hand(
        found: &Found,
        rootflags: &str,
        rungs: &[Rung],
        degraded: bool,
    ) -> Result<Session, Error> {
        Session::by(found, rootflags, rungs, degraded)
    }

    /// Mounts the store and reads the layout. `boot` names the root that will be mounted afterwards.
    pub fn open(found: &Found, boot: &Boot<'_>) -> Result<Session, Error> {
        let rungs: &[Rung] = match found.has_log() {
            true => &Rung::LADDER,
            false => &Rung::READ_ONLY,
        };
        Session::by(found, boot.rootflags.unwrap_or_default(), rungs, false)
    }

    fn by(
        found: &Found,
        rootflags: &str,
        rungs: &[Rung],
        degraded: bool,
    ) -> Result<Session, Error> {
        let at = Path::new(READ_ONLY_AT);
        mount::clear(at);
        make(at)?;
        let degraded = degraded || is_degraded(rootflags);
        let rung = mount::top_level(&found.paths(), at, rungs, degraded)?;
        let store = open(at).inspect_err(|_| mount::clear(at))?;
        Ok(Session {
            found: found.clone(),
            rootflags: rootflags.to_owned(),
            degraded,
            looked_again: false,
            rung,
            store,
        })
    }

    /// Where the top level is mounted.
    pub fn top(&self) -> &Path {
        Path::new(READ_ONLY_AT)
    }

    /// Notes, durably, that the newest recovery kernel has come up, for GRUB. The store must be writable.
    pub fn mark_recovery_proven(&mut self) -> Result<(), Error> {
        self.make_writable()?;
        self.store.mark_recovery_proven()?;
        Ok(self.store.sync()?)
    }

    /// Whether these devices carry the store's own file system.
    pub fn is_on(&self, other: &Found) -> bool {
        self.found.uuid().is_some() && self.found.uuid() == other.uuid()
    }

    /// Whether it is encrypted: the kernel that runs has had it unlocked, and another one must have it unlocked again.
    pub fn is_encrypted(&self) -> bool {
        let paths = self.found.paths();
        paths.iter().any(|path| block::is_encrypted(path))
    }

    /// Whether a person has it mounted without all its devices, so that the root must be, too, although the command line
    /// does not say it.
    pub fn is_degraded_by_hand(&self) -> bool {
        self.degraded && !is_degraded(&self.rootflags)
    }

    /// Two disks carry this file system: nothing may be changed.
    pub fn is_copied(&self) -> bool {
        self.found.is_copied()
    }

    /// Why a change that is made now would not be what boots, as far as the command line says it.
    pub fn hindrance(&self) -> Option<Hindrance> {
        let live = &self.store.layout().system.live;
        root::hindrance(&self.rootflags, live, |options| self.try_options(options))
    }

    /// Mounts the store once more, read-only, with these options, and unmounts it. Nothing is written,
    /// and those that are taken have no effect: the first mount's hold.
    fn try_options(&self, options: &str) -> sys::Result<()> {
        if !self.rung.is_plain() {
            // It mounts in no ordinary way with any options: the options are not to blame.
            return Ok(());
        }
        let at = Path::new(TRIAL_AT);
        mount::clear(at);
        if make(at).is_err() {
            // What cannot be tried is no worse than before.
            return Ok(());
        }
        let tried = mount::subvolume(&self.found.paths(), "/", at, options, true);
        mount::clear(at);
        match tried {
            // Nor are they where the disk fails.
            Err(error) if sys::is_of_the_disk(error.errno) => Ok(()),
            tried => tried,
        }
    }

    /// A copy of the disk, or the image of a hibernated system, may be on a disk that took longer than the root's.
    fn look_again(&mut self) -> Result<(), Error> {
        if self.looked_again {
            return Ok(());
        }
        if hibernation::is_on_any_disk(&Places::default()) {
            return Err(Error::CameSince("there is a hibernated system"));
        }
        let uuid = self.found.uuid().map(|uuid| uuid.to_string());
        let name = uuid.as_deref().map(kernel_cmdline::Device::Uuid);
        if let Some(Ok(Some(found))) = name.map(|name| device::find(name, &Places::default()))
            && found.is_copied()
            && !self.is_copied()
        {
            self.found.copies = found.copies;
            return Err(Error::CameSince(
                "a second disk carries the same file system",
            ));
        }
        self.looked_again = true;
        Ok(())
    }

    /// Makes the store writable, once.
    pub fn make_writable(&mut self) -> Result<(), Error> {
        if !self.rung.is_plain() {
            return Err(Error::Damaged(self.rung));
        }
        self.look_again()?;
        if self.rung.is_writable() {
            return Ok(());
        }
        let at = Path::new(WRITABLE_AT);
        make(at)?;
        self.rung = mount::top_level(&self.found.paths(), at, &[Rung::Writable], self.degraded)
            .map_err(not_writable)?;
        self.store = open(at)?;
        Ok(())
    }

    /// Whether a write failed: the kernel takes no more.
    pub fn has_failed(&self) -> bool {
        self.rung.is_writable() && !self.store.takes_writes().unwrap_or(false)
    }

    /// The same session, unless a write failed: then what is on the disk, mounted anew and read-only.
    pub fn settled(self) -> Result<Session, Error> {
        if !self.has_failed() {
            return Ok(self);
        }
        say!("the disk takes no more writes: going on with what is on it, read-only");
        let (found, rootflags) = (self.found.clone(), self.rootflags.clone());
        let degraded = self.degraded;
        self.close();
        Session::by(&found, &rootflags, &Rung::READ_ONLY, degraded)
    }

    /// Unmounts everything of the store.
    pub fn close(self) {
        drop(self.store);
        for at in [TRIAL_AT, WRITABLE_AT, READ_ONLY_AT] {
            mount::clear(Path::new(at));
        }
    }
}

/// A disk that fails is no disk with a write protection.
fn not_writable(error: NotMounted) -> Error {
    match error.is_of_the_disk() {
        true => StoreError::Disk(format!("mounting it writable: {}", error.reasons())).into(),
        false => Error::NotWritable(error),
    }
}

/// Whether a person has asked for a mount without all devices, in `rootflags=`.
fn is_degraded(rootflags: &str) -> bool {
    rootflags.split(',').any(|option| option == "degraded")
}

fn make(at: &Path) -> Result<(), Error> {
    match std::fs::create_dir(at) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(sys::Error::from_io(format!("mkdir({at:?})"), &error).into())
        }
        _ => Ok(()),
    }
}

fn open(at: &Path) -> Result<Btrfs, Error> {
    if !at.join(STORE).is_dir() {
        return Err(Error::NoStore);
    }
    let bytes = std::fs::read(at.join(File::Layout.path())).unwrap_or_default();
    let layout = match decode::<Layout>(&bytes) {
        Block::Valid { value, .. } => value,
        Block::Newer(_) => return Err(Error::Layout("of a newer backstay")),
        Block::Zero | Block::Damaged => return Err(Error::Layout("missing or damaged")),
    };
    Ok(Btrfs::open_path(at, layout)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_disk_that_fails_is_said_to_fail_and_not_to_be_write_protected() {
        for errno in [Errno::IO, Errno::NXIO, Errno::NODEV] {
            let tried = vec![(Rung::Writable, sys::Error::new("mount", errno))];
            let text = not_writable(NotMounted { tried }).to_string();
            assert!(
                text.starts_with("the disk fails: check its cable"),
                "{text}"
            );
            assert!(!text.contains("write protection"), "{text}");
        }
    }

    #[test]
    fn a_write_protected_disk_is_said_to_be_one_and_not_unmountable() {
        let tried = vec![(Rung::Writable, sys::Error::new("mount", Errno::ACCESS))];
        let text = not_writable(NotMounted { tried }).to_string();
        assert!(!text.contains("mounted in any way"), "{text}");
        for part in [
            "cannot be written to",
            "Permission denied",
            "nothing was changed",
            "section 14",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
