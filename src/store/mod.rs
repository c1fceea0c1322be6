//! What a store must do; everything above it is the same for btrfs, and for the stores to come.
//!
//! A store holds datasets at [`Place`]s and a few small [`File`]s. Operations are atomic one by
//! one; **nothing is on disk before [`Store::sync`] returns**, except what [`Store::write_slot`]
//! wrote and what [`Store::clone_to`] made. Any prefix of the operations since the last `sync` may
//! be on disk after a power cut, because a store commits in the background when it likes.

pub mod btrfs;
#[cfg(test)]
pub mod conformance;
pub mod difference;
pub mod label;
#[cfg(test)]
pub mod memory;
#[cfg(test)]
mod memory_bench;
pub mod place;

use crate::record::block::BLOCK;
use crate::record::layout::Layout;
use crate::record::{Identity, Uuid};
use crate::sys::is_of_the_disk;
use place::{File, Place};
use rustix::io::Errno;
use thiserror::Error;

/// A dataset as the store sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// UUID and last change.
    pub identity: Identity,
    /// The UUID of what it was cloned from.
    pub parent: Option<Uuid>,
    /// Whether it is read-only.
    pub read_only: bool,
}

/// Whether a clone can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It becomes live, or will be sealed later.
    Writable,
    /// It is sealed from its first moment.
    ReadOnly,
}

/// A subvolume inside a dataset; snapshots of the dataset do not contain it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nested {
    /// Path below the dataset, without a leading slash; in bytes, because people name subvolumes as
    /// they like.
    pub path: Vec<u8>,
    /// Its UUID; `None` for one that no path leads to, because the path is too long for the kernel. It
    /// is neither carried nor cloned, and `path` ends with its number in place of the rest.
    pub uuid: Option<Uuid>,
}

impl Nested {
    /// The path for a message, on one line.
    pub fn name(&self) -> String {
        shown(&self.path)
    }
}

/// A path as people can read it: what is not UTF-8, and what a terminal would obey, is replaced.
pub fn shown(path: &[u8]) -> String {
    let plain = |letter: char| match letter.is_control() {
        true => char::REPLACEMENT_CHARACTER,
        false => letter,
    };
    String::from_utf8_lossy(path).chars().map(plain).collect()
}

/// What became of a nested subvolume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// It lies in the new dataset now.
    Moved,
    /// The new dataset has something else there (or no such directory), or the kernel does not let it
    /// go, so it stayed with the old.
    Stayed,
}

/// What lies at a path inside a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File,
    /// A directory, or a subvolume.
    Directory,
    /// A symbolic link; never followed.
    Symlink,
    /// Anything else.
    Other,
}

/// A store refused or failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file system has no room for the operation.
    #[error("the file system is full: make room, then do it again ({0})")]
    Full(String),
    /// Nothing lies at the place, or something does where nothing should.
    #[error("{0}")]
    Place(String),
    /// A label's name or value is not one that is kept, or it was not written by us.
    #[error("{0}")]
    Label(String),
    /// The disk was pulled, fails or is damaged, or the kernel gave up writing to it.
    #[error(
        "the disk fails: check its cable and power, then 'reboot'; docs/recovery.md, section 14 ({0})"
    )]
    Disk(String),
    /// What was to be written to is read-only: a subvolume, or all of it.
    #[error(
        "{0}: if the disk takes writes, a subvolume is read-only: 'btrfs property set -f @backstay ro \
         false' in the mounted top level (docs/recovery.md, section 13)"
    )]
    ReadOnly(String),
    /// The system call failed; the text has the call, its arguments and the error.
    #[error("{0}")]
    System(String),
}

impl StoreError {
    /// What a system call's error means to a store; `text` has the call and what was being done.
    pub fn of_call(errno: Errno, text: String) -> StoreError {
        match errno {
            Errno::NOSPC | Errno::DQUOT => StoreError::Full(text),
            Errno::ROFS => StoreError::ReadOnly(text),
            errno if is_of_the_disk(errno) => StoreError::Disk(text),
            _ => StoreError::System(text),
        }
    }

    /// The same where the kernel takes no more writes to any of it: that is the disk's fault, and no subvolume's.
    pub fn where_writes_failed(self) -> StoreError {
        match self {
            StoreError::ReadOnly(text) => StoreError::Disk(text),
            other => other,
        }
    }
}

/// Shorthand for the results of a store.
pub type Result<T> = core::result::Result<T, StoreError>;

/// A store of datasets.
pub trait Store {
    /// The datasets of the machine.
    fn layout(&self) -> &Layout;

    /// What lies at a place; `None` when nothing does. Something that is not a dataset is an error.
    fn dataset(&self, place: Place) -> Result<Option<Dataset>>;

    /// Makes a clone at `to`, where nothing lies, making parent directories. On disk on return,
    /// with all that the source held.
    fn clone_to(&mut self, from: Place, to: Place, access: Access) -> Result<Dataset>;

    /// Makes an empty, writable dataset where nothing lies, making parent directories. It has no parent.
    fn create(&mut self, place: Place) -> Result<Dataset>;

    /// Clones, writable, the subvolumes that lie inside the sealed dataset `from` into `to`, a
    /// writable clone of it, which has an empty stub for each. After an error it can be called again.
    /// Gives those for which the kernel allows no clone: they keep their stubs.
    fn clone_nested(&mut self, from: Place, to: Place) -> Result<Vec<Nested>>;

    /// Why the dataset at a place cannot change places now, or none come to it, in a word or two
    /// ("read-only"); `None`: it can.
    fn held(&self, place: Place) -> Result<Option<&'static str>> {
        let dataset = self.dataset(place)?;
        Ok(dataset
            .is_some_and(|it| it.read_only)
            .then_some("read-only"))
    }

    /// Lets two datasets change places; both names exist at every instant. A read-only one cannot
    /// ([`Store::held`]).
    fn exchange(&mut self, one: Place, other: Place) -> Result<()>;

    /// Lets the directory of a snapshot and that of the factory snapshot change places, with all that
    /// lies in them, sealed datasets too; both exist at every instant.
    fn exchange_factory(&mut self, id: u32) -> Result<()>;

    /// Why the factory's directory cannot do that now, in a word or two; `None`: it can.
    fn factory_held(&self) -> Result<Option<&'static str>>;

    /// Whether the store has a default tarball, of which nothing more is known.
    fn has_tarball(&self) -> Result<bool>;

    /// Moves a dataset to a place where nothing lies.
    fn rename(&mut self, from: Place, to: Place) -> Result<()>;

    /// Where the store has a default dataset, which is booted without a name: if it is `old`, it
    /// becomes `new`.
    fn follow_default(&mut self, old: Place, new: Place) -> Result<()>;

    /// Makes the dataset read-only for good and returns its identity, read after a `sync`.
    fn seal(&mut self, place: Place) -> Result<Identity>;

    /// Destroys the dataset at `place` if its UUID is this one, its nested ones first. Space comes
    /// back later. Nothing there is success.
    fn destroy(&mut self, place: Place, uuid: Uuid) -> Result<()>;

    /// Whether anything was written to the dataset at `live` after `clone` was made of it, or to a subvolume inside it after
    /// that was cloned along. A clone that is made of it is no write. What is still in memory counts only after a
    /// [`Store::sync`]; so does what was, of a subvolume inside, when the clone was made: a sync before that makes it count
    /// as earlier. Where `clone` is a clone of something else the answer means nothing.
    fn written_since(&self, live: Place, clone: Place) -> Result<bool>;

    /// The subvolumes inside a dataset, parents before children.
    fn nested(&self, place: Place) -> Result<Vec<Nested>>;

    /// Moves a nested subvolume from one dataset to the same path in another.
    fn carry(&mut self, nested: &Nested, from: Place, to: Place) -> Result<Carried>;

    /// The ids under which anything lies in the store, in no order.
    fn ids(&self) -> Result<Vec<u32>>;

    /// Makes the directory of a snapshot; there already is success.
    fn make_directory(&mut self, id: u32) -> Result<()>;

    /// Removes the directory of a snapshot with the small files in it; fails while a dataset lies
    /// in it. Nothing there is success.
    fn remove_directory(&mut self, id: u32) -> Result<()>;

    /// Reads a small file, at most 64 KiB of it; `None` when there is none.
    fn read(&self, file: File) -> Result<Option<Vec<u8>>>;

    /// Writes slot 0 or 1 of a slot file in place. On disk on return; works on a full file system.
    fn write_slot(&mut self, file: File, slot: usize, block: &[u8; BLOCK]) -> Result<()>;

    /// Replaces a small file: whole old or whole new at every instant.
    fn replace(&mut self, file: File, bytes: &[u8]) -> Result<()>;

    /// Removes a small file; none there is success.
    fn remove(&mut self, file: File) -> Result<()>;

    /// Gives up the space that was kept for a full file system. Says whether there was any.
    fn give_up_ballast(&mut self) -> Result<bool>;

    /// What lies at a path inside a dataset; no symbolic link is followed.
    fn node(&self, place: Place, path: &str) -> Result<Option<Node>>;

    /// Whether a regular file lies at a path inside a dataset that somebody may execute; no symbolic link is
    /// followed.
    fn is_executable(&self, place: Place, path: &str) -> Result<bool>;

    /// The names in a directory inside a dataset; empty when there is no such directory.
    fn names(&self, place: Place, path: &str) -> Result<Vec<String>>;

    /// The target of a symbolic link inside a dataset; `None` when it is none.
    fn link(&self, place: Place, path: &str) -> Result<Option<String>>;

    /// A small file inside a dataset, at most 64 KiB of it; no symbolic link is followed.
    fn content(&self, place: Place, path: &str) -> Result<Option<Vec<u8>>>;

    /// The value of a dataset's [`label`]; `None` where it has none of this name.
    fn label(&self, place: Place, name: &str) -> Result<Option<Vec<u8>>>;

    /// The names of a dataset's labels, sorted.
    fn labels(&self, place: Place) -> Result<Vec<String>>;

    /// Writes a label, whole old or whole new at every instant; without a value it is removed, and none there is
    /// success. Refused on a read-only dataset.
    fn set_label(&mut self, place: Place, name: &str, value: Option<&[u8]>) -> Result<()>;

    /// The barrier: all that was done is on disk on return.
    fn sync(&mut self) -> Result<()>;
}
