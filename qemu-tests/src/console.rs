//! What a guest has written to its serial line, three ways: the raw bytes are in the transcript
//! file, the text without escape sequences is searched by expectations, and a screen of 80 by 24
//! characters shows what a person at a VT100 would see (GRUB's menu, above all).
//!
//! Pure: bytes go in, nothing is waited for.

use std::num::NonZeroU16;

/// Width of the terminal that GRUB and the guest take the line for.
pub const COLUMNS: NonZeroU16 = size(80);
/// Height of the same terminal.
pub const ROWS: NonZeroU16 = size(24);

const fn size(number: u16) -> NonZeroU16 {
    match NonZeroU16::new(number) {
        Some(size) => size,
        None => NonZeroU16::MIN,
    }
}

/// Where the stripper is within an escape sequence (ECMA-48).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    /// Plain text.
    None,
    /// ESC was read.
    Started,
    /// A control sequence (`ESC [`), until its final byte.
    Control,
    /// An operating system command (`ESC ]`) or another string, until BEL or ST.
    String,
    /// ESC within a string: the next byte ends it.
    StringEnd,
    /// One more byte belongs to the sequence (`ESC (` and the like).
    OneMore,
}

/// Everything a guest has written so far.
pub struct Console {
    text: String,
    pending: Vec<u8>,
    escape: Escape,
    screen: vt100::Parser,
    bytes: u64,
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Console {
    /// An empty console.
    #[must_use]
    pub fn new() -> Self {
        Self {
            text: String::new(),
            pending: Vec::new(),
            escape: Escape::None,
            screen: vt100::Parser::new(ROWS, COLUMNS, 0),
            bytes: 0,
        }
    }

    /// Takes the next bytes from the guest.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.screen.process(bytes);
        for &byte in bytes {
            self.feed_text(byte);
        }
        self.flush_pending();
    }

    fn feed_text(&mut self, byte: u8) {
        self.escape = match (self.escape, byte) {
            (Escape::None, 0x1b) => {
                self.flush_pending();
                Escape::Started
            }
            (Escape::None, _) => {
                // Bell, backspace, NUL and carriage return say nothing in a transcript of lines.
                if byte == b'\n' || byte == b'\t' || byte >= 0x20 {
                    self.pending.push(byte);
                }
                Escape::None
            }
            (Escape::Started, b'[') => Escape::Control,
            (Escape::Started, b']' | b'P' | b'X' | b'^' | b'_') => Escape::String,
            (Escape::Started, b'(' | b')' | b'*' | b'+' | b'#' | b' ' | b'%') => Escape::OneMore,
            (Escape::Started, 0x1b) => Escape::Started,
            (Escape::Control, 0x40..=0x7e) => Escape::None,
            (Escape::Control, 0x1b) => Escape::Started,
            (Escape::Control, _) => Escape::Control,
            (Escape::String, 0x07) => Escape::None,
            (Escape::String, 0x1b) => Escape::StringEnd,
            (Escape::String, _) => Escape::String,
            (Escape::Started | Escape::OneMore | Escape::StringEnd, _) => Escape::None,
        };
    }

    /// Moves whole UTF-8 characters to the text; an unfinished one waits, a wrong one is marked.
    fn flush_pending(&mut self) {
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(good) => {
                    self.text.push_str(good);
                    self.pending.clear();
                    return;
                }
                Err(error) => {
                    let (good, rest) = self.pending.split_at(error.valid_up_to());
                    self.text.push_str(&String::from_utf8_lossy(good));
                    let Some(bad) = error.error_len() else {
                        self.pending = rest.to_vec();
                        return;
                    };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    self.pending = rest[bad..].to_vec();
                }
            }
        }
    }

    /// All text so far, without escape sequences, lines ended by `\n`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many bytes the guest has written.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The screen as a person would see it now.
    #[must_use]
    pub fn screen(&self) -> &vt100::Screen {
        self.screen.screen()
    }

    /// The last `count` lines that are not empty, an unfinished one included.
    #[must_use]
    pub fn tail(&self, count: usize) -> Vec<String> {
        let mut lines: Vec<String> = self
            .text
            .lines()
            .rev()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .take(count)
            .map(str::to_owned)
            .collect();
        lines.reverse();
        lines
    }
}

/// A line as expectations compare it: without the kernel's time stamp and trailing blanks, so that
/// one text is expected whether it came through /dev/kmsg or straight to the console.
#[must_use]
pub fn plain_line(line: &str) -> &str {
    let line = line.trim_end();
    let Some(rest) = line.strip_prefix('[') else {
        return line;
    };
    match rest.split_once("] ") {
        Some((stamp, text)) if is_stamp(stamp) => text,
        _ => line,
    }
}

fn is_stamp(text: &str) -> bool {
    let text = text.trim_start();
    match text.split_once('.') {
        Some((seconds, micros)) => {
            !seconds.is_empty()
                && micros.len() == 6
                && seconds
                    .bytes()
                    .chain(micros.bytes())
                    .all(|b| b.is_ascii_digit())
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_leave_no_trace_in_the_text() {
        for (raw, text) in [
            (&b"plain\r\n"[..], "plain\n"),
            (b"\x1b[0;1;31mred\x1b[0m", "red"),
            (b"\x1b]0;title\x07shown", "shown"),
            (b"\x1b]8;;http://x\x1b\\link", "link"),
            (b"\x1b(Bascii \x1b[?25hcursor", "ascii cursor"),
            (b"a\x1bcb", "ab"),
            (b"gr\xc3\xbc\xc3\x9fe \xff!", "gr\u{fc}\u{df}e \u{fffd}!"),
        ] {
            let mut console = Console::new();
            console.feed(raw);
            assert_eq!(console.text(), text);
        }
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_text() {
        let raw = b"one\r\n\x1b[1;2Htwo \xe2\x9c\x93\x1b]0;t\x1b\\ three\r\n";
        let mut whole = Console::new();
        whole.feed(raw);
        for cut in 0..raw.len() {
            let mut parts = Console::new();
            parts.feed(&raw[..cut]);
            parts.feed(&raw[cut..]);
            assert_eq!(parts.text(), whole.text(), "cut at {cut}");
        }
    }

    #[test]
    fn the_kernels_time_stamp_is_no_part_of_a_line() {
        for (line, plain) in [
            ("[    3.141592] backstay: here", "backstay: here"),
            ("[12345.000001] x  ", "x"),
            ("[  OK  ] Reached target", "[  OK  ] Reached target"),
            ("[3.14] no stamp", "[3.14] no stamp"),
            ("text", "text"),
        ] {
            assert_eq!(plain_line(line), plain);
        }
    }

    #[test]
    fn the_tail_has_the_last_lines_and_the_unfinished_one() {
        let mut console = Console::new();
        console.feed(b"1\r\n\r\n2\r\n3\r\nlogin: ");
        assert_eq!(console.tail(3), ["2", "3", "login:"]);
    }
}
