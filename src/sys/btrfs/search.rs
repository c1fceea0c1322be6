//! Reads items of any tree of a btrfs. Needs root.
//!
//! The items are the kernel's in memory, not the disk's: what a running transaction has changed is seen,
//! and what waits in memory without having reached a tree (delayed items, data not yet allocated) is
//! not; after a `syncfs` nothing waits.

use super::{MAGIC, call};
use crate::sys::{Context, Result};
use core::ops::Range;
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};

/// Bytes for the results of a call. The largest item of the largest node (64 KiB) fits with its header.
const BUFFER: usize = 1 << 16;
/// Bytes of a `btrfs_ioctl_search_header`.
const HEADER: usize = 32;

/// `btrfs_ioctl_search_key`.
#[repr(C)]
struct SearchKey {
    tree_id: u64,
    min_objectid: u64,
    max_objectid: u64,
    min_offset: u64,
    max_offset: u64,
    min_transid: u64,
    max_transid: u64,
    min_type: u32,
    max_type: u32,
    nr_items: u32,
    unused: u32,
    reserved: [u64; 4],
}

/// `BTRFS_IOC_TREE_SEARCH_V2`, whose last field is an array of no length.
#[repr(C)]
struct SearchV2 {
    key: SearchKey,
    buf_size: u64,
}

/// The same with the room that `buf_size` promises.
#[repr(C)]
struct SearchV2Room {
    args: SearchV2,
    buf: [u8; BUFFER],
}

const TREE_SEARCH_V2: Opcode = opcode::read_write::<SearchV2>(MAGIC, 17);

/// Where an item lies in its tree; ordered as the tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// In a subvolume's tree, the inode.
    pub objectid: u64,
    /// What kind of item it is.
    pub kind: u8,
    /// Its meaning depends on the kind.
    pub offset: u64,
}

impl Key {
    /// The first key that an object can have.
    pub const fn first(objectid: u64) -> Key {
        Key {
            objectid,
            kind: 0,
            offset: 0,
        }
    }

    /// The last key that an object can have.
    pub const fn last(objectid: u64) -> Key {
        Key {
            objectid,
            kind: u8::MAX,
            offset: u64::MAX,
        }
    }

    /// The key after this one; `None` after the last of all.
    pub fn next(self) -> Option<Key> {
        if let Some(offset) = self.offset.checked_add(1) {
            return Some(Key { offset, ..self });
        }
        if let Some(kind) = self.kind.checked_add(1) {
            let offset = 0;
            return Some(Key {
                kind,
                offset,
                ..self
            });
        }
        self.objectid.checked_add(1).map(Key::first)
    }
}

/// Items in the order of the tree.
#[derive(Debug, Default)]
pub struct Items {
    bytes: Vec<u8>,
    index: Vec<(Key, Range<usize>)>,
}

impl Items {
    /// Takes apart what a search gave: `count` times a header {transid, objectid, offset: u64; type, len:
    /// u32} in the machine's byte order, and the item. `None` where it is not that.
    fn parse(bytes: Vec<u8>, count: u32) -> Option<Items> {
        let mut index = Vec::new();
        let mut at = 0usize;
        for _ in 0..count {
            let start = at.checked_add(HEADER)?;
            let header = bytes.get(at..start)?;
            let word = |from| Some(u64::from_ne_bytes(*header.get(from..)?.first_chunk()?));
            let half = |from| Some(u32::from_ne_bytes(*header.get(from..)?.first_chunk()?));
            let key = Key {
                objectid: word(8)?,
                kind: u8::try_from(half(24)?).ok()?,
                offset: word(16)?,
            };
            at = start.checked_add(usize::try_from(half(28)?).ok()?)?;
            bytes.get(start..at)?;
            index.push((key, start..at));
        }
        Some(Items { bytes, index })
    }

    /// Those from this key on.
    pub fn from(&self, key: Key) -> impl Iterator<Item = (Key, &[u8])> {
        let start = self.index.partition_point(|(found, _)| *found < key);
        let rest = self.index.get(start..).unwrap_or_default();
        rest.iter().map(|(key, range)| {
            let data = self.bytes.get(range.clone());
            (*key, data.unwrap_or_default())
        })
    }

    /// The key of the last one.
    pub fn last(&self) -> Option<Key> {
        self.index.last().map(|(key, _)| *key)
    }
}

/// Reads items of the tree from one key to another, both included, as many as fit into 64 KiB; none: there
/// are no more. Leaves that no transaction has written since `newer` are left out with all that lies in them;
/// with 0 nothing is. `any` is any directory of the file system. Since Linux 3.16.
pub fn search(any: impl AsFd, tree: u64, from: Key, to: Key, newer: u64) -> Result<Items> {
    let text =
        || format!("BTRFS_IOC_TREE_SEARCH_V2(tree {tree}, {from:?} to {to:?}, since {newer})");
    let mut room = Box::new(SearchV2Room {
        args: SearchV2 {
            key: SearchKey {
                tree_id: tree,
                min_objectid: from.objectid,
                max_objectid: to.objectid,
                min_offset: from.offset,
                max_offset: to.offset,
                min_transid: newer,
                max_transid: u64::MAX,
                min_type: from.kind.into(),
                max_type: to.kind.into(),
                nr_items: u32::MAX,
                unused: 0,
                reserved: [0; 4],
            },
            buf_size: BUFFER as u64,
        },
        buf: [0; BUFFER],
    });
    // SAFETY: TREE_SEARCH_V2 takes a btrfs_ioctl_search_args_v2 and writes at most `buf_size` bytes behind
    // it, where `buf` has as many: SearchV2 is a multiple of 8 bytes, so nothing lies between the two.
    unsafe { call::<TREE_SEARCH_V2, _>(any.as_fd(), &mut *room) }.call(text)?;
    Items::parse(room.buf.to_vec(), room.args.key.nr_items)
        .ok_or(Errno::BADMSG)
        .call(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_number_is_that_of_the_kernel_header_and_the_room_lies_behind_it() {
        assert_eq!(TREE_SEARCH_V2, 0xc070_9411u32);
        assert_eq!(
            core::mem::offset_of!(SearchV2Room, buf),
            size_of::<SearchV2>()
        );
    }

    #[test]
    fn keys_follow_each_other_through_all_three_fields() {
        let key = |objectid, kind, offset| Key {
            objectid,
            kind,
            offset,
        };
        for (this, next) in [
            (key(256, 1, 0), Some(key(256, 1, 1))),
            (key(256, 1, u64::MAX), Some(key(256, 2, 0))),
            (Key::last(256), Some(Key::first(257))),
            (Key::last(u64::MAX), None),
        ] {
            assert_eq!(this.next(), next, "{this:?}");
        }
    }

    #[test]
    fn items_are_found_by_their_keys_and_a_cut_answer_is_refused() {
        let item = |objectid: u64, data: &[u8]| {
            let mut bytes = Vec::new();
            for word in [7, objectid, 0] {
                bytes.extend(u64::to_ne_bytes(word));
            }
            bytes.extend(1u32.to_ne_bytes());
            bytes.extend(u32::try_from(data.len()).unwrap().to_ne_bytes());
            bytes.extend(data);
            bytes
        };
        let two = [item(256, b"one"), item(300, b"other")].concat();
        let items = Items::parse(two.clone(), 2).unwrap();
        let found: Vec<_> = items.from(Key::first(257)).collect();
        let key = Key {
            kind: 1,
            ..Key::first(300)
        };
        assert_eq!(found, [(key, b"other".as_slice())]);
        assert_eq!(items.last(), Some(key));
        assert_eq!(items.from(Key::first(256)).count(), 2);
        for cut in [0, 31, 34, two.len() - 1] {
            assert!(Items::parse(two[..cut].to_vec(), 2).is_none(), "{cut}");
        }
        let mut kind = two;
        kind[25] = 1;
        assert!(
            Items::parse(kind, 2).is_none(),
            "a type of more than a byte"
        );
    }
}
