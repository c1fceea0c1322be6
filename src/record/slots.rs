//! Two blocks written in turn: the reader takes the newer whole one.

use super::block::{BLOCK, Block, Record, TooLarge, decode, encode};

/// What the two slots of a file hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slots<T> {
    /// Both slots are all zeros: nothing was ever recorded here.
    Empty,
    /// The newest whole record.
    Valid {
        /// The record.
        value: T,
        /// Its sequence number and the slot (0 or 1) it lies in.
        at: Position,
        /// The other slot is neither whole nor zero: a write was torn, or the disk garbled it.
        torn: bool,
    },
    /// Written by a newer backstay; holds its format version.
    Newer(u16),
    /// No slot is whole and at least one is not zero.
    Damaged,
}

/// Where the present record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Sequence number of the present record; 0 when there is none.
    pub seq: u64,
    /// The slot it lies in, 0 or 1.
    pub slot: usize,
}

impl Position {
    /// The position before anything was written: the next write goes to slot 0 with number 1.
    pub const START: Position = Position { seq: 0, slot: 1 };

    /// Where the next record goes: the other slot, the next number.
    pub fn next(self) -> Position {
        Position {
            seq: self.seq.saturating_add(1),
            slot: self.slot ^ 1,
        }
    }
}

/// Reads both slots of a file. A missing or short file is damaged, not empty.
pub fn read<T: Record>(bytes: &[u8]) -> Slots<T> {
    let slots = [
        decode::<T>(bytes),
        decode::<T>(bytes.get(BLOCK..).unwrap_or_default()),
    ];
    let torn = slots.iter().any(|slot| matches!(slot, Block::Damaged));
    let mut newest: Option<(T, Position)> = None;
    let mut zeros = 0;
    for (slot, block) in slots.into_iter().enumerate() {
        match block {
            Block::Newer(version) => return Slots::Newer(version),
            Block::Zero => zeros += 1,
            Block::Valid { seq, value } if newest.as_ref().is_none_or(|(_, at)| seq > at.seq) => {
                newest = Some((value, Position { seq, slot }));
            }
            Block::Valid { .. } | Block::Damaged => {}
        }
    }
    match newest {
        Some((value, at)) => Slots::Valid { value, at, torn },
        None if zeros == 2 => Slots::Empty,
        None => Slots::Damaged,
    }
}

/// The bytes of the next record and the byte offset in the file where they go.
pub fn next<T: Record>(at: Position, value: &T) -> Result<(Position, [u8; BLOCK]), TooLarge> {
    let next = at.next();
    Ok((next, encode(next.seq, value)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Number(u32);
    impl Record for Number {
        const MAGIC: [u8; 8] = *b"number\0\0";
    }

    fn file(blocks: [Option<(u64, u32)>; 2]) -> Vec<u8> {
        blocks
            .into_iter()
            .flat_map(|block| match block {
                Some((seq, n)) => encode(seq, &Number(n)).unwrap(),
                None => [0; BLOCK],
            })
            .collect()
    }

    #[test]
    fn the_newer_of_two_whole_slots_is_read() {
        for (blocks, want, slot) in [
            ([Some((1, 10)), None], 10, 0),
            ([None, Some((1, 10))], 10, 1),
            ([Some((1, 10)), Some((2, 20))], 20, 1),
            ([Some((3, 30)), Some((2, 20))], 30, 0),
        ] {
            match read::<Number>(&file(blocks)) {
                Slots::Valid { value, at, torn } => {
                    assert_eq!((value, at.slot, torn), (Number(want), slot, false));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn writing_takes_the_other_slot_each_time() {
        let mut bytes = file([None, None]);
        let mut at = Position::START;
        for n in 1..10u32 {
            let (next, block) = next(at, &Number(n)).unwrap();
            bytes[next.slot * BLOCK..][..BLOCK].copy_from_slice(&block);
            at = next;
            let Slots::Valid {
                value, at: found, ..
            } = read::<Number>(&bytes)
            else {
                panic!()
            };
            assert_eq!((value, found), (Number(n), at));
        }
    }

    #[test]
    fn every_torn_write_leaves_the_older_record_and_says_so() {
        let old = file([Some((1, 10)), Some((2, 20))]);
        let new = encode(3, &Number(30)).unwrap();
        for pieces in 1..(1u32 << 8) - 1 {
            let mut bytes = old.clone();
            for piece in (0..8).filter(|piece| pieces & (1 << piece) != 0) {
                let range = piece * 512..(piece + 1) * 512;
                bytes[range.clone()].copy_from_slice(&new[range]);
            }
            match read::<Number>(&bytes) {
                Slots::Valid {
                    value: Number(20),
                    torn: true,
                    ..
                } => {}
                // the pieces that differ all arrived, or none of them did
                Slots::Valid {
                    value: Number(30 | 20),
                    torn: false,
                    ..
                } => {
                    let same = bytes[..BLOCK] == new[..] || bytes == old;
                    assert!(same, "{pieces:08b}");
                }
                other => panic!("{pieces:08b}: {other:?}"),
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let good = file([Some((1, 10)), None]);
        for bit in 0..BLOCK * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read::<Number>(&bytes), Slots::Damaged, "bit {bit}");
        }
    }

    #[test]
    fn zeros_are_empty_and_anything_short_is_damaged() {
        assert_eq!(read::<Number>(&file([None, None])), Slots::Empty);
        let whole = file([Some((1, 10)), None]);
        for length in [0, 1, 20, BLOCK - 1] {
            assert_eq!(read::<Number>(&whole[..length]), Slots::Damaged);
        }
    }

    #[test]
    fn a_newer_format_in_either_slot_is_named() {
        for slot in 0..2 {
            let mut bytes = file([Some((1, 10)), Some((2, 20))]);
            let block = &mut bytes[slot * BLOCK..][..BLOCK];
            block[8] = 7;
            let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&block[..BLOCK - 4]);
            block[BLOCK - 4..].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(read::<Number>(&bytes), Slots::Newer(7));
        }
    }
}
