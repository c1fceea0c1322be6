//! The first moments of PID 1: what must be there before anything can be said or forked.
//!
//! Everything is tolerated: a step that fails is logged, and the boot goes on.

use std::path::Path;

use log::LevelFilter;

use super::{end, log as agent_log, pid1, worker};
use crate::say;
use crate::sys::mount::MountFlags;
use crate::sys::{console, power};

/// Seconds from a kernel panic to a restart, while the agent runs and where `panic=` was not given: with
/// the kernel's default, 0, a machine whose PID 1 ended would hang for ever.
const PANIC_SECONDS: &str = "10\n";
const PANIC_FILE: &str = "/proc/sys/kernel/panic";

/// The life of PID 1. `first` turns the command line into the lines that a person sees first, before
/// any module is loaded or device awaited; `work` is the worker, run in a child.
///
/// Comes back only if this is not PID 1: an early boot that a person started by hand does nothing.
pub fn run(first: impl FnOnce(&[u8]) -> String, work: impl Fn(pid1::WorkerMode) -> pid1::End) {
    if !rustix::process::getpid().is_init() {
        return;
    }
    let mounted = mount_early();
    agent_log::init(LevelFilter::Debug);
    let cmdline = std::fs::read("/proc/cmdline").unwrap_or_default();
    say!("{}", first(&cmdline));
    for problem in mounted {
        log::warn!("{problem}");
    }
    if let Err(error) = power::disable_ctrl_alt_del() {
        log::warn!("{error}");
    }
    if std::fs::read_to_string(PANIC_FILE).is_ok_and(|text| text.trim() == "0") {
        write_panic(PANIC_SECONDS);
    }
    std::panic::set_hook(Box::new(|info| {
        say!("internal error: {info}");
        // A worker dies of it and PID 1 goes on; PID 1 itself must not die.
        if rustix::process::getpid().is_init() {
            end::last_resort("PID 1 cannot go on");
        }
    }));
    pid1::supervise(&mut Real { work });
}

/// `/dev` and `/proc`, which everything else needs, and descriptors 0 to 2, which are closed where the
/// archive has no /dev/console.
fn mount_early() -> Vec<String> {
    let mut problems = Vec::new();
    for (fs, at) in [("devtmpfs", "/dev"), ("proc", "/proc")] {
        if let Err(error) = super::mount::api(fs, Path::new(at), MountFlags::empty(), "") {
            problems.push(error.to_string());
        }
    }
    if let Err(error) = console::open_stdio(Path::new("/dev/console")) {
        problems.push(error.to_string());
    }
    problems
}

/// Puts the kernel's default back where [`run`] changed it: what the booted system does after a panic
/// is its own affair.
pub(super) fn restore_panic() {
    if std::fs::read_to_string(PANIC_FILE).is_ok_and(|text| text == PANIC_SECONDS)
        && !std::fs::read_to_string("/proc/cmdline").is_ok_and(|line| line.contains("panic="))
    {
        write_panic("0\n");
    }
}

fn write_panic(seconds: &str) {
    if let Err(error) = std::fs::write(PANIC_FILE, seconds) {
        log::warn!("write({PANIC_FILE:?}, {seconds:?}): {error}");
    }
}

struct Real<W> {
    work: W,
}

impl<W: Fn(pid1::WorkerMode) -> pid1::End> pid1::Machine for Real<W> {
    fn work(&mut self, mode: pid1::WorkerMode) -> Result<pid1::End, String> {
        worker::run(mode, &self.work)
    }
    fn perform(&mut self, end: pid1::End) -> end::Outcome {
        agent_log::record_in_run();
        end::perform(end)
    }
    fn last_resort(&mut self, why: &str) {
        end::last_resort(why);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_that_is_not_pid_1_does_nothing() {
        super::run(|_| panic!("first line"), |_| panic!("worker"));
    }
}
