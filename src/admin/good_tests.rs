//! What `mark-good` does to a machine in memory.

use super::*;
use crate::admin::request::{attempted, cancel, submit};
use crate::policy::Health;
use crate::policy::intent::Intent;
use crate::record::state::Verb;
use crate::store::memory::Memory;
use crate::transaction::execute::{ARMED, execute};
use crate::transaction::model::machine;
use crate::transaction::plan::plan;

/// The machine after `reset everything`, which was not marked good yet.
fn reset() -> (Memory, Records) {
    let (mut store, mut records) = machine();
    let manifest = catalogue::manifest(&store, Set::Factory).unwrap();
    let plan = plan(
        &Intent::ResetEverything,
        &records.state.value,
        store.layout(),
        manifest.as_ref(),
        1,
    );
    execute(&mut store, &mut records, &plan, 1, &mut |_| {}).unwrap();
    store.sync().unwrap();
    (store, records)
}

fn check_finished(store: &Memory, what: &str) {
    let state = Records::open(store).unwrap().state.value;
    assert_eq!(store.ids().unwrap(), Vec::<u32>::new(), "{what}");
    assert_eq!(state.destroy, None, "{what}");
    assert!(state.older.is_empty() && state.newer.is_empty(), "{what}");
    for part in store.layout().all() {
        assert!(
            store.dataset(Place::Live(part)).unwrap().is_some(),
            "{what}"
        );
    }
    let factory = catalogue::health(store, Set::Factory).unwrap();
    assert_eq!(factory, Health::Sound, "{what}");
    assert!(
        store
            .dataset(Place::Template(Part::Data(0)))
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_good_system_ends_reset_everything_and_keeps_factory_and_templates() {
    let (mut store, mut records) = reset();
    let marked = mark_good(
        &mut store,
        &mut records,
        Some(Booted {
            dataset: "@rootfs",
            by_kexec: false,
        }),
        false,
        &mut |_| {},
    )
    .unwrap();
    assert_eq!((marked.good, marked.deleted), (true, vec![1, 2, 3]));
    check_finished(&store, "uncut");
    let state = Records::open(&store).unwrap().state.value;
    assert_eq!(state.good, Some(state.live.system));
}

#[test]
fn a_system_for_which_nothing_waits_is_recorded_as_good() {
    let (mut store, mut records) = machine();
    mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
    let state = Records::open(&store).unwrap().state.value;
    assert_eq!(state.good, Some(state.live.system));
}

#[test]
fn no_power_cut_leaves_something_deleted_of_which_the_state_does_not_say_that_it_begun() {
    let there = |store: &Memory| {
        let world = store.world();
        (world.datasets.len(), world.files.len())
    };
    let mut seen = 0;
    for power in 0.. {
        let (mut store, mut records) = reset();
        let whole = there(&store);
        store.power = Some(power);
        let ended = mark_good(&mut store, &mut records, None, false, &mut |_| {})
            .is_ok_and(|marked| marked.kept.is_empty());
        for left in store.after_power_cut() {
            let state = Records::open(&left).unwrap().state.value;
            let begun = state.destroy.is_none_or(|it| it.phase == Phase::Begun);
            if there(&left) != whole {
                assert!(begun, "cut at {power}: {:?}", state.destroy);
                assert_eq!(state.good, Some(state.live.system), "cut at {power}");
                seen += 1;
            }
        }
        if ended {
            break;
        }
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn on_a_full_file_system_the_deletion_gives_up_the_ballast_and_ends() {
    let (mut store, mut records) = reset();
    store.full = Some(false);
    let marked = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
    assert_eq!((marked.deleted, marked.kept), (vec![1, 2, 3], Vec::new()));
    assert!(!store.world().ballast);
    check_finished(&store, "full");
}

#[test]
fn a_power_cut_at_any_point_is_made_up_for_by_the_next_call() {
    for power in 0.. {
        let (mut store, mut records) = reset();
        store.power = Some(power);
        let ended = mark_good(&mut store, &mut records, None, false, &mut |_| {})
            .is_ok_and(|marked| marked.kept.is_empty());
        for mut left in store.after_power_cut() {
            let mut records = Records::open(&left).unwrap();
            mark_good(&mut left, &mut records, None, false, &mut |_| {}).unwrap();
            check_finished(&left, &format!("cut at {power}"));
        }
        if ended {
            assert!(power > 10);
            return;
        }
    }
}

#[test]
fn one_that_cannot_be_deleted_is_named_and_tried_again_and_stands_in_the_way_of_nothing() {
    let (mut store, mut records) = reset();
    let stuck = Place::Snapshot(2, Part::System);
    let uuid = store.dataset(stuck).unwrap().unwrap().identity.uuid;
    let default = store.world().default;
    store.edit(|world, _| world.default = Some(uuid));
    for deleted in [&[1, 3][..], &[]] {
        let marked = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
        assert_eq!(marked.deleted, deleted);
        let [kept] = &marked.kept[..] else {
            panic!("{:?}", marked.kept);
        };
        assert!(kept.starts_with("snapshot 2: "), "{kept}");
        assert!(kept.contains("default subvolume"), "{kept}");
        assert_eq!(catalogue::ids(&store).unwrap(), [2]);
        assert_eq!(
            store.dataset(Place::Snapshot(2, Part::Config)).unwrap(),
            None
        );
        // Nothing promotes it, and everything else can be asked for.
        for (verb, refused) in [
            (Verb::Rollback(Some(2)), true),
            (Verb::Rollback(None), true),
            (Verb::ResetConfig { data: false }, false),
            (Verb::ResetEverything, false),
        ] {
            let asked =
                crate::admin::request::preview(&store, &records, verb, Default::default(), 0);
            assert_eq!(asked.is_err(), refused, "{verb}: {asked:?}");
        }
        records = Records::open(&store).unwrap();
    }
    store.edit(|world, _| world.default = default);
    let marked = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
    assert_eq!(marked.deleted, [2]);
    check_finished(&store, "the third time");
}

#[test]
fn what_a_stranger_put_in_the_way_is_named_with_what_to_do() {
    let what = "@backstay/snapshots/2/system is not a subvolume but an ordinary directory";
    let error = strangers::<()>(Err(StoreError::Place(what.to_owned()))).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{what}, which backstay did not make: move it out of @backstay")
    );
    // What else stops a deletion has its remedy already, or is nobody's.
    let error = strangers::<()>(Err(StoreError::System("input/output error".to_owned())));
    assert_eq!(error.unwrap_err().to_string(), "input/output error");
}

#[test]
fn going_back_before_the_mark_keeps_the_old_data() {
    let (mut store, mut records) = reset();
    let (to, id) = (3, 3);
    let manifest = catalogue::manifest(&store, Set::Snapshot(id)).unwrap();
    let plan = plan(
        &Intent::Rollback { to },
        &records.state.value,
        store.layout(),
        manifest.as_ref(),
        2,
    );
    let text = crate::transaction::explain::explain(&plan, store.layout()).to_string();
    assert!(text.contains("kept (snapshot 3), no longer"), "{text}");
    assert!(text.lines().all(|line| line.len() <= 78), "{text}");
    for (verb, said) in [
        (Verb::ResetSystem { keep_config: true }, true),
        (Verb::ResetConfig { data: false }, false),
        (Verb::ResetEverything, false),
    ] {
        let shown =
            crate::admin::request::preview(&store, &records, verb, Default::default(), 0).unwrap();
        let text = shown.to_string();
        assert_eq!(text.contains("no longer deleted"), said, "{text}");
    }
    execute(&mut store, &mut records, &plan, 2, &mut |_| {}).unwrap();
    let marked = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
    assert_eq!(marked.deleted, Vec::<u32>::new());
    assert_eq!(catalogue::ids(&store).unwrap(), [1, 2, 3, 4]);
}

#[test]
fn a_rollback_that_was_asked_for_before_the_mark_keeps_its_snapshot() {
    let (mut store, mut records) = reset();
    let link = crate::admin::request::no_spare;
    submit(
        &mut store,
        &mut records,
        Verb::Rollback(None),
        Default::default(),
        [1; 16],
        1,
        &link,
    )
    .unwrap();
    let marked = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
    assert_eq!((marked.good, marked.deleted), (true, Vec::new()));
    assert_eq!(catalogue::ids(&store).unwrap(), [1, 2, 3]);
    cancel(&mut store, &mut records).unwrap();
    mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
    check_finished(&store, "after cancel");
}

/// However an attempt to go back ends without doing it: what it wanted back stays.
#[test]
fn an_attempt_to_go_back_suspends_the_deletion_until_a_person_decides() {
    use crate::policy::Wish;
    use crate::transaction::model::boot::boot;
    let back = Verb::Rollback(None);
    let present = Wish::Change {
        verb: back,
        consent: Default::default(),
        loss: true,
        present: true,
    };
    let request = |store: &mut Memory, records: &mut Records| {
        submit(
            store,
            records,
            back,
            Default::default(),
            [1; 16],
            1,
            &crate::admin::request::no_spare,
        )
        .unwrap();
    };
    let suspended = |mut store: Memory, what: &str| {
        let mut records = Records::open(&store).unwrap();
        for _ in 0..2 {
            let marked = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
            assert!(marked.good && marked.suspended, "{what}: {marked:?}");
            assert!(marked.deleted.is_empty(), "{what}: {marked:?}");
        }
        assert_eq!(catalogue::ids(&store).unwrap(), [1, 2, 3], "{what}");
        // A request that is withdrawn leaves it to the person as before.
        request(&mut store, &mut records);
        cancel(&mut store, &mut records).unwrap();
        let marked = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
        assert!(marked.suspended, "{what}");
        let mut back = store.clone();
        assert!(boot(&mut back, present, &mut |_| {}).is_quiet(), "{what}");
        let state = Records::open(&back).unwrap().state.value;
        assert_eq!(state.destroy, None, "{what}");
        mark_good(&mut store, &mut records, None, true, &mut |_| {}).unwrap();
        check_finished(&store, what);
    };
    for requested in [true, false] {
        let wish = if requested { Wish::Boot } else { present };
        let asked = || {
            let (mut store, mut records) = reset();
            if requested {
                request(&mut store, &mut records);
            }
            store
        };
        // The start is cut, and the next one undoes what it began.
        let mut undone = 0;
        for power in 1.. {
            let mut store = asked();
            let before = Records::open(&store).unwrap().state.seq();
            store.power = Some(power);
            let ended = boot(&mut store, wish, &mut |_| {}).is_quiet();
            for mut left in store.after_power_cut() {
                let records = Records::open(&left).unwrap();
                let began = records.journal.value != Journal::Closed;
                let request = records.state.value.request.is_some();
                if request || records.state.seq() == before {
                    continue;
                }
                boot(&mut left, Wish::Boot, &mut |_| {});
                let state = Records::open(&left).unwrap().state.value;
                if state.destroy.is_some() {
                    suspended(left, &format!("{requested}, cut at {power}"));
                    undone += usize::from(began);
                }
            }
            if ended {
                break;
            }
        }
        assert!(undone > 3, "{undone}");
        // It fails before it takes effect.
        let mut store = asked();
        let tree = root_without_modules(&mut store);
        let booted = boot(&mut store, wish, &mut |_| {});
        assert!(!booted.errors.is_empty(), "{booted:?}");
        root_again(&mut store, tree);
        suspended(store, &format!("{requested}, not done"));
    }
    // It is refused.
    let (mut store, _) = reset();
    let gone = Wish::Change {
        verb: Verb::Rollback(Some(77)),
        consent: Default::default(),
        loss: true,
        present: true,
    };
    assert!(!boot(&mut store, gone, &mut |_| {}).refusals.is_empty());
    suspended(store, "refused at GRUB");
    let (mut store, mut records) = reset();
    request(&mut store, &mut records);
    store.remove(File::Armed).unwrap();
    assert!(
        !boot(&mut store, Wish::Boot, &mut |_| {})
            .refusals
            .is_empty()
    );
    suspended(store, "refused");
    // No plan can be made of it.
    let (mut store, mut records) = reset();
    request(&mut store, &mut records);
    let mut state = Records::open(&store).unwrap().state.value;
    let next = core::mem::replace(&mut state.next_id, u32::MAX);
    records.state.write_anew(&mut store, state).unwrap();
    assert!(!boot(&mut store, Wish::Boot, &mut |_| {}).errors.is_empty());
    let mut records = Records::open(&store).unwrap();
    let mut state = records.state.value.clone();
    assert_eq!(state.request, None);
    state.next_id = next;
    records.state.write_anew(&mut store, state).unwrap();
    suspended(store, "no plan");
    // The command refuses to ask for it.
    let (mut store, mut records) = reset();
    let before = records.state.seq();
    attempted(&mut store, &mut records, Verb::Select(77)).unwrap();
    assert_eq!(records.state.seq(), before);
    attempted(&mut store, &mut records, Verb::Rollback(Some(77))).unwrap();
    attempted(&mut store, &mut records, Verb::Rollback(Some(77))).unwrap();
    assert_eq!(records.state.seq(), before + 1);
    suspended(store, "not asked for");
}

fn root_without_modules(store: &mut Memory) -> crate::store::memory::Tree {
    let mut before = Default::default();
    store.edit(|world, _| {
        let place = Place::Snapshot(3, Part::System);
        let tree = &mut world.datasets.get_mut(&place).unwrap().tree;
        before = (**tree).clone();
        tree.remove("lib/modules/6.12/modules.dep");
    });
    before
}

fn root_again(store: &mut Memory, before: crate::store::memory::Tree) {
    store.edit(|world, _| {
        let place = Place::Snapshot(3, Part::System);
        world.datasets.get_mut(&place).unwrap().tree = before.into();
    });
}

#[test]
fn only_the_recorded_live_system_is_marked() {
    let (mut store, mut records) = machine();
    let other = Booted {
        dataset: "@other",
        by_kexec: false,
    };
    let other = mark_good(&mut store, &mut records, Some(other), false, &mut |_| {});
    assert!(matches!(other, Err(Error::NotLive(_))));
    let mut state = records.state.value.clone();
    state.live.system = Uuid([7; 16]);
    records.state.write(&mut store, state).unwrap();
    let error = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("nothing was marked"), "{error}");
    assert!(error.to_string().contains("init --repair"), "{error}");
    assert_eq!(Records::open(&store).unwrap().state.value.good, None);
}

#[test]
fn a_snapshot_that_is_booted_once_is_not_marked() {
    let (mut store, mut records) = machine();
    let mut state = records.state.value.clone();
    state.parked = Some(2);
    records.state.write(&mut store, state).unwrap();
    let marked = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
    assert!(!marked.good && marked.why_not.is_some());
}

#[test]
fn a_hint_that_is_left_over_goes() {
    let (mut store, mut records) = machine();
    store.replace(File::Armed, ARMED).unwrap();
    mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
    assert_eq!(store.read(File::Armed).unwrap(), None);
}
