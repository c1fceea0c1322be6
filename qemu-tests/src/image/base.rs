//! Layer 1: a disk with partitions, a store, live datasets and GRUB, and nothing of backstay's programs.
//!
//! ```text
//! disk (raw, sparse, GPT)
//!   1  BIOS boot partition, 1 MiB: GRUB's core image
//!   2  "store", btrfs, labelled `store`
//!        @rootfs   the system; boot/vmlinuz, boot/initrd.img -> ours (layer 2), boot/initrd.img.stock
//!        @config   etc/appliance/version
//!        @data     content
//!        @backstay grub/ (GRUB's prefix)
//! ```
//! Its GRUB menu has one entry, which boots the live system with the distribution's own initramfs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::packages::{self, Tarball};
use crate::cache::{Cache, Key};
use crate::setup;
use crate::toolbox::{Disk, Error, Job, io_error};

/// Shell functions of all scripts that work on a store.
pub(super) const FUNCTIONS: &str = include_str!("../../images/store/functions.sh");
const LAYOUT: &str = include_str!("../../images/store/layout.toml");
const TINY: &str = include_str!("../../images/tiny/layer1.sh");
const TINY_INIT: &str = include_str!("../../images/tiny/init");
const TINY_PROMPT: &str = include_str!("../../images/tiny/prompt");
const DEBIAN: &str = include_str!("../../images/debian/layer1.sh");

/// One of the two test machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum System {
    /// busybox and one script: up a second after its kernel. See `images/tiny/init` for what it prints.
    Tiny,
    /// A whole Debian 13 with systemd. Root's password is `backstay`.
    Debian,
}

impl System {
    /// The name in the cache and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Debian => "debian",
        }
    }

    /// The UUID of the store's file system.
    pub fn store_uuid(self) -> &'static str {
        match self {
            Self::Tiny => "7111a000-5702-4000-8000-00000000b575",
            Self::Debian => "deb1a000-5702-4000-8000-00000000b575",
        }
    }

    /// The unique id of the store's partition (PARTUUID).
    pub fn partition_uuid(self) -> &'static str {
        match self {
            Self::Tiny => "7111a000-5702-4000-8000-0000000000a2",
            Self::Debian => "deb1a000-5702-4000-8000-0000000000a2",
        }
    }

    /// The size of the disk in bytes. Most of it is a hole.
    pub fn disk_size(self) -> u64 {
        match self {
            Self::Tiny => 768 << 20,
            Self::Debian => 3 << 30,
        }
    }

    fn script(self) -> String {
        let body = match self {
            Self::Tiny => TINY,
            Self::Debian => DEBIAN,
        };
        format!(
            "STORE_UUID={}\nPARTITION_UUID={}\n{FUNCTIONS}\n{body}",
            self.store_uuid(),
            self.partition_uuid()
        )
    }

    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Tiny => &[
                ("layout.toml", LAYOUT),
                ("init", TINY_INIT),
                ("prompt", TINY_PROMPT),
            ],
            Self::Debian => &[("layout.toml", LAYOUT)],
        }
    }
}

/// A disk image in the cache. Never write to it: take a [`super::copy`].
#[derive(Debug, Clone)]
pub struct Image {
    /// The raw image.
    pub path: PathBuf,
    /// The identity of everything it was made from.
    pub key: Key,
    /// The machine that is on it.
    pub system: System,
}

/// The disk of layer 1, from the cache or newly made (about a minute).
pub fn layer1(system: System) -> Result<Image, Error> {
    let tarball = packages::debian()?;
    let mut key = Key::of("layer 1, version 1")
        .key(&tarball.key)
        .key(&packages::toolbox()?.key)
        .text(&system.script())
        .text(&system.disk_size().to_string());
    for (name, content) in system.files() {
        key = key.text(name).text(content);
    }
    let key = key.finish();
    let name = format!("{}-layer1", system.name());
    let path = Cache::machine()?.entry(&name, "img", &key, |path| build(system, &tarball, path))?;
    Ok(Image { path, key, system })
}

fn build(system: System, tarball: &Tarball, path: &Path) -> Result<(), Error> {
    let what = format!("building the {} disk without backstay", system.name());
    setup::say(&format!("{what}, about a minute…"));
    let start = Instant::now();
    File::create(path)
        .and_then(|file| file.set_len(system.disk_size()))
        .map_err(io_error("create", path))?;
    let mut job = Job::new(&what, system.script())
        .disk(Disk::read_write(path))
        .disk(Disk::read_only(&tarball.path))
        .timeout(Duration::from_secs(900));
    for (name, content) in system.files() {
        job = job.text(*name, *content);
    }
    job.run()?;
    setup::say(&format!(
        "built the {} disk in {} s",
        system.name(),
        start.elapsed().as_secs()
    ));
    Ok(())
}
