//! Tokens of a command line, exactly as Linux cuts them.
//!
//! The rules are those of `next_arg()` in lib/cmdline.c and of `parse_args()` in kernel/params.c
//! (Linux 6.1 and later; a booted kernel is asked in the scenario `kernel-reads-the-line-as-we-do`):
//!
//! - Blanks separate, and the kernel's blanks are Latin-1's: 0xA0 is one, even inside a UTF-8 character.
//! - Only `"` quotes, nothing escapes. A quote turns the meaning of blanks on or off wherever it
//!   stands; an unmatched one runs to the end of the line.
//! - A quote is *removed* in three places only: at the start of a token, at the start of a value, and
//!   at the end of a token that had one of these two. All others stay.
//! - The name ends at the first `=`, but a token may start with one: `=a=b` is `=a` and `b`.
//! - `--` without a value ends the kernel's part; what follows is for init.
//! - A NUL ends the line.

use core::str;

/// Whether the kernel takes this byte for a blank (`isspace()` over lib/ctype.c).
///
/// 0xA0 is Latin-1's no-break space. `à` is 0xC3 0xA0 in UTF-8, so the kernel cuts a token in it.
#[must_use]
pub const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r' | 0xa0)
}

/// Whether two parameter *names* are one: `-` and `_` are equal, all else is compared as it is.
#[must_use]
pub fn same_name(a: &[u8], b: &[u8]) -> bool {
    let dash = |byte: &u8| if *byte == b'-' { b'_' } else { *byte };
    a.len() == b.len() && a.iter().map(dash).eq(b.iter().map(dash))
}

/// One token with where it stands, in bytes that need not be UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawToken<'a> {
    /// The name: all before the first `=` that is not the token's first byte.
    pub key: &'a [u8],
    /// The value, without the quotes that the kernel removes; `None` where there is no `=`.
    pub value: Option<&'a [u8]>,
    /// Offset of the token's first byte in the line, its quote included.
    pub start: usize,
    /// Offset after the token's last byte.
    pub end: usize,
    /// Whether each quote in it was closed. Only the last token of a line can be open.
    pub closed: bool,
}

impl RawToken<'_> {
    /// Whether this is the `--` that ends the kernel's part of the line.
    #[must_use]
    pub fn is_separator(&self) -> bool {
        self.key == b"--" && self.value.is_none()
    }
}

/// All tokens of a line, `--` and what follows it included.
#[derive(Clone, Debug)]
pub struct RawTokens<'a> {
    rest: &'a [u8],
    /// Where `rest` starts in the line.
    offset: usize,
}

/// Cuts `line` into tokens; never fails, whatever the bytes are.
#[must_use]
pub fn raw_tokens(line: &[u8]) -> RawTokens<'_> {
    RawTokens {
        rest: before_nul(line),
        offset: 0,
    }
}

/// The line as the kernel sees it: up to its first NUL.
pub(crate) fn before_nul(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == 0).next().unwrap_or_default()
}

impl<'a> RawTokens<'a> {
    /// Takes `count` bytes off the front.
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .unwrap_or((self.rest, &[]));
        self.rest = rest;
        self.offset = self.offset.saturating_add(taken.len());
        taken
    }
}

impl<'a> Iterator for RawTokens<'a> {
    type Item = RawToken<'a>;

    fn next(&mut self) -> Option<RawToken<'a>> {
        let blanks = self.rest.iter().take_while(|byte| is_space(**byte)).count();
        self.take(blanks);
        if self.rest.is_empty() {
            return None;
        }
        let start = self.offset;
        let quoted = self.rest.first() == Some(&b'"');
        if quoted {
            self.take(1);
        }
        let mut open = quoted;
        let mut equals = None;
        let mut length = 0;
        for (at, byte) in self.rest.iter().enumerate() {
            if is_space(*byte) && !open {
                break;
            }
            // The kernel's "no equals sign yet" is index 0, so one at index 0 does not count.
            if *byte == b'=' && equals.is_none() && at > 0 {
                equals = Some(at);
            }
            if *byte == b'"' {
                open = !open;
            }
            length = at.saturating_add(1);
        }
        let body = self.take(length);
        let (key, value) = match equals.and_then(|at| body.split_at_checked(at)) {
            Some((key, after)) => {
                let after = after.strip_prefix(b"=").unwrap_or(after);
                match after.strip_prefix(b"\"") {
                    // The last quote goes once, whichever of the two first ones it belongs to.
                    Some(inner) => (key, Some(without_last_quote(inner))),
                    None if quoted => (key, Some(without_last_quote(after))),
                    None => (key, Some(after)),
                }
            }
            None if quoted => (without_last_quote(body), None),
            None => (body, None),
        };
        Some(RawToken {
            key,
            value,
            start,
            end: self.offset,
            closed: !open,
        })
    }
}

/// Without the quote at the end, if there is one.
fn without_last_quote(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\"").unwrap_or(text)
}

/// One token of the kernel's part of the line, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// The name, as it was written (`-` and `_` are not made equal here: see [`Token::is`]).
    pub key: &'a str,
    /// The value; `None` where there is no `=`, `Some("")` where nothing follows it.
    pub value: Option<&'a str>,
}

impl Token<'_> {
    /// Whether this is the parameter `name`.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        same_name(self.key.as_bytes(), name.as_bytes())
    }
}

/// The tokens before `--` that are UTF-8.
#[derive(Clone, Debug)]
pub struct Tokens<'a>(RawTokens<'a>);

/// The kernel's part of `line`: tokens before `--`. Those that are not UTF-8 are skipped.
#[must_use]
pub fn tokens(line: &[u8]) -> Tokens<'_> {
    Tokens(raw_tokens(line))
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let raw = self.0.next()?;
            if raw.is_separator() {
                self.0.rest = &[];
                return None;
            }
            let Ok(key) = str::from_utf8(raw.key) else {
                continue;
            };
            match raw.value.map(str::from_utf8) {
                None => return Some(Token { key, value: None }),
                Some(Ok(value)) => {
                    return Some(Token {
                        key,
                        value: Some(value),
                    });
                }
                Some(Err(_)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    fn shown(line: &[u8]) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        raw_tokens(line)
            .map(|token| match token.value {
                Some(value) => std::format!("<{}>=<{}>", text(token.key), text(value)),
                None => std::format!("<{}>", text(token.key)),
            })
            .collect()
    }

    #[test]
    fn lines_are_cut_as_the_kernel_cuts_them() {
        let cases: &[(&[u8], &[&str])] = &[
            (b"", &[]),
            (b" \t\n\x0b\x0c\r ", &[]),
            (b"a b=c", &["<a>", "<b>=<c>"]),
            (
                b"a\tb\nc\x0bd\x0ce\rf",
                &["<a>", "<b>", "<c>", "<d>", "<e>", "<f>"],
            ),
            (b"a\xa0b", &["<a>", "<b>"]),
            (b"a=", &["<a>=<>"]),
            (b"a==b", &["<a>=<=b>"]),
            (b"a=b=c", &["<a>=<b=c>"]),
            (b"=", &["<=>"]),
            (b"=a=b", &["<=a>=<b>"]),
            (b"==", &["<=>=<>"]),
            (b"a=\"b c\"", &["<a>=<b c>"]),
            (b"\"a=b c\"", &["<a>=<b c>"]),
            (b"\"a b\"", &["<a b>"]),
            (b"a=b\"c d\"e", &["<a>=<b\"c d\"e>"]),
            (b"a=b\"c d\"", &["<a>=<b\"c d\">"]),
            (b"a=\"b\"c", &["<a>=<b\"c>"]),
            (b"a=\"b\"\"c d\"", &["<a>=<b\"\"c d>"]),
            (b"\"a=\"b c\"", &["<a>=<b>", "<c\">"]),
            (b"\"a=\"b\" c", &["<a>=<b\" c>"]),
            (b"\"a=b\"c d", &["<a>=<b\"c>", "<d>"]),
            (b"a=\"", &["<a>=<>"]),
            (b"\"a=\"", &["<a>=<>"]),
            (b"\"a=\"\"", &["<a>=<>"]),
            (b"a=\"b c", &["<a>=<b c>"]),
            (b"a=b \"c d", &["<a>=<b>", "<c d>"]),
            (b"a\"b c\" d", &["<a\"b c\">", "<d>"]),
            (b"\"\" a", &["<>", "<a>"]),
            (b"\"", &["<>"]),
            (b"\"a\"=b", &["<a\">=<b>"]),
            (b"a -- b", &["<a>", "<-->", "<b>"]),
            (b"a\0b", &["<a>"]),
            (b"a=\xff", &["<a>=<\u{fffd}>"]),
        ];
        for (line, expected) in cases {
            assert_eq!(
                shown(line),
                *expected,
                "{:?}",
                String::from_utf8_lossy(line)
            );
        }
    }

    #[test]
    fn the_kernels_part_ends_at_the_separator_and_skips_what_is_not_text() {
        let list = |line: &'static [u8]| -> Vec<_> { tokens(line).map(|t| t.key).collect() };
        assert_eq!(list(b"a b\xff c=\xff d -- e"), ["a", "d"]);
        assert_eq!(list(b"a \"--\" b"), ["a"]);
        assert_eq!(list(b"a --= b --x"), ["a", "--", "b", "--x"]);
        let mut ended = tokens(b"a -- b");
        assert_eq!(ended.by_ref().count(), 1);
        assert_eq!(ended.next(), None);
    }

    #[test]
    fn a_token_knows_where_it_stands_and_whether_its_quotes_are_closed() {
        let line = b"  a=\"b c\"  \"d e";
        let found: Vec<_> = raw_tokens(line)
            .map(|t| (&line[t.start..t.end], t.closed))
            .collect();
        assert_eq!(found, [(&b"a=\"b c\""[..], true), (b"\"d e", false)]);
    }

    #[test]
    fn dash_and_underscore_are_equal_in_names() {
        assert!(same_name(b"a-b_c", b"a_b-c"));
        assert!(!same_name(b"a-b", b"a-"));
        assert!(!same_name(b"A", b"a"));
    }
}
