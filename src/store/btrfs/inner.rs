//! Clones the subvolumes inside a sealed dataset into a clone of it.
//!
//! Out of a sealed dataset nothing can be moved, and its clone has an empty stub for each subvolume
//! inside it. So what stayed there (a reset of everything, a data dataset that was replaced) comes
//! back as a clone. Done while a transaction prepares: what a power cut leaves is undone with it.
//! On a full file system it is done again after the ballast was given up: what the first attempt
//! had cloned stays.

use super::path::{DIRECTORY, if_there, open, split_bytes};
use super::{Btrfs, Doing, Result};
use crate::store::Nested;
use crate::sys::btrfs::{self as ioctl, SUBVOLUME_INODE};
use crate::sys::{self, Context};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, fstat, unlinkat};

impl Btrfs {
    pub(super) fn clone_nested_path(&self, from: &str, to: &str) -> Result<()> {
        let (source, target) = (self.present(from)?, self.present(to)?);
        for nested in self.nested_in(from)? {
            clone_into(&source, &target, &nested)
                .doing(|| format!("cloning {} of {from} into {to}", nested.name()))?;
        }
        Ok(())
    }
}

/// The stub is there, because `target` is a clone of `source`, unless an attempt before this one
/// removed it and found no room, or has cloned it already. Parents come before children.
fn clone_into(source: &OwnedFd, target: &OwnedFd, nested: &Nested) -> sys::Result<()> {
    let (parent, name) = split_bytes(&nested.path);
    let subvolume = open(source, &nested.path, DIRECTORY)?;
    let directory = open(target, parent, DIRECTORY)?;
    if let Some(stub) = if_there(open(&directory, name, DIRECTORY))? {
        let inode = fstat(stub)
            .call(|| format!("fstat({:?})", nested.name()))?
            .st_ino;
        if inode == SUBVOLUME_INODE {
            return Ok(());
        }
        unlinkat(&directory, name, AtFlags::REMOVEDIR)
            .call(|| format!("unlinkat({:?}, REMOVEDIR)", nested.name()))?;
    }
    ioctl::snapshot(subvolume, directory, name, false)
}
