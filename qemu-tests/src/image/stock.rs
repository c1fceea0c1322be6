//! Disks of a Debian as its installer leaves it: mmdebstrap, grub-install and update-grub, nothing arranged for us.
//!
//! [`Stock::bare`] is such a disk; [`Stock::with_package`] has backstay's package as a file in /root.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::base::FUNCTIONS;
use super::copy;
use super::layers::CMDLINE;
use super::packages::{self, Tarball};
use crate::cache::{Cache, Key};
use crate::package;
use crate::setup;
use crate::toolbox::{Disk, Error, Job, io_error};
use crate::vm::UEFI_PORT;

const ROOT: &str = include_str!("../../images/stock/root.sh");
const LAYER1: &str = include_str!("../../images/stock/layer1.sh");
const PACKAGE: &str = include_str!("../../images/stock/package.sh");
const INSTALLED: &str = include_str!("../../images/stock/installed.sh");
const SWAP: &str = include_str!("../../images/stock/swap.sh");
const STORE_UUID: &str = "570c4000-5702-4000-8000-00000000b575";
const PARTITION_UUID: &str = "570c4000-5702-4000-8000-0000000000a2";
/// In bytes; most of it is a hole.
const SIZE: u64 = 4 << 30;

/// What makes the initramfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initramfs {
    /// Debian's own.
    InitramfsTools,
    /// dracut, with systemd in it.
    Dracut,
    /// dracut, without systemd.
    DracutAlone,
}

/// What starts GRUB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// From the BIOS boot partition.
    Bios,
    /// From the EFI system partition.
    Uefi,
    /// The same, and what is signed alone: the disk is no other one.
    SecureBoot,
}

/// An installed system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stock {
    /// Its name in the cache and in messages.
    pub name: &'static str,
    /// The initramfs.
    pub initramfs: Initramfs,
    /// The firmware.
    pub firmware: Firmware,
    /// Whether /boot is an ext4 of its own.
    pub boot_apart: bool,
    /// Whether the root is encrypted, with [`Stock::PASSPHRASE`].
    pub encrypted: bool,
    /// Whether it has the kernel before the newest, and the newest as a package in /root/kernel.
    pub old_kernel: bool,
    /// The subvolume of the root.
    pub root: &'static str,
    /// Further subvolumes and where they are mounted: `@home:/home`, separated by blanks.
    pub others: &'static str,
}

impl Stock {
    /// The file system.
    pub const UUID: &str = STORE_UUID;
    /// That of /boot, where it is one of its own.
    pub const BOOT_UUID: &str = "570c4000-5702-4000-8000-00000000b007";
    /// Unlocks the encrypted root.
    pub const PASSPHRASE: &str = "open sesame";

    /// Debian's installer on btrfs.
    pub const DEBIAN: Stock = Stock {
        name: "stock-debian",
        initramfs: Initramfs::InitramfsTools,
        firmware: Firmware::Bios,
        boot_apart: false,
        encrypted: false,
        old_kernel: false,
        root: "@rootfs",
        others: "",
    };

    /// The same with dracut.
    pub const DRACUT: Stock = Stock {
        name: "stock-dracut",
        initramfs: Initramfs::Dracut,
        ..Stock::DEBIAN
    };

    /// The same without systemd in the initramfs.
    pub const DRACUT_ALONE: Stock = Stock {
        name: "stock-dracut-nosystemd",
        initramfs: Initramfs::DracutAlone,
        ..Stock::DEBIAN
    };

    /// The same with UEFI.
    pub const UEFI: Stock = Stock {
        name: "stock-uefi",
        firmware: Firmware::Uefi,
        ..Stock::DEBIAN
    };

    /// The same before its kernel is upgraded.
    pub const OLD_KERNEL: Stock = Stock {
        name: "stock-old-kernel",
        old_kernel: true,
        ..Stock::DEBIAN
    };

    /// The same with Secure Boot.
    pub const SECURE_BOOT: Stock = Stock {
        firmware: Firmware::SecureBoot,
        ..Stock::UEFI
    };

    /// The same with /boot on an ext4 of its own.
    pub const BOOT_APART: Stock = Stock {
        name: "stock-boot-apart",
        boot_apart: true,
        ..Stock::OLD_KERNEL
    };

    /// Debian's installer with LUKS, and /boot outside of it.
    pub const LUKS: Stock = Stock {
        name: "stock-luks",
        boot_apart: true,
        encrypted: true,
        ..Stock::DEBIAN
    };

    /// The subvolumes of Ubuntu's installer.
    pub const AS_UBUNTU: Stock = Stock {
        name: "stock-as-ubuntu",
        root: "@",
        others: "@home:/home",
        ..Stock::DEBIAN
    };

    /// Those of Arch's.
    pub const AS_ARCH: Stock = Stock {
        name: "stock-as-arch",
        root: "@",
        others: "@home:/home @log:/var/log @pkg:/var/cache/pacman/pkg",
        ..Stock::DEBIAN
    };

    /// Those of Fedora's.
    pub const AS_FEDORA: Stock = Stock {
        name: "stock-as-fedora",
        root: "root",
        others: "home:/home",
        ..Stock::DEBIAN
    };

    fn tarball(self) -> Result<Tarball, Error> {
        match (self.initramfs, self.firmware) {
            _ if self.encrypted => packages::debian_with_encryption(),
            _ if self.old_kernel => packages::debian_with_old_kernel(),
            (Initramfs::InitramfsTools, Firmware::Bios) => packages::debian(),
            (Initramfs::InitramfsTools, Firmware::Uefi | Firmware::SecureBoot) => {
                packages::debian_with_uefi()
            }
            (Initramfs::Dracut | Initramfs::DracutAlone, _) => packages::debian_with_dracut(),
        }
    }

    /// The serial port that is its console, counted from 0.
    #[must_use]
    pub const fn port(self) -> u8 {
        match self.firmware {
            Firmware::Bios => 0,
            Firmware::Uefi | Firmware::SecureBoot => UEFI_PORT,
        }
    }

    fn head(self) -> String {
        let port = self.port();
        format!(
            "STORE_UUID={STORE_UUID}\nPARTITION_UUID={PARTITION_UUID}\nFIRMWARE={}\nROOT_NAME={}\n\
             OTHERS='{}'\nOMIT='{}'\nBOOT={}\nPASSPHRASE='{}'\nPORT={port}\nCMDLINE='{}'\n{FUNCTIONS}\n{ROOT}\n",
            match self.firmware {
                Firmware::Bios => "bios",
                Firmware::Uefi | Firmware::SecureBoot => "uefi",
            },
            self.root,
            self.others,
            match self.initramfs {
                Initramfs::DracutAlone => "systemd systemd-initrd dracut-systemd",
                _ => "",
            },
            if self.boot_apart { "apart" } else { "inside" },
            if self.encrypted {
                Stock::PASSPHRASE
            } else {
                ""
            },
            CMDLINE.replace("ttyS0", &format!("ttyS{port}")),
        )
    }

    /// The disk without anything of ours.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn bare(self) -> Result<PathBuf, Error> {
        let (path, _) = self.layer1()?;
        Ok(path)
    }

    fn layer1(self) -> Result<(PathBuf, Key), Error> {
        let tarball = self.tarball()?;
        let script = format!("{}{LAYER1}", self.head());
        let key = Key::of("stock, version 1")
            .key(&tarball.key)
            .key(&packages::toolbox()?.key)
            .text(&script)
            .text(&SIZE.to_string())
            .finish();
        let path = Cache::machine()?.entry(self.name, "img", &key, |path| {
            let what = format!("installing the disk '{}'", self.name);
            setup::say(&format!("{what}, some minutes…"));
            File::create(path)
                .and_then(|file| file.set_len(SIZE))
                .map_err(io_error("create", path))?;
            Job::new(&what, script.clone())
                .disk(Disk::read_write(path))
                .disk(Disk::read_only(&tarball.path))
                .timeout(Duration::from_secs(1200))
                .run()
                .map(drop)
        })?;
        Ok((path, key))
    }

    /// The disk with the package in /root, as somebody has copied it there.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn with_package(self) -> Result<PathBuf, Error> {
        self.and("package", PACKAGE)
    }

    /// The disk with backstay set up, and one snapshot of what was installed.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn installed(self) -> Result<PathBuf, Error> {
        self.and("installed", INSTALLED)
    }

    /// The same with a swap partition, from which its initramfs resumes; for a disk without a /boot of its own.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn installed_with_swap(self) -> Result<PathBuf, Error> {
        self.and("installed-with-swap", &format!("{SWAP}{INSTALLED}"))
    }

    /// A disk that a script made of the bare one, with the package at hand.
    fn and(self, what: &str, script: &str) -> Result<PathBuf, Error> {
        let (base, key) = self.layer1()?;
        let package = package::ensure()?;
        let script = format!("{}{script}", self.head());
        let key = Key::of("stock with a package, version 1")
            .key(&key)
            .text(&script)
            .file(&package)?
            .finish();
        let name = format!("{}-{what}", self.name);
        Cache::local()?.entry(&name, "img", &key, |path| {
            copy(&base, path)?;
            put_package(path, script.clone(), &package)
        })
    }
}

fn put_package(disk: &Path, script: String, package: &Path) -> Result<(), Error> {
    setup::say("putting the package on a stock disk…");
    Job::new("putting the package on a disk", script)
        .disk(Disk::read_write(disk))
        .file("backstay.deb", package)
        .timeout(Duration::from_secs(2400))
        .run()
        .map(drop)
}
