//! The store on a real btrfs under Debian 13's kernel, and what it takes for granted there.
//!
//! The checks are the test program `btrfs` of the root package. It needs root and a block device,
//! which the toolbox guest has.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{Context, Scenario};
use crate::toolbox::{Disk, Job};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::plain(
        "premise-btrfs",
        "what the store relies on in btrfs: identities, power cuts, the log tree, a full disk",
        |ctx| checks(ctx, "premises", 35),
    )
    .usually(420)
    .within(LIMIT),
    Scenario::plain(
        "store-conformance",
        "the btrfs store does what every store must do",
        |ctx| checks(ctx, "conformance", 20),
    )
    .usually(250)
    .within(LIMIT),
    Scenario::plain(
        "converters-run-apart",
        "a converter finds what it is promised, changes the clone alone, and is told and ended when it should be",
        |ctx| checks(ctx, "converters", 3),
    )
    .usually(120)
    .within(LIMIT),
    Scenario::plain(
        "versions-compared-by-trees",
        "what differs between two versions, found by btrfs's trees, against a comparison that reads every file",
        |ctx| checks(ctx, "differ", 18),
    )
    .usually(900)
    .within(LIMIT),
];

const TARGET: &str = "x86_64-unknown-linux-musl";
const LIMIT: Duration = Duration::from_secs(1200);
/// Bytes of the device that the checks overwrite.
const DEVICE: u64 = 512 << 20;

/// Plays one suite of the program; at least so many checks must have passed.
fn checks(ctx: &mut Context, suite: &str, at_least: usize) -> Result<()> {
    ctx.step("build the checks");
    let program = build()?;
    let disk = ctx.directory().join("scratch.raw");
    File::create(&disk)
        .and_then(|file| file.set_len(DEVICE))
        .with_context(|| format!("make {}", disk.display()))?;
    ctx.step(format!("run the {suite} in a guest"));
    let script = format!(
        "mkdir -p /tmp\n\
         chmod +x /in/checks\n\
         BACKSTAY_BTRFS_DEVICE=$(readlink -f /dev/disk0) /in/checks {suite}\n"
    );
    let said = Job::new(format!("the {suite} of the btrfs store"), script)
        .disk(Disk::scratch(&disk))
        .file("checks", program)
        .timeout(LIMIT)
        .run()?;
    let begin = format!("{suite} ");
    let passed = |line: &&str| line.starts_with(&begin) && line.contains(" … ok ");
    let passed = said.lines().filter(passed).count();
    ctx.step(format!("{passed} checks passed"));
    ctx.check(passed >= at_least, || {
        format!("only {passed} checks were run, {at_least} were expected:\n{said}")
    })
}

/// Builds the test program as the agent is built: static, for musl.
fn build() -> Result<PathBuf> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--target", TARGET, "--package", "backstay"])
        .args([
            "--test",
            "btrfs",
            "--message-format=json-render-diagnostics",
        ])
        .current_dir(root)
        .output()
        .context("run cargo")?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("cargo did not build the checks: {why}");
    }
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "btrfs")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo built the checks and does not say where they are")
}
