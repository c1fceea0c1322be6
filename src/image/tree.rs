//! The directories of the system that is being made, and how every name in it is reached.
//!
//! Each directory is opened from the one above it, one component at a time, and only if this run made
//! it: `openat2` with BENEATH, NO_SYMLINKS, NO_MAGICLINKS and NO_XDEV refuses a link or a mount that
//! would be in the way all the same. Entries come in the order of a walk, so the descriptors from the
//! root down to the last entry's directory are kept, and the next entry needs one call or none.
//!
//! A directory's owner, mode, attributes and times come last, deepest first: a default ACL or a setgid
//! bit must not fall on what is made in it, and what is made in it changes its times.

use std::collections::HashMap;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;

use super::error::{Doing, Error, Result, shown};
use super::limits::Limits;
use super::metadata::{self, Metadata};
use crate::sys::{self, Context};

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// The directories that this run made.
pub struct Tree<'a> {
    root: BorrowedFd<'a>,
    limits: Limits,
    /// From the root down to where the last entry was made.
    open: Vec<(Vec<u8>, OwnedFd)>,
    /// Every directory by its path, and what it is to get at the end; nothing for one that no entry
    /// names.
    made: HashMap<Box<[u8]>, Option<Metadata>>,
    /// Bytes of memory that `made` takes, roughly.
    memory: u64,
}

/// A path from an archive: its components, checked. The root has none.
pub struct Path<'a>(Vec<&'a [u8]>);

impl<'a> Path<'a> {
    /// Checks a path; `.` and empty components count for nothing, as for every program.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Limit`].
    pub fn new(path: &'a [u8], limits: &Limits) -> Result<Path<'a>> {
        let refused = |why: &str| Err(Error::refused(path, why));
        if path.is_empty() {
            return refused("it has no name");
        }
        if path.contains(&0) {
            return refused("its name holds a NUL");
        }
        if path.first() == Some(&b'/') {
            return refused(
                "its name begins with '/': pack it from the root directory (tar -C ROOT .)",
            );
        }
        if path.len() > limits.path {
            return Err(Error::limit(path, "bytes of a path", limits.path as u64));
        }
        let mut components = Vec::new();
        for component in path.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return refused("its name leads upwards ('..'): pack it without"),
                _ if component.len() > limits.name => {
                    return Err(Error::limit(path, "bytes of a name", limits.name as u64));
                }
                _ => components.push(component),
            }
        }
        if components.len() > limits.depth + 1 {
            return Err(Error::limit(
                path,
                "directories in one another",
                limits.depth as u64,
            ));
        }
        Ok(Path(components))
    }

    /// The directory's components, and the name in it; `None` for the root.
    pub fn split(&self) -> Option<(&[&'a [u8]], &'a [u8])> {
        let (name, parent) = self.0.split_last()?;
        Some((parent, name))
    }

    fn joined(components: &[&[u8]]) -> Box<[u8]> {
        components.join(&b'/').into_boxed_slice()
    }
}

impl<'a> Tree<'a> {
    /// A tree that begins with an empty root directory.
    pub fn new(root: BorrowedFd<'a>, limits: &Limits) -> Tree<'a> {
        let mut made = HashMap::new();
        made.insert(Box::default(), None);
        Tree {
            root,
            limits: *limits,
            open: Vec::new(),
            made,
            memory: 0,
        }
    }

    /// The directory of these components, made if no entry named it so far.
    ///
    /// # Errors
    /// [`Error::Refused`] when something else has its name; [`Error::System`].
    pub fn directory(&mut self, components: &[&[u8]], entry: &[u8]) -> Result<BorrowedFd<'_>> {
        let same = self
            .open
            .iter()
            .zip(components)
            .take_while(|((there, _), wanted)| there == *wanted)
            .count();
        self.open.truncate(same);
        for depth in same..components.len() {
            let Some((here, name)) = components.get(..=depth).and_then(|part| {
                let name = part.last()?;
                Some((Path::joined(part), *name))
            }) else {
                break;
            };
            if !self.made.contains_key(&here) {
                self.make(here, name, entry)?;
            }
            let parent = self.deepest();
            let fd = open_below(parent, name, OFlags::PATH | OFlags::DIRECTORY)
                .doing(|| format!("extracting {:?}", shown(entry)))?;
            self.open.push((name.to_vec(), fd));
        }
        Ok(self.deepest())
    }

    /// Makes the directory that an entry names, or only notes its metadata if it was made before.
    ///
    /// # Errors
    /// As [`Self::directory`].
    pub fn entry(&mut self, path: &Path<'_>, metadata: Metadata, entry: &[u8]) -> Result<()> {
        let here = Path::joined(&path.0);
        if let Some((parent, name)) = path.split()
            && !self.made.contains_key(&here)
        {
            self.directory(parent, entry)?;
            self.make(here.clone(), name, entry)?;
        }
        self.grow(metadata.size(), entry)?;
        self.made.insert(here, Some(metadata));
        Ok(())
    }

    /// Opens something that was made, for a hard link: its directory and its name in it.
    ///
    /// # Errors
    /// As [`openat2`]: `ENOENT`, `ELOOP` where a link is in the way.
    pub fn look(&self, parent: &[&[u8]]) -> sys::Result<OwnedFd> {
        let path = Path::joined(parent);
        let path = if path.is_empty() { b"." } else { &*path };
        open_below(self.root, path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Gives every directory what its entry says, the deepest first.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn finish(self) -> Result<()> {
        drop(self.open);
        let mut made: Vec<_> = self
            .made
            .into_iter()
            .filter_map(|(path, metadata)| Some((path, metadata?)))
            .collect();
        // What is in a directory sorts after it.
        made.sort_unstable_by(|(one, _), (other, _)| other.cmp(one));
        for (path, metadata) in made {
            let name = if path.is_empty() { b"." } else { &*path };
            let fd = open_below(self.root, name, OFlags::DIRECTORY)
                .doing(|| format!("finishing the directory {:?}", shown(name)))?;
            metadata::to_directory(&fd, &metadata, name)?;
        }
        Ok(())
    }

    fn make(&mut self, path: Box<[u8]>, name: &[u8], entry: &[u8]) -> Result<()> {
        let parent = self.deepest();
        match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return Err(Error::refused(
                    entry,
                    format!(
                        "{:?} is a directory for it and something else for an entry before it",
                        shown(&path)
                    ),
                ));
            }
            Err(errno) => {
                return Err(errno)
                    .call(|| format!("mkdirat({:?}, 0700)", shown(name)))
                    .doing(|| format!("extracting {:?}", shown(entry)));
            }
        }
        self.grow(path.len() as u64 + 64, entry)?;
        self.made.insert(path, None);
        Ok(())
    }

    fn grow(&mut self, by: u64, entry: &[u8]) -> Result<()> {
        self.memory += by;
        if self.memory > self.limits.directories {
            let limit = self.limits.directories;
            return Err(Error::limit(
                entry,
                "bytes of memory for directories",
                limit,
            ));
        }
        Ok(())
    }

    fn deepest(&self) -> BorrowedFd<'_> {
        self.open.last().map_or(self.root, |(_, fd)| fd.as_fd())
    }
}

fn open_below(directory: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> sys::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat2(directory, path, flags, Mode::empty(), BENEATH)
        .call(|| format!("openat2({:?}, {flags:?})", shown(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_relative_stays_below_and_is_bounded() {
        let limits = Limits {
            depth: 3,
            ..Limits::default()
        };
        let long = [b'x'; 256];
        for (path, components) in [
            ("etc/passwd", 2),
            ("./etc//./passwd", 2),
            ("./", 0),
            (".", 0),
            ("a/b/c/d", 4),
            ("..a/b..", 2),
        ] {
            let path = Path::new(path.as_bytes(), &limits).unwrap();
            assert_eq!(path.0.len(), components);
            assert_eq!(path.split().is_none(), components == 0);
        }
        for path in [
            &b""[..],
            b"/",
            b"/etc",
            b"..",
            b"a/../b",
            b"a/..",
            b"a\0b",
            b"a/b/c/d/e",
            &long,
        ] {
            assert!(Path::new(path, &limits).is_err(), "{path:?}");
        }
    }
}
