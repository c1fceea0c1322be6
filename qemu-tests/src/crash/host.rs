//! What the host must have: root, loop devices, btrfs in the running kernel, btrfs-progs; FUSE for
//! power cuts.

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
    prepare_for("cargo crash")?;
    exists("/dev/fuse", "FUSE", "fuse")?;
    device::detach_leftovers()
}

/// The same without FUSE, for any command that mounts a btrfs of its own.
///
/// # Errors
/// One line that names the remedy.
pub fn prepare_for(command: &str) -> Result<()> {
    if !setup::is_root() {
        bail!("this needs root, to mount file systems of its own: run 'sudo -E {command}'");
    }
    exists("/dev/loop-control", "loop devices", "loop")?;
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
    Ok(())
}

fn exists(path: &str, what: &str, module: &str) -> Result<()> {
    if !Path::new(path).exists() {
        bail!("{path} is missing: this needs a kernel with {what}; try 'modprobe {module}'");
    }
    Ok(())
}
