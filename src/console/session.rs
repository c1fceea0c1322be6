//! What the menu and its channel for programs share: who may, how long is left, and how a change is made.

use super::command;
use super::guard::{Act, Answer, Guard, Unlocked, Verdict};
use super::machine::{self, Machine, Stage};
use super::menu::{Choice, Settings};
use super::password::Typed;
use crate::agent::policy::console::Right;
use crate::record::state::{Consent, Verb};
use std::time::{Duration, Instant};

/// How what a person or a program does here is written down: it was ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// typed, by a person.
    Typed,
    /// sent, by a program.
    Sent,
}

impl How {
    fn word(self) -> &'static str {
        match self {
            How::Typed => "typed",
            How::Sent => "sent",
        }
    }
}

/// What became of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Password {
    /// It is good.
    Good,
    /// It is not, or it came too soon; the next one is taken after this time.
    Wait(Duration),
    /// There is not enough memory to look at it.
    NoMemory,
}

/// One menu, from its opening to its end.
pub struct Session<'a> {
    /// What it works on.
    pub machine: &'a mut dyn Machine,
    guard: &'a mut Guard,
    settings: Settings,
    how: How,
    begun: Instant,
    /// When the last line was understood.
    heard: Instant,
    /// Whose password was right; gone when somebody else has the terminal.
    unlocked: Option<(u32, Unlocked)>,
}

impl<'a> Session<'a> {
    /// Begins now.
    pub fn new(
        machine: &'a mut dyn Machine,
        guard: &'a mut Guard,
        settings: Settings,
        how: How,
    ) -> Session<'a> {
        Session {
            machine,
            guard,
            settings,
            how,
            begun: Instant::now(),
            heard: Instant::now(),
            unlocked: None,
        }
    }

    /// What happens without anybody.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// The time until that; `None`: somebody is waited for.
    pub fn left(&self) -> Option<Duration> {
        let seconds = self.settings.seconds?;
        let silence = Duration::from_secs(u64::from(seconds));
        Some(silence.saturating_sub(self.heard.elapsed()))
    }

    /// A line was understood.
    pub fn understood(&mut self) {
        self.heard = Instant::now();
    }

    /// The policy's right, whoever asks.
    pub fn right(&self, act: Act) -> Right {
        self.guard.right(act)
    }

    /// Whether who has the terminal now may do it.
    pub fn may(&mut self, act: Act, holder: u32) -> Answer {
        self.unlocked.take_if(|(of, _)| *of != holder);
        let unlocked = self.unlocked.as_ref().map(|(_, unlocked)| unlocked);
        self.guard.may(act, unlocked)
    }

    /// Looks at the password that who has the terminal gave. Nothing of it stays.
    pub fn password(&mut self, line: String, holder: u32) -> Password {
        let typed = typed(line);
        match self.guard.check(typed.as_bytes(), self.begun.elapsed()) {
            Verdict::Good(unlocked) => {
                self.unlocked = Some((holder, unlocked));
                self.understood();
                Password::Good
            }
            Verdict::Wrong(wait) | Verdict::TooSoon(wait) => {
                let note = format!("a wrong password was {}", self.how.word());
                self.machine.note(&note);
                Password::Wait(wait)
            }
            Verdict::NoMemory => Password::NoMemory,
        }
    }

    /// Why nothing can be changed.
    pub fn unchangeable(&mut self, verb: Verb, consent: Consent) -> Option<String> {
        let why = self.machine.situation().unchangeable?;
        if self.machine.stage() == Stage::Running {
            // That somebody tried it is written down, as where it is asked for by a command of its own.
            let _ = self.machine.plan(verb, consent);
        }
        Some(why)
    }

    /// Does what the word was given for.
    pub fn carry_out(&mut self, verb: Verb, consent: Consent) -> machine::Answer<String> {
        let note = format!("{} was {}", command::word(verb), self.how.word());
        self.machine.note(&note);
        let done = self.machine.carry_out(verb, consent);
        if done.is_ok() {
            self.settings = self.settings.after_change(self.machine.stage());
        }
        self.understood();
        done
    }

    /// Whether there is anything that 'boot' goes on to.
    pub fn boots(&mut self) -> bool {
        self.machine.stage() == Stage::Running || self.machine.situation().starts
    }

    /// Leaves by a command of this name.
    pub fn leave(&mut self, word: &str, choice: Choice) -> Choice {
        let note = format!("{word} was {}", self.how.word());
        self.machine.note(&note);
        choice
    }
}

/// A line as a password; nothing of it stays elsewhere.
fn typed(line: String) -> Typed {
    let mut typed = Typed::default();
    let mut bytes = line.into_bytes();
    // A longer one is none.
    if !bytes.iter().all(|byte| typed.push(*byte)) {
        typed.clear();
    }
    bytes.fill(0);
    typed
}

/// Whole seconds, so that nobody is told to come too early.
pub fn whole(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
