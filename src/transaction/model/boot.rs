//! A start of the agent, as far as it concerns the store: what `agent/act.rs` does, without a
//! console and without a mount.

use super::super::execute::{Hands, execute_by};
use super::super::fenced::plan_for;
use super::super::plan::{Conversion, Plan};
use super::super::preparing::sources;
use super::super::records::{Records, read_journal, read_state};
use super::super::recover::{self, recover};
use super::super::{Error, catalogue, prepared};
use super::{root, tree};
use crate::agent::act;
use crate::policy::intent::Intent;
use crate::policy::refusal::Refusal;
use crate::policy::terms::Terms;
use crate::policy::trial;
use crate::policy::{self, Decision, Wish, decide, target};
use crate::record::journal::Journal;
use crate::record::layout::Part;
use crate::record::slots::Slots;
use crate::record::state::{Request, State};
use crate::store::memory::{Content, Memory};
use crate::store::place::Place;

/// Decisions in one boot at the most, as in the agent.
const ROUNDS: usize = act::ROUNDS;

/// How a start ended.
#[derive(Debug, Default)]
pub struct Booted {
    /// What recovery or a transaction stopped at.
    pub errors: Vec<Error>,
    /// What was refused.
    pub refusals: Vec<Refusal>,
    /// The prompt opens instead of the live system.
    pub prompt: bool,
    /// The live set is known to be half exchanged.
    pub mixed: bool,
    /// How often it was decided again, because what is live does not read its data.
    pub passes: usize,
}

impl Booted {
    /// Whether nothing was said that an operator would have to read.
    pub fn is_quiet(&self) -> bool {
        self.errors.is_empty() && self.refusals.is_empty() && !self.prompt
    }
}

/// The plan that the agent makes for an intent.
pub fn make_plan(
    intent: &Intent,
    store: &Memory,
    state: &State,
    terms: impl Into<Terms>,
) -> Result<Plan, Error> {
    let state = catalogue::with_free_id(store, state)?;
    let plan = plan_for(store, intent, &state, terms, 1000)?;
    sources(store, &plan)?;
    Ok(plan)
}

/// What the default tarball puts into a dataset: a system, and its configuration from there.
fn fill(store: &mut Memory, place: Place) -> Result<(), Error> {
    let content = match place.part() {
        Part::System => root("tarball"),
        _ => tree("tarball"),
    };
    store.fill(place, content)?;
    Ok(())
}

/// The converter that fails.
pub const FAILS: &str = "/usr/bin/fails";

/// What a converter does: the data says of itself in which state it is.
pub fn convert(store: &mut Memory, at: Place, it: &Conversion) -> Result<(), Error> {
    if it.step.command == [FAILS] {
        return Err(Error::NotConverted {
            app: it.app.to_string(),
            why: "exit status 1".to_owned(),
        });
    }
    let content = format!("{} of {}", it.app, it.step.to);
    let tree = [("converted".to_owned(), Content::File(content.into_bytes()))];
    store.fill(at, tree.into_iter().collect())?;
    Ok(())
}

fn finish_open(store: &mut Memory) -> Result<(), Error> {
    let Ok(mut records) = Records::open_or_begin(store) else {
        return Ok(());
    };
    if records.journal.value != Journal::Closed
        || recover::hint_is_wrong(store, &records)?
        || !prepared::left_over(store, &records)?.is_empty()
    {
        recover(store, &mut records, &mut |_| {})?;
    }
    Ok(())
}

fn act(
    store: &mut Memory,
    mut wish: Wish,
    booted: &mut Booted,
    after: &mut dyn FnMut(&Memory),
) -> Result<(), Error> {
    let mut unconverted = Vec::new();
    for _ in 0..ROUNDS {
        let (state, journal) = (read_state(store)?, read_journal(store)?);
        let mut facts = catalogue::facts(store, target(wish, &state), false)?;
        if let Slots::Valid { value, .. } = &state {
            facts.spent = catalogue::spent(store, value, &unconverted)?;
        }
        facts.fence = catalogue::fenced(store, wish, &state, facts.target)?;
        let terms = policy::next(wish, &state).map_or(Terms::default(), |(_, terms)| terms);
        match decide(wish, &state, &journal, &facts) {
            Decision::Boot(Some(lost @ (Refusal::ParkedLost(..) | Refusal::ParkedFenced(_)))) => {
                booted.refusals.push(lost);
                let mut records = Records::open(store)?;
                let mut state = records.state.value.clone();
                state.parked = None;
                state.live.system = facts.live_system.unwrap_or(state.live.system);
                records.state.write(store, state)?;
                recover(store, &mut records, &mut |_| {})?;
            }
            Decision::Boot(refusal) => {
                if let Some(refusal) = refusal {
                    booted.refusals.push(refusal);
                    remember(store, |state| state.refused_for(wish, refusal))?;
                }
                return Ok(());
            }
            Decision::Menu { why, .. } => {
                if let Some(why) = why.filter(|_| read_journal_closed(store)) {
                    remember(store, |state| state.came_to_the_menu(wish, why)).ok();
                }
                booted.refusals.extend(why);
                booted.prompt = true;
                return Ok(());
            }
            Decision::Transact { intent, request } => {
                if let Wish::Change {
                    verb,
                    present: false,
                    ..
                } = wish
                {
                    booted.refusals.push(Refusal::NoConsent(verb));
                    wish = Wish::Boot;
                }
                let mut records = Records::open_or_begin(store)?;
                let plan = match make_plan(&intent, store, &records.state.value, terms) {
                    Ok(plan) => plan,
                    Err(error) => {
                        if let Some(verb) = intent.verb() {
                            remember(store, |state| {
                                state.use_up_request();
                                state.attempted(verb);
                            })
                            .ok();
                        }
                        return Err(error);
                    }
                };
                let mut hands = Hands {
                    fill: &mut fill,
                    convert: &mut convert,
                };
                let done = execute_by(store, &mut records, &plan, 1000, &mut hands, &mut |_| {});
                if let (Intent::FallBack { to }, Err(error)) = (&intent, &done)
                    && !matches!(error, Error::Unfinished(_))
                {
                    match error {
                        Error::NotConverted { .. } => unconverted.push(*to),
                        _ => drop(remember(store, |state| state.remember_failed(*to))),
                    }
                    continue;
                }
                done?;
                after(store);
                if intent == Intent::MakeFactory {
                    wish = act::after_factory(wish, request);
                } else if !matches!(intent, Intent::Return { .. }) {
                    wish = Wish::Boot;
                    if matches!(intent, Intent::Select { .. }) {
                        return Ok(());
                    }
                }
            }
        }
    }
    Ok(())
}

fn read_journal_closed(store: &Memory) -> bool {
    Records::open(store).is_ok_and(|records| records.journal.value == Journal::Closed)
}

fn waiting(store: &Memory) -> Option<Request> {
    match read_state(store) {
        Ok(Slots::Valid { value, .. }) => value.request,
        _ => None,
    }
}

fn is_left(store: &Memory, wish: Wish, request: Option<Request>) -> bool {
    read_journal_closed(store)
        && read_state(store).is_ok_and(|now| policy::left::is_left(wish, request, &now))
}

fn remember(store: &mut Memory, change: impl FnOnce(&mut State)) -> Result<(), Error> {
    let Slots::Valid { value, .. } = read_state(store)? else {
        return Ok(());
    };
    let mut state = value.clone();
    change(&mut state);
    if state == value {
        return Ok(());
    }
    let mut records = Records::open(store)?;
    records.state.write(store, state)?;
    recover(store, &mut records, &mut |_| {})?;
    Ok(())
}

/// A start with this command line. `after` sees the store after each transaction.
pub fn boot(store: &mut Memory, wish: Wish, after: &mut dyn FnMut(&Memory)) -> Booted {
    let mut booted = Booted::default();
    if let Err(error) = finish_open(store) {
        booted.errors.push(error);
    }
    let mut wish = wish;
    loop {
        let request = waiting(store);
        if let Err(error) = act(store, wish, &mut booted, after) {
            booted.errors.push(error);
        }
        if booted.prompt || !is_left(store, wish, request) {
            break;
        }
        booted.passes += 1;
        wish = Wish::Boot;
    }
    // Before the hand-over.
    if !booted.prompt
        && let Ok(Slots::Valid { value, .. }) = read_state(store)
        && matches!(trial::start(&value), trial::Start::Counted { .. })
        && let Err(error) = remember(store, trial::count)
    {
        booted.errors.push(error);
    }
    booted.mixed = recover::live_set_is_mixed(store).unwrap_or(true);
    booted.prompt |= booted.mixed;
    booted
}
