//! `backstay mark-good`: the running system has come up. What marks it, and what follows from that: the watchdog is
//! stopped, its kernel becomes the recovery kernel, and what `reset everything` left is deleted.

use super::cli::MarkGood;
use super::error::{Error, Result};
use super::machine::{Lock, Machine};
use super::run::{Ended, Open, Out, note, open};
use super::{good, own_kernel, recovery};
use crate::agent::kernel::is_recovery;
use crate::agent::kexec::running_release;
use crate::agent::{boot_record, watchdog};
use crate::record::layout::Part;
use crate::record::state::{Kexec, State};
use crate::store::StoreError;
use crate::store::btrfs::Btrfs;
use crate::store::place::Place;
use crate::transaction::check;
use crate::transaction::records::Records;
use std::path::Path;

/// Whether the agent started the running kernel by kexec: its command line says so.
fn started_by_kexec() -> bool {
    let line = std::fs::read("/proc/cmdline").unwrap_or_default();
    kernel_cmdline::parse(&line).is_ok_and(|request| request.attempt.is_some())
}

/// Whether the kernel that runs is the one that the live system has, and not the recovery kernel.
fn runs_own_kernel() -> bool {
    boot_record::own_kernel_runs().unwrap_or_else(|| {
        // No agent was in this boot.
        let line = std::fs::read("/proc/cmdline").unwrap_or_default();
        !is_recovery(&line)
    })
}

/// A system on trial was told to panic where a task hangs; a good one may have to wait for a slow disk.
fn spare_hung_tasks() {
    const SETTING: &str = "/proc/sys/kernel/hung_task_panic";
    match std::fs::write(SETTING, "0\n") {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            log::warn!("write({SETTING:?}): {error}");
        }
        _ => {}
    }
}

/// What has come up becomes the recovery kernel, too; the one before is kept until it has run. A system is good
/// without that.
fn refresh(store: &mut Btrfs, records: &mut Records, machine: &Machine, out: Out) {
    if let Err(error) = refreshed(store, records, machine, out) {
        out.say(&format!("the recovery kernel stays as it is: {error}"));
    }
}

fn refreshed(store: &mut Btrfs, records: &mut Records, machine: &Machine, out: Out) -> Result<()> {
    own_kernel::keep()?;
    let kernel = check::kernel(store, Place::Live(Part::System))?;
    if let Some(own) = kernel {
        let is_running = own.release.as_str() == running_release();
        // The recovery kernel may be the same, byte for byte.
        let is_same = || machine.recovery.of_live(store).is_ok_and(|it| it.is_some());
        if !is_running || !(runs_own_kernel() || is_same()) {
            // It came up in another kernel: its own one has shown nothing yet.
            return Err(Error::OwnKernelNotRunning(own.release.to_string()));
        }
    }
    let installed = recovery::install(store, &machine.recovery, None, &mut |line| out.say(line))?;
    let mut state = records.state.value.clone();
    if installed.is_new || state.recovery_kernel.as_ref() != Some(&installed.release) {
        state.recovery_kernel = Some(installed.release);
        // Another kernel may be able to.
        state.kexec = Kexec::Unknown;
        records.state.write(store, state)?;
    }
    Ok(())
}

/// What waits for the next boot all the same; after an upgrade that failed, to go back.
fn still_asked(state: &State) -> Option<String> {
    let verb = state.request?.verb;
    Some(format!(
        "the next boot does what was asked for all the same: {verb}; 'backstay cancel' withdraws that"
    ))
}

/// Marks the live system good, and what follows from that.
pub fn mark(root: Option<&Path>, args: &MarkGood, out: Out) -> Result<Ended> {
    let Open {
        machine,
        mut store,
        mut records,
    } = open(root, Lock::Wait, out)?;
    let booted = machine.booted.as_deref().map(|dataset| good::Booted {
        dataset,
        by_kexec: started_by_kexec(),
    });
    let was_good = records.state.value.good;
    let tried = records.state.value.live_trial();
    if tried.is_some() && root.is_none() {
        // It is up: what follows may take longer than a start.
        watchdog::stop();
        spare_hung_tasks();
    }
    if tried.is_some_and(|trial| trial.condemned) {
        if args.check {
            let why = "it was marked bad; 'backstay mark-good' takes that back";
            out.result(&good::Marked {
                why_not: Some(why.to_owned()),
                ..good::Marked::default()
            });
            out.say(&format!("not marked good: {why}"));
            return Ok(Ended::Done);
        }
        out.say("it had been marked bad: that is taken back");
    }
    let marked = good::mark_good(&mut store, &mut records, booted, args.delete, &mut |line| {
        out.say(line);
    })?;
    out.result(&marked);
    if let Some(why) = &marked.why_not {
        out.say(&format!("not marked good: {why}"));
        return Ok(Ended::Done);
    }
    if !out.json {
        out.say("the live system is marked good");
        if let Some(line) = still_asked(&records.state.value) {
            out.say(&line);
        }
    }
    if was_good != records.state.value.good && root.is_none() {
        refresh(&mut store, &mut records, &machine, out);
    }
    let state = &records.state.value;
    if state.destroy.is_some() && state.request.is_some() {
        out.say(
            "a request waits, so what 'reset everything' replaced is kept until it was carried out \
             or withdrawn",
        );
    } else if marked.suspended {
        out.say(
            "what 'reset everything' replaced is kept, because going back was tried: 'backstay \
             rollback' goes back, 'backstay mark-good --delete' deletes it",
        );
    }
    if was_good != records.state.value.good {
        note(&mut store, "the live system was marked good");
    }
    if !marked.deleted.is_empty() {
        let ids: Vec<String> = marked.deleted.iter().map(ToString::to_string).collect();
        let line = format!(
            "deleted after 'reset everything': snapshots {}",
            ids.join(", ")
        );
        note(&mut store, &line);
        out.say(&format!(
            "{line}; what was deleted is not erased from the disk"
        ));
    }
    // What was given up for a full disk comes back as soon as there is room.
    match store.make_ballast() {
        Ok(()) => {}
        Err(StoreError::Full(_)) => {
            out.say("there is no room yet for the ballast, which is kept for a full disk");
        }
        Err(error) => out.say(&format!(
            "the ballast, which is kept for a full disk, was not made: {error}"
        )),
    }
    match marked.kept.as_slice() {
        [] => Ok(Ended::Done),
        kept => Err(Error::Destroy(format!(
            "'reset everything' is not finished ({}): remove what is in the way, then run 'backstay \
             mark-good' again",
            kept.join("; ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Uuid;
    use crate::record::state::{Consent, Live, Prepared, Request, Verb};

    #[test]
    fn whoever_marks_it_good_learns_what_the_next_boot_does_all_the_same() {
        let mut state = State::new(Live {
            system: Uuid([7; 16]),
            clone_of: None,
        });
        assert_eq!(still_asked(&state), None);
        state.request = Some(Request {
            ticket: [1; 16],
            verb: Verb::Rollback(Some(2)),
            consent: Consent::Refuse,
            loss: false,
            created: 1,
            prepared: Prepared::NONE,
        });
        let line = still_asked(&state).unwrap();
        assert!(
            line.contains(": roll back to snapshot 2; 'backstay cancel'"),
            "{line}"
        );
    }
}
