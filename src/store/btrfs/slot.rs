//! Slot files: written in place, so that a write needs no space and no log replay.
//!
//! An fsync of a copy-on-write file goes to the log tree, which neither GRUB nor a mount without
//! log replay reads, and the write itself needs free space. A NOCOW file whose extents exist is
//! overwritten where it lies. Each slot is one sector of its own, so a torn write hurts one slot.

use super::file::{kind, leftover, read};
use super::path::{DIRECTORY, LOOK, if_there, open, split, unlink};
use super::{Doing, Result};
use crate::record::block::BLOCK;
use crate::store::StoreError;
use crate::store::place::File;
use crate::sys::{self, Context};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    FallocateFlags, FileType, IFlags, OFlags, SeekFrom, fallocate, fstat, fsync, ioctl_getflags,
    ioctl_setflags, renameat, seek,
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
            "{path} is not a file of {LENGTH} bytes that is overwritten in place: run 'backstay \
             init', which makes it again and keeps what it holds"
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

/// What was done to a slot file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// Nothing: it is as it must be.
    Nothing,
    /// There was none; it is all zeros.
    New,
    /// There was none although its twin is there, so it was lost; it counts as damaged.
    Lost,
    /// It could not be overwritten in place; it can, and holds what it held. What its length lacked
    /// counts as damaged.
    Again,
}

/// Fills what is lost: zeros would say that nothing was ever recorded.
const LOST: u8 = 0xff;

/// Makes a slot file, or makes it again where it cannot be overwritten in place. `twin` says that the
/// other slot file of the store is there. A power cut leaves the old file or the new one, both with
/// every whole slot. Needs a sync afterwards.
pub fn create(top: impl AsFd, file: File, twin: bool) -> Result<Made> {
    let path = path(file)?;
    let doing = || format!("creating {path}");
    let (parent, name) = split(&path);
    let directory = open(&top, parent, DIRECTORY).doing(doing)?;
    // A leftover is of no use, because NOCOW takes effect only on an empty file.
    let new = leftover(name);
    unlink(&directory, &new)?;
    let mut content = [LOST; LENGTH as usize];
    let made = match look(&directory, name).doing(doing)? {
        Found::Whole => return Ok(Made::Nothing),
        Found::Directory => {
            return Err(StoreError::Place(format!(
                "{path} is a directory: move it away and run 'backstay init' again"
            )));
        }
        Found::Absent if twin && file == File::State => Made::Lost,
        Found::Absent => {
            content.fill(0);
            Made::New
        }
        Found::Other => {
            let old = read(&directory, name)?.unwrap_or_default();
            for (to, from) in content.iter_mut().zip(old) {
                *to = from;
            }
            Made::Again
        }
    };
    fill(&directory, &new, name, &content).doing(doing)?;
    Ok(made)
}

/// What lies where a slot file belongs.
enum Found {
    Absent,
    Whole,
    Directory,
    Other,
}

fn look(directory: &OwnedFd, name: &str) -> sys::Result<Found> {
    let Some(entry) = if_there(open(directory, name, LOOK))? else {
        return Ok(Found::Absent);
    };
    match kind(&entry)? {
        FileType::RegularFile => {}
        FileType::Directory => return Ok(Found::Directory),
        _ => return Ok(Found::Other),
    }
    let fd = open(directory, name, OFlags::RDONLY | OFlags::NOFOLLOW)?;
    // A hole would be allocated by the first write, and that needs space.
    let hole = seek(&fd, SeekFrom::Hole(0)).call(|| format!("lseek({name:?}, SEEK_HOLE)"));
    Ok(match in_place(&fd)? && hole? == LENGTH {
        true => Found::Whole,
        false => Found::Other,
    })
}

fn fill(
    directory: &OwnedFd,
    new: &str,
    name: &str,
    content: &[u8; LENGTH as usize],
) -> sys::Result<()> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let fd = open(directory, new, flags)?;
    let old = ioctl_getflags(&fd).call(|| format!("FS_IOC_GETFLAGS({new:?})"))?;
    ioctl_setflags(&fd, old | IFlags::NOCOW).call(|| format!("FS_IOC_SETFLAGS({new:?}, NOCOW)"))?;
    fallocate(&fd, FallocateFlags::empty(), 0, LENGTH)
        .call(|| format!("fallocate({new:?}, 0, {LENGTH})"))?;
    let file = std::fs::File::from(fd);
    // Preallocated is not written yet: the first write would still change metadata.
    file.write_all_at(content, 0)
        .call(|| format!("pwrite({new:?}, {LENGTH} bytes)"))?;
    fsync(&file).call(|| format!("fsync({new:?})"))?;
    renameat(directory, new, directory, name).call(|| format!("renameat({new:?}, {name:?})"))
}
