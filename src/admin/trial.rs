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
use crate::store::place::Place;
use crate::transaction::check;
use crate::transaction::execute::arm;
use crate::transaction::records::Records;
use serde::Serialize;

/// Why GRUB starts the system itself: another kernel would run before it, and change what the TPM has measured.
pub const UNLOCKED_BY_MEASUREMENT: &str = "a TPM unlocks its disks by what was measured";

/// What is on trial from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// Starts until the machine falls back.
    pub tries: u8,
    /// Why a kernel that panics before it has run anything is not counted; absent where it is.
    pub not_counted: Option<&'static str>,
    /// The snapshot that the machine would fall back to today.
    pub fall_back_to: Option<u32>,
}

/// Puts the live system on trial. On disk on return.
pub fn begin<S: Store>(store: &mut S, records: &mut Records) -> Result<Tried> {
    request::idle(records)?;
    let (live, guarded) = triable(store, records)?;
    let mut state = records.state.value.clone();
    let present = state.live_trial();
    state.good = None;
    state.trial = Some(Trial {
        // Nor does it fall back a second time because it is upgraded meanwhile.
        fallback: present.is_some_and(|trial| trial.fallback),
        data_of: present.and_then(|trial| trial.data_of),
        ..in_place(live, guarded)
    });
    // The hint before the trial: without one it only costs a start through the recovery kernel.
    if guarded {
        arm(store)?;
    }
    let tried = tried(store, &state)?;
    records.state.write(store, state)?;
    Ok(tried)
}

/// What the live system needs to be put on trial: it marks itself good, and it can boot. Gives its UUID, and whether GRUB
/// is to start the recovery kernel first, which counts.
pub(super) fn triable<S: Store>(store: &S, records: &Records) -> Result<(Uuid, bool)> {
    let live = live(store, records)?;
    let system = Place::Live(Part::System);
    if !check::marks_itself_good(store, system)? {
        return Err(Error::NeverMarked);
    }
    // What a promotion is refused for would be a start that fails.
    check::root(store, system)?;
    Ok((live, !check::is_unlocked_by_measurement(store, system)?))
}

/// The trial of a system that was changed in place.
pub(super) fn in_place(system: Uuid, guarded: bool) -> Trial {
    Trial {
        system,
        tries: TRIES,
        begun: 0,
        condemned: false,
        fallback: false,
        clone_of: None,
        data_of: None,
        guarded,
    }
}

/// What is said of the trial in a state.
pub(super) fn tried<S: Store>(store: &S, state: &State) -> Result<Tried> {
    let guarded = state.live_trial().is_some_and(|trial| trial.guarded);
    Ok(Tried {
        tries: TRIES,
        not_counted: if !guarded {
            Some(UNLOCKED_BY_MEASUREMENT)
        } else if state.kexec == Kexec::Fails {
            Some("kexec does not work on this machine")
        } else {
            None
        },
        fall_back_to: fall_back_to(store, state)?,
    })
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
    // GRUB may have started it by itself so far.
    arm(store)?;
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

/// The UUID of the live system, if that is the one that the state records.
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
