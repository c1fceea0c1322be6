//! What the agent tells: lines for a person ([`say`]) and a log for whoever looks closer (`log`'s macros).
//!
//! * [`say`] writes to every console device itself, so that neither `quiet` nor a log level hides it, and
//!   so that a second console (a screen beside a serial line) shows it too. Each line starts with
//!   `backstay: ` and is plain ASCII. It is kept for `/run/backstay/boot.log`, which goes into the booted
//!   system with `/run`.
//! * `log::info!` and its kin go to `/dev/kmsg`, one record a line, through simplelog.
//!
//! Nothing here can fail aloud: a console that takes nothing for two seconds loses lines, never holds up the boot. What
//! takes its time gets whole lines, and after one that was cut the next begins on a line of its own. Until [`init`] is called (the admin command, tests) lines go to standard error.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use log::LevelFilter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::again::Again;
use super::kmsg::KmsgLines;
pub use crate::console::text::plain;
use crate::sys::{console, kmsg};

/// What each line for a person starts with.
pub const PREFIX: &str = "backstay: ";
/// Where the lines are recorded for the booted system, below `/run`.
pub const BOOT_LOG: &str = "backstay/boot.log";
/// How long a console is waited for that takes nothing, from the last byte that it took.
const CONSOLE_LIMIT: Duration = Duration::from_secs(2);
/// The slowest line that is waited for: 300 baud.
const SLOWEST: Duration = Duration::from_millis(33);

static SPEAKER: Mutex<Option<Speaker>> = Mutex::new(None);
static WATCHED: OnceLock<File> = OnceLock::new();
/// The consoles, by device and inode, that took not all of their last line: nobody may read there. They are not waited for
/// until they take something.
static STOPPED: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

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
    tell(text);
}

/// The same by a process beside the one that is watched, which is no sign of that one's life.
pub fn say_for_another(text: &str) {
    if let Some(speaker) = speaker().as_mut() {
        speaker.signs = || ();
    }
    tell(text);
}

fn tell(text: &str) {
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
        speaker.open.retain(|output| output.name != name);
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

/// A console for lines.
struct Output {
    name: String,
    file: Option<File>,
    again: Again,
}

impl Output {
    fn open(&mut self, dev: &Path) {
        if self.file.is_none() && self.again.is_due() {
            self.file = console::open_for_lines(&dev.join(&self.name)).ok();
            if self.file.is_none() {
                self.again.failed();
            }
        }
    }

    fn line(&mut self, dev: &Path, line: &str, signs: fn()) {
        // The end of a session that had it (a shell, perhaps another process's) hung it up: it is opened once more.
        for _ in 0..2 {
            let Some(file) = &mut self.file else { return };
            if send_line(file, line, signs) != Sent::Gone {
                return;
            }
            self.file = None;
            self.open(dev);
        }
        self.file = None;
        self.again.failed();
    }
}

struct Speaker {
    dev: PathBuf,
    log: PathBuf,
    open: Vec<Output>,
    /// What a byte that was taken is a sign of life to.
    signs: fn(),
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
            signs: alive,
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
            for output in &mut self.open {
                output.line(&self.dev, &shown, self.signs);
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
        let nowhere = self.open.iter().all(|output| output.file.is_none());
        let names = if names.is_empty() && nowhere {
            &fallback[..]
        } else {
            &names[..]
        };
        for name in names {
            if self.open.iter().all(|output| output.name != *name) {
                self.open.push(Output {
                    name: (*name).to_owned(),
                    file: None,
                    again: Again::default(),
                });
            }
            let named = self.open.iter_mut().filter(|output| output.name == *name);
            named.for_each(|output| output.open(&self.dev));
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

/// What became of a text for a console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// All of it was taken.
    Whole,
    /// A part of it, or nothing.
    Cut,
    /// The console is gone.
    Gone,
}

/// Writes one line, giving up where nothing is taken for [`CONSOLE_LIMIT`].
pub(super) fn write_line(file: &mut File, line: &str) -> Sent {
    send_line(file, line, alive)
}

/// Writes to a console, giving up where nothing is taken for [`CONSOLE_LIMIT`].
pub(super) fn write(file: &mut File, text: &[u8]) -> Sent {
    send(file, text, CONSOLE_LIMIT, alive)
}

fn send_line(file: &mut File, line: &str, signs: fn()) -> Sent {
    // A terminal in raw mode does not turn a newline into both.
    let cooked = rustix::termios::tcgetattr(file.as_fd())
        .is_ok_and(|t| t.output_modes.contains(rustix::termios::OutputModes::OPOST));
    let line = format!("{line}{}", if cooked { "\n" } else { "\r\n" });
    send(file, line.as_bytes(), CONSOLE_LIMIT, signs)
}

/// `signs`: what is called when something was taken, so that a long line on a slow console is no silence.
fn send(file: &mut File, text: &[u8], limit: Duration, signs: fn()) -> Sent {
    if text.is_empty() {
        return Sent::Whole;
    }
    let place = file.metadata().map(|it| (it.dev(), it.ino())).ok();
    let stopped = || STOPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let was_cut = place.is_some_and(|place| stopped().contains(&place));
    // The rest of a line that was cut never comes: what comes begins on its own.
    let text = match was_cut {
        true => [b"\r\n", text].concat(),
        false => text.to_vec(),
    };
    let sent = send_within(file, &text, limit, was_cut, signs);
    if let Some(place) = place {
        stopped().retain(|it| *it != place);
        if sent == Sent::Cut {
            stopped().push(place);
        }
    }
    sent
}

fn send_within(file: &mut File, text: &[u8], limit: Duration, was_cut: bool, signs: fn()) -> Sent {
    let mut left = text;
    let first = if was_cut { Duration::ZERO } else { limit };
    let mut patience = Patience::new(Instant::now(), first, limit);
    while !left.is_empty() {
        match file.write(left) {
            Ok(written) if written > 0 => {
                left = left.get(written..).unwrap_or_default();
                patience.took(written, Instant::now(), limit);
                signs();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Sent::Gone,
            _ if patience.is_over(Instant::now()) => return Sent::Cut,
            _ => {
                // A serial line has room long before it is said to have: it is tried at the end of this time, too.
                let mut fds = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::OUT)];
                let time = Timespec {
                    tv_sec: 0,
                    tv_nsec: 100_000_000,
                };
                let _ = poll(&mut fds, Some(&time));
            }
        }
    }
    Sent::Whole
}

/// How long a console is waited for while it takes a text: not without a byte for long, and not for one that takes a byte
/// now and then, as with a flow control that flutters, which is no slow line.
struct Patience {
    /// Until when the next byte is waited for.
    next: Instant,
    /// Until when all of it is, at the slowest pace.
    all: Instant,
}

impl Patience {
    fn new(now: Instant, first: Duration, limit: Duration) -> Patience {
        Patience {
            next: now + first,
            all: now + limit,
        }
    }

    fn took(&mut self, bytes: usize, now: Instant, limit: Duration) {
        self.next = now + limit;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.all += SLOWEST.saturating_mul(bytes);
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.next.min(self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::console::tests::pty;
    use std::io::Read;

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

    #[test]
    fn a_slow_reader_gets_whole_lines_and_one_that_stopped_is_waited_for_once() {
        const LIMIT: Duration = Duration::from_millis(500);
        let (mut there, mut here) = pty();
        let line = format!("{}\n", "x".repeat(100_000));
        let reading = std::thread::spawn(move || {
            let (mut all, mut bytes) = (Vec::new(), [0; 512]);
            while !all.ends_with(b"\n") {
                std::thread::sleep(Duration::from_millis(5));
                let read = there.read(&mut bytes).unwrap();
                all.extend_from_slice(&bytes[..read]);
            }
            (there, all)
        });
        let begun = Instant::now();
        let sent = send(&mut here, line.as_bytes(), LIMIT, || ());
        assert_eq!(sent, Sent::Whole);
        assert!(begun.elapsed() > LIMIT, "the reader was too fast");
        let (mut there, all) = reading.join().unwrap();
        assert_eq!(all.len(), line.len() + 1);
        // It stops.
        assert_eq!(send(&mut here, line.as_bytes(), LIMIT, || ()), Sent::Cut);
        let begun = Instant::now();
        for _ in 0..20 {
            assert_eq!(send(&mut here, b"lost\n", LIMIT, || ()), Sent::Cut);
        }
        assert!(begun.elapsed() < 4 * LIMIT, "{:?}", begun.elapsed());
        // It is back, and takes what came before it stopped.
        let reading = std::thread::spawn(move || {
            let (mut all, mut bytes) = (Vec::new(), [0; 512]);
            while !all.ends_with(b"ready\r\n") {
                let read = there.read(&mut bytes).unwrap();
                all.extend_from_slice(&bytes[..read]);
            }
            (there, all)
        });
        let begun = Instant::now();
        while send(&mut here, b"ready\n", LIMIT, || ()) != Sent::Whole {
            assert!(begun.elapsed() < Duration::from_secs(60));
        }
        let (_there, all) = reading.join().unwrap();
        let all = String::from_utf8(all).unwrap();
        assert_eq!(all.lines().last(), Some("ready"));
        assert_eq!(send(&mut here, b"more\n", LIMIT, || ()), Sent::Whole);
    }

    #[test]
    fn one_that_takes_a_byte_now_and_then_does_not_hold_the_boot_up() {
        let begun = Instant::now();
        let took_for = |bytes: usize, each: Duration| {
            let mut patience = Patience::new(begun, CONSOLE_LIMIT, CONSOLE_LIMIT);
            let mut now = begun;
            for _ in 0..1000 {
                now += each;
                if patience.is_over(now) {
                    return Some(now - begun);
                }
                patience.took(bytes, now, CONSOLE_LIMIT);
            }
            None
        };
        // 300 and 9600 baud.
        assert_eq!(took_for(1, Duration::from_millis(33)), None);
        assert_eq!(took_for(960, Duration::from_secs(1)), None);
        let drips = took_for(1, Duration::from_millis(1900)).unwrap();
        assert!(drips < 2 * CONSOLE_LIMIT, "{drips:?}");
        assert_eq!(took_for(4096, CONSOLE_LIMIT), Some(CONSOLE_LIMIT));
    }

    #[test]
    fn a_console_that_another_ones_shell_hung_up_is_opened_anew_for_the_same_line() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("ttyS0");
        let (there, here) = pty();
        std::os::unix::fs::symlink(console::tests::path(&here), &at).unwrap();
        let mut speaker = Speaker::new(dir.path(), dir.path());
        speaker.say("first", &[console("ttyS0")]);
        drop((there, here));
        let (mut there, here) = pty();
        std::fs::remove_file(&at).unwrap();
        std::os::unix::fs::symlink(console::tests::path(&here), &at).unwrap();
        for line in ["second", "third"] {
            speaker.say(line, &[console("ttyS0")]);
            let mut bytes = [0; 64];
            let read = there.read(&mut bytes).unwrap();
            assert_eq!(bytes[..read], *format!("backstay: {line}\r\n").as_bytes());
        }
    }
}
