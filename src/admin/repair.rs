//! `backstay init --repair`: a state that is damaged in both slots, or whose newest slot is lost so
//! that it is older than the store, rebuilt from what is there. And one that names another live system
//! than there is, because somebody put one there by hand: that is taken over.
//!
//! No snapshot is forgotten: every sealed one that is sound is in the history again, in the order of the ids, and
//! the next id is above all of them. What only the state knew is gone: which one was marked good, a
//! waiting request, whether `reset everything` was still to delete something. Each of these errs
//! towards keeping.

use super::error::{Error, Result};
use super::request;
use crate::policy::{self, Health};
use crate::record::journal::Journal;
use crate::record::layout::Part;
use crate::record::manifest::{Kind, Release};
use crate::record::slots::Slots;
use crate::record::state::{Live, State, append};
use crate::store::Store;
use crate::store::place::{File, Place, Set};
use crate::transaction;
use crate::transaction::catalogue;
use crate::transaction::records::{Records, read_journal, read_state};
use crate::transaction::recover::live_set_is_mixed;

/// Writes a state in place of the damaged one, with the recovery kernel that is there. On disk on return.
pub fn repair<S: Store>(store: &mut S, kernel: Option<Release>) -> Result<State> {
    match read_state(store)? {
        Slots::Damaged | Slots::Empty => {}
        Slots::Newer(version) => return Err(transaction::Error::Newer(version).into()),
        Slots::Valid { .. } => return amend(store),
    }
    let open = open_change(store)?;
    let state = State {
        recovery_kernel: kernel,
        ..rebuilt(store, open)?
    };
    let mut records = Records::fresh(store, state.clone())?;
    records.write_first_state(store)?;
    store.sync()?;
    Ok(state)
}

/// The number of a change that was begun and not committed. One that is committed and not finished is the
/// agent's: its record has the state.
fn open_change<S: Store>(store: &S) -> Result<Option<u32>> {
    match read_journal(store)? {
        Slots::Valid {
            value: Journal::Preparing(preparing),
            ..
        } => Ok(Some(preparing.id)),
        Slots::Valid {
            value: Journal::Committing(_),
            ..
        } if Records::open(store).is_ok() || live_set_is_mixed(store)? => {
            Err(Error::Repair(
                "a change is half done, and finishing it mends the state: reboot; if the start says that \
                 it cannot, see docs/recovery.md, section 8"
                    .to_owned(),
            ))
        }
        _ => Ok(None),
    }
}

/// A state that is whole, and is not the newest one that there was. While a transaction is open, a
/// set that the state does not know is that one's.
fn amend<S: Store>(store: &mut S) -> Result<State> {
    let mut records = Records::open(store)?;
    if records.journal.value != Journal::Closed {
        return Err(transaction::Error::Open.into());
    }
    let before = &records.state.value;
    let facts = catalogue::facts(store, None, false)?;
    let replaced = before.parked.is_none() && facts.live_system != Some(before.live.system);
    let state = if policy::is_behind(before, &facts) {
        State {
            recovery_kernel: before.recovery_kernel.clone(),
            ..rebuilt(store, None)?
        }
    } else if replaced {
        // Somebody put another system in the live place. The history is about what lies beside it.
        request::idle(&records)?;
        State {
            live: rebuilt(store, None)?.live,
            good: None,
            rebooted_for: None,
            destroy: None,
            trial: None,
            ..before.clone()
        }
    } else {
        return Err(Error::Repair(
            "the state is whole, there is nothing to repair: run 'backstay init' without --repair"
                .to_owned(),
        ));
    };
    // A request of then was carried out or withdrawn since.
    if state.parked.is_none() {
        store.remove(File::Armed)?;
    }
    records.state.write(store, state.clone())?;
    store.sync()?;
    Ok(state)
}

/// The state as far as the datasets and the manifests tell it. The number of an open change was not given
/// out: it is undone by the next start.
fn rebuilt<S: Store>(store: &S, open: Option<u32>) -> Result<State> {
    let Some(live) = store.dataset(Place::Live(Part::System))? else {
        return Err(Error::Repair(format!(
            "the live system {} is missing: start the recovery menu and promote a snapshot",
            store.layout().system.live
        )));
    };
    let mut state = State::new(Live {
        system: live.identity.uuid,
        clone_of: None,
    });
    let mut parked = Vec::new();
    for id in catalogue::ids(store)? {
        let manifest = catalogue::manifest(store, Set::Snapshot(id))?;
        if open == Some(id) && manifest.is_none() {
            continue;
        }
        state.next_id = state.next_id.max(id.saturating_add(1));
        let Some(manifest) = manifest else {
            continue;
        };
        match manifest.kind {
            Kind::Parked => parked.push(id),
            Kind::Snapshot => {
                // One that cannot be promoted would be where a roll back goes.
                let health = catalogue::health(store, Set::Snapshot(id));
                if matches!(health, Ok(Health::Sound | Health::WithoutConfig)) {
                    append(&mut state.older, id);
                }
            }
            Kind::Factory | Kind::FormerFactory => {}
        }
        if manifest.uuid(Part::System) == live.parent && live.parent.is_some() {
            state.live.clone_of = Some(id);
        }
    }
    let factory = catalogue::manifest(store, Set::Factory)?;
    if factory.is_some_and(|it| live.parent.is_some() && it.uuid(Part::System) == live.parent) {
        state.live.clone_of = Some(0);
    }
    // One parked set is a boot once that did not return yet. Two cannot be told apart.
    if let [one] = parked.as_slice() {
        state.parked = Some(*one);
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::status::status;
    use crate::policy::intent::Intent;
    use crate::record::block::BLOCK;
    use crate::record::state::Verb;
    use crate::store::Access;
    use crate::store::memory::Memory;
    use crate::transaction::execute::execute;
    use crate::transaction::model::acts::Act;
    use crate::transaction::model::machine;
    use crate::transaction::plan::plan;

    fn damage(store: &mut Memory) {
        for slot in 0..2 {
            store.write_slot(File::State, slot, &[0xa5; BLOCK]).unwrap();
        }
    }

    #[test]
    fn every_snapshot_is_in_the_rebuilt_history_and_ids_go_on() {
        let (mut store, records) = machine();
        damage(&mut store);
        let state = repair(&mut store, None).unwrap();
        assert_eq!(state.older.as_slice(), &[1, 2]);
        assert_eq!(state.next_id, 3);
        assert_eq!(state.live.system, records.state.value.live.system);
        assert_eq!(Records::open(&store).unwrap().state.value, state);
    }

    #[test]
    fn a_set_that_nothing_can_go_back_to_is_not_in_the_rebuilt_history() {
        let (mut store, _) = machine();
        let lost = Place::Snapshot(2, Part::Config);
        store.edit(|world, _| world.datasets.remove(&lost));
        damage(&mut store);
        let state = repair(&mut store, None).unwrap();
        assert_eq!((state.next_id, state.older.as_slice()), (3, &[1][..]));
    }

    #[test]
    fn a_directory_without_a_manifest_keeps_its_number() {
        let (mut store, _) = machine();
        store.make_directory(40).unwrap();
        damage(&mut store);
        let state = repair(&mut store, None).unwrap();
        assert_eq!((state.next_id, state.older.as_slice()), (41, &[1, 2][..]));
    }

    #[test]
    fn what_was_booted_once_still_returns() {
        let (mut store, mut records) = machine();
        let plan = plan(
            &Intent::Select { id: 1 },
            &records.state.value,
            store.layout(),
            catalogue::manifest(&store, Set::Snapshot(1))
                .unwrap()
                .as_ref(),
            1,
        );
        execute(&mut store, &mut records, &plan, 1, &mut |_| {}).unwrap();
        let before = records.state.value.parked;
        damage(&mut store);
        let state = repair(&mut store, None).unwrap();
        assert_eq!(state.parked, before);
        assert_eq!(state.live.clone_of, Some(1));
    }

    /// The newest slot is garbled while the machine is off; the older one is whole.
    #[test]
    fn a_state_that_is_older_than_the_store_is_said_when_asking_and_repaired() {
        let verb = Verb::Rollback(None);
        let (ticket, now) = ([1; 16], 1);
        for live_changes in [false, true] {
            let mut store = machine().0;
            let act = match live_changes {
                true => Act::Present(Verb::Rollback(Some(1))),
                false => Act::Snapshot,
            };
            assert!(act.run(&mut store, &mut |_| {}).is_ok());
            store.sync().unwrap();
            let Slots::Valid { at, .. } = read_state(&store).unwrap() else {
                panic!()
            };
            let newest = &[0xa5; BLOCK];
            store.write_slot(File::State, at.slot, newest).unwrap();
            let mut records = Records::open(&store).unwrap();
            let shown =
                request::preview(&store, &records, verb, Default::default(), now).unwrap_err();
            let link = &request::no_spare;
            let asked = request::submit(
                &mut store,
                &mut records,
                verb,
                Default::default(),
                ticket,
                now,
                link,
            );
            for error in [shown, asked.unwrap_err()] {
                let text = error.to_string();
                assert!(text.contains("'backstay init --repair'"), "{text}");
            }
            let status = || status(&store, Default::default()).unwrap().to_string();
            assert!(
                status().contains("older than the store; run"),
                "{}",
                status()
            );
            let state = repair(&mut store, None).unwrap();
            assert_eq!((state.next_id, state.older.last()), (4, Some(&3)));
            let mut records = Records::open(&store).unwrap();
            assert_eq!(records.state.value, state);
            request::submit(
                &mut store,
                &mut records,
                verb,
                Default::default(),
                ticket,
                now,
                link,
            )
            .unwrap();
            let booted = Act::Start.run(&mut store, &mut |_| {});
            assert!(booted.is_ok(), "{booted:?}");
            assert!(matches!(repair(&mut store, None), Err(Error::Repair(_))));
        }
    }

    /// As section 9 of docs/recovery.md does it.
    #[test]
    fn a_live_system_that_was_put_there_by_hand_is_taken_over() {
        for set in [Set::Factory, Set::Snapshot(1)] {
            let (mut store, _) = machine();
            let reset = Act::Present(Verb::ResetEverything);
            assert!(reset.run(&mut store, &mut |_| {}).is_ok());
            let live = Place::Live(Part::System);
            store.edit(|world, _| {
                world.default = None;
                world.datasets.remove(&live)
            });
            let made = store
                .clone_to(set.place(Part::System), live, Access::Writable)
                .unwrap();
            store.sync().unwrap();
            assert!(!Act::MarkGood.run(&mut store, &mut |_| {}).is_ok());
            let before = Records::open(&store).unwrap().state.value;
            let state = repair(&mut store, None).unwrap();
            assert_eq!(state.live.system, made.identity.uuid);
            let clone_of = if set == Set::Factory { 0 } else { 1 };
            assert_eq!(state.live.clone_of, Some(clone_of));
            assert_eq!((state.older, state.next_id), (before.older, before.next_id));
            assert!(Act::MarkGood.run(&mut store, &mut |_| {}).is_ok());
            assert_eq!(catalogue::ids(&store).unwrap(), [1, 2, 3]);
            assert!(matches!(repair(&mut store, None), Err(Error::Repair(_))));
            let back = Act::Present(Verb::Rollback(None));
            assert!(back.run(&mut store, &mut |_| {}).is_ok());
        }
    }

    #[test]
    fn a_whole_or_newer_state_is_left_alone() {
        let (mut store, records) = machine();
        assert!(matches!(repair(&mut store, None), Err(Error::Repair(_))));
        assert_eq!(Records::open(&store).unwrap(), records);
    }
}
