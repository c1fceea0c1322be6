//! `rollback`, `forward`, `select`, `reset` and `cancel`, from arguments to what is printed; the menu asks in the same
//! way.
//!
//! A power cut leaves what [`request`] says.

use super::changed::Changed;
use super::cli::{How, Keep, Lossy, Reset, What};
use super::error::{Error, Result};
use super::machine::{Lock, Machine};
use super::output::{self, now};
use super::run::{Ended, Open, Out, note, open};
use super::{consent, reboot, request, run_convert, run_upgrade, upgrade};
use crate::policy::refusal::Refusal;
use crate::policy::resolve;
use crate::policy::terms::{Conversions, Terms};
use crate::record::layout::Part;
use crate::record::state::{Consent, Prepared, Ticket, Verb};
use crate::store::Store;
use crate::store::btrfs::Btrfs;
use crate::store::place::STORE;
use crate::transaction::explain::Explanation;
use crate::transaction::plan::Plan;
use crate::transaction::records::Records;
use serde::Serialize;
use std::io::Read;
use std::path::Path;

/// What a conversion in the running system means until the next boot.
pub(super) const HELD: &str =
    "Until then the data that was converted is read-only, and what writes to it is stopped.";

/// Asks for a reset, once the word was typed.
pub fn reset(root: Option<&Path>, args: &Reset, out: Out) -> Result<Ended> {
    let keep_config = args.keep == Some(Keep::Config);
    if keep_config && args.what != What::System {
        return Err(Error::KeepNeedsSystem);
    }
    let keeps_version = matches!(args.what, What::Config | What::ConfigAndData);
    if keeps_version && args.agreed.fence.is_some() {
        let others = "'reset system' and 'reset everything'";
        return Err(Error::FenceNeeds("--fence", others));
    }
    let verb = match args.what {
        What::Config => Verb::ResetConfig { data: false },
        What::ConfigAndData => Verb::ResetConfig { data: true },
        What::System => Verb::ResetSystem { keep_config },
        What::Everything => Verb::ResetEverything,
    };
    let asks = Asks {
        verb,
        consent: args.agreed.consent(),
        typed: !args.yes,
    };
    ask_with(root, asks, args.how, out)
}

/// Asks for a conversion of what the live version does not read; asks for nothing where there is no such data.
pub fn convert(root: Option<&Path>, lossy: Option<Lossy>, how: How, out: Out) -> Result<Ended> {
    let consent = match lossy {
        Some(Lossy::Convert) => Consent::Convert,
        None => Consent::Refuse,
    };
    match ask(root, Verb::Convert, consent, how, out) {
        Err(Error::Refused(why @ Refusal::NothingToConvert)) => {
            out.result(&Nothing { written: false });
            out.say(&why.to_string());
            Ok(Ended::Done)
        }
        other => other,
    }
}

/// A conversion that was not needed, as `--json` gives it.
#[derive(Serialize)]
struct Nothing {
    written: bool,
}

/// Asks for a change.
pub fn ask(root: Option<&Path>, verb: Verb, consent: Consent, how: How, out: Out) -> Result<Ended> {
    let asks = Asks {
        verb,
        consent,
        typed: false,
    };
    ask_with(root, asks, how, out)
}

/// What is asked for.
#[derive(Clone, Copy)]
struct Asks {
    verb: Verb,
    consent: Consent,
    /// Whether a word has to be typed.
    typed: bool,
}

/// A change that was asked for, as `--json` gives it.
#[derive(Serialize)]
struct Asked<'a> {
    verb: String,
    written: bool,
    /// Datasets of which a clone was converted already.
    converted: Vec<String>,
    #[serde(flatten)]
    explanation: &'a Explanation,
}

fn ask_with(root: Option<&Path>, asks: Asks, how: How, out: Out) -> Result<Ended> {
    let Asks {
        verb,
        consent,
        typed,
    } = asks;
    // With --root nobody waits for this machine's reboot.
    if how.reboot && root.is_some() {
        return Err(Error::RebootNeedsRunning);
    }
    if how.dry_run {
        return dry_run(root, verb, consent, out);
    }
    let mut open = open(root, Lock::Try, out)?;
    let (plan, explanation) = planned(&mut open, root, verb, consent)?;
    if !out.json {
        output::out(&explanation);
    }
    if typed {
        consent::typed()?;
    }
    let prepared = convert_and_submit(&mut open, &plan, verb, consent, out)?;
    out.result(&Asked {
        verb: verb.to_string(),
        written: true,
        converted: names(&open.store, &prepared),
        explanation: &explanation,
    });
    if !out.json {
        out.say("The next boot does this. Until then 'backstay cancel' withdraws it.");
        if !prepared.is_none() {
            out.say(HELD);
        }
    }
    if how.reboot {
        reboot::reboot()?;
    }
    Ok(Ended::Done)
}

/// Converts what [`planned`] converts of the live data, and writes the request down. On disk on return; where anything fails
/// nothing waits, and nothing is held.
pub(super) fn convert_and_submit(
    open: &mut Open,
    plan: &Plan,
    verb: Verb,
    consent: Consent,
    out: Out,
) -> Result<Prepared> {
    let prepared = run_convert::prepare(open, plan, out)
        .inspect_err(|error| refused(&mut open.store, &mut open.records, verb, error))?;
    let submitted = submit_with(open, plan, verb, consent, prepared);
    if submitted.is_err() && !prepared.is_none() {
        run_convert::give_up(&mut open.store, &open.records, out);
    }
    submitted.map(|()| prepared)
}

/// What a change would do that is carried out before boot as a whole. That it was refused is written down, and what waits
/// to be deleted is kept for whoever wanted to go back to it.
pub(super) fn plan(
    open: &mut Open,
    verb: Verb,
    terms: impl Into<Terms>,
) -> Result<(Plan, Explanation)> {
    preview(
        &open.machine,
        &open.store,
        &open.records,
        verb,
        terms.into(),
    )
    .inspect_err(|error| refused(&mut open.store, &mut open.records, verb, error))
}

/// The same with its plan, of a change that is converted for in the running system where it can be.
pub(super) fn planned(
    open: &mut Open,
    root: Option<&Path>,
    verb: Verb,
    consent: Consent,
) -> Result<(Plan, Explanation)> {
    by_preference(
        &open.machine,
        &open.store,
        &open.records,
        root,
        verb,
        consent,
    )
    .inspect_err(|error| refused(&mut open.store, &mut open.records, verb, error))
}

/// In the running system all converters count, and before boot the early ones.
fn by_preference(
    machine: &Machine,
    store: &Btrfs,
    records: &Records,
    root: Option<&Path>,
    verb: Verb,
    consent: Consent,
) -> Result<(Plan, Explanation)> {
    let by = |conversions| {
        let terms = Terms {
            conversions,
            ..Terms::from(consent)
        };
        preview(machine, store, records, verb, terms)
    };
    // With --root nothing of that system runs.
    if root.is_some() {
        return by(Conversions::BeforeBoot);
    }
    match by(Conversions::Running) {
        Err(Error::TooLate(_)) => by(Conversions::BeforeBoot),
        other => other,
    }
}

fn refused<S: Store>(store: &mut S, records: &mut Records, verb: Verb, error: &Error) {
    if matches!(error, Error::Refused(Refusal::NothingToConvert)) {
        return;
    }
    if let Err(other) = request::attempted(store, records, verb) {
        log::warn!("that it was tried is not written down: {other}");
    }
    note(store, &format!("not asked for, {verb}: {error}"));
}

/// Writes the request down, after [`plan`] under the same lock, which gave what is shown. On disk on return.
pub(super) fn submit(open: &mut Open, shown: &Plan, verb: Verb, consent: Consent) -> Result<()> {
    submit_with(open, shown, verb, consent, Prepared::NONE)
}

/// The same with what was converted for it.
fn submit_with(
    open: &mut Open,
    shown: &Plan,
    verb: Verb,
    consent: Consent,
    prepared: Prepared,
) -> Result<()> {
    let link = spare(&open.machine);
    let request = request::shown(shown, verb, consent, prepared, ticket()?, now());
    request::submit_request(&mut open.store, &mut open.records, request, &link)?;
    note(&mut open.store, &format!("asked for the next boot: {verb}"));
    Ok(())
}

/// Gives the spare the name of the hint, on a full disk.
pub(super) fn spare(machine: &Machine) -> impl Fn() -> std::io::Result<()> + use<> {
    let grub = machine.top.join(STORE);
    move || std::fs::hard_link(grub.join(request::SPARE), grub.join("armed/armed.cfg"))
}

/// Without the lock, so nothing is written and nothing that is open is settled: it may be another
/// command's, which runs.
fn dry_run(root: Option<&Path>, verb: Verb, consent: Consent, out: Out) -> Result<Ended> {
    let machine = Machine::open(root, Lock::None)?;
    machine.refuse_copies()?;
    let store = machine.store()?;
    let records = Records::open(&store)?;
    if let Some(why) = request::look(&store, &records)? {
        out.say(&format!("note: {why}"));
    }
    let (plan, explanation) = by_preference(&machine, &store, &records, root, verb, consent)?;
    out.result(&Asked {
        verb: verb.to_string(),
        written: false,
        converted: Vec::new(),
        explanation: &explanation,
    });
    if !out.json {
        output::out(&explanation);
        if root.is_none() && !plan.convertible().is_empty() {
            out.say("It would be converted at once: what writes to the data is stopped from then to the reboot.");
        }
        out.say("Nothing was written (--dry-run).");
    }
    Ok(Ended::Done)
}

fn preview(
    machine: &Machine,
    store: &Btrfs,
    records: &Records,
    verb: Verb,
    terms: Terms,
) -> Result<(Plan, Explanation)> {
    if let Some(what) = machine.recovery.missing() {
        return Err(Error::NoRecoveryKernel(what));
    }
    let (plan, mut explanation) = request::planned(store, records, verb, terms, now())?;
    let state = &records.state.value;
    let source = resolve::intent(verb, state)?.source();
    let was = source.and_then(|set| set.place(Part::System).path(store.layout()));
    if let Some(was) = was {
        let was = machine.top.join(was);
        let live = machine.top.join(store.layout().system.live.as_str());
        for line in &mut explanation.goes_along {
            let below = line.trim_start_matches('/').to_owned();
            let changed = Changed::between(&was.join(&below), &live.join(&below));
            line.push_str(&format!(" ({changed})"));
        }
    }
    Ok((plan, explanation))
}

/// Datasets of which there is a converted clone.
pub(super) fn names<S: Store>(store: &S, prepared: &Prepared) -> Vec<String> {
    let parts = prepared.parts();
    parts
        .map(|part| store.layout().title(part).to_owned())
        .collect()
}

/// Random bytes.
pub(super) fn ticket() -> Result<Ticket> {
    let path = "/dev/urandom";
    let mut ticket = Ticket::default();
    std::fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut ticket))
        .map_err(Error::file("reading", path))?;
    Ok(ticket)
}

#[derive(Serialize)]
struct Withdrawn {
    withdrawn: Option<String>,
    /// Whether services that were stopped, and data that was read-only, are as before.
    let_go: bool,
}

/// Withdraws what waits, and lets go what was held for it.
pub fn cancel(root: Option<&Path>, out: Out) -> Result<Ended> {
    let Open {
        machine,
        mut store,
        mut records,
    } = open(root, Lock::Try, out)?;
    if run_upgrade::goes_on(&machine)? {
        return Err(Error::Upgrading);
    }
    let request = request::cancel(&mut store, &mut records)?;
    let withdrawn = request.map(|request| request.verb.to_string());
    if let Some(what) = &withdrawn {
        note(&mut store, &format!("withdrawn: {what}"));
    }
    // What is held is this machine's.
    let let_go = match root {
        None => run_convert::let_go(out)?,
        Some(_) => false,
    };
    out.result(&Withdrawn {
        withdrawn: withdrawn.clone(),
        let_go,
    });
    let unfinished = request.is_some_and(|it| it.ends_upgrade() || upgrade::undoes(&it).is_some());
    match withdrawn {
        Some(what) if !out.json => out.say(&match unfinished {
            true => format!(
                "withdrawn: {what}; as the upgrade did not end, the live system is marked bad, and the next boot falls back: \
                 'backstay mark-good' keeps it"
            ),
            false => format!("withdrawn: {what}; the next boot changes nothing"),
        }),
        Some(_) => {}
        None => {
            out.say("nothing waits for the next boot");
            if !let_go {
                return Ok(Ended::Nothing);
            }
        }
    }
    Ok(Ended::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::state::{Destroy, Phase};
    use crate::store::place::File;
    use crate::transaction::model::machine;

    #[test]
    fn what_was_tried_and_refused_keeps_what_waits_to_be_deleted_and_is_in_the_log() {
        let (mut store, mut records) = machine();
        let mut state = records.state.value.clone();
        state.destroy = Some(Destroy {
            live: state.live.system,
            up_to: 2,
            phase: Phase::Waits,
        });
        records.state.write(&mut store, state).unwrap();
        let error = request::preview(
            &store,
            &records,
            Verb::Rollback(Some(77)),
            Consent::Refuse,
            0,
        )
        .unwrap_err();
        refused(&mut store, &mut records, Verb::Rollback(Some(77)), &error);
        let state = Records::open(&store).unwrap().state.value;
        assert_eq!(state.destroy.unwrap().phase, Phase::Suspended);
        let log = store.read(File::Log).unwrap().unwrap();
        assert!(String::from_utf8_lossy(&log).contains("not asked for"));
    }
}
