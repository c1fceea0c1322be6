//! Owner, mode, attributes and times, in an order in which none undoes another.
//!
//! chown clears setuid and capabilities, so it comes first; an ACL is also a mode, so it comes after
//! chmod; times come last. What creation gave already is not set again: most files cost one call here.

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat, chownat,
    fchmod, fchown, fsetxattr, futimens, lsetxattr, utimensat,
};
use rustix::process::{fchdir, getegid, geteuid};

use super::error::{Doing, Result, shown};
use super::tar::{Entry, Time};
use crate::sys::{self, Context};

/// What an entry says of the metadata of what it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Time,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Somebody else is to own it than who creates it. Directories have no setgid bit before the end,
    /// so the group is the process's.
    foreign: bool,
}

/// Who owns what this process creates.
#[derive(Debug, Clone, Copy)]
pub struct Creator {
    uid: u32,
    gid: u32,
}

impl Creator {
    /// This process, as it is now.
    pub fn current() -> Creator {
        Creator {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
        }
    }
}

impl Metadata {
    /// Of an entry.
    pub fn of(entry: &mut Entry, creator: Creator) -> Metadata {
        Metadata {
            foreign: (entry.uid, entry.gid) != (creator.uid, creator.gid),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            attributes: std::mem::take(&mut entry.attributes),
        }
    }

    /// Bytes of memory, roughly.
    pub fn size(&self) -> u64 {
        let attributes = self.attributes.iter();
        attributes
            .map(|(name, value)| (name.len() + value.len() + 48) as u64)
            .sum()
    }

    /// The mode that a file may be created with: without what only a further call sets for sure.
    pub fn creation_mode(&self) -> Mode {
        Mode::from_raw_mode(self.mode & 0o777)
    }

    fn owner(&self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }

    fn times(&self) -> Timestamps {
        Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: self.mtime.seconds,
                tv_nsec: self.mtime.nanoseconds.into(),
            },
        }
    }
}

/// To a regular file that was created with [`Metadata::creation_mode`] and written.
///
/// # Errors
/// [`Error::System`](super::error::Error::System).
pub fn to_file(file: impl AsFd, metadata: &Metadata, entry: &[u8]) -> Result<()> {
    let chmod = metadata.mode & 0o7000 != 0;
    to_fd(file.as_fd(), metadata, chmod).doing(|| format!("extracting {:?}", shown(entry)))
}

/// To a directory in which nothing is made any more.
///
/// # Errors
/// [`Error::System`](super::error::Error::System).
pub fn to_directory(directory: impl AsFd, metadata: &Metadata, entry: &[u8]) -> Result<()> {
    to_fd(directory.as_fd(), metadata, true)
        .doing(|| format!("finishing the directory {:?}", shown(entry)))
}

fn to_fd(fd: BorrowedFd<'_>, metadata: &Metadata, chmod: bool) -> sys::Result<()> {
    let Metadata { mode, uid, gid, .. } = *metadata;
    // The root of the tree is not of our making, so a directory's owner is set whatever it is.
    if metadata.foreign || chmod {
        let (user, group) = metadata.owner();
        fchown(fd, user, group).call(|| format!("fchown({uid}, {gid})"))?;
    }
    if chmod {
        fchmod(fd, Mode::from_raw_mode(mode)).call(|| format!("fchmod({mode:#o})"))?;
    }
    for (name, value) in &metadata.attributes {
        fsetxattr(fd, name.as_slice(), value, XattrFlags::empty())
            .call(|| format!("fsetxattr({:?}, {} bytes)", shown(name), value.len()))?;
    }
    futimens(fd, &metadata.times()).call(|| format!("futimens({:?})", metadata.mtime))
}

/// To a link, a device or a pipe, which cannot be opened without consequences: by its name, in a
/// directory where only this process makes anything, right after it was made there.
///
/// # Errors
/// [`Error::System`](super::error::Error::System).
pub fn to_name(
    directory: BorrowedFd<'_>,
    name: &[u8],
    metadata: &Metadata,
    is_link: bool,
    entry: &[u8],
) -> Result<()> {
    let set = || -> sys::Result<()> {
        let text = || shown(name);
        let Metadata { mode, uid, gid, .. } = *metadata;
        if metadata.foreign {
            let (user, group) = metadata.owner();
            chownat(directory, name, user, group, AtFlags::SYMLINK_NOFOLLOW)
                .call(|| format!("fchownat({:?}, {uid}, {gid})", text()))?;
        }
        if !is_link && mode & 0o7000 != 0 {
            chmodat(directory, name, Mode::from_raw_mode(mode), AtFlags::empty())
                .call(|| format!("fchmodat({:?}, {mode:#o})", text()))?;
        }
        if !metadata.attributes.is_empty() {
            // There is no call that takes a directory and a name before Linux 6.13.
            fchdir(directory).call(|| "fchdir".into())?;
        }
        for (attribute, value) in &metadata.attributes {
            lsetxattr(name, attribute.as_slice(), value, XattrFlags::empty()).call(|| {
                let attribute = shown(attribute);
                format!(
                    "lsetxattr({:?}, {attribute:?}, {} bytes)",
                    text(),
                    value.len()
                )
            })?;
        }
        utimensat(
            directory,
            name,
            &metadata.times(),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .call(|| format!("utimensat({:?}, {:?})", text(), metadata.mtime))
    };
    set().doing(|| format!("extracting {:?}", shown(entry)))
}
