//! Why a command line is refused, in one line that names the remedy.

use core::fmt::{self, Write as _};

use crate::table::{Fit, Parameter, TABLE, Value};

/// Most bytes of a refusal's quoted text, as it is shown.
const OFFENDING_MAX: usize = 64;

/// A piece of the command line in a form that is safe to print: bounded, and printable ASCII only.
///
/// A byte that is not printable ASCII is shown as `\xNN`, a quote or a backslash as itself; a text
/// that is too long ends in `...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offending(heapless::String<OFFENDING_MAX>);

impl Offending {
    /// Makes one from bytes of the command line.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        const MORE: &str = "...";
        let mut shown = heapless::String::new();
        for byte in text {
            let mut piece = heapless::String::<4>::new();
            // A piece is one character, or four that fit exactly: neither write can fail.
            let _ = match byte {
                b' '..=b'~' => piece.push(char::from(*byte)).map_err(|_| fmt::Error),
                _ => write!(piece, "\\x{byte:02x}"),
            };
            if shown
                .len()
                .saturating_add(piece.len())
                .saturating_add(MORE.len())
                > OFFENDING_MAX
            {
                let _ = shown.push_str(MORE);
                break;
            }
            let _ = shown.push_str(&piece);
        }
        Self(shown)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Offending {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Why backstay does nothing. The boot goes on as if no parameter had been there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A name in backstay's part of the names that is not in the table.
    #[error(
        "{name} is no parameter of this version: correct it or take it out; there are {}",
        Names
    )]
    UnknownName {
        /// The name as written.
        name: Offending,
    },
    /// A value that its parameter does not take.
    #[error("backstay.{}={value} is not understood: {}", parameter.name, Takes(parameter))]
    UnknownValue {
        /// The parameter.
        parameter: &'static Parameter,
        /// The value as written.
        value: Offending,
    },
    /// No value, or an empty one, where one belongs.
    #[error("backstay.{} has no value: {}", parameter.name, Takes(parameter))]
    MissingValue {
        /// The parameter.
        parameter: &'static Parameter,
    },
    /// A value (perhaps an empty one) where none belongs.
    #[error("backstay.{}={value} has a value, and takes none: write backstay.{}", parameter.name, parameter.name)]
    UnexpectedValue {
        /// The parameter.
        parameter: &'static Parameter,
        /// The value as written.
        value: Offending,
    },
    /// A value with a letter that boot loaders or initramfs scripts change on the way.
    #[error("backstay.{}={value} holds a character that does not travel safely: use letters, digits and . _ : / @ = , + - only", parameter.name)]
    UnsafeValue {
        /// The parameter.
        parameter: &'static Parameter,
        /// The value as written.
        value: Offending,
    },
    /// The same parameter twice, with whatever values.
    #[error("backstay.{} stands there more than once: leave one of them", parameter.name)]
    Repeated {
        /// The parameter.
        parameter: &'static Parameter,
    },
    /// Two different verbs.
    #[error("backstay.{} and backstay.{} cannot both be meant: leave one of them", first.name, second.name)]
    TwoVerbs {
        /// The one that came first.
        first: &'static Parameter,
        /// The other.
        second: &'static Parameter,
    },
    /// A modifier that means nothing with this verb, or without one.
    #[error("backstay.{} goes {}: take it out or correct the verb", parameter.name, Where(parameter.fit))]
    DoesNotFit {
        /// The modifier.
        parameter: &'static Parameter,
    },
    /// A verb that changes something, and the line may have been cut.
    #[error("backstay.{} without the closing backstay.end: the line may have been cut short; put backstay.end after all backstay parameters, or shorten the line", verb.name)]
    NoSentinel {
        /// The verb.
        verb: &'static Parameter,
    },
    /// A parameter after the sentinel: were it cut off, nobody would see it.
    #[error("{name} stands after backstay.end, which does not cover it: put backstay.end last")]
    AfterSentinel {
        /// The parameter's name as written.
        name: Offending,
    },
    /// A parameter after `--`, which the kernel hands to init.
    #[error("{name} stands after --, where all belongs to init: put it before --")]
    AfterSeparator {
        /// The parameter's name as written.
        name: Offending,
    },
    /// A parameter of ours inside the unclosed quotes of another one.
    #[error(
        "a quote in {token} is not closed and swallows backstay's parameters: close it with \""
    )]
    Swallowed {
        /// The token with the open quote.
        token: Offending,
    },
}

/// Parameters are compared by their names, which are unique in the table.
impl PartialEq for Parameter {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Parameter {}

/// All names, for somebody who mistyped one.
struct Names;

impl fmt::Display for Names {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, parameter) in TABLE.iter().enumerate() {
            let mark = if at == 0 { "" } else { ", " };
            write!(out, "{mark}{}", parameter.name)?;
        }
        Ok(())
    }
}

/// What a parameter takes: `it takes previous or ID`.
struct Takes(&'static Parameter);

impl fmt::Display for Takes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("it takes ")?;
        let mut forms = self.0.forms.iter().peekable();
        let mut first = true;
        while let Some(form) = forms.next() {
            let mark = match (first, forms.peek().is_some()) {
                (true, _) => "",
                (false, true) => "; ",
                (false, false) => " or ",
            };
            first = false;
            let text = match form.value {
                Value::Absent => "no value",
                Value::Seconds => "SECONDS, 1 to 86400",
                value => value.syntax(),
            };
            write!(out, "{mark}{text}")?;
        }
        Ok(())
    }
}

/// With which verbs a modifier goes.
struct Where(Fit);

impl fmt::Display for Where {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0.text())
    }
}

impl Fit {
    /// As the manual page and the refusals say it.
    #[must_use]
    pub const fn text(&self) -> &'static str {
        match self {
            Self::Any => "with any verb or none",
            Self::NoVerb => "only where there is no verb",
            Self::Changing => "only with rollback, forward, select or reset",
            Self::Leaving => "only with rollback, forward, reset=system or reset=everything",
            Self::ResetSystem => "only with reset=system",
            Self::FactoryReset => "only with reset=system or reset=everything",
        }
    }
}
