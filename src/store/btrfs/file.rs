//! Small files: whole old or whole new.

use super::path::{DIRECTORY, LOOK, if_there, is_absent, open, split, unlink};
use super::{Doing, Result};
use crate::store::StoreError;
use crate::sys::{self, Context};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, OFlags, fstat, fsync, renameat};
use std::io::{Read, Write};

/// No more than this is read of a file, in bytes.
const LIMIT: u64 = 64 * 1024;

/// What a descriptor is open on.
pub fn kind(fd: &OwnedFd) -> sys::Result<FileType> {
    let mode = fstat(fd).call(|| "fstat".to_owned())?.st_mode;
    Ok(FileType::from_raw_mode(mode))
}

/// Reads a regular file below a directory; `None` when there is none.
pub fn read(directory: impl AsFd, path: &str) -> Result<Option<Vec<u8>>> {
    read_at(directory, path).doing(|| format!("reading {path}"))
}

fn read_at(directory: impl AsFd, path: &str) -> sys::Result<Option<Vec<u8>>> {
    // A look first, because opening a device or a FIFO would do something to it.
    let Some(look) = if_there(open(&directory, path, LOOK))? else {
        return Ok(None);
    };
    if kind(&look)? != FileType::RegularFile {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Some(fd) = if_there(open(directory, path, flags))? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    std::fs::File::from(fd)
        .take(LIMIT)
        .read_to_end(&mut bytes)
        .call(|| format!("read({path:?})"))?;
    Ok(Some(bytes))
}

/// Replaces a file in a directory that exists. A leftover of an interrupted replacement is
/// overwritten.
pub fn replace(top: impl AsFd, path: &str, bytes: &[u8]) -> Result<()> {
    let (parent, name) = split(path);
    let directory = match open(top, parent, DIRECTORY) {
        Err(error) if is_absent(&error) => {
            return Err(StoreError::Place(format!("{parent} does not exist")));
        }
        other => other.doing(|| format!("writing {path}"))?,
    };
    let new = format!(".{name}.new");
    let write = || {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
        let mut file = std::fs::File::from(open(&directory, &new, flags)?);
        file.write_all(bytes)
            .call(|| format!("write({new:?}, {} bytes)", bytes.len()))?;
        // Without it a commit may hold the new name and not yet the new bytes.
        fsync(&file).call(|| format!("fsync({new:?})"))?;
        renameat(&directory, &new, &directory, name).call(|| format!("renameat({new:?}, {name:?})"))
    };
    write().doing(|| format!("writing {path}"))
}

/// Removes a file; none there is success.
pub fn remove(top: impl AsFd, path: &str) -> Result<()> {
    let (parent, name) = split(path);
    match if_there(open(top, parent, DIRECTORY)).doing(|| format!("removing {path}"))? {
        Some(directory) => unlink(directory, name),
        None => Ok(()),
    }
}
