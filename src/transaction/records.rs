//! The state and the journal in their slot files.

use super::{Error, catalogue};
use crate::record::Uuid;
use crate::record::block::Record;
use crate::record::journal::{Committing, Journal, Outcome};
use crate::record::manifest::Kind;
use crate::record::slots::{self, Position, Slots};
use crate::record::state::{Live, Phase, State};
use crate::store::Store;
use crate::store::place::{File, Set};

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

    /// The same; a store without any state gets one in memory, which is written only by a first boot.
    /// Not where a change is committed: its record is then an older copy, and nothing is finished.
    pub fn open_or_begin<S: Store>(store: &S) -> Result<Records, Error> {
        match Records::open(store) {
            Err(Error::NoState) => {
                let live = Live {
                    system: Uuid([0; 16]),
                    clone_of: Some(0),
                };
                let records = Records::fresh(store, State::new(live))?;
                match records.journal.value {
                    Journal::Committing(_) => Err(Error::NoState),
                    _ => Ok(records),
                }
            }
            other => other,
        }
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
/// afterwards: finishing it writes that. `None` where the record is an older copy: something came after it (a
/// number would be given out again), or what lies there is not what it is about.
fn by_commit_record<S: Store>(store: &S) -> Result<Option<Records>, Error> {
    let mut journal = open_journal(store)?;
    let Journal::Committing(committing) = &mut journal.value else {
        return Ok(None);
    };
    let first = committing.outcome == Outcome::Nothing;
    if catalogue::newest_set(store)? > Some(committing.id)
        || (first && store.read(File::FirstBoot)?.is_none())
        || !fits(store, committing)?
    {
        return Ok(None);
    }
    // Somebody may have tried to go back since: that was in the state alone.
    if let Some(destroy) = &mut committing.after.destroy
        && destroy.phase == Phase::Waits
    {
        destroy.phase = Phase::Suspended;
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

/// Whether each exchange is done or can be.
fn fits<S: Store>(store: &S, committing: &Committing) -> Result<bool, Error> {
    let uuid = |place| -> Result<Option<Uuid>, Error> {
        Ok(store.dataset(place)?.map(|found| found.identity.uuid))
    };
    // What was parked and is sealed has returned.
    let set = Set::Snapshot(committing.id);
    if matches!(committing.outcome, Outcome::Parked(_))
        && catalogue::manifest(store, set)?.is_some_and(|it| it.kind != Kind::Parked)
    {
        return Ok(false);
    }
    for swap in &committing.swaps {
        let live = uuid(swap.live)?;
        let to_be_done = live == swap.old && uuid(swap.staged)? == Some(swap.new);
        if live != Some(swap.new) && !to_be_done {
            return Ok(false);
        }
    }
    Ok(true)
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
