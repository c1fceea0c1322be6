//! Changes of the live set, each whole or not at all.
//!
//! [`plan`] says what will be done, as data. [`execute`] prepares (all that can fail, [`preparing`]), writes the
//! journal's commit record, and finishes. [`recover`] undoes what was only prepared and finishes
//! what was committed. A power cut
//! - before the commit record: the live set is untouched; what was cloned is dropped;
//! - after it: the rest is done at the next start of the agent, before any root is mounted;
//! - in between, each exchange is atomic, and the system is exchanged last.

pub mod catalogue;
pub mod check;
pub mod execute;
pub mod explain;
pub mod factory;
#[cfg(test)]
mod faults;
pub mod fenced;
pub mod finish;
mod fresh;
pub mod history_log;
pub mod inside;
#[cfg(test)]
mod late_config;
#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod odd_stores;
pub mod plan;
pub mod prepared;
pub mod preparing;
pub mod records;
pub mod recover;

use crate::policy::refusal::Refusal;
use crate::record::Uuid;
use crate::record::block::TooLarge;
use crate::store::StoreError;
use crate::store::place::STORE;
use thiserror::Error;

/// A transaction did not happen, or could not be finished.
#[derive(Debug, Error)]
pub enum Error {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The layout is larger than what a record holds.
    #[error("{0}: declare fewer datasets or shorter names in layout.toml")]
    TooLarge(#[from] TooLarge),
    /// No state was ever written.
    #[error("this store has no state yet: run 'backstay init' in the running system")]
    NoState,
    /// Neither slot of the state is whole.
    #[error(
        "the state is damaged in both slots: the live system boots; run 'backstay init --repair'"
    )]
    StateDamaged,
    /// The records were written by a newer version.
    #[error("the records have format {0}, this backstay reads up to 1: boot a newer one")]
    Newer(u16),
    /// A transaction is open that this call must not touch.
    #[error("a transaction is open: reboot, so that the agent finishes or undoes it")]
    Open,
    /// The result could not boot.
    #[error("the result could not boot: {0}")]
    Unbootable(String),
    /// A live place holds neither the old nor the new dataset of the transaction.
    #[error(
        "{place} holds a dataset ({found}) that the open transaction does not know: \
         nothing was touched; see 'backstay list' and docs/recovery.md"
    )]
    Third {
        /// The live name.
        place: String,
        /// What lies there.
        found: String,
    },
    /// It was committed, but what follows the commit failed; the next start goes on with it.
    #[error(
        "it was committed but could not be finished: {0}; when that is mended, restart to go on"
    )]
    Unfinished(Box<Error>),
    /// A dataset that has to change places cannot: the kernel moves nothing that is read-only.
    #[error(
        "{0} is {1}, so it cannot change places: make it writable (docs/recovery.md, section 13) and \
         ask again"
    )]
    Held(String, &'static str),
    /// Neither a record of the journal nor its withdrawal could be written for certain.
    #[error(
        "the journal could not be written ({0}), nor taken back: restart, and the change is \
         finished or undone"
    )]
    Uncertain(Box<Error>),
    /// It was refused or failed, and what it had made could not be removed either.
    #[error("{0}; and what was made for it could not be removed yet: {1}; a restart does that")]
    NotUndone(Box<Error>, Box<Error>),
    /// The journal is not the newest one that there was.
    #[error(
        "the journal was damaged or is an older copy of itself, and how far change {0} had come is \
         lost: nothing was touched; see 'backstay status', and roll back if the system is mixed; if \
         @backstay/snapshots/{0} is a stranger's, move it away"
    )]
    JournalLost(u32),
    /// Every number from the next one on is taken, or was.
    #[error(
        "no number is left for a snapshot: remove the stray directory with the highest number from \
         @backstay/snapshots, and the file @backstay/state, then run 'backstay init --repair'"
    )]
    NoNumber,
    /// The default tarball could not be used.
    #[error("{0}")]
    Image(String),
    /// What was to be upgraded was not.
    #[error("{0}")]
    NotUpgraded(String),
    /// The fence refuses it.
    #[error(transparent)]
    Fenced(Refusal),
    /// A converter failed, or could not be run.
    #[error(
        "the data of {app} was not converted ({why}): it is as it was, and so is all else; choose another version, or see \
         what the converter needs"
    )]
    NotConverted {
        /// The application.
        app: String,
        /// What happened, in words.
        why: String,
    },
    /// A subvolume inside the data could not be cloned with it.
    #[error(
        "the subvolume {0} in the data cannot be cloned with it, so nothing was converted: move it out of the dataset, or \
         delete it, and ask again"
    )]
    NotCloned(String),
    /// Somebody wrote to the data while a clone of it was converted.
    #[error(
        "somebody wrote to {0} while a clone of it was converted, so that is not used: declare what writes there in \
         'services', or use early converters; then ask again"
    )]
    WrittenMeanwhile(String),
    /// The factory snapshot cannot change places with another one.
    #[error(
        "{STORE}/factory is {0}, so no other factory snapshot can take its place: mend that \
         (docs/recovery.md, section 13) and ask again"
    )]
    FactoryHeld(&'static str),
    /// A source is missing.
    #[error("{0} is missing")]
    Missing(String),
    /// The template of a data dataset is missing.
    #[error(
        "{0}, which fresh data is cloned from, is missing: nothing was changed; run 'backstay init' in \
         the running system, then ask again"
    )]
    NoTemplate(String),
    /// Something lies where the transaction wants to make a clone.
    #[error("{0} exists already, although its number was never given out")]
    Occupied(String),
}

impl Error {
    /// The same where the kernel takes no more writes to the store: see [`StoreError::where_writes_failed`].
    pub fn where_writes_failed(self) -> Error {
        let boxed = |error: Box<Error>| Box::new(error.where_writes_failed());
        match self {
            Error::Store(error) => Error::Store(error.where_writes_failed()),
            Error::Unfinished(error) => Error::Unfinished(boxed(error)),
            Error::Uncertain(error) => Error::Uncertain(boxed(error)),
            Error::NotUndone(error, other) => Error::NotUndone(boxed(error), boxed(other)),
            other => other,
        }
    }
}

/// A UUID for a message, or that there is none.
fn named(uuid: Option<Uuid>) -> String {
    uuid.map_or_else(|| "nothing".to_owned(), |uuid| uuid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_kernel_gave_up_writing_the_disk_is_named_and_no_subvolume() {
        let refused = || Error::Store(StoreError::ReadOnly("writing x".to_owned()));
        let text = refused().to_string();
        assert!(text.contains("btrfs property set"), "{text}");
        let other = || Box::new(Error::NoNumber);
        for error in [
            refused(),
            Error::Unfinished(Box::new(refused())),
            Error::Uncertain(Box::new(refused())),
            Error::NotUndone(other(), Box::new(Error::Unfinished(Box::new(refused())))),
        ] {
            let text = error.where_writes_failed().to_string();
            assert!(text.contains("the disk fails: check its cable"), "{text}");
            assert!(!text.contains("btrfs property set"), "{text}");
        }
        let text = Error::NoNumber.where_writes_failed().to_string();
        assert_eq!(text, Error::NoNumber.to_string());
    }
}
