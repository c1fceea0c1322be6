//! Restarting the machine, so that a request is carried out.

use super::error::{Error, Result};
use crate::sys::power;
use std::path::Path;
use std::process::Command;

/// Asks systemd where it runs, so that services stop first; else restarts at once, after a sync.
pub fn reboot() -> Result<()> {
    if Path::new("/run/systemd/system").is_dir() {
        return match Command::new("systemctl").arg("reboot").status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Error::Reboot(format!("systemctl reboot: {status}"))),
            Err(error) => Err(Error::Reboot(format!("systemctl reboot: {error}"))),
        };
    }
    rustix::fs::sync();
    power::restart().map_err(|error| Error::Reboot(error.to_string()))
}
