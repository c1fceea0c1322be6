//! `backstay upgrade`: the system upgraded as a whole, in place or in a clone, and undone as a whole where it fails.
//!
//! ```text
//!  in place   ready? ─▶ snapshot N ─▶ BEGUN: marked bad, roll back to N asked for ─▶ COMMAND ─┬─ failed ─▶ it stays BEGUN
//!                                     (one record, on disk before COMMAND starts)             └─ succeeded ─▶ on trial
//!  staged     ready? ─▶ clone under the next number ─▶ COMMAND in it ─┬─ failed ─▶ the clone is deleted
//!                       (journal: Preparing)                          └─ succeeded ─▶ sealed ─▶ forward is asked for
//!  both       the new version does not read the data: it is converted between the success and the last record, as
//!             'backstay convert' does it (docs/fencing.md); the next boot puts it in its place
//! ```
//! - `command.rs` what is run, and its signals; `room.rs` the chroot of a clone
//! - `in_place.rs`, `staged.rs` what is written, and when; docs/decisions/0037 says why so
//!
//! What a power cut leaves. In place: before BEGUN the live system as it was, perhaps with the snapshot; from then to the last
//! record the way back, which the next boot takes; then the trial. Staged: nothing until the commit record, which makes it a
//! whole snapshot; whether it was asked for is another record.

pub mod command;
pub mod in_place;
pub mod room;
pub mod staged;

use super::error::{Error, Result};
use super::{request, state, trial};
use crate::fence::words;
use crate::policy::intent::Intent;
use crate::policy::refusal::Refusal;
use crate::policy::terms::{Conversions, Terms};
use crate::record::request::UPGRADE;
use crate::record::state::{Consent, Request, State, Ticket, Verb};
use crate::store::Store;
use crate::transaction::plan::Plan;
use crate::transaction::records::Records;
use crate::transaction::{self, catalogue, fenced};

/// A ticket for a request of an upgrade, of random bytes.
pub fn ticket(random: Ticket) -> Ticket {
    let mut ticket = random;
    for (byte, mark) in ticket.iter_mut().zip(UPGRADE) {
        *byte = mark;
    }
    ticket
}

/// The snapshot to which a request goes back because an upgrade has not ended, or has failed; `None` for any other request.
pub fn undoes(request: &Request) -> Option<u32> {
    match request.verb {
        Verb::Rollback(to) if request.is_of_upgrade() => to,
        _ => None,
    }
}

/// Refuses where an upgrade could not be undone, or has nobody to say that it is good.
pub fn ready<S: Store>(store: &S, records: &Records, now: u64) -> Result<()> {
    request::idle(records)?;
    request::not_behind(store, records)?;
    let recorded = &records.state.value;
    if recorded.live_trial().is_some() {
        return Err(Error::OnTrial);
    }
    let (live, _) = trial::triable(store, records)?;
    if recorded.good != Some(live) {
        return Err(Error::NotGoodYet);
    }
    for kept in state::get(store, None)?.applications {
        if let Some(conversion) = kept.converting {
            return Err(Error::Converting {
                app: kept.app.to_string(),
                dataset: kept.dataset,
                conversion: conversion.to_string(),
            });
        }
    }
    match conversion(store, recorded, now)? {
        Needs::Nothing => Ok(()),
        // The snapshot would be of a version that the fence does not go back to.
        Needs::Conversion(_) | Needs::More(_) => Err(Error::UpgradeFenced),
    }
}

/// What the live version needs to run on the data as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// A conversion on which nothing is lost: its plan, as [`preferred`].
    Conversion(Box<Plan>),
    /// More than anybody has agreed to: what the fence says of it, lines.
    More(Vec<String>),
}

/// Asks the fence about the live version and the data as it is.
pub fn conversion<S: Store>(store: &S, state: &State, now: u64) -> Result<Needs> {
    let plan = preferred(store, &Intent::Convert, state, Consent::Refuse, now)?;
    Ok(match fenced::refusal(&plan) {
        Some(Refusal::NothingToConvert) => Needs::Nothing,
        None => Needs::Conversion(Box::new(plan)),
        Some(_) => Needs::More(said(&plan)),
    })
}

fn planned<S: Store>(
    store: &S,
    intent: &Intent,
    state: &State,
    terms: impl Into<Terms>,
    now: u64,
) -> core::result::Result<Plan, transaction::Error> {
    let state = catalogue::with_free_id(store, state)?;
    fenced::plan_for(store, intent, &state, terms, now)
}

/// The same of a change that is converted for in the running system, by all converters; before boot, by early ones, where it
/// converts what is not live data.
fn preferred<S: Store>(
    store: &S,
    intent: &Intent,
    state: &State,
    consent: Consent,
    now: u64,
) -> core::result::Result<Plan, transaction::Error> {
    let terms = Terms {
        conversions: Conversions::Running,
        ..Terms::from(consent)
    };
    let plan = planned(store, intent, state, terms, now)?;
    match plan.too_late() {
        Some(_) => planned(store, intent, state, consent, now),
        None => Ok(plan),
    }
}

/// What the fence says of a plan.
fn said(plan: &Plan) -> Vec<String> {
    plan.fence.as_ref().map(words::lines).unwrap_or_default()
}

/// Whether the fence lets a plan go without a loss.
fn goes_without_loss(plan: &Plan) -> bool {
    let goes = |it: &crate::fence::verdict::Verdict| it.goes && !it.loses();
    plan.fence.as_ref().is_none_or(goes)
}
