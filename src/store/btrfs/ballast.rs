//! Room that is kept to be given up.
//!
//! On a file system that is full to the last block an exchange fails with ENOSPC, while removing
//! files always works. So about 16 MiB of metadata lie ready to be removed. They are extended
//! attributes, because those are metadata whatever the mount options say, and are never compressed.
//! One file of data makes room for manifests and the log, which are too long to be metadata.

use super::path::{DIRECTORY, entries, if_there, make_directories, open, unlink};
use super::{Doing, Result};
use crate::store::place::STORE;
use crate::sys::{self, Context};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FallocateFlags, OFlags, XattrFlags, fallocate, fsetxattr, unlinkat};
use rustix::io::Errno;

/// Files in the ballast; one is 64 KiB of metadata.
const FILES: usize = 256;
/// Attributes of a file.
const ATTRIBUTES: usize = 16;
/// Bytes in an attribute: one fits a node of 4 KiB, four fit a node of 16 KiB.
const SIZE: usize = 3800;
/// The file of data, and its bytes: a manifest takes 4096, the log at most 64 KiB.
const DATA: (&str, u64) = ("data", 1 << 20);

fn directory() -> String {
    format!("{STORE}/ballast")
}

/// Makes what is missing of the ballast. On disk after the next sync.
pub fn make(top: impl AsFd) -> Result<()> {
    fill(top).doing(|| format!("filling {}", directory()))
}

fn fill(top: impl AsFd) -> sys::Result<()> {
    let path = directory();
    let directory = make_directories(top, &path)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let (name, length) = DATA;
    match open(&directory, name, flags) {
        Err(error) if error.errno == Errno::EXIST => {}
        file => fallocate(file?, FallocateFlags::empty(), 0, length)
            .call(|| format!("fallocate({path}/{name}, 0, {length})"))?,
    }
    for number in 0..FILES {
        let name = format!("{number:03}");
        let file = match open(&directory, &name, flags) {
            Err(error) if error.errno == Errno::EXIST => continue,
            other => other?,
        };
        for number in 0..ATTRIBUTES {
            let attribute = format!("user.ballast.{number:02}");
            fsetxattr(
                &file,
                attribute.as_str(),
                &[0x2e; SIZE],
                XattrFlags::empty(),
            )
            .call(|| format!("fsetxattr({path}/{name}, {attribute:?}, {SIZE} bytes)"))?;
        }
    }
    Ok(())
}

/// Removes the ballast; says whether there was any. Its space can be used after the next sync.
pub fn give_up(top: impl AsFd) -> Result<bool> {
    let doing = || format!("giving up {}", directory());
    let Some(held) = if_there(open(&top, directory(), DIRECTORY)).doing(doing)? else {
        return Ok(false);
    };
    for name in entries(&held).doing(doing)? {
        unlink(&held, &name)?;
    }
    let store = open(top, STORE, DIRECTORY).doing(doing)?;
    unlinkat(store, "ballast", AtFlags::REMOVEDIR)
        .call(|| "unlinkat(\"ballast\", REMOVEDIR)".to_owned())
        .doing(doing)?;
    Ok(true)
}
