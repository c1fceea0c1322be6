//! Building a command line, for kexec.

use core::str;

use crate::parse::is_ours;
use crate::token::{RawToken, before_nul, is_space, raw_tokens, same_name};

/// Longest command line that x86 and arm64 take, in bytes, without the final NUL
/// (`COMMAND_LINE_SIZE` is 2048 in both arch/x86/include/asm/setup.h and arch/arm64's).
pub const LINE_MAX: usize = 2047;

/// Why a parameter or a line cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoesNotFit {
    /// Longer than [`LINE_MAX`].
    #[error("the kernel command line would be longer than 2047 bytes: shorten it")]
    TooLong,
    /// A name or value that no quoting can carry: the kernel has no escapes.
    #[error(
        "a kernel parameter cannot hold a quote, a NUL, or a blank or = in its name: rename it"
    )]
    Unquotable,
    /// The line ends inside a quote, which would take in what is added.
    #[error("the kernel command line ends inside a quote: close it with \"")]
    OpenQuote,
}

/// A command line of at most [`LINE_MAX`] bytes, which need not be UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(heapless::Vec<u8, LINE_MAX>);

impl Line {
    /// `line` byte for byte up to a NUL, but the blanks at its end.
    ///
    /// # Errors
    ///
    /// [`DoesNotFit::TooLong`].
    pub fn new(line: &[u8]) -> Result<Self, DoesNotFit> {
        let mut built = Self::default();
        built.raw(before_nul(line))?;
        built.trim();
        Ok(built)
    }

    /// `line` without backstay's parameters, wherever they stand (after `--` too), and all else byte
    /// for byte, but the blanks after each parameter taken out and those at the end of the line.
    ///
    /// # Errors
    ///
    /// [`DoesNotFit::TooLong`].
    pub fn without_backstay(line: &[u8]) -> Result<Self, DoesNotFit> {
        Self::without(line, |token, _| is_ours(token.key))
    }

    /// The same, and without the kernel's parameters `names`, which after `--` are init's and stay.
    ///
    /// # Errors
    ///
    /// [`DoesNotFit::TooLong`].
    pub fn without_backstay_and(line: &[u8], names: &[&str]) -> Result<Self, DoesNotFit> {
        Self::without(line, |token, kernels| {
            let named = |name: &&str| same_name(token.key, name.as_bytes());
            is_ours(token.key) || (kernels && names.iter().any(named))
        })
    }

    /// `drops` is asked for each parameter, and told whether it stands before `--`.
    fn without(
        line: &[u8],
        drops: impl Fn(&RawToken<'_>, bool) -> bool,
    ) -> Result<Self, DoesNotFit> {
        let mut built = Self::default();
        let mut kernels = true;
        let line = before_nul(line);
        let mut from = 0;
        let mut dropping = false;
        for token in raw_tokens(line) {
            kernels &= !token.is_separator();
            let drop = drops(&token, kernels);
            if dropping {
                // The blanks after what was taken out go with it.
                from = token.start;
            }
            if drop && !dropping {
                built.raw(line.get(from..token.start).unwrap_or_default())?;
            }
            if drop {
                from = token.end;
            }
            dropping = drop;
        }
        if !dropping {
            built.raw(line.get(from..).unwrap_or_default())?;
        }
        built.trim();
        Ok(built)
    }

    /// Adds a parameter at the end of the kernel's part: before `--` where there is one. It is
    /// quoted where that is needed, so that the kernel reads back exactly `key` and `value`.
    ///
    /// # Errors
    ///
    /// [`DoesNotFit`]; the line is then as it was.
    pub fn append(&mut self, key: &str, value: Option<&str>) -> Result<(), DoesNotFit> {
        let quote = needs_quotes(key, value)?;
        let separator = raw_tokens(&self.0).find(|token| token.is_separator());
        let open = raw_tokens(&self.0)
            .last()
            .is_some_and(|token| !token.closed);
        if open && separator.is_none() {
            return Err(DoesNotFit::OpenQuote);
        }
        let at = separator.map_or(self.0.len(), |token| token.start);
        let (before, after) = self.0.split_at_checked(at).unwrap_or((&self.0, &[]));

        let mut built = Self::default();
        built.raw(before)?;
        if before.last().is_some_and(|byte| !is_space(*byte)) {
            built.raw(b" ")?;
        }
        built.raw(quote)?;
        built.raw(key.as_bytes())?;
        if let Some(value) = value {
            built.raw(b"=")?;
            built.raw(value.as_bytes())?;
        }
        built.raw(quote)?;
        if !after.is_empty() {
            built.raw(b" ")?;
            built.raw(after)?;
        }
        *self = built;
        Ok(())
    }

    /// The line's bytes, without a NUL.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The line as text, where it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        str::from_utf8(&self.0).ok()
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), DoesNotFit> {
        self.0
            .extend_from_slice(bytes)
            .map_err(|_| DoesNotFit::TooLong)
    }

    fn trim(&mut self) {
        // A blank inside an open quote is part of a value; the kernel would not drop it either.
        if raw_tokens(&self.0)
            .last()
            .is_some_and(|token| !token.closed)
        {
            return;
        }
        while self.0.last().is_some_and(|byte| is_space(*byte)) {
            self.0.pop();
        }
    }
}

/// The quote that `key` and `value` need around them, or none.
fn needs_quotes(key: &str, value: Option<&str>) -> Result<&'static [u8], DoesNotFit> {
    let text = value.unwrap_or_default();
    let all = || key.bytes().chain(text.bytes());
    if key.is_empty()
        || (key == "--" && value.is_none())
        || key.bytes().any(|byte| is_space(byte) || byte == b'=')
        || all().any(|byte| byte == b'"' || byte == 0)
    {
        return Err(DoesNotFit::Unquotable);
    }
    Ok(if text.bytes().any(is_space) {
        b"\""
    } else {
        b""
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_parameters_are_taken_out_and_the_rest_stays_byte_for_byte() {
        for (line, expected) in [
            ("", ""),
            ("a  b=\"c d\"\te", "a  b=\"c d\"\te"),
            ("a backstay.end", "a"),
            ("backstay.end a", "a"),
            ("a backstay.reset=system backstay.end b\n", "a b"),
            ("a  backstay.reset=system   backstay.end\t b", "a  b"),
            (
                "a \"backstay.reset=config data\" -- b backstay.end c",
                "a -- b c",
            ),
            ("backstay BACKSTAY.x backstay_x=1", "backstay_x=1"),
            ("a=\"b backstay.end", "a=\"b backstay.end"),
            ("a backstay.x=\"b c", "a"),
            ("a=\"b ", "a=\"b "),
            ("a \0b", "a"),
        ] {
            let built = Line::without_backstay(line.as_bytes()).unwrap();
            assert_eq!(built.as_str(), Some(expected), "{line}");
        }
    }

    #[test]
    fn a_parameter_of_the_kernel_is_taken_out_and_one_of_inits_stays() {
        for (line, expected) in [
            ("rootflags=a b rootflags=c ro", "b ro"),
            (
                "a \"rootflags=subvolid=5\" backstay.end -- rootflags=b",
                "a -- rootflags=b",
            ),
            ("rootflags rootflagss=1", "rootflagss=1"),
        ] {
            let built = Line::without_backstay_and(line.as_bytes(), &["x", "rootflags"]).unwrap();
            assert_eq!(built.as_str(), Some(expected), "{line}");
        }
    }

    #[test]
    fn a_parameter_goes_before_the_separator_in_the_quotes_it_needs() {
        for (line, key, value, expected) in [
            ("", "quiet", None, "quiet"),
            ("a", "b", Some("c"), "a b=c"),
            ("a ", "b", Some(""), "a b="),
            ("a", "b", Some("c d"), "a \"b=c d\""),
            ("a -- z", "b", Some("c"), "a b=c -- z"),
            ("a -- z=\"y", "b", None, "a b -- z=\"y"),
            ("-- z", "b", None, "b -- z"),
        ] {
            let mut built = Line::new(line.as_bytes()).unwrap();
            built.append(key, value).unwrap();
            assert_eq!(built.as_str(), Some(expected), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused_and_changes_nothing() {
        let mut line = Line::new(b"a").unwrap();
        for (key, value) in [
            ("", None),
            ("--", None),
            ("a b", None),
            ("a=b", None),
            ("\u{e0}", None),
            ("a", Some("b\"c")),
            ("a", Some("b\0")),
        ] {
            assert_eq!(
                line.append(key, value),
                Err(DoesNotFit::Unquotable),
                "{key}"
            );
        }
        assert_eq!(line.as_bytes(), b"a");
        let mut open = Line::new(b"a=\"b").unwrap();
        assert_eq!(open.append("c", None), Err(DoesNotFit::OpenQuote));
        let mut full = Line::new(&[b'a'; LINE_MAX - 2]).unwrap();
        assert_eq!(full.append("bc", None), Err(DoesNotFit::TooLong));
        assert_eq!(full.append("b", None), Ok(()));
        assert_eq!(full.as_bytes().len(), LINE_MAX);
        assert_eq!(Line::new(&[b'a'; LINE_MAX + 1]), Err(DoesNotFit::TooLong));
    }
}
