//! What the next start does about a transaction that a power cut left open.

use super::execute::{ARMED, Done, arm};
use super::factory::uuid_at;
use super::finish::{finish, with_ballast};
use super::plan::Step;
use super::records::{Records, read_journal};
use super::{Error, catalogue, prepared};
use crate::record::Uuid;
use crate::record::grubenv;
use crate::record::journal::{Journal, Made, Preparing};
use crate::record::layout::Part;
use crate::record::slots::Slots;
use crate::store::Store;
use crate::store::place::{File, Place, Set};

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

/// Takes a choice for one start out of GRUB's environment, where one stands: it was taken. Says whether it did.
pub fn use_up_next_entry<S: Store>(store: &mut S) -> Result<bool, Error> {
    let Some(block) = next_entry_used_up(store)? else {
        return Ok(false);
    };
    store.replace(File::GrubEnv, &block)?;
    store.sync()?;
    Ok(true)
}

/// GRUB's environment without a choice for one start; `None` where none stands there.
pub fn next_entry_used_up<S: Store>(store: &S) -> Result<Option<Vec<u8>>, Error> {
    let block = store.read(File::GrubEnv)?;
    Ok(block.and_then(|block| grubenv::without_next_entry(&block)))
}

/// Whether GRUB boots the recovery kernel although nothing waits for it: the power went between
/// the last record and the removal of the hint.
pub fn hint_is_stale<S: Store>(store: &S, records: &Records) -> Result<bool, Error> {
    let waits = records.state.value.waits();
    let closed = records.journal.value == Journal::Closed;
    Ok(closed && !waits && store.read(File::Armed)?.is_some())
}

/// Whether GRUB would start a system on trial itself, although the recovery kernel is to count it: what tells
/// it so is gone, or garbage. A request's hint is its own affair: what it says was part of the request.
fn hint_is_lost<S: Store>(store: &S, records: &Records) -> Result<bool, Error> {
    let state = &records.state.value;
    if records.journal.value != Journal::Closed || !state.guarded() || state.request.is_some() {
        return Ok(false);
    }
    let hint = store.read(File::Armed)?;
    Ok(!hint.is_some_and(|text| text.starts_with(ARMED)))
}

/// Whether what GRUB reads says something else than the state, which is the truth: [`recover`] mends it.
pub fn hint_is_wrong<S: Store>(store: &S, records: &Records) -> Result<bool, Error> {
    Ok(hint_is_stale(store, records)? || hint_is_lost(store, records)?)
}

/// Undoes or finishes an open transaction, and removes a stale hint or restores a lost one. An error leaves everything as
/// it was found, but for [`Error::JournalLost`]: then the journal is closed, nothing else was touched,
/// and the hint stays, so that each start says it until the system is marked good or changed.
pub fn recover<S: Store>(
    store: &mut S,
    records: &mut Records,
    progress: &mut dyn FnMut(&Step),
) -> Result<Recovered, Error> {
    let recovered = match &records.journal.value {
        Journal::Closed => {
            if hint_is_stale(store, records)? {
                disarm(store, records)?;
            } else if hint_is_lost(store, records)?
                && let Err(error) = arm(store)
            {
                // Without it a panic is not counted, and everything else is.
                log::warn!("GRUB starts the system on trial itself: {error}");
            }
            Recovered::Nothing
        }
        Journal::Preparing(preparing) => {
            let id = preparing.id;
            if is_past(store, records, preparing)? {
                records.journal.write(store, Journal::Closed)?;
                disarm(store, records)?;
                return Err(Error::JournalLost(id));
            }
            undo(store, records)?;
            Recovered::Undone(id)
        }
        Journal::Committing(committing) => {
            let id = committing.id;
            Recovered::Finished(id, finish(store, records, progress)?)
        }
    };
    prepared::tidied(store, records);
    match hint_is_stale(store, records)? {
        true => Err(Error::JournalLost(
            begun(store, records)?.unwrap_or(records.state.value.next_id),
        )),
        false => Ok(recovered),
    }
}

/// The number of a change that the closed journal does not know: a dataset lies under the number
/// that the next change would take.
fn begun<S: Store>(store: &S, records: &Records) -> Result<Option<u32>, Error> {
    let taken = store.ids()?;
    let mut id = records.state.value.next_id;
    while taken.contains(&id) {
        let known = catalogue::is_former_factory(store, id)?;
        for part in store.layout().all().filter(|_| !known) {
            if matches!(store.dataset(Place::Snapshot(id, part)), Ok(Some(_))) {
                return Ok(Some(id));
            }
        }
        let Some(next) = id.checked_add(1) else {
            break;
        };
        id = next;
    }
    Ok(None)
}

/// Whether a transaction that the journal has as prepared is further on, so that the record is an
/// older copy of itself. What it lists may be live or sealed by now, so it must not be undone.
///
/// It is further on when its number was given out or its set has a manifest; when something that it
/// made is live or the factory snapshot; when something lies at a place that it had not come to; or when the live system is
/// neither the recorded one nor anything else than a clone of the same source.
fn is_past<S: Store>(store: &S, records: &Records, preparing: &Preparing) -> Result<bool, Error> {
    let state = &records.state.value;
    let manifest = File::Manifest(Set::Snapshot(preparing.id));
    if state.next_id > preparing.id || store.read(manifest)?.is_some() {
        return Ok(true);
    }
    let mut taken = live(store)?;
    taken.extend(uuid_at(store, Place::Factory(Part::System))?);
    let mut unknown = 0;
    for made in &preparing.made {
        let there = store.dataset(made.at)?.is_some();
        match made.uuid {
            Some(uuid) if taken.contains(&uuid) => return Ok(true),
            Some(_) => {}
            // Between the making of one and its record nothing else is made.
            None if there && unknown > 0 => return Ok(true),
            None => unknown += 1,
        }
        if made.at.part() == Part::System
            && let Some(system) = store.dataset(Place::Live(Part::System))?
            && system.identity.uuid != state.live.system
            && system.parent == Some(made.parent)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a committed transaction has exchanged some datasets and not others: such a live set is
/// never booted by itself. The journal alone tells, whatever became of the state. One that cannot be read
/// tells nothing; of one that was read an error tells that nobody knows.
pub fn live_set_is_mixed<S: Store>(store: &S) -> Result<bool, Error> {
    let Ok(Slots::Valid {
        value: Journal::Committing(committing),
        ..
    }) = read_journal(store)
    else {
        return Ok(false);
    };
    // Where the state is lost as well, this may be a copy from before other changes: only what it is about counts.
    let is_present = Records::open(store).is_ok();
    let (mut new, mut old) = (false, false);
    for swap in &committing.swaps {
        let live = store.dataset(swap.live)?.map(|it| it.identity.uuid);
        new |= live == Some(swap.new);
        old |= live == swap.old || (is_present && live != Some(swap.new));
    }
    Ok(new && old)
}

/// Drops what an uncommitted transaction made, closes the journal, disarms if nothing else waits.
pub(super) fn undo<S: Store>(store: &mut S, records: &mut Records) -> Result<(), Error> {
    if let Journal::Preparing(preparing) = records.journal.value.clone() {
        let live = live(store)?;
        for one in &preparing.made {
            if let Some(uuid) = own(store, one)?
                && !live.contains(&uuid)
            {
                with_ballast(store, |store| store.destroy(one.at, uuid))?;
            }
        }
        with_ballast(store, |store| store.remove_directory(preparing.id))?;
        store.sync()?;
        records.journal.write(store, Journal::Closed)?;
    }
    // A request was used up before anything was prepared: one that is there is an old copy.
    let state = &records.state.value;
    if state.parked.is_none() && !state.guarded() {
        store.remove(File::Armed)?;
        store.sync()?;
    }
    prepared::tidied(store, records);
    Ok(())
}

/// Removes the hint, unless something waits for the agent, or was begun and is not known.
pub(super) fn disarm<S: Store>(store: &mut S, records: &Records) -> Result<(), Error> {
    match begun(store, records)? {
        None => disarm_known(store, records),
        Some(_) => Ok(()),
    }
}

/// Removes the hint, unless something waits for the agent.
pub(super) fn disarm_known<S: Store>(store: &mut S, records: &Records) -> Result<(), Error> {
    if !records.state.value.waits() {
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
        None => found.parent.unwrap_or(Uuid::NONE) == made.parent,
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
