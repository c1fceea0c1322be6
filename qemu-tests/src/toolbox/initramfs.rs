//! The toolbox guest's kernel and initramfs, made from a tarball of unpacked Debian packages.
//!
//! The archive is read as a stream and written on as a cpio archive, so nothing is unpacked on the host:
//! no root is needed, and owners and modes are what the packages say. Left out: what no
//! script needs, and all kernel modules but [`MODULES`] and those they depend on.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::{Error, io_error};
use crate::cache::{Cache, Key};
use crate::image::packages;

/// The modules that the guest loads by name or on demand.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "btrfs",
    "loop",
    "ext4",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    // What cryptsetup asks the kernel for.
    "dm_crypt",
    "xts",
    "aesni_intel",
    "algif_skcipher",
];

/// Trees that hold nothing for a script.
const LEFT_OUT: &[&str] = &[
    "boot/",
    "etc/",
    "home/",
    "var/",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/i18n",
    "usr/share/zoneinfo",
    "usr/share/bash-completion",
    "usr/share/info",
    "usr/share/grub",
    "usr/lib/udev",
    "usr/lib/systemd",
    "usr/share/perl",
    "usr/lib/x86_64-linux-gnu/perl",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/share/initramfs-tools",
    "usr/share/lintian",
    "usr/include",
];

const INIT: &str = include_str!("../../images/toolbox/init");
const NAME_DISKS: &str = include_str!("../../images/toolbox/name-disks");

/// What QEMU is told to boot.
#[derive(Debug, Clone)]
pub struct Image {
    /// Debian's cloud kernel.
    pub kernel: PathBuf,
    /// The root, an uncompressed cpio archive.
    pub initramfs: PathBuf,
}

/// The image, from the cache or newly made.
pub fn ensure() -> Result<Image, Error> {
    let tarball = packages::toolbox()?;
    let key = Key::of("toolbox initramfs 1")
        .key(&tarball.key)
        .text(INIT)
        .text(NAME_DISKS)
        .text(&MODULES.join(" "))
        .text(&LEFT_OUT.join(" "))
        .finish();
    let cache = Cache::machine()?;
    let kernel = cache.entry("toolbox-kernel", "vmlinuz", &key, |path| {
        extract(&tarball.path, "boot/vmlinuz-", path)
    })?;
    let initramfs = cache.entry("toolbox-root", "cpio", &key, |path| {
        build(&tarball.path, path)
    })?;
    Ok(Image { kernel, initramfs })
}

/// Writes the initramfs made of the packages in `tarball` to `path`.
pub fn build(tarball: &Path, path: &Path) -> Result<(), Error> {
    let modules = wanted_modules(&read_text(tarball, "modules.dep")?);
    let out = File::create(path).map_err(io_error("create", path))?;
    let mut cpio = Cpio::new(BufWriter::new(out));
    let write = |cpio: &mut Cpio<_>| -> io::Result<()> {
        let mut archive = open(tarball)?;
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = name_of(&entry)?;
            if name.is_empty() || !is_wanted(&name, &modules) {
                continue;
            }
            cpio.tar_entry(&name, &mut entry)?;
        }
        for dir in ["in", "out", "mnt", "etc", "var", "var/lib"] {
            cpio.directory(dir)?;
        }
        cpio.file("init", 0o755, INIT.as_bytes())?;
        cpio.file("usr/bin/name-disks", 0o755, NAME_DISKS.as_bytes())?;
        // Without it, the kernel closes descriptors 0 to 2 of PID 1.
        cpio.device("dev/console", 0o600, 5, 1)?;
        cpio.end()
    };
    write(&mut cpio).map_err(io_error("write", path))
}

/// Copies the one file whose name begins with `prefix` out of the archive.
fn extract(tarball: &Path, prefix: &'static str, path: &Path) -> Result<(), Error> {
    let find = || -> io::Result<bool> {
        for entry in open(tarball)?.entries()? {
            let mut entry = entry?;
            if name_of(&entry)?.starts_with(prefix) {
                io::copy(&mut entry, &mut File::create(path)?)?;
                return Ok(true);
            }
        }
        Ok(false)
    };
    match find().map_err(io_error("read", tarball))? {
        true => Ok(()),
        false => Err(Error::Missing("kernel")),
    }
}

fn open(tarball: &Path) -> io::Result<tar::Archive<BufReader<File>>> {
    Ok(tar::Archive::new(BufReader::with_capacity(
        1 << 18,
        File::open(tarball)?,
    )))
}

fn name_of<R: Read>(entry: &tar::Entry<'_, R>) -> io::Result<String> {
    let path = entry.path()?;
    Ok(path
        .to_string_lossy()
        .trim_start_matches("./")
        .trim_end_matches('/')
        .to_owned())
}

fn read_text(tarball: &Path, file_name: &'static str) -> Result<String, Error> {
    let read = || -> io::Result<Option<String>> {
        for entry in open(tarball)?.entries()? {
            let mut entry = entry?;
            if name_of(&entry)?.rsplit('/').next() == Some(file_name) {
                let mut text = String::new();
                entry.read_to_string(&mut text)?;
                return Ok(Some(text));
            }
        }
        Ok(None)
    };
    read()
        .map_err(io_error("read", tarball))?
        .ok_or(Error::Missing(file_name))
}

/// The file names of [`MODULES`] and of all that they depend on, from a `modules.dep`.
fn wanted_modules(dep: &str) -> BTreeSet<String> {
    let file_name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let module = |file: &str| file.split('.').next().unwrap_or(file).replace('-', "_");
    let mut needs = HashMap::new();
    let mut files = HashMap::new();
    for line in dep.lines() {
        let Some((path, rest)) = line.split_once(':') else {
            continue;
        };
        let file = file_name(path);
        files.insert(module(&file), file.clone());
        needs.insert(
            file,
            rest.split_whitespace().map(file_name).collect::<Vec<_>>(),
        );
    }
    let mut wanted = BTreeSet::new();
    // modules.dep already holds the whole closure of each module.
    for file in MODULES.iter().filter_map(|name| files.get(*name)) {
        wanted.extend(needs.get(file).into_iter().flatten().cloned());
        wanted.insert(file.clone());
    }
    wanted
}

fn is_wanted(name: &str, modules: &BTreeSet<String>) -> bool {
    if LEFT_OUT.iter().any(|tree| name.starts_with(tree)) {
        return false;
    }
    match name.rsplit('/').next() {
        Some(file) if file.contains(".ko") => modules.contains(file),
        _ => true,
    }
}

/// A writer of the cpio format that the kernel unpacks ('newc', Documentation/driver-api/early-userspace/buffer-format.rst).
pub(crate) struct Cpio<W> {
    out: W,
    inode: u32,
    links: HashMap<String, Vec<u8>>,
}

impl<W: Write> Cpio<W> {
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            inode: 0,
            links: HashMap::new(),
        }
    }

    fn tar_entry<R: Read>(&mut self, name: &str, entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
        let mode = entry.header().mode()? & 0o7777;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            self.header(name, 0o040_000 | mode, 0, (0, 0))
        } else if kind.is_symlink() {
            let target = entry
                .link_name()?
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            self.header(name, 0o120_777, target.len(), (0, 0))?;
            self.data(target.as_bytes())
        } else if kind.is_file() {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            self.file(name, mode, &content)?;
            // A hard link to it may follow.
            self.links.insert(name.to_owned(), content);
            Ok(())
        } else if kind.is_hard_link() {
            let target = entry
                .link_name()?
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            match self.links.get(target.trim_start_matches("./")).cloned() {
                Some(content) => self.file(name, mode, &content),
                None => Err(io::Error::other(format!(
                    "hard link {name} to {target}, not seen before"
                ))),
            }
        } else {
            Ok(())
        }
    }

    pub(crate) fn directory(&mut self, name: &str) -> io::Result<()> {
        self.header(name, 0o040_755, 0, (0, 0))
    }

    pub(crate) fn device(
        &mut self,
        name: &str,
        mode: u32,
        major: u32,
        minor: u32,
    ) -> io::Result<()> {
        self.header(name, 0o020_000 | mode, 0, (major, minor))
    }

    pub(crate) fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.header(name, 0o100_000 | mode, content.len(), (0, 0))?;
        self.data(content)
    }

    fn header(&mut self, name: &str, mode: u32, size: usize, device: (u32, u32)) -> io::Result<()> {
        let size = u32::try_from(size).map_err(io::Error::other)?;
        self.inode += 1;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        let fields = [
            self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        header.push_str(name);
        header.push('\0');
        self.data(header.as_bytes())
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        let padding = bytes.len().wrapping_neg() % 4;
        self.out
            .write_all([0; 3].get(..padding).unwrap_or_default())
    }

    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.header("TRAILER!!!", 0, 0, (0, 0))?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_with_all_that_they_need_and_nothing_else() {
        let dep = "kernel/fs/btrfs/btrfs.ko.xz: kernel/lib/raid6/raid6_pq.ko.xz kernel/crypto/xor.ko.xz\n\
                   kernel/lib/raid6/raid6_pq.ko.xz:\nkernel/crypto/xor.ko.xz:\n\
                   kernel/fs/nls/nls_ascii.ko.xz:\nkernel/drivers/net/tun.ko.xz:\n";
        let wanted: Vec<String> = wanted_modules(dep).into_iter().collect();
        assert_eq!(
            wanted,
            [
                "btrfs.ko.xz",
                "nls_ascii.ko.xz",
                "raid6_pq.ko.xz",
                "xor.ko.xz"
            ]
        );
    }

    #[test]
    fn a_cpio_member_is_padded_to_four_bytes() {
        let mut cpio = Cpio::new(Vec::new());
        cpio.file("a", 0o644, b"12345").unwrap();
        assert_eq!(cpio.out.len(), 110 + 2 + 5 + 3);
        assert!(cpio.out.starts_with(b"07070100000001000081a4"));
        cpio.end().unwrap();
        assert_eq!(cpio.out.len() % 4, 0);
    }
}
