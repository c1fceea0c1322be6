//! A root directory becomes an archive: the same bytes for the same tree, wherever and whenever.
//!
//! The format is POSIX pax (IEEE 1003.1, `pax`), as GNU tar and bsdtar read it: names sorted by their
//! bytes and beginning with `./`; owners as numbers; times of modification with nanoseconds and no
//! other times; sparse files as GNU.sparse 1.0; attributes as `SCHILY.xattr.*` and ACLs as
//! `SCHILY.acl.*`, the one spelling of each that both restore. The first name of a file with several is
//! the file, the others are links to it.
//!
//! What other file systems and subvolumes show is not part of the tree: an empty directory stands for
//! it. That, and what the format cannot hold, is said ([`Note`]), never silent.
//!
//! A tree that changes under it gives an error, as far as that is seen, and never an archive of two
//! halves: each file is looked at again when it was read, and each directory at the end, because what is
//! moved from where the walk is still to come to where it was would be in neither. What extraction would
//! refuse is an error here: nobody learns at a reset that an archive is of no use. Nothing is written but to `out`, which is the caller's to make whole or to drop.

mod content;
mod header;

use super::Limits;
use super::attributes;
use super::error::shown;
use super::tree::Path;
use super::walk::{Edge, Found, Visitor, inode, look, lossy, walk};
use crate::store::btrfs::path;
use crate::sys::{self, Context};
use header::Header;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, OFlags, Statx};
use std::collections::HashMap;
use std::io::Write;

/// Bytes of a block: everything in an archive is a multiple of it.
const BLOCK: u64 = 512;
/// Bytes of an attribute's name and value on btrfs: what is left of a leaf of 16 KiB, mkfs.btrfs's
/// default, after its header (101) and those of the item (25) and of its directory item (30).
/// `BTRFS_MAX_XATTR_SIZE`, fs/btrfs/fs.h of Linux; more is `ENOSPC`.
const ATTRIBUTE: usize = 16384 - 101 - 25 - 30;
/// Names of one file on btrfs (`BTRFS_LINK_MAX`, fs/btrfs/ctree.h).
const NAMES: u32 = 65535;

/// What can stop it. What was written by then is not an archive.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error(transparent)]
    System(#[from] sys::Error),
    /// The archive could not be written.
    #[error("writing the archive: {0}")]
    Output(std::io::Error),
    /// A file became another one.
    #[error(
        "{0} changed while it was read: pack a tree that nothing writes to, such as a read-only \
         snapshot of it"
    )]
    Changed(String),
    /// An entry that no archive of this format holds.
    #[error("{path} cannot be held by an archive ({why}): remove it")]
    Unfit {
        /// The entry.
        path: String,
        /// What does not fit.
        why: String,
    },
    /// An entry that no extraction takes.
    #[error(
        "{path} has or makes more {what} than the limit of {limit}, and nothing would restore from the \
         archive: remove or change it"
    )]
    Limit {
        /// The entry.
        path: String,
        /// What there is too much of.
        what: String,
        /// How much there may be.
        limit: u64,
    },
}

impl Error {
    fn limit(found: &Found<'_>, what: &str, limit: u64) -> Self {
        Self::Limit {
            path: shown(lossy(found.path).as_bytes()),
            what: what.to_owned(),
            limit,
        }
    }
}

/// What the caller may want to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// So many bytes of the archive, before compression, have been written.
    Written(u64),
    /// Something is not in the archive as it is in the tree.
    Different {
        /// The entry.
        path: String,
        /// What became of it.
        what: Difference,
    },
}

/// How an archive differs from its tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// A socket means nothing without the program that made it.
    #[error("a socket is left out")]
    Socket,
    /// Another file system.
    #[error("something is mounted there: the archive has an empty directory")]
    MountedDirectory,
    /// Another file system's file.
    #[error("something is mounted there: it is left out")]
    MountedFile,
    /// Another subvolume.
    #[error("a subvolume of its own: the archive has an empty directory")]
    Subvolume,
    /// A name that pax cannot hold, or that btrfs does not take.
    #[error("its attribute {0:?} is left out: nothing restores one of that name")]
    Attribute(String),
    /// So many holes that extraction refuses their map.
    #[error("has more than {0} pieces of data: the archive has zeros for its holes")]
    Dense(usize),
    /// Not every extractor makes hard links to something else than files.
    #[error("is hard-linked and no regular file: the archive has it once for each name")]
    Separate,
}

impl core::fmt::Display for Note {
    fn fmt(&self, to: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Note::Written(bytes) => write!(to, "{bytes} bytes"),
            Note::Different { path, what } => write!(to, "{path}: {what}"),
        }
    }
}

/// What an archive holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries, hard links included.
    pub entries: u64,
    /// Its length before compression.
    pub bytes: u64,
}

/// Writes everything below `root` to `out`, `root` itself first. `note` is called for each megabyte,
/// and for what is different. What extraction within `limits` would refuse is an error.
pub fn pack(
    root: BorrowedFd<'_>,
    out: &mut dyn Write,
    limits: &Limits,
    note: &mut dyn FnMut(Note),
) -> Result<Packed, Error> {
    let mut packer = Packer {
        out: Counted {
            out,
            bytes: 0,
            said: 0,
            note,
        },
        limits: *limits,
        entries: 0,
        memory: 0,
        links: HashMap::new(),
        directories: Vec::new(),
    };
    walk(root, &mut packer)?;
    packer.unchanged(root)?;
    // Two empty blocks end an archive.
    packer.out.zeros(2 * BLOCK)?;
    Ok(Packed {
        entries: packer.entries,
        bytes: packer.out.bytes,
    })
}

/// About how long the archive will be, before compression. Reads no file.
pub fn estimate(root: BorrowedFd<'_>) -> Result<u64, Error> {
    let mut sum = Sum(0);
    walk(root, &mut sum)?;
    Ok(sum.0)
}

struct Sum(u64);

impl Visitor for Sum {
    type Error = Error;

    fn enter(&mut self, found: Found<'_>) -> Result<(), Error> {
        let content = match found.kind() {
            FileType::RegularFile => found.stat.stx_size / u64::from(found.stat.stx_nlink.max(1)),
            _ => 0,
        };
        // Most entries have a time with nanoseconds: a header and two blocks before it.
        self.0 += 3 * BLOCK + content.next_multiple_of(BLOCK);
        Ok(())
    }
}

/// Writes, counts, and says how far it is.
struct Counted<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
    said: u64,
    note: &'a mut dyn FnMut(Note),
}

impl Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(Error::Output)?;
        self.bytes += bytes.len() as u64;
        if self.bytes - self.said >= 1 << 20 {
            self.said = self.bytes;
            (self.note)(Note::Written(self.bytes));
        }
        Ok(())
    }

    fn zeros(&mut self, mut count: u64) -> Result<(), Error> {
        let block = [0; BLOCK as usize];
        while count > 0 {
            let now = block.get(..usize::try_from(count).unwrap_or(usize::MAX));
            let now = now.unwrap_or(&block);
            self.write(now)?;
            count -= now.len() as u64;
        }
        Ok(())
    }

    /// Fills the block up.
    fn pad(&mut self) -> Result<(), Error> {
        self.zeros(self.bytes.next_multiple_of(BLOCK) - self.bytes)
    }

    fn different(&mut self, found: &Found<'_>, what: Difference) {
        (self.note)(Note::Different {
            path: lossy(found.path),
            what,
        });
    }
}

struct Packer<'a> {
    out: Counted<'a>,
    limits: Limits,
    entries: u64,
    /// What the extractor will count for the directories.
    memory: u64,
    /// The first name of each file that has several, and how many there were.
    links: HashMap<(u32, u32, u64), (Vec<u8>, u32)>,
    /// Each directory as it was when it was come to.
    directories: Vec<(Box<[u8]>, Stamp)>,
}

/// What changes with a directory's entries: inode, modification, change.
type Stamp = ((u32, u32, u64), (i64, u32), (i64, u32));

fn stamp(stat: &Statx) -> Stamp {
    let (modified, changed) = (stat.stx_mtime, stat.stx_ctime);
    (
        inode(stat),
        (modified.tv_sec, modified.tv_nsec),
        (changed.tv_sec, changed.tv_nsec),
    )
}

impl Visitor for Packer<'_> {
    type Error = Error;

    fn enter(&mut self, found: Found<'_>) -> Result<(), Error> {
        let kind = found.kind();
        match (kind, found.edge) {
            (FileType::Socket, _) => {
                self.out.different(&found, Difference::Socket);
                return Ok(());
            }
            (FileType::Directory, Edge::Mount) => {
                self.out.different(&found, Difference::MountedDirectory);
                let header = Header::stand_in(&found)?;
                self.grow(&found, 0)?;
                return self.write_header(&found, header, 0);
            }
            (_, Edge::Mount) => {
                self.out.different(&found, Difference::MountedFile);
                return Ok(());
            }
            (_, Edge::Subvolume) => self.out.different(&found, Difference::Subvolume),
            (_, Edge::Inside) => {}
        }
        if found.stat.stx_nlink > 1 && kind == FileType::RegularFile {
            if let Some((first, names)) = self.links.get_mut(&found.inode()) {
                if *names >= NAMES {
                    return Err(Error::limit(&found, "names of one file", NAMES.into()));
                }
                *names += 1;
                let header = Header::link(&found, first)?;
                return self.write_header(&found, header, 0);
            }
            let first = (found.path.to_vec(), 1);
            self.links.insert(found.inode(), first);
        } else if found.stat.stx_nlink > 1 && kind != FileType::Directory {
            self.out.different(&found, Difference::Separate);
        }
        let mut header = Header::new(&found)?;
        let attributes = self.attributes(&found, &mut header)?;
        match kind {
            FileType::RegularFile => self.file(&found, header),
            FileType::Symlink => {
                let text = || format!("readlinkat({:?})", lossy(found.path));
                let target = rustix::fs::readlinkat(found.directory, found.name, Vec::new());
                header.target(target.call(text)?.to_bytes());
                self.write_header(&found, header, 0)
            }
            FileType::Directory => {
                self.grow(&found, attributes)?;
                if found.edge == Edge::Inside {
                    let directory = (found.path.into(), stamp(found.stat));
                    self.directories.push(directory);
                }
                self.write_header(&found, header, 0)
            }
            _ => self.write_header(&found, header, 0),
        }
    }
}

impl Packer<'_> {
    /// Adds the attributes to a header. Gives what they take in the extractor's memory.
    fn attributes(&mut self, found: &Found<'_>, header: &mut Header) -> Result<u64, Error> {
        let (mut count, mut memory) = (0, 0);
        for (name, value) in attributes::read(found.directory, found.name)? {
            if !header.attribute(found, &name, &value)? {
                let name = String::from_utf8_lossy(&name).into_owned();
                self.out.different(found, Difference::Attribute(name));
                continue;
            }
            count += 1;
            if count > self.limits.attributes {
                let limit = self.limits.attributes as u64;
                return Err(Error::limit(found, "extended attributes", limit));
            }
            let length = name.len() + value.len();
            if length > ATTRIBUTE {
                let name = String::from_utf8_lossy(&name).into_owned();
                let what = format!("bytes of the attribute {name:?}");
                return Err(Error::limit(found, &what, ATTRIBUTE as u64));
            }
            memory += length as u64 + 48;
        }
        Ok(memory)
    }

    /// Counts a directory as the extractor does.
    fn grow(&mut self, found: &Found<'_>, attributes: u64) -> Result<(), Error> {
        self.memory += found.path.len() as u64 + 64 + attributes;
        match self.memory > self.limits.directories {
            true => Err(Error::limit(
                found,
                "bytes of memory for directories",
                self.limits.directories,
            )),
            false => Ok(()),
        }
    }

    /// Writes a header that `content` bytes will follow, where the extractor will take it.
    fn write_header(
        &mut self,
        found: &Found<'_>,
        header: Header,
        content: u64,
    ) -> Result<(), Error> {
        let limits = &self.limits;
        Path::new(header.name(), limits).map_err(|error| match error {
            super::Error::Limit { what, limit, .. } => Error::limit(found, &what, limit),
            other => Error::Unfit {
                path: lossy(found.path),
                why: other.to_string(),
            },
        })?;
        if self.entries >= limits.entries {
            return Err(Error::limit(found, "entries", limits.entries));
        }
        let bytes = header.bytes();
        let length = bytes.len() as u64;
        // Its own header comes before a pax header, and the entry's after it.
        if length > limits.pax + 2 * BLOCK {
            return Err(Error::limit(
                found,
                "bytes of names and attributes",
                limits.pax,
            ));
        }
        let end = self.out.bytes + length + content.next_multiple_of(BLOCK) + 2 * BLOCK;
        if end > limits.bytes {
            return Err(Error::limit(found, "bytes of the archive", limits.bytes));
        }
        self.entries += 1;
        self.out.write(&bytes)
    }

    fn file(&mut self, found: &Found<'_>, mut header: Header) -> Result<(), Error> {
        if found.stat.stx_size > self.limits.file_length {
            let limit = self.limits.file_length;
            return Err(Error::limit(found, "bytes of one file", limit));
        }
        // Not blocking: somebody may have put a FIFO there since it was looked at.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = path::open(found.directory, found.name.to_bytes(), flags)?;
        // One is the hole at the end.
        let most = self.limits.stretches.saturating_sub(1);
        let content = content::Content::of(&file, found, most)?;
        if content.dense() {
            self.out.different(found, Difference::Dense(most));
        }
        let map = header.content(found, &content)?;
        self.write_header(found, header, map.len() as u64 + content.length())?;
        self.out.write(&map)?;
        content.write(&mut self.out)
    }

    /// Looks at each directory again.
    fn unchanged(&self, root: BorrowedFd<'_>) -> Result<(), Error> {
        for (at, before) in &self.directories {
            let flags = OFlags::RDONLY | path::DIRECTORY;
            let now = match path::if_there(path::open(root, at, flags))? {
                Some(directory) => Some(look(directory.as_fd(), c".", at)?),
                None => None,
            };
            if now.map(|stat| stamp(&stat)) != Some(*before) {
                return Err(Error::Changed(lossy(at)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
