//! What the fence answers: for each application, and for the change as a whole. Field names are stable, for JSON.

use super::graph::{Path, Step};
use super::names::{AppName, AppState, Version};
use super::question::{By, Consent, Fault, Label};
use crate::record::layout::Name;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What is to be done for one application, if the change goes as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// No conversion needed: the target lives with the data as it will be.
    Nothing,
    /// The target does not have the application, or not in this dataset: nothing is done about its data.
    LeftAlone(Lot),
    /// Convert a clone of the data by this path.
    Convert {
        /// The path.
        path: Path,
        /// Whether something is lost on it.
        lossy: bool,
    },
    /// Return to the data as it was.
    Restore {
        /// The data.
        kept: Restore,
    },
    /// Refused, and why.
    Refuse(Refusal),
}

/// What becomes of data that nothing is done about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lot {
    /// It stays.
    Stays,
    /// Its dataset goes back, and it with that.
    GoesBack,
    /// Its dataset becomes a fresh one.
    Goes,
}

/// Data that can be returned to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restore {
    /// The version whose data it is.
    pub of: Version,
    /// What came since then is lost; seconds since 1970, by a clock that may have been wrong.
    pub since: Option<u64>,
    /// The application's state in it, if it has a label.
    pub state: Option<AppState>,
}

/// Why the target does not live with the data as it will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Its declaration cannot be read: this is why.
    Unread(String),
    /// The machine has no dataset of that name.
    NoDataset,
    /// The data has no label, and the target does not say that it lives with that.
    Unlabelled {
        /// Another dataset in which it has one.
        elsewhere: Option<Name>,
    },
    /// A conversion in place was interrupted.
    Interrupted,
    /// What is recorded of the data's state cannot be read.
    Damaged,
    /// The target reads other states.
    CannotRead,
}

/// Why an application keeps the target from being gone to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Why the data cannot stay as it is.
    pub cause: Cause,
    /// What would have to be agreed to, for this application alone.
    pub offers: Vec<Consent>,
    /// There is a path, but one of its converters cannot run before boot.
    pub only_running: bool,
    /// There is kept data, but the target does not live with that either.
    pub kept_unfit: bool,
    /// There is a path on which nothing is lost, but what the whole change would run may take these seconds, and nobody is
    /// there.
    pub too_long: Option<u64>,
}

/// One application in one dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AppVerdict {
    /// The application.
    pub app: AppName,
    /// Where its data lies; `None` where the declaration that would say so cannot be read.
    pub dataset: Option<Name>,
    /// The state in which the target would find the data.
    pub present: Label,
    /// The data is a fresh one, in the state that the target writes.
    pub fresh: bool,
    /// What the target lives with: first what it writes.
    pub reads: Vec<AppState>,
    /// A path, where one is needed and there is one that can be run by who asks.
    pub convert: Option<Path>,
    /// Data to return to, where that would be needed and could be done.
    pub restore: Option<Restore>,
    /// What is to be done under the consent that was given.
    pub answer: Answer,
    /// The state afterwards, if the change goes; `None` without a label.
    pub after: Option<AppState>,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Where the change leads.
    pub target: Version,
    /// Who asked.
    pub by: By,
    /// What was agreed to.
    pub consent: Consent,
    /// Whether it goes, each application as its answer says. Otherwise nothing at all is done.
    pub goes: bool,
    /// With which consents of a person it would go.
    pub possible: Vec<Consent>,
    /// Every application that the target declares, or that has data here: by dataset, then by name, which is the order
    /// in which those of one dataset are converted, one after the other on the same clone.
    pub apps: Vec<AppVerdict>,
    /// Units of the live system that are stopped from the clone to the reboot: those of every application in a dataset
    /// that is converted.
    pub services: Vec<String>,
    /// What of the target's declarations is no application's and cannot be read: then nothing goes.
    pub faults: Vec<Fault>,
    /// Declarations of other versions that cannot be read: their converters are not known.
    pub unread: Vec<Fault>,
}

impl Verdict {
    /// What is to be run on a clone of each dataset, in order; nothing where the change does not go.
    pub fn conversions(&self) -> BTreeMap<&Name, Vec<(&AppName, &Step)>> {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for one in self.apps.iter().filter(|_| self.goes) {
            if let (Some(dataset), Answer::Convert { path, .. }) = (&one.dataset, &one.answer) {
                let steps = path.steps.iter().map(|step| (&one.app, step));
                all.entry(dataset).or_default().extend(steps);
            }
        }
        all
    }

    /// The datasets that go back to kept data; none where the change does not go.
    pub fn returns(&self) -> BTreeSet<&Name> {
        let back = |it: &&AppVerdict| matches!(it.answer, Answer::Restore { .. });
        let apps = self.apps.iter().filter(|_| self.goes).filter(back);
        apps.filter_map(|it| it.dataset.as_ref()).collect()
    }

    /// Whether something is lost by a conversion, or by going back.
    pub fn loses(&self) -> bool {
        self.goes
            && self.apps.iter().any(|it| match &it.answer {
                Answer::Convert { lossy, .. } => *lossy,
                Answer::Restore { .. } => true,
                _ => false,
            })
    }
}
