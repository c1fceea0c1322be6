//! `backstay prune`, from arguments to what is printed.

use super::cli::Prune;
use super::data_snapshots::Settings;
use super::error::{Error, Result};
use super::machine::{Lock, Machine};
use super::output::now;
use super::prune::{Asked, Pruned, prune};
use super::request::look as look_at;
use super::run::{Ended, Open, Out, note, open};
use crate::policy::retention::Retention;
use crate::store::StoreError;
use crate::transaction::records::Records;
use std::path::Path;

/// Does what the arguments say.
pub(super) fn run(root: Option<&Path>, args: &Prune, out: Out) -> Result<Ended> {
    let asked = Asked {
        retention: retention(root, args)?,
        reset_data: args.reset_data,
        dry_run: args.dry_run,
    };
    if asked.dry_run {
        return look(root, asked, out);
    }
    // Nobody waits for it, so it waits for whoever is at work.
    let Open {
        mut store, records, ..
    } = open(root, Lock::Wait, out)?;
    let pruned = prune(&mut store, &records, asked, now())?;
    let gone: Vec<String> = pruned
        .going()
        .map(|row| format!("{} of snapshot {}", row.dataset, row.snapshot))
        .collect();
    out.show(&pruned);
    if !gone.is_empty() {
        let line = format!("kept data deleted: {}", gone.join(", "));
        note(&mut store, &line);
        // What was given up for a full disk comes back as soon as there is room.
        match store.make_ballast() {
            Ok(()) | Err(StoreError::Full(_)) => {}
            Err(error) => out.say(&format!(
                "the ballast, which is kept for a full disk, was not made: {error}"
            )),
        }
    }
    ended(&pruned)
}

/// Writes nothing, and takes no lock.
fn look(root: Option<&Path>, asked: Asked, out: Out) -> Result<Ended> {
    let mut store = Machine::open(root, Lock::None)?.store()?;
    let records = Records::open(&store)?;
    look_at(&store, &records)?;
    let pruned = prune(&mut store, &records, asked, now())?;
    out.show(&pruned);
    ended(&pruned)
}

fn ended(pruned: &Pruned) -> Result<Ended> {
    match pruned.failed().as_slice() {
        [] if pruned.going().next().is_none() => Ok(Ended::Nothing),
        [] => Ok(Ended::Done),
        failed => Err(Error::Destroy(failed.join("; "))),
    }
}

/// What stays: as the arguments say it, else the settings of the running system.
fn retention(root: Option<&Path>, args: &Prune) -> Result<Retention> {
    let settings = match (root, args.keep, args.keep_days) {
        (None, ..) => Settings::load()?.retention,
        // Its settings may be in a config dataset, of another version.
        (Some(_), None, None) => return Err(Error::NoSettings),
        (Some(_), ..) => Retention {
            keep: 0,
            keep_days: None,
        },
    };
    Ok(Retention {
        keep: args.keep.unwrap_or(settings.keep),
        keep_days: args.keep_days.or(settings.keep_days),
    })
}
