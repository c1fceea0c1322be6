//! The Rust target that the agent is built for. rust-toolchain.toml asks rustup for it; where rustup
//! was told not to bring things by itself, or is older, it is brought here.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::image::programs::TARGET;

/// Brings the target if it is missing.
///
/// # Errors
/// When it cannot be brought: the text names the line to type.
pub fn ensure() -> Result<()> {
    if is_there()? {
        return Ok(());
    }
    println!("adding the Rust target {TARGET}");
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .status();
    if !added.is_ok_and(|status| status.success()) || !is_there()? {
        bail!("the Rust target {TARGET} is missing: 'rustup target add {TARGET}'");
    }
    Ok(())
}

fn is_there() -> Result<bool> {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .context("run rustc")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Ok(sysroot
        .join("lib/rustlib")
        .join(TARGET)
        .join("lib")
        .is_dir())
}
