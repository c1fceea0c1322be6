//! Clones the subvolumes inside a sealed dataset into a clone of it.
//!
//! Out of a sealed dataset nothing can be moved, and its clone has an empty stub for each subvolume
//! inside it. So what stayed there (a reset of everything, a data dataset that was replaced) comes
//! back as a clone. Done while a transaction prepares: what a power cut leaves is undone with it.
//! On a full file system it is done again after the ballast was given up: what the first attempt
//! had cloned stays.

use super::carry::put_back;
use super::path::{DIRECTORY, if_there, is_barred, open, split_bytes, unless_barred};
use super::subvolume::{set_flags, unfix};
use super::{Btrfs, Doing, Result};
use crate::store::Nested;
use crate::sys::btrfs::{self as ioctl, SUBVOLUME_INODE};
use crate::sys::{self, Context};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, fstat, unlinkat};

impl Btrfs {
    pub(super) fn clone_nested_path(&self, from: &str, to: &str) -> Result<Vec<Nested>> {
        let (source, target) = (self.present(from)?, self.present(to)?);
        let mut left_out = Vec::new();
        for nested in self.nested_in(from)? {
            let cloned = match nested.uuid {
                Some(_) => unless_barred(clone_into(&source, &target, &nested))
                    .doing(|| format!("cloning {} of {from} into {to}", nested.name()))?,
                None => None,
            };
            if cloned.is_none() {
                left_out.push(nested);
            }
        }
        Ok(left_out)
    }
}

/// The stub is there, because `target` is a clone of `source`, unless an attempt before this one
/// removed it and found no room, or has cloned it already. Parents come before children.
fn clone_into(source: &OwnedFd, target: &OwnedFd, nested: &Nested) -> sys::Result<()> {
    let (parent, name) = split_bytes(&nested.path);
    let subvolume = open(source, &nested.path, DIRECTORY)?;
    let directory = open(target, parent, DIRECTORY)?;
    // The clone is ours: a flag of chattr that its directory has from the sealed one waits meanwhile.
    let flags = unfix(&directory)?;
    let cloned = clone_at(&subvolume, &directory, name, nested);
    match flags {
        Some(flags) => cloned.and(set_flags(directory, flags)),
        None => cloned,
    }
}

fn clone_at(
    subvolume: &OwnedFd,
    directory: &OwnedFd,
    name: &[u8],
    nested: &Nested,
) -> sys::Result<()> {
    let mut removed = None;
    if let Some(stub) = if_there(open(directory, name, DIRECTORY))? {
        let stat = fstat(stub).call(|| format!("fstat({:?})", nested.name()))?;
        if stat.st_ino == SUBVOLUME_INODE {
            return Ok(());
        }
        unlinkat(directory, name, AtFlags::REMOVEDIR)
            .call(|| format!("unlinkat({:?}, REMOVEDIR)", nested.name()))?;
        removed = Some(stat);
    }
    let cloned = ioctl::snapshot(subvolume, directory, name, false);
    if let (Err(error), Some(stub)) = (&cloned, &removed)
        && is_barred(error.errno)
    {
        // It keeps its stub; the error of the clone is the one to judge.
        put_back(directory, name, stub).ok();
    }
    cloned
}
