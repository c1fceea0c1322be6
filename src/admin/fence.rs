//! `backstay fence`: what the fence says of a version, and what it says that from. Nothing is written, and nothing is run.

pub mod graph;

use super::cli::{Fence, FenceExplain, To};
use super::error::{Error, Result};
use super::machine::{Lock, Machine};
use super::output::now;
use super::request;
use super::run::{Ended, Out};
use super::trial::fall_back_to;
use crate::fence::ask::{ask, ask_return};
use crate::fence::question::By;
use crate::fence::survey::Survey;
use crate::fence::verdict::Verdict;
use crate::fence::words;
use crate::policy::intent::Intent;
use crate::policy::resolve;
use crate::record::state::{State, Verb};
use crate::store::Store;
use crate::transaction::catalogue;
use crate::transaction::plan::{Plan, plan};
use crate::transaction::records::Records;
use std::path::Path;

/// Does what the arguments say.
pub fn run(root: Option<&Path>, command: &Fence, out: Out) -> Result<Ended> {
    let machine = Machine::open(root, Lock::None)?;
    match command {
        Fence::Graph(args) => graph::show(&machine.store()?, args, out),
        Fence::Explain(args) => {
            machine.refuse_copies()?;
            let store = machine.store()?;
            let records = Records::open(&store)?;
            if let Some(why) = request::look(&store, &records)? {
                out.say(&format!("note: {why}"));
            }
            Ok(told(&verdict(&store, &records, args)?, out))
        }
    }
}

fn told(verdict: &Verdict, out: Out) -> Ended {
    match out.json {
        true => out.result(verdict),
        false => words::lines(verdict).iter().for_each(|it| out.say(it)),
    }
    match verdict.goes {
        true => Ended::Done,
        false => Ended::Unwell,
    }
}

/// What the fence says of a change that nobody has asked for yet.
pub fn verdict<S: Store>(store: &S, records: &Records, args: &FenceExplain) -> Result<Verdict> {
    let state = &records.state.value;
    if let Some(parked) = state.parked {
        return Err(Error::Parked(parked));
    }
    let by = By::from(args.by);
    let plan = planned(store, state, verb(store, state, args)?, by)?;
    // Only a factory snapshot that is yet to be made is no version: what it will declare is in an archive.
    let survey = Survey::default();
    let verdict = ask(store, &survey, &plan, by, args.consent.into())?.ok_or(Error::FenceNotYet)?;
    if args.once && verdict.goes {
        let back = ask_return(store, &survey, by)?;
        return Ok(if back.goes { verdict } else { back });
    }
    Ok(verdict)
}

fn verb<S: Store>(store: &S, state: &State, args: &FenceExplain) -> Result<Verb> {
    let snapshot = "the number of a snapshot, 'previous' or 'forward'";
    match args.to {
        To::Factory | To::Live if args.once => {
            return Err(Error::FenceNeeds("--once", snapshot));
        }
        To::Factory => {}
        _ if args.keep_config => return Err(Error::FenceNeeds("--keep-config", "'factory'")),
        _ if args.everything => return Err(Error::FenceNeeds("--everything", "'factory'")),
        _ => {}
    }
    let verb = match args.to {
        To::Factory if args.everything => Verb::ResetEverything,
        To::Factory => Verb::ResetSystem {
            keep_config: args.keep_config,
        },
        To::Forward => Verb::Forward,
        To::Live => Verb::Convert,
        To::Previous if By::from(args.by) == By::Itself => Verb::Rollback(by_itself(store, state)?),
        To::Previous => Verb::Rollback(None),
        To::Snapshot(id) => Verb::Rollback(Some(id)),
    };
    Ok(match resolve::intent(verb, state)? {
        Intent::Rollback { to } | Intent::Forward { to } if args.once => Verb::Select(to),
        _ => verb,
    })
}

/// Where the machine would fall back to; where the fence leaves it nothing, the newest that it keeps it from.
fn by_itself<S: Store>(store: &S, state: &State) -> Result<Option<u32>> {
    Ok(match fall_back_to(store, state)? {
        None if state.live_trial().is_some() => {
            catalogue::fenced_off(store, state)?.last().copied()
        }
        to => to,
    })
}

/// The plan of a verb, as far as the fence looks at it.
fn planned<S: Store>(store: &S, state: &State, verb: Verb, by: By) -> Result<Plan> {
    let intent = match (request::first_step(store, state, verb)?, by) {
        (Intent::Rollback { to } | Intent::Forward { to }, By::Itself) => Intent::FallBack { to },
        (intent, _) => intent,
    };
    let source = intent.source();
    let manifest = source.map_or(Ok(None), |set| catalogue::manifest(store, set))?;
    Ok(plan(
        &intent,
        state,
        store.layout(),
        manifest.as_ref(),
        now(),
    ))
}

#[cfg(test)]
mod tests;
