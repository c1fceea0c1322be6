//! The commands about trials, from arguments to what is printed.

use super::error::{Error, Result};
use super::machine::Lock;
use super::run::{Ended, Open, Out, note, open};
use super::{health, reboot, trial};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// For whoever is at the console to read why, and to stay.
const PATIENCE: Duration = Duration::from_secs(60);

/// Puts the live system on trial.
pub fn try_live(root: Option<&Path>, out: Out) -> Result<Ended> {
    let Open {
        mut store,
        mut records,
        ..
    } = open(root, Lock::Try, out)?;
    let tried = trial::begin(&mut store, &mut records)?;
    note(&mut store, "the live system is on trial");
    out.result(&tried);
    if out.json {
        return Ok(Ended::Done);
    }
    let to = match tried.fall_back_to {
        Some(id) => format!("falls back to snapshot {id}"),
        None => "opens its menu, as no snapshot was ever marked good".to_owned(),
    };
    out.say(&format!(
        "the live system is on trial: unless it is marked good within {} starts, the machine {to}",
        tried.tries
    ));
    if !tried.kexec {
        out.say(
            "kexec failed on this machine: a start is counted, but with the recovery kernel; one that \
             panics in its own kernel is not",
        );
    }
    Ok(Ended::Done)
}

#[derive(Serialize)]
struct Bad {
    fall_back_to: Option<u32>,
}

/// Leaves no start to it.
pub fn mark_bad(root: Option<&Path>, reboot: bool, out: Out) -> Result<Ended> {
    if reboot && root.is_some() {
        return Err(Error::RebootNeedsRunning);
    }
    let Open {
        mut store,
        mut records,
        ..
    } = open(root, Lock::Wait, out)?;
    let to = trial::mark_bad(&mut store, &mut records)?;
    note(&mut store, "the live system is marked bad");
    out.result(&Bad { fall_back_to: to });
    if !out.json {
        out.say(&match to {
            Some(id) => format!("marked bad: the next start falls back to snapshot {id}"),
            None => {
                "marked bad: nothing good is left to fall back to, so the next start opens the menu"
                    .to_owned()
            }
        });
    }
    if reboot {
        reboot::reboot()?;
    }
    Ok(Ended::Done)
}

#[derive(Serialize)]
struct Failed {
    restarts: bool,
}

/// This start has failed, as far as the system itself can tell: it restarts if it is on trial, so that the next
/// start is counted, or falls back. A system that is not on trial is left alone, however broken it is.
pub fn start_failed(root: Option<&Path>, out: Out) -> Result<Ended> {
    if root.is_some() {
        return Err(Error::RebootNeedsRunning);
    }
    let Open {
        mut store, records, ..
    } = open(root, Lock::Wait, out)?;
    let trial = records.state.value.live_trial();
    out.result(&Failed {
        restarts: trial.is_some(),
    });
    let Some(trial) = trial else {
        out.say("not on trial: nothing is done about a start that failed");
        return Ok(Ended::Done);
    };
    let line = format!("start {} of {} on trial failed", trial.begun, trial.tries);
    note(&mut store, &line);
    drop(store);
    out.say(&format!(
        "{line}: restarting in {} s; 'systemctl stop backstay-start-failed' prevents it",
        PATIENCE.as_secs()
    ));
    std::thread::sleep(PATIENCE);
    reboot::reboot()?;
    Ok(Ended::Done)
}

/// Runs the health checks of the running system; an error where a required one fails.
pub fn healthy(root: Option<&Path>, out: Out) -> Result<()> {
    if root.is_some() {
        return Err(Error::CheckNeedsRunning);
    }
    let directory = Path::new(health::DIRECTORY);
    let checked = health::run(directory, health::LIMIT, &mut |line| eprintln!("{line}"))?;
    let Some(health::Checked {
        name,
        failed: Some(why),
        ..
    }) = health::first_failure(&checked)
    else {
        return Ok(());
    };
    let Open { mut store, .. } = open(root, Lock::Wait, out)?;
    note(&mut store, &format!("not marked good: {name}: {why}"));
    Err(Error::Unhealthy(name.clone(), why.clone()))
}
