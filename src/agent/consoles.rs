//! Every console that the kernel has, as one terminal: whoever enters a line first has the menu.
//!
//! The others are told, and get it by typing `take`. A console that is gone (a cable, a USB adapter) gives the menu
//! back. What is typed before a question is not its answer, so that nothing is confirmed that nobody has read.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::log as agent_log;
use crate::console::line::{self, Echo, Editor, Typed};
use crate::console::terminal::{Heard, Terminal};
use crate::console::text::plain;
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
}

/// All consoles.
pub struct Consoles {
    dev: PathBuf,
    open: Vec<Open>,
    owner: Option<String>,
    turn: u32,
    /// Programs are at the other end: nothing but JSON is sent.
    json: bool,
}

impl Consoles {
    /// Opens them. There may be none: then nobody types, and nobody reads.
    pub fn open(json: bool) -> Consoles {
        let mut consoles = Consoles {
            dev: PathBuf::from("/dev"),
            open: Vec::new(),
            owner: None,
            turn: 0,
            json,
        };
        consoles.look();
        consoles
    }

    /// Opens those that came since.
    fn look(&mut self) {
        let all = console::consoles();
        let mut names: Vec<String> = all.into_iter().map(|console| console.name).collect();
        if names.is_empty() && self.open.is_empty() {
            names.push("console".to_owned());
        }
        for name in names {
            if self.open.iter().all(|open| open.name != name)
                && let Some(open) = Open::new(&self.dev.join(&name), &name)
            {
                self.open.push(open);
            }
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

    fn belongs_to(&mut self, name: &str) {
        self.owner = Some(name.to_owned());
        self.turn = self.turn.wrapping_add(1);
        let text =
            format!("The menu is in use at {name}; type '{TAKE}' and Enter to have it here.");
        // There the question stands on its line.
        self.send_to(|other| other != name, "");
        self.send_to(|other| other != name, &text);
    }

    /// Forgets what was typed before the question, until it is quiet.
    fn forget_what_came_ahead(&mut self) {
        // At the others somebody may want the menu meanwhile.
        line::forget_what_came_ahead(|quiet| {
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
    }

    /// Takes what was typed since; the first line that is for the menu.
    fn read(&mut self, echo: Echo) -> Option<Heard> {
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
            let mine = self.is_heard(&name);
            let echo = if mine { echo } else { Echo::Typed };
            for byte in bytes {
                let Some(open) = self.open.get_mut(at) else {
                    break;
                };
                let mut answer = Vec::new();
                let typed = open.editor.take(byte, echo, &mut answer);
                if !self.json {
                    agent_log::write(&mut open.file, &answer);
                }
                let came = match typed {
                    Typed::More => continue,
                    Typed::Line(line) if mine => {
                        if self.owner.is_none() {
                            self.belongs_to(&name);
                        }
                        Heard::Line(line)
                    }
                    Typed::Line(line) if line.trim() == TAKE => {
                        self.belongs_to(&name);
                        Heard::Taken
                    }
                    Typed::Line(_) => {
                        let owner = self.owner.clone().unwrap_or_default();
                        let text = format!(
                            "The menu is in use at {owner}; type '{TAKE}' and Enter to have it here."
                        );
                        self.send_to(|it| it == name, &text);
                        continue;
                    }
                    // Noise has nothing.
                    Typed::Garbled if self.owner.is_none() => continue,
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

    fn is_being_typed(&self) -> bool {
        let mut heard = self.open.iter().filter(|open| self.is_heard(&open.name));
        heard.any(|open| open.editor.is_readable())
    }
}

impl Terminal for Consoles {
    fn show(&mut self, line: &str) {
        self.send(&plain(line));
    }

    fn ask(&mut self, question: &str, silence: Option<Duration>, echo: Echo) -> Heard {
        self.look();
        self.forget_what_came_ahead();
        for at in 0..self.open.len() {
            if let Some(open) = self.open.get_mut(at)
                && self.owner.as_deref().is_none_or(|owner| owner == open.name)
            {
                agent_log::write(&mut open.file, question.as_bytes());
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
            if !self.wait(Duration::from_millis(200), false) {
                self.look();
                continue;
            }
            let before: usize = self.open.iter().map(|open| open.editor.shown().len()).sum();
            if let Some(heard) = self.read(echo) {
                return heard;
            }
            let after: usize = self.open.iter().map(|open| open.editor.shown().len()).sum();
            if after != before {
                key = Instant::now();
            }
        }
    }

    fn holder(&self) -> u32 {
        self.turn
    }

    fn lend(&mut self, to: &mut dyn FnMut(&Path) -> Result<(), String>) -> Result<(), String> {
        let Some(name) = self.owner.clone() else {
            return Err("nobody has the menu".to_owned());
        };
        let Some(at) = self.open.iter().position(|open| open.name == name) else {
            return Err(format!("{name} is gone"));
        };
        // Whoever gets it makes it a controlling terminal; the end of that session hangs up everything that is open on it.
        drop(self.open.remove(at));
        let done = to(&self.dev.join(&name));
        agent_log::open_again(&name);
        match Open::new(&self.dev.join(&name), &name) {
            Some(open) => self.open.insert(at, open),
            None => self.lose(std::slice::from_ref(&name)),
        }
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
