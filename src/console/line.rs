//! One line as it is typed on a terminal that does nothing by itself: echo, corrections, and what is no line at all.
//!
//! A serial line may carry noise: a line with a byte in it that no key sends is not taken, not even in part.

use std::time::{Duration, Instant};

/// How long it must be quiet before a question is asked.
pub const QUIET: Duration = Duration::from_millis(150);
/// How long that is waited for: noise never ends.
pub const QUIET_LIMIT: Duration = Duration::from_secs(2);

/// Forgets what was typed before a question, until it is quiet: nothing is confirmed that nobody has read. `take` waits
/// for so long at most, takes what came, and says whether something did. False: it did not become quiet.
pub fn forget_what_came_ahead(take: impl FnMut(Duration) -> bool) -> bool {
    becomes_quiet(QUIET_LIMIT, take)
}

fn becomes_quiet(limit: Duration, mut take: impl FnMut(Duration) -> bool) -> bool {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        if !take(QUIET) {
            return true;
        }
    }
    false
}

/// The longest line, in bytes.
pub const LONGEST: usize = 1024;

/// What is shown while somebody types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// What is typed.
    Typed,
    /// Nothing: a password.
    Nothing,
}

/// What came of a byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// The line goes on.
    More,
    /// Enter: the line.
    Line(String),
    /// Enter after something that no key sends, or after more than [`LONGEST`] bytes: it is not taken.
    Garbled,
    /// Control-C: what was typed is given up.
    GivenUp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Started,
    Sequence,
}

/// A line that is being typed.
#[derive(Debug, Default)]
pub struct Editor {
    text: Vec<u8>,
    garbled: bool,
    escape: Escape,
    /// The last byte was a carriage return: a newline after it is the same Enter.
    returned: bool,
}

impl Editor {
    /// Whether nothing was typed yet.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && !self.garbled
    }

    /// Whether what was typed so far looks like a person's.
    pub fn is_readable(&self) -> bool {
        !self.text.is_empty() && !self.garbled
    }

    /// Forgets what was typed.
    pub fn clear(&mut self) {
        self.text.fill(0);
        self.text.clear();
        self.garbled = false;
        self.escape = Escape::None;
    }

    /// What was typed so far, as it was shown.
    pub fn shown(&self) -> &[u8] {
        &self.text
    }

    /// Takes a byte; what is to be sent back to the terminal is added to `answer`.
    pub fn take(&mut self, byte: u8, echo: Echo, answer: &mut Vec<u8>) -> Typed {
        let after_return = std::mem::take(&mut self.returned);
        match (self.escape, byte) {
            (Escape::Started, b'[' | b'O') => {
                self.escape = Escape::Sequence;
                return Typed::More;
            }
            (Escape::Sequence, b' '..=b'?') => return Typed::More,
            (Escape::Sequence, b' '..=b'~') => {
                self.escape = Escape::None;
                return Typed::More;
            }
            // The key alone: what follows it is typed.
            _ => self.escape = Escape::None,
        }
        match byte {
            b'\n' if after_return => Typed::More,
            b'\r' | b'\n' => {
                self.returned = byte == b'\r';
                answer.extend_from_slice(b"\r\n");
                self.entered()
            }
            0x03 => {
                self.clear();
                answer.extend_from_slice(b"^C\r\n");
                Typed::GivenUp
            }
            0x08 | 0x7f => {
                if self.text.pop().is_some() && echo == Echo::Typed {
                    answer.extend_from_slice(b"\x08 \x08");
                }
                Typed::More
            }
            // Control-U.
            0x15 => {
                if echo == Echo::Typed {
                    (0..self.text.len()).for_each(|_| answer.extend_from_slice(b"\x08 \x08"));
                }
                self.clear();
                Typed::More
            }
            0x1b => {
                self.escape = Escape::Started;
                Typed::More
            }
            // A break on the line.
            0 => Typed::More,
            b' '..=b'~' if self.text.len() < LONGEST => {
                self.text.push(byte);
                if echo == Echo::Typed && !self.garbled {
                    answer.push(byte);
                }
                Typed::More
            }
            _ => {
                self.garbled = true;
                Typed::More
            }
        }
    }

    fn entered(&mut self) -> Typed {
        let text = String::from_utf8(self.text.clone());
        let garbled = self.garbled;
        self.clear();
        match text {
            Ok(text) if !garbled => Typed::Line(text),
            _ => Typed::Garbled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of all bytes, and what is echoed.
    fn typed(bytes: &[u8], echo: Echo) -> (Vec<Typed>, String) {
        let (mut editor, mut answer) = (Editor::default(), Vec::new());
        let mut all: Vec<Typed> = Vec::new();
        for byte in bytes {
            all.push(editor.take(*byte, echo, &mut answer));
        }
        all.retain(|typed| *typed != Typed::More);
        (all, String::from_utf8_lossy(&answer).into_owned())
    }

    fn line(text: &str) -> Typed {
        Typed::Line(text.to_owned())
    }

    #[test]
    fn a_line_is_what_was_typed_and_corrected_whatever_ends_it() {
        for (bytes, lines) in [
            (&b"list\r"[..], vec![line("list")]),
            (b"list\n", vec![line("list")]),
            (b"list\r\n", vec![line("list")]),
            (b"a\r\n\r\n", vec![line("a"), line("")]),
            (b"lisx\x7ft\r", vec![line("list")]),
            (b"\x08\x7fa\r", vec![line("a")]),
            (b"rollback 1\x15list\r", vec![line("list")]),
            (b"li\x1b[A\x1b[1;5Dst\x1bOP\r", vec![line("list")]),
            (b"l\0i\0st\r", vec![line("list")]),
            (b"\x1blist\r", vec![line("list")]),
            (b"\x1b\x1b[Alist\x1b\r", vec![line("list")]),
            (b"roll\x03list\r", vec![Typed::GivenUp, line("list")]),
        ] {
            assert_eq!(typed(bytes, Echo::Typed).0, lines, "{bytes:?}");
        }
    }

    #[test]
    fn what_comes_ahead_is_forgotten_until_it_is_quiet_and_a_line_that_never_is_said_to_be() {
        for pieces in [0, 1, 5] {
            let mut left = pieces;
            let came = |_| {
                left -= 1;
                left >= 0
            };
            assert!(becomes_quiet(Duration::from_secs(60), came), "{pieces}");
            assert_eq!(left, -1);
        }
        assert!(!becomes_quiet(Duration::from_millis(5), |_| true));
    }

    #[test]
    fn a_line_with_noise_in_it_is_not_taken_and_the_next_one_is() {
        let long = [vec![b'x'; LONGEST + 1], b"\r".to_vec()].concat();
        for noise in [
            &b"ro\xffllback\r"[..],
            b"\x01\r",
            b"\xc3\xa4\r",
            b"list\t\r",
            &long,
        ] {
            let bytes = [noise, b"list\r"].concat();
            let (all, _) = typed(&bytes, Echo::Typed);
            assert_eq!(all, [Typed::Garbled, line("list")], "{noise:?}");
        }
    }

    #[test]
    fn a_password_is_not_shown_and_neither_is_its_length() {
        let (all, shown) = typed(b"secrex\x7ft\r", Echo::Nothing);
        assert_eq!((all, shown.as_str()), (vec![line("secret")], "\r\n"));
        let (_, shown) = typed(b"lisx\x7ft\r", Echo::Typed);
        assert_eq!(shown, "lisx\x08 \x08t\r\n");
    }

    #[test]
    fn whatever_comes_the_memory_is_bounded_and_nothing_but_plain_text_is_echoed() {
        let (mut editor, mut answer) = (Editor::default(), Vec::new());
        let mut seed = 1u32;
        for _ in 0..65536 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            editor.take((seed >> 24) as u8, Echo::Typed, &mut answer);
            assert!(editor.text.len() <= LONGEST);
        }
        let plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | 0x08);
        assert!(answer.iter().all(plain));
    }
}
