//! The tar format, from bytes to entries.
//!
//! ```text
//! reader.rs    blocks → entries and their data; the end of the archive
//! header.rs    the fields of one block, strictly
//! pax.rs       extended headers
//! sparse.rs    maps of sparse files, in each of the four forms
//! ```
//!
//! tar-core knows the layout of headers and checks their sums. Its parser is not used, because in what
//! it takes for granted it disagrees with this module's rule that an archive has one meaning or none:
//! as of 0.1.0 it refuses times before 1970, drops the upper bits of a base-256 size, stops silently at
//! a PAX record that it cannot read, and takes PAX's size for the length of a sparse 1.0 file's data
//! although its map belongs to it.
//!
//! Where two readers of tar might disagree about where an entry begins, or what it is called, the
//! archive is refused: that is how CVE-2025-62518, CVE-2026-33055 and their like smuggle entries.

mod header;
mod pax;
mod reader;
mod sparse;

pub use reader::Reader;

/// Whether these bytes begin with the header of an archive, be it of a form that is not taken.
pub fn is_header(start: &[u8]) -> bool {
    let block: Option<&[u8; 512]> = start.first_chunk();
    block.is_some_and(|block| header::is_whole(tar_core::Header::from_bytes(block)))
}

/// One entry: what is to be made, and with what metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path as the archive has it, unchecked.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permissions, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of its data.
    pub mtime: Time,
    /// Bytes of data that follow in the archive.
    pub size: u64,
    /// Where they belong, when there are holes between them.
    pub sparse: Option<Sparse>,
    /// Extended attributes as the kernel takes them: name and value, no name twice.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of a file that came before.
    HardLink(Vec<u8>),
    /// A symbolic link with this target.
    Symlink(Vec<u8>),
    /// A character device, major and minor.
    Character(u32, u32),
    /// A block device, major and minor.
    Block(u32, u32),
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// Seconds since 1970, and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// May be negative.
    pub seconds: i64,
    /// Less than a thousand million.
    pub nanoseconds: u32,
}

/// A file with holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sparse {
    /// Offset and length of each stretch of data, in order, none over another, none beyond the end.
    pub stretches: Vec<(u64, u64)>,
    /// The file's length.
    pub length: u64,
}
