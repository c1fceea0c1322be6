//! What the host must have: root, FUSE, loop devices, btrfs in the running kernel, btrfs-progs.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::mount::{MountPropagationFlags, mount_change};

use super::device;
use crate::setup;

/// Makes sure of it, and goes where no mount of ours is seen by anybody else: they are gone with this
/// process, however it ends. Called while there is one thread.
///
/// # Errors
/// One line that names the remedy.
pub fn prepare() -> Result<()> {
    if !setup::is_root() {
        bail!("this needs root, to mount what a power cut leaves: run 'sudo -E cargo crash'");
    }
    for (path, what, module) in [
        ("/dev/fuse", "FUSE", "fuse"),
        ("/dev/loop-control", "loop devices", "loop"),
    ] {
        if !Path::new(path).exists() {
            bail!("{path} is missing: this needs a kernel with {what}; try 'modprobe {module}'");
        }
    }
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known.lines().any(|line| line.trim() == "btrfs") {
        bail!(
            "the running kernel has no btrfs: try 'modprobe btrfs', or run this in a guest that has it"
        );
    }
    setup::ensure_btrfs()?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .context("a mount namespace is refused here: run this outside of a container")?;
    mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )?;
    device::detach_leftovers()
}
