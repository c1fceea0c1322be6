//! What a person does in the menu: a verb's plan, and, once its word was typed, the change. The errors are for people.

use super::carry_out::{carry_out, make_factory, make_plan};
use super::{Error, facts, given_up, is_withdrawn, now};
use crate::agent::session::Session;
use crate::agent::{boot_record, kernel};
use crate::policy::intent::Intent;
use crate::policy::refusal::Refusal;
use crate::policy::{Wish, resolve};
use crate::record::journal::Journal;
use crate::record::state::{Consent, Verb};
use crate::say;
use crate::store::Store;
use crate::transaction::explain::{Explanation, explain_for};
use crate::transaction::plan::plan;
use crate::transaction::records::Records;
use crate::transaction::{catalogue, fenced};

/// What a verb that a person chose in the menu would do. Where it is refused, what waits to be deleted is kept: see
/// [`State::attempted`]. `named`: the command line names a default tarball.
pub fn plan_of(
    session: &mut Session,
    verb: Verb,
    consent: Consent,
    named: bool,
) -> Result<Explanation, String> {
    explained(session, verb, consent, named)
        .inspect_err(|_| given_up(session, |state| state.attempted(verb)))
}

fn explained(
    session: &Session,
    verb: Verb,
    consent: Consent,
    named: bool,
) -> Result<Explanation, String> {
    let (records, first) = first_step(session, verb, named)?;
    let intent = resolve::intent(verb, &records.state.value).map_err(|it| it.to_string())?;
    if first != Intent::MakeFactory {
        let made = make_plan(session, &records, &first, consent);
        let (plan, explanation) = made.map_err(|error| error.to_string())?;
        return match fenced::refused(&plan) {
            Some(why) => Err(why),
            None => Ok(explanation),
        };
    }
    // What is in the tarball is known when it is made.
    let state = catalogue::with_free_id(&session.store, &records.state.value);
    let state = state.map_err(|error| error.to_string())?;
    let layout = session.store.layout();
    let plan = plan(&intent, &state, layout, None, now());
    let mut explanation = explain_for(&session.store, &plan).map_err(|error| error.to_string())?;
    let first = "the factory snapshot: made anew from the default tarball, before that";
    explanation.changes.insert(0, first.to_owned());
    Ok(explanation)
}

/// The first thing to be done for a verb that a person chose, if it may be done now.
fn first_step(session: &Session, verb: Verb, named: bool) -> Result<(Records, Intent), String> {
    if session.is_copied() {
        return Err(Refusal::CopiedDisk.to_string());
    }
    if let Some(why) = session.hindrance() {
        return Err(why.to_string());
    }
    let records = Records::open(&session.store).map_err(|error| error.to_string())?;
    let state = &records.state.value;
    if records.journal.value != Journal::Closed || state.parked.is_some() {
        return Err("something waits to be finished: reboot first".to_owned());
    }
    let intent = resolve::intent(verb, state).map_err(|refusal| refusal.to_string())?;
    let mut facts = facts(session, intent.source()).map_err(|error| error.to_string())?;
    facts.tarball |= named;
    let first = resolve::first_step(verb, state, &facts).map_err(|refusal| refusal.to_string())?;
    if let Intent::Select { id } = first
        && let Some(why) = kernel::cannot_boot_once(session, id).map_err(|it| it.to_string())?
    {
        return Err(why);
    }
    Ok((records, first))
}

/// Does what a person chose in the menu, after the word was typed. The error is for people.
pub fn change(
    session: &mut Session,
    verb: Verb,
    consent: Consent,
    tarball: Option<&str>,
) -> Result<(), String> {
    boot_record::requested(&verb.to_string());
    let wish = Wish::Change {
        verb,
        consent,
        loss: true,
        present: true,
    };
    let done = by_steps(session, verb, consent, tarball, wish);
    if let Err(why) = &done {
        boot_record::refused(why);
    }
    done
}

fn by_steps(
    session: &mut Session,
    verb: Verb,
    consent: Consent,
    tarball: Option<&str>,
    wish: Wish,
) -> Result<(), String> {
    let told = |session: &Session, error: Error| match error {
        Error::Transaction(error) => {
            let error = match session.has_failed() {
                true => error.where_writes_failed(),
                false => error,
            };
            match error {
                crate::transaction::Error::Unfinished(_) => error.to_string(),
                _ => format!("not done: {error}"),
            }
        }
        error => format!("not done: {error}"),
    };
    let (records, mut first) = first_step(session, verb, tarball.is_some())
        .inspect_err(|_| given_up(session, |state| state.refused(wish)))?;
    if first == Intent::MakeFactory {
        make_factory(session, tarball, wish).map_err(|error| told(session, error))?;
        first = first_step(session, verb, false)?.1;
    }
    carry_out(session, &first, consent).map_err(|error| told(session, error))?;
    if let Some(request) = records.state.value.request
        && is_withdrawn(&session.store)
    {
        say!(
            "the waiting request to {} is withdrawn by this",
            request.verb
        );
    }
    Ok(())
}
