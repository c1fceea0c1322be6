//! The disks that a power cut may leave of a recording.
//!
//! Between two flushes a disk may do the writes in any order, and may have done any part of each. So what
//! a sector holds afterwards is what it held before, or what any of the writes in flight put there. Dropping
//! writes and keeping the others in their order makes every such disk: a reordering shows only where two
//! writes in flight overlap, and there it is the disk that lacks the later one.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};

use super::disk::{Disk, PAGE};
use super::random::Random;
use super::recording::{Epoch, Recording};

/// The least that a disk writes as a whole, in bytes.
const SECTOR: usize = 512;
/// Where btrfs has its superblocks, in bytes, as far as a disk of ours goes.
const PRIMARY: u64 = 64 << 10;

/// How the power went, in one recording.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// After this many writes; all before are there.
    Prefix(usize),
    /// In this epoch (counted from 0), with these of its pages in flight.
    Subset(usize, Kept),
    /// After this many writes, while one page of the next was written: these of its eight sectors are new.
    Torn {
        /// Whole writes before.
        writes: usize,
        /// Which page of the next write.
        page: usize,
        /// A bit for each sector.
        sectors: u8,
    },
}

/// Which pages in flight reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// A bit for each, the first the lowest; for few pages.
    Mask(u64),
    /// All but this one.
    AllBut(usize),
    /// This one alone.
    Only(usize),
    /// As this seed says.
    Seed(u64),
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cut::Prefix(writes) => write!(f, "p{writes}"),
            Cut::Subset(epoch, Kept::Mask(mask)) => write!(f, "s{epoch}m{mask:x}"),
            Cut::Subset(epoch, Kept::AllBut(page)) => write!(f, "s{epoch}b{page}"),
            Cut::Subset(epoch, Kept::Only(page)) => write!(f, "s{epoch}o{page}"),
            Cut::Subset(epoch, Kept::Seed(seed)) => write!(f, "s{epoch}r{seed:x}"),
            Cut::Torn {
                writes,
                page,
                sectors,
            } => write!(f, "t{writes}.{page}.{sectors:02x}"),
        }
    }
}

impl FromStr for Cut {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || format!("{text:?} is not the name of a state");
        let (kind, rest) = text.split_at_checked(1).with_context(unknown)?;
        Ok(match kind {
            "p" => Cut::Prefix(rest.parse().with_context(unknown)?),
            "s" => {
                let at = rest
                    .find(|c: char| !c.is_ascii_digit())
                    .with_context(unknown)?;
                let (epoch, kept) = rest.split_at(at);
                let (how, value) = kept.split_at(1);
                let hex = || u64::from_str_radix(value, 16).with_context(unknown);
                let kept = match how {
                    "m" => Kept::Mask(hex()?),
                    "r" => Kept::Seed(hex()?),
                    "b" => Kept::AllBut(value.parse().with_context(unknown)?),
                    "o" => Kept::Only(value.parse().with_context(unknown)?),
                    _ => bail!(unknown()),
                };
                Cut::Subset(epoch.parse().with_context(unknown)?, kept)
            }
            "t" => {
                let parts: Vec<&str> = rest.split('.').collect();
                let [writes, page, sectors] = parts.as_slice() else {
                    bail!(unknown());
                };
                Cut::Torn {
                    writes: writes.parse().with_context(unknown)?,
                    page: page.parse().with_context(unknown)?,
                    sectors: u8::from_str_radix(sectors, 16).with_context(unknown)?,
                }
            }
            _ => bail!(unknown()),
        })
    }
}

/// A page, or less, of a write in flight.
struct Piece<'a> {
    offset: u64,
    bytes: &'a [u8],
}

fn pages(epoch: &Epoch) -> impl Iterator<Item = Piece<'_>> {
    epoch.writes.iter().flat_map(|write| {
        write
            .bytes
            .chunks(PAGE)
            .zip(0..)
            .map(|(bytes, number)| Piece {
                offset: write.offset + number * PAGE as u64,
                bytes,
            })
    })
}

/// How many pages are in flight in an epoch.
#[must_use]
pub fn in_flight(epoch: &Epoch) -> usize {
    epoch
        .writes
        .iter()
        .map(|write| write.bytes.len().div_ceil(PAGE))
        .sum()
}

impl Recording {
    /// The epoch of the write with this number, and its place in it.
    fn find(&self, mut write: usize) -> Option<(&Epoch, usize)> {
        for epoch in &self.epochs {
            if write < epoch.writes.len() {
                return Some((epoch, write));
            }
            write -= epoch.writes.len();
        }
        None
    }

    /// The disk that a cut leaves.
    ///
    /// # Errors
    /// Where the recording has no such place.
    pub fn disk(&self, cut: &Cut) -> Result<Disk> {
        match cut {
            Cut::Prefix(writes) => self.prefix(*writes),
            Cut::Subset(epoch, kept) => {
                let epoch = self.epochs.get(*epoch).context("there is no such epoch")?;
                let mut disk = epoch.before.clone();
                let mut random = match kept {
                    Kept::Seed(seed) => Random::new(*seed),
                    _ => Random::new(0),
                };
                // Few, half or most of them.
                let odds = 1 + random.below(7);
                for (number, piece) in pages(epoch).enumerate() {
                    let there = match kept {
                        Kept::Mask(mask) => mask >> number & 1 == 1,
                        Kept::AllBut(page) => number != *page,
                        Kept::Only(page) => number == *page,
                        Kept::Seed(_) => random.below(8) < odds,
                    };
                    if there {
                        disk.write(piece.offset, piece.bytes);
                    }
                }
                Ok(disk)
            }
            Cut::Torn {
                writes,
                page,
                sectors,
            } => {
                let mut disk = self.prefix(*writes)?;
                let (epoch, at) = self.find(*writes).context("there is no such write")?;
                let write = &epoch.writes[at];
                for (bytes, number) in write.bytes.chunks(SECTOR).zip(0..) {
                    let (of, bit) = (number / (PAGE / SECTOR), number % (PAGE / SECTOR));
                    // The pages of the write before the torn one are whole, those behind it are not there.
                    if of < *page || (of == *page && sectors >> bit & 1 == 1) {
                        disk.write(write.offset + (number * SECTOR) as u64, bytes);
                    }
                }
                Ok(disk)
            }
        }
    }

    fn prefix(&self, writes: usize) -> Result<Disk> {
        if writes == self.writes() {
            return Ok(self.end.clone());
        }
        let (epoch, at) = self.find(writes).context("there is no such write")?;
        let mut disk = epoch.before.clone();
        for write in &epoch.writes[..at] {
            disk.write(write.offset, &write.bytes);
        }
        Ok(disk)
    }

    /// Whether the cut tears the primary superblock.
    #[must_use]
    pub fn tears_superblock(&self, cut: &Cut) -> bool {
        let Cut::Torn { writes, page, .. } = cut else {
            return false;
        };
        self.find(*writes)
            .is_some_and(|(epoch, at)| epoch.writes[at].offset + (page * PAGE) as u64 == PRIMARY)
    }

    /// All prefixes, in an order that a seed makes.
    pub fn prefixes(&self, random: &mut Random) -> Vec<Cut> {
        let mut all: Vec<Cut> = (0..=self.writes()).map(Cut::Prefix).collect();
        random.shuffle(&mut all);
        all
    }

    /// Subsets of what is in flight: all of them where there are at most `few` pages, else `samples` an epoch.
    pub fn subsets(&self, random: &mut Random, few: usize, samples: usize) -> Vec<Cut> {
        let mut all = Vec::new();
        for (number, epoch) in self.epochs.iter().enumerate() {
            let pages = in_flight(epoch);
            if pages <= few {
                all.extend((0..1_u64 << pages).map(|mask| Cut::Subset(number, Kept::Mask(mask))));
                continue;
            }
            for _ in 0..samples {
                let kept = match random.below(4) {
                    0 => Kept::AllBut(random.below(pages as u64) as usize),
                    1 => Kept::Only(random.below(pages as u64) as usize),
                    _ => Kept::Seed(random.word() >> 32),
                };
                all.push(Cut::Subset(number, kept));
            }
        }
        random.shuffle(&mut all);
        all
    }

    /// Torn writes: `samples` for each write, of the primary superblock or of all else.
    pub fn torn(&self, random: &mut Random, superblock: bool, samples: usize) -> Vec<Cut> {
        let mut all = Vec::new();
        let writes = self.epochs.iter().flat_map(|epoch| &epoch.writes);
        for (number, write) in writes.enumerate() {
            for _ in 0..samples {
                let pages = write.bytes.len().div_ceil(PAGE) as u64;
                let cut = Cut::Torn {
                    writes: number,
                    page: random.below(pages) as usize,
                    sectors: 1 + random.below(254) as u8,
                };
                if self.tears_superblock(&cut) == superblock {
                    all.push(cut);
                }
            }
        }
        random.shuffle(&mut all);
        all
    }
}

/// A cut, and the cuts during the recoveries after it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(pub Vec<Cut>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, cut) in self.0.iter().enumerate() {
            let slash = if number == 0 { "" } else { "/" };
            write!(f, "{slash}{cut}")?;
        }
        Ok(())
    }
}

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let cuts = text
            .split('/')
            .map(str::parse)
            .collect::<Result<Vec<Cut>>>()?;
        ensure!(!cuts.is_empty(), "no state is named");
        Ok(Self(cuts))
    }
}

#[cfg(test)]
mod tests {
    use super::super::recording::Event;
    use super::*;
    use std::collections::HashSet;

    fn write(offset: u64, byte: u8, length: usize) -> Event {
        Event::Write {
            offset,
            bytes: vec![byte; length].into(),
        }
    }

    fn recording() -> Recording {
        let events = [
            write(0, 1, 4096),
            Event::Flush,
            write(0, 2, 4096),
            write(8192, 3, 8192),
            write(0, 4, 4096),
            Event::Flush,
            write(PRIMARY, 5, 4096),
        ];
        Recording::new(Disk::empty(1 << 20), &events)
    }

    fn bytes(disk: &Disk) -> [u8; 3] {
        [0, 8192, 12288].map(|at| {
            let mut byte = [0];
            disk.read(at, &mut byte);
            byte[0]
        })
    }

    #[test]
    fn a_prefix_has_what_came_before_and_nothing_else() {
        let recording = recording();
        let at = |writes| bytes(&recording.disk(&Cut::Prefix(writes)).unwrap());
        assert_eq!(at(0), [0, 0, 0]);
        assert_eq!(at(1), [1, 0, 0]);
        assert_eq!(at(3), [2, 3, 3]);
        assert_eq!(at(5), [4, 3, 3]);
        assert!(recording.disk(&Cut::Prefix(6)).is_err());
    }

    #[test]
    fn subsets_are_all_disks_that_any_order_of_the_writes_in_flight_can_leave() {
        let recording = recording();
        let cuts = recording.subsets(&mut Random::new(1), 6, 0);
        let disks = |epoch: usize| -> HashSet<[u8; 3]> {
            let of = cuts
                .iter()
                .filter(|cut| matches!(cut, Cut::Subset(e, _) if *e == epoch));
            of.map(|cut| bytes(&recording.disk(cut).unwrap())).collect()
        };
        // The first page: as before, by the first write, or by the last, whichever was done last.
        let mut wanted = HashSet::new();
        for first in [1, 2, 4] {
            for (second, third) in [(0, 0), (3, 0), (0, 3), (3, 3)] {
                wanted.insert([first, second, third]);
            }
        }
        assert_eq!(disks(1), wanted);
    }

    #[test]
    fn a_torn_page_is_new_in_some_of_its_sectors() {
        let recording = recording();
        let cut = Cut::Torn {
            writes: 2,
            page: 1,
            sectors: 0b1000_0010,
        };
        let mut read = [0; 8192];
        recording.disk(&cut).unwrap().read(8192, &mut read);
        let sectors: Vec<u8> = read.chunks(512).map(|sector| sector[0]).collect();
        assert_eq!(sectors, [3, 3, 3, 3, 3, 3, 3, 3, 0, 3, 0, 0, 0, 0, 0, 3]);
        assert!(!recording.tears_superblock(&cut));
        let all = recording.torn(&mut Random::new(1), true, 3);
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|cut| recording.tears_superblock(cut)));
    }

    #[test]
    fn every_state_has_a_name_that_is_read_back() {
        let recording = recording();
        let mut random = Random::new(3);
        let cuts = recording
            .prefixes(&mut random)
            .into_iter()
            .chain(recording.subsets(&mut random, 1, 9))
            .chain(recording.torn(&mut random, false, 2));
        for cut in cuts {
            let name = Name(vec![cut.clone(), Cut::Prefix(3)]);
            assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
        }
        for text in ["", "p", "x3", "s3", "s3m", "s3q1", "t1.2", "p1/", "p-1"] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }
}
