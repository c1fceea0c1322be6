//! What the fence is asked: the versions with what they declare, the data with its labels, where the change leads and
//! what it does to each dataset, who asks and what he agrees to.

use super::declaration::Declaration;
use super::names::{AppName, AppState, Version};
use crate::record::layout::Name;
pub use crate::record::state::Consent;
use serde::Serialize;
use std::collections::BTreeMap;

/// What one version declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// By application; why a declaration could not be read, in words.
    pub apps: BTreeMap<AppName, Result<Declaration, String>>,
    /// What could not be read and cannot be said to be one application's.
    pub faults: Vec<Fault>,
}

/// Something among the declarations that could not be read. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// The version that has it.
    pub version: Version,
    /// The file, or the directory of all.
    pub file: String,
    /// Why, in words.
    pub why: String,
}

/// The declarations of all versions on disk whose programs may be run.
pub type Versions = BTreeMap<Version, Offer>;

/// The state of an application's data, as the attribute on its dataset has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Label {
    /// This one.
    Known(AppState),
    /// There is no label.
    Unknown,
    /// A conversion in place was begun and not finished: nothing reads it.
    Converting {
        /// The state before.
        from: AppState,
        /// The state that it was to become.
        to: AppState,
    },
    /// What is recorded is no state and no conversion: nobody knows what reads it.
    Damaged,
}

/// The labels of one dataset. An application that is not there has none.
pub type Labels = BTreeMap<AppName, Label>;

/// Data of a version, kept as it was when that version last ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Whose it is.
    pub of: Version,
    /// When it was kept: seconds since 1970, by a clock that may have been wrong.
    pub since: Option<u64>,
    /// Its labels.
    pub labels: Labels,
}

/// What the change does to a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is.
    Stays {
        /// Its labels.
        labels: Labels,
        /// Data that could take its place.
        kept: Option<Kept>,
    },
    /// The change puts this in its place anyway.
    Exchanged(Kept),
    /// It becomes a fresh one.
    Fresh,
}

/// The config dataset, by the name "config", and the data datasets of the machine.
pub type Datasets = BTreeMap<Name, Fate>;

/// How long all the converters of a change may take where nobody is there, by their time limits together; in seconds.
///
/// The machine is down meanwhile, and whoever comes to it sees a screen and no reason to wait. An hour is six converters with
/// the limit that they have unless they say another, or one that says so; what may take longer is for somebody who knows it.
pub const BY_ITSELF: u64 = 60 * 60;

/// Who asks, which decides what can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// A person, in the running system: every converter can be run.
    Running,
    /// A person, before boot: only early converters.
    Console,
    /// Nobody; the machine falls back. Nobody agrees to anything, so consent does not count: only early converters that
    /// lose nothing, and that end within [`BY_ITSELF`].
    Itself,
}

/// The question.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// All versions, the target among them; one that is not there declares nothing.
    pub versions: &'a Versions,
    /// Where the change leads.
    pub target: Version,
    /// All datasets but the root.
    pub datasets: &'a Datasets,
    /// Who asks.
    pub by: By,
    /// What is agreed to.
    pub consent: Consent,
}
