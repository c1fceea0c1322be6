//! The serial line between a person (here: a scenario) and a guest: waiting for texts, typing.
//!
//! A thread takes what the guest writes, at once, whether or not anybody is waiting for it: into
//! the transcript file, onto the [`Console`], and to an echo if one was asked for. Expectations
//! read on from where the last one matched, so a story is told in the order it happens.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::console::{Console, plain_line};
use crate::story::Story;

/// Lines after which no guest goes on; an expectation that meets one ends at once.
const DEAD: [&str; 2] = ["Kernel panic - not syncing", "---[ end Kernel panic"];

/// Where a copy of everything the guest writes goes, as it comes.
pub type Echo = Box<dyn Write + Send>;

/// The guest's side of the line: what it wrote, and whether it is still there.
#[derive(Clone)]
pub struct Line {
    shared: Arc<(Mutex<Heard>, Condvar)>,
    transcript: PathBuf,
}

struct Heard {
    console: Console,
    closed: bool,
}

impl Line {
    /// Starts to listen to `guest`; raw bytes are appended to the file `transcript`.
    ///
    /// # Errors
    /// When the transcript cannot be opened.
    pub fn listen(
        mut guest: impl Read + Send + 'static,
        transcript: &Path,
        mut echo: Option<Echo>,
    ) -> Result<Self> {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(transcript)
            .with_context(|| format!("open the transcript {}", transcript.display()))?;
        let heard = Heard {
            console: Console::new(),
            closed: false,
        };
        let line = Self {
            shared: Arc::new((Mutex::new(heard), Condvar::new())),
            transcript: transcript.to_owned(),
        };
        let writer = line.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let count = match guest.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                let bytes = buffer.get(..count).unwrap_or_default();
                // A transcript or an echo that cannot be written must not stop the guest.
                let _ = file.write_all(bytes);
                if let Some(echo) = &mut echo {
                    let _ = echo.write_all(bytes).and_then(|()| echo.flush());
                }
                writer.lock().console.feed(bytes);
                writer.shared.1.notify_all();
            }
            writer.lock().closed = true;
            writer.shared.1.notify_all();
        });
        Ok(line)
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the console as it is now.
    pub fn look<T>(&self, look: impl FnOnce(&Console) -> T) -> T {
        look(&self.lock().console)
    }

    /// The last `count` lines that are not empty.
    #[must_use]
    pub fn tail(&self, count: usize) -> Vec<String> {
        self.look(|console| console.tail(count))
    }

    /// Where the raw transcript is.
    #[must_use]
    pub fn transcript(&self) -> &Path {
        &self.transcript
    }

    /// Waits until `look` finds what it looks for, the guest is gone, or `until` has come.
    fn wait<T>(&self, until: Instant, mut look: impl FnMut(&Console) -> Option<T>) -> Waited<T> {
        let mut heard = self.lock();
        loop {
            if let Some(found) = look(&heard.console) {
                return Waited::Found(found);
            }
            if heard.closed {
                return Waited::Closed;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Waited::TimedOut;
            }
            let waited = self.shared.1.wait_timeout(heard, left);
            heard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

enum Waited<T> {
    Found(T),
    Closed,
    TimedOut,
}

/// An expectation that was not met.
#[derive(Debug)]
pub struct Unmet {
    /// What was waited for, in words.
    pub wanted: String,
    /// What happened instead.
    pub instead: Instead,
}

/// What happened instead of what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instead {
    /// Nothing of the kind came in this time.
    Nothing(Duration),
    /// The whole scenario's time was used up.
    OutOfTime(Duration),
    /// The guest ended.
    GuestEnded,
    /// This line came, after which it cannot come any more, or which must not come before it.
    Line(String),
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, but ", self.wanted)?;
        match &self.instead {
            Instead::Nothing(time) => write!(f, "it did not come in {} s", time.as_secs()),
            Instead::OutOfTime(time) => {
                write!(
                    f,
                    "time-out: the scenario's {} s were used up",
                    time.as_secs()
                )
            }
            Instead::GuestEnded => write!(f, "the guest ended"),
            Instead::Line(line) => write!(f, "this came: {line}"),
        }
    }
}

impl std::error::Error for Unmet {}

/// How long a byte takes: ten bits, with its start and its stop.
fn byte_time(baud: u32) -> Duration {
    Duration::from_secs(10) / baud.max(1)
}

/// Both directions of a guest's serial line.
pub struct Serial {
    line: Line,
    keyboard: Option<Box<dyn Write + Send>>,
    story: Story,
    /// How far expectations have read in the console's text, in bytes.
    read: usize,
    forbidden: Vec<String>,
    patience: Duration,
}

impl Serial {
    /// A line to a guest: `keyboard` is where typed bytes go.
    pub fn new(line: Line, keyboard: Box<dyn Write + Send>, story: Story) -> Self {
        story.attach(line.clone());
        Self::beside(line, keyboard, story)
    }

    /// Another line to the same guest, which a failure does not show.
    pub fn beside(line: Line, keyboard: Box<dyn Write + Send>, story: Story) -> Self {
        Self {
            line,
            keyboard: Some(keyboard),
            story,
            read: 0,
            forbidden: DEAD.iter().map(|&text| text.to_owned()).collect(),
            patience: Duration::from_secs(180),
        }
    }

    /// How long an expectation waits (180 s at first, for emulation on a busy machine).
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// From now on a line with `text` in it ends any expectation with a failure.
    pub fn forbid(&mut self, text: &str) {
        self.forbidden.push(text.to_owned());
    }

    /// Takes back what was forbidden and contains `text`; `allow("Kernel panic")` for a scenario in
    /// which the guest is meant to panic.
    pub fn allow(&mut self, text: &str) {
        self.forbidden.retain(|forbidden| !forbidden.contains(text));
    }

    /// The guest's side.
    #[must_use]
    pub const fn line(&self) -> &Line {
        &self.line
    }

    /// The story this line is part of.
    #[must_use]
    pub const fn story(&self) -> &Story {
        &self.story
    }

    /// Waits for a whole line that equals `wanted` (time stamp and trailing blanks aside).
    ///
    /// # Errors
    /// [`Unmet`].
    pub fn expect_line(&mut self, wanted: &str) -> Result<()> {
        self.expect_where(&format!("the line {wanted:?}"), |line| {
            plain_line(line) == wanted
        })?;
        Ok(())
    }

    /// Waits for these lines in this order; other lines may come between them.
    ///
    /// # Errors
    /// [`Unmet`].
    pub fn expect_lines(&mut self, wanted: &[&str]) -> Result<()> {
        wanted.iter().try_for_each(|line| self.expect_line(line))
    }

    /// Waits for a whole line for which `fits` holds, and returns it as [`plain_line`] sees it.
    ///
    /// # Errors
    /// [`Unmet`].
    pub fn expect_where(
        &mut self,
        wanted: &str,
        mut fits: impl FnMut(&str) -> bool,
    ) -> Result<String> {
        self.expect(wanted, |text| {
            let end = text.find('\n')?;
            Some((end + 1, fits(&text[..end])))
        })
    }

    /// Waits for `wanted` anywhere in a line, finished or not, and returns that line so far.
    /// For prompts and for lines of which only a part is known.
    ///
    /// # Errors
    /// [`Unmet`].
    pub fn expect_text(&mut self, wanted: &str) -> Result<String> {
        self.expect(&format!("the text {wanted:?}"), |text| {
            let end = text.find('\n');
            let line = &text[..end.unwrap_or(text.len())];
            match line.find(wanted) {
                // Read on after the text itself: what follows in its line is not yet used up.
                Some(at) => Some((at + wanted.len(), true)),
                None => end.map(|end| (end + 1, false)),
            }
        })
    }

    /// Takes lines from the text until one fits. `take` gets the unread text and says how many
    /// bytes of it are used up and whether they are what was wanted; None: wait for more.
    fn expect(
        &mut self,
        wanted: &str,
        mut take: impl FnMut(&str) -> Option<(usize, bool)>,
    ) -> Result<String> {
        let begun = Instant::now();
        let until = (begun + self.patience).min(self.story.deadline());
        let (read, forbidden) = (&mut self.read, &self.forbidden);
        let waited = self.line.wait(until, |console| {
            while let Some((used, fits)) = take(&console.text()[*read..]) {
                let taken = console.text()[*read..*read + used].to_owned();
                *read += used;
                if fits {
                    return Some(Ok(plain_line(&taken).to_owned()));
                }
                if forbidden.iter().any(|text| taken.contains(text.as_str())) {
                    return Some(Err(plain_line(&taken).to_owned()));
                }
            }
            None
        });
        let instead = match waited {
            Waited::Found(Ok(line)) => return Ok(line),
            Waited::Found(Err(line)) => Instead::Line(line),
            Waited::Closed => Instead::GuestEnded,
            Waited::TimedOut if Instant::now() >= self.story.deadline() => {
                Instead::OutOfTime(self.story.limit())
            }
            Waited::TimedOut => Instead::Nothing(begun.elapsed()),
        };
        Err(Unmet {
            wanted: wanted.to_owned(),
            instead,
        }
        .into())
    }

    /// Waits until `look` finds what it looks for on the console as a whole (its screen, say),
    /// at most `patience`; None when it did not come or the guest ended.
    pub fn watch<T>(
        &mut self,
        patience: Duration,
        look: impl FnMut(&Console) -> Option<T>,
    ) -> Option<T> {
        let until = (Instant::now() + patience).min(self.story.deadline());
        match self.line.wait(until, look) {
            Waited::Found(found) => Some(found),
            Waited::Closed | Waited::TimedOut => None,
        }
    }

    /// Whether a line so far (read by an expectation or not) contains `text`.
    #[must_use]
    pub fn seen(&self, text: &str) -> bool {
        self.line.look(|console| console.text().contains(text))
    }

    /// All lines so far that contain `text`, as [`plain_line`] sees them.
    #[must_use]
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        self.line.look(|console| {
            let lines = console.text().lines().filter(|line| line.contains(text));
            lines.map(|line| plain_line(line).to_owned()).collect()
        })
    }

    /// Expectations go on from here: whatever was written until now has been read.
    pub fn skip(&mut self) {
        self.read = self.line.look(|console| console.text().len());
    }

    /// Types these bytes.
    ///
    /// # Errors
    /// When the guest no longer listens.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let keyboard = self
            .keyboard
            .as_mut()
            .context("the keyboard was given away")?;
        let typed = keyboard.write_all(bytes).and_then(|()| keyboard.flush());
        typed.context("type on the serial line: the guest no longer listens")
    }

    /// Types a line and the Enter key.
    ///
    /// # Errors
    /// When the guest no longer listens.
    pub fn send_line(&mut self, line: &str) -> Result<()> {
        self.send(line.as_bytes())?;
        self.send(b"\r")
    }

    /// Types these bytes no faster than a line of so many bits a second carries them.
    ///
    /// # Errors
    /// When the guest no longer listens.
    pub fn send_paced(&mut self, bytes: &[u8], baud: u32) -> Result<()> {
        for byte in bytes {
            self.send(&[*byte])?;
            std::thread::sleep(byte_time(baud));
        }
        Ok(())
    }

    /// Waits until the guest has written nothing for the time `quiet`, at most as long as an expectation waits. What was
    /// written until then has been read.
    ///
    /// # Errors
    /// When it goes on writing.
    pub fn quiet(&mut self, quiet: Duration) -> Result<()> {
        let until = (Instant::now() + self.patience).min(self.story.deadline());
        loop {
            let before = self.line.look(Console::bytes);
            let more = |console: &Console| (console.bytes() != before).then_some(());
            if self.watch(quiet, more).is_none() {
                self.skip();
                return Ok(());
            }
            if Instant::now() >= until {
                anyhow::bail!("the guest does not stop writing");
            }
        }
    }

    /// Gives the keyboard to somebody else (a person); nothing can be typed here afterwards.
    pub fn give_keyboard(&mut self) -> Option<Box<dyn Write + Send>> {
        self.keyboard.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_has_ten_bits() {
        for (baud, micros) in [(9600, 1041), (115_200, 86), (10, 1_000_000)] {
            assert_eq!(byte_time(baud).as_micros(), micros);
        }
        assert_eq!(byte_time(0), Duration::from_secs(10));
    }

    #[test]
    fn what_was_written_before_it_was_quiet_has_been_read() {
        let directory = tempfile::tempdir().unwrap();
        let (guest, mut writes) = std::io::pipe().unwrap();
        let line = Line::listen(guest, &directory.path().join("t"), None).unwrap();
        let story = Story::new(Duration::from_secs(60));
        let mut serial = Serial::new(line, Box::new(std::io::sink()), story);
        writes.write_all(b"noise\n").unwrap();
        while !serial.seen("noise") {
            std::thread::yield_now();
        }
        serial.quiet(Duration::from_millis(20)).unwrap();
        writes.write_all(b"more noise\n").unwrap();
        assert_eq!(serial.expect_text("noise").unwrap(), "more noise");
        assert!(serial.send(b"typed").is_ok());
    }
}
