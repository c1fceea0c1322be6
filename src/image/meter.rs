//! Progress as lines: percent, megabytes, files, time left; no cursor codes, so that a serial line bears it.

use super::{Phase, Progress};
use std::time::{Duration, Instant};

/// Turns progress into lines, one in so much time at the most.
#[derive(Debug)]
pub struct Meter {
    every: Duration,
    phase: Option<(Phase, Instant)>,
    told: Option<Instant>,
}

impl Meter {
    /// One line in this time at the most.
    pub fn new(every: Duration) -> Meter {
        Meter {
            every,
            phase: None,
            told: None,
        }
    }

    /// The line to say now, if one is due: the first one of a phase, once its time has passed.
    pub fn line(&mut self, progress: &Progress) -> Option<String> {
        self.line_at(progress, Instant::now())
    }

    fn line_at(&mut self, progress: &Progress, now: Instant) -> Option<String> {
        let begun = match self.phase {
            Some((phase, begun)) if phase == progress.phase => begun,
            _ => {
                self.phase = Some((progress.phase, now));
                self.told = Some(now);
                return None;
            }
        };
        if now.duration_since(self.told.unwrap_or(begun)) < self.every {
            return None;
        }
        self.told = Some(now);
        Some(text(progress, now.duration_since(begun)))
    }
}

fn text(progress: &Progress, spent: Duration) -> String {
    let Progress {
        phase,
        done,
        total,
        made,
    } = *progress;
    let what = match phase {
        Phase::Verify => "verifying",
        Phase::Extract => "unpacking",
    };
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
    let megabytes = |bytes: u64| bytes / 1_000_000;
    let files = match phase {
        Phase::Verify => String::new(),
        Phase::Extract => format!(", {made} files"),
    };
    let time = time(done, total, spent);
    format!(
        "{what}: {percent}%, {} of {} MB{files}, {time}",
        megabytes(done),
        megabytes(total)
    )
}

/// How long it takes yet; where that cannot be known, because nothing is done, or all was read and the
/// rest is not in bytes, how long it took.
fn time(done: u64, total: u64, spent: Duration) -> String {
    let left = total.saturating_sub(done);
    let seconds = spent.as_millis().saturating_mul(u128::from(left));
    match seconds.checked_div(u128::from(done).saturating_mul(1000)) {
        Some(seconds) if left > 0 => format!("{seconds} s left"),
        _ => format!("{} s so far", spent.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_when_its_time_has_passed_and_says_what_is_left() {
        let mut meter = Meter::new(Duration::from_secs(5));
        let start = Instant::now();
        let at = |phase, done, seconds| {
            let progress = Progress {
                phase,
                done,
                total: 200_000_000,
                made: seconds * 100,
            };
            (progress, start + Duration::from_secs(seconds))
        };
        let mut lines = Vec::new();
        for (progress, now) in [
            at(Phase::Verify, 0, 0),
            at(Phase::Verify, 20_000_000, 4),
            at(Phase::Verify, 50_000_000, 5),
            at(Phase::Verify, 60_000_000, 6),
            at(Phase::Extract, 0, 20),
            at(Phase::Extract, 0, 26),
            at(Phase::Extract, 100_000_000, 40),
            at(Phase::Extract, 100_000_000, 50),
            at(Phase::Extract, 200_000_000, 60),
            at(Phase::Extract, 200_000_000, 64),
            at(Phase::Extract, 200_000_000, 65),
        ] {
            lines.extend(meter.line_at(&progress, now));
        }
        assert_eq!(
            lines,
            [
                "verifying: 25%, 50 of 200 MB, 15 s left",
                "unpacking: 0%, 0 of 200 MB, 2600 files, 6 s so far",
                "unpacking: 50%, 100 of 200 MB, 4000 files, 20 s left",
                "unpacking: 50%, 100 of 200 MB, 5000 files, 30 s left",
                "unpacking: 100%, 200 of 200 MB, 6000 files, 40 s so far",
                "unpacking: 100%, 200 of 200 MB, 6500 files, 45 s so far",
            ]
        );
    }
}
