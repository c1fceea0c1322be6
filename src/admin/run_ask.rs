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
use super::{consent, reboot, request, run_upgrade, upgrade};
use crate::policy::refusal::Refusal;
use crate::policy::resolve;
use crate::record::layout::Part;
use crate::record::state::{Consent, Ticket, Verb};
use crate::store::Store;
use crate::store::btrfs::Btrfs;
use crate::store::place::STORE;
use crate::transaction::explain::Explanation;
use crate::transaction::records::Records;
use serde::Serialize;
use std::io::Read;
use std::path::Path;

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
    let explanation = plan(&mut open, verb, consent)?;
    if !out.json {
        output::out(&explanation);
    }
    if typed {
        consent::typed()?;
    }
    submit(&mut open, verb, consent)?;
    out.result(&Asked {
        verb: verb.to_string(),
        written: true,
        explanation: &explanation,
    });
    if !out.json {
        out.say("The next boot does this. Until then 'backstay cancel' withdraws it.");
    }
    if how.reboot {
        reboot::reboot()?;
    }
    Ok(Ended::Done)
}

/// What a change would do. That it was refused is written down, and what waits to be deleted is kept for whoever wanted
/// to go back to it.
pub(super) fn plan(open: &mut Open, verb: Verb, consent: Consent) -> Result<Explanation> {
    preview(&open.machine, &open.store, &open.records, verb, consent)
        .inspect_err(|error| refused(&mut open.store, &mut open.records, verb, error))
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

/// Writes the request down, after [`plan`] under the same lock. On disk on return.
pub(super) fn submit(open: &mut Open, verb: Verb, consent: Consent) -> Result<()> {
    let link = spare(&open.machine);
    request::submit(
        &mut open.store,
        &mut open.records,
        verb,
        consent,
        ticket()?,
        now(),
        &link,
    )?;
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
    let explanation = preview(&machine, &store, &records, verb, consent)?;
    out.result(&Asked {
        verb: verb.to_string(),
        written: false,
        explanation: &explanation,
    });
    if !out.json {
        output::out(&explanation);
        out.say("Nothing was written (--dry-run).");
    }
    Ok(Ended::Done)
}

fn preview(
    machine: &Machine,
    store: &Btrfs,
    records: &Records,
    verb: Verb,
    consent: Consent,
) -> Result<Explanation> {
    if let Some(what) = machine.recovery.missing() {
        return Err(Error::NoRecoveryKernel(what));
    }
    let mut explanation = request::preview(store, records, verb, consent, now())?;
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
    Ok(explanation)
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
}

/// Withdraws what waits.
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
    out.result(&Withdrawn {
        withdrawn: withdrawn.clone(),
    });
    let Some(what) = withdrawn else {
        out.say("nothing waits for the next boot");
        return Ok(Ended::Nothing);
    };
    note(&mut store, &format!("withdrawn: {what}"));
    let unfinished = request.as_ref().and_then(upgrade::undoes).is_some();
    if !out.json {
        out.say(&match unfinished {
            true => format!(
                "withdrawn: {what}; as the upgrade did not end, the live system is marked bad, and the next boot falls back: \
                 'backstay mark-good' keeps it"
            ),
            false => format!("withdrawn: {what}; the next boot changes nothing"),
        });
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
