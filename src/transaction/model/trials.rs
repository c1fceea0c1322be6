//! Trials: counted, confirmed, fallen back from, given up, and cut anywhere on the way.

use super::super::records::Records;
use super::acts::Act;
use super::form::live;
use super::machine;
use crate::admin::trial::{UNLOCKED_BY_MEASUREMENT, begin, mark_bad};
use crate::policy::refusal::Refusal;
use crate::record::layout::Part;
use crate::record::state::{State, Verb};
use crate::store::Store;
use crate::store::memory::{Content, Memory};
use crate::store::place::File;
use crate::transaction::execute::ARMED;

const UNIT: &str = "etc/systemd/system/multi-user.target.wants/backstay-mark-good.service";

const LAYOUT: &str = "usr/lib/backstay/layout.toml";

/// The machine of the model, whose systems mark themselves good; the live one was, and is kept as 3.
pub(super) fn good_machine() -> Memory {
    good(machine().0)
}

/// The same of a machine with other datasets.
pub(super) fn good(mut store: Memory) -> Memory {
    store.edit(|world, _| {
        for (place, dataset) in world.datasets.iter_mut() {
            if place.part() == Part::System {
                for path in [UNIT, LAYOUT] {
                    for (at, _) in path.match_indices('/') {
                        let directory = path[..at].to_owned();
                        dataset.tree.insert(directory, Content::Directory);
                    }
                }
                for path in [UNIT, LAYOUT] {
                    let file = Content::File(b"text".to_vec());
                    dataset.tree.insert(path.to_owned(), file);
                }
            }
        }
    });
    assert!(Act::MarkGood.run(&mut store, &mut |_| {}).is_ok());
    assert!(Act::Snapshot.run(&mut store, &mut |_| {}).is_ok());
    store
}

fn state(store: &Memory) -> State {
    Records::open(store).unwrap().state.value.clone()
}

/// A start in which nobody asks for anything; whether it went to the live system without a word.
fn start(store: &mut Memory) -> bool {
    Act::Start.run(store, &mut |_| {}).is_ok()
}

fn version(store: &Memory) -> String {
    match &live(store)[&Part::System]["etc/version"] {
        Content::File(text) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("{other:?}"),
    }
}

fn roll_back_to_2(store: &mut Memory) {
    let back = Act::Present(Verb::Rollback(Some(2)));
    assert!(back.run(store, &mut |_| {}).is_ok());
    assert_eq!(version(store), "2");
}

fn begun(store: &Memory) -> Option<u8> {
    state(store).live_trial().map(|trial| trial.begun)
}

#[test]
fn a_promoted_system_is_on_trial_and_confirmed_by_its_mark() {
    let mut store = good_machine();
    roll_back_to_2(&mut store);
    assert_eq!(begun(&store), Some(1));
    assert!(start(&mut store));
    assert_eq!(begun(&store), Some(2));
    assert!(Act::MarkGood.run(&mut store, &mut |_| {}).is_ok());
    assert_eq!(begun(&store), None);
    // However often it is started then.
    let before = state(&store);
    for _ in 0..30 {
        assert!(start(&mut store));
    }
    assert_eq!(state(&store), before);
    assert_eq!(version(&store), "2");
}

#[test]
fn one_that_is_never_marked_is_left_for_the_newest_good_snapshot_once() {
    let mut store = good_machine();
    roll_back_to_2(&mut store);
    assert!(start(&mut store) && start(&mut store));
    // The fourth start. What was live before the rollback was good, and is 4.
    assert!(start(&mut store));
    assert_eq!(version(&store), "live");
    let after = state(&store);
    let fell = after.fell_back.unwrap();
    assert_eq!((fell.from, fell.to, fell.begun), (5, 4, 3));
    assert_eq!(after.failed, [2]);
    assert!(after.live_trial().unwrap().fallback && begun(&store) == Some(1));
    // It does not start either: the menu, once, and then it goes on with it.
    assert!(start(&mut store) && start(&mut store));
    let super::acts::Ended::Booted(booted) = Act::Start.run(&mut store, &mut |_| {}) else {
        panic!("a start is a start");
    };
    assert!(booted.prompt);
    assert_eq!(booted.refusals, [Refusal::FallbackFailed]);
    assert_eq!(state(&store).failed, [2, 4]);
    assert!(start(&mut store) && start(&mut store));
    assert_eq!(version(&store), "live");
}

#[test]
fn a_person_may_go_to_what_failed_and_is_not_taken_back_to_it() {
    let mut store = good_machine();
    roll_back_to_2(&mut store);
    for _ in 0..3 {
        assert!(start(&mut store));
    }
    assert!(Act::MarkGood.run(&mut store, &mut |_| {}).is_ok());
    roll_back_to_2(&mut store);
    assert_eq!(state(&store).fell_back, None);
    for _ in 0..3 {
        assert!(start(&mut store));
    }
    assert_eq!(version(&store), "live");
    let to = state(&store).fell_back.unwrap().to;
    assert!(![2, 4].contains(&to), "{to}");
}

#[test]
fn an_upgrade_in_place_is_tried_and_falls_back_to_the_snapshot_before_it() {
    let mut store = good_machine();
    let mut records = Records::open(&store).unwrap();
    let tried = begin(&mut store, &mut records).unwrap();
    assert_eq!((tried.fall_back_to, tried.not_counted), (Some(3), None));
    for _ in 0..3 {
        assert!(start(&mut store));
    }
    assert!(start(&mut store));
    assert_eq!(state(&store).fell_back.unwrap().to, 3);
    // What it was a clone of long ago has not failed.
    assert!(state(&store).failed.is_empty());
}

#[test]
fn a_system_that_is_booted_once_does_not_use_up_the_trial_of_what_is_parked() {
    let mut store = good_machine();
    roll_back_to_2(&mut store);
    let once = Act::Present(Verb::Select(1));
    assert!(once.run(&mut store, &mut |_| {}).is_ok());
    assert_eq!(version(&store), "1");
    assert_eq!(state(&store).trial.unwrap().begun, 1);
    // The return goes on with it.
    assert!(start(&mut store));
    assert_eq!((version(&store), begun(&store)), ("2".to_owned(), Some(2)));
}

#[test]
fn a_system_that_is_marked_bad_falls_back_at_the_next_start() {
    let mut store = good_machine();
    let mut records = Records::open(&store).unwrap();
    assert!(mark_bad(&mut store, &mut records).is_err());
    roll_back_to_2(&mut store);
    let mut records = Records::open(&store).unwrap();
    assert_eq!(mark_bad(&mut store, &mut records).unwrap(), Some(4));
    assert!(start(&mut store));
    assert_eq!(version(&store), "live");
}

#[test]
fn a_system_that_cannot_mark_itself_is_not_on_trial() {
    let mut store = good_machine();
    store.edit(|world, _| {
        for dataset in world.datasets.values_mut() {
            dataset.tree.remove(UNIT);
        }
    });
    roll_back_to_2(&mut store);
    assert_eq!(begun(&store), None);
    let mut records = Records::open(&store).unwrap();
    let error = begin(&mut store, &mut records).unwrap_err();
    assert!(error.to_string().contains("backstay doctor"), "{error}");
}

#[test]
fn a_trial_keeps_grub_armed_until_it_is_over() {
    let mut store = good_machine();
    let armed = |store: &Memory| store.read(File::Armed).unwrap().is_some();
    roll_back_to_2(&mut store);
    assert!(armed(&store));
    assert!(start(&mut store) && armed(&store));
    assert!(Act::MarkGood.run(&mut store, &mut |_| {}).is_ok());
    assert!(!armed(&store));
    let mut records = Records::open(&store).unwrap();
    begin(&mut store, &mut records).unwrap();
    assert!(armed(&store));
}

#[test]
fn a_hint_that_is_lost_or_garbled_is_restored_while_a_trial_needs_it() {
    let mut store = good_machine();
    roll_back_to_2(&mut store);
    for lost in [None, Some(&b"\xff\x00"[..])] {
        match lost {
            None => store.remove(File::Armed).unwrap(),
            Some(garbage) => store.replace(File::Armed, garbage).unwrap(),
        }
        assert!(start(&mut store));
        let hint = store.read(File::Armed).unwrap();
        assert_eq!(hint.as_deref(), Some(ARMED));
    }
}

/// Puts a file into every system that there is.
fn put_everywhere(store: &mut Memory, path: &str, content: &Content) {
    store.edit(|world, _| {
        for (place, dataset) in world.datasets.iter_mut() {
            if place.part() == Part::System {
                dataset.tree.insert(path.to_owned(), content.clone());
            }
        }
    });
}

#[test]
fn what_a_tpm_unlocks_is_started_by_grub_until_it_is_to_be_left() {
    let mut store = good_machine();
    let table = "# a comment with tpm2-device=auto\nroot UUID=1 none tpm2-device=auto,discard\n";
    let table = Content::File(table.as_bytes().to_vec());
    put_everywhere(&mut store, "etc/crypttab", &table);
    let mut records = Records::open(&store).unwrap();
    let tried = begin(&mut store, &mut records).unwrap();
    assert_eq!(tried.not_counted, Some(UNLOCKED_BY_MEASUREMENT));
    assert!(!state(&store).live_trial().unwrap().guarded);
    assert!(store.read(File::Armed).unwrap().is_none());
    // Its agent counts nevertheless, and the machine falls back by the recovery kernel.
    assert!(start(&mut store));
    assert_eq!(begun(&store), Some(1));
    let mut records = Records::open(&store).unwrap();
    mark_bad(&mut store, &mut records).unwrap();
    assert!(store.read(File::Armed).unwrap().is_some());
    assert!(start(&mut store));
    assert_eq!(state(&store).fell_back.map(|it| it.begun), Some(1));
}

#[test]
fn a_unit_that_is_masked_marks_nothing() {
    let mut store = good_machine();
    let mask = Content::Link("/dev/null".to_owned());
    put_everywhere(
        &mut store,
        "etc/systemd/system/backstay-mark-good.service",
        &mask,
    );
    let mut records = Records::open(&store).unwrap();
    assert!(begin(&mut store, &mut records).is_err());
    // A root may have the device that a mask leads to.
    put_everywhere(&mut store, "dev", &Content::Directory);
    put_everywhere(&mut store, "dev/null", &Content::Link("nowhere".to_owned()));
    assert!(begin(&mut store, &mut records).is_err());
}

#[test]
fn a_system_that_declares_no_datasets_marks_nothing() {
    let mut store = good_machine();
    store.edit(|world, _| {
        for dataset in world.datasets.values_mut() {
            dataset.tree.remove(LAYOUT);
        }
    });
    let mut records = Records::open(&store).unwrap();
    assert!(begin(&mut store, &mut records).is_err());
}

#[test]
fn an_upgrade_of_what_the_machine_fell_back_to_does_not_let_it_fall_back_again() {
    let mut store = good_machine();
    roll_back_to_2(&mut store);
    let mut records = Records::open(&store).unwrap();
    mark_bad(&mut store, &mut records).unwrap();
    assert!(start(&mut store));
    assert!(state(&store).live_trial().unwrap().fallback);
    let mut records = Records::open(&store).unwrap();
    begin(&mut store, &mut records).unwrap();
    assert!(state(&store).live_trial().unwrap().fallback);
}

#[test]
fn falling_back_from_a_reset_of_the_data_brings_the_data_back() {
    for verb in [Verb::ResetEverything, Verb::ResetConfig { data: true }] {
        let mut store = good_machine();
        let before = live(&store);
        assert!(Act::Present(verb).run(&mut store, &mut |_| {}).is_ok());
        let data = Part::Data(0);
        assert_ne!(live(&store)[&data], before[&data]);
        let mut records = Records::open(&store).unwrap();
        mark_bad(&mut store, &mut records).unwrap();
        assert!(start(&mut store));
        assert_eq!(live(&store)[&data], before[&data], "{verb:?}");
        assert_eq!(state(&store).destroy, None);
    }
}

#[test]
fn data_that_a_good_system_has_worked_with_stays_whatever_was_reset_before() {
    let mut store = good_machine();
    let reset = Act::Present(Verb::ResetConfig { data: true });
    assert!(reset.run(&mut store, &mut |_| {}).is_ok());
    assert!(Act::MarkGood.run(&mut store, &mut |_| {}).is_ok());
    let fresh = live(&store)[&Part::Data(0)].clone();
    let mut records = Records::open(&store).unwrap();
    begin(&mut store, &mut records).unwrap();
    mark_bad(&mut store, &mut records).unwrap();
    assert!(start(&mut store));
    assert!(state(&store).fell_back.is_some());
    assert_eq!(live(&store)[&Part::Data(0)], fresh);
}

#[test]
fn a_snapshot_of_a_reset_on_trial_and_one_more_promotion_do_not_hide_where_the_data_is() {
    let config = Act::Present(Verb::ResetConfig { data: false });
    for between in [Act::Snapshot, config] {
        let mut store = good_machine();
        let before = live(&store)[&Part::Data(0)].clone();
        let reset = Act::Present(Verb::ResetConfig { data: true });
        assert!(reset.run(&mut store, &mut |_| {}).is_ok());
        assert_ne!(live(&store)[&Part::Data(0)], before);
        assert!(between.run(&mut store, &mut |_| {}).is_ok());
        let mut records = Records::open(&store).unwrap();
        mark_bad(&mut store, &mut records).unwrap();
        assert!(start(&mut store));
        assert_eq!(state(&store).fell_back.unwrap().to, 4);
        assert_eq!(live(&store)[&Part::Data(0)], before);
    }
}

#[test]
fn a_confirmed_system_stays_where_the_newest_copy_of_the_state_is_lost() {
    let mut store = good_machine();
    roll_back_to_2(&mut store);
    assert!(start(&mut store) && start(&mut store));
    assert!(Act::MarkGood.run(&mut store, &mut |_| {}).is_ok());
    for slot in 0..2 {
        let mut store = store.clone();
        store
            .write_slot(File::State, slot, &[0xa5; crate::record::block::BLOCK])
            .unwrap();
        assert!(start(&mut store));
        assert_eq!((version(&store), begun(&store)), ("2".to_owned(), None));
    }
}

/// The power goes at every operation of the start that falls back: what is live is the one or the other,
/// whole, and further starts end where an undisturbed one does.
#[test]
fn a_fallback_that_is_cut_anywhere_is_finished_or_begun_anew() {
    let mut before = good_machine();
    roll_back_to_2(&mut before);
    assert!(start(&mut before) && start(&mut before));
    let mut cuts = 0;
    for power in 0.. {
        let mut store = before.clone();
        store.power = Some(power);
        Act::Start.run(&mut store, &mut |_| {});
        let ended = store.power != Some(0);
        for mut left in store.after_power_cut() {
            cuts += 1;
            left.power = None;
            for _ in 0..2 {
                start(&mut left);
            }
            assert_eq!(version(&left), "live", "{power}");
            let state = state(&left);
            assert_eq!(state.fell_back.unwrap().to, 4);
            assert!(state.live_trial().unwrap().begun <= 3);
        }
        if ended {
            break;
        }
    }
    assert!(cuts >= 40, "{cuts}");
}
