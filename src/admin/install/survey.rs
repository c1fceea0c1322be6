//! What an installed system is like, as far as it matters here. Nothing is judged and nothing is written.

use super::super::error::{Error, Result};
use super::super::fstab::{self, Entry};
use super::super::machine::Machine;
use super::super::mountinfo::{self, Mount};
use crate::agent::block;
use crate::record::Uuid;
use crate::sys::btrfs;
use crate::transaction::inside::DATA;
use kernel_cmdline::Boot;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The inode of the root of every subvolume (`BTRFS_FIRST_FREE_OBJECTID`).
const SUBVOLUME_INODE: u64 = 256;
/// Where GRUB lies in a Debian; its prefix.
pub const GRUB: &str = "/boot/grub";
/// The firmware's variable that says whether Secure Boot is enforced (UEFI, section 3.3).
const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// A directory of data that would go back with the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Its path.
    pub path: &'static str,
    /// Whether it is to be a dataset of its own unless somebody says no.
    pub by_default: bool,
    /// Whether there is anything in it.
    pub is_empty: bool,
}

/// A system, looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The file system.
    pub uuid: Uuid,
    /// The device that it was mounted from.
    pub device: String,
    /// The subvolume at `/`, without a leading slash.
    pub live: String,
    /// Its number.
    pub live_id: u64,
    /// The number of the default subvolume.
    pub default_id: u64,
    /// `rootflags=` of the running kernel.
    pub rootflags: Option<String>,
    /// What is mounted, topmost last.
    pub mounts: Vec<Mount>,
    /// `/etc/fstab`.
    pub fstab: String,
    /// Data in the system.
    pub inside: Vec<Inside>,
    /// Whether the machine was started by UEFI.
    pub uefi: bool,
    /// Whether the root's device is made by device mapper or as a RAID: then the recovery kernel has the distribution's
    /// initramfs, and lies on /boot where that is a file system of its own.
    pub is_made_of_others: bool,
    /// Whether it starts signed kernels only.
    pub secure_boot: bool,
}

impl Survey {
    /// Looks at the running system.
    pub fn of(machine: &Machine) -> Result<Survey> {
        let read = |path: &'static str| {
            let text = std::fs::read_to_string(path);
            text.map_err(Error::file("reading", path))
        };
        let mounts = mountinfo::mounts(&read("/proc/self/mountinfo")?);
        let line = std::fs::read("/proc/cmdline").unwrap_or_default();
        let root = mountinfo::holding(&mounts, "/").map_or("", |mount| mount.device.as_str());
        let fd = std::fs::File::open("/").map_err(Error::file("opening", "/"))?;
        let live_id = btrfs::subvolume_id(&fd)?;
        let default_id = btrfs::default_subvolume(&fd)?;
        let mut survey = Survey {
            uuid: machine.uuid()?,
            device: root.to_owned(),
            live: machine.booted.clone().unwrap_or_default(),
            live_id,
            default_id,
            rootflags: Boot::read(&line).rootflags.map(str::to_owned),
            fstab: std::fs::read_to_string("/etc/fstab").unwrap_or_default(),
            inside: Vec::new(),
            uefi: Path::new("/sys/firmware/efi").exists(),
            is_made_of_others: block::is_made_of_others(Path::new(root)),
            secure_boot: std::fs::read(SECURE_BOOT).is_ok_and(|bytes| is_enforced(&bytes)),
            mounts,
        };
        survey.inside = survey.data_inside();
        Ok(survey)
    }

    fn data_inside(&self) -> Vec<Inside> {
        let look = |(path, by_default): (&'static str, bool)| {
            let directory = std::fs::symlink_metadata(path).ok()?;
            let own = directory.ino() == SUBVOLUME_INODE;
            (directory.is_dir() && !own && self.is_in_root(path)).then(|| Inside {
                path,
                by_default,
                is_empty: is_empty(Path::new(path)),
            })
        };
        DATA.into_iter().filter_map(look).collect()
    }

    /// The mount that a path lies on.
    pub fn holding(&self, path: &str) -> Option<&Mount> {
        mountinfo::holding(&self.mounts, path)
    }

    /// Whether a path lies in the root's own subvolume.
    pub fn is_in_root(&self, path: &str) -> bool {
        self.holding(path).is_some_and(|mount| mount.point == "/")
    }

    /// Whether the kernels lie on a file system of their own.
    pub fn boot_is_apart(&self) -> bool {
        let boot = self.holding("/boot");
        boot.is_some_and(|mount| mount.device != self.device)
    }

    /// Entries of fstab.
    pub fn entries(&self) -> Vec<Entry> {
        fstab::entries(&self.fstab)
    }

    /// Other subvolumes of the top level of this file system, and where they are mounted.
    pub fn datasets(&self) -> Vec<(String, String)> {
        let own = |mount: &Mount| {
            let name = mount.directory.trim_start_matches('/');
            let of_us = mount.fs == "btrfs" && mount.device == self.device;
            let plain = !name.is_empty() && !name.contains('/') && name != self.live;
            (of_us && plain).then(|| (name.to_owned(), mount.point.clone()))
        };
        let mut found: Vec<(String, String)> = Vec::new();
        for (name, point) in self.mounts.iter().filter_map(own) {
            if !found.iter().any(|(known, _)| *known == name) {
                found.push((name, point));
            }
        }
        found
    }
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

/// Reads a variable as efivarfs has it: four bytes of attributes, then the value.
fn is_enforced(secure_boot: &[u8]) -> bool {
    secure_boot.get(4..) == Some(&[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secure_boot_is_enforced_where_the_variable_is_one() {
        assert!(is_enforced(&[6, 0, 0, 0, 1]));
        assert!(!is_enforced(&[6, 0, 0, 0, 0]));
        assert!(!is_enforced(&[1]));
    }
}
