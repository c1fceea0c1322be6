//! A transaction as data: the steps that `--dry-run` prints, the agent executes and tests check.

use super::catalogue;
use crate::fence::graph;
use crate::fence::labels::STATE;
use crate::fence::names::AppName;
use crate::fence::verdict::Verdict;
use crate::policy::history;
use crate::policy::intent::Intent;
use crate::policy::refusal::Refusal;
use crate::policy::trial;
use crate::record::journal::Outcome;
use crate::record::layout::{DataParts, Layout, Part};
use crate::record::manifest::{Manifest, Origin};
use crate::record::state::{Destroy, FellBack, Last, Live, Phase, State, Trial, Verb};
use crate::store::Access;
use crate::store::place::{Place, Set};

/// One step. Everything before `Commit` can fail and is undone; everything after it is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// GRUB boots the recovery kernel until the transaction is over. Durable before anything else.
    Arm,
    /// Make a clone in the next snapshot's place.
    Clone {
        /// The sealed or live source.
        from: Place,
        /// Where it is made.
        to: Place,
        /// Read-only when it is to stay there, writable when it becomes live.
        access: Access,
    },
    /// Make an empty dataset in the next snapshot's place.
    Create(Place),
    /// What belongs there: what the default tarball has for this part, into the empty dataset; an upgrade, into the clone.
    Fill(Place),
    /// Run a converter of an application on the clone of its data at this place.
    Convert {
        /// The clone.
        at: Place,
        /// Which of [`Plan::conversions`].
        nth: usize,
    },
    /// The root at this place has an init, its kernel's modules, and no pin to another root.
    Check(Place),
    /// The set under this id becomes read-only, as it is: the new factory snapshot, or a new version.
    SealMade(u32),
    /// The journal's `committing` record is on disk: from here on it is finished.
    Commit,
    /// The live dataset and the staged one change places.
    Exchange {
        /// The constant name.
        live: Place,
        /// The place in the next snapshot.
        staged: Place,
    },
    /// The set under this id and the factory snapshot change places.
    ReplaceFactory(u32),
    /// Subvolumes inside the old system move to the new one.
    CarryNested,
    /// What was live becomes read-only and gets its manifest.
    Seal(u32),
    /// What was live waits, writable, for its return.
    Park(u32),
    /// The new state is on disk.
    Record,
    /// GRUB boots the live system again.
    Disarm,
}

/// What is planned, before anything was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What it is for.
    pub intent: Intent,
    /// The number under which what was live will lie.
    pub id: u32,
    /// The steps in their order.
    pub steps: Vec<Step>,
    /// How the set under `id` ends; its label is completed when the plan is carried out.
    pub ending: Ending,
    /// The snapshot that the set under `id` is a changed clone of.
    pub was_clone_of: Option<u32>,
    /// `reset everything` was to delete what it replaced, up to this snapshot, and does not any more.
    pub spared: Option<u32>,
    /// The state afterwards; the UUID of a new system is filled in when it is known.
    pub after: State,
    /// What the fence says of it; `None` where it was not asked. A plan that it refuses is not carried out.
    pub fence: Option<Verdict>,
    /// The converters that are run, or were run in the running system, in their order.
    pub conversions: Vec<Conversion>,
    /// Why it is not what was agreed to, or prepared for, before. Then it is not carried out.
    pub unfit: Option<Refusal>,
    /// What is live could not return from a boot once, for what this says. Then it is not carried out.
    pub stranded: Option<Verdict>,
    /// Live data that the fence's answer replaces, or of which a snapshot keeps a copy. In the set under `id` it stays aside:
    /// going back there does not bring it back, since what is live has what comes from now on.
    pub aside: DataParts,
}

/// A converter that is run on a clone of the data. Nothing that is live is touched by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// The dataset.
    pub dataset: Part,
    /// Whose data it is.
    pub app: AppName,
    /// What is run, in which version, for how long at the most, and the states of the data before and after it.
    pub step: graph::Step,
}

impl Conversion {
    /// The label that says in which state the data is then: its name and its value. On the clone, so that data and state
    /// become live together.
    pub fn label(&self) -> (String, &[u8]) {
        let name = format!("{STATE}.{}", self.app);
        (name, self.step.to.as_str().as_bytes())
    }
}

/// The end of the set under the plan's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Sealed, for this reason.
    Sealed(Origin),
    /// Parked until the next boot.
    Parked,
    /// Nothing remains there.
    Nothing,
    /// What was the factory snapshot, if there was one.
    FormerFactory,
}

impl Ending {
    /// The journal's form of it.
    pub fn outcome(&self, label: crate::record::journal::Label) -> Outcome {
        match self {
            Ending::Sealed(_) => Outcome::Sealed(label),
            Ending::Parked => Outcome::Parked(label),
            Ending::Nothing => Outcome::Nothing,
            Ending::FormerFactory => Outcome::Factory(label),
        }
    }
}

/// Where each part of the set and the data comes from; parts that are not named stay as they are.
struct Sources(Vec<(Part, Place)>);

/// Makes the plan. `source` is the manifest of the set that is promoted: a set that kept data
/// brings its data back. `now` is in seconds since 1970.
pub fn plan(
    intent: &Intent,
    state: &State,
    layout: &Layout,
    source: Option<&Manifest>,
    now: u64,
) -> Plan {
    let id = match intent {
        Intent::Return { parked } => *parked,
        _ => state.next_id,
    };
    match intent {
        Intent::MakeFactory => return make_factory(state, layout, now),
        Intent::Stage { .. } => return stage(intent, state, layout, now),
        _ => {}
    }
    let sources = sources(intent, state, layout, source);
    let mut steps = vec![Step::Arm];
    for (part, from) in &sources.0 {
        let access = Access::Writable;
        steps.push(Step::Clone {
            from: *from,
            to: Place::Snapshot(id, *part),
            access,
        });
    }
    let mut aside = DataParts::NONE;
    for part in kept(intent, layout, &sources) {
        aside.insert(part);
        let (from, to) = (Place::Live(part), Place::Snapshot(id, part));
        steps.push(Step::Clone {
            from,
            to,
            access: Access::ReadOnly,
        });
    }
    let system = Place::Snapshot(id, Part::System);
    let exchanged = exchanged(intent, layout, &sources);
    // What was live before a boot once is not judged on its way back.
    if exchanged.contains(&Part::System) && !matches!(intent, Intent::Return { .. }) {
        steps.push(Step::Check(system));
    }
    steps.push(Step::Commit);
    for part in &exchanged {
        let (live, staged) = (Place::Live(*part), Place::Snapshot(id, *part));
        steps.push(Step::Exchange { live, staged });
    }
    // What lies in nested subvolumes is the owner's: it does not outlive a reset of everything.
    let carries = !matches!(intent, Intent::FirstBoot | Intent::ResetEverything);
    if exchanged.contains(&Part::System) && carries {
        steps.push(Step::CarryNested);
    }
    let ending = ending(intent);
    match ending {
        Ending::Sealed(_) => steps.push(Step::Seal(id)),
        Ending::Parked => steps.push(Step::Park(id)),
        Ending::Nothing | Ending::FormerFactory => {}
    }
    steps.push(Step::Record);
    if ending != Ending::Parked {
        steps.push(Step::Disarm);
    }
    let was_clone_of = match (intent, state.last) {
        (
            Intent::Return { .. },
            Some(Last {
                verb: Some(Verb::Select(id)),
                ..
            }),
        ) => Some(id),
        _ => state.live.clone_of,
    };
    let data = sources
        .0
        .iter()
        .any(|(part, _)| matches!(part, Part::Data(_)));
    let after = after(intent, state, id, now, data);
    let spared = state.destroy.filter(|_| after.destroy.is_none());
    Plan {
        intent: intent.clone(),
        id,
        steps,
        ending,
        was_clone_of,
        spared: spared.map(|destroy| destroy.up_to),
        after,
        fence: None,
        conversions: Vec::new(),
        unfit: None,
        stranded: None,
        aside,
    }
}

/// The factory snapshot is made whole in the next snapshot's place, and then changes places with what
/// was there, all of its members at once.
fn make_factory(state: &State, layout: &Layout, now: u64) -> Plan {
    let (intent, id) = (Intent::MakeFactory, state.next_id);
    let places = || layout.set().map(|part| Place::Snapshot(id, part));
    let mut steps = vec![Step::Arm];
    steps.extend(places().map(Step::Create));
    // What the others hold comes from the system.
    steps.push(Step::Fill(Place::Snapshot(id, Part::System)));
    let others = places().filter(|place| place.part() != Part::System);
    steps.extend(others.map(Step::Fill));
    steps.push(Step::Check(Place::Snapshot(id, Part::System)));
    steps.extend([
        Step::SealMade(id),
        Step::Commit,
        Step::ReplaceFactory(id),
        Step::Record,
        Step::Disarm,
    ]);
    Plan {
        after: after(&intent, state, id, now, false),
        intent,
        id,
        steps,
        ending: Ending::FormerFactory,
        was_clone_of: None,
        spared: None,
        fence: None,
        conversions: Vec::new(),
        unfit: None,
        stranded: None,
        aside: DataParts::NONE,
    }
}

/// The new version is made whole in the next snapshot's place, and stays there.
fn stage(intent: &Intent, state: &State, layout: &Layout, now: u64) -> Plan {
    let id = state.next_id;
    let mut steps = vec![Step::Arm];
    steps.extend(layout.set().map(|part| Step::Clone {
        from: Place::Live(part),
        to: Place::Snapshot(id, part),
        access: Access::Writable,
    }));
    let system = Place::Snapshot(id, Part::System);
    steps.extend([
        Step::Fill(system),
        Step::Check(system),
        Step::SealMade(id),
        Step::Commit,
        Step::Seal(id),
        Step::Record,
        Step::Disarm,
    ]);
    Plan {
        after: after(intent, state, id, now, false),
        intent: intent.clone(),
        id,
        steps,
        ending: ending(intent),
        was_clone_of: state.live.clone_of,
        spared: None,
        fence: None,
        conversions: Vec::new(),
        unfit: None,
        stranded: None,
        aside: DataParts::NONE,
    }
}

fn sources(intent: &Intent, state: &State, layout: &Layout, source: Option<&Manifest>) -> Sources {
    // A set from before there was a config dataset: what it lacks is the live one's.
    let lacks = source.is_some_and(catalogue::without_config);
    let config = |part: &Part| matches!(part, Part::Config | Part::Defaults);
    let from_set = |set: Set| {
        let parts = layout.set().filter(move |part| !(lacks && config(part)));
        parts.map(move |part| (part, set.place(part)))
    };
    let from_live = |part: Part| {
        let there = lacks && layout.config.is_some();
        there.then_some((part, Place::Live(part)))
    };
    let fresh_data = || {
        layout
            .data_parts()
            .map(|part| (part, Place::Template(part)))
    };
    let fresh_config = || {
        let (_, defaults) = from_live(Part::Defaults)?;
        Some((Part::Config, defaults))
    };
    let mut sources: Vec<(Part, Place)> = match intent {
        Intent::Rollback { to: id }
        | Intent::FallBack { to: id }
        | Intent::Forward { to: id }
        | Intent::Select { id } => {
            let set = Set::Snapshot(*id);
            // A boot once is for looking: it goes on with the present data. So does a fallback, unless what failed
            // began with a reset of the data: nothing that is good ever worked with the fresh one.
            let brings = |manifest: &Manifest, part| match intent {
                Intent::Select { .. } => false,
                Intent::FallBack { to } => {
                    let has = manifest.identity(part).is_some();
                    has && state.live_trial().and_then(|trial| trial.data_of) == Some(*to)
                }
                _ => manifest.brings(part),
            };
            let data = layout
                .data_parts()
                .filter(|part| source.is_some_and(|manifest| brings(manifest, *part)));
            // So that its changes to the configuration do not stay either.
            let once = [Part::Config, Part::Defaults].into_iter();
            let is_once = matches!(intent, Intent::Select { .. });
            let once = once.filter_map(from_live).filter(|_| is_once);
            from_set(set)
                .chain(once)
                .chain(data.map(|part| (part, set.place(part))))
                .collect()
        }
        Intent::ResetConfig { data } => {
            let config = (Part::Config, Place::Live(Part::Defaults));
            [config]
                .into_iter()
                .chain(fresh_data().filter(|_| *data))
                .collect()
        }
        Intent::ResetSystem { keep_config } => from_set(Set::Factory)
            .chain(fresh_config())
            .filter(|(part, _)| !(*keep_config && *part == Part::Config))
            .collect(),
        Intent::ResetEverything | Intent::FirstBoot => from_set(Set::Factory)
            .chain(fresh_config())
            .chain(fresh_data())
            .collect(),
        // What is converted, the fence's answer adds.
        Intent::Return { .. }
        | Intent::Convert
        | Intent::Snapshot { .. }
        | Intent::Stage { .. }
        | Intent::MakeFactory => Vec::new(),
    };
    sources.sort_unstable();
    Sources(sources)
}

/// Parts that stay live and of which the sealed set holds a copy: so that it is whole, and data where that was asked for,
/// one dataset right after the other.
fn kept(intent: &Intent, layout: &Layout, sources: &Sources) -> Vec<Part> {
    match intent {
        Intent::Return { .. } | Intent::FirstBoot | Intent::MakeFactory => Vec::new(),
        Intent::Snapshot { data: true, .. } => layout.set().chain(layout.data_parts()).collect(),
        _ => {
            let replaced = |part: &Part| sources.0.iter().any(|(other, _)| other == part);
            layout.set().filter(|part| !replaced(part)).collect()
        }
    }
}

/// Parts whose live dataset is exchanged, in the order of the exchanges.
fn exchanged(intent: &Intent, layout: &Layout, sources: &Sources) -> Vec<Part> {
    match intent {
        Intent::Return { .. } => layout.set().collect(),
        _ => sources.0.iter().map(|(part, _)| *part).collect(),
    }
}

fn ending(intent: &Intent) -> Ending {
    match intent {
        Intent::Rollback { .. } | Intent::Forward { .. } | Intent::Convert => {
            Ending::Sealed(Origin::Replaced)
        }
        Intent::FallBack { .. } => Ending::Sealed(Origin::DidNotStart),
        Intent::Select { .. } => Ending::Parked,
        Intent::Return { .. } => Ending::Sealed(Origin::BootedOnce),
        Intent::ResetConfig { .. } | Intent::ResetSystem { .. } | Intent::ResetEverything => {
            Ending::Sealed(Origin::BeforeReset)
        }
        Intent::FirstBoot => Ending::Nothing,
        Intent::MakeFactory => Ending::FormerFactory,
        Intent::Snapshot { .. } => Ending::Sealed(Origin::Asked),
        Intent::Stage { .. } => Ending::Sealed(Origin::Upgraded),
    }
}

fn after(intent: &Intent, state: &State, id: u32, now: u64, data: bool) -> State {
    let mut after = state.clone();
    after.use_up_request();
    if *intent == Intent::MakeFactory {
        // Nothing that is live has changed.
        after.next_id = id.saturating_add(1);
        return after;
    }
    after.last = Some(Last {
        verb: intent.verb(),
        id,
        at: now,
    });
    match intent {
        Intent::Return { .. } => after.parked = None,
        Intent::FirstBoot => after.last = None,
        _ => after.next_id = id.saturating_add(1),
    }
    match intent {
        Intent::Rollback { to } | Intent::FallBack { to } | Intent::Forward { to } => {
            history::go_to(&mut after, *to, id);
        }
        Intent::Select { .. } => after.parked = Some(id),
        Intent::ResetConfig { .. }
        | Intent::ResetSystem { .. }
        | Intent::ResetEverything
        | Intent::Convert
        | Intent::Snapshot { .. } => history::add(&mut after, id),
        Intent::Stage { .. } => history::stage(&mut after, id),
        Intent::Return { .. } | Intent::FirstBoot | Intent::MakeFactory => {}
    }
    match intent {
        Intent::FallBack { to } => {
            if let Some(failed) = state.live_trial().and_then(|trial| trial.clone_of) {
                after.remember_failed(failed);
            }
            after.fell_back = Some(FellBack {
                from: id,
                to: *to,
                begun: state.live_trial().map_or(0, |trial| trial.begun),
                at: now,
            });
        }
        // Somebody decided what is live.
        _ if intent.verb().is_some() => after.fell_back = None,
        _ => {}
    }
    match intent {
        Intent::Rollback { to } | Intent::FallBack { to } | Intent::Forward { to } => {
            after.live.clone_of = Some(*to);
        }
        Intent::ResetSystem { .. } | Intent::ResetEverything | Intent::FirstBoot => {
            after.live.clone_of = Some(0);
        }
        _ => {}
    }
    if !matches!(
        intent,
        Intent::Snapshot { .. }
            | Intent::Stage { .. }
            | Intent::Select { .. }
            | Intent::Return { .. }
    ) {
        after.good = None;
        after.trial = is_tried(intent).then(|| tried(intent, state, id, data));
        // Only these leave the system that the deletion waits for.
        if !matches!(intent, Intent::ResetConfig { .. } | Intent::Convert) {
            after.destroy = None;
        }
    }
    if *intent == Intent::ResetEverything {
        after.destroy = Some(Destroy {
            live: after.live.system,
            up_to: id,
            phase: Phase::Waits,
        });
    }
    after
}

/// The trial of what becomes live; whose it is, is known when that is made.
fn tried(intent: &Intent, state: &State, id: u32, data: bool) -> Trial {
    let present = state.live_trial();
    if let (Intent::Convert, Some(present)) = (intent, present) {
        // The version stays, and so does what it still has to prove. One that was upgraded in place begins with that now.
        let begins = state.request.is_some_and(|it| it.ends_upgrade());
        return Trial {
            condemned: present.condemned && !begins,
            ..present
        };
    }
    Trial {
        system: state.live.system,
        tries: trial::TRIES,
        begun: 0,
        condemned: false,
        fallback: matches!(intent, Intent::FallBack { .. }),
        clone_of: match (intent, intent.source()) {
            (_, Some(Set::Snapshot(of))) => Some(of),
            // The same version, on data that it would have to convert once more.
            (Intent::Convert, _) => Some(id),
            _ => None,
        },
        data_of: match intent.verb() {
            Some(verb) if verb.resets_data() => Some(id),
            Some(_) if !data => present.and_then(|trial| trial.data_of),
            _ => None,
        },
        guarded: true,
    }
}

/// Whether what becomes live has to be marked good. A boot once returns by itself, what it returns to
/// was live before, and a first boot has nothing to fall back to.
fn is_tried(intent: &Intent) -> bool {
    match intent {
        Intent::Rollback { .. }
        | Intent::FallBack { .. }
        | Intent::Forward { .. }
        | Intent::ResetConfig { .. }
        | Intent::ResetSystem { .. }
        | Intent::ResetEverything
        | Intent::Convert => true,
        Intent::Select { .. }
        | Intent::Return { .. }
        | Intent::FirstBoot
        | Intent::MakeFactory
        | Intent::Snapshot { .. }
        | Intent::Stage { .. } => false,
    }
}

impl Plan {
    /// The state afterwards, now that the UUID of the new system is known.
    pub fn completed(&self, system: crate::record::Uuid) -> State {
        let mut after = self.after.clone();
        if !matches!(self.intent, Intent::Select { .. } | Intent::MakeFactory) {
            after.live = Live {
                system,
                ..after.live
            };
        }
        if let Some(destroy) = &mut after.destroy
            && self.intent == Intent::ResetEverything
        {
            destroy.live = system;
        }
        if let Some(trial) = &mut after.trial
            && self.arms()
        {
            trial.system = system;
        }
        after
    }

    /// Whether what is live afterwards is on trial.
    pub fn arms(&self) -> bool {
        is_tried(&self.intent)
    }

    /// The parts whose live dataset is replaced.
    pub fn replaced(&self) -> impl Iterator<Item = (Part, Option<Place>)> + '_ {
        self.steps.iter().filter_map(|step| match step {
            Step::Exchange { live, staged } => Some((live.part(), self.origin_of(*staged))),
            _ => None,
        })
    }

    fn origin_of(&self, staged: Place) -> Option<Place> {
        self.steps.iter().find_map(|step| match step {
            Step::Clone { from, to, .. } if *to == staged => Some(*from),
            _ => None,
        })
    }
}
