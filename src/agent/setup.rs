//! The first moments of PID 1: what must be there before anything can be said or forked. The agent inside another
//! initramfs begins in `host.rs`.
//!
//! Everything is tolerated: a step that fails is logged, and the boot goes on.

use std::path::Path;

use log::LevelFilter;

use super::{end, kernel_keys, log as agent_log, pid1, worker};
use crate::say;
use crate::sys::mount::MountFlags;
use crate::sys::{console, power};

/// Seconds from a kernel panic to a restart, while the agent runs and where `panic=` was not given: with
/// the kernel's default, 0, a machine whose PID 1 ended would hang for ever.
const PANIC: Setting = Setting {
    path: "/proc/sys/kernel/panic",
    usual: "0\n",
    ours: "10\n",
};
/// [`PANIC`] as it is left for a start on trial: other than what is put back.
const KEPT_PANIC: Setting = Setting {
    usual: "10\n",
    ours: "11\n",
    ..PANIC
};
/// Whether a task that hangs is a panic.
const HUNG_TASK: Setting = Setting {
    path: "/proc/sys/kernel/hung_task_panic",
    usual: "0\n",
    ours: "1\n",
};
/// The kernel drops all but ten records in five seconds that a program writes to its log, silently.
const LOG_LIMIT: Setting = Setting {
    path: "/proc/sys/kernel/printk_devkmsg",
    usual: "ratelimit\n",
    ours: "on\n",
};

/// A setting of the kernel that is another one while the agent runs, unless somebody chose it.
struct Setting {
    path: &'static str,
    usual: &'static str,
    ours: &'static str,
}

impl Setting {
    fn change(&self, from: &str, to: &str) {
        if std::fs::read_to_string(self.path).is_ok_and(|text| text == from)
            && let Err(error) = std::fs::write(self.path, to)
        {
            log::warn!("write({:?}, {to:?}): {error}", self.path);
        }
    }
}

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
    kernel_keys::remember();
    PANIC.change(PANIC.usual, PANIC.ours);
    LOG_LIMIT.change(LOG_LIMIT.usual, LOG_LIMIT.ours);
    std::panic::set_hook(Box::new(|info| {
        say!("internal error: {info}");
        // A worker dies of it and PID 1 goes on; PID 1 itself must not die.
        if rustix::process::getpid().is_init() {
            end::last_resort("PID 1 cannot go on");
        }
    }));
    pid1::supervise(&mut Real { work });
}

/// What a kernel panic does while the agent runs inside another initramfs; the other settings are the host's.
pub(super) fn in_host() {
    kernel_keys::remember();
    PANIC.change(PANIC.usual, PANIC.ours);
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

/// A start on trial in the running kernel: what dies or hangs comes back to GRUB, as it does in a kernel that is
/// started by kexec. `mark-good` takes the second back.
pub(super) fn end_what_dies() {
    for setting in [KEPT_PANIC, HUNG_TASK] {
        setting.change(setting.usual, setting.ours);
    }
}

/// Puts the kernel's defaults back where [`run`] changed them: what the booted system does is its own
/// affair. What the command line set, to whatever value, stays.
pub(super) fn restore_settings() {
    // Inside another initramfs it was never disabled by us.
    if rustix::process::getpid().is_init()
        && let Err(error) = power::enable_ctrl_alt_del()
    {
        log::warn!("{error}");
    }
    kernel_keys::restore();
    let line = std::fs::read("/proc/cmdline").unwrap_or_default();
    let given = |name| kernel_cmdline::tokens(&line).any(|token| token.is(name));
    if !given("panic") {
        PANIC.change(PANIC.ours, PANIC.usual);
    }
    if !given("printk.devkmsg") {
        LOG_LIMIT.change(LOG_LIMIT.ours, LOG_LIMIT.usual);
    }
}

struct Real<W> {
    work: W,
}

impl<W: Fn(pid1::WorkerMode) -> pid1::End> pid1::Machine for Real<W> {
    fn work(&mut self, mode: pid1::WorkerMode) -> Result<pid1::End, String> {
        let end = worker::run(mode, &self.work);
        // It may have died with its menu open.
        kernel_keys::restore();
        end
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
