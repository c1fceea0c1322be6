//! A hardware watchdog (Documentation/watchdog/watchdog-api.rst).
//!
//! Opening the device starts its timer, and closing it does not stop it unless the letter V was written last:
//! so whoever opens it decides how it is left.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use super::{Context, Result};

/// `WDIOC_SETTIMEOUT`: seconds; the driver answers what it took.
const SET_TIMEOUT: Opcode = opcode::read_write::<libc::c_int>(b'W', 6);

/// An open watchdog, whose timer runs.
#[derive(Debug)]
pub struct Watchdog(File);

impl Watchdog {
    /// Opens it, and so starts its timer.
    ///
    /// # Errors
    /// `ENOENT`: there is none. `EBUSY`: somebody else has it open.
    pub fn start(device: &Path) -> Result<Watchdog> {
        let file = OpenOptions::new().write(true).open(device);
        Ok(Watchdog(
            file.call(|| format!("open({device:?}, O_WRONLY)"))?,
        ))
    }

    /// Resets the machine in so many seconds from now unless somebody takes care; gives the seconds that the
    /// driver took, which may be fewer or more.
    ///
    /// # Errors
    /// `EINVAL`: longer than the hardware can. `EOPNOTSUPP`: its time cannot be set.
    pub fn set_timeout(&self, seconds: u32) -> Result<u32> {
        let mut value = libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX);
        // SAFETY: WDIOC_SETTIMEOUT takes an int and writes one.
        unsafe {
            ioctl(
                self.0.as_fd(),
                Updater::<SET_TIMEOUT, libc::c_int>::new(&mut value),
            )
        }
        .call(|| format!("ioctl(WDIOC_SETTIMEOUT, {seconds})"))?;
        Ok(u32::try_from(value).unwrap_or(0))
    }

    /// Closes it, and its timer runs on.
    pub fn leave_running(self) {}

    /// Stops its timer. Not where the driver was built or told not to (`nowayout`): that shows only later.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn stop(mut self) -> Result<()> {
        self.0
            .write_all(b"V")
            .call(|| "write(watchdog, \"V\")".to_owned())
    }
}
