//! Compares two datasets by btrfs's own trees. Needs root; nothing is opened by a path inside a dataset, nothing is
//! written, and a power cut leaves nothing behind.
//!
//! ```text
//! ancestor.rs   where do the two come from, and since which transaction do they go their own ways?
//! tree.rs       items of the inodes in younger leaves: candidates, few of many
//! changed.rs    each is read in full in both: those that differ, and the directories above them
//! walk.rs       both trees from the root, by path, past everything that is not among those
//! inode.rs      what lies at a path in one tree and in the other, compared
//! item.rs       the kernel's bytes
//! ```
//!
//! Where no common ancestor is known (the factory's snapshot was unpacked from an archive), everything is a candidate,
//! and both trees are read as a whole.
//!
//! In the end only paths count. That an inode's number was given out again after the two had parted is no case of its
//! own: what lies at a path before is compared with what lies there after.
//!
//! What is not compared: times, and the flags of chattr. What is compared but not read: data, which is the same if it
//! lies in the same place. So a file that was rewritten with the same bytes, or defragmented, is said to have
//! another content; and while the data of a file system is being balanced, one that is being moved can be, too.

mod ancestor;
mod changed;
mod inode;
mod item;
mod tree;
mod walk;

use super::{Btrfs, Doing, Result};
use crate::store::StoreError;
use crate::store::difference::{Compared, Difference};
use crate::store::place::Place;
use crate::sys::btrfs as ioctl;
use crate::sys::btrfs::search::{Key, search};
use core::ops::ControlFlow;
use item::{Origin, ROOT_ITEM};
use std::collections::BTreeSet;
use tree::Tree;
use walk::Walk;

/// The tree that has an item for each subvolume (`BTRFS_ROOT_TREE_OBJECTID`).
const ROOT_TREE: u64 = 1;

impl Btrfs {
    /// Gives what differs between two datasets, in the order of the paths' bytes, until `found` breaks. Nothing
    /// is written, and no link is followed.
    ///
    /// What was written lately is compared as far as it has reached the trees: a [`sync`](crate::store::Store::sync)
    /// before sees to that, and a file system that is mounted read-only needs none. What is written meanwhile is
    /// seen, or not.
    pub fn differences(
        &self,
        from: Place,
        to: Place,
        found: &mut dyn FnMut(Difference) -> ControlFlow<()>,
    ) -> Result<Compared> {
        let [one, other] = [from, to].map(|place| {
            let fd = self.inside(place)?;
            ioctl::info(fd).doing(|| format!("reading the identity of {place:?}"))
        });
        let (one, other) = (one?, other?);
        let origins = self.origins()?;
        let since = ancestor::parted(&origins.0, one.uuid, other.uuid);
        let mut from = Tree::new(self.top(), one.id);
        let mut to = Tree::new(self.top(), other.id);
        let marked = match since {
            None => None,
            Some(since) => {
                let mut young = BTreeSet::new();
                from.young(since, &mut young)?;
                to.young(since, &mut young)?;
                Some(changed::changed(&mut from, &mut to, young)?)
            }
        };
        let mut walk = Walk {
            from: &mut from,
            to: &mut to,
            marked,
        };
        walk.run(found)?;
        Ok(Compared {
            related: since.is_some(),
            searches: origins.1 + from.searches + to.searches,
        })
    }

    /// Where each subvolume comes from, and how many searches that took. One whose item is of the old form, without a
    /// UUID, is left out: it is nobody's ancestor.
    fn origins(&self) -> Result<(Vec<Origin>, u64)> {
        let mut origins = Vec::new();
        let mut searches = 0;
        // The top level's item lies before all others.
        let mut next = Some(Key::first(ioctl::TOP_LEVEL));
        while let Some(from) = next {
            let last = Key::last(ioctl::LAST_INODE);
            searches += 1;
            let items = search(self.top(), ROOT_TREE, from, last, 0)
                .doing(|| "reading which subvolumes there are")?;
            for (key, item) in items.from(from).filter(|(key, _)| key.kind == ROOT_ITEM) {
                // The form before UUIDs has 239 bytes.
                match item::origin(item) {
                    Some(origin) if origin.uuid != [0; 16] => origins.push(origin),
                    None if item.len() < 239 => {
                        return Err(StoreError::System(format!(
                            "the root tree: {key:?} is not what the kernel writes"
                        )));
                    }
                    _ => {}
                }
            }
            next = items.last().and_then(Key::next);
        }
        Ok((origins, searches))
    }
}
