//! One block of 4 KiB: a header, a postcard payload, zeros, a CRC-32.
//!
//! ```text
//! offset  size  field
//!      0     8  magic, one for each kind of record
//!      8     2  format version, little-endian
//!     10     2  payload length in bytes, little-endian
//!     12     8  sequence number, little-endian
//!     20     n  payload (postcard)
//!   20+n     …  zeros
//!   4092     4  CRC-32 (ISO-HDLC) of all bytes before it, little-endian
//! ```
//! Changing any of this is a format break.

use crc::{CRC_32_ISO_HDLC, Crc};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Bytes in a block: one btrfs sector, so that a write of it is one write.
pub const BLOCK: usize = 4096;
const HEADER: usize = 20;
const CRC_AT: usize = BLOCK - 4;
/// The largest payload that fits, in bytes.
pub const PAYLOAD: usize = CRC_AT - HEADER;
/// The format that this code writes, and the newest that it reads.
pub const VERSION: u16 = 1;

/// The agent keeps its tables small; tests read records millions of times.
#[cfg(not(test))]
type Tables = crc::Table<1>;
#[cfg(test)]
type Tables = crc::Table<16>;

static CRC: Crc<u32, Tables> = Crc::<u32, Tables>::new(&CRC_32_ISO_HDLC);

/// A record that has a block of its own kind.
pub trait Record: Serialize + DeserializeOwned {
    /// Eight bytes that no other kind of record begins with.
    const MAGIC: [u8; 8];
}

/// What a block turned out to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block<T> {
    /// Nothing was ever written: all zeros.
    Zero,
    /// A record, with its sequence number.
    Valid {
        /// Grows with each write; the greater of two slots is the present one.
        seq: u64,
        /// The record.
        value: T,
    },
    /// Whole, but written by a newer backstay, with this version of the format: nothing may be changed.
    Newer(u16),
    /// Torn, garbled, or of another kind.
    Damaged,
}

/// A record does not fit into its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the record does not fit into its block of 4096 bytes")]
pub struct TooLarge;

/// Makes the block that holds `value`.
pub fn encode<T: Record>(seq: u64, value: &T) -> Result<[u8; BLOCK], TooLarge> {
    let payload = postcard::to_allocvec(value).map_err(|_| TooLarge)?;
    let length = u16::try_from(payload.len()).map_err(|_| TooLarge)?;
    let mut bytes = Vec::with_capacity(BLOCK);
    bytes.extend_from_slice(&T::MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&seq.to_le_bytes());
    bytes.extend_from_slice(&payload);
    if bytes.len() > CRC_AT {
        return Err(TooLarge);
    }
    bytes.resize(CRC_AT, 0);
    let crc = CRC.checksum(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    <[u8; BLOCK]>::try_from(bytes).map_err(|_| TooLarge)
}

/// Reads a block; never fails, says what it found. Shorter input counts as damaged.
pub fn decode<T: Record>(bytes: &[u8]) -> Block<T> {
    let Some(bytes) = bytes.first_chunk::<BLOCK>() else {
        return Block::Damaged;
    };
    if bytes.iter().all(|byte| *byte == 0) {
        return Block::Zero;
    }
    parse(bytes).unwrap_or(Block::Damaged)
}

fn parse<T: Record>(bytes: &[u8; BLOCK]) -> Option<Block<T>> {
    let (body, crc) = bytes.split_at_checked(CRC_AT)?;
    if CRC.checksum(body) != u32::from_le_bytes(crc.try_into().ok()?) {
        return None;
    }
    if body.get(..8)? != T::MAGIC {
        return None;
    }
    let version = u16::from_le_bytes(body.get(8..10)?.try_into().ok()?);
    if version > VERSION {
        return Some(Block::Newer(version));
    }
    let length = usize::from(u16::from_le_bytes(body.get(10..12)?.try_into().ok()?));
    let seq = u64::from_le_bytes(body.get(12..HEADER)?.try_into().ok()?);
    let payload = body.get(HEADER..HEADER.checked_add(length)?)?;
    Some(match postcard::take_from_bytes::<T>(payload) {
        Ok((value, [])) => Block::Valid { seq, value },
        // Its checksum is right, so somebody wrote this, and knew more than is known here.
        _ => Block::Newer(version),
    })
}
