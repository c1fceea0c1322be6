//! The state and the journal in their slot files.

use super::Error;
use crate::record::Uuid;
use crate::record::block::Record;
use crate::record::journal::{Journal, Outcome};
use crate::record::slots::{self, Position, Slots};
use crate::record::state::{Live, State};
use crate::store::Store;
use crate::store::place::File;

/// A record with the position it was read from, so that the next write takes the other slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slotted<T> {
    /// The present record.
    pub value: T,
    at: Position,
    file: File,
}

impl<T: Record + Clone + PartialEq> Slotted<T> {
    /// The record's sequence number; grows with each write.
    pub fn seq(&self) -> u64 {
        self.at.seq
    }

    /// Writes a new value. On disk on return; a value equal to the present one is not written.
    pub fn write<S: Store>(&mut self, store: &mut S, value: T) -> Result<(), Error> {
        if value == self.value {
            return Ok(());
        }
        self.write_anew(store, value)
    }

    /// Writes a value even if it is the present one. On disk on return.
    pub fn write_anew<S: Store>(&mut self, store: &mut S, value: T) -> Result<(), Error> {
        let (next, block) = slots::next(self.at, &value)?;
        store.write_slot(self.file, next.slot, &block)?;
        self.at = next;
        self.value = value;
        Ok(())
    }
}

/// Reads a slot file; a missing one is damaged.
fn read<T: Record, S: Store>(store: &S, file: File) -> Result<Slots<T>, Error> {
    Ok(slots::read(&store.read(file)?.unwrap_or_default()))
}

/// Reads the state as it is on disk.
pub fn read_state<S: Store>(store: &S) -> Result<Slots<State>, Error> {
    read(store, File::State)
}

/// Reads the journal as it is on disk.
pub fn read_journal<S: Store>(store: &S) -> Result<Slots<Journal>, Error> {
    read(store, File::Journal)
}

/// Both records, open for writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// What is live.
    pub state: Slotted<State>,
    /// What is open.
    pub journal: Slotted<Journal>,
}

impl Records {
    /// Opens both. A damaged journal counts as closed: whatever it was about, the live names hold
    /// whole datasets. An empty or damaged state is an error that the caller decides about, unless
    /// a change is committed: its record has the state, too.
    pub fn open<S: Store>(store: &S) -> Result<Records, Error> {
        let state = match read_state(store)? {
            Slots::Valid { value, at, .. } => Slotted {
                value,
                at,
                file: File::State,
            },
            Slots::Empty => return by_commit_record(store)?.ok_or(Error::NoState),
            Slots::Damaged => return by_commit_record(store)?.ok_or(Error::StateDamaged),
            Slots::Newer(version) => return Err(Error::Newer(version)),
        };
        Ok(Records {
            state,
            journal: open_journal(store)?,
        })
    }

    /// Opens the records of a store on which nothing happened yet. Nothing is written by this.
    pub fn fresh<S: Store>(store: &S, state: State) -> Result<Records, Error> {
        let state = Slotted {
            value: state,
            at: Position::START,
            file: File::State,
        };
        Ok(Records {
            state,
            journal: open_journal(store)?,
        })
    }

    /// Writes the state even if it is unchanged: the first record of a store.
    pub fn write_first_state<S: Store>(&mut self, store: &mut S) -> Result<(), Error> {
        let value = self.state.value.clone();
        self.state.write_anew(store, value)
    }
}

/// The state is lost, but a change is committed and not finished, and its record has what the state is to be
/// afterwards: finishing it writes that. `None` where something came after the record, which is then an
/// older copy: a number would be given out again.
fn by_commit_record<S: Store>(store: &S) -> Result<Option<Records>, Error> {
    let journal = open_journal(store)?;
    let Journal::Committing(committing) = &journal.value else {
        return Ok(None);
    };
    let newest = store.ids()?.iter().all(|id| *id <= committing.id);
    let first = committing.outcome == Outcome::Nothing;
    if !newest || (first && store.read(File::FirstBoot)?.is_none()) {
        return Ok(None);
    }
    // As before the change: nothing was given out, nothing is recorded.
    let value = State {
        live: Live {
            system: Uuid([0; 16]),
            ..committing.after.live
        },
        next_id: committing.id,
        ..committing.after.clone()
    };
    let state = Slotted {
        value,
        at: Position::START,
        file: File::State,
    };
    Ok(Some(Records { state, journal }))
}

fn open_journal<S: Store>(store: &S) -> Result<Slotted<Journal>, Error> {
    let (value, at) = match read_journal(store)? {
        Slots::Valid { value, at, .. } => (value, at),
        Slots::Empty | Slots::Damaged => (Journal::Closed, Position::START),
        Slots::Newer(version) => return Err(Error::Newer(version)),
    };
    Ok(Slotted {
        value,
        at,
        file: File::Journal,
    })
}
