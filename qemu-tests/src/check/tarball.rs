//! Archives: attacks on the confined child, and `cargo image-check`, a Debian root by four packers.

use std::time::Duration;

use super::Tally;
use super::command::{cargo, run};
use crate::setup;

/// Ten times what it takes on a quiet machine with two cores.
const LIMIT: Duration = Duration::from_secs(1200);

/// Plays it, or says that root is missing.
pub fn check(tally: &mut Tally) {
    if !setup::is_root() {
        tally.leave_out("archives: they need root; run 'sudo -E cargo image-check' and 'sudo -E cargo test --test image'");
        return;
    }
    tally.check("attacks by archives on the confined child", || {
        let arguments = [
            "test",
            "--release",
            "--locked",
            "-p",
            "backstay",
            "--test",
            "image",
        ];
        let ran = run("image", cargo(&arguments), LIMIT)?.succeeded()?;
        let passed = ran.output.lines().filter(|line| line.contains(" … ok ("));
        Ok(passed.count())
    });
    tally.check("archives of a whole system (cargo image-check)", || {
        let mut command = cargo(&["run", "--quiet", "--locked", "--package", "qemu-tests"]);
        command.args(["--bin", "image-check"]);
        let ran = run("image-check", command, LIMIT)?.succeeded()?;
        let combinations = ran
            .output
            .lines()
            .filter(|line| line.starts_with("packed by "));
        Ok(combinations.count())
    });
}
