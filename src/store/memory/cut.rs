//! What a power cut may leave of a store in memory.
//!
//! A cut leaves the datasets as they were after any operation since the last one that was durable
//! as a whole (`sync`, `clone_to`). Small files may be ahead of the datasets: a later `fsync` writes
//! them, and their new names, to btrfs's log tree without what happened elsewhere. Nothing else is
//! ahead of anything. Slots are on disk at once; a write that is cut leaves garbage in its slot.

use super::shared::digest;
use super::{Content, Memory, World};
use crate::record::Uuid;
use crate::record::block::BLOCK;
use crate::store::place::{File, Set};
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};

/// Every distinct disk that a cut during a run may leave.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    seen: HashSet<u64>,
    /// In the order in which they were found.
    pub found: Vec<Memory>,
}

impl Cuts {
    /// Adds a disk; says whether it is new.
    pub fn add(&mut self, disk: Memory) -> bool {
        let new = self.seen.insert(disk.digest());
        if new {
            self.found.push(disk);
        }
        new
    }
}

impl Memory {
    /// A hash of all that is on disk, as the newest world has it. Of two sequence numbers it counts
    /// which is greater: else every start that is cut would leave a disk never seen before.
    pub fn digest(&self) -> u64 {
        let files = self.slots.values();
        let slots: Vec<_> = files.map(|bytes| in_order(bytes)).collect();
        digest(&(self.world(), slots))
    }

    /// From here on UUIDs count as new to an exploration.
    pub fn begin_exploration(&mut self) {
        self.floor = Some(self.uuids);
        self.operations = 0;
        self.looks.set(0);
        self.cuts = Some(Box::default());
    }

    /// Every store that a power cut now may leave, the oldest first.
    pub fn after_power_cut(&self) -> Vec<Memory> {
        let mut cuts = Cuts::default();
        self.each_left(&mut cuts);
        cuts.found
    }

    /// Adds what a power cut now may leave to what is being recorded, if anything is.
    pub fn note_cut(&mut self) {
        if let Some(mut cuts) = self.cuts.take() {
            self.each_left(&mut cuts);
            self.cuts = Some(cuts);
        }
    }

    /// The same for a cut in the middle of writing this slot.
    pub(super) fn note_torn(&mut self, file: File, slot: usize) {
        if let Some(mut cuts) = self.cuts.take() {
            let mut torn = self.clone();
            if let Some(bytes) = torn.slots.get_mut(&file) {
                bytes[slot * BLOCK..][..BLOCK].fill(0xa5);
            }
            torn.each_left(&mut cuts);
            self.cuts = Some(cuts);
        }
    }

    fn each_left(&self, cuts: &mut Cuts) {
        for (i, world) in self.worlds.iter().enumerate() {
            for ahead in &self.worlds[i..] {
                let mut left = world.clone();
                if left.files != ahead.files {
                    left.files = ahead.files.clone();
                    drop_files_without_directory(&mut left);
                }
                cuts.add(self.left(left));
            }
        }
    }

    /// A UUID for something new. While exploring, one of which nothing is left comes again, unless
    /// it was there before: else what is tried anew at every start would never repeat itself.
    pub(super) fn uuid(&mut self) -> Uuid {
        let Some(floor) = self.floor else {
            self.uuids += 1;
            return numbered(self.uuids);
        };
        let mut made = BTreeSet::new();
        for world in &self.worlds {
            for it in world.datasets.values() {
                made.insert(it.dataset.identity.uuid);
                made.extend(it.tree.values().filter_map(|content| match content {
                    Content::Nested(uuid) => Some(*uuid),
                    _ => None,
                }));
            }
        }
        let mut new = floor + 1..;
        let new = new.find(|new| !made.contains(&numbered(*new))).unwrap();
        self.uuids = self.uuids.max(new);
        numbered(new)
    }

    fn left(&self, world: World) -> Memory {
        Memory {
            slots: self.slots.clone(),
            layout: self.layout.clone(),
            uuids: self.uuids,
            floor: self.floor,
            changes: self.changes,
            broken: self.broken,
            tarball: self.tarball,
            worlds: vec![world],
            ..Memory::empty(self.layout.clone())
        }
    }
}

/// The two slots without checksums and numbers, and the order of their numbers. See record/block.rs
/// for the offsets.
fn in_order(bytes: &[u8]) -> ([&[u8]; 3], [&[u8]; 3], Ordering) {
    let slot = |at: usize| match bytes.get(at..bytes.len().min(at + BLOCK)) {
        Some(block) if block.len() == BLOCK && block.starts_with(b"BKST") => {
            let length = usize::from(u16::from_le_bytes([block[10], block[11]]));
            let seq = u64::from_le_bytes(block[12..20].try_into().unwrap());
            ([&block[..12], &block[20..20 + length], &[]], seq)
        }
        other => ([&[], &[], other.unwrap_or_default()], 0),
    };
    let ((one, first), (other, second)) = (slot(0), slot(BLOCK));
    (one, other, first.cmp(&second))
}

fn numbered(number: u64) -> Uuid {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Uuid(bytes)
}

fn drop_files_without_directory(world: &mut World) {
    let lost = |file: &File| match file {
        File::Manifest(Set::Snapshot(id)) | File::MenuCfg(Set::Snapshot(id)) => {
            !world.directories.contains(id)
        }
        _ => false,
    };
    let lost: Vec<File> = world.files.keys().copied().filter(lost).collect();
    for file in lost {
        world.files.remove(&file);
    }
}
