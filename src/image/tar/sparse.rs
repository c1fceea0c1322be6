//! Maps of sparse files: where the data belongs.

use super::Sparse;
use super::header;
use super::pax::{SparseKeys, decimal};

/// In an old GNU header: the first descriptor, their number, the flag that more follow, the length.
const INLINE: (usize, usize, usize) = (386, 4, 482);
const REAL_SIZE: std::ops::Range<usize> = 483..495;
/// The same in a block of more descriptors.
const EXTENSION: (usize, usize, usize) = (0, 21, 504);

/// Checks a map against the file's length and the bytes of data in the archive. Stretches without
/// data, which mark an end, go.
///
/// # Errors
/// What is wrong, for people.
pub fn checked(map: Vec<(u64, u64)>, length: u64, data: u64) -> Result<Sparse, String> {
    let (mut end, mut sum) = (0u64, 0u64);
    for (offset, bytes) in &map {
        let next = offset.checked_add(*bytes);
        match next {
            Some(next) if *offset >= end && next <= length => {
                end = next;
                sum += bytes;
            }
            _ => return Err("its sparse map is out of order or leads beyond its end".into()),
        }
    }
    if sum != data {
        return Err(format!(
            "its sparse map is of {sum} bytes and the archive holds {data} for it"
        ));
    }
    let stretches = map.into_iter().filter(|(_, bytes)| *bytes != 0).collect();
    Ok(Sparse { stretches, length })
}

/// The map of PAX 0.0 and 0.1, if the header has one; `None` where the entry is not sparse.
///
/// # Errors
/// What is wrong, for people.
pub fn from_pax(keys: &SparseKeys, data: u64) -> Result<Option<Sparse>, String> {
    let none = *keys == SparseKeys::default();
    if none {
        return Ok(None);
    }
    let (Some(numbers), Some(length)) = (&keys.numbers, keys.length) else {
        return Err("its GNU.sparse records are incomplete".into());
    };
    let map = pairs(numbers)?;
    if keys.count.is_some_and(|count| count != map.len() as u64) {
        return Err("its sparse map has another number of stretches than it says".into());
    }
    checked(map, length, data).map(Some)
}

fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>, String> {
    let pair = |pair: &[u64]| match pair {
        [offset, bytes] => Ok((*offset, *bytes)),
        _ => Err("its sparse map has an offset without a length".to_owned()),
    };
    numbers.chunks(2).map(pair).collect()
}

/// Reads the text that a PAX 1.0 sparse file's data begins with, a block at a time.
#[derive(Default)]
pub struct Map10 {
    digits: Vec<u8>,
    expected: Option<u64>,
    numbers: Vec<u64>,
}

impl Map10 {
    /// Takes one block; `true` when the map is complete.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn block(&mut self, block: &[u8], stretches: usize) -> Result<bool, String> {
        for (at, byte) in block.iter().enumerate() {
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > 20 {
                    return Err("its sparse map is no list of numbers".into());
                }
                continue;
            }
            let number = decimal(&self.digits).ok_or("its sparse map is no list of numbers")?;
            self.digits.clear();
            match self.expected {
                None if number > stretches as u64 => {
                    return Err(format!("it is sparse in more than {stretches} stretches"));
                }
                None => self.expected = Some(number * 2),
                Some(_) => self.numbers.push(number),
            }
            if self.expected == Some(self.numbers.len() as u64) {
                let rest = block.get(at + 1..).unwrap_or_default();
                if rest.iter().any(|byte| *byte != 0) {
                    return Err("something follows its sparse map".into());
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Offsets and lengths.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn pairs(&self) -> Result<Vec<(u64, u64)>, String> {
        pairs(&self.numbers)
    }
}

/// The descriptors of an old GNU header, into `map`; whether a block of more follows.
///
/// # Errors
/// What is wrong, for people.
pub fn old_header(block: &[u8; 512], map: &mut Vec<(u64, u64)>) -> Result<bool, String> {
    descriptors(block, INLINE, map)
}

/// The same of a block of more descriptors.
///
/// # Errors
/// What is wrong, for people.
pub fn old_extension(block: &[u8; 512], map: &mut Vec<(u64, u64)>) -> Result<bool, String> {
    descriptors(block, EXTENSION, map)
}

/// The file's length in an old GNU header.
pub fn old_length(block: &[u8; 512]) -> Option<u64> {
    header::size(block.get(REAL_SIZE)?)
}

fn descriptors(
    block: &[u8; 512],
    (first, count, more): (usize, usize, usize),
    map: &mut Vec<(u64, u64)>,
) -> Result<bool, String> {
    for number in 0..count {
        let at = first + 24 * number;
        let field = |from: usize| block.get(at + from..at + from + 12).unwrap_or_default();
        let (offset, bytes) = (field(0), field(12));
        // An empty length ends the list.
        if bytes.first() == Some(&0) {
            break;
        }
        match (header::size(offset), header::size(bytes)) {
            (Some(offset), Some(bytes)) => map.push((offset, bytes)),
            _ => return Err("its sparse map is garbled".into()),
        }
    }
    Ok(block
        .get(more)
        .is_some_and(|flag| *flag != 0 && *flag != b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_must_be_in_order_within_the_file_and_as_long_as_its_data() {
        let good = checked(vec![(0, 5), (10, 5), (20, 0)], 20, 10).unwrap();
        assert_eq!(good.stretches, [(0, 5), (10, 5)]);
        for (map, length, data) in [
            (vec![(0, 5), (4, 5)], 20, 10),
            (vec![(10, 5), (0, 5)], 20, 10),
            (vec![(16, 5)], 20, 5),
            (vec![(u64::MAX, 5)], 20, 5),
            (vec![(0, 5)], 20, 6),
            (vec![(0, u64::MAX), (u64::MAX, 0)], 20, 0),
        ] {
            assert!(checked(map.clone(), length, data).is_err(), "{map:?}");
        }
    }

    #[test]
    fn a_map_in_the_data_is_read_over_blocks_and_bounded() {
        let mut map = Map10::default();
        let mut text = b"60\n".to_vec();
        for number in 0..120 {
            text.extend(format!("{}\n", 1_000_000 + number).bytes());
        }
        text.resize(1024, 0);
        assert_eq!(map.block(&text[..512], 100), Ok(false));
        assert_eq!(map.block(&text[512..], 100), Ok(true));
        assert_eq!(map.pairs().unwrap().len(), 60);
        assert!(Map10::default().block(b"101\n", 100).is_err());
        assert!(Map10::default().block(b"1\n1\n1\nx", 100).is_err());
        assert!(Map10::default().block(&[b'1'; 512], 100).is_err());
        assert_eq!(Map10::default().block(b"0\n\0\0", 100), Ok(true));
    }
}
