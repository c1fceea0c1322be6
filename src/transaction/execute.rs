//! Carries a plan out.

use super::Error;
use super::finish::{finish, with_ballast};
use super::plan::{Conversion, Plan, Step};
use super::preparing::prepare;
use super::records::Records;
use super::recover::undo;
use crate::policy::intent::Intent;
use crate::record::journal::Journal;
use crate::record::state::State;
use crate::store::Store;
use crate::store::place::{File, Place};

/// GRUB sources it while a transaction is open; see grub-entries/menu.cfg.
pub const ARMED: &[u8] = b"set backstay_armed=1\n";

/// So many subvolumes are named one by one: a serial line is slow.
pub const TOLD: usize = 10;

/// Runs a converter on the clone of the data at a place. Where it fails, the clone goes with all that was prepared.
pub type Convert<'a, S> = &'a mut dyn FnMut(&mut S, Place, &Conversion) -> Result<(), Error>;

/// Fills the empty dataset at a place.
pub type Fill<'a, S> = &'a mut dyn FnMut(&mut S, Place) -> Result<(), Error>;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Nested subvolumes that stayed with what was live, by their paths below the top level.
    pub left_behind: std::vec::Vec<String>,
    /// Nested subvolumes that could not be cloned out of the snapshot, by their paths below the top
    /// level: they are still there, and the result has an empty directory for each. Not known where a
    /// power cut came after the commit.
    pub left_out: std::vec::Vec<String>,
}

impl Done {
    /// What to say of both, the change being this one.
    pub fn lines(&self, id: u32) -> std::vec::Vec<String> {
        let stays = |path: &String| {
            format!("the subvolume {path} stays with the former system (snapshot {id})")
        };
        let out =
            |path: &String| format!("the subvolume {path} is not brought back: it stays there");
        let mut lines = some(&self.left_out, out);
        lines.extend(some(&self.left_behind, stays));
        lines
    }
}

/// As many lines as a serial line bears.
fn some(paths: &[String], line: impl Fn(&String) -> String) -> std::vec::Vec<String> {
    let told = paths.iter().take(TOLD).map(line);
    let more = paths.len().saturating_sub(TOLD);
    told.chain((more > 0).then(|| format!("and {more} more")))
        .collect()
}

/// Carries a plan out, telling `progress` each step before it is done. After an error nothing
/// live was touched, unless the error came after the commit: then the next start finishes it.
///
/// The request in the state, if there is one, is taken out first and durably. With it goes that a
/// destruction that waits is suspended, if this change would withdraw it: the change may fail.
pub fn execute<S: Store>(
    store: &mut S,
    records: &mut Records,
    plan: &Plan,
    now: u64,
    progress: &mut dyn FnMut(&Step),
) -> Result<Done, Error> {
    execute_with(store, records, plan, now, &mut no_image, progress)
}

/// Fills nothing: for plans that have nothing to fill.
pub fn no_image<S: Store>(_: &mut S, _: Place) -> Result<(), Error> {
    Err(Error::Image("there is no default tarball".to_owned()))
}

/// Converts nothing: for plans that have nothing to convert.
pub fn no_converter<S: Store>(_: &mut S, _: Place, conversion: &Conversion) -> Result<(), Error> {
    Err(Error::NotConverted {
        app: conversion.app.to_string(),
        why: "no converter can be run here".to_owned(),
    })
}

/// The same for a plan that fills datasets: `fill` puts into the empty one at a place what belongs there.
pub fn execute_with<S: Store>(
    store: &mut S,
    records: &mut Records,
    plan: &Plan,
    now: u64,
    fill: Fill<'_, S>,
    progress: &mut dyn FnMut(&Step),
) -> Result<Done, Error> {
    let convert = &mut no_converter;
    let mut hands = Hands { fill, convert };
    execute_by(store, records, plan, now, &mut hands, progress)
}

/// What a plan needs besides the store.
pub struct Hands<'a, S> {
    /// For [`Step::Fill`].
    pub fill: Fill<'a, S>,
    /// For [`Step::Convert`].
    pub convert: Convert<'a, S>,
}

/// The same for a plan that fills datasets or converts data.
pub fn execute_by<S: Store>(
    store: &mut S,
    records: &mut Records,
    plan: &Plan,
    now: u64,
    hands: &mut Hands<'_, S>,
    progress: &mut dyn FnMut(&Step),
) -> Result<Done, Error> {
    if records.journal.value != Journal::Closed {
        return Err(Error::Open);
    }
    // The ticket is used up. Also shows, before anything is done, that the state can be written.
    // A first boot is known by a state that was never written: it stays so until the end.
    if records.state.seq() > 0 {
        let mut state = records.state.value.clone();
        state.use_up_request();
        if let Some(verb) = plan.intent.verb() {
            state.attempted(verb);
        }
        records.state.write_anew(store, state)?;
    }
    let before = records.state.value.clone();
    let left_out = match commit(store, records, plan, now, hands, progress) {
        Ok(left_out) => left_out,
        Err(error) => {
            survived(store, records, plan, before);
            return Err(error);
        }
    };
    // Not before it is true: somebody may pull the plug on it.
    progress(&Step::Commit);
    match finish(store, records, progress) {
        Ok(done) => Ok(Done { left_out, ..done }),
        Err(error) => Err(Error::Unfinished(Box::new(error))),
    }
}

/// Everything up to the commit record. Gives [`Done::left_out`]; after an error nothing is left of it, or the next start
/// undoes it.
fn commit<S: Store>(
    store: &mut S,
    records: &mut Records,
    plan: &Plan,
    now: u64,
    hands: &mut Hands<'_, S>,
    progress: &mut dyn FnMut(&Step),
) -> Result<std::vec::Vec<String>, Error> {
    let (committing, left_out) = match prepare(store, records, plan, now, hands, progress) {
        Ok(prepared) => prepared,
        // The next start undoes it, so GRUB stays armed.
        Err(error @ Error::Uncertain(_)) => return Err(error),
        Err(error) => return Err(undone(store, records, error)),
    };
    match records
        .journal
        .write(store, Journal::Committing(Box::new(committing)))
    {
        Ok(()) => Ok(left_out),
        Err(error) => Err(take_back(store, records, error)),
    }
}

/// The machine is still there, whatever went wrong: the state is as before. Also a record whose write failed may be on disk.
fn survived<S: Store>(store: &mut S, records: &mut Records, plan: &Plan, before: State) {
    let may_be_written =
        matches!(plan.intent, Intent::FallBack { .. }) && !plan.conversions.is_empty();
    if may_be_written && let Err(error) = records.state.write_anew(store, before) {
        log::warn!("that the converters were tried stays written down: {error}");
    }
}

/// Does everything of such a plan that can fail, and takes back what it made: says whether it would be
/// done. The journal has what is made, so a cut leaves nothing that the next start, or command, does not
/// take back. The state is not written.
pub fn try_out<S: Store>(
    store: &mut S,
    records: &mut Records,
    plan: &Plan,
    now: u64,
    fill: Fill<'_, S>,
) -> Result<(), Error> {
    if records.journal.value != Journal::Closed {
        return Err(Error::Open);
    }
    let convert = &mut no_converter;
    let mut hands = Hands { fill, convert };
    match prepare(store, records, plan, now, &mut hands, &mut |_| {}) {
        Ok(_) => undo(store, records),
        // The next start undoes it, so GRUB stays armed.
        Err(error @ Error::Uncertain(_)) => Err(error),
        Err(error) => Err(undone(store, records, error)),
    }
}

/// The write of the commit record failed, and it may be on disk all the same. So nothing of what it
/// names goes before the record before it was written over it; if that fails too, the next start
/// finds one of the two whole.
fn take_back<S: Store>(store: &mut S, records: &mut Records, error: Error) -> Error {
    let before = records.journal.value.clone();
    if records.journal.write_anew(store, before).is_err() {
        return Error::Uncertain(Box::new(error));
    }
    undone(store, records, error)
}

/// Undoes what was prepared, because of this error; one of the undoing does not hide it.
fn undone<S: Store>(store: &mut S, records: &mut Records, error: Error) -> Error {
    match undo(store, records) {
        Ok(()) => error,
        Err(other) => Error::NotUndone(Box::new(error), Box::new(other)),
    }
}

/// Lets GRUB start the recovery kernel. On disk on return.
pub fn arm<S: Store>(store: &mut S) -> Result<(), Error> {
    with_ballast(store, |store| store.replace(File::Armed, ARMED))?;
    Ok(store.sync()?)
}
