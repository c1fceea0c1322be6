//! A plan with the fence's answer in it.
//!
//! ```text
//!  the answer      what it adds before the commit            and after it
//!  nothing         –                                         –
//!  convert         a clone of the live data, the converters  the exchange; the data as it was stays in the sealed set
//!  the same, done  a clone of what was prepared              the same
//!  restore         a clone of the data that was kept         the same
//!  refuse          the plan is not carried out               –
//! ```
//! A converter works on the clone alone, so one that fails, or a power cut in it, costs the clone. Data and system change
//! places in one transaction, the system last.
//!
//! What the answer replaced is kept in the set under the plan's number, but *aside*: another move to that set does not bring
//! it back by itself, since what took its place has what came since. It is returned to with consent alone. Only where
//! what became live was never marked good is it brought back without: as after a reset of the data, nothing that is good
//! has written to what took its place.

use super::plan::{Conversion, Plan, Step};
use super::{Error, catalogue, plan, prepared};
use crate::fence::ask::{ask, ask_return, holds_data};
use crate::fence::names::Version;
use crate::fence::question::{By, Consent};
use crate::fence::survey::Survey;
use crate::fence::verdict::{Answer, AppVerdict, Verdict};
use crate::fence::words;
use crate::policy::Health;
use crate::policy::intent::Intent;
use crate::policy::refusal::{Refusal, Ways};
use crate::policy::terms::{Conversions, Terms};
use crate::record::layout::{Layout, Part};
use crate::record::state::{Prepared, State};
use crate::store::place::{Place, Set};
use crate::store::{Access, Store};

/// Makes the plan for an intent that can be carried out, and asks the fence. `now` is in seconds since 1970.
pub fn plan_for<S: Store>(
    store: &S,
    intent: &Intent,
    state: &State,
    terms: impl Into<Terms>,
    now: u64,
) -> Result<Plan, Error> {
    plan_with(store, &Survey::default(), intent, state, terms.into(), now)
}

/// The same, one of several plans, with what was read for the others.
pub fn plan_with<S: Store>(
    store: &S,
    survey: &Survey,
    intent: &Intent,
    state: &State,
    terms: Terms,
    now: u64,
) -> Result<Plan, Error> {
    let source = intent.source();
    let manifest = source.map_or(Ok(None), |set| catalogue::manifest(store, set))?;
    let plan = plan::plan(intent, state, store.layout(), manifest.as_ref(), now);
    let by = by(intent, terms.conversions);
    let verdict = ask(store, survey, &plan, by, counts(intent, terms.consent))?;
    let prepared = match terms.conversions {
        Conversions::Done(prepared) => prepared,
        Conversions::BeforeBoot | Conversions::Running => Prepared::NONE,
    };
    if verdict.as_ref().is_some_and(|it| !it.goes)
        && let Some(plan) = with_former_data(store, state, &plan)?
        && let Some(verdict) = ask(store, survey, &plan, by, Consent::Refuse)?
        && verdict.goes
    {
        return Ok(amended(plan, verdict, &prepared, store.layout()));
    }
    let mut plan = match verdict {
        Some(verdict) => amended(plan, verdict, &prepared, store.layout()),
        None => plan,
    };
    plan.unfit = if !prepared.is_none() && !prepared::holds(store, &plan, &prepared)? {
        Some(Refusal::Outdated)
    } else if plan.converts_with_loss() && !terms.loss {
        let target = plan.fence.as_ref().map(|verdict| verdict.target);
        target.map(Refusal::Unseen)
    } else {
        None
    };
    if matches!(intent, Intent::Select { .. }) {
        plan.stranded = Some(ask_return(store, survey, by)?).filter(|verdict| !verdict.goes);
    }
    Ok(plan)
}

/// A fallback with the data that what was never good began without, where another set has it than the one that is gone to:
/// several changes were made since something was good, and the first of them converted nothing.
fn with_former_data<S: Store>(
    store: &S,
    state: &State,
    plan: &Plan,
) -> Result<Option<Plan>, Error> {
    let Intent::FallBack { to } = plan.intent else {
        return Ok(None);
    };
    let of = state.live_trial().and_then(|trial| trial.data_of);
    let Some(set) = of.filter(|of| *of != to).map(Set::Snapshot) else {
        return Ok(None);
    };
    let sound = matches!(
        catalogue::health(store, set)?,
        Health::Sound | Health::WithoutConfig
    );
    let Some(manifest) = catalogue::manifest(store, set)?.filter(|_| sound) else {
        return Ok(None);
    };
    let mut plan = plan.clone();
    let kept = |part: &Part| manifest.identity(*part).is_some();
    for part in store.layout().data_parts().filter(kept) {
        plan.takes(part, set.place(part));
    }
    Ok(Some(plan))
}

/// Who asks. Before boot only early converters can run.
fn by(intent: &Intent, conversions: Conversions) -> By {
    match (intent, conversions) {
        (Intent::FallBack { .. }, _) => By::Itself,
        (_, Conversions::BeforeBoot) => By::Console,
        (_, Conversions::Running | Conversions::Done(_)) => By::Running,
    }
}

/// What of a consent counts: a boot once is for looking, and goes on with the present data, which the return has to find
/// as it was; nobody agrees to a return or to a first boot.
fn counts(intent: &Intent, consent: Consent) -> Consent {
    match intent {
        Intent::Rollback { .. }
        | Intent::Forward { .. }
        | Intent::ResetSystem { .. }
        | Intent::ResetEverything => consent,
        // To go back would need another version.
        Intent::Convert if consent == Consent::Restore => Consent::Refuse,
        Intent::Convert => consent,
        Intent::Select { .. }
        | Intent::FallBack { .. }
        | Intent::Return { .. }
        | Intent::ResetConfig { .. }
        | Intent::FirstBoot
        | Intent::MakeFactory
        | Intent::Snapshot { .. }
        | Intent::Stage { .. } => Consent::Refuse,
    }
}

/// Why the fence refuses a plan, in one line with the way out.
pub fn refusal(plan: &Plan) -> Option<Refusal> {
    let verdict = plan.fence.as_ref();
    if plan.intent == Intent::Convert && plan.conversions.is_empty() {
        return Some(match verdict.filter(|verdict| !verdict.goes) {
            None => Refusal::NothingToConvert,
            Some(verdict) => Refusal::NotConvertible(verdict.possible.contains(&Consent::Convert)),
        });
    }
    let Some(verdict) = verdict.filter(|verdict| !verdict.goes) else {
        let stranded = plan.stranded.as_ref().map(|_| Refusal::NoReturn);
        return plan.unfit.or(stranded);
    };
    let would = |intent: &Intent, consent| counts(intent, consent) == consent;
    let offers = |consent| verdict.possible.contains(&consent) && would(&plan.intent, consent);
    let ways = Ways {
        convert: offers(Consent::Convert),
        restore: offers(Consent::Restore),
    };
    Some(match plan.intent {
        Intent::Return { parked } => Refusal::ParkedFenced(parked),
        _ => Refusal::Fenced(verdict.target, ways),
    })
}

/// How a version stands to the data that is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It runs on it.
    Runs,
    /// After a conversion.
    Converts,
    /// With the data as it was, losing what came since.
    Returns,
    /// Not at all.
    Not,
}

impl Standing {
    /// As `--json` gives it.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Runs => "runs",
            Standing::Converts => "convert",
            Standing::Returns => "restore",
            Standing::Not => "refused",
        }
    }
}

/// How a set's version stands to the data that is live, for a person before boot; `None` where no application is judged, and
/// where that cannot be told.
pub fn standing<S: Store>(store: &S, survey: &Survey, state: &State, set: Set) -> Option<Standing> {
    let intent = match set {
        Set::Snapshot(to) => Intent::Rollback { to },
        Set::Factory => Intent::ResetSystem { keep_config: false },
    };
    let plan = plan_with(store, survey, &intent, state, Terms::default(), 0).ok()?;
    let verdict = plan.fence?;
    let alone = |it: &AppVerdict| matches!(it.answer, Answer::LeftAlone(_));
    if verdict.faults.is_empty() && verdict.apps.iter().all(alone) {
        return None;
    }
    Some(match verdict.possible.as_slice() {
        all if all.contains(&Consent::Refuse) => Standing::Runs,
        all if all.contains(&Consent::Convert) => Standing::Converts,
        all if all.contains(&Consent::Restore) => Standing::Returns,
        _ => Standing::Not,
    })
}

/// The same with all that the fence says, for whoever can ask nothing more; lines.
pub fn refused(plan: &Plan) -> Option<String> {
    let why = refusal(plan)?;
    let lines = match (&plan.stranded, why) {
        (Some(verdict), Refusal::NoReturn) => words::reasons(verdict),
        _ => plan.fence.as_ref().map(words::lines).unwrap_or_default(),
    };
    Some(format!("{why}\n{}", lines.join("\n")))
}

/// The plan with what the answer asks for.
fn amended(mut plan: Plan, verdict: Verdict, prepared: &Prepared, layout: &Layout) -> Plan {
    let part_of = |name: &str| {
        let mut all = holds_data(layout);
        all.find(|(other, _)| other.as_str() == name)
            .map(|(_, part)| part)
    };
    let set = match verdict.target {
        Version::Live => None,
        Version::Snapshot(id) => Some(Set::Snapshot(id)),
        Version::Factory => Some(Set::Factory),
    };
    for name in verdict.returns() {
        if let (Some(part), Some(set)) = (part_of(name), set) {
            plan.takes(part, set.place(part));
        }
    }
    for (name, steps) in verdict.conversions() {
        let Some(part) = part_of(name) else {
            continue;
        };
        // What comes from elsewhere is not what was prepared.
        let is_done = prepared.get(part).is_some() && !plan.replaced().any(|(it, _)| it == part);
        plan.takes(
            part,
            match is_done {
                true => Place::Prepared(part),
                false => Place::Live(part),
            },
        );
        for (app, step) in steps {
            let nth = plan.conversions.len();
            plan.conversions.push(Conversion {
                dataset: part,
                app: app.clone(),
                step: step.clone(),
            });
            if !is_done {
                let at = Place::Snapshot(plan.id, part);
                plan.prepares(Step::Convert { at, nth });
            }
        }
    }
    plan.fence = Some(verdict);
    plan
}

impl Plan {
    /// Whether something is lost by what it converts. By a return it is what came since, which is not meant.
    pub fn converts_with_loss(&self) -> bool {
        self.conversions.iter().any(|it| !it.step.lossless)
    }

    /// How long its converters may take together, by their time limits, in seconds.
    pub fn seconds(&self) -> u64 {
        let limits = self.conversions.iter().map(|it| u64::from(it.step.seconds));
        limits.fold(0, u64::saturating_add)
    }

    /// Adds a step that can fail, after the others that make something.
    fn prepares(&mut self, step: Step) {
        let judges = |step: &Step| matches!(step, Step::Check(_) | Step::Commit);
        let at = self.steps.iter().position(judges);
        self.steps.insert(at.unwrap_or(0), step);
    }

    /// Lets a clone of `from` take the place of a part, unless something takes it already.
    fn takes(&mut self, part: Part, from: Place) {
        let to = Place::Snapshot(self.id, part);
        let mut there = false;
        self.steps.retain_mut(|step| match step {
            Step::Clone {
                to: other, access, ..
            } if *other == to => {
                there |= *access == Access::Writable;
                // The copy that would be kept: what is live comes there itself.
                *access == Access::Writable
            }
            _ => true,
        });
        if there {
            return;
        }
        let access = Access::Writable;
        self.prepares(Step::Clone { from, to, access });
        let live = Place::Live(part);
        let later = |step: &Step| match step {
            Step::Exchange { live, .. } => live.part() > part,
            _ => false,
        };
        let commit = self.steps.iter().position(|step| *step == Step::Commit);
        let after_commit = commit.map_or(self.steps.len(), |at| at.saturating_add(1));
        let at = self.steps.iter().position(later).unwrap_or(after_commit);
        self.steps.insert(at, Step::Exchange { live, staged: to });
        if matches!(part, Part::Data(_)) {
            self.aside.insert(part);
            let arms = self.arms();
            if let Some(trial) = self.after.trial.as_mut().filter(|_| arms) {
                // What was live before several changes of which none was proved good is the last that was.
                trial.data_of.get_or_insert(self.id);
            }
        }
    }
}
