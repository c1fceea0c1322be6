//! The one transaction that is open, if any.
//!
//! Written at three moments: when a transaction begins to prepare (`Preparing`: what it will make
//! and where), when nothing can fail any more (`Committing`: the UUIDs of all it exchanges and the
//! state that follows), and when it is over (`Closed`). A transaction found `Preparing` is undone,
//! one found `Committing` is finished.

use super::Uuid;
use super::block::Record;
use super::layout::MAX_DATA;
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
