//! The boot sector of FAT, and the label that lies in its root directory.
//!
//! Source: Microsoft's "FAT: General Overview of On-Disk Format", version 1.03: BPB_BytsPerSec 11,
//! BPB_SecPerClus 13, BPB_RsvdSecCnt 14, BPB_NumFATs 16, BPB_RootEntCnt 17, BPB_FATSz16 22, BPB_FATSz32
//! 36, BPB_RootClus 44; BS_VolID and BS_VolLab at 39 and 43, in FAT32 at 67 and 71. A directory entry
//! has 32 bytes: the name in 11, the attributes at 11, of which 8 means a label.

use std::io::{Read, Seek};

use super::{Fields, read_at};

const SECTOR: usize = 512;
const ENTRY: usize = 32;
/// Entries of the root directory that are looked at: a label is among the first.
const ENTRIES: usize = 512;
const ATTR_LABEL: u8 = 0x08;
/// The parts of a long name have all of the low four attributes.
const ATTR_LONG_NAME: u8 = 0x0f;
const DELETED: u8 = 0xe5;

/// What names a FAT file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its serial number.
    pub serial: u32,
    /// Its label.
    pub label: String,
}

impl Volume {
    /// The serial number as blkid writes it: `1A2B-3C4D`.
    pub fn id(&self) -> String {
        format!("{:04X}-{:04X}", self.serial >> 16, self.serial & 0xffff)
    }
}

/// A boot sector, and in bytes from the device's start where the root directory begins.
fn parse(sector: &[u8]) -> Option<(Volume, u64)> {
    let byte = |at: usize| sector.get(at).copied();
    let jump = matches!(byte(0)?, 0xeb | 0xe9);
    let (bytes, cluster) = (sector.u16(11)?, byte(13)?);
    let fats = byte(16)?;
    let sane = matches!(bytes, 512 | 1024 | 2048 | 4096) && cluster.is_power_of_two();
    if !jump || !sane || fats == 0 || sector.u16(510)? != 0xaa55 {
        return None;
    }
    let is_32 = sector.u16(22)? == 0;
    let (serial, label, kind) = if is_32 { (67, 71, 82) } else { (39, 43, 54) };
    if sector.get(kind..kind + 3)? != b"FAT" {
        return None;
    }
    let (bytes, fats) = (u64::from(bytes), u64::from(fats));
    let reserved = u64::from(sector.u16(14)?);
    let size = match is_32 {
        true => u64::from(sector.u32(36)?),
        false => u64::from(sector.u16(22)?),
    };
    let tables = reserved + fats * size;
    let root = match is_32 {
        // Clusters are counted from 2.
        true => tables + u64::from(sector.u32(44)?.checked_sub(2)?) * u64::from(cluster),
        false => tables,
    };
    let volume = Volume {
        serial: sector.u32(serial)?,
        label: name(sector.get(label..label + 11)?),
    };
    Some((volume, root * bytes))
}

/// A label without its padding; what mkfs writes for none is none.
fn name(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field);
    let text = text.trim_end_matches([' ', '\0']);
    match text {
        "NO NAME" => String::new(),
        text => text.to_owned(),
    }
}

/// The label among the entries of a root directory.
fn label(directory: &[u8]) -> Option<String> {
    let entries = directory.chunks_exact(ENTRY);
    let mut used = entries.take_while(|entry| entry.first().is_some_and(|first| *first != 0));
    let entry = used.find(|entry| {
        let attributes = entry.get(11).copied().unwrap_or(0);
        attributes & ATTR_LABEL != 0
            && attributes & ATTR_LONG_NAME != ATTR_LONG_NAME
            && entry.first() != Some(&DELETED)
    })?;
    Some(name(entry.get(..11)?))
}

/// Reads the boot sector of `device`, and its label from the root directory, where every system but
/// mkfs.fat writes it alone. `None`: it holds no FAT.
///
/// # Errors
/// An I/O error of the device.
pub fn read(device: &mut (impl Read + Seek)) -> std::io::Result<Option<Volume>> {
    let Some((mut volume, root)) = read_at(device, 0, SECTOR)?.and_then(|sector| parse(&sector))
    else {
        return Ok(None);
    };
    if let Some(directory) = read_at(device, root, ENTRIES * ENTRY)?
        && let Some(label) = label(&directory)
    {
        volume.label = label;
    }
    Ok(Some(volume))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A FAT as mkfs.fat makes it, of 64 KiB, with its root directory at sector 9.
    fn image(kind: &[u8; 8], label: &[u8; 11], in_root: Option<&[u8; 11]>) -> Vec<u8> {
        let mut image = vec![0_u8; 64 * 1024];
        let is_32 = kind.starts_with(b"FAT32");
        image[0] = 0xeb;
        image[11..13].copy_from_slice(&512_u16.to_le_bytes());
        image[13] = 2;
        image[14..16].copy_from_slice(&1_u16.to_le_bytes());
        image[16] = 2;
        let (serial, at, name) = match is_32 {
            true => {
                image[36..40].copy_from_slice(&3_u32.to_le_bytes());
                image[44..48].copy_from_slice(&3_u32.to_le_bytes());
                (67, 71, 82)
            }
            false => {
                image[22..24].copy_from_slice(&4_u16.to_le_bytes());
                (39, 43, 54)
            }
        };
        image[serial..serial + 4].copy_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
        image[at..at + 11].copy_from_slice(label);
        image[name..name + 8].copy_from_slice(kind);
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        if let Some(label) = in_root {
            let root = 9 * 512;
            // A part of a long name and a deleted label come before it.
            image[root] = b'A';
            image[root + 11] = ATTR_LONG_NAME;
            image[root + 32] = DELETED;
            image[root + 32 + 11] = ATTR_LABEL;
            image[root + 64..root + 64 + 11].copy_from_slice(label);
            image[root + 64 + 11] = ATTR_LABEL;
        }
        image
    }

    #[test]
    fn serial_and_label_are_read_from_both_kinds_and_the_root_directory_knows_better() {
        for kind in [b"FAT16   ", b"FAT32   "] {
            for (boot, root, label) in [
                (b"RECOVERY   ", None, "RECOVERY"),
                (b"NO NAME    ", None, ""),
                (b"NO NAME    ", Some(b"RECOVERY   "), "RECOVERY"),
                (b"OLD        ", Some(b"NEW LABEL  "), "NEW LABEL"),
            ] {
                let found = read(&mut Cursor::new(image(kind, boot, root))).unwrap();
                let found = found.unwrap();
                assert_eq!(
                    (found.label.as_str(), found.id().as_str()),
                    (label, "1A2B-3C4D")
                );
            }
        }
    }

    #[test]
    fn a_partition_table_and_a_short_device_are_no_fat() {
        let mut table = vec![0_u8; SECTOR];
        table[510..512].copy_from_slice(&[0x55, 0xaa]);
        for bytes in [table, vec![0xeb; 100], vec![0xff; SECTOR]] {
            assert_eq!(read(&mut Cursor::new(bytes)).unwrap(), None);
        }
    }
}
