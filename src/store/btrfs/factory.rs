//! The factory's directory, and the default tarball beside it.

use super::path::{DIRECTORY, LOOK, if_there, make_directories, open, split};
use super::subvolume::is_fixed;
use super::{Btrfs, Doing, Result};
use crate::store::StoreError;
use crate::store::place::{STORE, Set};
use crate::sys::btrfs::SUBVOLUME_INODE;
use crate::sys::{self, Context};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, OFlags, RenameFlags, fstat, renameat_with};

/// Says of the newest recovery kernel that it has come up once; GRUB looks for it.
const PROVEN: &str = "@backstay/kernels/recovery/proven";

/// Names of the default tarball in the store; the first that is there is taken.
pub const TARBALLS: [&str; 4] = [
    "factory.tar.zst",
    "factory.tar.xz",
    "factory.tar.gz",
    "factory.tar",
];

impl Btrfs {
    pub(super) fn exchange_factory_with(&self, id: u32) -> Result<()> {
        let (set, factory) = (Set::Snapshot(id).directory(), Set::Factory.directory());
        let doing = || format!("exchanging {set} with {factory}");
        make_directories(&self.top, &factory).doing(doing)?;
        // Before Linux 5.14 an exchange of a subvolume with a directory corrupted the file system.
        for path in [&set, &factory] {
            let directory = open(&self.top, path, DIRECTORY).doing(doing)?;
            let inode = fstat(&directory).call(|| "fstat".to_owned()).doing(doing)?;
            if inode.st_ino == SUBVOLUME_INODE {
                let text = format!("{path} is a subvolume, not a directory: move it away");
                return Err(StoreError::Place(text));
            }
        }
        let ((from_parent, from), (to_parent, to)) = (split(&set), split(&factory));
        let exchange = || {
            let from_directory = open(&self.top, from_parent, DIRECTORY)?;
            let to_directory = open(&self.top, to_parent, DIRECTORY)?;
            renameat_with(
                from_directory,
                from,
                to_directory,
                to,
                RenameFlags::EXCHANGE,
            )
            .call(|| format!("renameat2({set:?}, {factory:?}, EXCHANGE)"))
        };
        exchange().doing(doing)
    }

    pub(super) fn why_factory_held(&self) -> Result<Option<&'static str>> {
        let path = Set::Factory.directory();
        let look = || -> sys::Result<Option<&'static str>> {
            let Some(fd) = if_there(open(&self.top, &path, LOOK))? else {
                return Ok(None);
            };
            let stat = fstat(&fd).call(|| "fstat".to_owned())?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Ok(Some("not a directory"));
            }
            if stat.st_ino == SUBVOLUME_INODE {
                return Ok(Some("a subvolume"));
            }
            for place in [path.as_str(), STORE, &format!("{STORE}/snapshots")] {
                if is_fixed(open(&self.top, place, DIRECTORY)?)? {
                    return Ok(Some("immutable, or in an immutable directory"));
                }
            }
            Ok(None)
        };
        look().doing(|| format!("looking at {path}"))
    }

    /// Puts the file beside the newest recovery kernel that says that it has come up. On disk after the next
    /// sync.
    pub fn mark_recovery_proven(&self) -> Result<()> {
        super::file::replace(&self.top, PROVEN, b"")
    }

    /// Whether the newest recovery kernel has come up once.
    pub fn is_recovery_proven(&self) -> bool {
        open(&self.top, PROVEN, LOOK).is_ok()
    }

    /// The name of the default tarball in the store's directory.
    pub fn tarball_name(&self) -> Result<Option<&'static str>> {
        for name in TARBALLS {
            let path = format!("{STORE}/{name}");
            let found =
                if_there(open(&self.top, &path, LOOK)).doing(|| format!("looking at {path}"))?;
            if found.is_some() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Reads a small file in the store's directory; `None` when there is none.
    pub fn read_in_store(&self, name: &str) -> Result<Option<String>> {
        let bytes = super::file::read(&self.top, &format!("{STORE}/{name}"))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Opens a regular file in the store's directory for reading.
    pub fn open_in_store(&self, name: &str) -> Result<OwnedFd> {
        let path = format!("{STORE}/{name}");
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        open(&self.top, &path, flags).doing(|| format!("opening {path}"))
    }
}
