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
//! halves. Nothing is written but to `out`, which is the caller's to make whole or to drop.

mod content;
mod header;

use super::attributes;
use super::walk::{Edge, Found, Visitor, lossy, walk};
use crate::store::btrfs::path;
use crate::sys::{self, Context};
use header::Header;
use rustix::fd::BorrowedFd;
use rustix::fs::{FileType, OFlags};
use std::collections::HashMap;
use std::io::Write;

/// Bytes of a block: everything in an archive is a multiple of it.
const BLOCK: u64 = 512;

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
    /// A name that pax cannot hold.
    #[error("its attribute {0:?} is left out: no archive can hold that name")]
    Attribute(String),
    /// Extractors make hard links to files only.
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
/// and for what is different.
pub fn pack(
    root: BorrowedFd<'_>,
    out: &mut dyn Write,
    note: &mut dyn FnMut(Note),
) -> Result<Packed, Error> {
    let mut packer = Packer {
        out: Counted {
            out,
            bytes: 0,
            said: 0,
            note,
        },
        entries: 0,
        links: HashMap::new(),
    };
    walk(root, &mut packer)?;
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
    entries: u64,
    /// The first name of each file that has several.
    links: HashMap<(u32, u32, u64), Vec<u8>>,
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
                return self.write_header(header);
            }
            (_, Edge::Mount) => {
                self.out.different(&found, Difference::MountedFile);
                return Ok(());
            }
            (_, Edge::Subvolume) => self.out.different(&found, Difference::Subvolume),
            (_, Edge::Inside) => {}
        }
        if found.stat.stx_nlink > 1 && kind == FileType::RegularFile {
            if let Some(first) = self.links.get(&found.inode()) {
                let header = Header::link(&found, first)?;
                return self.write_header(header);
            }
            self.links.insert(found.inode(), found.path.to_vec());
        } else if found.stat.stx_nlink > 1 && kind != FileType::Directory {
            self.out.different(&found, Difference::Separate);
        }
        let mut header = Header::new(&found)?;
        for (name, value) in attributes::read(found.directory, found.name)? {
            if !header.attribute(&found, &name, &value)? {
                let name = String::from_utf8_lossy(&name).into_owned();
                self.out.different(&found, Difference::Attribute(name));
            }
        }
        match kind {
            FileType::RegularFile => self.file(&found, header),
            FileType::Symlink => {
                let text = || format!("readlinkat({:?})", lossy(found.path));
                let target = rustix::fs::readlinkat(found.directory, found.name, Vec::new());
                header.target(target.call(text)?.to_bytes());
                self.write_header(header)
            }
            _ => self.write_header(header),
        }
    }
}

impl Packer<'_> {
    fn write_header(&mut self, header: Header) -> Result<(), Error> {
        self.entries += 1;
        self.out.write(&header.bytes())
    }

    fn file(&mut self, found: &Found<'_>, mut header: Header) -> Result<(), Error> {
        // Not blocking: somebody may have put a FIFO there since it was looked at.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = path::open(found.directory, found.name.to_bytes(), flags)?;
        let content = content::Content::of(&file, found)?;
        let map = header.content(found, &content)?;
        self.write_header(header)?;
        self.out.write(&map)?;
        content.write(&mut self.out)
    }
}

#[cfg(test)]
mod tests;
