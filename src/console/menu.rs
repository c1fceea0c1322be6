//! The menu: lines in, lines out. Reading is open; a change shows its plan and wants a word typed.
//!
//! Nobody is waited for for ever where something can go on: after [`Settings::seconds`] without a line that is
//! understood, [`Settings::silent`] happens. Noise is no such line. Nothing is written by the menu itself: what it
//! calls is a transaction, so that a power cut at any point leaves the old live set or the new one.

use super::command::{self, Command, Unknown};
use super::guard::{Act, Answer, Guard, Unlocked, Verdict};
use super::line::Echo;
use super::machine::{Changed, Machine, Stage};
use super::password::Typed;
use super::screens::{self, Rights};
use super::terminal::{Heard, Terminal};
use super::text::{self, PAGE};
use crate::agent::policy::console::Right;
use crate::record::state::Verb;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// The question for a command. Whoever types by a program waits for it.
pub const QUESTION: &str = "menu> ";
/// The question for the word.
const WORD: &str = "word> ";
/// The question for the password.
const PASSWORD: &str = "password: ";
/// The question between pages.
const MORE: &str = "-- Enter: more, q: stop -- ";
/// How long the word, the password or the next page is waited for.
const PATIENCE: Duration = Duration::from_secs(300);
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
        machine,
        terminal,
        guard,
        settings,
        begun: Instant::now(),
        heard: Instant::now(),
        unlocked: None,
        strange: 0,
    };
    let choice = menu.go();
    menu.terminal.close(match choice {
        Choice::Boot if menu.machine.stage() == Stage::EarlyBoot => "starting the system",
        Choice::Boot => "",
        Choice::Reboot => "restarting the machine",
        Choice::PowerOff => "switching the machine off",
    });
    choice
}

struct Menu<'a> {
    machine: &'a mut dyn Machine,
    terminal: &'a mut dyn Terminal,
    guard: &'a mut Guard,
    settings: Settings,
    begun: Instant,
    /// When the last line was understood.
    heard: Instant,
    /// Whose password was right; gone when somebody else has the terminal.
    unlocked: Option<(u32, Unlocked)>,
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
            let left = self.left();
            let heard = match left {
                Some(Duration::ZERO) => Heard::Silence,
                _ => self.terminal.ask(QUESTION, left, Echo::Typed),
            };
            let line = match heard {
                Heard::Line(line) => line,
                Heard::Silence => {
                    self.machine.note("nothing was typed");
                    self.terminal.show("Nothing was typed.");
                    return self.settings.silent;
                }
                Heard::Garbled => {
                    self.terminal
                        .show("That line was garbled: nothing is done. Type it again.");
                    continue;
                }
                Heard::GivenUp => continue,
                Heard::Taken => {
                    top = true;
                    continue;
                }
            };
            let command = command::read(&line);
            if !matches!(command, Command::Unknown(_)) {
                self.heard = Instant::now();
                self.strange = 0;
            }
            if let Some(choice) = self.obey(command) {
                return choice;
            }
        }
    }

    fn say_silence(&mut self) {
        if let Some(seconds) = self.settings.seconds {
            let then = match self.settings.silent {
                Choice::Reboot => "the machine restarts",
                Choice::PowerOff => "the machine is switched off",
                Choice::Boot => "the system starts",
            };
            self.show(&format!("Without a command for {seconds} seconds {then}."));
        }
    }

    /// The time that is left to the silence.
    fn left(&self) -> Option<Duration> {
        let seconds = self.settings.seconds?;
        let silence = Duration::from_secs(u64::from(seconds));
        Some(silence.saturating_sub(self.heard.elapsed()))
    }

    fn show(&mut self, text: &str) {
        for row in text::rows(text) {
            self.terminal.show(&row);
        }
    }

    fn rights(&self) -> Rights {
        Rights {
            change: self.guard.right(Act::Change),
            shell: self.guard.right(Act::Shell),
        }
    }

    fn top(&mut self) {
        let (situation, stage) = (self.machine.situation(), self.machine.stage());
        let lines = screens::top(&situation, stage, self.rights());
        lines.iter().for_each(|line| self.show(line));
        self.say_silence();
    }

    fn obey(&mut self, command: Command) -> Option<Choice> {
        match command {
            Command::Top => self.top(),
            Command::Help => {
                let (situation, stage) = (self.machine.situation(), self.machine.stage());
                let lines = screens::help(&situation, stage, self.rights());
                self.page(lines.into_iter());
            }
            Command::List => self.list(),
            Command::Show(id) => self.one(id),
            Command::Diff(id, path) => self.compare(id, &path),
            Command::Look(version, path) => {
                let looked = self.machine.look(version, &path);
                self.tell(looked.map(|it| screens::look(&it)));
            }
            Command::Change(verb) => self.change(verb),
            Command::Disk => {
                let (lines, situation) = (self.machine.disk(), self.machine.situation());
                self.page(screens::disk(lines, &situation).into_iter());
            }
            Command::Mount(way) => {
                let situation = self.machine.situation();
                if situation.mounts {
                    match self.machine.mount(way) {
                        Ok(()) => self.top(),
                        Err(why) => self.show(&why),
                    }
                } else {
                    self.show("The disk cannot be mounted in another way from here; 'disk' says how it is.");
                }
            }
            Command::Log(which) => {
                let lines = self.machine.log(which);
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
        let situation = self.machine.situation();
        let versions = self.machine.versions();
        self.tell(versions.map(|it| screens::list(&it, &situation)));
    }

    fn one(&mut self, id: u32) {
        let situation = self.machine.situation();
        let rights = self.rights();
        let shown = self.machine.versions().and_then(|all| {
            let version = all.iter().find(|it| it.id == id);
            let version = version.filter(|it| it.is_there());
            let version = version.ok_or_else(|| no_version(id))?;
            Ok(screens::show(version, &situation, rights))
        });
        self.tell(shown);
    }

    fn compare(&mut self, id: u32, below: &str) {
        let below = below.trim_matches('/').to_owned();
        let mut counts = [0usize; 3];
        let mut stopped = false;
        // The machine looks while the terminal shows.
        let (machine, mut pager) = (&mut *self.machine, Pager::new(self.terminal));
        let done = machine.compare(id, &mut |changed: Changed| {
            let path = changed.path.trim_start_matches('/');
            let is_below = path
                .strip_prefix(below.as_str())
                .is_some_and(|rest| below.is_empty() || rest.is_empty() || rest.starts_with('/'));
            if !is_below {
                return ControlFlow::Continue(());
            }
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

    fn change(&mut self, verb: Verb) {
        if self.guard.right(Act::Change) == Right::Closed {
            self.show("Changes from this menu are closed by the policy of this machine; GRUB's entries are not.");
            return;
        }
        if let Some(why) = self.machine.situation().unchangeable {
            if self.machine.stage() == Stage::Running {
                // That somebody tried it is written down, as where it is asked for by a command of its own.
                let _ = self.machine.plan(verb);
            }
            self.show(&format!("Nothing can be changed: {why}"));
            return;
        }
        let explanation = match self.machine.plan(verb) {
            Ok(explanation) => explanation,
            Err(why) => return self.show(&why),
        };
        let lines: Vec<String> = explanation.to_string().lines().map(str::to_owned).collect();
        if !self.page(lines.into_iter()) || !self.is_unlocked(Act::Change) {
            return self.show("Nothing was changed.");
        }
        let question = screens::asks(verb, self.machine.stage());
        self.show(&question);
        match self.terminal.ask(WORD, Some(PATIENCE), Echo::Typed) {
            Heard::Line(line) if line.trim() == command::word(verb) => {}
            _ => return self.show("That was not the word: nothing was changed."),
        }
        self.machine
            .note(&format!("{} was typed", command::word(verb)));
        match self.machine.carry_out(verb) {
            Ok(then) => {
                self.settings = self.settings.after_change(self.machine.stage());
                self.show(&then);
            }
            Err(why) => self.show(&why),
        }
        self.heard = Instant::now();
    }

    fn forget(&mut self) -> Option<Choice> {
        if !self.machine.situation().hibernated {
            self.show("No hibernated system lies on the disks.");
            return None;
        }
        if self.guard.right(Act::Change) == Right::Closed || !self.is_unlocked(Act::Change) {
            self.show("Nothing was changed.");
            return None;
        }
        match self.machine.forget() {
            Ok(()) => Some(Choice::Reboot),
            Err(why) => {
                self.show(&why);
                None
            }
        }
    }

    fn shell(&mut self) {
        if self.machine.stage() == Stage::Running {
            self.show("Leave the menu with 'exit': you have a shell already.");
        } else if self.guard.right(Act::Shell) == Right::Closed {
            self.show(
                "The policy of this machine gives no shell here (policy.toml, [console] shell).",
            );
        } else if self.is_unlocked(Act::Shell) {
            self.machine.note("a shell was opened");
            let machine = &mut *self.machine;
            match self.terminal.lend(&mut |terminal| machine.shell(terminal)) {
                Ok(()) => self.top(),
                Err(why) => self.show(&why),
            }
            self.heard = Instant::now();
        }
    }

    fn boot(&mut self) -> Option<Choice> {
        if self.machine.stage() == Stage::EarlyBoot && !self.machine.situation().starts {
            self.show(
                "The system cannot be started as it is; 'list' shows what else there is, 'reboot' tries it all again.",
            );
            return None;
        }
        self.machine.note("boot was typed");
        Some(Choice::Boot)
    }

    fn leave(&mut self, word: &str, choice: Choice) -> Option<Choice> {
        self.machine.note(&format!("{word} was typed"));
        Some(choice)
    }

    fn may(&mut self, act: Act) -> bool {
        let holder = self.terminal.holder();
        self.unlocked.take_if(|(of, _)| *of != holder);
        let unlocked = self.unlocked.as_ref().map(|(_, unlocked)| unlocked);
        self.guard.may(act, unlocked) == Answer::Yes
    }

    /// Whether it may be done, after the password was asked for where it is needed.
    fn is_unlocked(&mut self, act: Act) -> bool {
        self.may(act) || (self.unlock(false).is_none() && self.may(act))
    }

    /// Asks for the password once. A choice where nobody typed for as long as the menu waits; `at_the_door`: nothing can be
    /// done without it.
    fn unlock(&mut self, at_the_door: bool) -> Option<Choice> {
        let silence = match at_the_door {
            true => self.left(),
            false => Some(PATIENCE),
        };
        if at_the_door && silence == Some(Duration::ZERO) {
            self.terminal.show("Nobody gave the password.");
            return Some(self.settings.silent);
        }
        match self.terminal.ask(PASSWORD, silence, Echo::Nothing) {
            Heard::Line(line) => {
                let typed = typed(line);
                match self.guard.check(typed.as_bytes(), self.begun.elapsed()) {
                    Verdict::Good(unlocked) => {
                        self.heard = Instant::now();
                        self.unlocked = Some((self.terminal.holder(), unlocked));
                    }
                    Verdict::Wrong(wait) | Verdict::TooSoon(wait) => {
                        self.machine.note("a wrong password was typed");
                        let seconds = whole(wait);
                        self.show(&format!(
                            "That is not the password. The next try is taken in {seconds} s."
                        ));
                        std::thread::sleep(wait);
                    }
                    Verdict::NoMemory => {
                        self.show("There is not enough memory to check a password.")
                    }
                }
            }
            Heard::Silence if at_the_door => {
                self.terminal.show("Nobody gave the password.");
                return Some(self.settings.silent);
            }
            _ => {}
        }
        None
    }
}

/// Shows rows a page at a time.
struct Pager<'a> {
    terminal: &'a mut dyn Terminal,
    shown: usize,
}

impl<'a> Pager<'a> {
    fn new(terminal: &'a mut (dyn Terminal + 'a)) -> Pager<'a> {
        Pager { terminal, shown: 0 }
    }

    fn row(&mut self, line: &str) -> ControlFlow<()> {
        for row in text::rows(line) {
            if self.shown == PAGE {
                match self.terminal.ask(MORE, Some(PATIENCE), Echo::Typed) {
                    Heard::Line(line) if line.trim().is_empty() => {}
                    _ => {
                        self.terminal.show("(stopped)");
                        return ControlFlow::Break(());
                    }
                }
                self.shown = 0;
            }
            self.terminal.show(&row);
            self.shown += 1;
        }
        ControlFlow::Continue(())
    }
}

/// A line as a password; nothing of it stays elsewhere.
pub fn typed(line: String) -> Typed {
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

/// There is no such version.
pub fn no_version(id: u32) -> String {
    match id {
        0 => "There is no factory snapshot.".to_owned(),
        id => format!("There is no snapshot {id}; 'list' shows which there are."),
    }
}
