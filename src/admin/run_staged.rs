//! `backstay upgrade --staged`, from arguments to what is printed.
//!
//! A transaction is open while COMMAND runs in the clone, and the store is locked.

use super::cli::Upgrade;
use super::error::{Error, Result};
use super::machine::Lock;
use super::output::{now, out as print};
use super::run::{Ended, Open, Out, has_room, note};
use super::run_upgrade::{Upgraded, has_recovery, nothing, open_live};
use super::upgrade::command::{Commands, Ran};
use super::upgrade::ready;
use super::upgrade::room::{self, Room};
use super::upgrade::staged::{self, Forward};
use super::{reboot, run_ask};
use crate::record::state::{Consent, Verb};
use crate::store::btrfs::Btrfs;
use crate::transaction::Error as Failed;
use crate::transaction::catalogue;
use std::cell::Cell;

/// Upgrades a clone.
pub(super) fn stage(args: &Upgrade, out: Out) -> Result<Ended> {
    let mut open = open_live(Lock::Try, out)?;
    has_recovery(&open.machine)?;
    let now = now();
    ready(&open.store, &open.records, now)?;
    has_room(&open.store)?;
    let commands = Commands::of(&args.command);
    let device = open.machine.device.clone().unwrap_or_default();
    // Why it did not come about, apart from what the engine says.
    let nothing_to_do = Cell::new(false);
    let id = {
        let next = next_id(&open)?;
        let mut fill = |store: &mut Btrfs, _| {
            let failed = Failed::NotUpgraded;
            let room = Room::of(store, next, &device).map_err(failed)?;
            match room::run(&room, &commands, out.json) {
                Ran::Done => Ok(()),
                Ran::Nothing => {
                    nothing_to_do.set(true);
                    Err(failed("nothing is to be upgraded".to_owned()))
                }
                Ran::Failed(why) => Err(failed(why)),
            }
        };
        staged::stage(
            &mut open.store,
            &mut open.records,
            args.title.as_deref(),
            now,
            &mut fill,
            &mut |_| {},
        )
    };
    let id = match id {
        Ok(id) => id,
        Err(Error::Transaction(Failed::NotUpgraded(_))) if nothing_to_do.take() => {
            return Ok(nothing(args, out));
        }
        Err(error) => {
            note(&mut open.store, &format!("staged upgrade failed: {error}"));
            out.result(&Upgraded::of(args, "failed"));
            return Err(match error {
                Error::Transaction(error @ Failed::NotUpgraded(_)) => Error::Upgrade(format!(
                    "the upgrade failed: {error}\nthe clone is deleted, nothing was changed"
                )),
                other => other,
            });
        }
    };
    note(
        &mut open.store,
        &format!("staged upgrade made as snapshot {id}: {commands}"),
    );
    ask(args, id, open, out)
}

/// The number that the transaction will take.
fn next_id(open: &Open) -> Result<u32> {
    let state = &open.records.state.value;
    Ok(catalogue::with_free_id(&open.store, state)?.next_id)
}

/// Asks to go forward to what was staged, if nothing is lost by that. Data that it does not read is converted before.
fn ask(args: &Upgrade, id: u32, mut open: Open, out: Out) -> Result<Ended> {
    let goes = staged::forward(&open.store, &open.records.state.value, now())?;
    let (converted, refused) = match goes {
        Forward::Goes(consent) => {
            let converted = go_forward(&mut open, consent, out).map_err(|error| {
                out.result(&Upgraded {
                    snapshot: Some(id),
                    ..Upgraded::of(args, "failed")
                });
                Error::Upgrade(format!(
                    "the upgrade failed: the next boot does not go forward to snapshot {id}: {error}\nnothing waits, and \
                     what is live is as it was; once that is mended, 'backstay forward --fence convert' tries it again"
                ))
            })?;
            (converted, Vec::new())
        }
        Forward::Refused(lines) => (Vec::new(), lines),
    };
    let asked = refused.is_empty();
    drop(open);
    if !out.json {
        refused.iter().for_each(|line| out.say(line));
        out.say(&match asked {
            true => format!("snapshot {id} is the new version: the next boot goes forward to it; 'backstay cancel' withdraws that"),
            false => format!(
                "snapshot {id} is the new version, and nobody has agreed to what it needs: 'backstay forward --fence convert' \
                 does, 'backstay fence explain forward --consent convert' says what that means"
            ),
        });
        if !converted.is_empty() {
            out.say(run_ask::HELD);
        }
    }
    out.result(&Upgraded {
        snapshot: Some(id),
        reboot_due: asked,
        converted,
        refused,
        ..Upgraded::of(args, if asked { "forward" } else { "sealed" })
    });
    if args.reboot && asked {
        reboot::reboot()?;
    }
    Ok(Ended::Done)
}

/// As 'backstay forward' asks for it: gives the datasets that were converted.
fn go_forward(open: &mut Open, consent: Consent, out: Out) -> Result<Vec<String>> {
    let (plan, explanation) = run_ask::planned(open, None, Verb::Forward, consent)?;
    if !out.json {
        print(&explanation);
    }
    let prepared = run_ask::convert_and_submit(open, &plan, Verb::Forward, consent, out)?;
    Ok(run_ask::names(&open.store, &prepared))
}
