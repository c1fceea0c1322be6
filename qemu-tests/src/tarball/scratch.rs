//! A btrfs in a sparse file on the host's disk, mounted where nobody else sees it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use rustix::mount::{UnmountFlags, unmount};

use crate::cache::target_dir;
use crate::crash::device::said;
use crate::image::packages::Tarball;
use crate::setup;

/// A mounted file system; it goes away with this.
pub struct Scratch {
    place: tempfile::TempDir,
}

impl Scratch {
    /// One of `size` bytes.
    ///
    /// # Errors
    /// Where loop devices or btrfs-progs fail.
    pub fn new(size: u64) -> Result<Self> {
        let target = target_dir();
        fs::create_dir_all(&target)?;
        // Beside the build and not in /tmp, which may be memory.
        let place = tempfile::Builder::new()
            .prefix("tarball-")
            .tempdir_in(&target)?;
        let image = place.path().join("image");
        File::create(&image)?.set_len(size)?;
        fs::create_dir(place.path().join("mnt"))?;
        said(Command::new("mkfs.btrfs").args(["--quiet"]).arg(&image))?;
        let scratch = Self { place };
        // The loop device goes away with the mount, and that with us, however we end.
        let mut command = Command::new("mount");
        command.args(["-t", "btrfs", "-o", "loop,noatime"]);
        said(command.arg(&image).arg(scratch.top()))?;
        Ok(scratch)
    }

    /// The mounted top level.
    pub fn top(&self) -> PathBuf {
        self.place.path().join("mnt")
    }

    /// A directory for files beside the file system, on the host's disk.
    pub fn outside(&self) -> &Path {
        self.place.path()
    }

    /// A fresh subvolume.
    ///
    /// # Errors
    /// Where one of that name is there.
    pub fn subvolume(&self, name: &str) -> Result<PathBuf> {
        let top = File::open(self.top())?;
        backstay::sys::btrfs::create_subvolume(&top, name)?;
        Ok(self.top().join(name))
    }

    /// Deletes a subvolume, and waits until its space is free.
    ///
    /// # Errors
    /// Where it is in use.
    pub fn delete(&self, name: &str) -> Result<()> {
        let path = self.top().join(name);
        said(
            Command::new("btrfs")
                .args(["--quiet", "subvolume", "delete", "--commit-after"])
                .arg(&path),
        )?;
        said(
            Command::new("btrfs")
                .args(["subvolume", "sync"])
                .arg(self.top()),
        )?;
        Ok(())
    }

    /// A subvolume that holds a Debian root.
    ///
    /// # Errors
    /// Where it cannot be unpacked.
    pub fn debian(&self, name: &str, tarball: &Tarball) -> Result<PathBuf> {
        let root = self.subvolume(name)?;
        setup::say("unpacking a Debian root…");
        said(
            Command::new("tar")
                .args([
                    "-x",
                    "-p",
                    "--numeric-owner",
                    "--xattrs",
                    "--xattrs-include=*",
                    "-f",
                ])
                .arg(&tarball.path)
                .arg("-C")
                .arg(&root),
        )?;
        Ok(root)
    }

    /// Brings everything to disk.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(File::open(self.top())?)?;
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = unmount(self.top(), UnmountFlags::DETACH) {
            eprintln!("unmount {}: {error}", self.top().display());
        }
    }
}
