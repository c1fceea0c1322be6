//! A line a minute while something works without a word, so that nobody takes the machine for dead and switches it off.
//!
//! A process of its own says it: the one that works may wait in the kernel for a slow disk. It ends with that one.

use std::time::{Duration, Instant};

use super::log as agent_log;
use crate::sys::process;

/// Between two lines.
const EVERY: Duration = Duration::from_secs(60);

/// Says that it goes on, until it is dropped.
pub struct Pulse(Option<i32>);

impl Pulse {
    /// Begins. `what` is being done: "the change", "checking the disk". This process must have one thread.
    pub fn start(what: &'static str) -> Pulse {
        Pulse::each(EVERY, what)
    }

    /// The same with another time between two lines.
    pub fn each(every: Duration, what: &'static str) -> Pulse {
        let begun = Instant::now();
        let parent = rustix::process::getpid();
        let child = process::fork(move || {
            if process::die_with(parent).is_err() {
                return 1;
            }
            loop {
                std::thread::sleep(every);
                let minutes = begun.elapsed().as_secs() / 60;
                agent_log::say_for_another(&format!(
                    "{what} goes on, since {minutes} min; do not switch the machine off"
                ));
            }
        });
        Pulse(child.inspect_err(|error| log::warn!("{error}")).ok())
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.map(process::end) {
            log::warn!("{error}");
        }
    }
}
