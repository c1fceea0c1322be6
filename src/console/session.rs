//! What the menu and its channel for programs share: who may, how long is left, and how a change is made.

use super::command;
use super::guard::{Act, Answer, Guard, Unlocked, Verdict};
use super::machine::{self, Changed, Machine, Situation, Stage};
use super::menu::{Choice, Settings, no_version};
use super::password::Typed;
use crate::agent::policy::console::Right;
use crate::record::state::{Consent, Verb};
use crate::transaction::explain::Explanation;
use std::ops::ControlFlow;
use std::time::Duration;

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
    /// It is not; the next one is taken after this time.
    Wrong(Duration),
    /// It was not looked at; the next one is taken after this time.
    TooSoon(Duration),
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
    /// Since when nobody was heard.
    heard: Duration,
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
        let heard = machine.now();
        Session {
            machine,
            guard,
            settings,
            how,
            heard,
            unlocked: None,
        }
    }

    /// What happens without anybody.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// What that is now.
    pub fn silent(&mut self) -> Choice {
        let Settings {
            silent, or_restart, ..
        } = self.settings;
        match silent {
            Choice::Boot if or_restart && !self.boots() => Choice::Reboot,
            silent => silent,
        }
    }

    /// The time until that; `None`: somebody is waited for.
    pub fn left(&self) -> Option<Duration> {
        let seconds = self.settings.seconds?;
        let silence = Duration::from_secs(u64::from(seconds));
        let silent = self.machine.now().saturating_sub(self.heard);
        Some(silence.saturating_sub(silent))
    }

    /// Somebody was heard, and was answered: silence begins now.
    pub fn answered(&mut self) {
        self.heard = self.machine.now();
    }

    /// How things stand, with what the policy says to it.
    pub fn situation(&mut self) -> Situation {
        Situation {
            policy: self.guard.fault().map(str::to_owned),
            ..self.machine.situation()
        }
    }

    /// What a verb would do.
    pub fn plan(&mut self, verb: Verb, consent: Consent) -> machine::Answer<Explanation> {
        // It is tried in any case, and then refused in the words of this place.
        let planned = self.machine.plan(verb, consent);
        let (Err(_), Verb::Rollback(Some(id)) | Verb::Select(id)) = (&planned, verb) else {
            return planned;
        };
        match self.machine.versions() {
            Ok(all) if !all.iter().any(|it| it.id == id && it.is_there()) => Err(no_version(id)),
            _ => planned,
        }
    }

    /// The paths at `path` and below it that are not the same in a version and in the live system.
    pub fn compare(
        &mut self,
        version: u32,
        path: &str,
        found: &mut dyn FnMut(Changed) -> ControlFlow<()>,
    ) -> machine::Answer<()> {
        let mut each = |changed: Changed| match changed.is_below(path) {
            true => found(changed),
            false => ControlFlow::Continue(()),
        };
        self.machine.compare(version, path, &mut each)
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
        match self.guard.check(typed.as_bytes(), self.machine.now()) {
            Verdict::Good(unlocked) => {
                self.unlocked = Some((holder, unlocked));
                Password::Good
            }
            Verdict::Wrong(wait) => {
                let note = format!("a wrong password was {}", self.how.word());
                self.machine.note(&note);
                Password::Wrong(wait)
            }
            Verdict::TooSoon(wait) => Password::TooSoon(wait),
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
