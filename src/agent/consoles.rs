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

use super::log::{self as agent_log, Again, Sent};
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
mod tests {
    use super::*;
    use crate::sys::console::tests::{path, pty};
    use serde_json::Value;
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::symlink;
    use std::sync::{Arc, Mutex, PoisonError};

    const QUESTION: &str = "menu> ";
    const WORD: &str = "word> ";
    const PASSWORD: &str = "password: ";

    /// Who sits at a console: what they saw is read by a thread.
    struct Seat {
        there: File,
        seen: Arc<Mutex<String>>,
    }

    impl Seat {
        fn new(there: File) -> Seat {
            let seen = Arc::new(Mutex::new(String::new()));
            let (mut from, to) = (there.try_clone().unwrap(), seen.clone());
            rustix::fs::fcntl_setfl(&there, rustix::fs::OFlags::NONBLOCK).unwrap();
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                loop {
                    match from.read(&mut bytes) {
                        Ok(read) => {
                            let text = String::from_utf8_lossy(&bytes[..read]);
                            to.lock().unwrap().push_str(&text);
                        }
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                            if Arc::strong_count(&to) == 1 {
                                // Whoever sat there is gone, and so is the console.
                                return;
                            }
                            std::thread::sleep(Duration::from_millis(5));
                        }
                        Err(_) => return,
                    }
                }
            });
            Seat { there, seen }
        }

        fn seen(&self) -> String {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.clone()
        }

        fn type_bytes(&mut self, bytes: &[u8]) {
            self.there.write_all(bytes).unwrap();
        }

        /// Waits for a text, and forgets what was seen up to its end.
        fn sees(&self, text: &str) -> String {
            let begun = Instant::now();
            loop {
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(at) = seen.find(text) {
                    return seen.drain(..at + text.len()).collect();
                }
                let late = begun.elapsed() > Duration::from_secs(60);
                assert!(!late, "{text:?} is not in {seen:?}");
                drop(seen);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Two consoles, `ttyS0` and `hvc0`.
    struct Desk {
        dir: tempfile::TempDir,
        consoles: Consoles,
        serial: Option<Seat>,
        second: Option<Seat>,
    }

    fn seat(dir: &Path, name: &str) -> Seat {
        let (there, here) = pty();
        let at = dir.join(name);
        let _ = std::fs::remove_file(&at);
        symlink(path(&here), &at).unwrap();
        // Somebody has to have it open, or the other end reads nothing but errors.
        std::mem::forget(here);
        Seat::new(there)
    }

    impl Desk {
        fn new(json: bool) -> Desk {
            let dir = tempfile::tempdir().unwrap();
            let [serial, second] = ["ttyS0", "hvc0"].map(|name| Some(seat(dir.path(), name)));
            let listed = || ["ttyS0", "hvc0"].map(str::to_owned).to_vec();
            let consoles = Consoles::of(dir.path().to_owned(), listed, json);
            assert_eq!(consoles.open.len(), 2);
            Desk {
                dir,
                consoles,
                serial,
                second,
            }
        }

        /// Asks, while the people do this.
        fn ask(
            &mut self,
            question: &str,
            echo: Echo,
            people: impl FnOnce(&mut Option<Seat>, &mut Option<Seat>) + Send,
        ) -> Heard {
            let (serial, second) = (&mut self.serial, &mut self.second);
            let consoles = &mut self.consoles;
            std::thread::scope(|scope| {
                let people = scope.spawn(move || people(serial, second));
                let heard = consoles.ask(question, Some(Duration::from_secs(60)), echo);
                people.join().unwrap();
                heard
            })
        }
    }

    fn line(text: &str) -> Heard {
        Heard::Line(text.to_owned())
    }

    fn types(seat: &mut Option<Seat>, after: &str, bytes: &[u8]) {
        let seat = seat.as_mut().unwrap();
        seat.sees(after);
        seat.type_bytes(bytes);
    }

    #[test]
    fn the_word_is_not_asked_for_on_a_line_that_never_is_quiet() {
        let mut desk = Desk::new(false);
        let noise = |consoles: &mut Consoles, seat: &mut Seat, strict| {
            std::thread::scope(|scope| {
                let typing = scope.spawn(|| {
                    for _ in 0..60 {
                        seat.type_bytes(b" ");
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    seat.type_bytes(b"\r");
                });
                let silence = Some(Duration::from_secs(60));
                let heard = match strict {
                    true => consoles.confirm(WORD, silence, Echo::Typed),
                    false => consoles.ask(QUESTION, silence, Echo::Typed),
                };
                typing.join().unwrap();
                heard
            })
        };
        let serial = desk.serial.as_mut().unwrap();
        assert_eq!(noise(&mut desk.consoles, serial, true), Heard::Noise);
        assert!(matches!(
            noise(&mut desk.consoles, serial, false),
            Heard::Line(_)
        ));
    }

    #[test]
    fn the_question_ends_with_the_console_that_it_was_put_to() {
        let mut desk = Desk::new(false);
        let heard = desk.ask(QUESTION, Echo::Typed, |serial, second| {
            serial.as_ref().unwrap().sees(QUESTION);
            types(second, QUESTION, b"rollback\r");
        });
        assert_eq!(heard, line("rollback"));
        let holder = desk.consoles.holder();
        let heard = desk.ask(WORD, Echo::Typed, |serial, second| {
            second.as_ref().unwrap().sees(WORD);
            *second = None;
            std::thread::sleep(Duration::from_millis(300));
            serial.as_mut().unwrap().type_bytes(b"ROLLBACK\r");
        });
        assert_eq!(heard, Heard::Taken);
        let nobody = desk.consoles.holder();
        // What was typed before the next question is no answer to it.
        let heard = desk.ask(QUESTION, Echo::Typed, |serial, _| {
            types(serial, QUESTION, b"list\r");
        });
        assert_eq!(heard, line("list"));
        let other = desk.consoles.holder();
        assert!(holder < nobody && nobody < other);
    }

    #[test]
    fn a_console_that_is_gone_between_two_questions_takes_what_led_to_the_second_with_it() {
        let mut desk = Desk::new(false);
        desk.ask(QUESTION, Echo::Typed, |_, second| {
            types(second, QUESTION, b"rollback\r");
        });
        desk.second = None;
        let heard = desk.ask(WORD, Echo::Typed, |serial, _| {
            assert!(!serial.as_ref().unwrap().seen().contains(WORD));
        });
        assert_eq!(heard, Heard::Taken);
        assert_eq!(desk.consoles.open.len(), 1);
    }

    #[test]
    fn one_that_is_gone_is_opened_seldom_and_asked_once_it_is_back() {
        let mut desk = Desk::new(false);
        let heard = desk.ask(QUESTION, Echo::Typed, |serial, second| {
            let serial = serial.as_mut().unwrap();
            serial.sees(QUESTION);
            serial.type_bytes(b"li");
            serial.sees("li");
            *second = None;
            // The question is put again, behind the line about it.
            serial.sees(&format!("\r\n{QUESTION}li"));
            serial.type_bytes(b"st\r");
        });
        assert_eq!(heard, line("list"));
        desk.second = Some(seat(desk.dir.path(), "hvc0"));
        for _ in 0..5 {
            desk.consoles.miss("hvc0");
        }
        for _ in 0..100 {
            desk.consoles.look();
        }
        assert_eq!(desk.consoles.open.len(), 1);
        desk.consoles.missed.clear();
        let heard = desk.ask(QUESTION, Echo::Typed, |serial, second| {
            serial.as_mut().unwrap().sees(QUESTION);
            second.as_mut().unwrap().type_bytes(b"take\r");
        });
        assert_eq!(heard, Heard::Taken);
        assert_eq!(desk.consoles.owner.as_deref(), Some("hvc0"));
    }

    #[test]
    fn the_rest_of_a_password_is_not_shown_where_another_console_takes_the_menu() {
        let mut desk = Desk::new(false);
        desk.ask(QUESTION, Echo::Typed, |serial, _| {
            types(serial, QUESTION, b"rollback\r");
        });
        desk.serial.as_ref().unwrap().sees("rollback");
        let heard = desk.ask(PASSWORD, Echo::Nothing, |serial, second| {
            types(serial, PASSWORD, b"open se");
            std::thread::sleep(Duration::from_millis(300));
            types(second, "in use at ttyS0", b"take\r");
            serial.as_ref().unwrap().sees("in use at hvc0");
        });
        assert_eq!(heard, Heard::Taken);
        let heard = desk.ask(QUESTION, Echo::Typed, |serial, second| {
            second.as_ref().unwrap().sees(QUESTION);
            let serial = serial.as_mut().unwrap();
            serial.type_bytes(b"same 42\r");
            let seen = serial.sees("in use at hvc0");
            assert!(!seen.contains('4') && !seen.contains("same"), "{seen:?}");
            // The next line is one as any other.
            serial.sees("\r\n");
            serial.type_bytes(b"list\r");
            serial.sees("list");
            second.as_mut().unwrap().type_bytes(b"no\r");
        });
        assert_eq!(heard, line("no"));
    }

    #[test]
    fn a_line_that_is_garbled_while_nobody_has_the_menu_is_answered_where_it_was_typed() {
        let long = [vec![b'x'; line::LONGEST + 1], b"\r".to_vec()].concat();
        for garbled in [&b"rollback\t2\r"[..], "\u{e4}\r".as_bytes(), &long] {
            let mut desk = Desk::new(false);
            let heard = desk.ask(QUESTION, Echo::Typed, |serial, second| {
                let second = second.as_mut().unwrap();
                second.sees(QUESTION);
                second.type_bytes(b"li");
                // What comes behind it is none of the next question's.
                types(serial, QUESTION, &[garbled, b"boot\r"].concat());
                serial.as_ref().unwrap().sees(GARBLED);
                serial.as_ref().unwrap().sees(QUESTION);
                second.type_bytes(b"st\r");
            });
            assert_eq!(heard, line("list"));
            let seen = desk.second.as_ref().unwrap().seen();
            assert!(!seen.contains(GARBLED), "{seen:?}");
        }
        let mut desk = Desk::new(true);
        let heard = desk.ask("ready\n", Echo::Nothing, |serial, _| {
            types(serial, "ready", b"{\xff}\n");
            serial.as_ref().unwrap().sees("\"garbled\"");
            types(serial, "ready", b"{}\n");
        });
        assert_eq!(heard, line("{}"));
    }

    #[test]
    fn a_second_program_is_told_that_the_menu_is_in_use_and_takes_it() {
        let mut desk = Desk::new(true);
        let order = r#"{"do":"list"}"#;
        let sent = format!("{order}\n");
        let heard = desk.ask("ready\n", Echo::Nothing, |serial, _| {
            types(serial, "ready", sent.as_bytes());
        });
        assert_eq!(heard, line(order));
        let busy = |seat: &Option<Seat>, at: &str| {
            let seen = seat.as_ref().unwrap().sees("}\r\n");
            let sent = seen.lines().find(|line| line.starts_with('{')).unwrap();
            let error: Value = serde_json::from_str(sent).unwrap();
            assert_eq!(
                (&error["event"], &error["kind"]),
                (&Value::from("error"), &Value::from("busy"))
            );
            let text = error["text"].as_str().unwrap();
            assert!(
                text.contains(at) && text.contains(r#"{"do":"take"}"#),
                "{text}"
            );
        };
        busy(&desk.second, "ttyS0");
        let heard = desk.ask("ready\n", Echo::Nothing, |_, second| {
            second.as_mut().unwrap().type_bytes(sent.as_bytes());
            busy(second, "ttyS0");
            second.as_mut().unwrap().type_bytes(b"{\"do\":\"take\"}\n");
        });
        assert_eq!(heard, Heard::Taken);
        assert_eq!(desk.consoles.owner.as_deref(), Some("hvc0"));
        desk.serial.as_ref().unwrap().sees("ready");
        busy(&desk.serial, "hvc0");
    }

    #[test]
    fn a_program_that_stopped_reading_is_asked_again_once_it_reads() {
        let mut desk = Desk::new(true);
        let (there, here) = pty();
        let at = desk.dir.path().join("ttyS0");
        std::fs::remove_file(&at).unwrap();
        symlink(path(&here), &at).unwrap();
        let listed = || vec!["ttyS0".to_owned()];
        desk.consoles = Consoles::of(desk.dir.path().to_owned(), listed, true);
        desk.consoles.show(&"x".repeat(100_000));
        let heard = desk.ask("ready\n", Echo::Nothing, |serial, _| {
            std::thread::sleep(Duration::from_secs(1));
            *serial = Some(Seat::new(there));
            serial.as_ref().unwrap().sees("\nready\r\n");
            serial.as_mut().unwrap().type_bytes(b"{}\n");
        });
        assert_eq!(heard, line("{}"));
    }

    #[test]
    fn while_a_console_is_lent_the_others_are_told() {
        let mut desk = Desk::new(false);
        desk.ask(QUESTION, Echo::Typed, |serial, _| {
            types(serial, QUESTION, b"shell\r");
        });
        let second = &mut desk.second;
        let lent = desk.consoles.lend(&mut |terminal, meanwhile| {
            assert!(terminal.ends_with("ttyS0"));
            let second = second.as_mut().unwrap();
            second.type_bytes(b"take\r");
            for _ in 0..100 {
                meanwhile();
                std::thread::sleep(Duration::from_millis(5));
            }
            second.sees("A shell is open at ttyS0");
            Ok(())
        });
        assert_eq!(lent, Ok(()));
        desk.second
            .as_ref()
            .unwrap()
            .sees("The shell at ttyS0 has ended; type 'take'");
        assert_eq!(desk.consoles.owner.as_deref(), Some("ttyS0"));
        assert_eq!(desk.consoles.open.len(), 2);
    }
}
