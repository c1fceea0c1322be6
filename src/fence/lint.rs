//! What is wrong, or probably not meant, in a declaration: for those who make packages. Whether its programs are there
//! is asked of whoever can see them.

use super::declaration::{self, CONFIG, Converter, Declaration};
use super::graph::Graph;
use super::names::{AppState, Version};
use crate::record::layout::Layout;
use core::fmt;
use serde::Serialize;
use std::collections::BTreeSet;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The fence would refuse, or a converter could not run.
    Error,
    /// It works, and may not be meant.
    Note,
}

/// One thing that was found. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// In which file.
    pub file: String,
    /// In which line, if it is about one.
    pub line: Option<usize>,
    /// How bad.
    pub level: Level,
    /// What, and what to do.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Note => "note",
        };
        write!(f, "{}: {level}: {}", self.file, self.what)
    }
}

/// What lies at a program's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A file that can be executed.
    Fine,
    /// No file.
    Missing,
    /// One that nobody may execute.
    NotExecutable,
}

/// What is known besides the file.
#[derive(Clone, Copy, Default)]
pub struct Around<'a> {
    /// The datasets of the machine.
    pub layout: Option<&'a Layout>,
    /// Looks at a program's path in the system that the file belongs to.
    pub program: Option<&'a dyn Fn(&str) -> Program>,
}

/// Looks at a file: its name without directories, under which it is shown too, and its bytes.
pub fn file(name: &str, bytes: &[u8], around: &Around<'_>) -> Vec<Finding> {
    let mut found = Found {
        file: crate::store::shown(name.as_bytes()),
        all: Vec::new(),
    };
    match declaration::read(name, bytes) {
        Ok((_, declared)) => {
            found.dataset(&declared, around);
            found.ways(&declared);
            for (at, converter) in declared.converters.iter().enumerate() {
                found.converter(&declared, converter, &title(at, converter), around);
            }
        }
        Err(error) => found.all.push(Finding {
            file: found.file.clone(),
            line: error.line(),
            level: Level::Error,
            what: error.to_string(),
        }),
    }
    // Errors first; otherwise as they were found.
    found.all.sort_by_key(|finding| finding.level);
    found.all
}

/// Names a converter: they have no names of their own.
fn title(at: usize, converter: &Converter) -> String {
    let from: Vec<&str> = converter.from.iter().map(AppState::as_str).collect();
    format!(
        "converter {} ({} to {})",
        at.saturating_add(1),
        from.join(", "),
        converter.to
    )
}

struct Found {
    file: String,
    all: Vec<Finding>,
}

impl Found {
    fn add(&mut self, level: Level, what: String) {
        self.all.push(Finding {
            file: self.file.clone(),
            line: None,
            level,
            what,
        });
    }

    fn dataset(&mut self, declared: &Declaration, around: &Around<'_>) {
        let Some(layout) = around.layout else {
            return;
        };
        if declared.part(layout).is_none() {
            let mut names: Vec<&str> = layout.data.iter().map(|it| it.name.as_str()).collect();
            if layout.config.is_some() {
                names.push(CONFIG);
            }
            let there = match names.is_empty() {
                true => "no dataset for data at all".to_owned(),
                false => format!("only {}", names.join(", ")),
            };
            self.add(
                Level::Error,
                format!(
                    "layout.toml has no dataset {}, {there}: declare it there, or name another one",
                    declared.dataset
                ),
            );
        }
    }

    /// Each state that is converted from has to lead up to the native one, or lie on a way down from it.
    fn ways(&mut self, declared: &Declaration) {
        let native = &declared.state;
        let graph = Graph::new([(Version::Live, declared)]);
        let down = graph.reach(native);
        let comes_up = |state: &AppState| state == native || graph.reach(state).contains(native);
        let from: BTreeSet<&AppState> =
            declared.converters.iter().flat_map(|it| &it.from).collect();
        for state in from {
            if !comes_up(state) && !down.contains(state) {
                self.add(
                    Level::Error,
                    format!(
                        "the native state {native} cannot be reached from {state}, which is converted from: add the \
                         converter that is missing, or correct its states"
                    ),
                );
            }
        }
        for state in &down {
            if !comes_up(state) && !declared.reads.contains(*state) {
                self.add(
                    Level::Note,
                    format!(
                        "a converter leads down to {state} and none back up: data that went there could not return \
                         to this version by itself"
                    ),
                );
            }
        }
        for state in &declared.reads {
            if declared.converters.iter().any(|it| it.from.contains(state)) {
                self.add(
                    Level::Note,
                    format!(
                        "'reads' has {state}, which a converter leads away from, too: data in that state stays as it is \
                         where this version is gone to, and is only converted on the way to another one"
                    ),
                );
            }
        }
    }

    fn converter(
        &mut self,
        declared: &Declaration,
        converter: &Converter,
        title: &str,
        around: &Around<'_>,
    ) {
        if converter.from.contains(&converter.to) {
            let state = &converter.to;
            self.add(
                Level::Error,
                format!("{title} converts {state} to itself, which is never used: leave {state} out of 'from'"),
            );
        }
        if !converter.lossless {
            for from in &converter.from {
                let sibling = declared
                    .converters
                    .iter()
                    .any(|it| it.lossless && it.to == converter.to && it.from.contains(from));
                if !sibling && *from != converter.to {
                    self.add(
                        Level::Note,
                        format!(
                            "{title} loses something, and no other one converts {from} without: it needs consent, and \
                             nothing falls back by it"
                        ),
                    );
                }
            }
        }
        if converter.early && !declared.services.is_empty() {
            self.add(
                Level::Note,
                format!(
                    "{title} is early and 'services' are declared: before boot none of them runs, so it must need none; \
                     they are stopped only where it runs in the running system"
                ),
            );
        }
        self.program(converter, title, around);
    }

    fn program(&mut self, converter: &Converter, title: &str, around: &Around<'_>) {
        let (Some(look), Some(path)) = (around.program, converter.command.first()) else {
            return;
        };
        match look(path) {
            Program::Fine => {}
            Program::Missing => self.add(
                Level::Error,
                format!("{title} runs {path}, which is not there: ship it, or correct the path"),
            ),
            Program::NotExecutable => self.add(
                Level::Error,
                format!("{title} runs {path}, which is no executable file: chmod 755 it"),
            ),
        }
    }
}
