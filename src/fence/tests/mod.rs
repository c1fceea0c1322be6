//! The fence against what it has to keep.
//!
//! - `declaration.rs`, `survey.rs`, `lint.rs`, `words.rs` what is read and what is said
//! - `table.rs` every small case, written out
//! - `oracle.rs` all simple paths of a random graph; `paths.rs` and `verdicts.rs` hold the fence against it

mod declaration;
mod oracle;
mod paths;

use super::declaration::{Declaration, parse};
use super::names::{AppName, AppState};
use crate::record::layout::Name;

pub(crate) fn app(text: &str) -> AppName {
    AppName::new(text).unwrap()
}

pub(crate) fn state(text: &str) -> AppState {
    AppState::new(text).unwrap()
}

pub(crate) fn dataset(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

pub(crate) fn declared(text: &str) -> Declaration {
    parse(text).unwrap()
}
