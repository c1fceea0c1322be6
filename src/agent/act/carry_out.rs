//! Carries out what was decided, aloud: the plan first, the steps that take a moment, what became of it.

use super::{Error, given_up, now};
use crate::agent::pulse::Pulse;
use crate::agent::session::Session;
use crate::agent::{boot_record, convert, tarball};
use crate::image::fill::fill;
use crate::policy::Wish;
use crate::policy::intent::Intent;
use crate::policy::terms::Terms;
use crate::say;
use crate::store::btrfs::Btrfs;
use crate::transaction::execute::{Done, Hands};
use crate::transaction::explain::{Explanation, explain_for};
use crate::transaction::plan::{Conversion, Plan, Step};
use crate::transaction::records::Records;
use crate::transaction::{catalogue, execute, fenced, history_log, preparing};

pub(super) fn make_plan(
    session: &Session,
    records: &Records,
    intent: &Intent,
    terms: impl Into<Terms>,
) -> Result<(Plan, Explanation), crate::transaction::Error> {
    let state = catalogue::with_free_id(&session.store, &records.state.value)?;
    let plan = fenced::plan_for(&session.store, intent, &state, terms, now())?;
    preparing::sources(&session.store, &plan)?;
    let explanation = explain_for(&session.store, &plan)?;
    Ok((plan, explanation))
}

/// Carries an intent out, and says what was done, whether it lasts and how to undo it.
pub(super) fn carry_out(
    session: &mut Session,
    intent: &Intent,
    terms: impl Into<Terms>,
) -> Result<(), Error> {
    carry_out_with(session, intent, terms.into(), &mut execute::no_image)
}

fn carry_out_with(
    session: &mut Session,
    intent: &Intent,
    terms: Terms,
    fill: execute::Fill<'_, Btrfs>,
) -> Result<(), Error> {
    session.make_writable()?;
    let mut records = Records::open_or_begin(&session.store)?;
    let made = make_plan(session, &records, intent, terms);
    let lets = |(plan, explanation): (Plan, _)| match fenced::refusal(&plan) {
        Some(why) => Err(crate::transaction::Error::Fenced(why)),
        None => Ok((plan, explanation)),
    };
    let (plan, explanation) = match made.and_then(lets) {
        Ok(made) => made,
        Err(error) => {
            if let Some(verb) = intent.verb() {
                given_up(session, |state| {
                    state.use_up_request();
                    state.attempted(verb);
                });
            }
            return Err(error.into());
        }
    };
    for line in explanation.to_string().lines() {
        say!("{line}");
    }
    let now = now();
    let store = &mut session.store;
    let _pulse = Pulse::start("the change");
    let id = plan.id;
    let mut convert = |store: &mut Btrfs, at, it: &Conversion| convert::run(store, id, at, it);
    let mut hands = Hands {
        fill,
        convert: &mut convert,
    };
    let result = execute::execute_by(store, &mut records, &plan, now, &mut hands, &mut tell);
    let done = match result {
        Ok(done) => done,
        Err(error) => {
            let text = format!("not done: {} ({error})", explanation.title);
            history_log::append(&mut session.store, now, &text);
            return Err(error.into());
        }
    };
    tell_apart(&done, plan.id);
    say!("done: {}", explanation.title);
    if !explanation.lasts.is_empty() {
        say!("{}", explanation.lasts);
    }
    say!("{}", explanation.undo);
    boot_record::done(&explanation.title, &explanation.undo);
    let text = format!("done: {}; {}", explanation.title, explanation.undo);
    history_log::append(&mut session.store, now, &text);
    Ok(())
}

/// Makes the factory snapshot from the default tarball. Where that fails, what was asked for is used up.
pub(super) fn make_factory(
    session: &mut Session,
    named: Option<&str>,
    wish: Wish,
) -> Result<(), Error> {
    let made = match tarball::verified(session, named) {
        Ok(archive) => {
            let mut teller = tarball::teller();
            let mut fill = |store: &mut Btrfs, place| fill(store, place, &archive, &mut teller);
            carry_out_with(session, &Intent::MakeFactory, Terms::default(), &mut fill)
        }
        Err(error) => Err(error.into()),
    };
    tarball::release();
    if made.is_err() {
        given_up(session, |state| {
            state.use_up_request();
            state.refused(wish);
        });
    }
    made
}

/// Names the nested subvolumes that are not in what is live now, as many as a serial line bears.
pub(super) fn tell_apart(done: &Done, id: u32) {
    for line in done.lines(id) {
        say!("{line}");
    }
}

/// The steps that take a moment, as they begin.
pub(super) fn tell(step: &Step) {
    match step {
        // The runner says which converter it is, and how long it goes on.
        Step::Convert { .. }
        | Step::Clone { .. }
        | Step::Create(_)
        | Step::Fill(_)
        | Step::Arm
        | Step::Park(_)
        | Step::Record
        | Step::Disarm => {}
        Step::Check(_) => say!("checking that the result can boot"),
        Step::Commit => say!("from here on it is finished, even if the power goes"),
        Step::Exchange { live, .. } => log::info!("exchanging {live:?}"),
        Step::SealMade(_) => say!("sealing what was made"),
        Step::ReplaceFactory(_) => log::info!("exchanging the factory snapshot"),
        Step::CarryNested => say!("moving nested subvolumes to the new system"),
        Step::Seal(id) => say!("keeping what was live as snapshot {id}"),
    }
}
