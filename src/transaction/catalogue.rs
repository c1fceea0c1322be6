//! What the store holds: snapshots with their manifests, and whether they are what they were.

use super::plan::Plan;
use super::{Error, fenced};
use crate::fence::question::BY_ITSELF;
use crate::fence::survey::Survey;
use crate::policy::intent::Intent;
use crate::policy::refusal::Refusal;
use crate::policy::terms::Terms;
use crate::policy::trial::{self, Spent, Start};
use crate::policy::{self, Facts, Health, Wish};
use crate::record::Uuid;
use crate::record::block::{Block, decode};
use crate::record::layout::Part;
use crate::record::manifest::{Kind, Manifest, Origin};
use crate::record::slots::Slots;
use crate::record::state::{Live, State};
use crate::store::place::{File, Place, Set};
use crate::store::{Store, StoreError};

/// Reads a set's manifest; `None` when there is none that is whole.
pub fn manifest<S: Store>(store: &S, set: Set) -> Result<Option<Manifest>, Error> {
    // A stranger's file in the way is as good as no manifest: it must not hide the other sets.
    let bytes = store
        .read(File::Manifest(set))
        .ok()
        .flatten()
        .unwrap_or_default();
    Ok(match decode::<Manifest>(&bytes) {
        Block::Valid { value, .. } => Some(value),
        _ => None,
    })
}

/// Whether a used system, cleaned, lies in the factory's place.
pub fn has_baseline<S: Store>(store: &S) -> Result<bool, Error> {
    let manifest = manifest(store, Set::Factory)?;
    Ok(manifest.is_some_and(|manifest| manifest.origin == Origin::Baseline))
}

/// Looks at every member of a set and compares it with the manifest. Reads a few metadata items
/// for each member, whatever its size.
pub fn health<S: Store>(store: &S, set: Set) -> Result<Health, Error> {
    let Some(manifest) = manifest(store, set)? else {
        return match store.dataset(set.place(Part::System)) {
            Ok(None) => Ok(Health::Absent),
            Ok(Some(_)) | Err(_) => unsealed(store, set, Health::NoManifest),
        };
    };
    match (manifest.kind, set) {
        (Kind::Parked, _) => return unsealed(store, set, Health::Parked),
        // Also between its exchange and its own manifest.
        (Kind::FormerFactory, _) | (Kind::Factory, Set::Snapshot(_)) => {
            return Ok(Health::FormerFactory);
        }
        _ => {}
    }
    let lacks = |part: &Part| manifest.identity(*part).is_none();
    let whole = match without_config(&manifest) && store.layout().config.is_some() {
        true if !lacks(&Part::System) => Health::WithoutConfig,
        _ => match store.layout().set().find(lacks) {
            Some(part) => return Ok(Health::Missing(part)),
            None => Health::Sound,
        },
    };
    for member in &manifest.members {
        match store.dataset(set.place(member.part)) {
            Ok(None) => return Ok(Health::Missing(member.part)),
            Err(StoreError::Place(_)) => return Ok(Health::Changed(member.part)),
            Err(error) => return Err(error.into()),
            Ok(Some(found)) if !found.read_only || found.identity != member.identity => {
                return Ok(Health::Changed(member.part));
            }
            Ok(Some(_)) => {}
        }
    }
    Ok(whole)
}

/// Whether a set was sealed where there was no config dataset. One that lost only a part of it has the
/// other one.
pub fn without_config(manifest: &Manifest) -> bool {
    [Part::Config, Part::Defaults]
        .into_iter()
        .all(|part| manifest.identity(part).is_none())
}

/// `whole`, if every part of a set without recorded identities is there.
fn unsealed<S: Store>(store: &S, set: Set, whole: Health) -> Result<Health, Error> {
    for part in store.layout().set() {
        match store.dataset(set.place(part)) {
            Ok(None) => return Ok(Health::Missing(part)),
            Err(StoreError::Place(_)) => return Ok(Health::Changed(part)),
            other => other?,
        };
    }
    Ok(whole)
}

/// The ids of all snapshots, oldest first.
pub fn ids<S: Store>(store: &S) -> Result<Vec<u32>, Error> {
    let mut ids = store.ids()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// The greatest number that has a readable manifest.
pub fn newest_set<S: Store>(store: &S) -> Result<Option<u32>, Error> {
    let ids = ids(store)?;
    for id in ids.into_iter().rev() {
        if manifest(store, Set::Snapshot(id))?.is_some() {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Whether anything lies under a number but what was a factory snapshot.
fn any_snapshot<S: Store>(store: &S) -> Result<bool, Error> {
    for id in store.ids()? {
        if !is_former_factory(store, id)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether what lies under a number was the factory snapshot once.
pub fn is_former_factory<S: Store>(store: &S, id: u32) -> Result<bool, Error> {
    let manifest = manifest(store, Set::Snapshot(id))?;
    Ok(manifest.is_some_and(|it| it.kind == Kind::FormerFactory))
}

/// The state with a next id under which nothing lies, whatever a lost journal left behind.
pub fn with_free_id<S: Store>(store: &S, state: &State) -> Result<State, Error> {
    let taken = store.ids()?;
    let mut state = state.clone();
    while state.next_id != u32::MAX && taken.contains(&state.next_id) {
        state.next_id = state.next_id.saturating_add(1);
    }
    match state.next_id {
        // Never given out: no next number would say that it was.
        u32::MAX => Err(Error::NoNumber),
        _ => Ok(state),
    }
}

/// What is done about the live system's trial, if no start is left to it. `but`: snapshots to which the machine could not fall
/// back in this boot.
pub fn spent<S: Store>(store: &S, state: &State, but: &[u32]) -> Result<Option<Spent>, Error> {
    let Start::Spent(spent) = trial::start(state) else {
        return Ok(None);
    };
    let (mut good, survey) = (good(store)?, Survey::default());
    // An hour in all, not for each that is tried.
    let way = |id: &u32| fall_back(store, &survey, state, *id);
    let took = but.iter().filter_map(way);
    let left = took.fold(BY_ITSELF, |left, plan| left.saturating_sub(plan.seconds()));
    let fits = |plan: &Plan| plan.seconds() <= left;
    good.retain(|id| !but.contains(id) && way(id).as_ref().is_some_and(fits));
    Ok(Some(trial::spent(state, spent, &good)))
}

/// The good snapshots that are no way out for the machine, because their applications cannot run on the data.
pub fn fenced_off<S: Store>(store: &S, state: &State) -> Result<Vec<u32>, Error> {
    let (mut good, survey) = (good(store)?, Survey::default());
    good.retain(|id| fall_back(store, &survey, state, *id).is_none());
    Ok(good)
}

/// The sound snapshots that were marked good when they were sealed, oldest first.
fn good<S: Store>(store: &S) -> Result<Vec<u32>, Error> {
    let mut good = Vec::new();
    for id in ids(store)? {
        let set = Set::Snapshot(id);
        // One that cannot be looked at is no target, and must not be in the way of the others.
        let marked = manifest(store, set)
            .is_ok_and(|it| it.is_some_and(|it| it.kind == Kind::Snapshot && it.good));
        let sound = || {
            matches!(
                health(store, set),
                Ok(Health::Sound | Health::WithoutConfig)
            )
        };
        if marked && sound() {
            good.push(id);
        }
    }
    Ok(good)
}

/// Gathers what a decision needs. `target` is what [`crate::policy::target`] named.
pub fn facts<S: Store>(store: &S, target: Option<Set>, copied_disk: bool) -> Result<Facts, Error> {
    let layout = store.layout().clone();
    let mut live_system = None;
    let mut live_missing = None;
    let mut nothing_live = true;
    for part in layout.all() {
        match store.dataset(Place::Live(part))? {
            Some(dataset) => {
                nothing_live = false;
                if part == Part::System {
                    live_system = Some(dataset.identity.uuid);
                }
            }
            None if part != Part::System => live_missing = live_missing.or(Some(part)),
            None => {}
        }
    }
    Ok(Facts {
        live_system,
        live_missing,
        nothing_live,
        any_snapshot: any_snapshot(store)?,
        newest_set: newest_set(store)?,
        hint: store.read(File::Armed)?.is_some(),
        marker: store.read(File::FirstBoot)?.is_some(),
        copied_disk,
        has_config: layout.config.is_some(),
        has_data: !layout.data.is_empty(),
        tarball: store.has_tarball()?,
        target: target.map_or(Ok(Health::Absent), |set| health(store, set))?,
        spent: None,
        fence: None,
    })
}

/// Why the fence refuses what this wish leads to; `None` also where that is refused for its own sake. Reads nothing where
/// nothing changes.
pub fn fenced<S: Store>(
    store: &S,
    wish: Wish,
    state: &Slots<State>,
    target: Health,
) -> Result<Option<Refusal>, Error> {
    let Some((intent, terms)) = policy::next(wish, state) else {
        return Ok(None);
    };
    let there = match (&intent, intent.source()) {
        (Intent::Return { .. }, _) => matches!(target, Health::Parked | Health::NoManifest),
        (_, Some(_)) => matches!(target, Health::Sound | Health::WithoutConfig),
        // It keeps its version, so that has to be there.
        (_, None) => store.dataset(Place::Live(Part::System))?.is_some(),
    };
    if !there {
        return Ok(None);
    }
    let live = Live {
        system: Uuid::NONE,
        clone_of: Some(0),
    };
    let none = State::new(live);
    let state = match state {
        Slots::Valid { value, .. } => value,
        _ => &none,
    };
    let plan = fenced::plan_for(store, &intent, state, terms, 0)?;
    Ok(fenced::refusal(&plan))
}

/// How the machine would fall back to a snapshot, if it may: its applications live with the data, or with what converters make
/// of it that lose nothing and end in time. Nobody is there to agree to more.
fn fall_back<S: Store>(store: &S, survey: &Survey, state: &State, to: u32) -> Option<Plan> {
    let intent = Intent::FallBack { to };
    let plan = fenced::plan_with(store, survey, &intent, state, Terms::default(), 0);
    plan.ok().filter(|plan| fenced::refusal(plan).is_none())
}
