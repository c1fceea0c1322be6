//! Slot files: written in place, so that a write needs no space and no log replay.
//!
//! An fsync of a copy-on-write file goes to the log tree, which neither GRUB nor a mount without
//! log replay reads, and the write itself needs free space. A NOCOW file whose extents exist is
//! overwritten where it lies. Each slot is one sector of its own, so a torn write hurts one slot.

use super::path::{DIRECTORY, LOOK, if_there, open, split, unlink};
use super::{Doing, Result};
use crate::record::block::BLOCK;
use crate::store::StoreError;
use crate::store::place::File;
use crate::sys::{self, Context};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    FallocateFlags, IFlags, OFlags, RenameFlags, fallocate, fstat, fsync, ioctl_getflags,
    ioctl_setflags, renameat_with,
};
use std::os::unix::fs::FileExt;

/// Bytes in a slot file.
const LENGTH: u64 = 2 * BLOCK as u64;

fn path(file: File) -> Result<String> {
    match file {
        File::State | File::Journal => Ok(file.path()),
        _ => Err(StoreError::Place(format!("{} has no slots", file.path()))),
    }
}

/// Writes one slot. On disk on return.
pub fn write(top: impl AsFd, file: File, slot: usize, block: &[u8; BLOCK]) -> Result<()> {
    let path = path(file)?;
    let at = match slot {
        0 => 0,
        1 => BLOCK as u64,
        _ => return Err(StoreError::Place(format!("{path} has no slot {slot}"))),
    };
    let doing = || format!("writing slot {slot} of {path}");
    let found = if_there(open(top, &path, OFlags::WRONLY | OFlags::NOFOLLOW)).doing(doing)?;
    let Some(fd) = found else {
        return Err(StoreError::Place(format!(
            "{path} does not exist: run 'backstay init'"
        )));
    };
    // A shorter file would grow, another one be copied on write: both need space and the log tree.
    if !in_place(&fd).doing(doing)? {
        return Err(StoreError::Place(format!(
            "{path} is not a file of {LENGTH} bytes that is overwritten in place: remove it and \
             run 'backstay init'"
        )));
    }
    let file = std::fs::File::from(fd);
    let write = || {
        file.write_all_at(block, at)
            .call(|| format!("pwrite({path:?}, {BLOCK} bytes, at {at})"))?;
        fsync(&file).call(|| format!("fsync({path:?})"))
    };
    write().doing(doing)
}

fn in_place(fd: &OwnedFd) -> sys::Result<bool> {
    let length = fstat(fd).call(|| "fstat".to_owned())?.st_size;
    let flags = ioctl_getflags(fd).call(|| "FS_IOC_GETFLAGS".to_owned())?;
    Ok(u64::try_from(length).ok() == Some(LENGTH) && flags.contains(IFlags::NOCOW))
}

/// Makes a slot file of zeros, unless one is there: it is never emptied. Needs a sync afterwards.
pub fn create(top: impl AsFd, file: File) -> Result<()> {
    let path = path(file)?;
    let doing = || format!("creating {path}");
    let (parent, name) = split(&path);
    let directory = open(top, parent, DIRECTORY).doing(doing)?;
    if if_there(open(&directory, name, LOOK))
        .doing(doing)?
        .is_some()
    {
        return Ok(());
    }
    // A leftover is of no use, because NOCOW takes effect only on an empty file.
    let new = format!(".{name}.new");
    unlink(&directory, &new)?;
    fill(&directory, &new, name).doing(doing)
}

fn fill(directory: &OwnedFd, new: &str, name: &str) -> sys::Result<()> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let fd = open(directory, new, flags)?;
    let old = ioctl_getflags(&fd).call(|| format!("FS_IOC_GETFLAGS({new:?})"))?;
    ioctl_setflags(&fd, old | IFlags::NOCOW).call(|| format!("FS_IOC_SETFLAGS({new:?}, NOCOW)"))?;
    fallocate(&fd, FallocateFlags::empty(), 0, LENGTH)
        .call(|| format!("fallocate({new:?}, 0, {LENGTH})"))?;
    let file = std::fs::File::from(fd);
    // Preallocated is not written yet: the first write would still change metadata.
    file.write_all_at(&[0; 2 * BLOCK], 0)
        .call(|| format!("pwrite({new:?}, {LENGTH} zeros)"))?;
    fsync(&file).call(|| format!("fsync({new:?})"))?;
    renameat_with(directory, new, directory, name, RenameFlags::NOREPLACE)
        .call(|| format!("renameat2({new:?}, {name:?}, NOREPLACE)"))
}
