//! Who types in the menu of the running system: a person at the terminal of this process, or a program at a pipe.
//!
//! What can go wrong is that the other end goes. What is asked then is answered by silence, by which the menu ends:
//! nothing is changed that nobody asked for, or whose plan nobody could read.

use crate::console::line::{self, Echo, Editor, LONGEST, Typed};
use crate::console::menu::QUESTION;
use crate::console::terminal::{Borrower, Heard, Terminal};
use crate::console::text::plain;
use crate::sys::raw_terminal::was_continued;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::io::BufRead;
use std::time::{Duration, Instant};

/// Control-D.
const END: u8 = 0x04;
/// A stop that came just before waiting began is seen after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Why no shell is given.
pub const HAS_SHELL: &str = "leave the menu: you have a shell already";

/// Where text goes; says whether it got there.
pub type Say<'a> = &'a mut dyn FnMut(&str) -> bool;

/// A person at a terminal.
pub struct Person<'a> {
    input: BorrowedFd<'a>,
    say: Say<'a>,
    editor: Editor,
    gone: bool,
}

impl<'a> Person<'a> {
    /// At a terminal that gives every byte: [`RawTerminal`](crate::sys::raw_terminal::RawTerminal).
    pub fn new(input: BorrowedFd<'a>, say: Say<'a>) -> Person<'a> {
        Person {
            input,
            say,
            editor: Editor::default(),
            gone: false,
        }
    }

    fn say(&mut self, text: &str) {
        if !text.is_empty() && !(self.say)(text) {
            self.gone = true;
        }
    }

    /// Waits for so long at most, for ever without a time, and takes what was typed. May come back early with nothing.
    fn take(&mut self, time: Option<Duration>) -> Vec<u8> {
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        let mut fds = [PollFd::from_borrowed_fd(self.input, PollFlags::IN)];
        match poll(&mut fds, time.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Vec::new(),
            Ok(_) => {}
            Err(_) => {
                self.gone = true;
                return Vec::new();
            }
        }
        let mut bytes = [0; 256];
        match rustix::io::read(self.input, &mut bytes) {
            Ok(read) if read > 0 => return bytes.get(..read).unwrap_or_default().to_vec(),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => self.gone = true,
        }
        Vec::new()
    }

    /// Asks; `only_when_quiet`: not where the line does not become quiet.
    fn question(
        &mut self,
        question: &str,
        silence: Option<Duration>,
        echo: Echo,
        only_when_quiet: bool,
    ) -> Heard {
        let mut quiet = line::forget_what_came_ahead(|quiet| !self.take(Some(quiet)).is_empty());
        self.editor.clear();
        was_continued();
        if quiet || !only_when_quiet {
            self.say(question);
        }
        let begun = Instant::now();
        while !self.gone {
            if was_continued() {
                // What stands there now is the shell's, and so was what was typed.
                quiet = line::forget_what_came_ahead(|quiet| !self.take(Some(quiet)).is_empty());
                self.editor.clear();
                self.say("\n");
                self.say(question);
            }
            if only_when_quiet && !quiet {
                return Heard::Noise;
            }
            let left = silence.map(|silence| silence.saturating_sub(begun.elapsed()));
            if left == Some(Duration::ZERO) {
                break;
            }
            // What comes with the end of a line was typed before the next question.
            for byte in self.take(Some(left.map_or(LOOK_AGAIN, |left| left.min(LOOK_AGAIN)))) {
                if let Some(heard) = self.typed(byte, question, echo) {
                    return heard;
                }
            }
        }
        self.say("\n");
        Heard::Silence
    }

    /// Takes a byte; what came of the line that it ends.
    fn typed(&mut self, byte: u8, question: &str, echo: Echo) -> Option<Heard> {
        if byte == END && self.editor.is_empty() {
            // As a shell does it.
            let leaves = question == QUESTION;
            self.say(if leaves { "exit\n" } else { "^D\n" });
            return Some(match leaves {
                true => Heard::Line("exit".to_owned()),
                false => Heard::GivenUp,
            });
        }
        let mut answer = Vec::new();
        let typed = self.editor.take(byte, echo, &mut answer);
        self.say(&String::from_utf8_lossy(&answer));
        match typed {
            Typed::More => None,
            Typed::Line(line) => Some(Heard::Line(line)),
            Typed::Garbled => Some(Heard::Garbled),
            Typed::GivenUp => Some(Heard::GivenUp),
        }
    }
}

impl Terminal for Person<'_> {
    fn show(&mut self, line: &str) {
        self.say(&format!("{}\n", plain(line)));
    }

    fn ask(&mut self, question: &str, silence: Option<Duration>, echo: Echo) -> Heard {
        self.question(question, silence, echo, false)
    }

    fn confirm(&mut self, question: &str, silence: Option<Duration>, echo: Echo) -> Heard {
        self.question(question, silence, echo, true)
    }

    fn holder(&self) -> u32 {
        0
    }

    fn lend(&mut self, _: &mut Borrower<'_>) -> Result<(), String> {
        Err(HAS_SHELL.to_owned())
    }
}

/// A program at a pipe. What it sends before it is asked waits: no line of it is noise, and each says all that it means.
pub struct Program<'a> {
    input: &'a mut dyn BufRead,
    say: Say<'a>,
    gone: bool,
}

impl<'a> Program<'a> {
    /// That sends lines of at most [`LONGEST`] bytes.
    pub fn new(input: &'a mut dyn BufRead, say: Say<'a>) -> Program<'a> {
        let gone = false;
        Program { input, say, gone }
    }

    /// The next line, without its end; `None`: there is no more.
    fn next(&mut self) -> Option<Heard> {
        let (mut line, mut begun, mut long) = (Vec::new(), false, false);
        loop {
            let bytes = match self.input.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return None,
            };
            if bytes.is_empty() && !begun {
                return None;
            }
            begun = true;
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
            match line.len() + part.len() > LONGEST {
                true => long = true,
                false => line.extend_from_slice(part),
            }
            let is_last = end.is_some() || bytes.is_empty();
            let used = end.map_or(bytes.len(), |at| at + 1);
            self.input.consume(used);
            if is_last {
                break;
            }
        }
        Some(match String::from_utf8(line) {
            Ok(line) if !long => Heard::Line(line),
            _ => Heard::Garbled,
        })
    }
}

impl Terminal for Program<'_> {
    fn show(&mut self, line: &str) {
        if !(self.say)(&format!("{line}\n")) {
            self.gone = true;
        }
    }

    /// Waits without a limit: there is none in the running system.
    fn ask(&mut self, question: &str, _silence: Option<Duration>, _echo: Echo) -> Heard {
        if !(self.say)(question) {
            self.gone = true;
        }
        if self.gone {
            return Heard::Silence;
        }
        self.next().unwrap_or(Heard::Silence)
    }

    fn holder(&self) -> u32 {
        0
    }

    fn lend(&mut self, _: &mut Borrower<'_>) -> Result<(), String> {
        Err(HAS_SHELL.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::raw_terminal::{self, RawTerminal};
    use rustix::fd::{AsFd, OwnedFd};
    use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
    use rustix::termios::LocalModes;
    use std::io::{Cursor, Write};
    use std::os::unix::net::UnixStream;
    use std::os::unix::process::ExitStatusExt;

    /// A person at one end of a socket, and whoever plays him at the other; what was shown.
    fn with_person(play: impl FnOnce(&mut Person<'_>, UnixStream)) -> String {
        let (here, there) = UnixStream::pair().unwrap();
        let mut shown = String::new();
        let mut say = |text: &str| {
            shown.push_str(text);
            true
        };
        play(&mut Person::new(here.as_fd(), &mut say), there);
        shown
    }

    fn line(text: &str) -> Heard {
        Heard::Line(text.to_owned())
    }

    /// Types once the question must have been asked.
    fn later(mut there: UnixStream, bytes: &'static [u8]) -> std::thread::JoinHandle<UnixStream> {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(600));
            there.write_all(bytes).unwrap();
            there
        })
    }

    #[test]
    fn what_was_typed_before_the_question_is_not_its_answer() {
        let shown = with_person(|person, mut there| {
            there.write_all(b"ROLLBACK\rROLL").unwrap();
            let typing = later(there, b"list\rROLLBACK\r");
            assert_eq!(person.ask(QUESTION, None, Echo::Typed), line("list"));
            // Nor is what came with the answer before it.
            let there = typing.join().unwrap();
            let short = Some(Duration::from_millis(50));
            assert_eq!(person.ask("word> ", short, Echo::Typed), Heard::Silence);
            drop(there);
        });
        assert_eq!(shown, "menu> list\r\nword> \n");
    }

    /// What the test below plays with: it is asked at the terminal of this process until it is ended.
    #[test]
    fn a_person_is_asked_at_this_terminal() {
        if std::env::var_os("BACKSTAY_TEST_AT_TERMINAL").is_none() {
            return;
        }
        let input = std::io::stdin();
        raw_terminal::tests::heard_here();
        let _raw = RawTerminal::begin(input.as_fd()).unwrap();
        let mut say = |text: &str| {
            let mut out = std::io::stdout();
            out.write_all(text.as_bytes())
                .and_then(|()| out.flush())
                .is_ok()
        };
        let mut person = Person::new(input.as_fd(), &mut say);
        while let Heard::Line(line) =
            person.ask(QUESTION, Some(Duration::from_secs(60)), Echo::Typed)
        {
            person.show(&format!("heard {line}."));
        }
    }

    /// Reads what is shown until it ends so.
    fn read_until(terminal: &OwnedFd, end: &str) {
        let (mut shown, begun) = (String::new(), Instant::now());
        while !shown.ends_with(end) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{shown:?}");
            let mut fds = [PollFd::new(terminal, PollFlags::IN)];
            let time = Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            if poll(&mut fds, Some(&time)) == Ok(1) {
                let mut bytes = [0; 256];
                let read = rustix::io::read(terminal, &mut bytes).unwrap();
                shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        }
    }

    #[test]
    fn a_signal_that_ends_or_stops_it_finds_the_terminal_as_it_was() {
        let test = "admin::terminal::tests::a_person_is_asked_at_this_terminal";
        for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
            let (mut child, terminal) = raw_terminal::tests::at_terminal(test);
            let pid = Pid::from_child(&child);
            let in_lines = || {
                let modes = rustix::termios::tcgetattr(&terminal).unwrap().local_modes;
                modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
            };
            read_until(&terminal, QUESTION);
            assert!(!in_lines());
            // Twice: what is set up for the first stop holds for the second.
            for _ in 0..2 {
                rustix::io::write(&terminal, b"rol").unwrap();
                read_until(&terminal, "rol");
                kill_process(pid, Signal::TSTP).unwrap();
                let (_, stopped) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
                assert_eq!(stopped.stopping_signal(), Some(Signal::TSTP.as_raw()));
                assert!(in_lines());
                kill_process(pid, Signal::CONT).unwrap();
                read_until(&terminal, QUESTION);
                assert!(!in_lines());
                rustix::io::write(&terminal, b"list\r").unwrap();
                read_until(&terminal, &format!("heard list.\r\n{QUESTION}"));
            }
            kill_process(pid, signal).unwrap();
            let status = child.wait().unwrap();
            assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
            assert!(in_lines(), "{signal:?}");
        }
    }

    #[test]
    fn what_confirms_is_not_asked_for_while_the_line_is_not_quiet() {
        let shown = with_person(|person, mut there| {
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let typing = std::thread::spawn(move || {
                let step = Duration::from_millis(20);
                while stopped.recv_timeout(step).is_err() {
                    there.write_all(b"ROLLBACK\r").unwrap();
                }
                there
            });
            let heard = person.confirm("word> ", None, Echo::Typed);
            assert_eq!(heard, Heard::Noise);
            stop.send(()).unwrap();
            drop(typing.join().unwrap());
        });
        assert_eq!(shown, "");
    }

    #[test]
    fn control_c_gives_the_line_up_and_control_d_leaves() {
        for (question, bytes, heard) in [
            (QUESTION, &b"roll\x03"[..], Heard::GivenUp),
            (QUESTION, b"\x04", line("exit")),
            ("word> ", b"\x04", Heard::GivenUp),
            (QUESTION, b"li\x04st\r", Heard::Garbled),
        ] {
            with_person(|person, there| {
                let typing = later(there, bytes);
                assert_eq!(person.ask(question, None, Echo::Typed), heard, "{bytes:?}");
                typing.join().unwrap();
            });
        }
    }

    #[test]
    fn the_end_of_the_terminal_is_silence_even_in_the_middle_of_a_word() {
        with_person(|person, mut there| {
            there.write_all(b"ROLLBACK").unwrap();
            drop(there);
            for question in ["word> ", QUESTION] {
                assert_eq!(person.ask(question, None, Echo::Typed), Heard::Silence);
            }
        });
    }

    #[test]
    fn nothing_is_asked_where_nothing_can_be_shown() {
        let (here, mut there) = UnixStream::pair().unwrap();
        there.write_all(b"list\n").unwrap();
        let mut lost = |_: &str| false;
        let mut person = Person::new(here.as_fd(), &mut lost);
        assert_eq!(person.ask(QUESTION, None, Echo::Typed), Heard::Silence);
        let (mut input, mut lost) = (Cursor::new("list\n"), |_: &str| false);
        let mut program = Program::new(&mut input, &mut lost);
        program.show("{}");
        assert_eq!(program.ask("", None, Echo::Nothing), Heard::Silence);
    }

    #[test]
    fn a_line_on_a_terminal_is_plain_text_whatever_it_holds() {
        let shown = with_person(|person, _there| person.show("a\x1b[2Jb\u{e4}"));
        assert_eq!(shown, "a?[2Jb?\n");
    }

    #[test]
    fn a_program_sends_its_lines_at_once_and_one_that_is_too_long_is_not_taken() {
        let long = "x".repeat(LONGEST + 1);
        let most = "y".repeat(LONGEST);
        let sent = format!("one\n\n{long}\n{most}\n\u{e4}\nlast");
        let bytes = [sent.as_bytes(), b"\n\xff\nend"].concat();
        // Whatever the pieces in which it comes.
        for piece in [1, 3, 4096] {
            let mut input = std::io::BufReader::with_capacity(piece, Cursor::new(&bytes));
            let mut said = |_: &str| true;
            let mut program = Program::new(&mut input, &mut said);
            let mut ask = || program.ask("", None, Echo::Nothing);
            for heard in [
                line("one"),
                line(""),
                Heard::Garbled,
                line(&most),
                line("\u{e4}"),
                line("last"),
                Heard::Garbled,
                line("end"),
                Heard::Silence,
                Heard::Silence,
            ] {
                assert_eq!(ask(), heard, "pieces of {piece}");
            }
        }
    }
}
