//! Licences, bans and sources of dependencies, by cargo-deny and deny.toml.
//!
//! Where cargo-deny is not installed it is built once (one or two minutes: without optimisation, and
//! without its own HTTP client, which only its database of advisories needs) and kept in
//! `~/.cache/backstay/tools`, beside the disk images that are kept there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Tally;
use super::command::{cargo, run, target, workspace};

const VERSION: &str = "0.20.2";
const BUILD: Duration = Duration::from_secs(900);

/// Checks them, or says what is missing.
pub(super) fn check(tally: &mut Tally) {
    let program = match find_or_build() {
        Ok(program) => program,
        Err(error) => {
            tally.leave_out(format!(
                "licences and bans of dependencies: cargo-deny is missing and could not be built; \
                 'cargo install --locked cargo-deny' ({error:#})"
            ));
            return;
        }
    };
    tally.check("dependencies (cargo deny: bans, licences, sources)", || {
        // cargo-deny looks at all platforms' packages, also at those that are never built here.
        run("fetch", cargo(&["fetch", "--locked"]), BUILD)?.succeeded()?;
        let mut command = Command::new(program);
        command.args([
            "--offline",
            "--locked",
            "check",
            "bans",
            "licenses",
            "sources",
        ]);
        command.current_dir(workspace());
        run("deny", command, BUILD)?.succeeded()?;
        Ok(1)
    });
}

fn find_or_build() -> Result<PathBuf> {
    let tools = crate::cache::Cache::machine()?.dir().join("tools");
    let ours = tools.join("bin/cargo-deny");
    for candidate in [Path::new("cargo-deny"), &ours] {
        let asked = Command::new(candidate).arg("--version").output();
        if asked.is_ok_and(|output| output.status.success()) {
            return Ok(candidate.to_owned());
        }
    }
    println!("building cargo-deny once, in {}", tools.display());
    let scratch = target().join("check-all/cargo-deny-build");
    let mut command = cargo(&["install", "--debug", "--locked", "--no-default-features"]);
    command
        .args(["cargo-deny", "--version", VERSION, "--root"])
        .arg(&tools);
    command
        .env("CARGO_TARGET_DIR", &scratch)
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    run("cargo-deny-build", command, BUILD)?.succeeded()?;
    std::fs::remove_dir_all(&scratch).context("remove what it was built in")?;
    Ok(ours)
}
