//! backstay's own programs, as they are put on the disks.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use crate::cache::{target_dir, workspace};
use crate::setup;
use crate::toolbox::Error;

/// The target that the agent is built for: static, without a C library of the host.
pub const TARGET: &str = "x86_64-unknown-linux-musl";

/// The built programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The admin command.
    pub admin: PathBuf,
    /// The agent.
    pub agent: PathBuf,
}

static BUILT: Mutex<Option<Programs>> = Mutex::new(None);

/// Builds both, once a process. Cargo does nothing where nothing has changed.
pub fn ensure() -> Result<Programs, Error> {
    let mut built = BUILT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(programs) = built.as_ref() {
        return Ok(programs.clone());
    }
    setup::say("building backstay for the disks…");
    let target = target_dir();
    let _ = std::fs::create_dir_all(&target);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).args([
        "build",
        "--release",
        "--package",
        "backstay",
        "--bins",
        "--target",
        TARGET,
    ]);
    setup::run_long(
        "building backstay",
        &mut cargo,
        &target.join("build-for-images.log"),
    )?;
    let dir = target.join(TARGET).join("release");
    let programs = Programs {
        admin: dir.join("backstay"),
        agent: dir.join("backstay-init"),
    };
    *built = Some(programs.clone());
    Ok(programs)
}
