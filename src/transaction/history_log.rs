//! The store's log: what was done and why, in lines, bounded.

use crate::store::place::File;
use crate::store::{Store, StoreError};

/// The log's size at the most, in bytes; the oldest lines go first.
pub const MAX: usize = 32 * 1024;

/// Appends a line: seconds since 1970 (by a clock that may be wrong), then the text.
///
/// A log that cannot be written, on a full disk say, never stops what it tells of.
pub fn append<S: Store>(store: &mut S, now: u64, text: &str) {
    if let Err(error) = try_append(store, now, text) {
        log::warn!("the log was not written: {error}");
    }
}

fn try_append<S: Store>(store: &mut S, now: u64, text: &str) -> Result<(), StoreError> {
    let old = store.read(File::Log)?.unwrap_or_default();
    let mut log = String::from_utf8_lossy(&old).into_owned();
    log.push_str(&format!("{now} {}\n", text.replace('\n', " ")));
    let over = log.len().saturating_sub(MAX);
    let cut = log
        .char_indices()
        .find(|(at, c)| *at >= over && (over == 0 || *c == '\n'));
    let from = match cut {
        Some((at, _)) if over > 0 => at.saturating_add(1),
        _ => 0,
    };
    store.replace(File::Log, log.get(from..).unwrap_or_default().as_bytes())?;
    store.sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::model::machine;

    #[test]
    fn the_log_keeps_its_newest_lines_whole() {
        let (mut store, _) = machine();
        for n in 0..2000 {
            append(&mut store, n, "something was done\nfor a reason");
        }
        let log = String::from_utf8(store.read(File::Log).unwrap().unwrap()).unwrap();
        assert!(log.len() <= MAX);
        assert!(log.ends_with("1999 something was done for a reason\n"));
        let (first, _) = log.split_once(' ').unwrap();
        assert!(first.parse::<u64>().unwrap() > 1000, "{first}");
    }

    #[test]
    fn a_full_disk_does_not_stop_what_the_log_tells_of() {
        let (mut store, _) = machine();
        store.full = Some(true);
        append(&mut store, 1, "x");
        assert_eq!(store.read(File::Log).unwrap(), None);
    }
}
