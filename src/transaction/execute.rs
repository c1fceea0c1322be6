//! Carries a plan out.

use super::check;
use super::factory::{self, uuid_at};
use super::finish::{finish, with_ballast};
use super::plan::{Conversion, Ending, Plan, Step};
use super::records::Records;
use super::recover::undo;
use super::{Error, catalogue, fenced, fresh, named};
use crate::fence::history;
use crate::policy::intent::Intent;
use crate::record::Uuid;
use crate::record::block::TooLarge;
use crate::record::journal::{Committing, Journal, Label, MAX_PARTS, Made, Preparing, Swap};
use crate::record::layout::Part;
use crate::record::manifest::{Origin, title};
use crate::record::state::State;
use crate::store::place::{File, Place, Set};
use crate::store::{Access, Nested, Store};
use heapless::Vec;

/// GRUB sources it while a transaction is open; see grub-entries/menu.cfg.
pub const ARMED: &[u8] = b"set backstay_armed=1\n";

/// So many subvolumes are named one by one: a serial line is slow.
pub const TOLD: usize = 10;

/// Runs a converter on the clone of the data at a place. Where it fails, the clone goes with all that was prepared.
pub type Convert<'a, S> = &'a mut dyn FnMut(&mut S, Place, &Conversion) -> Result<(), Error>;

/// Fills the empty dataset at a place.
pub type Fill<'a, S> = &'a mut dyn FnMut(&mut S, Place) -> Result<(), Error>;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Nested subvolumes that stayed with what was live, by their paths below the top level.
    pub left_behind: std::vec::Vec<String>,
    /// Nested subvolumes that could not be cloned out of the snapshot, by their paths below the top
    /// level: they are still there, and the result has an empty directory for each. Not known where a
    /// power cut came after the commit.
    pub left_out: std::vec::Vec<String>,
}

impl Done {
    /// What to say of both, the change being this one.
    pub fn lines(&self, id: u32) -> std::vec::Vec<String> {
        let stays = |path: &String| {
            format!("the subvolume {path} stays with the former system (snapshot {id})")
        };
        let out =
            |path: &String| format!("the subvolume {path} is not brought back: it stays there");
        let mut lines = some(&self.left_out, out);
        lines.extend(some(&self.left_behind, stays));
        lines
    }
}

/// As many lines as a serial line bears.
fn some(paths: &[String], line: impl Fn(&String) -> String) -> std::vec::Vec<String> {
    let told = paths.iter().take(TOLD).map(line);
    let more = paths.len().saturating_sub(TOLD);
    told.chain((more > 0).then(|| format!("and {more} more")))
        .collect()
}

/// Carries a plan out, telling `progress` each step before it is done. After an error nothing
/// live was touched, unless the error came after the commit: then the next start finishes it.
///
/// The request in the state, if there is one, is taken out first and durably. With it goes that a
/// destruction that waits is suspended, if this change would withdraw it: the change may fail.
pub fn execute<S: Store>(
    store: &mut S,
    records: &mut Records,
    plan: &Plan,
    now: u64,
    progress: &mut dyn FnMut(&Step),
) -> Result<Done, Error> {
    execute_with(store, records, plan, now, &mut no_image, progress)
}

/// Fills nothing: for plans that have nothing to fill.
pub fn no_image<S: Store>(_: &mut S, _: Place) -> Result<(), Error> {
    Err(Error::Image("there is no default tarball".to_owned()))
}

/// Converts nothing: for plans that have nothing to convert.
pub fn no_converter<S: Store>(_: &mut S, _: Place, conversion: &Conversion) -> Result<(), Error> {
    Err(Error::NotConverted {
        app: conversion.app.to_string(),
        why: "no converter can be run here".to_owned(),
    })
}

/// The same for a plan that fills datasets: `fill` puts into the empty one at a place what belongs there.
pub fn execute_with<S: Store>(
    store: &mut S,
    records: &mut Records,
    plan: &Plan,
    now: u64,
    fill: Fill<'_, S>,
    progress: &mut dyn FnMut(&Step),
) -> Result<Done, Error> {
    let convert = &mut no_converter;
    let mut hands = Hands { fill, convert };
    execute_by(store, records, plan, now, &mut hands, progress)
}

/// What a plan needs besides the store.
pub struct Hands<'a, S> {
    /// For [`Step::Fill`].
    pub fill: Fill<'a, S>,
    /// For [`Step::Convert`].
    pub convert: Convert<'a, S>,
}

/// The same for a plan that fills datasets or converts data.
pub fn execute_by<S: Store>(
    store: &mut S,
    records: &mut Records,
    plan: &Plan,
    now: u64,
    hands: &mut Hands<'_, S>,
    progress: &mut dyn FnMut(&Step),
) -> Result<Done, Error> {
    if records.journal.value != Journal::Closed {
        return Err(Error::Open);
    }
    // The ticket is used up. Also shows, before anything is done, that the state can be written.
    // A first boot is known by a state that was never written: it stays so until the end.
    if records.state.seq() > 0 {
        let mut state = records.state.value.clone();
        state.use_up_request();
        if let Some(verb) = plan.intent.verb() {
            state.attempted(verb);
        }
        records.state.write_anew(store, state)?;
    }
    let before = records.state.value.clone();
    let left_out = match commit(store, records, plan, now, hands, progress) {
        Ok(left_out) => left_out,
        Err(error) => {
            survived(store, records, plan, before);
            return Err(error);
        }
    };
    // Not before it is true: somebody may pull the plug on it.
    progress(&Step::Commit);
    match finish(store, records, progress) {
        Ok(done) => Ok(Done { left_out, ..done }),
        Err(error) => Err(Error::Unfinished(Box::new(error))),
    }
}

/// Everything up to the commit record. Gives [`Done::left_out`]; after an error nothing is left of it, or the next start
/// undoes it.
fn commit<S: Store>(
    store: &mut S,
    records: &mut Records,
    plan: &Plan,
    now: u64,
    hands: &mut Hands<'_, S>,
    progress: &mut dyn FnMut(&Step),
) -> Result<std::vec::Vec<String>, Error> {
    let (committing, left_out) = match prepare(store, records, plan, now, hands, progress) {
        Ok(prepared) => prepared,
        // The next start undoes it, so GRUB stays armed.
        Err(error @ Error::Uncertain(_)) => return Err(error),
        Err(error) => return Err(undone(store, records, error)),
    };
    match records
        .journal
        .write(store, Journal::Committing(Box::new(committing)))
    {
        Ok(()) => Ok(left_out),
        Err(error) => Err(take_back(store, records, error)),
    }
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

/// The machine is still there, whatever went wrong: the state is as before. Also a record whose write failed may be on disk.
fn survived<S: Store>(store: &mut S, records: &mut Records, plan: &Plan, before: State) {
    let may_be_written =
        matches!(plan.intent, Intent::FallBack { .. }) && !plan.conversions.is_empty();
    if may_be_written && let Err(error) = records.state.write_anew(store, before) {
        log::warn!("that the converters were tried stays written down: {error}");
    }
}

/// Does everything of such a plan that can fail, and takes back what it made: says whether it would be
/// done. The journal has what is made, so a cut leaves nothing that the next start, or command, does not
/// take back. The state is not written.
pub fn try_out<S: Store>(
    store: &mut S,
    records: &mut Records,
    plan: &Plan,
    now: u64,
    fill: Fill<'_, S>,
) -> Result<(), Error> {
    if records.journal.value != Journal::Closed {
        return Err(Error::Open);
    }
    let convert = &mut no_converter;
    let mut hands = Hands { fill, convert };
    match prepare(store, records, plan, now, &mut hands, &mut |_| {}) {
        Ok(_) => undo(store, records),
        // The next start undoes it, so GRUB stays armed.
        Err(error @ Error::Uncertain(_)) => Err(error),
        Err(error) => Err(undone(store, records, error)),
    }
}

/// The write of the commit record failed, and it may be on disk all the same. So nothing of what it
/// names goes before the record before it was written over it; if that fails too, the next start
/// finds one of the two whole.
fn take_back<S: Store>(store: &mut S, records: &mut Records, error: Error) -> Error {
    let before = records.journal.value.clone();
    if records.journal.write_anew(store, before).is_err() {
        return Error::Uncertain(Box::new(error));
    }
    undone(store, records, error)
}

/// Undoes what was prepared, because of this error; one of the undoing does not hide it.
fn undone<S: Store>(store: &mut S, records: &mut Records, error: Error) -> Error {
    match undo(store, records) {
        Ok(()) => error,
        Err(other) => Error::NotUndone(Box::new(error), Box::new(other)),
    }
}

/// Everything that can fail. What it made is in the journal. Gives what is to be committed, and
/// [`Done::left_out`].
/// Lets GRUB start the recovery kernel. On disk on return.
pub fn arm<S: Store>(store: &mut S) -> Result<(), Error> {
    with_ballast(store, |store| store.replace(File::Armed, ARMED))?;
    Ok(store.sync()?)
}

fn prepare<S: Store>(
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
                with_ballast(store, |store| store.set_label(*at, &label, Some(state)))?;
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
