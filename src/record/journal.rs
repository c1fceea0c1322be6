//! The one transaction that is open, if any.
//!
//! Written at three moments: when a transaction begins to prepare (`Preparing`: what it will make
//! and where), when nothing can fail any more (`Committing`: the UUIDs of all it exchanges and the
//! state that follows), and when it is over (`Closed`). A transaction found `Preparing` is undone,
//! one found `Committing` is finished.

use super::Uuid;
use super::block::Record;
use super::layout::{DataParts, MAX_DATA};
use super::manifest::{Origin, Title};
use super::state::State;
use crate::store::place::Place;
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Subvolumes that one transaction makes at the most: a set and the data.
pub const MAX_PARTS: usize = MAX_DATA + 3;

/// A subvolume that the transaction makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Where it is made; nothing else lies there.
    pub at: Place,
    /// The UUID of what it is cloned from; [`Uuid::NONE`] for what is made empty.
    pub parent: Uuid,
    /// Its UUID, once it was made and the journal written again.
    pub uuid: Option<Uuid>,
}

/// Two places whose datasets change places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// The live place.
    pub live: Place,
    /// The place in the next snapshot, where the new dataset waits and the old one will lie.
    pub staged: Place,
    /// UUID of what was live; `None` when nothing was (a first boot): then it is a rename.
    pub old: Option<Uuid>,
    /// UUID of what becomes live.
    pub new: Uuid,
}

/// How the set under the transaction's id is recorded at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub enum Outcome {
    /// Sealed, with a manifest and, for GRUB, a menu entry.
    Sealed(Label),
    /// Left writable and recorded as parked.
    Parked(Label),
    /// Nothing lies there afterwards (a first boot).
    Nothing,
    /// It has become the factory snapshot; the label is that of the set which was the factory
    /// snapshot before, and lies there now.
    Factory(Label),
}

/// What a manifest says apart from identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// For people.
    pub title: Title,
    /// Why the set exists.
    pub origin: Origin,
    /// Seconds since 1970; shown only.
    pub created: u64,
    /// The snapshot it is a changed clone of.
    pub clone_of: Option<u32>,
    /// It had been marked good.
    pub good: bool,
    /// Data that stays in the set when it is gone back to.
    pub aside: DataParts,
}

/// An outcome on disk; without data that stays aside what it was before there was such, byte for byte. An older backstay
/// does not know the last one, and leaves the transaction to a newer one.
#[derive(Serialize, Deserialize)]
enum Stored {
    Sealed(Plain),
    Parked(Plain),
    Nothing,
    Factory(Plain),
    Aside(Plain, DataParts),
}

#[derive(Serialize, Deserialize)]
struct Plain {
    title: Title,
    origin: Origin,
    created: u64,
    clone_of: Option<u32>,
    good: bool,
}

impl Plain {
    fn and(self, aside: DataParts) -> Label {
        Label {
            title: self.title,
            origin: self.origin,
            created: self.created,
            clone_of: self.clone_of,
            good: self.good,
            aside,
        }
    }
}

impl From<Label> for Plain {
    fn from(label: Label) -> Plain {
        Plain {
            title: label.title,
            origin: label.origin,
            created: label.created,
            clone_of: label.clone_of,
            good: label.good,
        }
    }
}

impl From<Stored> for Outcome {
    fn from(stored: Stored) -> Outcome {
        match stored {
            Stored::Sealed(plain) => Outcome::Sealed(plain.and(DataParts::NONE)),
            Stored::Parked(plain) => Outcome::Parked(plain.and(DataParts::NONE)),
            Stored::Nothing => Outcome::Nothing,
            Stored::Factory(plain) => Outcome::Factory(plain.and(DataParts::NONE)),
            Stored::Aside(plain, aside) => Outcome::Sealed(plain.and(aside)),
        }
    }
}

impl From<Outcome> for Stored {
    fn from(outcome: Outcome) -> Stored {
        match outcome {
            Outcome::Sealed(label) if label.aside != DataParts::NONE => {
                let aside = label.aside;
                Stored::Aside(label.into(), aside)
            }
            Outcome::Sealed(label) => Stored::Sealed(label.into()),
            // Data is aside in nothing else.
            Outcome::Parked(label) => Stored::Parked(label.into()),
            Outcome::Nothing => Stored::Nothing,
            Outcome::Factory(label) => Stored::Factory(label.into()),
        }
    }
}

/// A transaction past its commit point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committing {
    /// Its id: the number of the snapshot that it makes.
    pub id: u32,
    /// The exchanges, in their order.
    pub swaps: Vec<Swap, MAX_PARTS>,
    /// Subvolumes inside the old system move to the new one.
    pub carries_nested: bool,
    /// What becomes of the set under `id`.
    pub outcome: Outcome,
    /// The state afterwards.
    pub after: State,
    /// GRUB keeps booting the recovery kernel afterwards, because a return waits.
    pub stays_armed: bool,
}

/// A transaction before its commit point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preparing {
    /// The id that it took.
    pub id: u32,
    /// What it makes.
    pub made: Vec<Made, MAX_PARTS>,
}

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Journal {
    /// No transaction is open.
    Closed,
    /// It made, or was about to make, these; nothing live was touched.
    Preparing(Box<Preparing>),
    /// It is finished, whatever happens.
    Committing(Box<Committing>),
}

impl Record for Journal {
    const MAGIC: [u8; 8] = *b"BKSTjour";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::layout::Part;
    use crate::record::manifest::title;

    #[test]
    fn an_outcome_without_data_aside_is_on_disk_what_it_was_before_there_was_such() {
        #[derive(Serialize, Deserialize)]
        enum Before {
            Sealed(Plain),
            Parked(Plain),
            Nothing,
            Factory(Plain),
        }
        let label = || Label {
            title: title("x"),
            origin: Origin::Replaced,
            created: 300,
            clone_of: None,
            good: true,
            aside: DataParts::NONE,
        };
        let plain = || Plain::from(label());
        for (before, now) in [
            (Before::Sealed(plain()), Outcome::Sealed(label())),
            (Before::Parked(plain()), Outcome::Parked(label())),
            (Before::Nothing, Outcome::Nothing),
            (Before::Factory(plain()), Outcome::Factory(label())),
        ] {
            let bytes = postcard::to_allocvec(&before).unwrap();
            assert_eq!(postcard::to_allocvec(&now).unwrap(), bytes);
            assert_eq!(postcard::from_bytes::<Outcome>(&bytes).unwrap(), now);
        }
        let mut aside = DataParts::NONE;
        aside.insert(Part::Data(3));
        let now = Outcome::Sealed(Label { aside, ..label() });
        let bytes = postcard::to_allocvec(&now).unwrap();
        assert_eq!(postcard::from_bytes::<Outcome>(&bytes).unwrap(), now);
        assert!(postcard::from_bytes::<Before>(&bytes).is_err());
    }
}
