//! The agent inside another initramfs, once that has the root's device and before it mounts it.
//!
//! It finishes what is open, carries out what waits, and comes back: what is live lies under its constant name, and
//! the host mounts that. No error here, and no hang, stops the host's boot:
//!
//! ```text
//! mount namespace of its own
//!   fork -> worker(Host) -- End over a pipe --> come back | kexec, reboot, power off
//!             | died, or was silent for SILENCE: killed
//!           worker(Host): finish what is open, no verbs
//!             | the same
//!           come back
//! ```
//! What it mounts nobody else sees: systemd would take a mount at the root's place for its own.

use std::path::Path;
use std::time::Duration;

use log::LevelFilter;

use super::pid1::{End, WorkerMode};
use super::{asked, end, flow, log as agent_log, setup, worker};
use crate::policy::Wish;
use crate::say;
use crate::sys::{console, mount};

/// Without a line on the console for so long, the worker hangs. What takes longer says so every few seconds; a
/// commit of btrfs on a slow disk takes a minute or two.
const SILENCE: Duration = Duration::from_secs(600);

/// Runs the agent. Comes back unless the machine restarts, or another kernel is started.
pub fn run() {
    let stdin = console::open_stdio(Path::new("/dev/console"));
    agent_log::init(LevelFilter::Debug);
    let line = std::fs::read("/proc/cmdline").unwrap_or_default();
    let first = asked::first_line(&line);
    let asked = asked::read(&line);
    match asked.wish == Wish::Boot && asked.refused.is_none() {
        true => log::info!("{first}"),
        false => say!("{first}"),
    }
    if let Err(error) = stdin {
        log::warn!("nobody can type here: {error}");
    }
    if let Err(error) = mount::apart() {
        say!("{error}: nothing is changed");
        return;
    }
    setup::in_host();
    std::panic::set_hook(Box::new(|info| say!("internal error: {info}")));
    match worker::run_watched(WorkerMode::Host, SILENCE, flow::work) {
        Ok(ended) => go(ended),
        Err(lost) => {
            say!("{}", lost.why);
            // Perhaps between two exchanges. One that cannot be killed waits for the disk, as another one would.
            if lost.ended
                && let Err(lost) = worker::run_watched(WorkerMode::Host, SILENCE, |_| {
                    flow::finish_alone();
                })
            {
                say!("{}", lost.why);
            }
        }
    }
    setup::restore_settings();
}

fn go(ended: End) {
    agent_log::record_in_run();
    match end::perform(ended) {
        end::Outcome::Failed(why) | end::Outcome::Lost(why) => say!("{why}"),
        end::Outcome::Gone | end::Outcome::Returned => {}
    }
}
