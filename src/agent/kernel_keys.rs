//! The kernel's own commands that a key gives (Documentation/admin-guide/sysrq.rst): off while the menu is open.
//!
//! A break on a noisy line is the beginning of such a key, and some of them restart the machine. What was set is read
//! once, before the first worker: a worker that dies with its menu open puts nothing back, so whoever started it does.
//! It is memory: a power cut leaves nothing behind.

use std::path::PathBuf;
use std::sync::OnceLock;

/// None of them.
const OFF: &str = "0";

static KEYS: OnceLock<Keys> = OnceLock::new();

/// Reads what is set, which stays what [`restore`] sets, here and in every worker.
pub(super) fn remember() {
    KEYS.get_or_init(|| Keys::at("/proc/sys/kernel/sysrq".into()));
}

/// Switches them off.
pub(super) fn off() {
    if let Some(keys) = KEYS.get() {
        keys.off();
    }
}

/// Sets what was set before, if they are off and were not.
pub(super) fn restore() {
    if let Some(keys) = KEYS.get() {
        keys.restore();
    }
}

/// The setting, and what it was.
struct Keys {
    path: PathBuf,
    /// Empty where the kernel has none: nothing is written then.
    before: String,
}

impl Keys {
    fn at(path: PathBuf) -> Keys {
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        let before = before.trim().to_owned();
        Keys { path, before }
    }

    fn off(&self) {
        if !self.before.is_empty() {
            self.set(OFF);
        }
    }

    fn restore(&self) {
        let is_off = || std::fs::read_to_string(&self.path).is_ok_and(|now| now.trim() == OFF);
        if !self.before.is_empty() && self.before != OFF && is_off() {
            self.set(&self.before);
        }
    }

    fn set(&self, which: &str) {
        if let Err(error) = std::fs::write(&self.path, which) {
            log::info!("write({:?}, {which:?}): {error}", self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_worker_has_left_off_is_set_again_and_nothing_else_is() {
        for (before, left, after) in [
            ("438\n", "0\n", "438"),
            ("0\n", "0\n", "0\n"),
            // Somebody has set it since.
            ("438\n", "1\n", "1\n"),
            ("438\n", "438\n", "438\n"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("sysrq");
            std::fs::write(&path, before).unwrap();
            let keys = Keys::at(path.clone());
            std::fs::write(&path, left).unwrap();
            keys.restore();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after, "{before:?}");
        }
    }

    #[test]
    fn an_open_menu_switches_them_off_and_one_that_closes_on_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sysrq");
        std::fs::write(&path, "176\n").unwrap();
        let keys = Keys::at(path.clone());
        for _ in 0..2 {
            keys.off();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "0");
            keys.restore();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "176");
        }
    }

    #[test]
    fn a_kernel_without_them_gets_no_such_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sysrq");
        let keys = Keys::at(path.clone());
        keys.off();
        keys.restore();
        assert!(!path.exists());
    }
}
