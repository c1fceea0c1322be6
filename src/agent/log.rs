//! What the agent tells: lines for a person ([`say`]) and a log for whoever looks closer (`log`'s macros).
//!
//! * [`say`] writes to every console device itself, so that neither `quiet` nor a log level hides it, and
//!   so that a second console (a screen beside a serial line) shows it too. Each line starts with
//!   `backstay: ` and is plain ASCII. It is kept for `/run/backstay/boot.log`, which goes into the booted
//!   system with `/run`.
//! * `log::info!` and its kin go to `/dev/kmsg`, one record a line, through simplelog.
//!
//! Nothing here can fail aloud: a console that is stopped or gone loses lines after two seconds, never
//! the boot. Until [`init`] is called (the admin command, tests) lines go to standard error.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use log::LevelFilter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::kmsg::KmsgLines;
pub use crate::console::text::plain;
use crate::sys::{console, kmsg};

/// What each line for a person starts with.
pub const PREFIX: &str = "backstay: ";
/// Where the lines are recorded for the booted system, below `/run`.
pub const BOOT_LOG: &str = "backstay/boot.log";
/// How long one line may wait for a console that takes nothing.
const CONSOLE_LIMIT: Duration = Duration::from_secs(2);

static SPEAKER: Mutex<Option<Speaker>> = Mutex::new(None);
static WATCHED: OnceLock<File> = OnceLock::new();

/// Says a formatted line to the person at the console: `say!("waiting for {what}")`.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => { $crate::agent::log::say(&format!($($argument)*)) };
}

/// Opens `/dev/kmsg` for the log and the consoles for [`say`]. `/dev` and `/proc` are mounted by then;
/// what is missing is done without. Called once, by PID 1, before it forks.
pub fn init(level: LevelFilter) {
    if let Ok(file) = kmsg::open() {
        let config = simplelog::ConfigBuilder::new()
            .set_time_level(LevelFilter::Off)
            .set_thread_level(LevelFilter::Off)
            .set_target_level(LevelFilter::Off)
            .set_location_level(LevelFilter::Off)
            .build();
        // A logger that is set already stays: nothing to report it to.
        let _ = simplelog::WriteLogger::init(level, config, KmsgLines::new(file));
    }
    *speaker() = Some(Speaker::new(Path::new("/dev"), Path::new("/run")));
}

/// From now on programs listen at the consoles: each line is sent as a JSON object.
pub fn speak_json() {
    if let Some(speaker) = speaker().as_mut() {
        speaker.json = true;
    }
}

/// Keeps a line where what is said is kept, without saying it: what a person did at a console.
pub fn keep(text: &str) {
    log::info!("{text}");
    if let Some(speaker) = speaker().as_mut() {
        speaker.keep(plain(text));
    }
}

/// Says `text` (one line or several) to the person at the console; see the module.
pub fn say(text: &str) {
    alive();
    say_for_another(text);
}

/// The same by a process beside the one that is watched, which is no sign of that one's life.
pub fn say_for_another(text: &str) {
    log::debug!("{text}");
    match speaker().as_mut() {
        Some(speaker) => speaker.say(text, &console::consoles()),
        None => text
            .lines()
            .for_each(|line| eprintln!("{PREFIX}{}", plain(line))),
    }
}

/// From now on, signs of life go to `file`, which must not block; see [`super::worker::run_watched`].
pub fn signs_of_life_to(file: File) {
    // Set once, in a worker that was just forked.
    let _ = WATCHED.set(file);
}

/// Tells whoever watches this process that it does not hang. Each line that is said does so too.
pub fn alive() {
    if let Some(mut file) = WATCHED.get() {
        // A full pipe is full of signs of life.
        let _ = file.write(b".");
    }
}

/// Starts to record in `/run/backstay/boot.log` (mode 0644), with all that was said before. `/run` is
/// mounted by now. Not durable: `/run` is memory; the booted system persists it.
///
/// Harmless when called again.
pub fn record_in_run() {
    if let Some(speaker) = speaker().as_mut() {
        speaker.attach();
    }
}

/// A console was hung up by the session that had it: it is opened anew for the next line.
pub fn open_again(name: &str) {
    if let Some(speaker) = speaker().as_mut() {
        speaker.open.retain(|(open, _)| open != name);
    }
}

/// What was said so far, as it is recorded.
pub fn said() -> String {
    speaker().as_mut().map_or_else(String::new, Speaker::said)
}

/// Puts what the agent before this one said, in the kernel that started this one by kexec, before all else.
pub fn precede(said: &str) {
    if let Some(speaker) = speaker().as_mut() {
        speaker.precede(said);
    }
}

/// Tells PID 1's side that a worker was forked: the lines up to now are the worker's to record, unless
/// it records nothing.
pub fn forked() {
    if let Some(speaker) = speaker().as_mut() {
        speaker
            .kept
            .iter_mut()
            .for_each(|line| line.inherited = true);
    }
}

fn speaker() -> MutexGuard<'static, Option<Speaker>> {
    SPEAKER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line that waits for `/run`.
struct Kept {
    text: String,
    /// It was said before a fork: the worker has a copy of it.
    inherited: bool,
}

struct Speaker {
    dev: PathBuf,
    log: PathBuf,
    open: Vec<(String, File)>,
    kept: Vec<Kept>,
    file: Option<File>,
    json: bool,
}

impl Speaker {
    fn new(dev: &Path, run: &Path) -> Self {
        Self {
            dev: dev.to_owned(),
            log: run.join(BOOT_LOG),
            open: Vec::new(),
            kept: Vec::new(),
            file: None,
            json: false,
        }
    }

    fn say(&mut self, text: &str, consoles: &[console::Console]) {
        self.open_new(consoles);
        for line in text.lines() {
            let line = plain(line);
            let shown = match self.json {
                true => crate::console::json::said(&line),
                false => format!("{PREFIX}{line}"),
            };
            for (_, file) in &mut self.open {
                write_line(file, &shown);
            }
            self.keep(line);
        }
    }

    /// Opens the consoles that came since the last line (a driver may have been loaded), and keeps the
    /// old ones open: the last close of a serial line would drop its modem lines.
    fn open_new(&mut self, consoles: &[console::Console]) {
        let fallback = ["console"];
        let names: Vec<&str> = consoles
            .iter()
            .map(|console| console.name.as_str())
            .collect();
        let names = if names.is_empty() && self.open.is_empty() {
            &fallback[..]
        } else {
            &names[..]
        };
        for name in names {
            if self.open.iter().any(|(open, _)| open == name) {
                continue;
            }
            if let Ok(file) = console::open_for_lines(&self.dev.join(name)) {
                self.open.push(((*name).to_owned(), file));
            }
        }
    }

    fn keep(&mut self, line: String) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let text = format!("[{:5}.{:03}] {line}\n", now.tv_sec, now.tv_nsec / 1_000_000);
        match &mut self.file {
            // A full /run loses the record, not the boot.
            Some(file) => drop(file.write_all(text.as_bytes())),
            None => self.kept.push(Kept {
                text,
                inherited: false,
            }),
        }
    }

    fn attach(&mut self) {
        if self.file.is_some() {
            return;
        }
        if let Some(parent) = self.log.parent() {
            let _ = std::fs::create_dir_all(parent);
        }
        let Ok(mut file) = OpenOptions::new().append(true).create(true).open(&self.log) else {
            return;
        };
        let recorded = file.metadata().is_ok_and(|metadata| metadata.len() > 0);
        for line in self
            .kept
            .drain(..)
            .filter(|line| !(recorded && line.inherited))
        {
            let _ = file.write_all(line.text.as_bytes());
        }
        self.file = Some(file);
    }

    fn said(&mut self) -> String {
        self.attach();
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn precede(&mut self, said: &str) {
        let since = self.said();
        // What appends to it goes on appending.
        let _ = std::fs::write(&self.log, format!("{said}{since}"));
    }
}

/// Writes one line, giving up after [`CONSOLE_LIMIT`].
pub(super) fn write_line(file: &mut File, line: &str) {
    // A terminal in raw mode does not turn a newline into both.
    let cooked = rustix::termios::tcgetattr(file.as_fd())
        .is_ok_and(|t| t.output_modes.contains(rustix::termios::OutputModes::OPOST));
    write(
        file,
        format!("{line}{}", if cooked { "\n" } else { "\r\n" }).as_bytes(),
    );
}

/// Writes to a console, giving up after [`CONSOLE_LIMIT`].
pub(super) fn write(file: &mut File, text: &[u8]) {
    let mut left = text;
    let until = Instant::now() + CONSOLE_LIMIT;
    while !left.is_empty() && Instant::now() < until {
        match file.write(left) {
            Ok(written) => left = left.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let mut fds = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::OUT)];
                let _ = poll(
                    &mut fds,
                    Some(&Timespec {
                        tv_sec: 0,
                        tv_nsec: 100_000_000,
                    }),
                );
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(name: &str) -> console::Console {
        console::Console {
            name: name.into(),
            enabled: true,
            preferred: false,
            writable: true,
        }
    }

    fn read(path: PathBuf) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_line_goes_to_each_console_once_and_only_as_plain_ascii() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["ttyS0", "tty0"] {
            File::create(dir.path().join(name)).unwrap();
        }
        let mut speaker = Speaker::new(dir.path(), dir.path());
        speaker.say(
            "one\ntw\u{f6}\x1b[2J",
            &[console("ttyS0"), console("tty0"), console("gone")],
        );
        for name in ["ttyS0", "tty0"] {
            assert_eq!(
                read(dir.path().join(name)),
                "backstay: one\r\nbackstay: tw??[2J\r\n"
            );
        }
    }

    #[test]
    fn what_was_said_before_run_was_there_is_recorded_once_though_pid_1_and_worker_both_record() {
        let dir = tempfile::tempdir().unwrap();
        let mut pid1 = Speaker::new(dir.path(), dir.path());
        pid1.say("first", &[]);
        let mut worker = Speaker::new(dir.path(), dir.path());
        worker.kept = vec![Kept {
            text: "first\n".into(),
            inherited: false,
        }];
        pid1.kept.iter_mut().for_each(|line| line.inherited = true);
        worker.attach();
        worker.say("second", &[]);
        pid1.say("third", &[]);
        pid1.attach();
        pid1.attach();
        let log = read(dir.path().join(BOOT_LOG));
        let words: Vec<&str> = log
            .lines()
            .filter_map(|l| l.split(' ').next_back())
            .collect();
        assert_eq!(words, ["first", "second", "third"]);
    }

    #[test]
    fn what_the_agent_before_a_kexec_said_comes_first_and_is_carried_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut before = Speaker::new(dir.path(), dir.path());
        before.say("first", &[]);
        let said = before.said();
        let dir = tempfile::tempdir().unwrap();
        let mut after = Speaker::new(dir.path(), dir.path());
        after.say("second", &[]);
        after.precede(&said);
        after.say("third", &[]);
        let log = after.said();
        let words: Vec<&str> = log
            .lines()
            .filter_map(|l| l.split(' ').next_back())
            .collect();
        assert_eq!(words, ["first", "second", "third"]);
        assert_eq!(read(dir.path().join(BOOT_LOG)), log);
    }

    #[test]
    fn a_worker_that_died_before_it_recorded_loses_no_line_of_pid_1() {
        let dir = tempfile::tempdir().unwrap();
        let mut pid1 = Speaker::new(dir.path(), dir.path());
        pid1.say("first", &[]);
        pid1.kept.iter_mut().for_each(|line| line.inherited = true);
        pid1.attach();
        assert!(read(dir.path().join(BOOT_LOG)).ends_with("first\n"));
    }
}
