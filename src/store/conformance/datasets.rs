//! Datasets: look, clone, exchange, rename, seal, destroy.

use super::{Bench, Check, LIVE, NEXT, content, layout, two, uuid_at};
use crate::record::layout::Part;
use crate::store::place::{File, Place, Set};
use crate::store::{Access, Store, StoreError};

/// The checks of this file.
pub fn checks<B: Bench>() -> Vec<Check<B>> {
    vec![
        (
            "every_place_is_empty_at_first_and_holds_what_was_put_there",
            places,
        ),
        ("a_clone_holds_its_source_and_names_it_as_parent", clone_to),
        ("a_clone_goes_its_own_way", clones_diverge),
        ("a_read_only_clone_cannot_be_written", read_only_clone),
        (
            "nothing_is_cloned_over_something_or_from_nothing",
            clone_refused,
        ),
        ("an_exchange_changes_names_and_nothing_else", exchange),
        ("an_exchange_with_nothing_is_refused", exchange_refused),
        (
            "a_rename_takes_the_dataset_along_and_covers_nothing",
            rename,
        ),
        ("a_sealed_dataset_keeps_its_identity", seal),
        ("only_the_dataset_with_the_uuid_is_destroyed", destroy),
        ("an_empty_dataset_is_made_where_nothing_lies", create),
        (
            "a_set_and_the_factory_change_places_with_all_they_hold_sealed_or_not",
            exchange_factory,
        ),
    ]
}

fn places<B: Bench>(bench: &mut B) {
    let places: Vec<Place> = layout()
        .all()
        .map(Place::Live)
        .chain([
            Place::Snapshot(1, Part::System),
            Place::Snapshot(1, Part::Config),
            Place::Snapshot(1, Part::Defaults),
            Place::Snapshot(1, Part::Data(1)),
            Place::Factory(Part::System),
            Place::Template(Part::Data(0)),
            Place::Prepared(Part::Data(0)),
            Place::Prepared(Part::Data(1)),
        ])
        .collect();
    let mut uuids = Vec::new();
    for place in &places {
        assert_eq!(bench.store().dataset(*place).unwrap(), None, "{place:?}");
        bench.create(*place);
        let found = bench.store().dataset(*place).unwrap().unwrap();
        assert!(
            !found.read_only && found.parent.is_none(),
            "{place:?}: {found:?}"
        );
        uuids.push(found.identity.uuid);
    }
    for (place, uuid) in places.iter().zip(&uuids) {
        assert_eq!(uuid_at(bench, *place), Some(*uuid), "{place:?}");
    }
    uuids.sort();
    uuids.dedup();
    assert_eq!(uuids.len(), places.len(), "UUIDs are unique");
}

fn clone_to<B: Bench>(bench: &mut B) {
    bench.create(LIVE);
    bench.write(LIVE, "etc/hostname", b"one");
    let source = uuid_at(bench, LIVE);
    for (to, access) in [
        (NEXT, Access::Writable),
        (Place::Factory(Part::System), Access::ReadOnly),
    ] {
        let made = bench.store().clone_to(LIVE, to, access).unwrap();
        assert_eq!(made.parent, source);
        assert_eq!(made.read_only, access == Access::ReadOnly);
        assert_eq!(bench.store().dataset(to).unwrap(), Some(made));
        assert_eq!(content(bench, to, "etc/hostname").as_deref(), Some("one"));
    }
}

fn clones_diverge<B: Bench>(bench: &mut B) {
    two(bench);
    assert_eq!(content(bench, LIVE, "etc/version").as_deref(), Some("old"));
    assert_eq!(content(bench, NEXT, "etc/version").as_deref(), Some("new"));
}

fn read_only_clone<B: Bench>(bench: &mut B) {
    bench.create(LIVE);
    bench
        .store()
        .clone_to(LIVE, NEXT, Access::ReadOnly)
        .unwrap();
    let before = bench.store().seal(NEXT).unwrap();
    assert!(!bench.write(NEXT, "file", b"x"));
    assert_eq!(bench.store().seal(NEXT).unwrap(), before);
}

fn clone_refused<B: Bench>(bench: &mut B) {
    let (_, clone) = two(bench);
    let nothing = Place::Snapshot(7, Part::System);
    for (from, to) in [
        (LIVE, NEXT),
        (NEXT, LIVE),
        (nothing, Place::Snapshot(8, Part::System)),
    ] {
        let refused = bench.store().clone_to(from, to, Access::Writable);
        assert!(matches!(refused, Err(StoreError::Place(_))), "{refused:?}");
    }
    assert_eq!(uuid_at(bench, NEXT), Some(clone));
    assert_eq!(uuid_at(bench, Place::Snapshot(8, Part::System)), None);
}

fn exchange<B: Bench>(bench: &mut B) {
    let (old, new) = two(bench);
    for round in 0..3 {
        bench.store().exchange(LIVE, NEXT).unwrap();
        bench.store().sync().unwrap();
        let (live, next) = if round % 2 == 0 {
            (new, old)
        } else {
            (old, new)
        };
        assert_eq!(uuid_at(bench, LIVE), Some(live), "round {round}");
        assert_eq!(uuid_at(bench, NEXT), Some(next), "round {round}");
    }
    assert_eq!(content(bench, LIVE, "etc/version").as_deref(), Some("new"));
}

fn exchange_refused<B: Bench>(bench: &mut B) {
    let (old, _) = two(bench);
    let nothing = Place::Snapshot(7, Part::System);
    for (one, other) in [(LIVE, nothing), (nothing, LIVE)] {
        assert!(bench.store().exchange(one, other).is_err());
    }
    assert_eq!(uuid_at(bench, LIVE), Some(old));
    assert_eq!(uuid_at(bench, nothing), None);
}

fn rename<B: Bench>(bench: &mut B) {
    let (old, new) = two(bench);
    assert!(matches!(
        bench.store().rename(NEXT, LIVE),
        Err(StoreError::Place(_))
    ));
    assert_eq!(uuid_at(bench, LIVE), Some(old));
    let to = Place::Snapshot(14, Part::System);
    bench.store().rename(NEXT, to).unwrap();
    assert_eq!(uuid_at(bench, to), Some(new));
    assert_eq!(uuid_at(bench, NEXT), None);
    assert!(
        bench
            .store()
            .rename(NEXT, Place::Snapshot(15, Part::System))
            .is_err()
    );
}

fn seal<B: Bench>(bench: &mut B) {
    let (old, _) = two(bench);
    let sealed = bench.store().seal(LIVE).unwrap();
    assert_eq!(sealed.uuid, old);
    assert!(!bench.write(LIVE, "etc/version", b"changed"));
    // Used as the source of clones, which are written to, it stays the same.
    let to = Place::Snapshot(14, Part::System);
    bench.store().clone_to(LIVE, to, Access::Writable).unwrap();
    assert!(bench.write(to, "etc/version", b"changed"));
    bench.store().sync().unwrap();
    let found = bench.store().dataset(LIVE).unwrap().unwrap();
    assert_eq!((found.identity, found.read_only), (sealed, true));
    assert_eq!(
        bench.store().seal(LIVE).unwrap(),
        sealed,
        "sealing again changes nothing"
    );
    assert!(
        bench
            .store()
            .seal(Place::Snapshot(7, Part::System))
            .is_err()
    );
}

fn create<B: Bench>(bench: &mut B) {
    let made = bench.store().create(NEXT).unwrap();
    assert_eq!((made.parent, made.read_only), (None, false));
    bench.store().sync().unwrap();
    assert_eq!(uuid_at(bench, NEXT), Some(made.identity.uuid));
    assert_eq!(bench.store().names(NEXT, "").unwrap(), Vec::<String>::new());
    assert!(matches!(
        bench.store().create(NEXT),
        Err(StoreError::Place(_))
    ));
    assert_eq!(uuid_at(bench, NEXT), Some(made.identity.uuid));
}

fn exchange_factory<B: Bench>(bench: &mut B) {
    let (id, set) = (13, Set::Snapshot(13));
    assert_eq!(bench.store().factory_held().unwrap(), None);
    assert!(
        bench.store().exchange_factory(id).is_err(),
        "with nothing there"
    );
    let mut uuids = Vec::new();
    for (place, text) in [
        (Place::Factory(Part::System), "old"),
        (Place::Factory(Part::Config), "old"),
        (NEXT, "new"),
    ] {
        bench.create(place);
        bench.write(place, "version", text.as_bytes());
        bench.store().seal(place).unwrap();
        uuids.push(uuid_at(bench, place));
    }
    bench.store().make_directory(id).unwrap();
    bench.store().replace(File::Manifest(set), b"new").unwrap();
    let manifests = |bench: &mut B| {
        [Set::Factory, set].map(|set| bench.store().read(File::Manifest(set)).unwrap())
    };
    for _ in 0..2 {
        bench.store().exchange_factory(id).unwrap();
        bench.store().sync().unwrap();
        let system = uuid_at(bench, Place::Factory(Part::System));
        let swapped = system == uuids[2];
        let (factory, config) = match swapped {
            true => ("new", Place::Snapshot(id, Part::Config)),
            false => ("old", Place::Factory(Part::Config)),
        };
        let at = Place::Factory(Part::System);
        assert_eq!(content(bench, at, "version").as_deref(), Some(factory));
        assert_eq!(uuid_at(bench, NEXT), uuids[if swapped { 0 } else { 2 }]);
        assert_eq!(uuid_at(bench, config), uuids[1]);
        let found = bench.store().dataset(at).unwrap().unwrap();
        assert!(found.read_only, "it stays sealed");
        let [of_factory, of_set] = manifests(bench);
        assert_eq!(of_factory.is_some(), swapped);
        assert_eq!(of_set.is_some(), !swapped);
    }
    assert_eq!(uuid_at(bench, NEXT), uuids[2], "twice is not at all");
}

fn destroy<B: Bench>(bench: &mut B) {
    let (old, new) = two(bench);
    // Whether it complains or not: what has another UUID is left alone.
    bench.store().destroy(NEXT, old).ok();
    assert_eq!(uuid_at(bench, NEXT), Some(new));
    bench.store().seal(NEXT).unwrap();
    bench.store().destroy(NEXT, new).unwrap();
    assert_eq!(uuid_at(bench, NEXT), None);
    bench.store().destroy(NEXT, new).unwrap();
    assert_eq!(uuid_at(bench, LIVE), Some(old));
}
