//! The state lost in both slots while a change is open: the commit record has it, too.

use super::acts::Act;
use super::boot::boot;
use super::explore::record;
use super::machine;
use crate::admin::repair::repair;
use crate::policy::Wish;
use crate::record::block::BLOCK;
use crate::record::journal::Journal;
use crate::record::slots::Slots;
use crate::record::state::{Phase, State, Verb};
use crate::store::Store;
use crate::store::memory::Memory;
use crate::store::place::File;
use crate::transaction::catalogue::ids;
use crate::transaction::records::{Records, read_journal};
use crate::transaction::recover::live_set_is_mixed;

const VERBS: [Verb; 4] = [
    Verb::Rollback(Some(1)),
    Verb::Select(1),
    Verb::ResetConfig { data: true },
    Verb::ResetEverything,
];

fn lose(store: &mut Memory, byte: u8) {
    for slot in 0..2 {
        store.write_slot(File::State, slot, &[byte; BLOCK]).unwrap();
    }
}

/// The live set and the state, without the UUIDs that each run makes anew.
fn state(store: &Memory) -> State {
    let mut state = Records::open(store).unwrap().state.value;
    state.live.system = crate::record::Uuid([0; 16]);
    if let Some(destroy) = &mut state.destroy {
        // Whether somebody tried to go back was in the state alone: it is taken for so.
        (destroy.live, destroy.phase) = (state.live.system, Phase::Suspended);
    }
    state
}

/// Each disk that a cut of the verb may leave, and whether the change was committed by then.
fn cuts(verb: Verb, mut each: impl FnMut(&Memory, bool, &Memory)) {
    let (end, _, cuts) = record(&machine().0, Act::Present(verb), |_| {});
    for disk in &cuts.found {
        if let Slots::Valid { value, .. } = read_journal(disk).unwrap()
            && value != Journal::Closed
        {
            each(disk, matches!(value, Journal::Committing(_)), &end);
        }
    }
}

#[test]
fn a_committed_change_is_finished_and_its_record_gives_the_state_back() {
    for verb in VERBS {
        let mut tried = 0;
        cuts(verb, |disk, committed, end| {
            for byte in [0xa5, 0] {
                if !committed {
                    continue;
                }
                let mut disk = disk.clone();
                lose(&mut disk, byte);
                // Somebody who repairs too early is told to wait.
                if byte != 0 {
                    assert!(repair(&mut disk.clone(), None).is_err(), "{verb:?}");
                }
                let booted = boot(&mut disk, Wish::Boot, &mut |_| {});
                assert!(!booted.mixed, "{verb:?}: {booted:?}");
                let mut end = end.clone();
                boot(&mut end, Wish::Boot, &mut |_| {});
                assert_eq!(state(&disk), state(&end), "{verb:?}");
                tried += 1;
            }
        });
        assert!(tried > 8, "{verb:?}: {tried}");
    }
}

#[test]
fn what_was_only_prepared_is_undone_after_a_repair() {
    for verb in VERBS {
        cuts(verb, |disk, committed, _| {
            if committed {
                return;
            }
            let mut disk = disk.clone();
            lose(&mut disk, 0xa5);
            let booted = boot(&mut disk, Wish::Boot, &mut |_| {});
            assert!(!booted.mixed, "{verb:?}: {booted:?}");
            let repaired = repair(&mut disk, None).unwrap();
            assert_eq!(repaired.next_id, 3, "{verb:?}");
            let booted = boot(&mut disk, Wish::Boot, &mut |_| {});
            assert!(booted.errors.is_empty(), "{verb:?}: {booted:?}");
            assert_eq!(ids(&disk).unwrap(), [1, 2], "{verb:?}");
        });
    }
}

#[test]
fn a_journal_that_cannot_be_read_stops_no_start() {
    cuts(Verb::Rollback(Some(1)), |disk, _, _| {
        let mut store = disk.clone();
        store.blind = Some(store.looks.get());
        assert!(!live_set_is_mixed(&store).unwrap());
    });
}

/// A directory of somebody's with a number for a name, or the record of a change that is over.
#[test]
fn what_is_not_about_the_present_is_neither_finished_nor_hides_a_mixed_set() {
    let mut mixed = 0;
    cuts(Verb::Rollback(Some(1)), |disk, committed, _| {
        if !committed || !live_set_is_mixed(disk).unwrap() {
            return;
        }
        mixed += 1;
        let mut disk = disk.clone();
        disk.make_directory(99).unwrap();
        lose(&mut disk, 0xa5);
        assert!(repair(&mut disk, None).is_err());
        let booted = boot(&mut disk, Wish::Boot, &mut |_| {});
        assert!(!booted.mixed, "{booted:?}");
        assert_eq!(state(&disk).next_id, 4);
    });
    assert!(mixed > 0);
    // The record of a boot once that returned: its state is lost, and so is what closed the journal.
    let (selected, _, cuts) = record(&machine().0, Act::Present(Verb::Select(1)), |_| {});
    let committing = |disk: &&Memory| {
        matches!(
            read_journal(*disk),
            Ok(Slots::Valid {
                value: Journal::Committing(_),
                ..
            })
        )
    };
    let journal = cuts.found.iter().find(committing).unwrap();
    let journal = journal.read(File::Journal).unwrap().unwrap();
    let mut returned = selected.clone();
    boot(&mut returned, Wish::Boot, &mut |_| {});
    for byte in [0xa5, 0] {
        let mut disk = returned.clone();
        disk.edit(|_, slots| slots.insert(File::Journal, journal.clone().into()));
        lose(&mut disk, byte);
        let moved = disk.moved.len();
        let booted = boot(&mut disk, Wish::Boot, &mut |_| {});
        assert!(!booted.mixed && disk.moved.len() == moved, "{booted:?}");
        let state = repair(&mut disk, None).unwrap();
        assert_eq!((state.next_id, state.parked), (4, None));
    }
}
