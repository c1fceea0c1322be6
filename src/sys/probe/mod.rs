//! What a block device holds: superblocks read by hand, nothing written, no library.
//!
//! Owns: the layout of the few structures that early boot needs (btrfs, swap, ext4, FAT, ISO 9660, GPT and MBR
//! identifiers). Every field is read through a bounds-checked reader: a device may hold anything.

pub mod btrfs;
pub mod ext4;
pub mod fat;
pub mod iso9660;
pub mod partition;
pub mod swap;

use std::io::{Read, Seek, SeekFrom};

pub use crate::record::Uuid;

/// What was found on a device. Several can be true only by accident: the first match of btrfs, ext4,
/// swap, ISO 9660, FAT counts, as an old signature may survive a new file system's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A member of a btrfs file system.
    Btrfs(Box<btrfs::Superblock>),
    /// ext2, ext3 or ext4.
    Ext(ext4::Superblock),
    /// Swap, or a hibernation image in it.
    Swap(swap::Header),
    /// ISO 9660, with its label.
    Iso(String),
    /// FAT.
    Fat(fat::Volume),
    /// Nothing that is known here.
    Unknown,
}

impl Content {
    /// The file system's UUID, written as blkid writes it.
    pub fn uuid(&self) -> Option<Uuid> {
        match self {
            Content::Btrfs(sb) => Some(sb.fsid),
            Content::Ext(sb) => Some(sb.uuid),
            Content::Swap(header) => header.uuid,
            Content::Iso(_) | Content::Fat(_) | Content::Unknown => None,
        }
    }

    /// What `UUID=` names it by, as blkid writes it: of FAT the serial number.
    pub fn id(&self) -> Option<String> {
        match self {
            Content::Fat(volume) => Some(volume.id()),
            other => other.uuid().map(|uuid| uuid.to_string()),
        }
    }

    /// The name of the file system's type, as mount(2) takes it.
    pub fn fs_type(&self) -> Option<&'static str> {
        match self {
            Content::Btrfs(_) => Some("btrfs"),
            Content::Ext(_) => Some("ext4"),
            Content::Iso(_) => Some("iso9660"),
            Content::Fat(_) => Some("vfat"),
            Content::Swap(_) | Content::Unknown => None,
        }
    }

    /// The file system's label, if it has one.
    pub fn label(&self) -> Option<&str> {
        let label = match self {
            Content::Btrfs(sb) => &sb.label,
            Content::Ext(sb) => &sb.label,
            Content::Swap(header) => &header.label,
            Content::Iso(label) => label,
            Content::Fat(volume) => &volume.label,
            Content::Unknown => return None,
        };
        (!label.is_empty()).then_some(label)
    }
}

/// Reads what `device` holds.
///
/// # Errors
/// An I/O error of the device; one that is too short for a structure simply does not hold it.
pub fn probe(device: &mut (impl Read + Seek)) -> std::io::Result<Content> {
    if let Some(sb) = btrfs::read(device)? {
        return Ok(Content::Btrfs(Box::new(sb)));
    }
    if let Some(sb) = ext4::read(device)? {
        return Ok(Content::Ext(sb));
    }
    if let Some(header) = swap::read(device, 0)? {
        return Ok(Content::Swap(header));
    }
    // A disc that also boots as a disk has a partition table in its first sector, and no FAT.
    if let Some(label) = iso9660::read(device)? {
        return Ok(Content::Iso(label));
    }
    if let Some(volume) = fat::read(device)? {
        return Ok(Content::Fat(volume));
    }
    Ok(Content::Unknown)
}

/// Reads `length` bytes at `offset`; `None` where the device ends before.
pub(super) fn read_at(
    device: &mut (impl Read + Seek),
    offset: u64,
    length: usize,
) -> std::io::Result<Option<Vec<u8>>> {
    match device.seek(SeekFrom::Start(offset)) {
        Ok(_) => {}
        // A block device refuses a place behind its end; a file does not.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut buffer = vec![0; length];
    match device.read_exact(&mut buffer) {
        Ok(()) => Ok(Some(buffer)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Bounds-checked little-endian fields.
pub(super) trait Fields {
    /// `N` bytes at `at`.
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]>;
    /// A 16-bit number.
    fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }
    /// A 32-bit number.
    fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }
    /// A 64-bit number.
    fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
    /// Text of at most `length` bytes that ends at the first NUL; what is not UTF-8 is replaced.
    fn text(&self, at: usize, length: usize) -> Option<String>;
}

impl Fields for [u8] {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn text(&self, at: usize, length: usize) -> Option<String> {
        let field = self.get(at..at.checked_add(length)?)?;
        let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// As the kernel answers for a block device of this many bytes.
    struct BlockDevice(u64);

    impl Seek for BlockDevice {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            match to {
                SeekFrom::Start(at) if at <= self.0 => Ok(at),
                _ => Err(std::io::Error::from_raw_os_error(libc::EINVAL)),
            }
        }
    }

    impl Read for BlockDevice {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Ok(0)
        }
    }

    #[test]
    fn a_place_behind_the_end_of_a_block_device_holds_nothing() {
        for at in [1 << 20, 256 << 30] {
            assert_eq!(read_at(&mut BlockDevice(1 << 20), at, 512).unwrap(), None);
        }
    }

    #[test]
    fn a_short_or_empty_device_holds_nothing_and_is_no_error() {
        for size in [0, 1, 511, 4096, 65536, 65536 + 4095] {
            let content = probe(&mut Cursor::new(vec![0_u8; size])).unwrap();
            assert_eq!(content, Content::Unknown, "{size}");
        }
    }
}
