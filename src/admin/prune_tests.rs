//! What goes and what stays, and what a power cut or an error leaves.

use super::*;
use crate::admin::list::listing;
use crate::admin::snapshot::{snapshot, snapshot_with_data};
use crate::policy::Health;
use crate::record::state::{Consent, Destroy, Phase, Prepared, Request, Trial, Verb};
use crate::store::memory::{Content, Memory};
use crate::store::place::Place;
use crate::transaction::catalogue::{health, manifest};
use crate::transaction::model::machine;

const DATA: Part = Part::Data(0);

fn keep(keep: u32) -> Asked {
    Asked {
        retention: Retention {
            keep,
            keep_days: None,
        },
        ..Asked::default()
    }
}

/// The model's machine with snapshots 3, 4 and 5, which have the data, and 6, which has not.
fn kept() -> (Memory, Records) {
    let (mut store, mut records) = machine();
    for day in 0..3 {
        let now = day * 86_400;
        snapshot_with_data(&mut store, &mut records, "x", now, &mut |_| {}).unwrap();
    }
    snapshot(&mut store, &mut records, "x", 1, &mut |_| {}).unwrap();
    (store, records)
}

fn has(store: &Memory) -> Vec<u32> {
    let places = store.world().datasets.keys();
    let ids = places.filter_map(|place| match place {
        Place::Snapshot(id, DATA) => Some(*id),
        _ => None,
    });
    ids.collect()
}

fn what(pruned: &Pruned) -> Vec<(u32, &'static str)> {
    let rows = pruned.data.iter();
    rows.map(|row| (row.snapshot, row.what)).collect()
}

fn its(store: &Memory, id: u32) -> Manifest {
    manifest(store, Set::Snapshot(id)).unwrap().unwrap()
}

#[test]
fn the_data_goes_and_the_version_stays_and_says_so() {
    let (mut store, records) = kept();
    let planned = Asked {
        dry_run: true,
        ..keep(1)
    };
    let before = store.operations;
    let pruned = prune(&mut store, &records, planned, 0).unwrap();
    assert_eq!(what(&pruned), [(3, PLANNED), (4, PLANNED), (5, STAYS)]);
    assert_eq!(store.operations, before);
    let pruned = prune(&mut store, &records, keep(1), 0).unwrap();
    assert_eq!(what(&pruned), [(3, DELETED), (4, DELETED), (5, STAYS)]);
    assert!(pruned.to_string().contains("among the newest"));
    assert_eq!(has(&store), [5]);
    for id in 3..7 {
        assert_eq!(health(&store, Set::Snapshot(id)).unwrap(), Health::Sound);
        let gone = its(&store, id).gone;
        assert_eq!(gone.iter().any(|it| it.part == DATA), id < 5, "{id}");
    }
    let sets = listing(&store, Some(&records.state.value)).unwrap().sets;
    assert!(sets.iter().all(|set| set.health == "sound"), "{sets:?}");
    // Again there is nothing to do.
    let before = store.operations;
    let pruned = prune(&mut store, &records, keep(1), 0).unwrap();
    assert_eq!(what(&pruned), [(5, STAYS)]);
    assert_eq!(store.operations, before);
}

#[test]
fn what_is_young_stays_besides_the_newest() {
    let (mut store, records) = kept();
    let mut asked = keep(0);
    asked.retention.keep_days = Some(2);
    let pruned = prune(&mut store, &records, asked, 2 * 86_400).unwrap();
    assert_eq!(what(&pruned), [(3, DELETED), (4, STAYS), (5, STAYS)]);
}

#[test]
fn whatever_a_cut_leaves_is_sound_and_the_next_call_goes_on() {
    for power in 0.. {
        let (mut store, records) = kept();
        store.power = Some(power);
        let done = prune(&mut store, &records, keep(1), 0).is_ok_and(|it| it.failed().is_empty());
        for mut left in store.after_power_cut() {
            let records = Records::open(&left).unwrap();
            for id in 1..7 {
                let set = Set::Snapshot(id);
                assert_eq!(health(&left, set).unwrap(), Health::Sound, "{id}, {power}");
            }
            let pruned = prune(&mut left, &records, keep(1), 0).unwrap();
            assert_eq!(pruned.failed(), [""; 0]);
            assert_eq!(has(&left), [5]);
            assert_eq!(its(&left, 3).gone.len() + its(&left, 4).gone.len(), 2);
        }
        if done {
            assert!(power > 5);
            return;
        }
    }
}

#[test]
fn an_error_at_any_point_costs_no_version_and_the_rest_is_made_up_for() {
    use crate::store::memory::Fault;
    for fault in [Fault::NotDone, Fault::Done] {
        for at in 0..12 {
            let (mut store, records) = kept();
            store.fault = Some((store.operations + at, fault));
            // The store may fail as a whole, or one deletion.
            prune(&mut store, &records, keep(1), 0).ok();
            store.fault = None;
            for id in 1..7 {
                let set = Set::Snapshot(id);
                assert_eq!(health(&store, set).unwrap(), Health::Sound, "{id}, {at}");
            }
            prune(&mut store, &records, keep(1), 0).unwrap();
            assert_eq!(has(&store), [5], "{fault:?} {at}");
        }
    }
    // And a full file system is what it is for.
    let (mut store, records) = kept();
    store.full = Some(false);
    let pruned = prune(&mut store, &records, keep(1), 0).unwrap();
    assert_eq!((pruned.failed(), has(&store)), (Vec::new(), vec![5]));
}

/// What stays although nothing is kept, and the reasons.
fn needed(state: impl FnOnce(&mut State), asked: Asked) -> Vec<(u32, Option<String>)> {
    let (mut store, mut records) = kept();
    let mut changed = records.state.value.clone();
    state(&mut changed);
    records.state.write(&mut store, changed).unwrap();
    let pruned = prune(&mut store, &records, asked, 0).unwrap();
    let stays = pruned.data.into_iter().filter(|row| row.what == STAYS);
    let stays: Vec<_> = stays.map(|row| (row.snapshot, row.why)).collect();
    let ids: Vec<u32> = stays.iter().map(|it| it.0).collect();
    assert_eq!(has(&store), ids);
    stays
}

#[test]
fn what_something_needs_is_not_touched() {
    let only = |id, why: &str| vec![(id, Some(why.to_owned()))];
    assert_eq!(needed(|_| {}, keep(0)), []);
    let asks = |verb| {
        move |state: &mut State| {
            state.request = Some(Request {
                ticket: [1; 16],
                verb,
                consent: Consent::Restore,
                loss: false,
                created: 1,
                prepared: Prepared::NONE,
            });
        }
    };
    let request = "a request waits that goes there";
    let four = Verb::Rollback(Some(4));
    assert_eq!(needed(asks(four), keep(0)), only(4, request));
    // Its last snapshot has no data.
    assert_eq!(needed(asks(Verb::Rollback(None)), keep(0)), []);
    let trial = |data_of| {
        move |state: &mut State| {
            state.trial = Some(Trial {
                system: state.live.system,
                tries: 3,
                begun: 0,
                condemned: false,
                fallback: false,
                clone_of: None,
                data_of,
                guarded: false,
            });
        }
    };
    let on_trial = "the live system is on trial";
    assert_eq!(needed(trial(Some(3)), keep(0)), only(3, on_trial));
    // Nothing of the machine is good, so there is nowhere to fall back to.
    assert_eq!(needed(trial(None), keep(0)), []);
    let destroyed = needed(
        |state| {
            state.destroy = Some(Destroy {
                live: state.live.system,
                up_to: 4,
                phase: Phase::Suspended,
            });
        },
        keep(0),
    );
    let ids: Vec<u32> = destroyed.iter().map(|it| it.0).collect();
    assert_eq!(ids, [3, 4]);
    let parked = needed(|state| state.parked = Some(6), keep(0));
    assert_eq!(parked.len(), 3);
}

#[test]
fn where_a_trial_may_fall_back_to_its_data_stays() {
    let (mut store, mut records) = machine();
    let mut state = records.state.value.clone();
    state.good = Some(state.live.system);
    records.state.write(&mut store, state.clone()).unwrap();
    snapshot_with_data(&mut store, &mut records, "good", 0, &mut |_| {}).unwrap();
    let mut state = records.state.value.clone();
    state.good = None;
    state.trial = Some(Trial {
        system: state.live.system,
        tries: 3,
        begun: 0,
        condemned: false,
        fallback: false,
        clone_of: None,
        data_of: None,
        guarded: false,
    });
    records.state.write(&mut store, state.clone()).unwrap();
    prune(&mut store, &records, keep(0), 0).unwrap();
    assert_eq!(has(&store), [3]);
    // Also where only somebody who agrees to a loss can go there.
    use crate::fence::names::Version;
    use crate::fence::tests::{declare, label};
    declare(
        &mut store,
        Version::Snapshot(3),
        "dataset = \"data\"\nstate = \"2\"\n",
    );
    label(&mut store, Place::Live(DATA), "9");
    assert_eq!(catalogue::fenced_off(&store, &state).unwrap(), [3]);
    prune(&mut store, &records, keep(0), 0).unwrap();
    assert_eq!(has(&store), [3]);
    state.trial = None;
    records.state.write(&mut store, state).unwrap();
    prune(&mut store, &records, keep(0), 0).unwrap();
    assert_eq!(has(&store), [0; 0]);
}

#[test]
fn data_that_comes_back_by_itself_goes_only_by_name() {
    let (mut store, records) = kept();
    let mut changed = its(&store, 3);
    changed.aside.remove(DATA);
    write_manifest(&mut store, Set::Snapshot(3), &changed).unwrap();
    let pruned = prune(&mut store, &records, keep(0), 0).unwrap();
    assert_eq!(what(&pruned), [(3, STAYS), (4, DELETED), (5, DELETED)]);
    assert!(pruned.to_string().contains("--reset-data"));
    let asked = Asked {
        reset_data: true,
        ..keep(0)
    };
    prune(&mut store, &records, asked, 0).unwrap();
    assert_eq!(has(&store), [0; 0]);
    assert!(!its(&store, 3).brings(DATA));
}

#[test]
fn what_is_not_what_was_sealed_is_left_and_named_and_the_others_go() {
    let (mut store, records) = kept();
    let place = |id| Place::Snapshot(id, DATA);
    store.edit(|world, _| {
        let written = world.datasets.get_mut(&place(3)).unwrap();
        written.dataset.read_only = false;
        let other = world.datasets.get_mut(&place(4)).unwrap();
        other.dataset.identity.ctransid += 1;
        world.datasets.remove(&place(5));
    });
    let pruned = prune(&mut store, &records, keep(0), 0).unwrap();
    assert_eq!(what(&pruned), [(3, FAILED), (4, FAILED), (5, DELETED)]);
    assert!(pruned.failed()[0].contains("@backstay/data/data/3 is not what was sealed"));
    assert_eq!(has(&store), [3, 4]);
    assert!(its(&store, 3).gone.is_empty());
    // One whose data somebody deleted is sound again.
    assert_eq!(health(&store, Set::Snapshot(5)).unwrap(), Health::Sound);
}

#[test]
fn what_somebody_puts_where_data_is_gone_is_not_deleted() {
    let (mut store, records) = kept();
    prune(&mut store, &records, keep(2), 0).unwrap();
    let tree = [("x".to_owned(), Content::File(b"mine".to_vec()))];
    store.put(Place::Snapshot(3, DATA), tree.into_iter().collect());
    let pruned = prune(&mut store, &records, keep(2), 0).unwrap();
    assert_eq!(pruned.failed().len(), 1);
    assert_eq!(has(&store), [3, 4, 5]);
}

#[test]
fn nothing_is_deleted_by_a_state_that_is_not_the_newest_nor_while_a_change_is_open() {
    let (mut store, mut records) = kept();
    let mut state = records.state.value.clone();
    state.next_id = 5;
    records.state.write(&mut store, state).unwrap();
    let error = prune(&mut store, &records, keep(0), 0).unwrap_err();
    assert!(matches!(error, Error::StateBehind), "{error}");
    let (mut store, mut records) = kept();
    let open = crate::record::journal::Preparing {
        id: 7,
        made: Default::default(),
    };
    let open = Journal::Preparing(Box::new(open));
    records.journal.write(&mut store, open).unwrap();
    assert!(prune(&mut store, &records, keep(0), 0).is_err());
    assert_eq!(has(&store), [3, 4, 5]);
}
