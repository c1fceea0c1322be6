//! Everything of a plan that can fail, up to the commit record: the journal says what is going to be made, then it is made beside
//! what is live. After an error, or a power cut, it is undone.

use super::check;
use super::execute::{Hands, arm};
use super::factory::{self, uuid_at};
use super::finish::with_ballast;
use super::plan::{Ending, Plan, Step};
use super::prepared::unlabelled;
use super::records::Records;
use super::{Error, catalogue, fenced, fresh, named};
use crate::fence::history;
use crate::policy::intent::Intent;
use crate::record::Uuid;
use crate::record::block::TooLarge;
use crate::record::journal::{Committing, Journal, Label, MAX_PARTS, Made, Preparing, Swap};
use crate::record::layout::Part;
use crate::record::manifest::{Origin, title};
use crate::store::place::{Place, Set};
use crate::store::{Access, Nested, Store};
use heapless::Vec;

/// Everything that can fail. What it made is in the journal. Gives what is to be committed, and
/// [`Done::left_out`](super::execute::Done::left_out).
pub(super) fn prepare<S: Store>(
    store: &mut S,
    records: &mut Records,
    plan: &Plan,
    now: u64,
    hands: &mut Hands<'_, S>,
    progress: &mut dyn FnMut(&Step),
) -> Result<(Committing, std::vec::Vec<String>), Error> {
    let mut left_out = std::vec::Vec::new();
    if let Some(why) = fenced::refusal(plan) {
        return Err(Error::Fenced(why));
    }
    brings_data(store, plan)?;
    if plan.intent == Intent::MakeFactory
        && let Some(why) = store.factory_held()?
    {
        return Err(Error::FactoryHeld(why));
    }
    let label = label(store, records, plan, now)?;
    progress(&Step::Arm);
    arm(store)?;
    announce(store, records, plan)?;
    for step in &plan.steps {
        match step {
            Step::Clone { from, to, access } => {
                progress(step);
                let made = with_ballast(store, |store| store.clone_to(*from, *to, *access))?;
                note(store, records, *to, made.identity.uuid)?;
                if fresh::is_fresh(*from, *to) {
                    fresh::label(store, plan, *to)?;
                }
                // Of live data, because it is converted, while nobody writes to it.
                let of_data = matches!(
                    from,
                    Place::Snapshot(..) | Place::Live(Part::Data(_)) | Place::Prepared(_)
                );
                if of_data && *access == Access::Writable {
                    let nested = with_ballast(store, |store| store.clone_nested(*from, *to))?;
                    let from = path(store, *from);
                    let below = |nested: &Nested| format!("{from}/{}", nested.name());
                    left_out.extend(nested.iter().map(below));
                }
            }
            Step::Create(place) => {
                progress(step);
                let made = with_ballast(store, |store| store.create(*place))?;
                // Its name is on disk before the journal says that it is.
                store.sync()?;
                note(store, records, *place, made.identity.uuid)?;
            }
            Step::Fill(place) => {
                progress(step);
                (hands.fill)(store, *place)?;
            }
            Step::Convert { at, nth } => {
                progress(step);
                may_not_survive(store, records, plan)?;
                let missing = || Error::Missing("the converter that the plan names".to_owned());
                let conversion = plan.conversions.get(*nth).ok_or_else(missing)?;
                (hands.convert)(store, *at, conversion)?;
                // On the clone, so that data and state become live together.
                let (label, state) = conversion.label();
                with_ballast(store, |store| store.set_label(*at, &label, Some(state)))
                    .map_err(|why| unlabelled(conversion, why))?;
                history::remember(store, *at, conversion, plan.id, now);
            }
            Step::SealMade(id) => {
                progress(step);
                for part in store.layout().clone().set() {
                    with_ballast(store, |store| store.seal(Place::Snapshot(*id, part)))?;
                }
            }
            Step::Check(place) => {
                progress(step);
                check::root(store, *place)?;
                if plan.intent == Intent::MakeFactory {
                    check::apps(store, *place)?;
                }
            }
            Step::Commit => break,
            _ => {}
        }
    }
    // What was cloned into the clones is on disk before the commit says that all is there.
    store.sync()?;
    // What it calls itself is known now.
    let label = match plan.intent {
        Intent::Stage { .. } => staged_label(store, plan, label)?,
        _ => label,
    };
    let swaps = swaps(store, plan)?;
    let live = records.state.value.live.system;
    let system = swaps.iter().find(|swap| swap.live.part() == Part::System);
    let at = system.map_or(Place::Live(Part::System), |swap| swap.staged);
    let mut after = plan.completed(system.map_or(live, |swap| swap.new));
    // It could not end the trial, and would be left for no reason.
    if plan.arms() && !check::marks_itself_good(store, at)? {
        after.trial = None;
    } else if let Some(trial) = &mut after.trial
        && plan.arms()
        && check::is_unlocked_by_measurement(store, at)?
    {
        trial.guarded = false;
    }
    let lacks = |part| {
        swaps
            .iter()
            .any(|it| it.live.part() == part && it.old.is_none())
    };
    if store.layout().set().any(lacks) {
        // It was not live, so what is kept lacks it, and nothing can go back to that.
        after.older.retain(|id| *id != plan.id);
        after.newer.retain(|id| *id != plan.id);
    }
    let committing = Committing {
        id: plan.id,
        swaps,
        carries_nested: plan.steps.contains(&Step::CarryNested),
        outcome: plan.ending.outcome(label),
        after,
        stays_armed: plan.ending == Ending::Parked,
    };
    Ok((committing, left_out))
}

/// A converter is run, and nobody is there: should it take the machine down, the next start does not fall back to the same
/// snapshot again, and so on for ever. On disk on return. The commit record has the state without this.
fn may_not_survive<S: Store>(
    store: &mut S,
    records: &mut Records,
    plan: &Plan,
) -> Result<(), Error> {
    let Intent::FallBack { to } = plan.intent else {
        return Ok(());
    };
    let mut state = records.state.value.clone();
    state.remember_failed(to);
    records.state.write(store, state)
}

/// A set that kept data brings it back. A plan made while the manifest could not be read would go
/// back without it.
fn brings_data<S: Store>(store: &S, plan: &Plan) -> Result<(), Error> {
    let (Intent::Rollback { to } | Intent::Forward { to }) = plan.intent else {
        return Ok(());
    };
    let manifest = catalogue::manifest(store, Set::Snapshot(to))?
        .ok_or_else(|| Error::Missing(format!("a readable manifest of snapshot {to}")))?;
    let replaced: std::vec::Vec<Part> = plan.replaced().map(|(part, _)| part).collect();
    let lost = store
        .layout()
        .data_parts()
        .find(|part| manifest.brings(*part) && !replaced.contains(part));
    match lost {
        Some(part) => Err(missing(store, Place::Snapshot(to, part))),
        None => Ok(()),
    }
}

/// Writes into the journal what is going to be made, before the first of it is.
fn announce<S: Store>(store: &mut S, records: &mut Records, plan: &Plan) -> Result<(), Error> {
    let mut made = Vec::new();
    for step in &plan.steps {
        let (at, parent) = match step {
            Step::Clone { from, to, .. } => {
                let source = store.dataset(*from)?.ok_or_else(|| missing(store, *from))?;
                (*to, source.identity.uuid)
            }
            Step::Create(at) => (*at, Uuid::NONE),
            _ => continue,
        };
        if store.dataset(at)?.is_some() {
            return Err(Error::Occupied(path(store, at)));
        }
        let one = Made {
            at,
            parent,
            uuid: None,
        };
        made.push(one).map_err(|_| TooLarge)?;
    }
    if made.is_empty() {
        return Ok(());
    }
    let preparing = Journal::Preparing(Box::new(Preparing { id: plan.id, made }));
    if let Err(error) = records.journal.write(store, preparing) {
        // It may be on disk all the same: then it would be open, and GRUB not armed.
        let closed = records.journal.value.clone();
        return Err(match records.journal.write_anew(store, closed) {
            Ok(()) => error,
            Err(_) => Error::Uncertain(Box::new(error)),
        });
    }
    with_ballast(store, |store| store.make_directory(plan.id))?;
    Ok(())
}

/// Writes the UUID of a clone that was made into the journal.
fn note<S: Store>(
    store: &mut S,
    records: &mut Records,
    at: Place,
    uuid: Uuid,
) -> Result<(), Error> {
    let mut journal = records.journal.value.clone();
    if let Journal::Preparing(preparing) = &mut journal {
        for one in preparing.made.iter_mut().filter(|one| one.at == at) {
            one.uuid = Some(uuid);
        }
    }
    records.journal.write(store, journal)
}

fn swaps<S: Store>(store: &S, plan: &Plan) -> Result<Vec<Swap, MAX_PARTS>, Error> {
    // What was parked and is not there any more has returned; only a lost journal forgets that.
    let parked = match plan.intent {
        Intent::Return { parked } => catalogue::manifest(store, Set::Snapshot(parked))?,
        _ => None,
    };
    let mut swaps = Vec::new();
    if plan.intent == Intent::MakeFactory {
        let live = Place::Factory(Part::System);
        let staged = Place::Snapshot(plan.id, Part::System);
        let new = store
            .dataset(staged)?
            .ok_or_else(|| missing(store, staged))?;
        let swap = Swap {
            live,
            staged,
            old: uuid_at(store, live)?,
            new: new.identity.uuid,
        };
        swaps.push(swap).map_err(|_| TooLarge)?;
    }
    for step in &plan.steps {
        let Step::Exchange { live, staged } = step else {
            continue;
        };
        let old = store.dataset(*live)?.map(|dataset| dataset.identity.uuid);
        let new = store
            .dataset(*staged)?
            .ok_or_else(|| missing(store, *staged))?
            .identity
            .uuid;
        if parked
            .as_ref()
            .is_some_and(|it| it.uuid(staged.part()).is_some_and(|uuid| uuid != new))
        {
            continue;
        }
        // A missing live dataset is replaced by a rename; a first boot never exchanges anything.
        if old.is_some() && plan.intent == Intent::FirstBoot {
            let place = path(store, *live);
            return Err(Error::Third {
                place,
                found: named(old),
            });
        }
        for place in [*live, *staged] {
            movable(store, place)?;
        }
        let swap = Swap {
            live: *live,
            staged: *staged,
            old,
            new,
        };
        swaps.push(swap).map_err(|_| TooLarge)?;
    }
    Ok(swaps)
}

fn label<S: Store>(store: &S, records: &Records, plan: &Plan, now: u64) -> Result<Label, Error> {
    if plan.intent == Intent::MakeFactory {
        return factory::label(store, now);
    }
    let live = Place::Live(Part::System);
    let version = match store.dataset(live)? {
        // Only for the title: what is to be replaced may be damaged, and this may be the way out.
        Some(_) => check::version(store, live).ok().flatten(),
        None => None,
    };
    let (origin, why) = match (&plan.intent, &plan.ending) {
        (Intent::Snapshot { title, .. }, _) => (Origin::Asked, title.to_string()),
        (Intent::Stage { title }, _) => (Origin::Upgraded, title.to_string()),
        (Intent::Rollback { to }, _) => (Origin::Replaced, format!("before roll back to {to}")),
        (Intent::FallBack { to }, _) => (
            Origin::DidNotStart,
            format!("did not start, fell back to {to}"),
        ),
        (Intent::Forward { to }, _) => (Origin::Replaced, format!("before forward to {to}")),
        (Intent::Select { id }, _) => (Origin::Replaced, format!("parked, {id} is booted once")),
        (Intent::Convert, _) => (Origin::Replaced, "before its data was converted".to_owned()),
        (Intent::Return { .. }, _) => (Origin::BootedOnce, "was booted once".to_owned()),
        (_, Ending::Sealed(origin)) => (*origin, "before reset".to_owned()),
        _ => (Origin::Built, String::new()),
    };
    let state = &records.state.value;
    let is_good = match store.dataset(live)? {
        Some(dataset) => state.good == Some(dataset.identity.uuid) && state.live_trial().is_none(),
        None => false,
    };
    let title = match version {
        Some(version) if why.is_empty() => title(&version),
        Some(version) => title(&format!("{version}, {why}")),
        None => title(&why),
    };
    Ok(Label {
        title,
        origin,
        created: now,
        clone_of: plan.was_clone_of,
        good: is_good,
        aside: plan.aside,
    })
}

/// The label of a version that was made in a clone: it never ran, so it is not good.
fn staged_label<S: Store>(store: &S, plan: &Plan, label: Label) -> Result<Label, Error> {
    let system = Place::Snapshot(plan.id, Part::System);
    let version = check::version(store, system)?;
    let why = match &plan.intent {
        Intent::Stage { title } => title.as_str(),
        _ => "",
    };
    Ok(Label {
        title: match version {
            Some(version) => title(&format!("{version}, {why}")),
            None => title(why),
        },
        good: false,
        ..label
    })
}

/// Refuses a dataset that cannot change places: after the commit nothing could be finished.
pub fn movable<S: Store>(store: &S, place: Place) -> Result<(), Error> {
    match store.held(place)? {
        Some(why) => Err(Error::Held(path(store, place), why)),
        None => Ok(()),
    }
}

/// Refuses a plan that clones what is not there, before anything is done.
pub fn sources<S: Store>(store: &S, plan: &Plan) -> Result<(), Error> {
    for step in &plan.steps {
        if let Step::Clone { from, .. } = step
            && store.dataset(*from)?.is_none()
        {
            return Err(missing(store, *from));
        }
    }
    Ok(())
}

fn missing<S: Store>(store: &S, place: Place) -> Error {
    match place {
        Place::Template(_) => Error::NoTemplate(path(store, place)),
        _ => Error::Missing(path(store, place)),
    }
}

fn path<S: Store>(store: &S, place: Place) -> String {
    place
        .path(store.layout())
        .unwrap_or_else(|| format!("{place:?}"))
}
