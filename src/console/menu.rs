//! The menu: lines in, lines out. Reading is open; a change shows its plan and wants a word typed.
//!
//! Nobody is waited for for ever where something can go on: [`Settings::seconds`] after the end of the last command
//! [`Settings::silent`] happens. Noise is no command. Nothing is written by the menu itself: what it
//! calls is a transaction, so that a power cut at any point leaves the old live set or the new one.

use super::command::{self, Command, Unknown, Way};
use super::guard::{Act, Answer, Guard};
use super::line::Echo;
use super::machine::{Changed, Machine, Situation, Stage};
use super::pager::Pager;
use super::screens::{self, Rights};
use super::session::{How, Password, Session, whole};
use super::terminal::{Heard, Terminal};
use super::text;
use crate::agent::policy::console::Right;
use crate::record::state::{Consent, Verb};
use std::path::Path;
use std::time::Duration;

/// The question for a command. Whoever types by a program waits for it.
pub const QUESTION: &str = "menu> ";
/// The question for the word.
const WORD: &str = "word> ";
/// The question for the password.
const PASSWORD: &str = "password: ";
/// The answer where the word or the password was not asked for.
const NOT_QUIET: &str = "The line is not quiet: nothing is done.";
/// What is said to a line with noise in it.
pub const GARBLED: &str = "That line was garbled: nothing is done. Type it again.";
/// How long the word, the password or the next page is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);
/// Lines that are not understood, one after the other, until the hint becomes short.
const PATIENT: u32 = 3;

/// How the menu ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Start what is live; in the running system: nothing.
    Boot,
    /// Restart the machine.
    Reboot,
    /// Switch it off.
    PowerOff,
}

/// What happens without anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Seconds without a command until [`Settings::silent`]; `None`: it waits for a person.
    pub seconds: Option<u32>,
    /// What happens then.
    pub silent: Choice,
    /// Whether the machine restarts instead of starting what cannot be started any more. Not inside another initramfs, whose
    /// boot goes on whatever comes of it.
    pub or_restart: bool,
    /// Seconds that it gets once a person has changed something, where it waited for one; not in the running system, where
    /// nothing waits for the menu's end.
    pub after_change: u32,
}

impl Settings {
    /// What holds once a person has changed something.
    pub fn after_change(self, stage: Stage) -> Settings {
        let seconds = match stage {
            Stage::EarlyBoot => self.seconds.or(Some(self.after_change)),
            Stage::Running => self.seconds,
        };
        Settings { seconds, ..self }
    }
}

/// Runs it to its end.
pub fn run(
    machine: &mut dyn Machine,
    terminal: &mut dyn Terminal,
    guard: &mut Guard,
    settings: Settings,
) -> Choice {
    let mut menu = Menu {
        session: Session::new(machine, guard, settings, How::Typed),
        terminal,
        strange: 0,
    };
    let choice = menu.go();
    menu.terminal.close(match choice {
        Choice::Boot if menu.session.machine.stage() == Stage::EarlyBoot => "starting the system",
        Choice::Boot => "",
        Choice::Reboot => "restarting the machine",
        Choice::PowerOff => "switching the machine off",
    });
    choice
}

struct Menu<'a> {
    session: Session<'a>,
    terminal: &'a mut dyn Terminal,
    /// Lines in a row that were not understood.
    strange: u32,
}

impl Menu<'_> {
    fn go(&mut self) -> Choice {
        let mut top = true;
        loop {
            if !self.may(Act::Menu) {
                match self.unlock(true) {
                    Some(choice) => return choice,
                    None => continue,
                }
            }
            if std::mem::take(&mut top) {
                self.top();
            }
            let left = self.session.left();
            let heard = match left {
                Some(Duration::ZERO) => Heard::Silence,
                _ => self.terminal.ask(QUESTION, left, Echo::Typed),
            };
            let line = match heard {
                Heard::Line(line) => line,
                Heard::Silence => {
                    self.session.machine.note("nothing was typed");
                    return self.silence("Nothing was typed.");
                }
                Heard::Garbled => {
                    self.terminal.show(GARBLED);
                    continue;
                }
                Heard::GivenUp | Heard::Noise => continue,
                Heard::Taken => {
                    self.session.answered();
                    top = true;
                    continue;
                }
            };
            let holder = self.terminal.holder();
            let command = command::read(&line);
            let is_understood = !matches!(command, Command::Unknown(_));
            if is_understood {
                self.strange = 0;
            }
            if let Some(choice) = self.obey(command) {
                return choice;
            }
            if is_understood {
                // Whoever reads pages or thinks about a word is there.
                self.session.answered();
            }
            // Whoever has come meanwhile has seen nothing yet.
            top |= self.terminal.holder() != holder;
        }
    }

    fn say_silence(&mut self) {
        if let Some(seconds) = self.session.settings().seconds {
            let then = match self.session.silent() {
                Choice::Reboot => "the machine restarts",
                Choice::PowerOff => "the machine is switched off",
                Choice::Boot => "the system starts",
            };
            self.show(&format!("Without a command for {seconds} seconds {then}."));
        }
    }

    /// Nobody is there.
    fn silence(&mut self, said: &str) -> Choice {
        self.terminal.show(said);
        self.session.silent()
    }

    fn situation(&mut self) -> (Situation, Stage) {
        (self.session.situation(), self.session.machine.stage())
    }

    fn show(&mut self, text: &str) {
        for row in text::rows(text) {
            self.terminal.show(&row);
        }
    }

    fn rights(&self) -> Rights {
        Rights {
            change: self.session.right(Act::Change),
            shell: self.session.right(Act::Shell),
        }
    }

    fn top(&mut self) {
        let (situation, stage) = self.situation();
        let lines = screens::top(&situation, stage, self.rights());
        lines.iter().for_each(|line| self.show(line));
        self.say_silence();
    }

    fn obey(&mut self, command: Command) -> Option<Choice> {
        match command {
            Command::Top => self.top(),
            Command::Help => {
                let (situation, stage) = self.situation();
                let lines = screens::help(&situation, stage, self.rights());
                self.page(lines.into_iter());
            }
            Command::List => self.list(),
            Command::Show(id) => self.one(id),
            Command::Diff(id, path) => self.compare(id, &path),
            Command::Look(version, path) => {
                let looked = self.session.machine.look(version, &path);
                self.tell(looked.map(|it| screens::look(&it)));
            }
            Command::Change(verb, consent) => self.change(verb, consent),
            Command::Disk => {
                let (lines, situation) = (
                    self.session.machine.disk(),
                    self.session.machine.situation(),
                );
                self.page(screens::disk(lines, &situation).into_iter());
            }
            Command::Mount(way) => {
                let situation = self.session.machine.situation();
                if situation.mounts {
                    match self.session.machine.mount(way) {
                        Ok(()) => {
                            self.mounted(way);
                            self.top();
                        }
                        Err(why) => self.show(&why),
                    }
                } else {
                    self.show("The disk cannot be mounted in another way from here; 'disk' says how it is.");
                }
            }
            Command::Log(which) => {
                let lines = self.session.machine.log(which);
                self.tell(lines);
            }
            Command::Forget => return self.forget(),
            Command::Shell => self.shell(),
            Command::Boot => return self.boot(),
            Command::Reboot => return self.leave("reboot", Choice::Reboot),
            Command::PowerOff => return self.leave("poweroff", Choice::PowerOff),
            Command::Unknown(unknown) => self.strange(unknown),
        }
        None
    }

    fn mounted(&mut self, way: Way) {
        let situation = self.session.machine.situation();
        if way == Way::ReadOnly && situation.unchangeable.is_none() {
            self.show(
                "It is mounted read-only, as every sound disk is here; that holds nothing back: a change is written all the \
                 same, and 'boot' starts the system as usual.",
            );
        }
    }

    fn strange(&mut self, unknown: Unknown) {
        self.strange = self.strange.saturating_add(1);
        match unknown {
            Unknown::Form(form) => self.show(&format!("It is written: {form}")),
            Unknown::Word(word) if self.strange <= PATIENT => {
                let word: String = text::plain(&word).chars().take(40).collect();
                self.show(&format!("'{word}' is no command here; 'help' lists them."));
            }
            Unknown::Word(_) => self.terminal.show("?"),
        }
    }

    fn tell(&mut self, lines: Result<Vec<String>, String>) {
        match lines {
            Ok(lines) => drop(self.page(lines.into_iter())),
            Err(why) => self.show(&why),
        }
    }

    /// Shows lines a page at a time; false where the person stopped it.
    fn page(&mut self, lines: impl Iterator<Item = String>) -> bool {
        let mut pager = Pager::new(self.terminal);
        let mut lines = lines;
        !lines.any(|line| pager.row(&line).is_break())
    }

    fn list(&mut self) {
        let situation = self.session.machine.situation();
        let versions = self.session.machine.versions();
        self.tell(versions.map(|it| screens::list(&it, &situation)));
    }

    fn one(&mut self, id: u32) {
        let situation = self.session.machine.situation();
        let rights = self.rights();
        let shown = self.session.machine.versions().and_then(|all| {
            let version = all.iter().find(|it| it.id == id);
            let version = version.filter(|it| it.is_there());
            let version = version.ok_or_else(|| no_version(id))?;
            Ok(screens::show(version, &situation, rights))
        });
        self.tell(shown);
    }

    fn compare(&mut self, id: u32, below: &str) {
        let mut counts = [0usize; 3];
        let mut stopped = false;
        // The machine looks while the terminal shows.
        let mut pager = Pager::new(self.terminal);
        let done = self.session.compare(id, below, &mut |changed: Changed| {
            if counts == [0; 3] {
                let _ =
                    pager.row("Files of the live system: + added, - removed, * changed since then");
            }
            let at = match changed.what {
                "added" => 0,
                "removed" => 1,
                _ => 2,
            };
            if let Some(count) = counts.get_mut(at) {
                *count += 1;
            }
            let flow = pager.row(&screens::changed(&changed));
            stopped = flow.is_break();
            flow
        });
        let [added, removed, changed] = counts;
        match done {
            Ok(()) if counts == [0; 3] => self.show("Nothing there differs from the live system."),
            Ok(()) => {
                let more = if stopped { ", and more" } else { "" };
                self.show(&format!(
                    "{added} added, {removed} removed, {changed} changed{more}"
                ));
            }
            Err(why) => self.show(&why),
        }
    }

    fn change(&mut self, verb: Verb, consent: Consent) {
        if self.session.right(Act::Change) == Right::Closed {
            self.show("Changes from this menu are closed by the policy of this machine; GRUB's entries are not.");
            return;
        }
        if let Some(why) = self.session.unchangeable(verb, consent) {
            return self.show(&format!("Nothing can be changed: {why}"));
        }
        let explanation = match self.session.plan(verb, consent) {
            Ok(explanation) => explanation,
            // What the fence says of it may be long.
            Err(why) => return self.tell(Ok(why.lines().map(str::to_owned).collect())),
        };
        let lines: Vec<String> = explanation.to_string().lines().map(str::to_owned).collect();
        if !self.page(lines.into_iter()) || !self.is_unlocked(Act::Change) {
            return self.show("Nothing was changed.");
        }
        let question = screens::asks(verb, self.session.machine.stage());
        self.show(&question);
        match self.terminal.confirm(WORD, Some(PATIENCE), Echo::Typed) {
            Heard::Line(line) if line.trim() == command::word(verb) => {}
            Heard::Noise => return self.show(NOT_QUIET),
            _ => return self.show("That was not the word: nothing was changed."),
        }
        match self.session.carry_out(verb, consent) {
            Ok(text) | Err(text) => self.show(&text),
        }
    }

    fn forget(&mut self) -> Option<Choice> {
        if !self.session.machine.situation().hibernated {
            self.show("No hibernated system lies on the disks.");
            return None;
        }
        if self.session.right(Act::Change) == Right::Closed || !self.is_unlocked(Act::Change) {
            self.show("Nothing was changed.");
            return None;
        }
        match self.session.machine.forget() {
            Ok(()) => Some(Choice::Reboot),
            Err(why) => {
                self.show(&why);
                None
            }
        }
    }

    fn shell(&mut self) {
        if self.session.machine.stage() == Stage::Running {
            self.show("Leave the menu with 'exit': you have a shell already.");
        } else if self.session.right(Act::Shell) == Right::Closed {
            self.show(
                "The policy of this machine gives no shell here (policy.toml, [console] shell).",
            );
        } else if self.is_unlocked(Act::Shell) {
            self.session.machine.note("a shell was opened");
            let machine = &mut *self.session.machine;
            let mut shell =
                |terminal: &Path, meanwhile: &mut dyn FnMut()| machine.shell(terminal, meanwhile);
            match self.terminal.lend(&mut shell) {
                Ok(()) => self.top(),
                Err(why) => self.show(&why),
            }
        }
    }

    fn boot(&mut self) -> Option<Choice> {
        if !self.session.boots() {
            let situation = self.session.machine.situation();
            let else_there_is = match (situation.readable, situation.mounts) {
                (true, _) => "'list' shows what else there is",
                (false, true) => "'disk' shows what is wrong, and other ways to mount it",
                (false, false) => "'disk' says why",
            };
            self.show(&format!(
                "The system cannot be started as it is; {else_there_is}, 'reboot' tries it all again.",
            ));
            return None;
        }
        self.leave("boot", Choice::Boot)
    }

    fn leave(&mut self, word: &str, choice: Choice) -> Option<Choice> {
        Some(self.session.leave(word, choice))
    }

    fn may(&mut self, act: Act) -> bool {
        self.session.may(act, self.terminal.holder()) == Answer::Yes
    }

    /// Whether it may be done, after the password was asked for where it is needed.
    fn is_unlocked(&mut self, act: Act) -> bool {
        self.may(act) || (self.unlock(false).is_none() && self.may(act))
    }

    /// Asks for the password once. A choice where nobody typed for as long as the menu waits; `at_the_door`: nothing can be
    /// done without it.
    fn unlock(&mut self, at_the_door: bool) -> Option<Choice> {
        let silence = match at_the_door {
            true => self.session.left(),
            false => Some(PATIENCE),
        };
        let heard = match silence {
            Some(Duration::ZERO) => Heard::Silence,
            // Noise at one console must not keep everybody out; nothing is confirmed here.
            _ if at_the_door => self.terminal.ask(PASSWORD, silence, Echo::Nothing),
            _ => self.terminal.confirm(PASSWORD, silence, Echo::Nothing),
        };
        match heard {
            Heard::Line(line) => {
                let is_try = !line.is_empty();
                self.try_password(line);
                if is_try {
                    self.session.answered();
                }
            }
            Heard::Taken => self.session.answered(),
            Heard::Noise => self.show(NOT_QUIET),
            Heard::Silence if at_the_door => {
                return Some(self.silence("Nobody gave the password."));
            }
            _ => {}
        }
        None
    }

    fn try_password(&mut self, line: String) {
        let (wait, before) = match self.session.password(line, self.terminal.holder()) {
            Password::Good => return,
            Password::NoMemory => {
                return self.show("There is not enough memory to check a password.");
            }
            Password::Wrong(wait) => (wait, "That is not the password. The"),
            Password::TooSoon(wait) => (wait, "Too soon: the"),
        };
        let seconds = whole(wait);
        self.show(&format!("{before} next try is taken in {seconds} s."));
        self.session.machine.pause(wait);
    }
}

/// There is no such version.
pub fn no_version(id: u32) -> String {
    match id {
        0 => "There is no factory snapshot.".to_owned(),
        id => format!("There is no snapshot {id}; 'list' shows which there are."),
    }
}
