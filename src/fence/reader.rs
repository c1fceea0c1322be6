//! From the text of a declaration to what it declares, or to the first thing that is wrong in it, with its line.

use super::declaration::{
    ARGUMENT_MAX, ARGUMENTS_MAX, CONVERTERS_MAX, Converter, Declaration, DeclarationError, SECONDS,
    SECONDS_MAX, SERVICES_MAX, STATES_MAX, TEXT_MAX,
};
use super::names::{AppName, AppState, STATE_MAX};
use crate::record::layout::Name;
use crate::store::shown;
use core::ops::Range;
use serde::Deserialize;
use toml::Spanned;

/// Letters of what the reader of TOML said that are shown.
const MESSAGE_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    dataset: Spanned<String>,
    state: Spanned<String>,
    #[serde(default)]
    reads: Option<Strings>,
    #[serde(default)]
    reads_unknown: bool,
    #[serde(default)]
    services: Option<Strings>,
    #[serde(default)]
    converter: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    from: Strings,
    to: Spanned<String>,
    command: Strings,
    lossless: bool,
    #[serde(default = "one")]
    cost: Spanned<i64>,
    #[serde(default)]
    early: bool,
    #[serde(default = "ten_minutes")]
    seconds: Spanned<i64>,
}

type Strings = Spanned<Vec<Spanned<String>>>;

fn one() -> Spanned<i64> {
    Spanned::new(0..0, 1)
}

fn ten_minutes() -> Spanned<i64> {
    Spanned::new(0..0, i64::from(SECONDS))
}

/// Reads a file's bytes, its name with it.
pub fn read(file: &str, bytes: &[u8]) -> Result<(AppName, Declaration), DeclarationError> {
    let app = AppName::of_file(file).ok_or(DeclarationError::FileName)?;
    if bytes.len() >= TEXT_MAX {
        return Err(DeclarationError::TooLong);
    }
    match core::str::from_utf8(bytes) {
        Ok(text) => Ok((app, parse(text)?)),
        Err(error) => {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(DeclarationError::NotText(line))
        }
    }
}

/// Reads a declaration's text.
pub fn parse(text: &str) -> Result<Declaration, DeclarationError> {
    if text.len() >= TEXT_MAX {
        return Err(DeclarationError::TooLong);
    }
    let document: Document = toml::from_str(text).map_err(|error| {
        let message = shown(error.message().replace('\n', " ").as_bytes());
        DeclarationError::Syntax {
            line: line(text, &error.span().unwrap_or_default()),
            what: message.chars().take(MESSAGE_MAX).collect(),
        }
    })?;
    let reader = Reader { text };
    reader.declaration(&document)
}

/// The line, from 1, in which a span begins.
fn line(text: &str, span: &Range<usize>) -> usize {
    let before = text.as_bytes().get(..span.start).unwrap_or_default();
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn wrong<T, V>(&self, at: &Spanned<V>, what: impl Into<String>) -> Result<T, DeclarationError> {
        Err(DeclarationError::Value {
            line: line(self.text, &at.span()),
            what: what.into(),
        })
    }

    fn declaration(&self, document: &Document) -> Result<Declaration, DeclarationError> {
        let dataset = document.dataset.get_ref();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let whole = !dataset.is_empty() && dataset.chars().all(plain);
        let Some(dataset) = Name::try_from(dataset.as_str()).ok().filter(|_| whole) else {
            return self.wrong(
                &document.dataset,
                "'dataset' is the name of a data dataset in layout.toml, or \"config\"",
            );
        };
        let state = self.state(&document.state)?;
        let mut reads = Vec::new();
        if let Some(list) = &document.reads {
            reads = self.states(list)?;
            if reads.contains(&state) {
                return self.wrong(
                    list,
                    format!("'reads' has {state}, which is the native state: leave it out"),
                );
            }
        }
        let services = match &document.services {
            Some(list) => self.services(list)?,
            None => Vec::new(),
        };
        let mut converters = Vec::new();
        for entry in &document.converter {
            if converters.len() == CONVERTERS_MAX {
                return self.wrong(
                    &entry.to,
                    format!(
                        "more than {CONVERTERS_MAX} converters: let one convert from several states"
                    ),
                );
            }
            converters.push(self.converter(entry)?);
        }
        Ok(Declaration {
            dataset,
            state,
            reads,
            reads_unknown: document.reads_unknown,
            services,
            converters,
        })
    }

    fn state(&self, text: &Spanned<String>) -> Result<AppState, DeclarationError> {
        match AppState::new(text.get_ref()) {
            Some(state) => Ok(state),
            None => self.wrong(
                text,
                format!("a state has 1 to {STATE_MAX} letters, digits and \"._+~-\""),
            ),
        }
    }

    /// A list of states, each once, sorted.
    fn states(&self, list: &Strings) -> Result<Vec<AppState>, DeclarationError> {
        let mut states = Vec::new();
        for text in list.get_ref() {
            let state = self.state(text)?;
            if states.contains(&state) {
                return self.wrong(
                    text,
                    format!("state {state} stands there twice: leave one out"),
                );
            }
            if states.len() == STATES_MAX {
                return self.wrong(text, format!("more than {STATES_MAX} states in one list"));
            }
            states.push(state);
        }
        states.sort_unstable();
        Ok(states)
    }

    fn services(&self, list: &Strings) -> Result<Vec<String>, DeclarationError> {
        let mut services = Vec::new();
        for text in list.get_ref() {
            let name = text.get_ref();
            // It becomes an argument of systemctl, and no option of it: systemd.unit(5).
            let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
            let whole = name.len() < ARGUMENT_MAX
                && !name.starts_with(['-', '.'])
                && name.contains('.')
                && name.chars().all(plain);
            if !whole {
                return self.wrong(
                    text,
                    "a service is the name of a unit with its suffix, such as \"postgresql.service\"",
                );
            }
            if services.len() == SERVICES_MAX {
                return self.wrong(text, format!("more than {SERVICES_MAX} services"));
            }
            services.push(name.clone());
        }
        services.sort_unstable();
        services.dedup();
        Ok(services)
    }

    fn converter(&self, entry: &Entry) -> Result<Converter, DeclarationError> {
        let from = self.states(&entry.from)?;
        if from.is_empty() {
            return self.wrong(
                &entry.from,
                "'from' is empty: name the states that the command converts from",
            );
        }
        Ok(Converter {
            to: self.state(&entry.to)?,
            command: self.command(&entry.command)?,
            lossless: entry.lossless,
            cost: self.number(&entry.cost, "cost", 0, u32::MAX)?,
            early: entry.early,
            seconds: self.number(&entry.seconds, "seconds", 1, SECONDS_MAX)?,
            from,
        })
    }

    fn command(&self, list: &Strings) -> Result<Vec<String>, DeclarationError> {
        let mut command = Vec::new();
        for text in list.get_ref() {
            let part = text.get_ref();
            if command.is_empty() && !is_plain_absolute(part) {
                return self.wrong(
                    text,
                    "a command begins with the absolute path of a program, without '.' and '..'",
                );
            }
            if part.len() > ARGUMENT_MAX || !part.chars().all(|c| matches!(c, ' '..='~')) {
                return self.wrong(
                    text,
                    format!(
                        "a part of a command has at most {ARGUMENT_MAX} letters, all of printable ASCII"
                    ),
                );
            }
            if command.len() == ARGUMENTS_MAX {
                return self.wrong(
                    text,
                    format!(
                        "more than {ARGUMENTS_MAX} parts of a command: ship a program that has them in it"
                    ),
                );
            }
            command.push(part.clone());
        }
        if command.is_empty() {
            return self.wrong(list, "'command' is empty: name a program");
        }
        Ok(command)
    }

    fn number(
        &self,
        value: &Spanned<i64>,
        name: &str,
        least: u32,
        most: u32,
    ) -> Result<u32, DeclarationError> {
        match u32::try_from(*value.get_ref()) {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => self.wrong(
                value,
                format!("'{name}' is a whole number from {least} to {most}"),
            ),
        }
    }
}

fn is_plain_absolute(path: &str) -> bool {
    path.strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(|name| !matches!(name, "" | "." | "..")))
}
