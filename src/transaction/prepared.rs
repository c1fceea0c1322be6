//! Data that was converted in the running system, for the request that waits.
//!
//! ```text
//!  running system   services stopped, mounts read-only, prepared/<dataset> cloned from what is live, converted, read-only
//!                   the request, which names the clones                                    from here on it is valid
//!  agent            [`holds`]? a clone of prepared/<dataset> changes places with what is live, with the rest of the change
//!                   no: nothing is done
//!  both             [`tidy`]: what no request names is destroyed
//! ```
//! What is prepared is good for its own request alone, and only while the data that it was made of is as it was: whatever
//! was written since would be lost. A power cut leaves clones that no request names, or a request whose clones are whole.

use super::Error;
use super::execute::Convert;
use super::finish::with_ballast;
use super::plan::{Conversion, Plan, Step};
use super::records::Records;
use crate::fence::history;
use crate::record::journal::Journal;
use crate::record::layout::Part;
use crate::record::state::Prepared;
use crate::store::place::Place;
use crate::store::{Access, Store, StoreError};
use crc::{CRC_32_ISO_HDLC, Crc};

/// A sum over what is run, in which version, for which application and in which order.
pub fn answer(conversions: &[Conversion]) -> u32 {
    let crc = Crc::<u32>::new(&CRC_32_ISO_HDLC);
    let mut digest = crc.digest();
    for it in conversions {
        let step = &it.step;
        let line = format!(
            "{:?} {} {} {} {} {:?}\n",
            it.dataset, it.app, step.from, step.to, step.shipped_by, step.command
        );
        digest.update(line.as_bytes());
    }
    digest.finalize()
}

impl Plan {
    /// When the plan was made: seconds since 1970, by a clock that may have been wrong.
    fn made(&self) -> u64 {
        self.after.last.map_or(0, |last| last.at)
    }

    /// The data that the plan converts of what is live: what can be prepared in the running system.
    pub fn convertible(&self) -> Vec<Part> {
        let of_live = |part: &Part| {
            let from_live = |(other, from): (Part, Option<Place>)| {
                other == *part && matches!(from, Some(Place::Live(_) | Place::Prepared(_)))
            };
            matches!(part, Part::Data(_)) && self.replaced().any(from_live)
        };
        let mut parts: Vec<Part> = self.conversions.iter().map(|it| it.dataset).collect();
        parts.sort_unstable();
        parts.dedup();
        parts.retain(of_live);
        parts
    }

    /// A converter that would have to be run before boot, and cannot be.
    pub fn too_late(&self) -> Option<&Conversion> {
        let run = self.steps.iter().filter_map(|step| match step {
            Step::Convert { at, nth } => Some((at.part(), self.conversions.get(*nth)?)),
            _ => None,
        });
        let convertible = self.convertible();
        let mut not_early = run.filter(|(part, it)| !it.step.early && !convertible.contains(part));
        not_early.next().map(|(_, it)| it)
    }
}

/// Makes clones of the live data that a plan converts, converts them, and makes them read-only. Nobody may write to that
/// data meanwhile, which is looked at in the end. On disk on return; after an error nothing is left of it, or [`tidy`] finds
/// it. The ballast is not given up: a running system may fill it at once.
pub fn make<S: Store>(
    store: &mut S,
    records: &Records,
    plan: &Plan,
    convert: Convert<'_, S>,
) -> Result<Prepared, Error> {
    // One that was interrupted lies in the same place.
    tidy(store, records)?;
    let made = make_all(store, plan, convert);
    if made.is_err() {
        tidied(store, records);
    }
    made
}

fn make_all<S: Store>(
    store: &mut S,
    plan: &Plan,
    convert: Convert<'_, S>,
) -> Result<Prepared, Error> {
    // What is still in memory of a subvolume inside would be written after the clone, and look like a later write.
    store.sync()?;
    let mut prepared = Prepared::new(answer(&plan.conversions));
    for part in plan.convertible() {
        let (live, clone) = (Place::Live(part), Place::Prepared(part));
        store.clone_to(live, clone, Access::Writable)?;
        if let Some(nested) = store.clone_nested(live, clone)?.first() {
            return Err(Error::NotCloned(nested.name()));
        }
        for conversion in plan.conversions.iter().filter(|it| it.dataset == part) {
            convert(store, clone, conversion)?;
            // So that data and state become live together.
            let (label, state) = conversion.label();
            let labelled = store.set_label(clone, &label, Some(state));
            labelled.map_err(|why| unlabelled(conversion, why))?;
            history::remember(store, clone, conversion, plan.id, plan.made());
        }
        prepared.insert(part, store.seal(clone)?);
    }
    // What somebody wrote and what is still in memory counts only then.
    store.sync()?;
    for part in prepared.parts() {
        if store.written_since(Place::Live(part), Place::Prepared(part))? {
            let name = store.layout().title(part).to_owned();
            return Err(Error::WrittenMeanwhile(name));
        }
    }
    Ok(prepared)
}

/// A converter that leaves a clone which takes no label (read-only, immutable) has failed.
pub(super) fn unlabelled(conversion: &Conversion, why: StoreError) -> Error {
    match why {
        StoreError::Place(why) | StoreError::ReadOnly(why) | StoreError::System(why) => {
            Error::NotConverted {
                app: conversion.app.to_string(),
                why: format!("its converter has left a clone that takes no label: {why}"),
            }
        }
        other => other.into(),
    }
}

/// Whether what was prepared for a plan is what the plan needs, and nothing was written since to what it was made of.
pub fn holds<S: Store>(store: &S, plan: &Plan, prepared: &Prepared) -> Result<bool, Error> {
    let parts: Vec<Part> = prepared.parts().collect();
    if answer(&plan.conversions) != prepared.answer || plan.convertible() != parts {
        return Ok(false);
    }
    for part in parts {
        let (live, clone) = (Place::Live(part), Place::Prepared(part));
        let (Some(source), Some(found)) = (store.dataset(live)?, store.dataset(clone)?) else {
            return Ok(false);
        };
        let is_it = found.read_only && prepared.get(part) == Some(found.identity);
        let of_live = found.parent == Some(source.identity.uuid);
        if !is_it || !of_live || store.written_since(live, clone)? {
            return Ok(false);
        }
    }
    Ok(plan.too_late().is_none())
}

/// What lies there although no request names it, with its parts.
pub fn left_over<S: Store>(store: &S, records: &Records) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::new();
    // What is open has used its request up, and may need the look of all this after a power cut.
    if records.journal.value != Journal::Closed {
        return Ok(parts);
    }
    let request = records.state.value.request;
    for part in store.layout().data_parts() {
        let found = match store.dataset(Place::Prepared(part)) {
            Ok(Some(found)) => found.identity.uuid,
            // A stranger's directory is nothing of ours.
            Ok(None) | Err(StoreError::Place(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let named = request.and_then(|it| it.prepared.get(part));
        if named.is_none_or(|named| named.uuid != found) {
            parts.push(part);
        }
    }
    Ok(parts)
}

/// Destroys what no request names. Says whether there was any. On disk on return.
pub fn tidy<S: Store>(store: &mut S, records: &Records) -> Result<bool, Error> {
    let parts = left_over(store, records)?;
    for part in &parts {
        let place = Place::Prepared(*part);
        if let Some(found) = store.dataset(place)? {
            with_ballast(store, |store| store.destroy(place, found.identity.uuid))?;
        }
    }
    if !parts.is_empty() {
        store.sync()?;
    }
    Ok(!parts.is_empty())
}

/// The same at the end of something that is done, well or not: what stays is destroyed next time.
pub fn tidied<S: Store>(store: &mut S, records: &Records) {
    if let Err(error) = tidy(store, records) {
        log::warn!("converted clones that nothing needs are still there: {error}");
    }
}
