//! When something that failed is tried again: later each time.

use std::time::{Duration, Instant};

/// After this time for the first time, then after twice that time, and so on.
const AGAIN: Duration = Duration::from_secs(1);
/// And so often at least.
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// One thing that may fail.
#[derive(Debug, Default)]
pub(super) struct Again {
    wait: Duration,
    next: Option<Instant>,
}

impl Again {
    /// Whether it may be tried now.
    pub(super) fn is_due(&self) -> bool {
        self.next.is_none_or(|next| Instant::now() >= next)
    }

    /// It failed. True: for the first time, or the first time after it was well for long.
    pub(super) fn failed(&mut self) -> bool {
        let now = Instant::now();
        let first = self.next.is_none_or(|next| now > next + AGAIN_MAX);
        self.wait = match first {
            true => AGAIN,
            false => (self.wait * 2).min(AGAIN_MAX),
        };
        self.next = Some(now + self.wait);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_tried_seldom() {
        let mut again = Again::default();
        assert!(again.is_due() && again.failed() && !again.is_due());
        let mut waits = vec![again.wait.as_secs()];
        for _ in 0..7 {
            assert!(!again.failed());
            waits.push(again.wait.as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
