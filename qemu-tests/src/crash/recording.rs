//! What was written to a disk, in order, and where it was flushed.

use std::collections::HashMap;

use backstay::record::block::BLOCK;

use super::disk::Disk;

/// Where superblocks lie on a disk of ours, in bytes.
const SUPERBLOCKS: [u64; 2] = [64 << 10, 64 << 20];

/// One request of the block layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// These bytes went to this offset.
    Write {
        /// In bytes.
        offset: u64,
        /// Their content.
        bytes: Box<[u8]>,
    },
    /// What was written before is on the medium.
    Flush,
}

/// A write.
#[derive(Clone, Debug)]
pub struct Write {
    /// In bytes.
    pub offset: u64,
    /// The content.
    pub bytes: Box<[u8]>,
}

/// The writes between two flushes, and the disk before the first of them.
#[derive(Clone, Debug)]
pub struct Epoch {
    /// All earlier writes are on it.
    pub before: Disk,
    /// In flight together.
    pub writes: Vec<Write>,
}

/// A record over the disk on which it was made.
#[derive(Clone, Debug)]
pub struct Recording {
    /// In their order; none is empty.
    pub epochs: Vec<Epoch>,
    /// Flushes, also those without a write before them.
    pub flushes: usize,
    /// After all of it.
    pub end: Disk,
}

impl Recording {
    /// The numbers of the writes of blocks that are written again and again in place, and are no superblock: the
    /// slots of the records.
    #[must_use]
    pub fn in_place(&self) -> Vec<u64> {
        let writes = || self.epochs.iter().flat_map(|epoch| &epoch.writes);
        let mut times: HashMap<u64, usize> = HashMap::new();
        for write in writes().filter(|write| write.bytes.len() == BLOCK) {
            *times.entry(write.offset).or_default() += 1;
        }
        let slot = |write: &Write| {
            !SUPERBLOCKS.contains(&write.offset)
                && times.get(&write.offset).is_some_and(|times| *times > 1)
        };
        let all = (0..).zip(writes()).filter(|(_, write)| slot(write));
        all.map(|(number, _)| number).collect()
    }

    /// Orders `events`, which were recorded on `start`.
    #[must_use]
    pub fn new(start: Disk, events: &[Event]) -> Self {
        let mut recording = Self {
            epochs: Vec::new(),
            flushes: 0,
            end: start,
        };
        let mut open: Option<Epoch> = None;
        for event in events {
            match event {
                Event::Flush => {
                    recording.flushes += 1;
                    recording.epochs.extend(open.take());
                }
                Event::Write { offset, bytes } => {
                    let epoch = open.get_or_insert_with(|| Epoch {
                        before: recording.end.clone(),
                        writes: Vec::new(),
                    });
                    epoch.writes.push(Write {
                        offset: *offset,
                        bytes: bytes.clone(),
                    });
                    recording.end.write(*offset, bytes);
                }
            }
        }
        recording.epochs.extend(open);
        recording
    }

    /// The disk before the first write.
    #[must_use]
    pub fn start(&self) -> Disk {
        self.epochs
            .first()
            .map_or_else(|| self.end.clone(), |epoch| epoch.before.clone())
    }

    /// The writes again, with one flush after each epoch but the last.
    pub fn events(&self) -> impl Iterator<Item = Event> + '_ {
        self.epochs.iter().enumerate().flat_map(|(number, epoch)| {
            let writes = epoch.writes.iter().map(|write| Event::Write {
                offset: write.offset,
                bytes: write.bytes.clone(),
            });
            let last = number + 1 == self.epochs.len();
            writes.chain((!last).then_some(Event::Flush))
        })
    }

    /// How many writes there are.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.epochs.iter().map(|epoch| epoch.writes.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64, byte: u8) -> Event {
        Event::Write {
            offset,
            bytes: vec![byte; 512].into(),
        }
    }

    #[test]
    fn flushes_part_the_writes_and_each_part_knows_what_lay_before_it() {
        let events = [
            Event::Flush,
            write(0, 1),
            write(512, 2),
            Event::Flush,
            Event::Flush,
            write(0, 3),
        ];
        let recording = Recording::new(Disk::empty(1 << 20), &events);
        let lengths: Vec<usize> = recording.epochs.iter().map(|e| e.writes.len()).collect();
        assert_eq!((lengths, recording.flushes), (vec![2, 1], 3));
        let mut bytes = [0; 513];
        recording.epochs[1].before.read(0, &mut bytes);
        assert_eq!((bytes[0], bytes[512]), (1, 2));
        recording.end.read(0, &mut bytes);
        assert_eq!((bytes[0], bytes[512]), (3, 2));
    }

    #[test]
    fn what_is_written_again_in_place_and_is_no_superblock_is_a_slot() {
        let block = |offset| Event::Write {
            offset,
            bytes: vec![1; BLOCK].into(),
        };
        let [primary, mirror] = SUPERBLOCKS;
        let events = [
            block(primary),
            block(4096),
            block(8192),
            Event::Flush,
            block(mirror),
            block(4096),
            write(8192, 1),
            block(primary),
            block(mirror),
        ];
        let recording = Recording::new(Disk::empty(128 << 20), &events);
        assert_eq!(recording.in_place(), [1, 4]);
    }
}
