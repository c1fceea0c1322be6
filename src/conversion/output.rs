//! What a converter prints: taken line by line, bounded, its last line told when it fails.

use super::Teller;
use std::fs::File;
use std::io::Read as _;
use std::time::{Duration, Instant};

/// Letters of a line that are kept.
const LINE_MAX: usize = 200;
/// Letters of the last line that an error has: it is one line, and has more to say.
const LAST_MAX: usize = 60;
/// Lines that are told.
const LINES_MAX: usize = 500;
/// Between two looks.
pub const LOOK: Duration = Duration::from_millis(200);

/// What it printed so far.
pub struct Output {
    from: File,
    line: Vec<u8>,
    lines: usize,
    last: String,
}

impl Output {
    /// The end of a pipe that does not block.
    pub fn new(from: File) -> Output {
        Output {
            from,
            line: Vec::new(),
            lines: 0,
            last: String::new(),
        }
    }

    /// Takes what there is, without waiting.
    pub fn take(&mut self, teller: &mut dyn Teller) {
        let mut bytes = [0; 4096];
        // One who prints without an end must not keep its time from being looked at.
        for _ in 0..64 {
            match self.from.read(&mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(read) => self.lines_of(bytes.get(..read).unwrap_or_default(), teller),
            }
        }
    }

    /// Takes what there is until nobody is left who could print, which is when all that it started are gone.
    pub fn take_to_the_end(&mut self, patience: Duration, teller: &mut dyn Teller) {
        let begun = Instant::now();
        let mut bytes = [0; 4096];
        while begun.elapsed() < patience {
            match self.from.read(&mut bytes) {
                Ok(0) => return,
                Ok(read) => self.lines_of(bytes.get(..read).unwrap_or_default(), teller),
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    }

    fn lines_of(&mut self, bytes: &[u8], teller: &mut dyn Teller) {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(teller),
                byte if self.line.len() < LINE_MAX => self.line.push(*byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self, teller: &mut dyn Teller) {
        let line = plain(&core::mem::take(&mut self.line));
        if line.trim().is_empty() {
            return;
        }
        self.lines = self.lines.saturating_add(1);
        match self.lines {
            0..=LINES_MAX => teller.printed(&line),
            _ if self.lines == LINES_MAX + 1 => teller.printed("(more is not kept)"),
            _ => {}
        }
        self.last = line;
    }

    /// How it ended, with the last line that it printed.
    pub fn ending(&mut self, how: &str, teller: &mut dyn Teller) -> String {
        self.end_line(teller);
        match self.last.is_empty() {
            true => how.to_owned(),
            false => {
                let mut last: String = self.last.chars().take(LAST_MAX).collect();
                if last.len() < self.last.len() {
                    last.push_str("...");
                }
                format!("{how}, its last line: {last}")
            }
        }
    }
}

/// What every console can show: a `?` for each byte that is not plain ASCII.
fn plain(line: &[u8]) -> String {
    let letter = |byte: &u8| match byte {
        b' '..=b'~' => char::from(*byte),
        b'\t' => ' ',
        _ => '?',
    };
    line.iter().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::OFlags;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::io::Write as _;

    #[derive(Default)]
    struct Told(Vec<String>);

    impl Teller for Told {
        fn say(&mut self, _: &str) {}
        fn printed(&mut self, line: &str) {
            self.0.push(line.to_owned());
        }
    }

    fn output(text: &[u8]) -> Output {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        File::from(writer).write_all(text).unwrap();
        Output::new(reader.into())
    }

    #[test]
    fn the_last_line_is_told_however_it_ends() {
        for (text, told) in [
            (&b""[..], "exit status 3"),
            (b"\n \n", "exit status 3"),
            (b"one\ntwo\n\n", "exit status 3, its last line: two"),
            (b"one\ntw\x1b[2Jo", "exit status 3, its last line: tw?[2Jo"),
        ] {
            let mut output = output(text);
            let teller = &mut Told::default();
            output.take(teller);
            assert_eq!(output.ending("exit status 3", teller), told);
        }
        let mut output = output(&[0; 5000]);
        let teller = &mut Told::default();
        output.take(teller);
        output.end_line(teller);
        assert_eq!(output.last, "?".repeat(LINE_MAX));
        let short = format!("killed, its last line: {}...", "?".repeat(LAST_MAX));
        assert_eq!(output.ending("killed", teller), short);
        assert_eq!(teller.0.len(), 1);
    }

    #[test]
    fn one_that_prints_without_an_end_is_told_up_to_a_bound() {
        let mut output = output(&b"line\n".repeat(LINES_MAX + 9));
        let mut teller = Told::default();
        output.take_to_the_end(Duration::from_secs(5), &mut teller);
        assert_eq!(teller.0.len(), LINES_MAX + 1);
        assert_eq!(teller.0.last().unwrap(), "(more is not kept)");
    }
}
