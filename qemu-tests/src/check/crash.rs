//! A sample of `cargo crash`: power cuts on a real btrfs, some of them started in a virtual machine.

use std::time::Duration;

use super::Tally;
use super::command::{cargo, run};
use crate::setup;

/// States and starts of a sample.
const STATES: &str = "640";
const STARTS: &str = "6";
/// Ten times what it takes on a quiet machine with two cores.
const LIMIT: Duration = Duration::from_secs(2400);

/// Plays it with this seed, or says that root is missing.
pub fn check(tally: &mut Tally, seed: u64) {
    if !setup::is_root() {
        tally.leave_out("power cuts: they need root; run 'sudo -E cargo crash'");
        return;
    }
    tally.check("power cuts (cargo crash)", || {
        let seed = seed.to_string();
        let mut command = cargo(&["run", "--quiet", "--locked", "--package", "qemu-tests"]);
        command.args(["--bin", "crash", "--", "--sample", STATES]);
        command.args(["--boots", STARTS, "--seed", &seed]);
        let ran = run("crash", command, LIMIT)?.succeeded()?;
        for line in ran.output.lines() {
            if ["control:", "started for real:"]
                .iter()
                .any(|beginning| line.starts_with(beginning))
                || line.ends_with(" failed")
            {
                println!("  {line}");
            }
        }
        Ok(1)
    });
}
