//! Asking the agent for a change at the next boot, and withdrawing it.
//!
//! Asking writes the hint first (`armed/armed.cfg`: GRUB boots the recovery kernel), then the state,
//! which is the truth. A power cut in between leaves an armed machine on which nothing waits: the
//! agent boots on. Withdrawing writes the state first, so that a power cut leaves the same.
//!
//! On a full file system neither needs room for data: the hint is then a second name of
//! [`SPARE`], and the slots of the state are overwritten in place. The ballast is left for the
//! agent, because a running system may fill what it gives up at once.

use super::error::{Error, Result};
use super::upgrade;
use crate::policy::intent::Intent;
use crate::policy::terms::Terms;
use crate::policy::{self, resolve};
use crate::record::journal::{Journal, Outcome};
use crate::record::layout::Part;
use crate::record::state::{Consent, Prepared, Request, State, Ticket, Verb};
use crate::store::place::{File, Place};
use crate::store::{Store, StoreError};
use crate::transaction::explain::{Explanation, explain_for};
use crate::transaction::finish::with_ballast;
use crate::transaction::plan::{Plan, plan};
use crate::transaction::records::Records;
use crate::transaction::recover::{Recovered, hint_is_stale, recover};
use crate::transaction::{self, catalogue, check, execute, fenced, prepared, preparing};

/// Beside the hint: a file of the same meaning, made by `init` while there is room.
pub const SPARE: &str = "grub/armed.spare";

/// Finishes or undoes what an interrupted `snapshot` or `factory build` left open. Anything that exchanges live
/// datasets is left to the agent. That the journal of a change is lost is said and stops no command:
/// it takes one to mend what that left.
pub fn settle<S: Store>(store: &mut S, records: &mut Records) -> Result<Recovered> {
    match &records.journal.value {
        Journal::Committing(committing)
            if !committing.swaps.is_empty()
                && !matches!(committing.outcome, Outcome::Factory(_)) =>
        {
            Err(transaction::Error::Open.into())
        }
        _ => match recover(store, records, &mut |_| {}) {
            Err(error @ transaction::Error::JournalLost(_)) => {
                log::warn!("{error}");
                Ok(Recovered::Nothing)
            }
            other => Ok(other?),
        },
    }
}

/// What [`settle`] would mend, for a command that only looks, without the lock: an open journal is
/// refused, because what lies there may be another command's; a hint for nothing is told.
pub fn look<S: Store>(store: &S, records: &Records) -> Result<Option<&'static str>> {
    if records.journal.value != Journal::Closed {
        return Err(Error::Unsettled);
    }
    Ok(hint_is_stale(store, records)?.then_some(
        "GRUB starts the agent and nothing waits for it: another backstay is at work, or 'backstay \
         cancel' removes what is left over",
    ))
}

/// Refuses while something else has a claim on the next boot.
pub fn idle(records: &Records) -> Result<()> {
    let state = &records.state.value;
    if records.journal.value != Journal::Closed {
        return Err(transaction::Error::Open.into());
    }
    if let Some(parked) = state.parked {
        return Err(Error::Parked(parked));
    }
    match state.request {
        Some(request) => Err(match upgrade::undoes(&request) {
            Some(before) => Error::UpgradeUnfinished(before),
            None => Error::Waiting(request.verb),
        }),
        None => Ok(()),
    }
}

/// The first thing that the agent would do for a verb, if everything that it needs is there and sound.
pub fn first_step<S: Store>(store: &S, state: &State, verb: Verb) -> Result<Intent> {
    let source = resolve::intent(verb, state)?.source();
    let facts = catalogue::facts(store, source, false)?;
    if policy::is_behind(state, &facts) {
        return Err(Error::StateBehind);
    }
    Ok(resolve::first_step(verb, state, &facts)?)
}

/// What would be done, if it may be done. Writes nothing.
pub fn preview<S: Store>(
    store: &S,
    records: &Records,
    verb: Verb,
    consent: Consent,
    now: u64,
) -> Result<Explanation> {
    Ok(planned(store, records, verb, consent, now)?.1)
}

/// The same with the plan, on any terms. The plan of what is yet to be converted in the running system is none to be
/// carried out.
pub fn planned<S: Store>(
    store: &S,
    records: &Records,
    verb: Verb,
    terms: impl Into<Terms>,
    now: u64,
) -> Result<(Plan, Explanation)> {
    idle(records)?;
    let state = &records.state.value;
    // Where the factory snapshot is to be made first, it is checked when it is there.
    let make = first_step(store, state, verb)? == Intent::MakeFactory;
    let intent = resolve::intent(verb, state)?;
    if let Some(set) = intent.source().filter(|_| !make) {
        check::root(store, set.place(Part::System))?;
    }
    let state = catalogue::with_free_id(store, state)?;
    let plan = match make {
        // What it declares is known when it is made.
        true => plan(&intent, &state, store.layout(), None, now),
        false => fenced::plan_for(store, &intent, &state, terms, now)?,
    };
    if let Some(why) = fenced::refusal(&plan) {
        return Err(why.into());
    }
    preparing::sources(store, &plan)?;
    for (part, _) in plan.replaced() {
        preparing::movable(store, Place::Live(part))?;
    }
    let mut explanation = explain_for(store, &plan)?;
    if make {
        let first = "the factory snapshot: made anew from the default tarball, before that";
        explanation.changes.insert(0, first.to_owned());
    }
    if let Some(it) = plan.too_late() {
        return Err(Error::TooLate(it.app.to_string()));
    }
    Ok((plan, explanation))
}

/// A change was refused before it was asked for: what waits to be deleted is kept for whoever wanted
/// to go back to it. Writes nothing where nothing waits, or while a transaction is open.
pub fn attempted<S: Store>(store: &mut S, records: &mut Records, verb: Verb) -> Result<()> {
    let mut state = records.state.value.clone();
    state.attempted(verb);
    if state != records.state.value && records.journal.value == Journal::Closed {
        records.state.write(store, state)?;
    }
    Ok(())
}

/// What GRUB sources while this request waits: its entry says what it is about.
pub fn armed(verb: Verb) -> Vec<u8> {
    let mut text = execute::ARMED.to_vec();
    // The characters and the length that grub.cfg shows; a verb's text has no others.
    let why: String = verb
        .to_string()
        .chars()
        .filter(|c| *c != '"')
        .take(50)
        .collect();
    text.extend_from_slice(format!("set backstay_armed_why=\"{why}\"\n").as_bytes());
    text
}

/// Writes a request down to which no loss was shown. On disk on return. `link_spare` gives [`SPARE`] the name of the hint.
pub fn submit<S: Store>(
    store: &mut S,
    records: &mut Records,
    verb: Verb,
    consent: Consent,
    ticket: Ticket,
    now: u64,
    link_spare: &dyn Fn() -> std::io::Result<()>,
) -> Result<()> {
    let request = Request {
        ticket,
        verb,
        consent,
        loss: false,
        created: now,
        prepared: Prepared::NONE,
    };
    submit_request(store, records, request, link_spare)
}

/// What a plan that is shown asks for, with what was converted for it.
pub fn shown(
    plan: &Plan,
    verb: Verb,
    consent: Consent,
    prepared: Prepared,
    ticket: Ticket,
    now: u64,
) -> Request {
    Request {
        ticket,
        verb,
        consent,
        loss: plan.converts_with_loss(),
        created: now,
        prepared,
    }
}

/// The same with what was shown, and with what was converted for it, which must be on disk.
pub fn submit_request<S: Store>(
    store: &mut S,
    records: &mut Records,
    request: Request,
    link_spare: &dyn Fn() -> std::io::Result<()>,
) -> Result<()> {
    idle(records)?;
    not_behind(store, records)?;
    let mut state = records.state.value.clone();
    state.request = Some(request);
    write_down(store, records, state, link_spare)
}

/// Refuses where the state is an older copy of itself: the agent would refuse what it asks for.
pub fn not_behind<S: Store>(store: &S, records: &Records) -> Result<()> {
    let facts = catalogue::facts(store, None, false)?;
    match policy::is_behind(&records.state.value, &facts) {
        true => Err(Error::StateBehind),
        false => Ok(()),
    }
}

/// Writes a state in which a request waits, after the hint that it needs. On disk on return.
///
/// Where something waits already, the hint for that is never away: a power cut leaves what waited, or the new request.
pub fn write_down<S: Store>(
    store: &mut S,
    records: &mut Records,
    state: State,
    link_spare: &dyn Fn() -> std::io::Result<()>,
) -> Result<()> {
    let waited = records.state.value.waits() && store.read(File::Armed)?.is_some();
    if !waited {
        // What is left over from before would be in the way of a second name.
        store.remove(File::Armed)?;
    }
    let text = state
        .request
        .map_or(execute::ARMED.to_vec(), |it| armed(it.verb));
    with_ballast(store, |store| match store.replace(File::Armed, &text) {
        // It says something else, and does the same.
        Err(StoreError::Full(_)) if waited || link_spare().is_ok() => Ok(()),
        other => other,
    })?;
    store.sync()?;
    let written = records.state.write(store, state);
    if written.is_err() && !records.state.value.waits() {
        store.remove(File::Armed)?;
    }
    store.sync()?;
    Ok(written?)
}

/// Withdraws the request that waits, if one does, with what was converted for it, and a hint that is left over. On disk on
/// return.
pub fn cancel<S: Store>(store: &mut S, records: &mut Records) -> Result<Option<Request>> {
    let mut state = records.state.value.clone();
    let request = state.request.take();
    records.state.write(store, state)?;
    disarm_stale(store, records)?;
    prepared::tidied(store, records);
    Ok(request)
}

/// Removes the hint for GRUB when nothing waits for the agent. Says whether there was one.
pub fn disarm_stale<S: Store>(store: &mut S, records: &Records) -> Result<bool> {
    let waits = records.state.value.waits() || records.journal.value != Journal::Closed;
    if waits || store.read(File::Armed)?.is_none() {
        return Ok(false);
    }
    store.remove(File::Armed)?;
    store.sync()?;
    Ok(true)
}

/// A store without the spare.
#[cfg(test)]
pub(crate) fn no_spare() -> std::io::Result<()> {
    Err(std::io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::names::Version;
    use crate::policy::refusal::Refusal;
    use crate::store::place::{Place, Set};
    use crate::transaction::model::machine;

    const VERBS: [Verb; 10] = [
        Verb::Rollback(None),
        Verb::Rollback(Some(u32::MAX)),
        Verb::Forward,
        Verb::Select(u32::MAX),
        Verb::ResetConfig { data: false },
        Verb::ResetConfig { data: true },
        Verb::ResetSystem { keep_config: false },
        Verb::ResetSystem { keep_config: true },
        Verb::ResetEverything,
        Verb::Convert,
    ];

    #[test]
    fn a_preview_writes_nothing_and_says_how_to_undo_it() {
        let (store, records) = machine();
        let explanation = preview(
            &store,
            &records,
            Verb::Rollback(None),
            Default::default(),
            7,
        )
        .unwrap();
        assert_eq!(explanation.title, "roll back to snapshot 2");
        assert!(explanation.undo.contains("roll forward"));
        assert_eq!(store.operations, machine().0.operations);
    }

    #[test]
    fn a_look_at_what_another_command_is_doing_leaves_it_alone_and_says_so() {
        for power in 0.. {
            let (mut store, mut records) = machine();
            store.power = Some(power);
            let made =
                crate::admin::snapshot::snapshot(&mut store, &mut records, "", 1, &mut |_| {});
            for left in store.after_power_cut() {
                let records = Records::open(&left).unwrap();
                let before = left.world().files.clone();
                let looked = look(&left, &records);
                match records.journal.value {
                    Journal::Closed => assert_eq!(
                        looked.unwrap().is_some(),
                        left.read(File::Armed).unwrap().is_some()
                    ),
                    _ => {
                        let text = looked.unwrap_err().to_string();
                        assert!(text.contains("another backstay"), "{text}");
                        assert!(text.contains("reboot"), "{text}");
                    }
                }
                assert_eq!(left.world().files, before);
            }
            if made.is_ok() {
                assert!(power > 5);
                return;
            }
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_before_anything_is_written() {
        let (mut store, records) = machine();
        assert!(matches!(
            preview(&store, &records, Verb::Forward, Default::default(), 0),
            Err(Error::Refused(Refusal::NothingNewer))
        ));
        assert!(matches!(
            preview(
                &store,
                &records,
                Verb::Rollback(Some(77)),
                Default::default(),
                0
            ),
            Err(Error::Refused(Refusal::Unsound(Set::Snapshot(77), _)))
        ));
        store.edit(|world, _| {
            let place = Place::Snapshot(2, Part::System);
            let tree = &mut world.datasets.get_mut(&place).unwrap().tree;
            tree.remove("lib/modules/6.12/modules.dep");
        });
        assert!(matches!(
            preview(
                &store,
                &records,
                Verb::Rollback(None),
                Default::default(),
                0
            ),
            Err(Error::Transaction(transaction::Error::Unbootable(_)))
        ));
    }

    #[test]
    fn the_fence_is_asked_before_anything_is_written_and_its_answer_is_in_the_plan() {
        use crate::fence::tests::{declare, label};
        let (mut store, mut records) = machine();
        let old = "dataset = \"data\"\nstate = \"1\"\n";
        let new = "dataset = \"data\"\nstate = \"2\"\n[[converter]]\nfrom = [\"2\"]\nto = \"1\"\n\
                   command = [\"/usr/bin/down\"]\nlossless = false\nearly = true\n";
        declare(&mut store, Version::Snapshot(2), old);
        declare(&mut store, Version::Live, new);
        let back = Verb::Rollback(None);
        for consent in [Consent::Refuse, Consent::Restore] {
            let refused = preview(&store, &records, back, consent, 0);
            let Err(Error::Refused(why @ Refusal::Fenced(Version::Snapshot(2), _))) = refused
            else {
                panic!("{consent:?}: {refused:?}");
            };
            assert!(why.to_string().contains("fence=convert"), "{why}");
        }
        let explanation = preview(&store, &records, back, Consent::Convert, 0).unwrap();
        let text = explanation.to_string();
        for says in [
            "data: becomes a converted clone of itself",
            "2 to 1 by down of the live system",
            "LOST: ",
            "fence=restore",
        ] {
            assert!(text.contains(says), "{says}: {text}");
        }
        assert_eq!(explanation.unchecked, "");
        // The version that reads it says so, and who declares nothing is not called checked.
        label(&mut store, Place::Live(Part::Data(0)), "1");
        let explanation = preview(&store, &records, back, Consent::Refuse, 0).unwrap();
        assert!(explanation.to_string().contains("no conversion needed"));
        let one = Verb::Rollback(Some(1));
        let explanation = preview(&store, &records, one, Consent::Refuse, 0).unwrap();
        assert!(explanation.fence.is_empty() && explanation.unchecked.contains("not checked"));
        let ticket = [7; 16];
        let consent = Consent::Convert;
        submit(
            &mut store,
            &mut records,
            back,
            consent,
            ticket,
            1,
            &no_spare,
        )
        .unwrap();
        let waits = Records::open(&store).unwrap().state.value.request.unwrap();
        assert_eq!(waits.consent, consent);
    }

    #[test]
    fn a_second_request_is_refused_and_cancel_withdraws_the_first() {
        let (mut store, mut records) = machine();
        submit(
            &mut store,
            &mut records,
            Verb::Rollback(None),
            Default::default(),
            [7; 16],
            1,
            &no_spare,
        )
        .unwrap();
        let error = submit(
            &mut store,
            &mut records,
            Verb::Forward,
            Default::default(),
            [8; 16],
            1,
            &no_spare,
        )
        .unwrap_err();
        assert!(error.to_string().contains("backstay cancel"), "{error}");
        let mut again = Records::open(&store).unwrap();
        assert_eq!(again.state.value.request.unwrap().ticket, [7; 16]);
        let withdrawn = cancel(&mut store, &mut again).unwrap().unwrap();
        assert_eq!(withdrawn.verb, Verb::Rollback(None));
        assert_eq!(store.read(File::Armed).unwrap(), None);
        assert_eq!(Records::open(&store).unwrap().state.value.request, None);
        assert_eq!(cancel(&mut store, &mut again).unwrap(), None);
    }

    #[test]
    fn nothing_is_asked_for_while_a_snapshot_is_booted_once() {
        let (mut store, mut records) = machine();
        let mut state = records.state.value.clone();
        state.parked = Some(2);
        records.state.write(&mut store, state).unwrap();
        store.replace(File::Armed, execute::ARMED).unwrap();
        let error = submit(
            &mut store,
            &mut records,
            Verb::Rollback(None),
            Default::default(),
            [7; 16],
            1,
            &no_spare,
        );
        assert!(matches!(error, Err(Error::Parked(2))));
        assert_eq!(cancel(&mut store, &mut records).unwrap(), None);
        assert!(
            store.read(File::Armed).unwrap().is_some(),
            "the return stays armed"
        );
    }

    /// A waiting request without the hint would never be carried out, so no power cut may leave it.
    #[test]
    fn no_power_cut_leaves_a_request_without_the_hint() {
        for withdraw in [false, true] {
            for power in 0..12 {
                let (mut store, mut records) = machine();
                if withdraw {
                    submit(
                        &mut store,
                        &mut records,
                        Verb::Rollback(None),
                        Default::default(),
                        [7; 16],
                        1,
                        &no_spare,
                    )
                    .unwrap();
                }
                store.power = Some(power);
                match withdraw {
                    true => cancel(&mut store, &mut records).map(|_| ()).ok(),
                    false => submit(
                        &mut store,
                        &mut records,
                        Verb::Forward,
                        Default::default(),
                        [7; 16],
                        1,
                        &no_spare,
                    )
                    .ok(),
                };
                for left in store.after_power_cut() {
                    let waits = Records::open(&left).unwrap().state.value.request.is_some();
                    let armed = left.read(File::Armed).unwrap().is_some();
                    assert!(armed || !waits, "withdraw {withdraw}, cut at {power}");
                }
            }
        }
    }

    #[test]
    fn a_full_file_system_takes_the_spare_and_leaves_the_ballast_for_the_agent() {
        for (spare, ballast) in [(true, true), (false, false)] {
            let (mut store, mut records) = machine();
            store.full = Some(false);
            let link = || if spare { Ok(()) } else { no_spare() };
            submit(
                &mut store,
                &mut records,
                Verb::Rollback(None),
                Default::default(),
                [7; 16],
                1,
                &link,
            )
            .unwrap();
            assert_eq!(store.world().ballast, ballast);
            assert!(Records::open(&store).unwrap().state.value.request.is_some());
        }
    }

    #[test]
    fn the_hint_for_grub_is_in_the_alphabet_that_grub_shows() {
        for verb in VERBS {
            let text = String::from_utf8(armed(verb)).unwrap();
            let why = text.split('"').nth(1).unwrap();
            assert!(text.starts_with("set backstay_armed=1\n"));
            assert!((1..=50).contains(&why.len()), "{why}");
            let shown = |c: char| c.is_ascii_alphanumeric() || " ._:,-".contains(c);
            assert!(why.chars().all(shown), "{why}");
        }
    }
}
