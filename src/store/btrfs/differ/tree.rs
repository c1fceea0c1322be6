//! Reads the tree of a subvolume: an inode, or which inodes lie in young leaves.
//!
//! The kernel gives 64 KiB of items at a time, some two hundred inodes. The last such pieces are kept, because what
//! was made together lies together.

use super::super::{Doing, Result};
use super::inode::{Inode, Parts};
use super::walk::Inodes;
use crate::store::StoreError;
use crate::sys::btrfs::search::{Items, Key, search};
use crate::sys::btrfs::{LAST_INODE, SUBVOLUME_INODE};
use rustix::fd::BorrowedFd;
use std::collections::{BTreeSet, VecDeque};

/// Pieces that are kept: 1 MiB of a tree.
const KEPT: usize = 16;

/// All items from one key to another.
struct Piece {
    first: Key,
    /// Where the next piece begins; `None`: the tree ends here.
    next: Option<Key>,
    items: Items,
}

impl Piece {
    fn has(&self, key: Key) -> bool {
        self.first <= key && self.next.is_none_or(|next| key < next)
    }
}

/// The tree of a subvolume.
pub struct Tree<'a> {
    top: BorrowedFd<'a>,
    id: u64,
    /// The last one used first.
    pieces: VecDeque<Piece>,
    /// Calls of the kernel so far.
    pub searches: u64,
}

impl<'a> Tree<'a> {
    /// That of the subvolume with this id.
    pub fn new(top: BorrowedFd<'a>, id: u64) -> Tree<'a> {
        Tree {
            top,
            id,
            pieces: VecDeque::new(),
            searches: 0,
        }
    }

    fn search(&mut self, from: Key, newer: u64) -> Result<Items> {
        self.searches += 1;
        search(self.top, self.id, from, Key::last(LAST_INODE), newer)
            .doing(|| format!("reading subvolume {}", self.id))
    }

    /// The piece with this key.
    fn piece(&mut self, key: Key) -> Result<&Piece> {
        let kept = self.pieces.iter().position(|piece| piece.has(key));
        let piece = match kept.and_then(|at| self.pieces.remove(at)) {
            Some(piece) => piece,
            None => {
                let items = self.search(key, 0)?;
                Piece {
                    first: key,
                    next: items.last().and_then(Key::next),
                    items,
                }
            }
        };
        self.pieces.truncate(KEPT - 1);
        self.pieces.push_front(piece);
        self.pieces.front().ok_or_else(|| {
            StoreError::System(format!("reading subvolume {}: nothing kept", self.id))
        })
    }

    /// The inodes of which an item lies in a leaf that was written in this transaction or later, and their
    /// neighbours there.
    pub fn young(&mut self, since: u64, found: &mut BTreeSet<u64>) -> Result<()> {
        let mut next = Some(Key::first(SUBVOLUME_INODE));
        while let Some(from) = next {
            let items = self.search(from, since)?;
            found.extend(items.from(from).map(|(key, _)| key.objectid));
            next = items.last().and_then(Key::next);
        }
        Ok(())
    }
}

impl Inodes for Tree<'_> {
    fn inode(&mut self, number: u64) -> Result<Option<Inode>> {
        let id = self.id;
        let mut parts = Parts::default();
        let mut from = Some(Key::first(number));
        while let Some(key) = from
            && key.objectid == number
        {
            let piece = self.piece(key)?;
            let mine = piece.items.from(key);
            for (key, item) in mine.take_while(|(key, _)| key.objectid == number) {
                parts.add(key, item).ok_or_else(|| {
                    StoreError::System(format!(
                        "subvolume {id}: {key:?} is not what the kernel writes"
                    ))
                })?;
            }
            from = piece.next;
        }
        Ok(parts.inode())
    }
}
