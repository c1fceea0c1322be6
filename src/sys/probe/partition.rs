//! The identifiers of a partition: PARTUUID and PARTLABEL, from GPT or the MBR's disk signature.
//!
//! Read from the disk itself: sysfs has the label (`PARTNAME`) but, on the kernels of today, not the
//! UUID. Only the primary GPT is read, as the kernel's own parser had to accept it for the partition to
//! exist; where it is damaged the partition simply has no PARTUUID here.
//!
//! GPT: UEFI specification 2.10, 5.3.2 and 5.3.3. MBR: disk signature at 0x1b8, 0x55aa at 0x1fe.

use std::io::{Read, Seek};

use super::{Fields, read_at};

const HEADER_SIZE: usize = 92;
/// The specification's minimum; larger entries keep these fields first.
const ENTRY_MIN: u32 = 128;
/// More would be no table that anybody made; it bounds what is read.
const ENTRY_MAX: u32 = 4096;
const NAME_UNITS: usize = 36;

/// What names a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// As `PARTUUID=` gives it, lower case: a UUID (GPT), or `XXXXXXXX-NN` (MBR).
    pub uuid: Option<String>,
    /// The GPT partition name.
    pub label: Option<String>,
}

/// Reads what names partition `number` (from 1) of `disk`, whose logical blocks have `block` bytes.
///
/// # Errors
/// An I/O error of the disk.
pub fn read(disk: &mut (impl Read + Seek), block: u64, number: u32) -> std::io::Result<Identity> {
    if let Some(identity) = read_gpt(disk, block, number)? {
        return Ok(identity);
    }
    let Some(mbr) = read_at(disk, 0, 512)? else {
        return Ok(Identity::default());
    };
    let signature = (mbr.u16(0x1fe) == Some(0xaa55))
        .then(|| mbr.u32(0x1b8))
        .flatten();
    let uuid = signature
        .filter(|s| *s != 0)
        .map(|s| format!("{s:08x}-{number:02x}"));
    Ok(Identity { uuid, label: None })
}

fn read_gpt(
    disk: &mut (impl Read + Seek),
    block: u64,
    number: u32,
) -> std::io::Result<Option<Identity>> {
    let Some(header) = read_at(disk, block, HEADER_SIZE)? else {
        return Ok(None);
    };
    let Some(at) = entry_offset(&header, block, number) else {
        return Ok(None);
    };
    let Some(entry) = read_at(disk, at, ENTRY_MIN as usize)? else {
        return Ok(None);
    };
    Ok(parse_entry(&entry))
}

fn entry_offset(header: &[u8], block: u64, number: u32) -> Option<u64> {
    if &header.array::<8>(0)? != b"EFI PART" {
        return None;
    }
    let (start, count, size) = (header.u64(72)?, header.u32(80)?, header.u32(84)?);
    if number == 0 || number > count || !(ENTRY_MIN..=ENTRY_MAX).contains(&size) {
        return None;
    }
    start
        .checked_mul(block)?
        .checked_add(u64::from(number - 1) * u64::from(size))
}

fn parse_entry(entry: &[u8]) -> Option<Identity> {
    let unique: [u8; 16] = entry.array(16)?;
    if unique == [0; 16] {
        return None;
    }
    let units: Vec<u16> = (0..NAME_UNITS)
        .map_while(|i| entry.u16(56 + 2 * i))
        .take_while(|unit| *unit != 0)
        .collect();
    let label = String::from_utf16_lossy(&units);
    Some(Identity {
        uuid: Some(mixed_endian(unique)),
        label: (!label.is_empty()).then_some(label),
    })
}

/// GPT keeps the first three fields little-endian (UEFI specification, appendix A).
fn mixed_endian([a, b, c, d, e, f, g, h, rest @ ..]: [u8; 16]) -> String {
    let [i, j, k, l, m, n, o, p] = rest;
    super::Uuid([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn gpt(block: usize) -> Vec<u8> {
        let mut disk = vec![0_u8; block * 8];
        let header = &mut disk[block..];
        header[..8].copy_from_slice(b"EFI PART");
        header[72..80].copy_from_slice(&2_u64.to_le_bytes());
        header[80..84].copy_from_slice(&4_u32.to_le_bytes());
        header[84..88].copy_from_slice(&128_u32.to_le_bytes());
        let entry = &mut disk[2 * block + 128..];
        for (i, byte) in entry[16..32].iter_mut().enumerate() {
            *byte = i as u8;
        }
        entry[56] = b'o';
        entry[58] = b's';
        disk
    }

    #[test]
    fn a_gpt_entry_gives_uuid_and_label_at_either_block_size() {
        for block in [512, 4096] {
            let mut disk = Cursor::new(gpt(block));
            let identity = read(&mut disk, block as u64, 2).unwrap();
            assert_eq!(
                identity.uuid.as_deref(),
                Some("03020100-0504-0706-0809-0a0b0c0d0e0f")
            );
            assert_eq!(identity.label.as_deref(), Some("os"));
            for number in [0, 1, 5, u32::MAX] {
                assert_eq!(
                    read(&mut disk, block as u64, number).unwrap(),
                    Identity::default()
                );
            }
        }
    }

    #[test]
    fn an_mbr_gives_the_signature_and_the_number() {
        let mut disk = vec![0_u8; 4096];
        disk[0x1b8..0x1bc].copy_from_slice(&0xdead_beef_u32.to_le_bytes());
        disk[0x1fe] = 0x55;
        disk[0x1ff] = 0xaa;
        let identity = read(&mut Cursor::new(disk), 512, 1).unwrap();
        assert_eq!(identity.uuid.as_deref(), Some("deadbeef-01"));
    }

    #[test]
    fn nonsense_in_the_header_reads_nothing_and_does_not_overflow() {
        let mut disk = gpt(512);
        disk[512 + 72..512 + 80].fill(0xff);
        assert_eq!(
            read(&mut Cursor::new(disk), 512, 2).unwrap(),
            Identity::default()
        );
    }
}
