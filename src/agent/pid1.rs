//! PID 1: the parent that never panics and never exits; a child does the work.
//!
//! ```text
//! PID 1: /dev, /proc, console, first line
//!   fork -> worker(Full)  -- End over a pipe --> perform it: switch root, kexec, reboot, power off, shell
//!             | died, or its End cannot be performed
//!           worker(Plain) -- no verbs: finish what is open, mount the live root and go on
//!             | the same
//!           worker(Menu)  -- a person decides
//!             | the same
//!           restart after LAST_RESORT_DELAY
//! ```
//! Whatever the worker does (a panic, a signal, an exit), PID 1 goes on to the next mode. It reaps
//! orphans. A power cut at any point here leaves what the worker had made durable: PID 1 writes nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::end::Outcome;
use crate::say;

/// How long the machine waits, with its reason on the console, before it restarts when nothing helped.
pub const LAST_RESORT_DELAY: Duration = Duration::from_secs(30);
/// After how many workers PID 1 stops asking (a menu whose shell ends comes again).
const WORKERS_MAX: u32 = 64;

/// What a worker is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerMode {
    /// Everything.
    Full,
    /// No verb: finish what is open (in a child), mount the live root and go on. The worker before it
    /// failed.
    Plain,
    /// The menu: nothing else helped.
    Menu,
    /// Everything, inside another initramfs, which has loaded its drivers and mounts the root afterwards.
    Host,
}

impl WorkerMode {
    /// What is tried after this mode failed.
    fn next(self) -> Option<Self> {
        match self {
            WorkerMode::Full => Some(WorkerMode::Plain),
            WorkerMode::Plain => Some(WorkerMode::Menu),
            WorkerMode::Menu | WorkerMode::Host => None,
        }
    }
}

/// How the worker wants early boot to end. All that is mounted and loaded for it is in place when the
/// worker returns it: worker and PID 1 share the mount namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// Make `root` the root and run its init.
    SwitchRoot {
        /// Where the new root is mounted, for example `/sysroot`.
        root: String,
        /// `init=`; `None`: the usual places.
        init: Option<String>,
        /// What follows `argv[0]`.
        args: Vec<String>,
    },
    /// Jump into the kernel that the worker has loaded.
    Kexec,
    /// Restart through the firmware.
    Reboot,
    /// Switch off.
    PowerOff,
    /// The other initramfs goes on, and mounts what is live by its name.
    GoOn,
    /// A shell on the console, if the initramfs has one; after it the menu.
    Shell,
}

/// What supervising needs of the machine; a table in tests.
pub trait Machine {
    /// Runs a worker to its end. `Err`: it died or told nothing, with the reason for people.
    fn work(&mut self, mode: WorkerMode) -> Result<End, String>;
    /// Performs `end`.
    fn perform(&mut self, end: End) -> Outcome;
    /// Nothing helped: says why, waits, restarts. Comes back only in tests.
    fn last_resort(&mut self, why: &str);
}

/// The whole life of PID 1 after its set-up: modes in their order until one ends the early boot.
pub fn supervise(machine: &mut impl Machine) {
    let mut mode = WorkerMode::Full;
    let mut why = String::from("the menu was left too many times");
    for _ in 0..WORKERS_MAX {
        match machine.work(mode).map(|end| machine.perform(end)) {
            Ok(Outcome::Gone) => return,
            Ok(Outcome::Returned) => {
                mode = WorkerMode::Menu;
                continue;
            }
            Ok(Outcome::Lost(reason)) => {
                why = reason;
                break;
            }
            Ok(Outcome::Failed(reason)) | Err(reason) => why = reason,
        }
        match mode.next() {
            Some(next) => {
                say!("{why}");
                mode = next;
            }
            None => break,
        }
    }
    machine.last_resort(&why);
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = Result<Outcome, &'static str>;

    /// Answers from a list; records what was asked.
    struct Script {
        answers: Vec<Answer>,
        asked: Vec<WorkerMode>,
        restarted: bool,
    }

    impl Machine for Script {
        fn work(&mut self, mode: WorkerMode) -> Result<End, String> {
            self.asked.push(mode);
            match self.answers.first() {
                Some(Ok(_)) => Ok(End::Reboot),
                _ => {
                    let why = self.answers.remove(0);
                    Err(why.err().unwrap_or_default().to_owned())
                }
            }
        }
        fn perform(&mut self, _: End) -> Outcome {
            self.answers.remove(0).unwrap()
        }
        fn last_resort(&mut self, _: &str) {
            self.restarted = true;
        }
    }

    #[test]
    fn each_failure_leads_to_the_next_mode_and_the_last_to_a_restart() {
        use WorkerMode::{Full, Menu, Plain};
        let failed = || Ok(Outcome::Failed("x".into()));
        let gone = || Ok(Outcome::Gone);
        let table: [(Vec<Answer>, Vec<WorkerMode>, bool); 7] = [
            (vec![gone()], vec![Full], false),
            (vec![Ok(Outcome::Lost("x".into()))], vec![Full], true),
            (vec![Err("signal 11"), gone()], vec![Full, Plain], false),
            (vec![failed(), gone()], vec![Full, Plain], false),
            (
                vec![Err("x"), failed(), gone()],
                vec![Full, Plain, Menu],
                false,
            ),
            (
                vec![Err("x"), Err("x"), Err("x")],
                vec![Full, Plain, Menu],
                true,
            ),
            (
                vec![Ok(Outcome::Returned), Ok(Outcome::Returned), gone()],
                vec![Full, Menu, Menu],
                false,
            ),
        ];
        for (answers, asked, restarted) in table {
            let mut script = Script {
                answers,
                asked: Vec::new(),
                restarted: false,
            };
            supervise(&mut script);
            assert_eq!((script.asked, script.restarted), (asked, restarted));
        }
    }

    #[test]
    fn a_menu_that_is_left_for_ever_ends_in_a_restart() {
        struct Leaver(u32, bool);
        impl Machine for Leaver {
            fn work(&mut self, _: WorkerMode) -> Result<End, String> {
                self.0 += 1;
                Ok(End::Shell)
            }
            fn perform(&mut self, _: End) -> Outcome {
                Outcome::Returned
            }
            fn last_resort(&mut self, _: &str) {
                self.1 = true;
            }
        }
        let mut leaver = Leaver(0, false);
        supervise(&mut leaver);
        assert_eq!((leaver.0, leaver.1), (WORKERS_MAX, true));
    }
}
