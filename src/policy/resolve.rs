//! From a verb to an intent: which snapshot is meant, and whether it may be promoted.

use super::intent::Intent;
use super::refusal::Refusal;
use super::{Facts, Health};
use crate::record::layout::Part;
use crate::record::state::{Phase, State, Verb};
use crate::store::place::Set;
use kernel_cmdline::{Level, Target, Verb as Asked};

/// The verb of a command line; `None` for the menu, which changes nothing by itself.
pub fn asked(verb: Asked, keep_config: bool) -> Option<Verb> {
    Some(match verb {
        Asked::Rollback(Target::Previous) => Verb::Rollback(None),
        Asked::Rollback(Target::Id(id)) => Verb::Rollback(Some(id)),
        Asked::Forward => Verb::Forward,
        Asked::Select(id) => Verb::Select(id),
        Asked::Reset(Level::Config) => Verb::ResetConfig { data: false },
        Asked::Reset(Level::ConfigAndData) => Verb::ResetConfig { data: true },
        Asked::Reset(Level::System) => Verb::ResetSystem { keep_config },
        Asked::Reset(Level::Everything) => Verb::ResetEverything,
        Asked::Menu(_) => return None,
    })
}

/// Names the snapshot that the history means.
pub fn intent(verb: Verb, state: &State) -> Result<Intent, Refusal> {
    Ok(match verb {
        Verb::Rollback(Some(to)) => Intent::Rollback { to },
        Verb::Rollback(None) => Intent::Rollback {
            to: *state.older.last().ok_or(Refusal::NothingOlder)?,
        },
        Verb::Forward => Intent::Forward {
            to: *state.newer.first().ok_or(Refusal::NothingNewer)?,
        },
        Verb::Select(id) => Intent::Select { id },
        Verb::ResetConfig { data } => Intent::ResetConfig { data },
        Verb::ResetSystem { keep_config } => Intent::ResetSystem { keep_config },
        Verb::ResetEverything => Intent::ResetEverything,
        Verb::Convert => Intent::Convert,
    })
}

/// The intent, if everything that it needs is there and is what it was when it was sealed.
pub fn allowed(verb: Verb, state: &State, facts: &Facts) -> Result<Intent, Refusal> {
    let intent = intent(verb, state)?;
    if facts.live_system.is_none() && !intent.replaces(Part::System) {
        return Err(Refusal::NoLiveSystem);
    }
    if let Some(part) = facts.live_missing.filter(|part| !intent.replaces(*part)) {
        return Err(Refusal::LiveMissing(part));
    }
    let needs_config = match intent {
        Intent::ResetConfig { .. } => true,
        Intent::ResetSystem { keep_config } => keep_config,
        _ => false,
    };
    if needs_config && !facts.has_config {
        return Err(Refusal::NoConfigDataset);
    }
    if intent == (Intent::ResetConfig { data: true }) && !facts.has_data {
        return Err(Refusal::NoDataDataset);
    }
    if state
        .destroy
        .is_some_and(|destroy| destroy.phase == Phase::Begun)
    {
        return Err(Refusal::Destroying);
    }
    match (intent.source(), facts.target) {
        // What it lacks comes from what is live, which must be there.
        (Some(_), Health::WithoutConfig) => match facts.live_missing {
            Some(part @ (Part::Config | Part::Defaults)) => Err(Refusal::LiveMissing(part)),
            _ => Ok(intent),
        },
        (Some(set), health) => sound(set, health).map(|()| intent),
        (None, _) => Ok(intent),
    }
}

/// The first thing to do for a verb: where the factory snapshot that it needs is not there or not what
/// it was, and all else is, that is made anew.
pub fn first_step(verb: Verb, state: &State, facts: &Facts) -> Result<Intent, Refusal> {
    match allowed(verb, state, facts) {
        Err(Refusal::Unsound(Set::Factory, _)) if can_make_factory(facts) => {
            let target = Health::Sound;
            let made = Facts { target, ..*facts };
            allowed(verb, state, &made).map(|_| Intent::MakeFactory)
        }
        other => other,
    }
}

/// Whether the factory snapshot, being as [`Facts::target`] says, is made from the default tarball.
pub fn can_make_factory(facts: &Facts) -> bool {
    let lost = match facts.target {
        Health::Absent | Health::NoManifest | Health::Missing(_) | Health::Changed(_) => true,
        // The tarball is as old as this one: it would lack what this one lacks.
        Health::WithoutConfig => false,
        Health::Sound | Health::Parked | Health::FormerFactory => false,
    };
    lost && facts.tarball
}

/// Refuses a set that is not what it was when it was sealed.
pub fn sound(set: Set, health: Health) -> Result<(), Refusal> {
    match health {
        Health::Sound => Ok(()),
        health => Err(Refusal::Unsound(set, health)),
    }
}
