//! A disk in memory: pages of 4 KiB over a base that never changes, and a digest of the difference.
//!
//! Copies share their pages, so that a state costs what it changes. Two disks over one base hold the
//! same bytes exactly if their digests are equal (but for a collision of 128 bits).

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// Bytes in a page: the sector of the file systems here, and the largest piece that is torn.
pub const PAGE: usize = 4096;

/// A page's bytes.
pub type Page = Arc<[u8; PAGE]>;

/// The pages that are not zero, by their number, and the disk's length.
#[derive(Debug, Default)]
pub struct Base {
    /// Bytes.
    pub size: u64,
    /// Page numbers and pages.
    pub pages: HashMap<u64, Page>,
}

/// A disk: a base, and what differs from it.
#[derive(Clone, Debug)]
pub struct Disk {
    base: Arc<Base>,
    changed: HashMap<u64, (Page, u128)>,
    digest: u128,
}

/// What a page adds to the digest; the sum does not depend on the order of the writes.
fn share(number: u64, page: &[u8; PAGE]) -> u128 {
    let hash = Sha256::new()
        .chain_update(number.to_le_bytes())
        .chain_update(page)
        .finalize();
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    u128::from_le_bytes(half)
}

impl Disk {
    /// An empty disk of this many bytes.
    #[must_use]
    pub fn empty(size: u64) -> Self {
        Self::over(Arc::new(Base {
            size,
            pages: HashMap::new(),
        }))
    }

    /// A disk that is as its base.
    #[must_use]
    pub fn over(base: Arc<Base>) -> Self {
        Self {
            base,
            changed: HashMap::new(),
            digest: 0,
        }
    }

    /// What it differs from.
    #[must_use]
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.base.size
    }

    /// Equal for equal contents over the same base.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// What differs from the base, in the order of the disk.
    #[must_use]
    pub fn changes(&self) -> Vec<(u64, Page)> {
        let mut pages: Vec<_> = self
            .changed
            .iter()
            .map(|(number, (page, _))| (*number, page.clone()))
            .collect();
        pages.sort_unstable_by_key(|(number, _)| *number);
        pages
    }

    /// The same contents as a base of their own.
    #[must_use]
    pub fn into_base(self) -> Arc<Base> {
        let mut pages = self.base.pages.clone();
        for (number, (page, _)) in self.changed {
            pages.insert(number, page);
        }
        pages.retain(|_, page| page.iter().any(|byte| *byte != 0));
        Arc::new(Base {
            size: self.base.size,
            pages,
        })
    }

    /// Every page that is not zero, in no order.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &Page)> {
        let base = self.base.pages.iter();
        let unchanged = base.filter(|(number, _)| !self.changed.contains_key(number));
        let changed = self
            .changed
            .iter()
            .map(|(number, (page, _))| (number, page));
        unchanged
            .chain(changed)
            .map(|(number, page)| (*number, page))
    }

    fn page(&self, number: u64) -> Option<&Page> {
        match self.changed.get(&number) {
            Some((page, _)) => Some(page),
            None => self.base.pages.get(&number),
        }
    }

    /// Fills `buffer` from `offset`; what lies behind the end reads as zeros.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) {
        for (number, inside, at, length) in pieces(offset, buffer.len()) {
            let target = &mut buffer[at..at + length];
            match self.page(number) {
                Some(page) => target.copy_from_slice(&page[inside..inside + length]),
                None => target.fill(0),
            }
        }
    }

    /// Writes `bytes` at `offset`.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (number, inside, at, length) in pieces(offset, bytes.len()) {
            let mut page = self.page(number).map_or([0; PAGE], |page| **page);
            page[inside..inside + length].copy_from_slice(&bytes[at..at + length]);
            self.put(number, page);
        }
    }

    fn put(&mut self, number: u64, page: [u8; PAGE]) {
        if let Some((_, share)) = self.changed.remove(&number) {
            self.digest = self.digest.wrapping_sub(share);
        }
        let same = match self.base.pages.get(&number) {
            Some(base) => **base == page,
            None => page == [0; PAGE],
        };
        if !same {
            let share = share(number, &page);
            self.digest = self.digest.wrapping_add(share);
            self.changed.insert(number, (Arc::new(page), share));
        }
    }
}

/// The pieces of a range: page number, offset in the page, offset in the buffer, length.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let page = PAGE as u64;
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == length {
            return None;
        }
        let place = offset + at as u64;
        let inside = (place % page) as usize;
        let take = (PAGE - inside).min(length - at);
        let piece = (place / page, inside, at, take);
        at += take;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_across_pages_and_zeros_elsewhere() {
        let mut disk = Disk::empty(1 << 20);
        let bytes: Vec<u8> = (0..9000_u32).map(|n| n as u8 | 1).collect();
        disk.write(4000, &bytes);
        let mut read = vec![7; 9002];
        disk.read(3999, &mut read);
        assert_eq!((read[0], read[9001]), (0, 0));
        assert_eq!(&read[1..9001], bytes);
    }

    #[test]
    fn the_digest_knows_contents_and_not_history() {
        let mut disk = Disk::empty(1 << 20);
        disk.write(0, &[1; 4096]);
        let first = disk.digest();
        disk.write(8192, &[2; 512]);
        assert_ne!(disk.digest(), first);
        disk.write(8192, &[0; 512]);
        assert_eq!(disk.digest(), first);
        let mut moved = Disk::empty(1 << 20);
        moved.write(4096, &[1; 4096]);
        assert_ne!(moved.digest(), first, "the place counts");

        let copy = Disk::over(disk.clone().into_base());
        assert_eq!((copy.digest(), copy.changes().len()), (0, 0));
        let mut read = [0; 1];
        copy.read(4095, &mut read);
        assert_eq!(read, [1]);
    }
}
