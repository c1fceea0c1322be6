//! The block devices of this machine and what each holds.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::sys::probe::partition::{self, Identity};
use crate::sys::probe::{self, Content};

/// Devices that hold nothing for us: RAM disks, and floppies, where a look at an empty one takes seconds.
const SKIPPED: [&str; 2] = ["ram", "fd"];
/// Optical drives, which hold no root; a look at an empty one fills the console with I/O errors.
const DRIVES: [&str; 1] = ["sr"];
/// sysfs counts in these units, whatever the device's own block size is.
const SYSFS_SECTOR: u64 = 512;

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its node, for example `/dev/vda2`.
    pub path: PathBuf,
    /// Its name in sysfs: `vda2`.
    pub name: String,
    /// Major and minor number.
    pub number: (u32, u32),
    /// What it holds.
    pub content: Content,
    /// What names it as a partition; empty for a whole disk.
    pub partition: Identity,
}

/// Where to look; other directories in tests.
#[derive(Debug, Clone)]
pub struct Places {
    /// `/sys/class/block`.
    pub class: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
    /// Optical drives too: they may hold a default tarball.
    pub drives: bool,
}

/// The kernel's list of block devices.
const CLASS: &str = "/sys/class/block";

impl Default for Places {
    fn default() -> Self {
        Self {
            class: CLASS.into(),
            dev: "/dev".into(),
            drives: false,
        }
    }
}

/// All block devices that can be read now, by name. Those that are part of another device (device
/// mapper, RAID) are left out: what they hold is seen there.
pub fn list(places: &Places) -> Vec<Device> {
    let Ok(entries) = std::fs::read_dir(&places.class) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names.iter().filter_map(|name| read(places, name)).collect()
}

/// What a device is by the kernel's name for it, through the links that udev makes.
fn in_class(device: &Path) -> Option<PathBuf> {
    let real = std::fs::canonicalize(device).ok()?;
    Some(Path::new(CLASS).join(real.file_name()?))
}

/// Whether a device is made of others: by device mapper (LUKS, LVM) or as a RAID. Then programs of the distribution
/// put it together at boot.
pub fn is_made_of_others(device: &Path) -> bool {
    in_class(device).is_some_and(|it| it.join("dm").is_dir() || it.join("md").is_dir())
}

/// Whether a device is encrypted, or lies on one that is, as a logical volume on LUKS does: somebody, or something,
/// unlocks it at each start of a kernel.
pub fn is_encrypted(device: &Path) -> bool {
    in_class(device).is_some_and(|sys| lies_on_crypt(&sys))
}

fn lies_on_crypt(sys: &Path) -> bool {
    let uuid = std::fs::read_to_string(sys.join("dm/uuid"));
    // cryptsetup names its own so. The kernel lets nothing lie on itself.
    uuid.is_ok_and(|uuid| uuid.starts_with("CRYPT-"))
        || std::fs::read_dir(sys.join("slaves"))
            .is_ok_and(|mut below| below.any(|it| it.is_ok_and(|it| lies_on_crypt(&it.path()))))
}

/// Whether the kernel writes nothing to a device, because it is write-protected or was set so.
pub fn is_write_protected(places: &Places, device: &Device) -> bool {
    number::<u32>(&places.class.join(&device.name).join("ro")).is_some_and(|ro| ro != 0)
}

fn read(places: &Places, name: &str) -> Option<Device> {
    let digits = |prefix: &&str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
    };
    let sys = places.class.join(name);
    if SKIPPED.iter().any(digits)
        || (!places.drives && DRIVES.iter().any(digits))
        || number::<u64>(&sys.join("size"))? == 0
    {
        return None;
    }
    // mkfs.fat gives a whole disk a table with one partition that begins where the disk does: the same
    // file system, seen twice.
    if sys.join("partition").exists() && number::<u64>(&sys.join("start")) == Some(0) {
        return None;
    }
    if std::fs::read_dir(sys.join("holders")).is_ok_and(|mut holders| holders.next().is_some()) {
        return None;
    }
    let (major, minor) = text(&sys.join("dev"))?
        .split_once(':')
        .map(|(a, b)| (a.parse(), b.parse()))?;
    // sysfs has `!` where /dev has a directory: cciss!c0d0.
    let path = places.dev.join(name.replace('!', "/"));
    let content = probe::probe(&mut open(&path)?).unwrap_or_else(|error| {
        log::warn!("{path:?} cannot be read: {error}");
        Content::Unknown
    });
    let partition = identity(places, &sys).unwrap_or_default();
    Some(Device {
        path,
        name: name.to_owned(),
        number: (major.ok()?, minor.ok()?),
        content,
        partition,
    })
}

/// The disk that a partition belongs to, or the device itself, in sysfs.
fn disk(sys: &Path) -> Option<PathBuf> {
    let device = std::fs::canonicalize(sys).ok()?;
    match device.join("partition").exists() {
        true => Some(device.parent()?.to_owned()),
        false => Some(device),
    }
}

/// PARTUUID and PARTLABEL, from the table on the disk that the partition belongs to.
fn identity(places: &Places, sys: &Path) -> Option<Identity> {
    let index = number::<u32>(&sys.join("partition"))?;
    let disk = disk(sys)?;
    let block = number(&disk.join("queue/logical_block_size")).unwrap_or(SYSFS_SECTOR);
    let name = disk.file_name()?.to_str()?.replace('!', "/");
    partition::read(&mut open(&places.dev.join(name))?, block, index).ok()
}

/// Never blocking: an empty drive must not stop the boot.
fn open(path: &Path) -> Option<File> {
    let flags = libc::O_NONBLOCK;
    match std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
    {
        Ok(file) => Some(file),
        Err(error) => {
            log::debug!("{path:?} cannot be opened: {error}");
            None
        }
    }
}

fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    text(path)?.parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sys::probe::btrfs;
    use std::fs::{create_dir_all, write};

    /// A machine made of files: a disk `vda` with one partition.
    pub(crate) fn machine() -> (tempfile::TempDir, Places) {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            class: dir.path().join("class"),
            dev: dir.path().join("dev"),
            drives: false,
        };
        let disk = dir.path().join("devices/vda");
        create_dir_all(disk.join("vda1")).unwrap();
        create_dir_all(disk.join("queue")).unwrap();
        create_dir_all(&places.class).unwrap();
        create_dir_all(&places.dev).unwrap();
        for (at, text) in [
            ("dev", "254:0\n"),
            ("size", "2048\n"),
            ("queue/logical_block_size", "512\n"),
            ("vda1/dev", "254:1\n"),
            ("vda1/size", "2000\n"),
            ("vda1/partition", "1\n"),
        ] {
            write(disk.join(at), text).unwrap();
        }
        std::os::unix::fs::symlink(&disk, places.class.join("vda")).unwrap();
        std::os::unix::fs::symlink(disk.join("vda1"), places.class.join("vda1")).unwrap();
        let mut mbr = vec![0_u8; 4096];
        mbr[0x1b8..0x1bc].copy_from_slice(&[1, 2, 3, 4]);
        mbr[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        write(places.dev.join("vda"), mbr).unwrap();
        let mut content = vec![0_u8; 64 * 1024];
        content.extend(btrfs::tests::sample(0xaa, 1, 1, 1));
        write(places.dev.join("vda1"), content).unwrap();
        (dir, places)
    }

    #[test]
    fn a_disk_and_its_partition_are_read_from_sysfs_and_their_first_bytes() {
        let (_dir, places) = machine();
        let devices = list(&places);
        let [disk, part] = devices.as_slice() else {
            panic!("{devices:?}")
        };
        assert_eq!((disk.name.as_str(), disk.number), ("vda", (254, 0)));
        assert_eq!(
            (&disk.content, &disk.partition),
            (&Content::Unknown, &Identity::default())
        );
        assert_eq!(part.partition.uuid.as_deref(), Some("04030201-01"));
        assert!(matches!(part.content, Content::Btrfs(_)));
    }

    #[test]
    fn a_device_that_another_one_is_made_of_is_left_out() {
        let (dir, places) = machine();
        create_dir_all(dir.path().join("devices/vda/vda1/holders/dm-0")).unwrap();
        assert_eq!(list(&places).len(), 1);
    }

    #[test]
    fn a_volume_on_an_encrypted_device_is_encrypted() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for (name, uuid) in [("dm-0", "CRYPT-LUKS2-1-cryptroot\n"), ("dm-1", "LVM-1\n")] {
            create_dir_all(at(name).join("dm")).unwrap();
            create_dir_all(at(name).join("slaves")).unwrap();
            write(at(name).join("dm/uuid"), uuid).unwrap();
        }
        assert!(lies_on_crypt(&at("dm-0")) && !lies_on_crypt(&at("dm-1")));
        std::os::unix::fs::symlink(at("dm-0"), at("dm-1/slaves/dm-0")).unwrap();
        assert!(lies_on_crypt(&at("dm-1")));
        assert!(!lies_on_crypt(&at("vda1")));
    }

    #[test]
    fn a_partition_that_is_its_whole_disk_is_not_a_second_file_system() {
        let (dir, places) = machine();
        let start = dir.path().join("devices/vda/vda1/start");
        for (sector, devices) in [("2048\n", 2), ("0\n", 1)] {
            write(&start, sector).unwrap();
            assert_eq!(list(&places).len(), devices, "{sector}");
        }
    }

    #[test]
    fn an_empty_drive_and_a_missing_node_are_left_out() {
        let (dir, places) = machine();
        write(dir.path().join("devices/vda/size"), "0\n").unwrap();
        std::fs::remove_file(places.dev.join("vda1")).unwrap();
        assert_eq!(list(&places), []);
    }
}
