//! `/usr/lib/backstay/apps.d/<app>.toml`: which formats of its data a version of an application lives with.
//!
//! ```toml
//! dataset = "data"
//! state = "15"
//! reads = ["14"]
//! reads-unknown = false
//! services = ["postgresql.service"]
//!
//! [[converter]]
//! from = ["13", "14"]
//! to = "15"
//! command = ["/usr/lib/foo/convert", "--in-place"]
//! lossless = true
//! cost = 10
//! early = false
//! seconds = 600
//! ```
//! The text comes out of a snapshot: whatever is not as it should be makes the whole file unread. Nothing is guessed,
//! and everything is bounded. docs/fencing.md says what each line means.

use super::names::{APP_MAX, AppState};
pub use super::reader::{parse, read};
use crate::record::layout::{Layout, Name, Part};
use serde::Serialize;
use thiserror::Error;

/// Bytes of a file, which has fewer: what is read of one ends here ([`Store::content`](crate::store::Store::content)).
pub const TEXT_MAX: usize = 64 << 10;
/// Converters of one version of an application at the most.
pub const CONVERTERS_MAX: usize = 64;
/// States in one list at the most.
pub const STATES_MAX: usize = 32;
/// Services at the most.
pub const SERVICES_MAX: usize = 16;
/// Parts of a command at the most, the program included.
pub const ARGUMENTS_MAX: usize = 32;
/// Bytes of one part of a command, or of a service's name, at the most.
pub const ARGUMENT_MAX: usize = 256;
/// A converter's time in seconds, unless it says another.
pub const SECONDS: u32 = 600;
/// A day: what takes longer hangs.
pub const SECONDS_MAX: u32 = 86_400;

/// What `dataset` says for the config dataset, whatever that is called in layout.toml.
pub const CONFIG: &str = "config";

/// What one version of an application says of its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// Where the data lies: the name of a data dataset, or [`CONFIG`].
    pub dataset: Name,
    /// What this version writes.
    pub state: AppState,
    /// What it lives with besides, unchanged.
    pub reads: Vec<AppState>,
    /// Whether it lives with data whose state nobody knows, and with none.
    pub reads_unknown: bool,
    /// Units that are stopped while its data is converted in the running system.
    pub services: Vec<String>,
    /// What it ships to convert data.
    pub converters: Vec<Converter>,
}

impl Declaration {
    /// Whether this version can run on data in that state.
    pub fn lives_with(&self, state: &AppState) -> bool {
        self.state == *state || self.reads.contains(state)
    }

    /// Where that is on this machine; `None` where it has no such dataset.
    pub fn part(&self, layout: &Layout) -> Option<Part> {
        if self.dataset == CONFIG {
            return layout.config.as_ref().map(|_| Part::Config);
        }
        layout
            .data_parts()
            .find(|part| layout.title(*part) == self.dataset.as_str())
    }
}

/// A program that turns data in one of some states into data in another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Converter {
    /// What it turns the data into.
    pub to: AppState,
    /// The program, an absolute path in the version that ships it, and its arguments. Never given to a shell.
    pub command: Vec<String>,
    /// Whether nothing is lost by it.
    pub lossless: bool,
    /// In whatever unit; compared only within one application.
    pub cost: u32,
    /// Whether it may run before boot, with nothing but its own root.
    pub early: bool,
    /// Its time limit.
    pub seconds: u32,
    /// From which states, sorted.
    pub from: Vec<AppState>,
}

/// A file that declares nothing, why, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeclarationError {
    /// Its name is no application's.
    #[error(
        "its name is no application's: name it after the application, in small letters, digits and \"+.-\", \
         {APP_MAX} of them at the most, and '.toml'"
    )]
    FileName,
    /// Longer than what is read.
    #[error(
        "it has {TEXT_MAX} bytes or more: declare fewer converters, several pairs of states each"
    )]
    TooLong,
    /// Bytes that are no text.
    #[error("line {0}: it is not UTF-8: write it as such")]
    NotText(usize),
    /// Not TOML, a field that is not known, or one that is missing.
    #[error("line {line}: {what} (see docs/fencing.md)")]
    Syntax {
        /// Where.
        line: usize,
        /// What the reader of TOML says.
        what: String,
    },
    /// A value that is not allowed.
    #[error("line {line}: {what}")]
    Value {
        /// Where.
        line: usize,
        /// What is allowed.
        what: String,
    },
}

impl DeclarationError {
    /// The line, from 1.
    pub fn line(&self) -> Option<usize> {
        match self {
            DeclarationError::FileName | DeclarationError::TooLong => None,
            DeclarationError::NotText(line)
            | DeclarationError::Syntax { line, .. }
            | DeclarationError::Value { line, .. } => Some(*line),
        }
    }
}
