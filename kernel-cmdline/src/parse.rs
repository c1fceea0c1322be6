//! From a command line to a request.
//!
//! The order of the checks: each parameter by itself as it comes, then what they say together, then
//! the sentinel. Nothing is ever resolved by taking the first or the last of two.

use crate::refused::{Offending, Refused};
use crate::request::{Attempt, Level, Request, TARBALL_MAX, Verb};
use crate::table::{Fit, Form, Given, Kind, PREFIX, Parameter, TABLE, Value};
use crate::token::{RawToken, is_space, raw_tokens, same_name};

/// Longest time-out of the menu: a day, in seconds.
const SECONDS_MAX: u32 = 86_400;

/// Reads backstay's parameters from a command line as /proc/cmdline gives it.
///
/// No parameter of ours on the line is `Request::default()`.
///
/// # Errors
///
/// Anything that is not exactly right is a [`Refused`]: its text is one line for the console, and
/// the boot is to go on as if the request had not been made.
pub fn parse(line: &[u8]) -> Result<Request, Refused> {
    let mut request = Request::default();
    let mut verb: Option<&'static Parameter> = None;
    let mut seen: heapless::Vec<&'static Parameter, { TABLE.len() }> = heapless::Vec::new();
    let mut after_separator = false;
    let mut ended = false;

    for token in raw_tokens(line) {
        if !after_separator && token.is_separator() {
            after_separator = true;
            continue;
        }
        if !is_ours(token.key) {
            if !after_separator && swallows(line, &token) {
                return Err(Refused::Swallowed {
                    token: Offending::new(token.key),
                });
            }
            continue;
        }
        if after_separator {
            return Err(Refused::AfterSeparator {
                name: Offending::new(token.key),
            });
        }
        let Some(parameter) = find(token.key) else {
            return Err(Refused::UnknownName {
                name: Offending::new(token.key),
            });
        };
        if ended && parameter.kind != Kind::Sentinel {
            return Err(Refused::AfterSentinel {
                name: Offending::new(token.key),
            });
        }
        // The list has a place for each parameter, so it is full only when this is a repetition.
        if seen.contains(&parameter) || seen.push(parameter).is_err() {
            return Err(Refused::Repeated { parameter });
        }
        match (parameter.kind, verb) {
            (Kind::Verb, Some(first)) => {
                return Err(Refused::TwoVerbs {
                    first,
                    second: parameter,
                });
            }
            (Kind::Verb, None) => verb = Some(parameter),
            (Kind::Sentinel, _) => ended = true,
            (Kind::Modifier, _) => {}
        }
        let (form, given) = choose(parameter, token.value)?;
        form.effect.apply(given, &mut request);
    }

    let misfit = seen
        .iter()
        .find(|parameter| !fits(parameter.fit, request.verb));
    if let Some(parameter) = misfit {
        return Err(Refused::DoesNotFit { parameter });
    }
    match verb {
        Some(verb) if request.verb.is_some_and(|it| it.changes()) && !ended => {
            Err(Refused::NoSentinel { verb })
        }
        _ => Ok(request),
    }
}

/// Whether a name is meant for us: `backstay` alone or with a dot, in whatever case.
///
/// The case is wrong then, and says so: a request that silently does nothing helps nobody.
pub(crate) fn is_ours(key: &[u8]) -> bool {
    let word = PREFIX.as_bytes();
    let bare = word.strip_suffix(b".").unwrap_or(word);
    let starts = key
        .get(..word.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(word));
    starts || key.eq_ignore_ascii_case(bare)
}

/// Whether an unclosed quote of somebody else's token has eaten parameters of ours.
fn swallows(line: &[u8], token: &RawToken<'_>) -> bool {
    let text = line.get(token.start..token.end).unwrap_or_default();
    let starts_word = |at: usize| {
        let before = at.checked_sub(1).and_then(|at| text.get(at));
        before.is_some_and(|byte| is_space(*byte) || *byte == b'"')
    };
    let word = PREFIX.as_bytes();
    !token.closed
        && text
            .windows(word.len())
            .enumerate()
            .any(|(at, it)| it == word && starts_word(at))
}

fn find(key: &[u8]) -> Option<&'static Parameter> {
    let name = key.strip_prefix(PREFIX.as_bytes())?;
    TABLE
        .iter()
        .find(|parameter| same_name(parameter.name.as_bytes(), name))
}

/// Finds the form that a value is in, and reads it.
fn choose<'a>(
    parameter: &'static Parameter,
    value: Option<&'a [u8]>,
) -> Result<(&'static Form, Given<'a>), Refused> {
    let mut readings = parameter
        .forms
        .iter()
        .map(|form| (form, read_value(form.value, value)));
    let read = readings.find_map(|(form, given)| given.map(|given| (form, given)));
    if let Some(read) = read {
        return Ok(read);
    }
    let takes_one = parameter
        .forms
        .iter()
        .any(|form| form.value != Value::Absent);
    let shown = || Offending::new(value.unwrap_or_default());
    Err(match value {
        Some(_) if !takes_one => Refused::UnexpectedValue {
            parameter,
            value: shown(),
        },
        None | Some([]) => Refused::MissingValue { parameter },
        Some(text) if !text.iter().all(travels) => Refused::UnsafeValue {
            parameter,
            value: shown(),
        },
        Some(_) => Refused::UnknownValue {
            parameter,
            value: shown(),
        },
    })
}

/// Reads a value in one form; `None` where it is not in that form.
fn read_value<'a>(form: Value, value: Option<&'a [u8]>) -> Option<Given<'a>> {
    match (form, value) {
        (Value::Absent, None) => Some(Given::Nothing),
        (Value::Absent, Some(_)) | (_, None) => None,
        (Value::Word(word), Some(text)) => (text == word.as_bytes()).then_some(Given::Nothing),
        (Value::Id, Some(text)) => number(text).map(Given::Number),
        (Value::Seconds, Some(text)) => number(text)
            .filter(|seconds| *seconds <= SECONDS_MAX)
            .map(Given::Number),
        (Value::Attempt, Some(text)) => {
            let colon = text.iter().position(|byte| *byte == b':')?;
            let (seq, n) = text.split_at_checked(colon)?;
            let n = match n.strip_prefix(b":")? {
                b"0" => 0,
                n => number(n)?,
            };
            let seq = number(seq)?;
            Some(Given::Attempt(Attempt { seq, n }))
        }
        (Value::Location, Some(text)) => location(text).map(Given::Location),
    }
}

/// Decimal, 1 to `u32::MAX`, digits only, no leading zero.
fn number(text: &[u8]) -> Option<u32> {
    if text.starts_with(b"0") || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(text).ok()?.parse().ok()
}

/// `SOURCE:/PATH`: something before the first `:/`, and no way up in the path.
fn location(text: &[u8]) -> Option<&str> {
    let text = core::str::from_utf8(text).ok()?;
    let (source, path) = text.split_once(":/")?;
    let upwards = path.split('/').any(|part| part == "..");
    let travelling = text.bytes().all(|byte| travels(&byte));
    let whole = !source.is_empty() && !path.is_empty() && !upwards;
    (whole && travelling && text.len() <= TARBALL_MAX).then_some(text)
}

/// Whether boot loaders and initramfs scripts leave this byte alone.
fn travels(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:/@=,+-".contains(byte)
}

/// Whether a parameter goes with this verb.
fn fits(fit: Fit, verb: Option<Verb>) -> bool {
    match fit {
        Fit::Any => true,
        Fit::NoVerb => verb.is_none(),
        Fit::Changing => verb.is_some_and(|verb| verb.changes()),
        Fit::Leaving => match verb {
            Some(Verb::Rollback(_) | Verb::Forward) => true,
            Some(Verb::Reset(Level::System | Level::Everything)) => true,
            Some(Verb::Reset(Level::Config | Level::ConfigAndData)) => false,
            Some(Verb::Select(_) | Verb::Menu(_)) | None => false,
        },
        Fit::ResetSystem => verb == Some(Verb::Reset(Level::System)),
        Fit::FactoryReset => {
            matches!(verb, Some(Verb::Reset(Level::System | Level::Everything)))
        }
    }
}

#[cfg(test)]
mod tests;
