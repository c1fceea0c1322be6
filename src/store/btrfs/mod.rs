//! The store on a btrfs, by ioctls alone.
//!
//! ```text
//! (top level, subvolume id 5)
//! @rootfs  @config  @data…           live datasets
//! @backstay/                         a subvolume, mode 0700: old programs stay out of users' reach
//!   state, journal                   two slots each, NOCOW, overwritten in place   slot.rs
//!   layout, log, first-boot          small files, replaced whole                   file.rs
//!   factory.tar.zst                  the default tarball                           factory.rs
//!   ballast/                         metadata that can be given up                 ballast.rs
//!   snapshots/12/{system,config,defaults}, factory/{…}, data/<dataset>/12, prepared/<dataset>, defaults
//! ```
//! A dataset's labels are attributes of its root directory: label.rs.
//!
//! What a power cut leaves behind: a clone or nothing ([`Store::clone_to`]); either of two names
//! or both changed, never one missing ([`Store::exchange`], [`Store::rename`]); some of the nested
//! subvolumes of a dataset that was being destroyed; an old or a new small file; one torn slot of
//! two. Everything but clones and slots needs [`Store::sync`] to be on disk.
//!
//! One process at a time makes changes: callers hold the lock of the machine.

mod ballast;
mod carry;
mod differ;
mod factory;
mod file;
mod inner;
mod inside;
mod label;
mod listing;
mod nested;
pub(crate) mod path;
mod skeleton;
mod slot;
mod subvolume;

use super::place::{File, Place};
use super::{Access, Carried, Dataset, Nested, Node, Result, Store, StoreError};
use crate::record::block::{BLOCK, Block, decode};
use crate::record::layout::Layout;
use crate::record::{Identity, Uuid};
use crate::sys::btrfs::{self as ioctl, SUBVOLUME_INODE, SUPER_MAGIC, TOP_LEVEL};
use crate::sys::{self, Context};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, StatVfsMountFlags, fstat, fstatfs, fstatvfs, syncfs};
use rustix::io::Errno;
use std::path::Path;

pub use factory::TARBALLS;
pub use file::leftover;
pub use skeleton::Remade;
pub use subvolume::Space;

/// A btrfs by its top level, which somebody mounted.
#[derive(Debug)]
pub struct Btrfs {
    top: OwnedFd,
    layout: Layout,
}

impl Btrfs {
    /// Takes the descriptor of the root of the mounted top level, after a look that it is one.
    pub fn open(top: OwnedFd, layout: Layout) -> Result<Btrfs> {
        let looking = || "looking at the mounted top level";
        let kind = fstatfs(&top).call(|| "fstatfs".to_owned()).doing(looking)?;
        let inode = fstat(&top).call(|| "fstat".to_owned()).doing(looking)?;
        if u64::try_from(kind.f_type).ok() != Some(SUPER_MAGIC) || inode.st_ino != SUBVOLUME_INODE {
            return Err(StoreError::Place(
                "this is not the root of a mounted btrfs: mount one with subvolid=5".to_owned(),
            ));
        }
        let id = ioctl::subvolume_id(&top).doing(looking)?;
        if id != TOP_LEVEL {
            return Err(StoreError::Place(format!(
                "this is subvolume {id}, not the top level: mount it with subvolid=5"
            )));
        }
        Ok(Btrfs { top, layout })
    }

    /// The same by the path of the directory where the top level is mounted.
    pub fn open_path(top: &Path, layout: Layout) -> Result<Btrfs> {
        Btrfs::open(open_top(top)?, layout)
    }

    /// What the store under this top level records as its layout; `None` where no store is. For the
    /// time before there is a layout to open the store with.
    pub fn recorded_layout(top: impl AsFd) -> Result<Option<Block<Layout>>> {
        let bytes = file::read(top, &File::Layout.path())?;
        Ok(bytes.map(|bytes| decode(&bytes)))
    }

    /// The top level.
    pub fn top(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }

    /// Whether it can be written to: mounted writable, and the kernel has not made it read-only since, as it
    /// does when a write fails.
    pub fn takes_writes(&self) -> sys::Result<bool> {
        let stat = fstatvfs(&self.top).call(|| "fstatvfs(top level)".to_owned())?;
        Ok(!stat.f_flag.contains(StatVfsMountFlags::RDONLY))
    }

    /// The path of a place below the top level.
    fn path(&self, place: Place) -> Result<String> {
        place.path(&self.layout).ok_or_else(|| {
            let part = self.layout.title(place.part());
            StoreError::Place(format!(
                "the layout of this machine has no {part} at {place:?}"
            ))
        })
    }
}

/// Opens the directory where a top level is mounted.
pub fn open_top(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("open({path:?})"))
        .doing(|| "opening the mounted top level")
}

/// Turns the error of a system call into the store's, with what was being done.
trait Doing<T> {
    fn doing<S: core::fmt::Display>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Doing<T> for sys::Result<T> {
    fn doing<S: core::fmt::Display>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| StoreError::of_call(error.errno, format!("{}: {error}", what())))
    }
}

impl Store for Btrfs {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn dataset(&self, place: Place) -> Result<Option<Dataset>> {
        self.dataset_at(&self.path(place)?)
    }

    fn clone_to(&mut self, from: Place, to: Place, access: Access) -> Result<Dataset> {
        self.clone_path(&self.path(from)?, &self.path(to)?, access)
    }

    fn create(&mut self, place: Place) -> Result<Dataset> {
        self.create_path(&self.path(place)?)
    }

    fn clone_nested(&mut self, from: Place, to: Place) -> Result<Vec<Nested>> {
        self.clone_nested_path(&self.path(from)?, &self.path(to)?)
    }

    fn held(&self, place: Place) -> Result<Option<&'static str>> {
        self.held_at(&self.path(place)?)
    }

    fn exchange(&mut self, one: Place, other: Place) -> Result<()> {
        self.exchange_paths(&self.path(one)?, &self.path(other)?)
    }

    fn exchange_factory(&mut self, id: u32) -> Result<()> {
        self.exchange_factory_with(id)
    }

    fn factory_held(&self) -> Result<Option<&'static str>> {
        self.why_factory_held()
    }

    fn has_tarball(&self) -> Result<bool> {
        Ok(self.tarball_name()?.is_some())
    }

    fn rename(&mut self, from: Place, to: Place) -> Result<()> {
        self.rename_path(&self.path(from)?, &self.path(to)?)
    }

    fn follow_default(&mut self, old: Place, new: Place) -> Result<()> {
        // A mount without subvol= follows the id, not the name.
        if self.default_subvolume()? == self.subvolume_id(old)? {
            self.set_default_subvolume(new)?;
        }
        Ok(())
    }

    fn seal(&mut self, place: Place) -> Result<Identity> {
        self.seal_path(&self.path(place)?)
    }

    fn destroy(&mut self, place: Place, uuid: Uuid) -> Result<()> {
        self.destroy_path(&self.path(place)?, uuid)
    }

    fn written_since(&self, live: Place, clone: Place) -> Result<bool> {
        self.written_since_paths(&self.path(live)?, &self.path(clone)?)
    }

    fn nested(&self, place: Place) -> Result<Vec<Nested>> {
        self.nested_in(&self.path(place)?)
    }

    fn carry(&mut self, nested: &Nested, from: Place, to: Place) -> Result<Carried> {
        self.carry_path(nested, &self.path(from)?, &self.path(to)?)
    }

    fn ids(&self) -> Result<Vec<u32>> {
        self.ids_present()
    }

    fn make_directory(&mut self, id: u32) -> Result<()> {
        self.make_snapshot_directory(id)
    }

    fn remove_directory(&mut self, id: u32) -> Result<()> {
        self.remove_snapshot_directory(id)
    }

    fn read(&self, file: File) -> Result<Option<Vec<u8>>> {
        file::read(&self.top, &file.path())
    }

    fn write_slot(&mut self, file: File, slot: usize, block: &[u8; BLOCK]) -> Result<()> {
        slot::write(&self.top, file, slot, block)
    }

    fn replace(&mut self, file: File, bytes: &[u8]) -> Result<()> {
        if matches!(file, File::State | File::Journal) {
            // A new file would be copied on write from then on.
            let path = file.path();
            return Err(StoreError::Place(format!(
                "{path} is written slot by slot only"
            )));
        }
        if file == File::Armed {
            self.make_directory_of_hint()?;
        }
        file::replace(&self.top, &file.path(), bytes)
    }

    fn remove(&mut self, file: File) -> Result<()> {
        file::remove(&self.top, &file.path())
    }

    fn give_up_ballast(&mut self) -> Result<bool> {
        let given = ballast::give_up(&self.top)?;
        if given {
            self.sync()?;
        }
        Ok(given)
    }

    fn node(&self, place: Place, path: &str) -> Result<Option<Node>> {
        inside::node(&self.inside(place)?, path)
    }

    fn is_executable(&self, place: Place, path: &str) -> Result<bool> {
        inside::is_executable(&self.inside(place)?, path)
    }

    fn names(&self, place: Place, path: &str) -> Result<Vec<String>> {
        inside::names(&self.inside(place)?, path)
    }

    fn link(&self, place: Place, path: &str) -> Result<Option<String>> {
        inside::link(&self.inside(place)?, path)
    }

    fn content(&self, place: Place, path: &str) -> Result<Option<Vec<u8>>> {
        file::read(&self.inside(place)?, path)
    }

    fn label(&self, place: Place, name: &str) -> Result<Option<Vec<u8>>> {
        self.label_at(&self.path(place)?, name)
    }

    fn labels(&self, place: Place) -> Result<Vec<String>> {
        self.labels_at(&self.path(place)?)
    }

    fn set_label(&mut self, place: Place, name: &str, value: Option<&[u8]>) -> Result<()> {
        self.set_label_at(&self.path(place)?, name, value)
    }

    fn sync(&mut self) -> Result<()> {
        let doing = || "bringing the changes to disk";
        let call = || "syncfs(top level)".to_owned();
        syncfs(&self.top).call(call).doing(doing)?;
        // What has become read-only is not synced, and that is no error to the kernel.
        match self.takes_writes().doing(doing)? {
            true => Ok(()),
            false => {
                let made_read_only: Result<()> = Err(Errno::ROFS).call(call).doing(doing);
                made_read_only.map_err(StoreError::where_writes_failed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_only_or_no_subvolume_is_said_with_what_to_do() {
        let read_only: sys::Result<()> = Err(sys::Error::new("mkdirat", Errno::ROFS));
        let text = read_only.doing(|| "making x").unwrap_err().to_string();
        assert!(
            text.contains("btrfs property set -f @backstay ro false"),
            "{text}"
        );
        let full: sys::Result<()> = Err(sys::Error::new("mkdirat", Errno::NOSPC));
        assert!(matches!(full.doing(|| "x"), Err(StoreError::Full(_))));
        for errno in [Errno::IO, Errno::NXIO, Errno::NODEV] {
            let pulled: sys::Result<()> = Err(sys::Error::new("read", errno));
            let text = pulled.doing(|| "reading x").unwrap_err().to_string();
            assert!(
                text.starts_with("the disk fails: check its cable and power, then 'reboot'"),
                "{text}"
            );
            assert!(text.contains("(reading x: read: "), "{text}");
        }
        let top = tempfile::tempdir().unwrap();
        for path in ["@config", "@backstay/defaults"] {
            std::fs::create_dir_all(top.path().join(path)).unwrap();
        }
        let store = Btrfs {
            top: open_top(top.path()).unwrap(),
            layout: crate::transaction::model::layout(),
        };
        let text = |path| store.subvolume(path).unwrap_err().to_string();
        assert!(text("@config").contains("an ordinary directory: make one of it"));
        assert!(text("@backstay/defaults").ends_with("an ordinary directory"));
    }
}
