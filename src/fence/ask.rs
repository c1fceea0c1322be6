//! The question that a plan is to the fence: made of the plan and of what lies in the store.
//!
//! ```text
//!  what the plan puts in the place of a dataset      is to the fence
//!  a member of a sealed set, or of a parked one      the data of that version, kept since then
//!  a template; for the configuration, defaults       fresh
//!  nothing, or a clone of what is live               what is live; it could go back to what the target set has of it
//! ```
//! Nothing is written and nothing is run. Early boot waits for the answer, so what costs is read only where it counts:
//! the target's declarations and the labels first, which is all there is on a machine without either. What other
//! versions declare is converters, and is read where the data is not as the target needs it.

use super::infer::infer;
use super::labels;
use super::names::Version;
use super::question::{By, Consent, Datasets, Fate, Kept, Labels, Question, Versions};
use super::survey::Survey;
use super::verdict::Verdict;
use super::{declaration::CONFIG, question::Offer};
use crate::policy::intent::Intent;
use crate::record::layout::{Layout, Name, Part};
use crate::store::Store;
use crate::store::place::{Place, Set};
use crate::transaction::plan::Plan;
use crate::transaction::{Error, catalogue};
use std::rc::Rc;

/// Asks whether the version that a plan leads to lives with the data as the plan leaves it. `None` for a plan that
/// changes nothing that is live.
pub fn ask<S: Store>(
    store: &S,
    survey: &Survey,
    plan: &Plan,
    by: By,
    consent: Consent,
) -> Result<Option<Verdict>, Error> {
    let Some(target) = target(&plan.intent) else {
        return Ok(None);
    };
    let Some(mut offer) = survey.offer(store, target)? else {
        let path = target.place().path(store.layout());
        return Err(Error::Missing(path.unwrap_or_else(|| target.to_string())));
    };
    let datasets = match datasets(store, plan, target) {
        // A version that declares nothing goes with any data, also with what cannot be read: it may be the way out of that.
        Err(error) if offer.apps.is_empty() => {
            log::warn!("the state of the data is not known: {error}");
            Datasets::new()
        }
        other => other?,
    };
    let converts = plan.intent == Intent::Convert;
    match (&plan.intent, target) {
        (Intent::Return { .. }, _) => ran_before(&mut offer, &datasets),
        (_, Version::Live) if !converts => runs_already(&mut offer, &datasets),
        _ => {}
    }
    let answer = |versions: &Versions, consent| {
        infer(&Question {
            versions,
            target,
            datasets: &datasets,
            by,
            consent,
        })
    };
    let verdict = judged(store, survey, target, offer, |versions| {
        // Whoever asks for a conversion agrees to one that loses nothing.
        let agreed = (converts && consent == Consent::Refuse)
            .then(|| answer(versions, Consent::Convert))
            .filter(|verdict| !verdict.loses());
        agreed.unwrap_or_else(|| answer(versions, consent))
    });
    Ok(Some(verdict?))
}

/// Asks whether what is live could return after a boot once that leaves the data alone: what is asked at the return, but of
/// the data as it is now.
pub fn ask_return<S: Store>(store: &S, survey: &Survey, by: By) -> Result<Verdict, Error> {
    let target = Version::Live;
    let mut offer = survey.offer(store, target)?.unwrap_or_default();
    let mut datasets = Datasets::new();
    // As there, what declares nothing goes with any data.
    if !offer.apps.is_empty() {
        for (name, part) in holds_data(store.layout()) {
            datasets.insert(name, stays(store, part, target)?);
        }
    }
    ran_before(&mut offer, &datasets);
    judged(store, survey, target, offer, |versions| {
        infer(&Question {
            versions,
            target,
            datasets: &datasets,
            by,
            consent: Consent::Refuse,
        })
    })
}

/// The answer to a question, with as few versions read as it takes.
fn judged<S: Store>(
    store: &S,
    survey: &Survey,
    target: Version,
    offer: Offer,
    answer: impl Fn(&Versions) -> Verdict,
) -> Result<Verdict, Error> {
    let mut few = Versions::new();
    if let Some(live) = survey.offer(store, Version::Live)? {
        few.insert(Version::Live, live);
    }
    few.insert(target, offer);
    let verdict = answer(&few);
    // Nothing is to be done, so it does not matter which converters there are.
    if verdict.possible.contains(&Consent::Refuse) {
        return Ok(verdict);
    }
    let mut all = survey.runnable(store)?;
    if let Some(offer) = few
        .remove(&target)
        .filter(|it| all.get(&target) != Some(it))
    {
        Rc::make_mut(&mut all).insert(target, offer);
    }
    Ok(answer(&all))
}

/// The version whose programs would run on the data; `None` where nothing that is live changes.
fn target(intent: &Intent) -> Option<Version> {
    match intent {
        Intent::MakeFactory | Intent::Snapshot { .. } | Intent::Stage { .. } => None,
        Intent::ResetConfig { .. } | Intent::Convert => Some(Version::Live),
        Intent::Return { parked } => Some(Version::Snapshot(*parked)),
        Intent::Rollback { .. }
        | Intent::FallBack { .. }
        | Intent::Forward { .. }
        | Intent::Select { .. }
        | Intent::ResetSystem { .. }
        | Intent::ResetEverything
        | Intent::FirstBoot => intent.source().map(Version::from),
    }
}

impl From<Set> for Version {
    fn from(set: Set) -> Version {
        match set {
            Set::Snapshot(id) => Version::Snapshot(id),
            Set::Factory => Version::Factory,
        }
    }
}

/// The version that stays after a reset is not judged by data that stays: it runs on that, well or not, and what is reset
/// may be what mends it.
fn runs_already(offer: &mut Offer, datasets: &Datasets) {
    offer.faults.clear();
    offer.apps.retain(|_, declared| {
        let dataset = declared.as_ref().ok().map(|it| &it.dataset);
        let fate = dataset.and_then(|name| datasets.get(name));
        matches!(fate, Some(Fate::Exchanged(_) | Fate::Fresh))
    });
}

/// What was parked was live on this data before something else was booted once. Only what that may have done to the data
/// since keeps it from returning: a state that it does not read, a conversion that was interrupted. That the data never had
/// a label, that there is no such dataset, or that a declaration of its own cannot be read, was no different then.
fn ran_before(offer: &mut Offer, datasets: &Datasets) {
    offer.faults.clear();
    offer.apps.retain(|_, declared| {
        let dataset = declared.as_ref().ok().map(|it| &it.dataset);
        dataset.is_some_and(|name| datasets.contains_key(name))
    });
    for declared in offer.apps.values_mut().flatten() {
        declared.reads_unknown = true;
    }
}

/// What each version declares whose programs may be run: the live one, the sound ones, and the one that is asked about.
pub fn versions<S: Store>(store: &S, target: Option<Version>) -> Result<Versions, Error> {
    let survey = Survey::default();
    let mut versions = Rc::unwrap_or_clone(survey.runnable(store)?);
    if let Some(target) = target
        && let Some(offer) = survey.offer(store, target)?
    {
        versions.insert(target, offer);
    }
    Ok(versions)
}

/// The datasets that can hold data of applications, as declarations call them.
pub fn holds_data(layout: &Layout) -> impl Iterator<Item = (Name, Part)> + '_ {
    let config = layout.config.iter().filter_map(|_| {
        let name = Name::try_from(CONFIG).ok()?;
        Some((name, Part::Config))
    });
    // No declaration can mean a data dataset of that name.
    let data = layout.data_parts().filter_map(|part| {
        let name = layout.dataset(part)?.name.clone();
        (name != CONFIG).then_some((name, part))
    });
    config.chain(data)
}

/// The labels of what is live; none where nothing is.
pub fn live<S: Store>(store: &S, part: Part) -> Result<Labels, Error> {
    let place = Place::Live(part);
    Ok(match store.dataset(place)? {
        Some(_) => labels::read(store, place)?,
        None => Labels::new(),
    })
}

pub(super) fn datasets<S: Store>(
    store: &S,
    plan: &Plan,
    target: Version,
) -> Result<Datasets, Error> {
    let mut datasets = Datasets::new();
    for (name, part) in holds_data(store.layout()) {
        let replaced = plan.replaced().find(|(other, _)| *other == part);
        let fate = match replaced {
            // What was parked comes back from where it waits.
            Some((_, None)) => {
                Fate::Exchanged(kept(store, target, Place::Snapshot(plan.id, part))?)
            }
            Some((_, Some(from))) => match (from, from.part()) {
                (Place::Template(_), _) | (_, Part::Defaults) => Fate::Fresh,
                (Place::Snapshot(id, _), _) => {
                    Fate::Exchanged(kept(store, Version::Snapshot(id), from)?)
                }
                (Place::Factory(_), _) => Fate::Exchanged(kept(store, Version::Factory, from)?),
                (Place::Live(part) | Place::Prepared(part), _) => stays(store, part, target)?,
            },
            None => stays(store, part, target)?,
        };
        datasets.insert(name, fate);
    }
    Ok(datasets)
}

fn stays<S: Store>(store: &S, part: Part, target: Version) -> Result<Fate, Error> {
    Ok(Fate::Stays {
        labels: live(store, part)?,
        kept: own(store, part, target)?,
    })
}

/// What the target set has of a dataset, if that is what it was when it was sealed.
fn own<S: Store>(store: &S, part: Part, target: Version) -> Result<Option<Kept>, Error> {
    let set = match target {
        Version::Live => return Ok(None),
        Version::Snapshot(id) => Set::Snapshot(id),
        Version::Factory => Set::Factory,
    };
    let recorded = catalogue::manifest(store, set)?.and_then(|it| it.identity(part));
    let Some(recorded) = recorded else {
        return Ok(None);
    };
    let place = set.place(part);
    // What is wrong with it costs the way back by it, and no more.
    match store.dataset(place) {
        Ok(Some(found)) if found.read_only && found.identity == recorded => {
            Ok(Some(kept(store, target, place)?))
        }
        _ => Ok(None),
    }
}

fn kept<S: Store>(store: &S, of: Version, place: Place) -> Result<Kept, Error> {
    let set = match of {
        Version::Live => None,
        Version::Snapshot(id) => Some(Set::Snapshot(id)),
        Version::Factory => Some(Set::Factory),
    };
    let manifest = set.map_or(Ok(None), |set| catalogue::manifest(store, set))?;
    Ok(Kept {
        of,
        since: manifest.map(|manifest| manifest.created),
        labels: labels::read(store, place)?,
    })
}
