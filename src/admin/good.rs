//! `backstay mark-good`: the live system has proved itself.
//!
//! It ends what waited for that: the second phase of `reset everything` begins, which deletes what
//! the reset replaced. The state says so durably before the first deletion ([`Phase::Begun`]), and forgets
//! it after the last one: a power cut in between is made up for by the next call. Deletion is not
//! erasure: the disk may still hold what was deleted.
//!
//! Where somebody tried to go back and that did not come to pass, nothing is deleted until a person
//! says so.

use super::error::{Error, Result};
use super::request::disarm_stale;
use crate::policy::trial;
use crate::record::Uuid;
use crate::record::journal::Journal;
use crate::record::layout::Part;
use crate::record::state::{Destroy, Kexec, Phase};
use crate::store::place::{File, Place, STORE, Set};
use crate::store::{Store, StoreError};
use crate::transaction::finish::with_ballast;
use crate::transaction::records::Records;
use crate::transaction::recover;
use crate::transaction::{self, catalogue};
use serde::Serialize;

/// What `mark-good` did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Marked {
    /// Whether the live system is marked good now.
    pub good: bool,
    /// Why it was not marked.
    pub why_not: Option<String>,
    /// The snapshots that `reset everything` deleted.
    pub deleted: Vec<u32>,
    /// Whether the deletion is suspended, because somebody tried to go back.
    pub suspended: bool,
    /// What was in the way of a deletion; it is tried again by the next call.
    pub kept: Vec<String>,
}

/// The running system.
#[derive(Clone, Copy, Debug)]
pub struct Booted<'a> {
    /// The dataset that it was booted from, by its name in the top level.
    pub dataset: &'a str,
    /// The agent started it by kexec, so that works on this machine.
    pub by_kexec: bool,
}

/// Marks the live system good and finishes `reset everything`.
///
/// `booted` is the running system; `None` offline. `delete` says that a person wants the deletion to go on although somebody tried to
/// go back.
pub fn mark_good<S: Store>(
    store: &mut S,
    records: &mut Records,
    booted: Option<Booted<'_>>,
    delete: bool,
    progress: &mut dyn FnMut(&str),
) -> Result<Marked> {
    if records.journal.value != Journal::Closed {
        return Err(transaction::Error::Open.into());
    }
    let live_name = store.layout().system.live.clone();
    if let Some(booted) = booted.filter(|booted| booted.dataset != live_name.as_str()) {
        let dataset = booted.dataset;
        return Err(Error::NotLive(format!(
            "this system was booted from {dataset}, the live one is {live_name}: nothing was marked"
        )));
    }
    let mut state = records.state.value.clone();
    if let Some(parked) = state.parked {
        return Ok(Marked {
            why_not: Some(format!(
                "a snapshot is booted once; the next boot returns to the system parked as {parked}"
            )),
            ..Marked::default()
        });
    }
    let Some(live) = store.dataset(Place::Live(Part::System))? else {
        return Err(Error::NotLive(format!(
            "the live system {live_name} is missing"
        )));
    };
    let live = live.identity.uuid;
    if live != state.live.system {
        return Err(Error::NotLive(format!(
            "{live_name} is not the dataset that the state records ({} instead of {}): nothing was \
             marked; if it was put there on purpose, 'backstay init --repair' takes it over",
            live, state.live.system
        )));
    }
    if booted.is_some() {
        // A full disk must not keep a system on trial.
        if let Err(error) = recover::use_up_next_entry(store) {
            progress(&format!(
                "grub-reboot's choice stays, and is taken again: {error}"
            ));
        }
    }
    state.good = Some(live);
    state.rebooted_for = None;
    if booted.is_some_and(|booted| booted.by_kexec) {
        state.kexec = Kexec::Works;
    }
    trial::confirm(&mut state);
    // Somebody who asked for a change in the meantime may need what would be deleted.
    let asked = state.request.is_some();
    match &mut state.destroy {
        Some(destroy)
            if destroy.live == live && !asked && (destroy.phase == Phase::Waits || delete) =>
        {
            destroy.phase = Phase::Begun;
        }
        _ => {}
    }
    let suspended = state
        .destroy
        .is_some_and(|destroy| destroy.phase == Phase::Suspended);
    let destroy = state
        .destroy
        .filter(|destroy| destroy.phase == Phase::Begun);
    let was_tried = records.state.value.trial.is_some();
    records.state.write(store, state.clone())?;
    if was_tried {
        // In both copies: the older one, should this one be lost, would have the machine fall back.
        records.state.write_anew(store, state)?;
    }
    let mut marked = Marked {
        good: true,
        suspended,
        ..Marked::default()
    };
    if let Some(destroy) = destroy {
        finish(store, records, destroy, &mut marked, progress)?;
    }
    disarm_stale(store, records)?;
    Ok(marked)
}

/// Deletes every snapshot up to the recorded id, lets the history forget them, and closes the
/// second phase. One that cannot be deleted does not keep the others, nor the machine from changing:
/// it can be promoted no more, and the next call tries it again.
fn finish<S: Store>(
    store: &mut S,
    records: &mut Records,
    destroy: Destroy,
    marked: &mut Marked,
    progress: &mut dyn FnMut(&str),
) -> Result<()> {
    let spared = spared(store)?;
    for id in catalogue::ids(store)? {
        if id > destroy.up_to {
            continue;
        }
        progress(&format!("deleting snapshot {id}"));
        match delete(store, id, &spared) {
            Ok(()) => marked.deleted.push(id),
            Err(error) => marked.kept.push(format!("snapshot {id}: {error}")),
        }
    }
    store.sync()?;
    let mut state = records.state.value.clone();
    state.destroy = match marked.kept.is_empty() {
        true => None,
        false => Some(Destroy {
            phase: Phase::Waits,
            ..destroy
        }),
    };
    state.older.retain(|id| *id > destroy.up_to);
    state.newer.retain(|id| *id > destroy.up_to);
    Ok(records.state.write(store, state)?)
}

/// UUIDs that are never deleted, whatever a record says: what is live, the factory, the templates.
pub(super) fn spared<S: Store>(store: &S) -> Result<Vec<Uuid>> {
    let mut spared = Vec::new();
    for part in store.layout().all() {
        for place in [
            Place::Live(part),
            Place::Factory(part),
            Place::Template(part),
        ] {
            // A template of the system, say, has no place.
            if place.path(store.layout()).is_none() {
                continue;
            }
            match store.dataset(place) {
                Ok(Some(dataset)) => spared.push(dataset.identity.uuid),
                // Something that is no dataset has no UUID.
                Ok(None) | Err(StoreError::Place(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(spared)
}

/// Deletes one snapshot: GRUB forgets it first; without its manifest nothing promotes what is left of
/// it; then its datasets, as many as possible, then its directory.
fn delete<S: Store>(store: &mut S, id: u32, spared: &[Uuid]) -> Result<()> {
    let set = Set::Snapshot(id);
    strangers(store.remove(File::MenuCfg(set)))?;
    strangers(store.remove(File::Manifest(set)))?;
    let mut failed = None;
    for part in store.layout().all() {
        if let Err(error) = destroy(store, set.place(part), spared) {
            failed = failed.or(Some(error));
        }
    }
    match failed {
        Some(error) => Err(error),
        None => strangers(with_ballast(store, |store| store.remove_directory(id))),
    }
}

/// What lies in the way and is not what the store puts there: it is somebody's, and no further call
/// deletes it.
fn strangers<T>(result: std::result::Result<T, StoreError>) -> Result<T> {
    result.map_err(|error| match error {
        StoreError::Place(what) => Error::Destroy(format!(
            "{what}, which backstay did not make: move it out of {STORE}"
        )),
        error => error.into(),
    })
}

fn destroy<S: Store>(store: &mut S, place: Place, spared: &[Uuid]) -> Result<()> {
    let Some(dataset) = strangers(store.dataset(place))? else {
        return Ok(());
    };
    let uuid = dataset.identity.uuid;
    if spared.contains(&uuid) {
        return Err(Error::Destroy(format!("{uuid} is in use elsewhere")));
    }
    // A deletion wants room, too, before it gives any back.
    Ok(with_ballast(store, |store| store.destroy(place, uuid))?)
}

#[cfg(test)]
#[path = "good_tests.rs"]
mod tests;
