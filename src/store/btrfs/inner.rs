//! Clones the subvolumes inside a sealed dataset into a clone of it.
//!
//! Out of a sealed dataset nothing can be moved, and its clone has an empty stub for each subvolume
//! inside it. So what stayed there (a reset of everything, a data dataset that was replaced) comes
//! back as a clone. Done while a transaction prepares: what a power cut leaves is undone with it.

use super::path::{DIRECTORY, open, split};
use super::{Btrfs, Doing, Result};
use crate::sys::{self, Context, btrfs as ioctl};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, unlinkat};

impl Btrfs {
    pub(super) fn clone_nested_path(&self, from: &str, to: &str) -> Result<()> {
        let (source, target) = (self.present(from)?, self.present(to)?);
        for nested in self.nested_in(from)? {
            clone_into(&source, &target, &nested.path)
                .doing(|| format!("cloning {} of {from} into {to}", nested.path))?;
        }
        Ok(())
    }
}

/// The stub is there, because `target` is a clone of `source`; parents come before children.
fn clone_into(source: &OwnedFd, target: &OwnedFd, path: &str) -> sys::Result<()> {
    let (parent, name) = split(path);
    let subvolume = open(source, path, DIRECTORY)?;
    let directory = open(target, parent, DIRECTORY)?;
    unlinkat(&directory, name, AtFlags::REMOVEDIR)
        .call(|| format!("unlinkat({path:?}, REMOVEDIR)"))?;
    ioctl::snapshot(subvolume, directory, name, false)
}
