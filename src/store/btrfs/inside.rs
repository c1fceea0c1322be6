//! A look inside a dataset.

use super::file::kind;
use super::path::{self, DIRECTORY, LOOK, if_there, open};
use super::{Btrfs, Doing, Result};
use crate::store::Node;
use crate::store::place::Place;
use crate::sys::{self, Context};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, fstat, readlinkat};
use std::ffi::OsString;

impl Btrfs {
    /// The root of the dataset at a place, where one must be.
    pub(super) fn inside(&self, place: Place) -> Result<OwnedFd> {
        self.present(&self.path(place)?)
    }

    /// A directory of the dataset at a place; an empty path is its root. No link is followed.
    pub fn directory(&self, place: Place, path: &str) -> Result<OwnedFd> {
        let root = self.inside(place)?;
        open(&root, path, DIRECTORY).doing(|| format!("opening {path} in {place:?}"))
    }

    /// As [`Store::names`](crate::store::Store::names), byte for byte: for who opens what has the names.
    pub fn entries(&self, place: Place, path: &str) -> Result<Vec<OsString>> {
        below(&self.inside(place)?, path, path::entries)
    }
}

pub fn node(dataset: &OwnedFd, path: &str) -> Result<Option<Node>> {
    let look = || {
        let Some(fd) = if_there(open(dataset, path, LOOK))? else {
            return Ok(None);
        };
        Ok(Some(match kind(&fd)? {
            FileType::RegularFile => Node::File,
            FileType::Directory => Node::Directory,
            FileType::Symlink => Node::Symlink,
            _ => Node::Other,
        }))
    };
    look().doing(|| format!("looking at {path}"))
}

pub fn is_executable(dataset: &OwnedFd, path: &str) -> Result<bool> {
    let look = || {
        let Some(fd) = if_there(open(dataset, path, LOOK))? else {
            return Ok(false);
        };
        let mode = fstat(&fd).call(|| format!("fstat({path:?})"))?.st_mode;
        Ok(FileType::from_raw_mode(mode) == FileType::RegularFile && mode & 0o111 != 0)
    };
    look().doing(|| format!("looking at {path}"))
}

pub fn names(dataset: &OwnedFd, path: &str) -> Result<Vec<String>> {
    below(dataset, path, path::names)
}

fn below<T>(
    dataset: &OwnedFd,
    path: &str,
    list: impl FnOnce(OwnedFd) -> sys::Result<Vec<T>>,
) -> Result<Vec<T>> {
    let names = || match if_there(open(dataset, path, DIRECTORY))? {
        Some(directory) => list(directory),
        None => Ok(Vec::new()),
    };
    names().doing(|| format!("listing {path}"))
}

pub fn link(dataset: &OwnedFd, path: &str) -> Result<Option<String>> {
    let read = || -> sys::Result<Option<String>> {
        let Some(fd) = if_there(open(dataset, path, LOOK))? else {
            return Ok(None);
        };
        if kind(&fd)? != FileType::Symlink {
            return Ok(None);
        }
        let target = readlinkat(&fd, "", Vec::new()).call(|| format!("readlinkat({path:?})"))?;
        Ok(Some(target.to_string_lossy().into_owned()))
    };
    read().doing(|| format!("reading the link {path}"))
}
