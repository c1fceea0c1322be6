//! Stores in which something lies that nobody expects, or something does not that everybody does.

use super::model::boot::boot;
use super::model::{machine, root};
use super::records::Records;
use crate::admin::request::{no_spare, preview, submit};
use crate::admin::status::{Around, status};
use crate::policy::Wish;
use crate::policy::refusal::Refusal;
use crate::record::layout::Part;
use crate::record::state::Verb;
use crate::store::Store;
use crate::store::memory::Memory;
use crate::store::place::{File, Place};

fn ask(store: &mut Memory, verb: Verb) {
    let mut records = Records::open(store).unwrap();
    submit(
        store,
        &mut records,
        verb,
        Default::default(),
        [1; 16],
        1,
        &no_spare,
    )
    .unwrap();
}

fn lose(store: &mut Memory, place: Place) {
    store.edit(|world, _| world.datasets.remove(&place));
}

#[test]
fn what_was_asked_for_while_the_live_system_is_missing_brings_one_back() {
    let live = Place::Live(Part::System);
    for verb in [Verb::Rollback(None), Verb::ResetEverything] {
        let (mut store, records) = machine();
        lose(&mut store, live);
        preview(&store, &records, verb, Default::default(), 1).unwrap();
        ask(&mut store, verb);
        let booted = boot(&mut store, Wish::Boot, &mut |_| {});
        assert!(booted.is_quiet(), "{verb}: {booted:?}");
        assert!(store.dataset(live).unwrap().is_some());
        let state = Records::open(&store).unwrap().state.value;
        assert_eq!(state.request, None);
    }
}

/// What somebody put under a number that was never given out is nobody's change.
#[test]
fn a_stray_under_a_later_number_leaves_no_hint_after_a_change_and_is_named() {
    let (mut store, _) = machine();
    store.put(Place::Snapshot(4, Part::System), root("a stranger"));
    for verb in [Verb::Rollback(None), Verb::ResetConfig { data: false }] {
        ask(&mut store, verb);
        let booted = boot(&mut store, Wish::Boot, &mut |_| {});
        assert!(booted.is_quiet(), "{verb}: {booted:?}");
        assert_eq!(store.read(File::Armed).unwrap(), None, "{verb}");
        assert!(boot(&mut store, Wish::Boot, &mut |_| {}).is_quiet());
    }
    store.put(Place::Snapshot(9, Part::System), root("a stranger"));
    let shown = status(&store, Around::default()).unwrap();
    assert_eq!(shown.strays, [9]);
    let text = shown.to_string();
    assert!(
        text.contains("snapshots/9") && text.contains("move it"),
        "{text}"
    );
}

#[test]
fn a_set_that_lacks_a_part_is_not_where_a_roll_back_goes() {
    for (part, verb) in [
        (Part::Config, Verb::Rollback(None)),
        (Part::Config, Verb::ResetConfig { data: false }),
        (Part::Defaults, Verb::Rollback(None)),
        (Part::System, Verb::ResetSystem { keep_config: false }),
    ] {
        let (mut store, before) = machine();
        lose(&mut store, Place::Live(part));
        ask(&mut store, verb);
        assert!(boot(&mut store, Wish::Boot, &mut |_| {}).is_quiet());
        let records = Records::open(&store).unwrap();
        let state = &records.state.value;
        assert!(state.next_id > before.state.value.next_id);
        assert!(
            !state.older.contains(&3) && !state.newer.contains(&3),
            "{part:?} {verb}"
        );
        preview(
            &store,
            &records,
            Verb::Rollback(None),
            Default::default(),
            1,
        )
        .unwrap();
    }
}

#[test]
fn a_snapshot_that_nothing_can_go_back_to_is_said_with_its_fault() {
    let (mut store, _) = machine();
    let shown = |store: &Memory| status(store, Around::default()).unwrap().to_string();
    let line = |text: &str| {
        let found = text.lines().find(|line| line.starts_with("roll back to"));
        found.unwrap().to_owned()
    };
    assert!(line(&shown(&store)).ends_with("snapshot 2"));
    lose(&mut store, Place::Snapshot(2, Part::Config));
    let text = line(&shown(&store));
    assert!(
        text.contains("missing: config") && text.contains("backstay list"),
        "{text}"
    );
}

#[test]
fn a_missing_template_is_refused_when_asking_and_at_the_start_with_what_makes_it_again() {
    for verb in [Verb::ResetEverything, Verb::ResetConfig { data: true }] {
        let (mut store, mut records) = machine();
        lose(&mut store, Place::Template(Part::Data(0)));
        let refused = preview(&store, &records, verb, Default::default(), 1)
            .unwrap_err()
            .to_string();
        // It went after it was asked for.
        let live = store.world().datasets.clone();
        submit(
            &mut store,
            &mut records,
            verb,
            Default::default(),
            [1; 16],
            1,
            &no_spare,
        )
        .unwrap();
        let booted = boot(&mut store, Wish::Boot, &mut |_| {});
        let [error] = booted.errors.as_slice() else {
            panic!("{booted:?}")
        };
        for text in [refused, error.to_string()] {
            assert!(text.contains("@backstay/data/data/template"), "{text}");
            assert!(text.contains("run 'backstay init'"), "{text}");
        }
        assert_eq!(store.world().datasets, live);
        assert_eq!(Records::open(&store).unwrap().state.value.request, None);
    }
}

#[test]
fn a_request_that_needs_the_missing_live_system_is_withdrawn_and_never_fires_later() {
    let live = Place::Live(Part::System);
    let (mut store, _) = machine();
    ask(&mut store, Verb::ResetConfig { data: false });
    let system = store.world().datasets.get(&live).cloned().unwrap();
    lose(&mut store, live);
    let booted = boot(&mut store, Wish::Boot, &mut |_| {});
    assert!(booted.prompt);
    assert_eq!(booted.refusals, [Refusal::NoLiveSystem]);
    store.edit(|world, _| world.datasets.insert(live, system));
    let config = store.dataset(Place::Live(Part::Config)).unwrap();
    assert!(boot(&mut store, Wish::Boot, &mut |_| {}).is_quiet());
    assert_eq!(store.dataset(Place::Live(Part::Config)).unwrap(), config);
    assert_eq!(store.read(File::Armed).unwrap(), None);
}
