//! What an installed system is like, as far as it matters here. Nothing is judged and nothing is written.

use super::super::error::{Error, Result};
use super::super::fstab::{self, Entry};
use super::super::machine::Machine;
use super::prefix;
use crate::agent::block;
use crate::record::Uuid;
use crate::store::place::File;
use crate::sys::btrfs;
use crate::sys::mountinfo::{self, Mount};
use crate::transaction::inside::DATA;
use kernel_cmdline::Boot;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where GRUB lies in a Debian; its prefix.
pub const GRUB: &str = "/boot/grub";
/// The firmware's variable that says whether Secure Boot is enforced (UEFI, section 3.3).
const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Lists of installed packages: dpkg's, rpm's, pacman's.
const PACKAGES: [&str; 3] = ["/var/lib/dpkg", "/var/lib/rpm", "/var/lib/pacman"];

/// A directory of data that would go back with the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Its path.
    pub path: &'static str,
    /// Whether it is to be a dataset of its own unless somebody says no.
    pub by_default: bool,
    /// Whether there is anything in it.
    pub is_empty: bool,
    /// What a copy of it would leave behind: a subvolume or a mount below it.
    pub holds: Option<String>,
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
    /// Whether GRUB was installed to read its directory in the store.
    pub core_image: bool,
    /// `GRUB_DEFAULT` of GRUB's settings.
    pub grub_default: Option<String>,
    /// Where the list of installed packages lies, if that is not the root.
    pub packages_apart: Option<&'static str>,
    /// A file in the root that is swapped to: btrfs makes no snapshot of that.
    pub swap_in_root: Option<String>,
    /// Whether the store is there.
    pub has_store: bool,
    /// Swap whose image the recovery kernel would not see: in files, and on devices that it does not put together.
    pub unseen_swap: Vec<String>,
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
            fstab: fstab::read()?,
            inside: Vec::new(),
            uefi: Path::new("/sys/firmware/efi").exists(),
            is_made_of_others: block::is_made_of_others(Path::new(root)),
            secure_boot: std::fs::read(SECURE_BOOT).is_ok_and(|bytes| is_enforced(&bytes)),
            core_image: machine.top.join(prefix::mark()).exists(),
            grub_default: grub_default(&grub_settings()),
            packages_apart: None,
            swap_in_root: None,
            has_store: machine.top.join(File::Layout.path()).exists(),
            unseen_swap: Vec::new(),
            mounts,
        };
        let swaps = swaps(&std::fs::read_to_string("/proc/swaps").unwrap_or_default());
        let has_offset = Boot::read(&line).resume_offset.is_some();
        let is_unseen = |(path, is_file): &(String, bool)| match is_file {
            true => !has_offset,
            false => !survey.is_made_of_others && block::is_made_of_others(Path::new(path)),
        };
        let in_root = |(path, is_file): &&(String, bool)| *is_file && survey.is_in_root(path);
        survey.swap_in_root = swaps.iter().find(in_root).map(|(path, _)| path.clone());
        let unseen = swaps.into_iter().filter(is_unseen);
        survey.unseen_swap = unseen.map(|(path, _)| path).collect();
        let apart = |path: &&str| is_directory(path) && !survey.is_in_root(path);
        survey.packages_apart = PACKAGES.into_iter().find(apart);
        survey.inside = survey.data_inside(&nested(&fd)?);
        Ok(survey)
    }

    fn data_inside(&self, nested: &[String]) -> Vec<Inside> {
        let look = |(path, by_default): (&'static str, bool)| {
            let directory = std::fs::symlink_metadata(path).ok()?;
            let own = directory.ino() == btrfs::SUBVOLUME_INODE;
            (directory.is_dir() && !own && self.is_in_root(path)).then(|| Inside {
                path,
                by_default,
                is_empty: is_empty(Path::new(path)),
                holds: self.below(path, nested),
            })
        };
        DATA.into_iter().filter_map(look).collect()
    }

    /// A subvolume or a mount below a directory.
    fn below(&self, path: &str, nested: &[String]) -> Option<String> {
        let points = self.mounts.iter().map(|mount| &mount.point);
        let mut all = points.chain(nested);
        let is_below = |one: &&String| one.strip_prefix(path).is_some_and(|it| it.starts_with('/'));
        all.find(is_below).cloned()
    }

    /// Whether GRUB's directory is the one in the store.
    pub fn grub_is_moved(&self) -> bool {
        let mount = self.holding(GRUB);
        mount.is_some_and(|mount| mount.directory == format!("/{}", prefix::directory()))
    }

    /// Entries of fstab that mount something of this file system by its number, each with the subvolume's path. The
    /// top level's number, 5, is always the same.
    pub fn by_number(&self) -> Vec<(Entry, String)> {
        let pinned = |entry: Entry| {
            let id = entry.option("subvolid")?;
            let mut mounts = self.mounts.iter();
            let mount = mounts.rfind(|mount| mount.point == entry.point)?;
            let of_us = [&entry.fs, &mount.fs].iter().all(|fs| **fs == "btrfs")
                && mount.device == self.device;
            let path = mount.directory.trim_matches('/').to_owned();
            (of_us && !matches!(id, "0" | "5") && !path.is_empty()).then_some((entry, path))
        };
        self.entries().into_iter().filter_map(pinned).collect()
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

/// The subvolumes directly inside the root, as absolute paths.
fn nested(root: &std::fs::File) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for child in btrfs::children(root)? {
        // One that vanishes meanwhile is not there.
        if let Ok(path) = btrfs::child_path(root, child) {
            found.push(format!("/{}", String::from_utf8_lossy(&path)));
        }
    }
    Ok(found)
}

fn is_directory(path: &str) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|it| it.is_dir())
}

/// GRUB's settings, in the order in which grub-mkconfig reads them.
fn grub_settings() -> String {
    let mut files = vec![std::path::PathBuf::from("/etc/default/grub")];
    let more = std::fs::read_dir("/etc/default/grub.d")
        .into_iter()
        .flatten();
    let mut more: Vec<_> = more.flatten().map(|entry| entry.path()).collect();
    more.retain(|path| path.extension().is_some_and(|it| it == "cfg"));
    more.sort();
    files.extend(more);
    let texts = files
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap_or_default());
    texts.collect::<Vec<_>>().join("\n")
}

/// The last value of `GRUB_DEFAULT` in these settings, which are shell.
fn grub_default(settings: &str) -> Option<String> {
    let lines = settings.lines().map(str::trim_start);
    let value = lines
        .filter_map(|line| line.strip_prefix("GRUB_DEFAULT="))
        .next_back()?;
    let value = value.trim_end().trim_matches(['"', '\'']);
    Some(value.to_owned())
}

/// The swap areas of `/proc/swaps`, each with whether it is a file.
fn swaps(text: &str) -> Vec<(String, bool)> {
    let area = |line: &str| {
        let mut fields = line.split_whitespace();
        let (path, kind) = (fields.next()?, fields.next()?);
        Some((mountinfo::unescape(path), kind == "file"))
    };
    text.lines().skip(1).filter_map(area).collect()
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

    #[test]
    fn settings_and_swap_are_read() {
        let settings = "# GRUB_DEFAULT=7\nGRUB_DEFAULT=0\nGRUB_DEFAULT=\"1>2\"\n";
        assert_eq!(grub_default(settings).as_deref(), Some("1>2"));
        assert_eq!(grub_default("GRUB_TIMEOUT=5\n"), None);
        let text = "Filename\t\t\tType\t\tSize\n/dev/vda3 partition 9\n/swap\\040file file 9\n";
        let wanted = [
            ("/dev/vda3".to_owned(), false),
            ("/swap file".to_owned(), true),
        ];
        assert_eq!(swaps(text), wanted);
    }
}
