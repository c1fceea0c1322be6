//! Paths below a directory that we hold, and directories.
//!
//! Datasets hold what other people wrote: a symbolic link or a mount in the way must not lead out
//! of them. So every path is opened beneath the directory, and no link or mount is followed; a link
//! in the way counts as if nothing lay there.

use super::{Doing, Result};
use crate::sys::{self, Context};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, mkdirat, openat2, unlinkat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// How directories are opened.
pub const DIRECTORY: OFlags = OFlags::DIRECTORY;
/// How anything is opened to be looked at: nothing happens to it, and a link is itself.
pub const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW);

/// What one call takes of a path, with room for its NUL (`PATH_MAX`).
const LONGEST: usize = 4095;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Opens what lies at `path` beneath `directory`; a path without a name is the directory itself.
pub fn open(directory: impl AsFd, path: impl AsRef<[u8]>, flags: OFlags) -> sys::Result<OwnedFd> {
    let path = path.as_ref();
    let mode = if flags.contains(OFlags::CREATE) {
        0o644
    } else {
        0
    };
    let flags = flags | OFlags::CLOEXEC;
    let start = path.iter().position(|byte| *byte != b'/');
    let below = start.and_then(|start| path.get(start..)).unwrap_or(b".");
    // The kernel takes no longer path in one call, and directories lie as deep as people like.
    let long = below.get(..LONGEST).unwrap_or_default();
    if let Some(slash) = long.iter().rposition(|byte| *byte == b'/')
        && let (Some(start), Some(rest)) = (below.get(..slash), below.get(slash + 1..))
    {
        return open(
            open(directory, start, OFlags::PATH | DIRECTORY)?,
            rest,
            flags,
        );
    }
    openat2(directory, below, flags, Mode::from_raw_mode(mode), BENEATH)
        .call(|| format!("openat2({:?}, {flags:?})", String::from_utf8_lossy(path)))
}

/// Whether the error says that nothing lies at the path.
pub fn is_absent(error: &sys::Error) -> bool {
    matches!(error.errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// `None` where nothing lies at the path.
pub fn if_there<T>(result: sys::Result<T>) -> sys::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether it is this one subvolume that the kernel refuses, for what it is, where it lies, or who
/// uses it now: a change goes on without it. What the disk or the room says (`EIO`, `ENOSPC`, …) is
/// not among them. `EROFS` is what a read-only subvolume says, and also a whole file system that takes
/// no more writes: so whoever goes on syncs afterwards, and [`sync`](crate::store::Store::sync) fails
/// on the latter.
pub fn is_barred(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::PERM
            | Errno::ACCESS
            | Errno::BUSY
            | Errno::EXIST
            | Errno::INVAL
            | Errno::LOOP
            | Errno::MLINK
            | Errno::NAMETOOLONG
            | Errno::NOENT
            | Errno::NOTDIR
            | Errno::NOTEMPTY
            | Errno::NOTSUP
            | Errno::ROFS
            | Errno::TXTBSY
            | Errno::XDEV
    )
}

/// `None` where the kernel refuses this one.
pub fn unless_barred<T>(result: sys::Result<T>) -> sys::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_barred(error.errno) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The directory and the name in it.
pub fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// The same for a path that may not be UTF-8.
pub fn split_bytes(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    slash
        .and_then(|at| Some((path.get(..at)?, path.get(at + 1..)?)))
        .unwrap_or((b"", path))
}

/// Opens a directory beneath `top`, making what is missing of it.
pub fn make_directories(top: impl AsFd, path: &str) -> sys::Result<OwnedFd> {
    let mut directory = open(&top, "", DIRECTORY)?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let next = open(&directory, name, DIRECTORY);
        directory = match next {
            Err(error) if error.errno == Errno::NOENT => {
                mkdirat(&directory, name, Mode::from_raw_mode(0o755))
                    .call(|| format!("mkdirat({name:?}, 0755) for {path:?}"))?;
                open(&directory, name, DIRECTORY)?
            }
            other => other?,
        };
    }
    Ok(directory)
}

/// The names in a directory that is open, sorted, byte for byte: by them the entries can be opened.
pub fn entries(directory: impl AsFd) -> sys::Result<Vec<OsString>> {
    let read = || -> rustix::io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    };
    read().call(|| "getdents64".to_owned())
}

/// The same to be looked at or compared; what is not UTF-8 is shown as well as it can be, and nothing
/// can be opened by it.
pub fn names(directory: impl AsFd) -> sys::Result<Vec<String>> {
    let shown = |name: OsString| name.to_string_lossy().into_owned();
    Ok(entries(directory)?.into_iter().map(shown).collect())
}

/// Removes a file; none there is success.
pub fn unlink(directory: impl AsFd, name: impl AsRef<OsStr>) -> Result<()> {
    let name = name.as_ref();
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno)
            .call(|| format!("unlinkat({name:?})"))
            .doing(|| "removing a file"),
    }
}
