//! Restarting the machine, so that a request is carried out, and switching it off.

use super::error::{Error, Result};
use crate::sys::{self, power};
use std::path::Path;
use std::process::Command;

/// Restarts after a request was written.
pub fn reboot() -> Result<()> {
    restart().map_err(Error::Reboot)
}

/// Restarts.
///
/// # Errors
/// What was tried, and what came of it.
pub fn restart() -> core::result::Result<(), String> {
    end("reboot", power::restart)
}

/// Switches off.
///
/// # Errors
/// As [`restart`].
pub fn power_off() -> core::result::Result<(), String> {
    end("poweroff", power::power_off)
}

/// Asks systemd where it runs, so that services stop first; else it is done at once, after a sync.
fn end(how: &str, at_once: fn() -> sys::Result<()>) -> core::result::Result<(), String> {
    if Path::new("/run/systemd/system").is_dir() {
        return match Command::new("systemctl").arg(how).status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("systemctl {how}: {status}")),
            Err(error) => Err(format!("systemctl {how}: {error}")),
        };
    }
    rustix::fs::sync();
    at_once().map_err(|error| error.to_string())
}
