//! The superblocks of btrfs.
//!
//! ```text
//! device  64 KiB  +---------------------------------------------------------------+
//!                 | 00 csum 32 | 20 fsid 16 | 30 bytenr | 38 flags | 40 _BHRfS_M  |
//!                 | 48 generation | 50 root | 58 chunk_root | 60 log_root | ...    |
//!                 | 88 num_devices | c4 csum_type (2) | c9 dev_item (98 bytes)      |
//!                 | 12b label 256 | ...                                   4096     |
//!                 +---------------------------------------------------------------+
//! dev_item (at c9): 00 devid 8 | ... | 42 uuid 16 | 52 fsid 16
//! ```
//! Source: `struct btrfs_super_block` and `struct btrfs_dev_item` of `<linux/btrfs_tree.h>`. The kernel
//! mounts from the primary alone. Mirrors lie at 64 MiB and 256 GiB and are read only where the primary's
//! checksum is wrong ([`restored`]); they differ from it in `bytenr`, which says where each lies, and in
//! the checksum. A full commit writes them all, an fsync only the primary.

use std::io::{Read, Seek};

use super::{Fields, Uuid, read_at};

/// Where the primary superblock lies, in bytes (`BTRFS_SUPER_INFO_OFFSET`).
pub const OFFSET: u64 = 64 * 1024;
/// How long it is, in bytes (`BTRFS_SUPER_INFO_SIZE`).
pub const SIZE: usize = 4096;

/// Where the mirrors lie, in bytes (`btrfs_sb_offset`); a short device has fewer.
pub const MIRRORS: [u64; 2] = [64 << 20, 256 << 30];

const MAGIC: &[u8; 8] = b"_BHRfS_M";
const AT_FSID: usize = 0x20;
const AT_BYTENR: usize = 0x30;
const AT_MAGIC: usize = 0x40;
const AT_GENERATION: usize = 0x48;
const AT_LOG_ROOT: usize = 0x60;
const AT_NUM_DEVICES: usize = 0x88;
const AT_CSUM_TYPE: usize = 0xc4;
const AT_DEV_ITEM: usize = 0xc9;
const AT_DEV_ITEM_UUID: usize = AT_DEV_ITEM + 0x42;
const AT_LABEL: usize = 0x12b;
const LABEL_SIZE: usize = 256;

/// `BTRFS_CSUM_TYPE_CRC32`: CRC-32C over all after the checksum field.
const CSUM_TYPE_CRC32C: u16 = 0;

/// Whether the superblock's own checksum fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// It fits.
    Good,
    /// It does not: torn or damaged. The kernel will refuse this device.
    Bad,
    /// Of a type that is not computed here (xxhash, sha256, blake2).
    NotChecked,
}

/// What early boot needs of a superblock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// The file system's UUID; the same on all its devices.
    pub fsid: Uuid,
    /// The file system's label.
    pub label: String,
    /// The transaction that wrote it last.
    pub generation: u64,
    /// Address of the log tree; 0 when there is nothing to replay. Not 0: any mount but one with
    /// `rescue=nologreplay` writes.
    pub log_root: u64,
    /// How many devices make up the file system.
    pub num_devices: u64,
    /// This device's number within the file system.
    pub devid: u64,
    /// This device's own UUID.
    pub device_uuid: Uuid,
    /// Whether the block is whole.
    pub checksum: Checksum,
}

/// Parses a superblock of [`SIZE`] bytes. `None`: no btrfs magic, or too short.
pub fn parse(block: &[u8]) -> Option<Superblock> {
    if &block.array::<8>(AT_MAGIC)? != MAGIC {
        return None;
    }
    Some(Superblock {
        fsid: Uuid(block.array(AT_FSID)?),
        label: block.text(AT_LABEL, LABEL_SIZE)?,
        generation: block.u64(AT_GENERATION)?,
        log_root: block.u64(AT_LOG_ROOT)?,
        num_devices: block.u64(AT_NUM_DEVICES)?,
        devid: block.u64(AT_DEV_ITEM)?,
        device_uuid: Uuid(block.array(AT_DEV_ITEM_UUID)?),
        checksum: checksum(block)?,
    })
}

fn crc32c(block: &[u8]) -> Option<u32> {
    Some(crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(block.get(AT_FSID..SIZE)?))
}

fn checksum(block: &[u8]) -> Option<Checksum> {
    if block.u16(AT_CSUM_TYPE)? != CSUM_TYPE_CRC32C {
        return Some(Checksum::NotChecked);
    }
    Some(if block.u32(0)? == crc32c(block)? {
        Checksum::Good
    } else {
        Checksum::Bad
    })
}

/// The primary superblock that belongs in the place of `torn`, made of the mirror at `at` bytes. `None`
/// unless all of this holds, as it does after a power cut while the primary was written:
///
/// * `torn` has magic and UUID (both the old block and the new one have them in their first sector), and
///   its checksum is wrong;
/// * the mirror's checksum is right, it says itself that it lies at `at`, and it is of the same file system
///   and device;
/// * it is at most one transaction away from what `torn` says.
pub fn restored(torn: &[u8], mirror: &[u8], at: u64) -> Option<Vec<u8>> {
    let (old, good) = (parse(torn)?, parse(mirror)?);
    let same = |superblock: &Superblock| {
        (
            superblock.fsid,
            superblock.devid,
            superblock.device_uuid,
            superblock.num_devices,
        )
    };
    let fits = old.checksum == Checksum::Bad
        && good.checksum == Checksum::Good
        && mirror.u64(AT_BYTENR)? == at
        && same(&old) == same(&good)
        && old.generation.abs_diff(good.generation) <= 1;
    if !fits {
        return None;
    }
    let mut block = mirror.get(..SIZE)?.to_vec();
    block
        .get_mut(AT_BYTENR..AT_BYTENR + 8)?
        .copy_from_slice(&OFFSET.to_le_bytes());
    let sum = crc32c(&block)?;
    block.get_mut(..4)?.copy_from_slice(&sum.to_le_bytes());
    Some(block)
}

/// Reads the block of the superblock at `at` bytes; `None` where the device ends before.
///
/// # Errors
/// An I/O error of the device.
pub fn block(device: &mut (impl Read + Seek), at: u64) -> std::io::Result<Option<Vec<u8>>> {
    read_at(device, at, SIZE)
}

/// Reads the primary superblock of `device`. `None`: it holds none.
///
/// # Errors
/// An I/O error of the device.
pub fn read(device: &mut (impl Read + Seek)) -> std::io::Result<Option<Superblock>> {
    Ok(read_at(device, OFFSET, SIZE)?.and_then(|block| parse(&block)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A superblock as mkfs would write it, with the checksum made right.
    pub(crate) fn sample(fsid: u8, devid: u64, device: u8, devices: u64) -> Vec<u8> {
        let mut block = vec![0_u8; SIZE];
        block[AT_FSID..AT_FSID + 16].fill(fsid);
        block[AT_MAGIC..AT_MAGIC + 8].copy_from_slice(MAGIC);
        block[AT_GENERATION] = 9;
        block[AT_NUM_DEVICES..AT_NUM_DEVICES + 8].copy_from_slice(&devices.to_le_bytes());
        block[AT_DEV_ITEM..AT_DEV_ITEM + 8].copy_from_slice(&devid.to_le_bytes());
        block[AT_DEV_ITEM_UUID..AT_DEV_ITEM_UUID + 16].fill(device);
        block[AT_LABEL..AT_LABEL + 4].copy_from_slice(b"root");
        seal(&mut block);
        block
    }

    pub(crate) fn seal(block: &mut [u8]) {
        let sum = crc32c(block).unwrap();
        block[..4].copy_from_slice(&sum.to_le_bytes());
    }

    /// A mirror of `sample`, as a full commit writes it.
    pub(crate) fn mirror(generation: u8) -> Vec<u8> {
        let mut block = sample(1, 1, 1, 1);
        block[AT_BYTENR..AT_BYTENR + 8].copy_from_slice(&MIRRORS[0].to_le_bytes());
        block[AT_GENERATION] = generation;
        seal(&mut block);
        block
    }

    /// A primary of this generation whose second half is of another one.
    pub(crate) fn torn(generation: u8) -> Vec<u8> {
        let mut block = sample(1, 1, 1, 1);
        block[AT_BYTENR..AT_BYTENR + 8].copy_from_slice(&OFFSET.to_le_bytes());
        block[AT_GENERATION] = generation;
        seal(&mut block);
        block[2048] ^= 1;
        block
    }

    #[test]
    fn the_fields_are_where_the_kernel_puts_them() {
        let mut block = sample(0xaa, 3, 0xbb, 2);
        block[AT_LOG_ROOT] = 1;
        seal(&mut block);
        let sb = parse(&block).unwrap();
        assert_eq!(sb.fsid, Uuid([0xaa; 16]));
        assert_eq!(
            (sb.label.as_str(), sb.generation, sb.log_root),
            ("root", 9, 1)
        );
        assert_eq!(
            (sb.num_devices, sb.devid, sb.device_uuid),
            (2, 3, Uuid([0xbb; 16]))
        );
        assert_eq!(sb.checksum, Checksum::Good);
    }

    #[test]
    fn a_torn_superblock_is_seen() {
        let mut block = sample(1, 1, 1, 1);
        block[2048] ^= 1;
        assert_eq!(parse(&block).unwrap().checksum, Checksum::Bad);
        block[AT_CSUM_TYPE] = 1;
        assert_eq!(parse(&block).unwrap().checksum, Checksum::NotChecked);
    }

    #[test]
    fn a_torn_primary_is_restored_from_a_whole_mirror_of_its_own() {
        for generation in [8, 9, 10] {
            let block = restored(&torn(9), &mirror(generation), MIRRORS[0]).unwrap();
            let sb = parse(&block).unwrap();
            assert_eq!(
                (sb.checksum, sb.generation),
                (Checksum::Good, generation.into())
            );
            assert_eq!(block.u64(AT_BYTENR), Some(OFFSET));
        }
    }

    #[test]
    fn nothing_is_restored_unless_all_of_it_fits() {
        let whole = sample(1, 1, 1, 1);
        let changed = |at: usize| {
            let mut block = mirror(9);
            block[at] ^= 1;
            seal(&mut block);
            block
        };
        let mut broken = mirror(9);
        broken[3000] ^= 1;
        let mut blank = torn(9);
        blank[..512].fill(0);
        for (primary, mirror, at, why) in [
            (whole, mirror(9), MIRRORS[0], "the primary is whole"),
            (torn(9), broken, MIRRORS[0], "the mirror is broken"),
            (
                torn(9),
                mirror(9),
                MIRRORS[1],
                "the mirror belongs elsewhere",
            ),
            (torn(9), mirror(7), MIRRORS[0], "the mirror is older"),
            (torn(9), mirror(11), MIRRORS[0], "the primary is older"),
            (torn(9), changed(AT_FSID), MIRRORS[0], "another file system"),
            (torn(9), changed(AT_DEV_ITEM), MIRRORS[0], "another device"),
            (
                torn(9),
                changed(AT_DEV_ITEM_UUID),
                MIRRORS[0],
                "another disk",
            ),
            (
                torn(9),
                changed(AT_CSUM_TYPE),
                MIRRORS[0],
                "another checksum",
            ),
            (
                blank,
                mirror(9),
                MIRRORS[0],
                "it may be something else by now",
            ),
            (torn(9), Vec::new(), MIRRORS[0], "no mirror"),
        ] {
            assert_eq!(restored(&primary, &mirror, at), None, "{why}");
        }
    }

    #[test]
    fn another_magic_is_no_btrfs() {
        let mut block = sample(1, 1, 1, 1);
        block[AT_MAGIC] = b'!';
        assert_eq!(parse(&block), None);
        assert_eq!(parse(&block[..100]), None);
    }
}
