//! The superblock of ext2, ext3 and ext4: only what names the file system.
//!
//! Source: Documentation/filesystems/ext4/super.rst: at 1024 bytes, `s_magic` 0x38, `s_uuid` 0x68,
//! `s_volume_name` 0x78.

use std::io::{Read, Seek};

use super::{Fields, Uuid, read_at};

const OFFSET: u64 = 1024;
const SIZE: usize = 1024;
const MAGIC: u16 = 0xef53;

/// What names an ext file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Its UUID.
    pub uuid: Uuid,
    /// Its label.
    pub label: String,
}

/// Parses a superblock. `None`: no ext magic, or too short.
pub fn parse(block: &[u8]) -> Option<Superblock> {
    if block.u16(0x38)? != MAGIC {
        return None;
    }
    Some(Superblock {
        uuid: Uuid(block.array(0x68)?),
        label: block.text(0x78, 16)?,
    })
}

/// Reads the superblock of `device`. `None`: it holds none.
///
/// # Errors
/// An I/O error of the device.
pub fn read(device: &mut (impl Read + Seek)) -> std::io::Result<Option<Superblock>> {
    Ok(read_at(device, OFFSET, SIZE)?.and_then(|block| parse(&block)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_and_label_are_read_after_the_magic_fits() {
        let mut block = vec![0_u8; SIZE];
        assert_eq!(parse(&block), None);
        block[0x38..0x3a].copy_from_slice(&MAGIC.to_le_bytes());
        block[0x68..0x78].fill(5);
        block[0x78..0x7c].copy_from_slice(b"boot");
        let sb = parse(&block).unwrap();
        assert_eq!((sb.uuid, sb.label.as_str()), (Uuid([5; 16]), "boot"));
    }
}
