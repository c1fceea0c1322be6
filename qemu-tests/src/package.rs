//! The Debian package, by cargo-deb from what Cargo.toml says of it.
//!
//! Where cargo-deb is not installed it is built once (a minute or two) and kept in `~/.cache/backstay/tools`. The
//! programs are the static ones that the disks have.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::cache::{Cache, target_dir, workspace};
use crate::image::programs::{self, TARGET};
use crate::setup;
use crate::toolbox::{Error, io_error};

const VERSION: &str = "3.8.0";
/// The shells, and the names by which they find completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "backstay.bash"),
    ("zsh", "_backstay"),
    ("fish", "backstay.fish"),
];

static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Builds it, once a process; gives its path.
///
/// # Errors
/// Where a program does not compile, or cargo-deb cannot be had.
pub fn ensure() -> Result<PathBuf, Error> {
    let mut built = BUILT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(package) = built.as_ref() {
        return Ok(package.clone());
    }
    setup::ensure_xz()?;
    let programs = programs::ensure()?;
    let directory = target_dir().join(TARGET).join("release/completions");
    std::fs::create_dir_all(&directory).map_err(io_error("create", &directory))?;
    for (shell, name) in COMPLETIONS {
        let path = directory.join(name);
        let file = File::create(&path).map_err(io_error("create", &path))?;
        let mut command = Command::new(&programs.admin);
        command
            .args(["completions", shell])
            .stdout(Stdio::from(file));
        let status = command.status().map_err(io_error("run", &programs.admin))?;
        if !status.success() {
            return Err(Error::Output {
                what: format!("completions for {shell}"),
                reason: format!("backstay ended with {status}"),
            });
        }
    }
    let package = target_dir().join("backstay.deb");
    let mut command = cargo_deb()?;
    command
        .current_dir(workspace())
        .args(["--no-build", "--no-strip", "--target", TARGET, "--output"])
        .arg(&package);
    let log = target_dir().join("package-deb.log");
    setup::run_long("building the package", &mut command, &log)?;
    *built = Some(package.clone());
    Ok(package)
}

/// cargo-deb, built where it is missing.
fn cargo_deb() -> Result<Command, Error> {
    let tools = Cache::machine()?.dir().join("tools");
    let ours = tools.join("bin/cargo-deb");
    for candidate in [Path::new("cargo-deb"), &ours] {
        let asked = Command::new(candidate).arg("--version").output();
        if asked.is_ok_and(|output| output.status.success()) {
            return Ok(Command::new(candidate));
        }
    }
    setup::say("building cargo-deb, once…");
    let scratch = target_dir().join("cargo-deb-build");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Without liblzma, which would need a C compiler.
    command
        .args(["install", "--debug", "--locked", "--no-default-features"])
        .args([
            "--features",
            "gzip",
            "cargo-deb",
            "--version",
            VERSION,
            "--root",
        ])
        .arg(&tools)
        .env("CARGO_TARGET_DIR", &scratch)
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    setup::run_long(
        "building cargo-deb",
        &mut command,
        &target_dir().join("cargo-deb-build.log"),
    )?;
    let _ = std::fs::remove_dir_all(&scratch);
    Ok(Command::new(ours))
}
