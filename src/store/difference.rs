//! What differs between two datasets: the data, and nothing of how it is found.
//!
//! A difference is one path. A directory that was renamed is one removed and one added, with all that
//! lies below it; a file with two names that was changed is two. Times are no difference.

use super::{Node, shown};

/// One path that is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Below the dataset, without a leading slash, in bytes; empty: the dataset's own directory.
    pub path: Vec<u8>,
    /// What lies there after, or lay there before where nothing does after.
    pub node: Node,
    /// What became of it.
    pub change: Change,
    /// Bytes of the regular file that was there before; `None`: none was.
    pub before: Option<u64>,
    /// Bytes of the regular file that is there after; `None`: none is.
    pub after: Option<u64>,
}

impl Difference {
    /// The path for a message, on one line.
    pub fn name(&self) -> String {
        shown(&self.path)
    }
}

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// Nothing was there before.
    Added,
    /// Nothing is there after.
    Removed,
    /// Something was and is there.
    Changed(What),
}

/// What differs of something that is there before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// The bytes of a file or the target of a symbolic link. Said too where the same bytes were written
    /// once more: the store compares where they lie, and does not read them.
    Content,
    /// Owner, group, mode, device number, or an extended attribute (access lists and capabilities are such).
    Metadata,
    /// Both of them.
    Both,
    /// It was another kind of thing: a directory that is a file now.
    Kind,
}

impl What {
    /// What is to be said of something that kept its kind; `None`: nothing.
    pub fn of(content: bool, metadata: bool) -> Option<What> {
        match (content, metadata) {
            (true, true) => Some(What::Both),
            (true, false) => Some(What::Content),
            (false, true) => Some(What::Metadata),
            (false, false) => None,
        }
    }
}

/// How a comparison went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Whether a common ancestor is known, so that what both still share was not read.
    pub related: bool,
    /// Times that the kernel was asked for items of a tree.
    pub searches: u64,
}
