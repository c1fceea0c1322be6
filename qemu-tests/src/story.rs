//! What a scenario is doing, for the reader of its failure: the steps so far, the time it has
//! left, and the console of the machine it started last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::serial::Line;

/// Shared by a scenario, the machines it starts and the runner.
#[derive(Clone)]
pub struct Story {
    inner: Arc<Mutex<Inner>>,
    started: Instant,
    deadline: Instant,
    narrated: bool,
}

struct Inner {
    steps: Vec<String>,
    line: Option<Line>,
}

impl Story {
    /// A story that has to be over within `limit`.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        let started = Instant::now();
        Self {
            inner: Arc::new(Mutex::new(Inner {
                steps: Vec::new(),
                line: None,
            })),
            started,
            deadline: started + limit,
            narrated: false,
        }
    }

    /// The same, and each step is printed as it begins.
    #[must_use]
    pub fn narrated(mut self) -> Self {
        self.narrated = true;
        self
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A poisoned story is still readable, and it is read in order to report the panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what comes now.
    pub fn step(&self, text: impl Into<String>) {
        let text = text.into();
        if self.narrated {
            println!("--- {text}");
        }
        self.lock().steps.push(text);
    }

    /// All steps so far.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        self.lock().steps.clone()
    }

    /// When the scenario must be over.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The time since the story began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The whole time the story was given.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.deadline - self.started
    }

    /// Remembers the serial line of the machine started last.
    pub fn attach(&self, line: Line) {
        self.lock().line = Some(line);
    }

    /// The serial line of the machine started last.
    #[must_use]
    pub fn line(&self) -> Option<Line> {
        self.lock().line.clone()
    }
}
