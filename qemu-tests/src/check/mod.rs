//! The checks of `cargo check-all`: quick ones ([`quick`]), the agent's binary ([`agent`]), and the
//! book that is kept about them.

pub mod agent;
pub mod command;
pub mod crash;
mod dependencies;
pub mod full;
pub mod quick;
pub mod tarball;

use std::time::{Duration, Instant};

/// What was checked so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Single checks and tests that held.
    pub passed: usize,
    /// Those that did not, by name.
    pub failed: Vec<String>,
    /// What was left out, and why.
    pub not_run: Vec<String>,
    /// The checks with their times, in order, for the report.
    pub times: Vec<(String, Duration)>,
}

impl Tally {
    /// Does one check and books it: `check` returns how many single tests it held for, or says why
    /// it does not hold.
    pub fn check(&mut self, name: &str, check: impl FnOnce() -> Result<usize, Failed>) {
        println!("{name}");
        let begun = Instant::now();
        match check() {
            Ok(count) => {
                self.passed += count;
                println!("  ok ({:.1} s)", begun.elapsed().as_secs_f32());
            }
            Err(Failed {
                passed,
                failed,
                why,
            }) => {
                self.passed += passed;
                println!(
                    "{why}\n  FAILED: {name} ({:.1} s)",
                    begun.elapsed().as_secs_f32()
                );
                if failed.is_empty() {
                    self.failed.push(name.to_owned());
                }
                self.failed.extend(failed);
            }
        }
        self.times.push((name.to_owned(), begun.elapsed()));
    }

    /// Books something that was left out.
    pub fn leave_out(&mut self, what: impl Into<String>) {
        let what = what.into();
        println!("not run: {what}");
        self.not_run.push(what);
    }
}

/// A check that does not hold.
#[derive(Debug, Default)]
pub struct Failed {
    /// How many of its single tests held.
    pub passed: usize,
    /// The names of those that did not; empty: the check as a whole.
    pub failed: Vec<String>,
    /// For a person.
    pub why: String,
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self {
            why: format!("  {error:#}"),
            ..Self::default()
        }
    }
}
