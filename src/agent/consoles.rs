//! Every console that the kernel has, as one terminal: whoever enters a line first has the menu.
//!
//! The others are told, and get it by typing `take`. A console that is gone (a USB adapter) gives the menu back, and its
//! question ends. What is typed before a question is not its answer, so that nothing is confirmed that nobody has read.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::again::Again;
use super::log::{self as agent_log, Sent};
use crate::console::json;
use crate::console::line::{self, Echo, Editor, QUIET, QUIET_LIMIT, Typed};
use crate::console::menu::GARBLED;
use crate::console::terminal::{Borrower, Heard, Terminal};
use crate::console::text::plain;
use crate::say;
use crate::sys::console::{self, Termios};

/// How long a console is waited for where there is none.
const NONE_YET: Duration = Duration::from_millis(150);
/// After this time without a key a line that was begun does not hold the silence up any more.
const PAUSE: Duration = Duration::from_secs(20);
/// So much longer than the silence a line that is being typed is waited for.
const GRACE: Duration = Duration::from_secs(60);
/// What takes the menu over.
const TAKE: &str = "take";

/// One console.
struct Open {
    name: String,
    file: File,
    editor: Editor,
    before: Termios,
    /// It did not take the whole question.
    unasked: bool,
    /// The line that is typed was perhaps begun as a password: it is not shown.
    hidden: bool,
    /// A line was garbled while nobody had the menu: when, and when the last byte came. It is answered once it is quiet.
    garbled: Option<(Instant, Instant)>,
}

/// A console that could not be opened, or is gone.
struct Missed {
    name: String,
    again: Again,
    is_said: bool,
}

impl Open {
    fn new(device: &Path, name: &str) -> Option<Open> {
        let file = console::open_for_typing(device).ok()?;
        // What is no terminal has nobody at it: a file would be read as if somebody typed it.
        let before = console::by_the_byte(file.as_fd())
            .inspect_err(|error| log::info!("{name}: {error}"))
            .ok()?;
        Some(Open {
            name: name.to_owned(),
            before,
            file,
            editor: Editor::default(),
            unasked: true,
            hidden: false,
            garbled: None,
        })
    }

    /// What was typed; `None`: it is gone.
    fn read(&self) -> Option<Vec<u8>> {
        let mut bytes = [0; 256];
        match rustix::io::read(&self.file, &mut bytes) {
            Ok(0) => None,
            Ok(read) => Some(bytes.get(..read).unwrap_or_default().to_vec()),
            Err(Errno::AGAIN | Errno::INTR) => Some(Vec::new()),
            Err(_) => None,
        }
    }

    /// Puts the question, with what was typed behind it; nothing of a password.
    fn put(&mut self, question: &str, echo: Echo) {
        let typed = match echo {
            Echo::Typed if !self.hidden => self.editor.shown(),
            Echo::Typed | Echo::Nothing => &[],
        };
        let text = [question.as_bytes(), typed].concat();
        self.unasked = agent_log::write(&mut self.file, &text) != Sent::Whole;
    }
}

/// All consoles.
pub struct Consoles {
    dev: PathBuf,
    /// The names of those that there are.
    listed: fn() -> Vec<String>,
    open: Vec<Open>,
    missed: Vec<Missed>,
    /// Those that are gone, and nobody was told yet.
    gone: Vec<String>,
    owner: Option<String>,
    turn: u32,
    /// Programs are at the other end: nothing but JSON is sent.
    json: bool,
}

impl Consoles {
    /// Opens them. There may be none: then nobody types, and nobody reads.
    pub fn open(json: bool) -> Consoles {
        let listed = || {
            let all = console::consoles().into_iter();
            all.map(|console| console.name).collect()
        };
        Consoles::of(PathBuf::from("/dev"), listed, json)
    }

    fn of(dev: PathBuf, listed: fn() -> Vec<String>, json: bool) -> Consoles {
        let mut consoles = Consoles {
            dev,
            listed,
            open: Vec::new(),
            missed: Vec::new(),
            gone: Vec::new(),
            owner: None,
            turn: 0,
            json,
        };
        consoles.look();
        consoles
    }

    /// Opens those that came since. One that is missing is tried less and less often: the kernel may say a line about it on
    /// all the others each time.
    fn look(&mut self) {
        let mut names = (self.listed)();
        if names.is_empty() && self.open.is_empty() {
            names.push("console".to_owned());
        }
        for name in names {
            let mut missed = self.missed.iter().filter(|missed| missed.name == name);
            if self.open.iter().any(|open| open.name == name)
                || !missed.all(|missed| missed.again.is_due())
            {
                continue;
            }
            match Open::new(&self.dev.join(&name), &name) {
                Some(open) => self.open.push(open),
                None => drop(self.miss(&name)),
            }
        }
    }

    /// It could not be opened, or is gone.
    fn miss(&mut self, name: &str) -> Option<&mut Missed> {
        if self.missed.iter().all(|missed| missed.name != name) {
            self.missed.push(Missed {
                name: name.to_owned(),
                again: Again::default(),
                is_said: false,
            });
        }
        let missed = self.missed.iter_mut().find(|missed| missed.name == name)?;
        if missed.again.failed() {
            missed.is_said = false;
        }
        Some(missed)
    }

    /// Says what is gone, once until it was there for a while. `asked`: a question stands.
    fn tell_what_is_gone(&mut self, asked: bool) {
        for name in std::mem::take(&mut self.gone) {
            if asked {
                self.send_to(|_| true, "");
            }
            say!("the console {name} is gone");
        }
    }

    /// Whether somebody typed the letter `m`, since whenever it was looked last. Nothing is waited for.
    pub fn menu_is_wanted() -> bool {
        let mut wanted = false;
        for open in &mut Consoles::open(false).open {
            let typed = open.read().unwrap_or_default();
            if !typed.is_empty() {
                // The kernel has shown it.
                agent_log::write_line(&mut open.file, "");
            }
            wanted |= typed.iter().any(|byte| matches!(byte, b'm' | b'M'));
        }
        wanted
    }

    fn is_heard(&self, name: &str) -> bool {
        self.owner.as_deref().is_none_or(|owner| owner == name)
    }

    /// Sends a line to whoever has the menu, or to all.
    fn send(&mut self, line: &str) {
        for at in 0..self.open.len() {
            if let Some(open) = self.open.get_mut(at)
                && self.owner.as_deref().is_none_or(|owner| owner == open.name)
            {
                agent_log::write_line(&mut open.file, line);
            }
        }
    }

    fn send_to(&mut self, wanted: impl Fn(&str) -> bool, line: &str) {
        if self.json {
            return;
        }
        for open in self.open.iter_mut().filter(|open| wanted(&open.name)) {
            agent_log::write_line(&mut open.file, line);
        }
    }

    fn in_use(&self) -> String {
        let owner = self.owner.as_deref().unwrap_or_default();
        match self.json {
            true => json::busy(owner),
            false => {
                format!("The menu is in use at {owner}; type '{TAKE}' and Enter to have it here.")
            }
        }
    }

    fn is_take(&self, line: &str) -> bool {
        line.trim() == TAKE || (self.json && json::is_take(line))
    }

    /// `asked`: how the question is echoed that ends, or is answered, by this.
    fn belongs_to(&mut self, name: &str, asked: Echo) {
        let owner = self.owner.replace(name.to_owned());
        self.turn = self.turn.wrapping_add(1);
        let text = self.in_use();
        // There the question stands on its line.
        self.send_to(|other| other != name, "");
        for open in self.open.iter_mut().filter(|open| open.name != name) {
            if owner.as_ref().is_none_or(|owner| *owner == open.name) {
                // Whoever types a password there goes on with it.
                open.editor.clear();
                open.hidden = asked == Echo::Nothing;
            }
            agent_log::write_line(&mut open.file, &text);
        }
    }

    /// Forgets what was typed before the question, until it is quiet; false: it did not become so.
    fn forget_what_came_ahead(&mut self) -> bool {
        // At the others somebody may want the menu meanwhile.
        let quiet = line::forget_what_came_ahead(|quiet| {
            let came = self.wait(quiet, true);
            if came {
                let heard = self.open.iter().filter(|open| self.is_heard(&open.name));
                let gone = heard.filter(|open| open.read().is_none());
                let gone: Vec<String> = gone.map(|open| open.name.clone()).collect();
                self.lose(&gone);
            }
            came
        });
        let owner = self.owner.clone();
        let heard = |open: &&mut Open| owner.as_ref().is_none_or(|owner| *owner == open.name);
        let heard = self.open.iter_mut().filter(heard);
        heard.for_each(|open| open.editor.clear());
        quiet
    }

    /// Waits for a key; `heard`: at a console whose lines are for the menu, not at any.
    fn wait(&self, time: Duration, heard: bool) -> bool {
        let all = self.open.iter();
        let mut fds: Vec<PollFd<'_>> = all
            .filter(|open| !heard || self.is_heard(&open.name))
            .map(|open| PollFd::new(&open.file, PollFlags::IN))
            .collect();
        let time = Timespec {
            tv_sec: 0,
            tv_nsec: time.subsec_nanos().into(),
        };
        poll(&mut fds, Some(&time)).is_ok_and(|ready| ready > 0)
    }

    fn lose(&mut self, gone: &[String]) {
        self.open.retain(|open| !gone.contains(&open.name));
        if self
            .owner
            .as_ref()
            .is_some_and(|owner| gone.contains(owner))
        {
            self.owner = None;
            self.turn = self.turn.wrapping_add(1);
        }
        for name in gone {
            let said = self
                .miss(name)
                .map(|it| std::mem::replace(&mut it.is_said, true));
            if said == Some(false) {
                self.gone.push(name.clone());
            }
        }
    }

    /// Takes what was typed since; the first line that is for the menu.
    fn read(&mut self, asked: Echo) -> Option<Heard> {
        let mut heard = None;
        let mut gone = Vec::new();
        for at in 0..self.open.len() {
            let Some(open) = self.open.get_mut(at) else {
                break;
            };
            let name = open.name.clone();
            let Some(bytes) = open.read() else {
                gone.push(name);
                continue;
            };
            if let Some((_, last)) = &mut open.garbled {
                if !bytes.is_empty() {
                    *last = Instant::now();
                }
                continue;
            }
            let mine = self.is_heard(&name);
            for byte in bytes {
                let Some(typed) = self.take_byte(at, byte, if mine { asked } else { Echo::Typed })
                else {
                    break;
                };
                let nobodys = self.owner.is_none();
                let came = match typed {
                    Typed::More => continue,
                    // Where nobody has the menu, too; but a password may be any word.
                    Typed::Line(line)
                        if self.is_take(&line)
                            && (!mine || nobodys && (self.json || asked == Echo::Typed)) =>
                    {
                        self.belongs_to(&name, asked);
                        Heard::Taken
                    }
                    Typed::Line(line) if mine => {
                        if nobodys {
                            self.belongs_to(&name, asked);
                        }
                        Heard::Line(line)
                    }
                    Typed::Line(_) => {
                        self.refuse(&name);
                        continue;
                    }
                    // Noise does not have the menu by this, nor disturb who types elsewhere.
                    Typed::Garbled if nobodys => {
                        let now = Instant::now();
                        let open = self.open.get_mut(at);
                        open.into_iter()
                            .for_each(|open| open.garbled = Some((now, now)));
                        break;
                    }
                    Typed::Garbled if mine => Heard::Garbled,
                    Typed::GivenUp if mine => Heard::GivenUp,
                    Typed::Garbled | Typed::GivenUp => continue,
                };
                // The rest of what came with the line was typed before the next question.
                heard = heard.or(Some(came));
                break;
            }
        }
        self.lose(&gone);
        heard
    }

    /// What comes of a byte at a console; it is echoed.
    fn take_byte(&mut self, at: usize, byte: u8, echo: Echo) -> Option<Typed> {
        let open = self.open.get_mut(at)?;
        let echo = if open.hidden { Echo::Nothing } else { echo };
        let mut answer = Vec::new();
        let typed = open.editor.take(byte, echo, &mut answer);
        if typed != Typed::More {
            open.hidden = false;
        }
        if !self.json {
            agent_log::write(&mut open.file, &answer);
        }
        Some(typed)
    }

    /// Says at a console that the menu is at another.
    fn refuse(&mut self, name: &str) {
        let text = self.in_use();
        for open in self.open.iter_mut().filter(|open| open.name == name) {
            agent_log::write_line(&mut open.file, &text);
        }
    }

    /// Puts the question where it was not taken whole, and anew where a line was garbled.
    fn ask_late(&mut self, question: &str, echo: Echo) {
        let garbled = match self.json {
            true => json::garbled(),
            false => GARBLED.to_owned(),
        };
        let echo = if self.json { Echo::Nothing } else { echo };
        let owner = self.owner.clone();
        for open in &mut self.open {
            let heard = owner.as_ref().is_none_or(|owner| *owner == open.name);
            if let Some((since, last)) = open.garbled {
                if last.elapsed() < QUIET && since.elapsed() < QUIET_LIMIT {
                    continue;
                }
                open.garbled = None;
                if heard {
                    agent_log::write_line(&mut open.file, &garbled);
                    open.put(question, echo);
                }
            } else if heard && open.unasked {
                open.put(question, echo);
            }
        }
    }

    /// While a console is lent: whoever types at another one is told.
    fn answer_meanwhile(&mut self, lent: &str, wanted: &mut Vec<String>) {
        let mut gone = Vec::new();
        for at in 0..self.open.len() {
            let Some(open) = self.open.get(at) else { break };
            let name = open.name.clone();
            let Some(bytes) = open.read() else {
                gone.push(name);
                continue;
            };
            for byte in bytes {
                if let Some(Typed::Line(_)) = self.take_byte(at, byte, Echo::Typed) {
                    let text = format!(
                        "A shell is open at {lent}; '{TAKE}' is heard once that has ended."
                    );
                    self.send_to(|it| it == name, &text);
                    if !wanted.contains(&name) {
                        wanted.push(name.clone());
                    }
                }
            }
        }
        self.lose(&gone);
    }

    fn is_being_typed(&self) -> bool {
        let mut heard = self.open.iter().filter(|open| self.is_heard(&open.name));
        heard.any(|open| open.editor.is_readable())
    }

    /// Asks, and waits for a line. `strict`: not on a line that does not become quiet.
    fn question(
        &mut self,
        question: &str,
        silence: Option<Duration>,
        echo: Echo,
        strict: bool,
    ) -> Heard {
        let turn = self.turn;
        self.look();
        let quiet = self.forget_what_came_ahead();
        self.tell_what_is_gone(false);
        if self.turn != turn {
            // Whoever comes next has not seen what led to the question.
            return Heard::Taken;
        }
        if strict && !quiet {
            return Heard::Noise;
        }
        for at in 0..self.open.len() {
            if let Some(open) = self.open.get_mut(at) {
                open.garbled = None;
                if self.owner.as_deref().is_none_or(|owner| owner == open.name) {
                    open.put(question, echo);
                }
            }
        }
        let begun = Instant::now();
        let mut key = begun;
        loop {
            agent_log::alive();
            if let Some(silence) = silence {
                let typing = self.is_being_typed() && key.elapsed() < PAUSE;
                let limit = if typing { silence + GRACE } else { silence };
                if begun.elapsed() >= limit {
                    self.send("");
                    return Heard::Silence;
                }
            }
            if self.open.is_empty() {
                std::thread::sleep(NONE_YET);
                self.look();
                continue;
            }
            self.ask_late(question, echo);
            if !self.wait(Duration::from_millis(200), false) {
                self.look();
                continue;
            }
            let before: usize = self.open.iter().map(|open| open.editor.shown().len()).sum();
            if let Some(heard) = self.read(echo) {
                return heard;
            }
            if !self.gone.is_empty() {
                self.tell_what_is_gone(true);
                let owner = self.owner.as_deref();
                let heard = |open: &&mut Open| owner.is_none_or(|owner| owner == open.name);
                self.open
                    .iter_mut()
                    .filter(heard)
                    .for_each(|open| open.unasked |= !self.json);
            }
            if self.turn != turn {
                return Heard::Taken;
            }
            let after: usize = self.open.iter().map(|open| open.editor.shown().len()).sum();
            if after != before {
                key = Instant::now();
            }
        }
    }
}

impl Terminal for Consoles {
    fn show(&mut self, line: &str) {
        self.send(&plain(line));
    }

    fn ask(&mut self, question: &str, silence: Option<Duration>, echo: Echo) -> Heard {
        self.question(question, silence, echo, false)
    }

    fn confirm(&mut self, question: &str, silence: Option<Duration>, echo: Echo) -> Heard {
        self.question(question, silence, echo, true)
    }

    fn holder(&self) -> u32 {
        self.turn
    }

    fn lend(&mut self, to: &mut Borrower<'_>) -> Result<(), String> {
        let Some(name) = self.owner.clone() else {
            return Err("nobody has the menu".to_owned());
        };
        let Some(at) = self.open.iter().position(|open| open.name == name) else {
            return Err(format!("{name} is gone"));
        };
        // Whoever gets it makes it a controlling terminal; the end of that session hangs up everything that is open on it.
        drop(self.open.remove(at));
        let path = self.dev.join(&name);
        let mut wanted = Vec::new();
        let done = to(&path, &mut || self.answer_meanwhile(&name, &mut wanted));
        agent_log::open_again(&name);
        match Open::new(&path, &name) {
            Some(open) => self.open.insert(at.min(self.open.len()), open),
            None => self.lose(std::slice::from_ref(&name)),
        }
        let ended = format!(
            "The shell at {name} has ended; type '{TAKE}' and Enter to have the menu here."
        );
        self.send_to(|it| wanted.iter().any(|wanted| wanted == it), &ended);
        done
    }

    fn close(&mut self, why: &str) {
        let owner = self.owner.take();
        if !why.is_empty() {
            let text = format!("The menu is closed: {why}.");
            self.send_to(|_| true, &text);
        }
        self.owner = owner;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // One that is gone has no modes.
        let _ = console::set_modes(self.file.as_fd(), &self.before);
    }
}

#[cfg(test)]
#[path = "consoles_tests.rs"]
mod tests;
