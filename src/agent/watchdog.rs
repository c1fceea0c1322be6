//! The hardware watchdog of a system on trial, where the machine's owner has configured one.
//!
//! It is armed at the last moment before the hand-over, and runs on through a kexec: a kernel that hangs, or a
//! system that does, is reset, comes back through GRUB, and was counted. The system takes it over (systemd:
//! `RuntimeWatchdogSec=`), or `mark-good` stops it. It never runs while a person is waited for.

use std::path::Path;

use super::policy::{self, Watchdog as Configured};
use crate::say;
use crate::sys::watchdog::Watchdog;

/// What the recovery kernel has to have, with 0, so that a watchdog runs through its kexec.
pub const NOT_STOPPED: &str = "watchdog.stop_on_reboot";
/// Whether the kernel leaves a running watchdog alone when it starts another one.
const STOP_ON_REBOOT: &str = "/sys/module/watchdog/parameters/stop_on_reboot";
/// What the kernel tells of the first watchdog (Documentation/ABI/testing/sysfs-class-watchdog).
const ATTRIBUTES: &str = "/sys/class/watchdog/watchdog0";
/// `WDIOF_…` that a person wants to hear of, with their words.
const REASONS: [(u32, &str); 4] = [
    (0x20, "the watchdog reset the machine"),
    (0x01, "the machine was reset because it was too hot"),
    (0x02, "the machine was reset because a fan failed"),
    (0x10, "the machine was reset because its power was too low"),
];
/// Keeps the next kernel's watchdog core from taking care of a timer that runs: the system must.
pub const LEFT_ALONE: (&str, &str) = ("watchdog.handle_boot_enabled", "0");

/// Why the machine was reset, where a watchdog knows.
pub fn reset_reason() -> Option<&'static str> {
    reason(&attribute("bootstatus")?)
}

fn attribute(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(Path::new(ATTRIBUTES).join(name)).ok()?;
    Some(text.trim().to_owned())
}

/// `status`: bits of linux/watchdog.h.
fn reason(status: &str) -> Option<&'static str> {
    let status: u32 = status.trim().parse().ok()?;
    let known = REASONS.iter().find(|(bit, _)| status & bit != 0);
    known.map(|(_, words)| *words)
}

/// Arms it for a start on trial, if it is configured; `kexec`: another kernel is started. Says what it cannot.
/// True where it runs.
pub fn arm(kexec: bool) -> bool {
    let Some(configured) = policy::of_initramfs().watchdog else {
        return false;
    };
    let seconds = configured.seconds;
    if kexec && std::fs::read_to_string(STOP_ON_REBOOT).is_ok_and(|text| text.trim() != "0") {
        say!(
            "the watchdog does not run through a kexec: the kernel needs watchdog.stop_on_reboot=0"
        );
        return false;
    }
    match start(&configured) {
        Ok(granted) => {
            note_armed();
            say!("the watchdog runs: a reset in {granted} s unless the system is up by then");
            if granted != seconds {
                say!("(policy.toml says {seconds} s; its driver takes {granted})");
            }
            true
        }
        Err(error) => {
            say!("the watchdog does not run: {error}; a start that hangs is not ended");
            false
        }
    }
}

fn start(configured: &Configured) -> crate::sys::Result<u32> {
    let watchdog = Watchdog::start(Path::new(policy::WATCHDOG))?;
    match watchdog.set_timeout(configured.seconds) {
        Ok(granted) => {
            watchdog.leave_running();
            Ok(granted)
        }
        // A time that nobody knows is none.
        Err(error) => {
            watchdog.stop()?;
            Err(error)
        }
    }
}

/// Where it is noted, for the booted system, that it runs: what the system itself is configured to may be another thing.
const ARMED: &str = "/run/backstay/watchdog";

fn note_armed() {
    let directory = Path::new(ARMED).parent().unwrap_or(Path::new("/"));
    if let Err(error) = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(ARMED, b""))
    {
        log::warn!("write({ARMED:?}): {error}");
    }
}

/// Whether an agent armed it, in this boot or in the kernel that started this one by kexec.
fn was_armed() -> bool {
    let line = std::fs::read("/proc/cmdline").unwrap_or_default();
    Path::new(ARMED).exists() || kernel_cmdline::tokens(&line).any(|token| token.is(LEFT_ALONE.0))
}

/// Stops it, where an agent armed it or will, and nobody else has it: a person is waited for, or the system is good.
pub fn stop() {
    let device = Path::new(policy::WATCHDOG);
    let ours = || was_armed() || policy::of_initramfs().watchdog.is_some();
    // To open one that does not run would start it.
    if !ours() || attribute("state").is_none_or(|state| state != "active") {
        return;
    }
    if attribute("nowayout").is_some_and(|it| it == "1") {
        say!("the watchdog cannot be stopped (nowayout): feed it, or it resets the machine");
    }
    if let Err(error) = Watchdog::start(device).and_then(Watchdog::stop) {
        // Who has it open takes care of it.
        log::info!("the watchdog is not stopped: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_told_in_words() {
        assert_eq!(reason("32\n"), Some("the watchdog reset the machine"));
        assert_eq!(reason("33\n"), Some("the watchdog reset the machine"));
        assert!(reason("1\n").is_some_and(|words| words.contains("hot")));
        for nothing in ["0\n", "", "x"] {
            assert_eq!(reason(nothing), None);
        }
    }
}
