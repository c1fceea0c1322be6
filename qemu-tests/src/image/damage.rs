//! A btrfs that does not mount, although its superblock is whole: what the superblock points to is not what it says.
//!
//! Each kind leaves other ways to mount it: see [`Damage`]. Nothing but the first superblock is written.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// The second partition of the disks of [`super::base`], in bytes.
const PARTITION: u64 = 4096 * 512;
/// The first superblock in it, and its size.
const AT: u64 = 64 << 10;
const SIZE: usize = 4096;

/// Where the superblock has what (fs/btrfs/accessors.h, `struct btrfs_super_block`).
const MAGIC: usize = 64;
const ROOT: usize = 80;
const LOG_ROOT: usize = 96;
const CHUNK_ROOT_GENERATION: usize = 164;
const LOG_ROOT_LEVEL: usize = 200;

/// A logical address that no chunk has. The address of another tree would be no damage: what is in memory already is
/// not looked at again.
const NOWHERE: [u8; 8] = 0x7000_0000_0000_u64.to_le_bytes();

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The log tree lies nowhere: it mounts where it is not replayed.
    Log,
    /// The tree of roots lies nowhere: it mounts from one of the roots that are kept for that.
    Root,
    /// The tree of chunks is of another transaction: it mounts in no way.
    Chunks,
}

/// Damages the store on this disk.
///
/// # Errors
/// When there is none, or the disk cannot be written.
pub fn damage(disk: &Path, damage: Damage) -> Result<()> {
    let file = File::options().read(true).write(true).open(disk);
    let file = file.with_context(|| format!("open {}", disk.display()))?;
    let mut block = [0; SIZE];
    file.read_exact_at(&mut block, PARTITION + AT)?;
    spoil(&mut block, damage)?;
    file.write_all_at(&block, PARTITION + AT)?;
    Ok(file.sync_all()?)
}

fn spoil(block: &mut [u8; SIZE], damage: Damage) -> Result<()> {
    ensure!(
        block[MAGIC..MAGIC + 8] == *b"_BHRfS_M" && block[..4] == crc32c(&block[32..]).to_le_bytes(),
        "the disk has no btrfs whose checksums are of the usual kind in its second partition"
    );
    match damage {
        Damage::Log => {
            block[LOG_ROOT..LOG_ROOT + 8].copy_from_slice(&NOWHERE);
            block[LOG_ROOT_LEVEL] = 0;
        }
        Damage::Root => block[ROOT..ROOT + 8].copy_from_slice(&NOWHERE),
        Damage::Chunks => block[CHUNK_ROOT_GENERATION] ^= 1,
    }
    let sum = crc32c(&block[32..]).to_le_bytes();
    block[..4].copy_from_slice(&sum);
    Ok(())
}

/// CRC-32C (RFC 3720, section 12.1), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| match sum & 1 {
            1 => (sum >> 1) ^ 0x82f6_3b78,
            _ => sum >> 1,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> [u8; SIZE] {
        let mut block = [7; SIZE];
        block[MAGIC..MAGIC + 8].copy_from_slice(b"_BHRfS_M");
        let sum = crc32c(&block[32..]).to_le_bytes();
        block[..4].copy_from_slice(&sum);
        block
    }

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_superblock_stays_whole_and_points_elsewhere() {
        for (kind, at, to) in [
            (Damage::Log, LOG_ROOT + 4, [0, 0x70]),
            (Damage::Root, ROOT + 4, [0, 0x70]),
            (Damage::Chunks, CHUNK_ROOT_GENERATION, [6, 7]),
        ] {
            let mut block = block();
            spoil(&mut block, kind).unwrap();
            assert_eq!(block[at..at + 2], to, "{kind:?}");
            assert_eq!(block[..4], crc32c(&block[32..]).to_le_bytes());
        }
        let mut torn = block();
        torn[1000] ^= 1;
        assert!(spoil(&mut torn, Damage::Log).is_err());
    }
}
