//! `backstay try` and `backstay mark-bad`: the live system on trial, by its administrator's wish.
//!
//! A promotion puts a system on trial by itself; an upgrade in place does not come by here, so whoever
//! made it says `try`.

use super::error::{Error, Result};
use super::request;
use crate::policy::trial::{self, TRIES};
use crate::record::Uuid;
use crate::record::layout::Part;
use crate::record::state::{Kexec, State, Trial};
use crate::store::Store;
use crate::store::place::{File, Place};
use crate::transaction::check;
use crate::transaction::execute::ARMED;
use crate::transaction::finish::with_ballast;
use crate::transaction::records::Records;
use serde::Serialize;

/// What is on trial from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// Starts until the machine falls back.
    pub tries: u8,
    /// Whether it is started with its own kernel by kexec, so that one that panics at once is counted.
    /// False where kexec failed on this machine.
    pub kexec: bool,
    /// The snapshot that the machine would fall back to today.
    pub fall_back_to: Option<u32>,
}

/// Puts the live system on trial. On disk on return.
pub fn begin<S: Store>(store: &mut S, records: &mut Records) -> Result<Tried> {
    request::idle(records)?;
    let live = live(store, records)?;
    if !check::marks_itself_good(store, Place::Live(Part::System))? {
        return Err(Error::NeverMarked);
    }
    let mut state = records.state.value.clone();
    state.good = None;
    state.trial = Some(Trial {
        system: live,
        tries: TRIES,
        begun: 0,
        fallback: false,
        clone_of: None,
        guarded: true,
    });
    // The hint before the trial: without one it only costs a start through the recovery kernel.
    with_ballast(store, |store| store.replace(File::Armed, ARMED))?;
    store.sync()?;
    let tried = Tried {
        tries: TRIES,
        kexec: state.kexec != Kexec::Fails,
        fall_back_to: fall_back_to(store, &state)?,
    };
    records.state.write(store, state)?;
    Ok(tried)
}

/// Leaves no start to the live system, which is on trial. On disk on return. Gives the snapshot that
/// the machine will fall back to.
pub fn mark_bad<S: Store>(store: &mut S, records: &mut Records) -> Result<Option<u32>> {
    request::idle(records)?;
    live(store, records)?;
    let mut state = records.state.value.clone();
    if state.live_trial().is_none() {
        return Err(Error::NotOnTrial);
    }
    trial::condemn(&mut state);
    let to = fall_back_to(store, &state)?;
    records.state.write(store, state)?;
    Ok(to)
}

/// The snapshot that the machine would fall back to if the live system failed.
pub fn fall_back_to<S: Store>(store: &S, state: &State) -> Result<Option<u32>> {
    let mut failed = state.clone();
    trial::condemn(&mut failed);
    Ok(
        match crate::transaction::catalogue::spent(store, &failed)? {
            Some(trial::Spent::FallBack(id)) => Some(id),
            _ => None,
        },
    )
}

fn live<S: Store>(store: &S, records: &Records) -> Result<Uuid> {
    let live = store.dataset(Place::Live(Part::System))?;
    let live = live.map(|dataset| dataset.identity.uuid);
    let recorded = records.state.value.live.system;
    live.filter(|live| *live == recorded).ok_or_else(|| {
        Error::NotLive(
            "the live system is not the one that the state records: 'backstay init --repair' takes it \
             over"
                .to_owned(),
        )
    })
}
