//! Trees of Debian packages as tarballs, made by mmdebstrap from Debian's mirror.
//!
//! They depend on Debian alone and take the longest, so they are kept for the whole machine. The key
//! of one is its recipe (release, packages, options): a newer point release does not make
//! a new one, deleting the file does. `BACKSTAY_MIRROR` names another mirror.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::cache::{Cache, Key};
use crate::setup::{self, KEYRING};
use crate::toolbox::Error;

/// A tarball in the cache.
#[derive(Debug, Clone)]
pub struct Tarball {
    /// The file, uncompressed.
    pub path: PathBuf,
    /// The identity of its recipe.
    pub key: Key,
}

/// What is asked of mmdebstrap.
struct Recipe<'a> {
    /// The entry's name in the cache.
    name: &'static str,
    /// For people.
    what: &'static str,
    release: &'static str,
    /// `extract` unpacks packages with what they depend on and configures nothing; `minbase` is a whole small system.
    variant: &'static str,
    packages: &'a [&'static str],
    /// Shell commands run with the tree as `$1`: `extract-hook=` after the packages were unpacked, `customize-hook=` at
    /// the end.
    hooks: &'static [&'static str],
    /// A release that single packages are taken from, by `PACKAGE/RELEASE`.
    also: Option<&'static str>,
}

/// Documentation and translations: nothing reads them there.
const LEFT_OUT: &[&str] = &[
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
];

/// depmod is run by a package script, which `extract` does not run.
const DEPMOD: &str = r#"extract-hook=for dir in "$1"/lib/modules/*; do chroot "$1" /usr/sbin/depmod "${dir##*/}"; done"#;

/// Debian 12's packages still have /sbin and /lib beside /usr; modules are moved to where Debian 13 has them.
const OLD_DEPMOD: &str =
    r#"extract-hook=for dir in "$1"/lib/modules/*; do chroot "$1" /sbin/depmod "${dir##*/}"; done"#;
const OLD_MODULES: &str =
    r#"extract-hook=mkdir -p "$1/usr/lib" && mv "$1/lib/modules" "$1/usr/lib/modules""#;

/// The tools of the toolbox guest, and the kernel of all test machines.
pub fn toolbox() -> Result<Tarball, Error> {
    Recipe {
        name: "toolbox-packages",
        what: "the toolbox's packages",
        release: "trixie",
        variant: "extract",
        packages: &[
            "linux-image-cloud-amd64",
            "busybox-static",
            "btrfs-progs",
            "e2fsprogs",
            "dosfstools",
            "cryptsetup-bin",
            "minisign",
            "xorriso",
            "gdisk",
            "fdisk",
            "tar",
            "zstd",
            "attr",
            "util-linux",
            "mount",
            "coreutils",
            "dash",
            "bash",
            "findutils",
            "grep",
            "sed",
            "mawk",
            "kmod",
            "diffutils",
            "grub-pc-bin",
            "grub2-common",
            "grub-common",
        ],
        hooks: &[DEPMOD],
        also: None,
    }
    .ensure()
}

/// Debian 13's QEMU for x86-64.
pub fn qemu() -> Result<Tarball, Error> {
    Recipe {
        name: "qemu-packages",
        what: "Debian 13's QEMU",
        release: "trixie",
        variant: "extract",
        packages: &["qemu-system-x86"],
        hooks: &[],
        also: None,
    }
    .ensure()
}

/// A whole Debian 13 with systemd, its cloud kernel, initramfs-tools, GRUB and btrfs-progs.
pub fn debian() -> Result<Tarball, Error> {
    Recipe {
        name: "debian-packages",
        what: "a Debian 13 root",
        release: "trixie",
        variant: "minbase",
        packages: &[
            "systemd",
            "systemd-sysv",
            "udev",
            "dbus",
            "linux-image-cloud-amd64",
            "initramfs-tools",
            "grub-pc",
            "btrfs-progs",
            "login",
            "passwd",
            "kmod",
            "zstd",
            "less",
            "nano",
        ],
        hooks: &[],
        also: None,
    }
    .ensure()
}

/// The kernel of all machines, by the package that stands for its newest version.
const CLOUD_KERNEL: &str = "linux-image-cloud-amd64";

/// Installs the cloud kernel before the newest, and puts the newest one's package into /root/kernel.
const TWO_KERNELS: &str = r#"customize-hook=set -e
kernels=$(chroot "$1" apt-cache pkgnames linux-image- | grep '^linux-image-[0-9].*[0-9a-z]-cloud-amd64$' \
    | sort -V | tail -n 2)
chroot "$1" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    "$(echo "$kernels" | head -n 1)"
mkdir "$1/root/kernel"
chroot "$1" sh -c 'cd /root/kernel && apt-get download "$0"' "$(echo "$kernels" | tail -n 1)""#;

/// What a Debian 13 has beside what makes its initramfs and what starts it.
const INSTALLED: [&str; 11] = [
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    CLOUD_KERNEL,
    "btrfs-progs",
    "login",
    "passwd",
    "kmod",
    "zstd",
    "less",
];

/// A Debian 13 with dracut in place of initramfs-tools.
pub fn debian_with_dracut() -> Result<Tarball, Error> {
    Recipe {
        name: "dracut-packages",
        what: "a Debian 13 root with dracut",
        release: "trixie",
        variant: "minbase",
        packages: &[&INSTALLED[..], &["dracut", "grub-pc"]].concat(),
        hooks: &[],
        also: None,
    }
    .ensure()
}

/// A Debian 13 that UEFI starts, Secure Boot included.
pub fn debian_with_uefi() -> Result<Tarball, Error> {
    Recipe {
        name: "uefi-packages",
        what: "a Debian 13 root with UEFI",
        release: "trixie",
        variant: "minbase",
        packages: &[
            &INSTALLED[..],
            &[
                "initramfs-tools",
                "grub-efi-amd64",
                "grub-efi-amd64-signed",
                "shim-signed",
                "efibootmgr",
            ],
        ]
        .concat(),
        hooks: &[],
        also: None,
    }
    .ensure()
}

/// A Debian 13 that can unlock an encrypted root.
pub fn debian_with_encryption() -> Result<Tarball, Error> {
    Recipe {
        name: "encryption-packages",
        what: "a Debian 13 root with cryptsetup",
        release: "trixie",
        variant: "minbase",
        packages: &[
            &INSTALLED[..],
            &["initramfs-tools", "grub-pc", "cryptsetup-initramfs"],
        ]
        .concat(),
        hooks: &[],
        also: None,
    }
    .ensure()
}

/// A Debian 13 with the kernel before its newest, and the newest as a package in /root/kernel. Where Debian 13 has only one,
/// the kernel before it is Debian 12's, which is slow to start another by kexec under emulation: some minutes.
pub fn debian_with_old_kernel() -> Result<Tarball, Error> {
    let installed = INSTALLED.into_iter().filter(|name| *name != CLOUD_KERNEL);
    let packages: Vec<&'static str> = installed.chain(["initramfs-tools", "grub-pc"]).collect();
    Recipe {
        name: "old-kernel-packages",
        what: "a Debian 13 root with the kernel before its newest",
        release: "trixie",
        variant: "minbase",
        packages: &packages,
        hooks: &[TWO_KERNELS],
        also: Some("bookworm"),
    }
    .ensure()
}

/// A Debian 13 of a common size, more than 300 MB, for measuring what takes time with it.
pub fn large() -> Result<Tarball, Error> {
    Recipe {
        name: "large-packages",
        what: "a large Debian 13 root",
        release: "trixie",
        variant: "standard",
        packages: &[
            "systemd-sysv",
            "linux-image-cloud-amd64",
            "btrfs-progs",
            "openssh-server",
            "python3",
            "git",
            "vim",
            "curl",
            "zstd",
        ],
        hooks: &[],
        also: None,
    }
    .ensure()
}

/// Debian 12's cloud kernel (6.1): another release than that of the images.
pub fn other_kernel() -> Result<Tarball, Error> {
    Recipe {
        name: "other-kernel-packages",
        what: "Debian 12's kernel",
        release: "bookworm",
        variant: "extract",
        packages: &["linux-image-cloud-amd64", "kmod"],
        hooks: &[OLD_DEPMOD, OLD_MODULES],
        also: None,
    }
    .ensure()
}

/// Leaves the databases alone.
const PRUNE: &str = concat!(
    "extract-hook=",
    include_str!("../../images/databases/prune.sh")
);

/// PostgreSQL 15 of Debian 12 and 17 of Debian 13, SQLite's shell, and the libraries of Debian 13 that they need. What makes
/// queries into machine code is left out, as it is the largest part, and nothing here is queried that long.
pub fn databases() -> Result<Tarball, Error> {
    Recipe {
        name: "databases-packages",
        what: "PostgreSQL and SQLite",
        release: "trixie",
        variant: "extract",
        packages: &[
            "postgresql-17",
            "postgresql-15",
            "sqlite3",
            "libc-bin",
            "tzdata",
            "util-linux",
        ],
        hooks: &[PRUNE],
        also: Some("bookworm"),
    }
    .ensure()
}

impl Recipe<'_> {
    fn key(&self, mirror: &str) -> Key {
        let key = Key::of("mmdebstrap 1")
            .text(mirror)
            .text(self.release)
            .text(self.variant)
            .text(&self.packages.join(" "))
            .text(&self.hooks.join("\n"))
            .text(&LEFT_OUT.join(" "));
        match self.also {
            Some(release) => key.text(release).finish(),
            None => key.finish(),
        }
    }

    fn ensure(&self) -> Result<Tarball, Error> {
        let mirror = std::env::var("BACKSTAY_MIRROR")
            .unwrap_or_else(|_| String::from("http://deb.debian.org/debian"));
        let key = self.key(&mirror);
        let cache = Cache::machine()?;
        let path = cache.entry(self.name, "tar", &key, |path| self.build(&mirror, path))?;
        Ok(Tarball { path, key })
    }

    fn build(&self, mirror: &str, path: &Path) -> Result<(), Error> {
        setup::ensure()?;
        let what = format!("building {} with mmdebstrap", self.what);
        setup::say(&format!("{what}, about a minute…"));
        let start = Instant::now();
        let mut command = Command::new("mmdebstrap");
        command
            .arg(format!("--variant={}", self.variant))
            .arg(format!(
                "--mode={}",
                if setup::is_root() { "root" } else { "unshare" }
            ))
            .args(["--architectures=amd64", "--format=tar"])
            .arg(format!("--include={}", self.packages.join(",")));
        for tree in LEFT_OUT {
            command.arg(format!("--dpkgopt=path-exclude={tree}"));
        }
        for hook in self.hooks {
            command.arg(format!("--{hook}"));
        }
        command.arg(self.release).arg(path);
        for release in std::iter::once(self.release).chain(self.also) {
            command.arg(format!("deb [signed-by={KEYRING}] {mirror} {release} main"));
        }
        let log = path.with_extension("log");
        setup::run_long(&what, &mut command, &log)?;
        let _ = std::fs::remove_file(&log);
        setup::say(&format!(
            "built {} in {} s",
            self.what,
            start.elapsed().as_secs()
        ));
        Ok(())
    }
}
