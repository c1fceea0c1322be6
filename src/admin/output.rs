//! How things are printed: JSON, text that may be lost, the time.

pub use crate::console::text::{size, table, utc};
use serde::Serialize;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

/// Something could not be printed.
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints text as it is. Where it cannot be written (a full disk, a closed pipe), what is being done
/// goes on, and [`lost`] says so at the end.
pub fn out(text: impl core::fmt::Display) {
    let mut stdout = std::io::stdout().lock();
    if write!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .is_err()
    {
        LOST.store(true, Ordering::Relaxed);
    }
}

/// Whether anything that was to be printed is lost.
pub fn lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// Prints a value as JSON, for programs.
pub fn json<T: Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => out(format_args!("{text}\n")),
        Err(error) => eprintln!("backstay: the answer cannot be written as JSON: {error}"),
    }
}

/// Seconds since 1970 by this machine's clock, which may be wrong; 0 before 1970.
pub fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
