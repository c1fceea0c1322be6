//! The commands about trials, from arguments to what is printed.

use super::error::{Error, Result};
use super::machine::{Lock, Machine};
use super::run::{Ended, Open, Out, note, open};
use super::{health, own_kernel, reboot, trial};
use crate::agent::kexec::forbidden_by_trial;
use crate::agent::{asked, boot_record, watchdog};
use crate::policy::trial::count;
use crate::record::slots::Slots;
use crate::record::state::Trial;
use crate::store::Store;
use crate::store::btrfs::Btrfs;
use crate::transaction::execute::arm;
use crate::transaction::records::{Records, read_state};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// For whoever is at the console to read why, and to stay.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long another command may hold the store before a start that failed ends without it; 'mark-good' after a reset of
/// everything deletes for minutes.
const LOCKED: Duration = Duration::from_secs(600);
/// How often it is looked whether it still does.
const LOOK: Duration = Duration::from_secs(1);

/// Puts the live system on trial.
pub fn try_live(root: Option<&Path>, out: Out) -> Result<Ended> {
    let Open {
        machine,
        mut store,
        mut records,
    } = open(root, Lock::Try, out)?;
    if root.is_none() {
        // What is tried is what an upgrade has put into /boot.
        own_kernel::keep()?;
    }
    let mut tried = trial::begin(&mut store, &mut records)?;
    if machine.recovery.is_hosts {
        tried.not_counted.get_or_insert(
            "the root's device is not there before the distribution's initramfs has made it",
        );
    } else if root.is_none() && forbidden_by_trial(&machine.recovery.directory()).is_some() {
        tried
            .not_counted
            .get_or_insert("kexec is not permitted here");
    }
    note(&mut store, "the live system is on trial");
    out.result(&tried);
    if out.json {
        return Ok(Ended::Done);
    }
    let to = match tried.fall_back_to {
        Some(id) => format!("falls back to snapshot {id}"),
        None => "opens its menu, as it has no snapshot to fall back to by itself".to_owned(),
    };
    out.say(&format!(
        "the live system is on trial: unless it is marked good within {} starts, the machine {to}",
        tried.tries
    ));
    if let Some(why) = tried.not_counted {
        out.say(&format!(
            "a kernel that panics before it has started anything is not counted: {why}"
        ));
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
                "marked bad: no snapshot is left to fall back to by itself, so the next start opens the menu"
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
    let Some(tried) = tried_here()? else {
        out.result(&Failed { restarts: false });
        out.say("not on trial: nothing is done about a start that failed");
        return Ok(Ended::Done);
    };
    let failed = |begun: u8| format!("start {begun} of {} on trial failed", tried.tries);
    let line = match open_in_time(out)? {
        Some(Open {
            mut store,
            mut records,
            ..
        }) => {
            let line = failed(match an_agent_counted() {
                true => tried.begun,
                false => count_here(&mut store, &mut records)?,
            });
            note(&mut store, &line);
            line
        }
        None => failed(tried.begun),
    };
    out.say(&format!(
        "{line}: restarting in {} s; 'backstay mark-good', or 'systemctl stop backstay-start-failed', \
         prevents it",
        PATIENCE.as_secs()
    ));
    std::thread::sleep(PATIENCE);
    let restarts = tried_here()?.is_some_and(|still| still.system == tried.system);
    out.result(&Failed { restarts });
    match restarts {
        true => reboot::reboot()?,
        false => out.say("it was marked good meanwhile: it goes on"),
    }
    Ok(Ended::Done)
}

/// The trial of the running system, if it is the live one. Read without the lock: whoever holds that may hang.
fn tried_here() -> Result<Option<Trial>> {
    let machine = Machine::open(None, Lock::None)?;
    let store = machine.store()?;
    let live = store.layout().system.live.as_str();
    Ok(match read_state(&store)? {
        Slots::Valid { value, .. } if machine.booted.as_deref() == Some(live) => value.live_trial(),
        _ => None,
    })
}

/// The store, once no other command holds it; `None` where one does not end.
fn open_in_time(out: Out) -> Result<Option<Open>> {
    let begun = Instant::now();
    loop {
        match open(None, Lock::Try, out) {
            Err(Error::Locked) if begun.elapsed() < LOCKED => std::thread::sleep(LOOK),
            Err(Error::Locked) => return Ok(None),
            other => return other.map(Some),
        }
    }
}

/// Whether an agent was in this boot, or in the kernel that started this one by kexec. None was where GRUB has started
/// the system with a stock initramfs.
fn an_agent_counted() -> bool {
    let line = std::fs::read("/proc/cmdline").unwrap_or_default();
    Path::new(boot_record::PATH).exists() || asked::read(&line).attempt.is_some()
}

/// Counts this start, which is on disk then, and has GRUB start the agent where no start is left.
fn count_here(store: &mut Btrfs, records: &mut Records) -> Result<u8> {
    let mut state = records.state.value.clone();
    count(&mut state);
    if state.guarded() {
        arm(store)?;
    }
    let begun = state.live_trial().map_or(0, |trial| trial.begun);
    records.state.write(store, state)?;
    Ok(begun)
}

/// Runs the health checks of the running system; an error where a required one fails.
pub fn healthy(root: Option<&Path>, out: Out) -> Result<()> {
    if root.is_some() {
        return Err(Error::CheckNeedsRunning);
    }
    // Each check has its own time.
    watchdog::stop();
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
