//! Mends a primary superblock that a power cut tore.
//!
//! btrfs mounts from the primary alone and refuses one whose checksum is wrong, although a whole mirror
//! lies on the same disk. A disk promises at most that a sector of its own is written whole, and the
//! block has eight of 512 bytes. The agent is there before anything is mounted, so it writes the primary
//! anew from a mirror that fits it in every way ([`btrfs::restored`]).
//!
//! The mirror is of the transaction before or after the one that was being written; what only an fsync had
//! saved since may be lost with the torn block. Called only after it was decided that no hibernated
//! system is resumed, and never where the disk is copied. A power cut here tears the block again, and the
//! next start mends it.

use super::block::Device;
use super::device::Found;
use crate::say;
use crate::sys::probe::Content;
use crate::sys::probe::btrfs::{self, Checksum, MIRRORS, OFFSET};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// Mends each torn primary superblock of `found`, aloud. What cannot be mended stays as it is; the mount
/// then says what is wrong with it.
pub fn mend(found: &mut Found) {
    let copied = found.is_copied();
    for device in &mut found.devices {
        let torn = matches!(&device.content, Content::Btrfs(sb) if sb.checksum == Checksum::Bad);
        if !torn {
            continue;
        }
        let path = device.path.display().to_string();
        say!("the superblock of {path} is torn, as by a power cut");
        if copied {
            say!("nothing is touched, because two disks carry the same file system");
            continue;
        }
        match mend_one(device) {
            Ok(Some(mirror)) => {
                say!("it was written anew from its copy at {} MiB", mirror >> 20);
            }
            Ok(None) => say!("it has no copy that fits it: nothing is touched"),
            Err(error) => say!("it could not be written anew: {error}"),
        }
    }
}

/// Writes the primary from the newest mirror that fits; says where that one lies. On disk on return.
fn mend_one(device: &mut Device) -> std::io::Result<Option<u64>> {
    // Exclusive: nobody has it mounted.
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_EXCL)
        .open(&device.path)?;
    let Some((mirror, block)) = newest(&mut file)? else {
        return Ok(None);
    };
    file.write_all_at(&block, OFFSET)?;
    file.sync_all()?;
    if let Some(superblock) = btrfs::read(&mut file)? {
        device.content = Content::Btrfs(Box::new(superblock));
    }
    Ok(Some(mirror))
}

fn newest(file: &mut File) -> std::io::Result<Option<(u64, Vec<u8>)>> {
    let Some(torn) = btrfs::block(file, OFFSET)? else {
        return Ok(None);
    };
    let mut best: Option<(u64, u64, Vec<u8>)> = None;
    for at in MIRRORS {
        let Some(mirror) = btrfs::block(file, at)? else {
            continue;
        };
        let Some(block) = btrfs::restored(&torn, &mirror, at) else {
            continue;
        };
        let generation = btrfs::parse(&block).map_or(0, |superblock| superblock.generation);
        if best
            .as_ref()
            .is_none_or(|(newest, ..)| generation > *newest)
        {
            best = Some((generation, at, block));
        }
    }
    Ok(best.map(|(_, at, block)| (at, block)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::probe::btrfs::tests::{mirror, torn};
    use crate::sys::probe::partition::Identity;

    /// A disk in a sparse file.
    fn disk(primary: &[u8], mirror: &[u8]) -> (tempfile::NamedTempFile, Found) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all_at(primary, OFFSET).unwrap();
        file.as_file().write_all_at(mirror, MIRRORS[0]).unwrap();
        let content = crate::sys::probe::probe(&mut File::open(file.path()).unwrap()).unwrap();
        let device = Device {
            path: file.path().to_owned(),
            name: "vda".into(),
            number: (254, 0),
            content,
            partition: Identity::default(),
        };
        let found = Found {
            devices: vec![device],
            copies: Vec::new(),
            missing: 0,
        };
        (file, found)
    }

    fn primary(file: &tempfile::NamedTempFile) -> Vec<u8> {
        btrfs::block(&mut File::open(file.path()).unwrap(), OFFSET)
            .unwrap()
            .unwrap()
    }

    #[test]
    fn a_torn_superblock_is_written_anew_and_found_whole() {
        let (file, mut found) = disk(&torn(9), &mirror(8));
        let uuid = found.uuid();
        mend(&mut found);
        let whole = btrfs::parse(&primary(&file)).unwrap();
        assert_eq!((whole.checksum, whole.generation), (Checksum::Good, 8));
        assert_eq!(found.devices[0].content, Content::Btrfs(Box::new(whole)));
        assert_eq!(found.uuid(), uuid);
    }

    #[test]
    fn a_disk_is_not_touched_without_a_fitting_mirror_or_where_it_is_copied() {
        let (file, mut found) = disk(&torn(9), &mirror(5));
        mend(&mut found);
        assert_eq!(primary(&file), torn(9));

        let (file, mut found) = disk(&torn(9), &mirror(9));
        found.copies = found.devices.clone();
        mend(&mut found);
        assert_eq!(primary(&file), torn(9));
    }
}
