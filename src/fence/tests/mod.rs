//! The fence against what it has to keep.
//!
//! - `declaration.rs`, `survey.rs`, `lint.rs`, `words.rs` what is read and what is said
//! - `ask.rs` the question that a plan is, over a store in memory
//! - `table.rs` every small case, written out
//! - `oracle.rs` all simple paths of a random graph; `paths.rs` and `verdicts.rs` hold the fence against it

mod ask;
mod declaration;
mod lint;
mod oracle;
mod paths;
mod survey;
mod table;
mod verdicts;
mod words;

use super::declaration::{Declaration, parse};
use super::names::{AppName, AppState, Version};
use super::question::{
    By, Consent, Datasets, Fate, Kept, Label, Labels, Offer, Question, Versions,
};
use crate::record::layout::Name;
use crate::store::memory::{Content, Memory};
use crate::store::place::Place;
use crate::transaction::check::APPS;

pub(crate) fn app(text: &str) -> AppName {
    AppName::new(text).unwrap()
}

pub(crate) fn state(text: &str) -> AppState {
    AppState::new(text).unwrap()
}

pub(crate) fn dataset(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

pub(crate) fn known(text: &str) -> Label {
    Label::Known(state(text))
}

pub(crate) fn declared(text: &str) -> Declaration {
    parse(text).unwrap()
}

/// A version with one application.
pub(crate) fn offer(name: &str, text: &str) -> Offer {
    let apps = [(app(name), Ok(declared(text)))].into_iter().collect();
    Offer {
        apps,
        faults: Vec::new(),
    }
}

pub(crate) fn labels(all: &[(&str, Label)]) -> Labels {
    let all = all.iter();
    all.map(|(name, label)| (app(name), label.clone()))
        .collect()
}

pub(crate) fn kept(of: Version, since: Option<u64>, all: &[(&str, Label)]) -> Kept {
    Kept {
        of,
        since,
        labels: labels(all),
    }
}

pub(crate) fn stays(all: &[(&str, Label)], kept: Option<Kept>) -> Fate {
    Fate::Stays {
        labels: labels(all),
        kept,
    }
}

pub(crate) fn datasets(all: Vec<(&str, Fate)>) -> Datasets {
    let all = all.into_iter();
    all.map(|(name, fate)| (dataset(name), fate)).collect()
}

pub(crate) fn question<'a>(
    versions: &'a Versions,
    target: Version,
    datasets: &'a Datasets,
    by: By,
    consent: Consent,
) -> Question<'a> {
    Question {
        versions,
        target,
        datasets,
        by,
        consent,
    }
}

/// The version has the application 'shop'.
pub(crate) fn declare(store: &mut Memory, version: Version, text: &str) {
    store.edit(|world, _| {
        let tree = &mut world.datasets.get_mut(&version.place()).unwrap().tree;
        for path in ["usr", "usr/lib", "usr/lib/backstay", APPS] {
            tree.insert(path.to_owned(), Content::Directory);
        }
        let content = Content::File(text.as_bytes().to_vec());
        tree.insert(format!("{APPS}/shop.toml"), content);
    });
}

/// In which state the data of 'shop' is, also where it is sealed.
pub(crate) fn label(store: &mut Memory, place: Place, state: &str) {
    store.edit(|world, _| {
        let labels = &mut world.datasets.get_mut(&place).unwrap().labels;
        labels.insert("state.shop".into(), state.as_bytes().to_vec());
    });
}
