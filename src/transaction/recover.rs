//! What the next start does about a transaction that a power cut left open.

use super::Error;
use super::execute::Done;
use super::finish::finish;
use super::plan::Step;
use super::records::Records;
use crate::record::Uuid;
use crate::record::journal::{Journal, Made};
use crate::store::Store;
use crate::store::place::{File, Place};

/// What recovery found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// No transaction was open.
    Nothing,
    /// It had not been committed: what it had made is gone, the live set was never touched.
    Undone(u32),
    /// It had been committed: it is whole now.
    Finished(u32, Done),
}

/// Whether GRUB boots the recovery kernel although nothing waits for it: the power went between
/// the last record and the removal of the hint.
pub fn hint_is_stale<S: Store>(store: &S, records: &Records) -> Result<bool, Error> {
    let state = &records.state.value;
    let waits = state.request.is_some() || state.parked.is_some();
    let closed = records.journal.value == Journal::Closed;
    Ok(closed && !waits && store.read(File::Armed)?.is_some())
}

/// Undoes or finishes an open transaction, and removes a stale hint. An error leaves everything as
/// it was found.
pub fn recover<S: Store>(
    store: &mut S,
    records: &mut Records,
    progress: &mut dyn FnMut(&Step),
) -> Result<Recovered, Error> {
    match &records.journal.value {
        Journal::Closed => {
            if hint_is_stale(store, records)? {
                store.remove(File::Armed)?;
                store.sync()?;
            }
            Ok(Recovered::Nothing)
        }
        Journal::Preparing(preparing) => {
            let id = preparing.id;
            undo(store, records)?;
            Ok(Recovered::Undone(id))
        }
        Journal::Committing(committing) => {
            let id = committing.id;
            Ok(Recovered::Finished(id, finish(store, records, progress)?))
        }
    }
}

/// Whether a committed transaction has exchanged some datasets and not others: such a live set is
/// never booted by itself.
pub fn live_set_is_mixed<S: Store>(store: &S, records: &Records) -> Result<bool, Error> {
    let Journal::Committing(committing) = &records.journal.value else {
        return Ok(false);
    };
    let mut done = 0;
    for swap in &committing.swaps {
        let live = store.dataset(swap.live)?;
        if live.is_some_and(|live| live.identity.uuid == swap.new) {
            done += 1;
        }
    }
    Ok(done != 0 && done != committing.swaps.len())
}

/// Drops what an uncommitted transaction made, closes the journal, disarms if nothing else waits.
pub(super) fn undo<S: Store>(store: &mut S, records: &mut Records) -> Result<(), Error> {
    if let Journal::Preparing(preparing) = records.journal.value.clone() {
        let live = live(store)?;
        for one in &preparing.made {
            if let Some(uuid) = own(store, one)?
                && !live.contains(&uuid)
            {
                store.destroy(one.at, uuid)?;
            }
        }
        store.remove_directory(preparing.id)?;
        store.sync()?;
        records.journal.write(store, Journal::Closed)?;
    }
    // What was parked still waits for its return.
    if records.state.value.parked.is_none() {
        store.remove(File::Armed)?;
        store.sync()?;
    }
    Ok(())
}

/// The UUID of what lies at the place, if this transaction made it: the journal has its UUID, or
/// the power went between its making and the journal's next record. Then it is a clone of the
/// recorded source at a place that was empty before and that no manifest names.
fn own<S: Store>(store: &S, made: &Made) -> Result<Option<Uuid>, Error> {
    let Some(found) = store.dataset(made.at)? else {
        return Ok(None);
    };
    let own = match made.uuid {
        Some(uuid) => found.identity.uuid == uuid,
        None => found.parent == Some(made.parent),
    };
    Ok(own.then_some(found.identity.uuid))
}

fn live<S: Store>(store: &S) -> Result<Vec<Uuid>, Error> {
    let mut uuids = Vec::new();
    for part in store.layout().all() {
        if let Some(dataset) = store.dataset(Place::Live(part))? {
            uuids.push(dataset.identity.uuid);
        }
    }
    Ok(uuids)
}
