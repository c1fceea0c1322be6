//! An upgrade in place: what is written before COMMAND is run, and what after it.
//!
//! [`begin`] writes one record: the live system is marked bad, and its rollback to the snapshot waits. Nothing has to be done
//! for COMMAND to be undone, be it that it fails, that the power goes, or that a package's script restarts the machine:
//! the record stays as it is. Only success takes it back ([`end`]). The mark is for the case that the rollback does
//! not come to pass (the fence refuses it, somebody withdraws it): then the machine falls back by itself, and no timer
//! and no unit marks good what is half upgraded. Where the new version does not read its data, it lasts until that is converted.

use super::super::error::Result;
use super::super::request::{disarm_stale, not_behind, write_down};
use super::super::trial::{self, Tried};
use super::{Needs, conversion, goes_without_loss, planned, said, undoes};
use crate::fence::labels;
use crate::policy::{self, intent::Intent};
use crate::record::layout::Part;
use crate::record::state::{Consent, Prepared, Request, State, Ticket, Trial, Verb};
use crate::store::Store;
use crate::store::place::{Place, Set};
use crate::transaction::catalogue;
use crate::transaction::execute::arm;
use crate::transaction::fenced;
use crate::transaction::plan::Plan;
use crate::transaction::records::Records;
use serde::Serialize;

/// Gives the spare its second name: see [`super::super::request::submit`].
pub type LinkSpare<'a> = &'a dyn Fn() -> std::io::Result<()>;

/// Converts clones of the live data for a plan, in the running system, and holds that still: what it made, or nothing where
/// the next boot is to do it. After an error nothing is held.
pub type Convert<'a, S> = &'a mut dyn FnMut(&mut S, &Records, &Plan) -> Result<Prepared>;

/// An upgrade that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The snapshot from before it.
    pub before: u32,
    /// Of the request that undoes it.
    pub ticket: Ticket,
    /// Seconds since 1970.
    pub now: u64,
}

/// What became of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It succeeded, and is on trial.
    OnTrial(Tried),
    /// It succeeded, and is on trial once the next boot has put converted data in the place of what it does not read: what
    /// was converted already, or else is then.
    Converts(Tried, Box<Prepared>),
    /// It failed.
    Undone(Undone),
    /// It failed before it had changed anything: why.
    Unchanged(String),
}

/// The next boot goes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Undone {
    /// Why.
    pub why: String,
    /// The snapshot; `None` where another request waits, which somebody made meanwhile.
    pub back_to: Option<u32>,
    /// Whether the data goes back, too, because the version there does not read it as it is.
    pub with_data: bool,
    /// What the fence says, where it refuses that; else empty.
    pub refused: Vec<String>,
}

/// Writes that the live system goes back to the snapshot unless this is taken back. On disk on return: only then may
/// anything of the system be changed.
pub fn begin<S: Store>(
    store: &mut S,
    records: &mut Records,
    begun: Begun,
    link: LinkSpare<'_>,
) -> Result<()> {
    not_behind(store, records)?;
    let (live, guarded) = trial::triable(store, records)?;
    let consent = match held(store, begun.before)?.is_empty() {
        true => Consent::Refuse,
        // It counts only where the version there does not read the data as it is by then.
        false => Consent::Restore,
    };
    let mut state = records.state.value.clone();
    mark(&mut state, trial::in_place(live, guarded));
    state.request = Some(begun.request(consent));
    write_down(store, records, state, link)
}

impl Begun {
    fn request(self, consent: Consent) -> Request {
        Request {
            ticket: self.ticket,
            verb: Verb::Rollback(Some(self.before)),
            consent,
            // What upgrading agrees to loses nothing by a conversion.
            loss: false,
            created: self.now,
            prepared: Prepared::NONE,
        }
    }

    fn is_own(self, request: &Request) -> bool {
        request.ticket == self.ticket && undoes(request) == Some(self.before)
    }
}

/// What somebody asked for since it was begun.
fn others(records: &Records, begun: Begun) -> Option<Request> {
    let request = records.state.value.request;
    request.filter(|it| !begun.is_own(it))
}

/// No start is left to the live system, and it is not good.
fn mark(state: &mut State, trial: Trial) {
    state.good = None;
    state.trial = Some(Trial {
        condemned: true,
        ..trial
    });
}

/// Says that COMMAND has succeeded. The caller has brought to disk what it wrote. What cannot be started, or cannot run on
/// the data, not even converted, has failed all the same. On disk on return; after an error, too, what `convert` holds is held.
///
/// Until its data is converted no start is left to the new version, so that whatever becomes of that it is not started on
/// data that it does not read: [`crate::policy::left::is_left`].
pub fn end<S: Store>(
    store: &mut S,
    records: &mut Records,
    begun: Begun,
    link: LinkSpare<'_>,
    convert: Convert<'_, S>,
) -> Result<Ended> {
    let (live, guarded) = match trial::triable(store, records) {
        Ok(fit) => fit,
        Err(why) => {
            return failed(store, records, begun, &why.to_string(), link).map(Ended::Undone);
        }
    };
    let prepared = match conversion(store, &records.state.value, begun.now)? {
        Needs::Nothing => Ok(None),
        Needs::More(lines) => Err(format!(
            "the new version cannot run on the data as it is, and no conversion makes it so without a loss:\n{}",
            lines.join("\n")
        )),
        Needs::Conversion(_) if others(records, begun).is_some() => {
            Err("its data has to be converted, and something else waits".to_owned())
        }
        Needs::Conversion(plan) => match convert(store, records, &plan) {
            Ok(prepared) => Ok(Some(prepared)),
            Err(error) => Err(format!("its data could not be converted: {error}")),
        },
    };
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(why) => return failed(store, records, begun, &why, link).map(Ended::Undone),
    };
    let held = held(store, begun.before)?;
    let differs = labels_differ(store, begun.before, &held)?;
    let mut state = records.state.value.clone();
    state.good = None;
    state.trial = Some(Trial {
        // What a script made of the data is not for the old version. What a conversion makes of it is kept with that.
        data_of: differs.then_some(begun.before),
        ..trial::in_place(live, guarded)
    });
    state.request = others(records, begun);
    let tried = trial::tried(store, &state)?;
    if let Some(prepared) = prepared {
        policy::trial::condemn(&mut state);
        state.request = Some(Request {
            verb: Verb::Convert,
            prepared,
            ..begun.request(Consent::Refuse)
        });
        write_down(store, records, state, link)?;
        return Ok(Ended::Converts(tried, Box::new(prepared)));
    }
    // Until the record it says what it said, or this, which does the same.
    if state.request.is_none() {
        arm(store)?;
    }
    records.state.write(store, state)?;
    disarm_stale(store, records)?;
    Ok(Ended::OnTrial(tried))
}

/// Says that COMMAND has failed, for this reason: [`begin`]'s record stays, and is made good where somebody took it back
/// meanwhile. On disk on return.
pub fn failed<S: Store>(
    store: &mut S,
    records: &mut Records,
    begun: Begun,
    why: &str,
    link: LinkSpare<'_>,
) -> Result<Undone> {
    let mut state = records.state.value.clone();
    let present = state.live_trial();
    mark(
        &mut state,
        present.unwrap_or(trial::in_place(records.state.value.live.system, true)),
    );
    let others = others(records, begun);
    let (consent, refused) = consent(store, &state, begun)?;
    let with_data = consent == Consent::Restore && refused.is_empty();
    if others.is_none() {
        // Before the command only this was known: what is held.
        let consent = match (refused.is_empty(), state.request) {
            (true, _) | (_, None) => consent,
            (false, Some(request)) => request.consent,
        };
        state.request = Some(begun.request(consent));
    }
    if state != records.state.value {
        write_down(store, records, state, link)?;
    }
    Ok(Undone {
        why: why.to_owned(),
        back_to: others.is_none().then_some(begun.before),
        with_data,
        refused,
    })
}

/// Says that COMMAND has failed and has changed nothing: the record is taken back, and the live system is as good as it was. On
/// disk on return.
pub fn unchanged<S: Store>(store: &mut S, records: &mut Records, begun: Begun) -> Result<()> {
    let (live, _) = trial::triable(store, records)?;
    let mut state = records.state.value.clone();
    state.good = Some(live);
    state.trial = None;
    state.request = others(records, begun);
    records.state.write(store, state)?;
    disarm_stale(store, records)?;
    Ok(())
}

/// The least that has to be agreed to for the way back, of what is agreed to by upgrading: no loss but of what came since the
/// snapshot. Else what the fence says, with the least.
fn consent<S: Store>(store: &S, state: &State, begun: Begun) -> Result<(Consent, Vec<String>)> {
    let intent = Intent::Rollback { to: begun.before };
    let mut lines = Vec::new();
    for consent in [Consent::Refuse, Consent::Restore, Consent::Convert] {
        let plan = planned(store, &intent, state, consent, begun.now)?;
        let goes = fenced::refusal(&plan).is_none();
        if goes && (consent == Consent::Restore || goes_without_loss(&plan)) {
            return Ok((consent, Vec::new()));
        }
        if consent == Consent::Refuse {
            lines = said(&plan);
        }
    }
    Ok((Consent::Refuse, lines))
}

/// The data that a snapshot holds.
fn held<S: Store>(store: &S, id: u32) -> Result<Vec<Part>> {
    let manifest = catalogue::manifest(store, Set::Snapshot(id))?;
    let has = |part: &Part| {
        manifest
            .as_ref()
            .is_some_and(|it| it.identity(*part).is_some())
    };
    Ok(store.layout().data_parts().filter(has).collect())
}

/// Whether the state of any application's data is another one than in the snapshot.
fn labels_differ<S: Store>(store: &S, id: u32, held: &[Part]) -> Result<bool> {
    for part in held {
        let live = labels::read(store, Place::Live(*part))?;
        if live != labels::read(store, Place::Snapshot(id, *part))? {
            return Ok(true);
        }
    }
    Ok(false)
}
