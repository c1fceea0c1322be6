//! Labels: written, read, listed, removed, carried, refused.

use super::{Bench, Check, LIVE, NEXT};
use crate::record::layout::Part;
use crate::store::label::{MAX, MAX_NAME};
use crate::store::place::Place;
use crate::store::{Access, Store, StoreError};

const DATA: Place = Place::Live(Part::Data(0));
const STATE: &str = "state.shop";

/// The checks of this file.
pub fn checks<B: Bench>() -> Vec<Check<B>> {
    vec![
        ("a_label_is_what_was_written_last_or_nothing", written),
        (
            "labels_are_listed_by_name_and_each_dataset_has_its_own",
            listed,
        ),
        (
            "a_clone_has_the_labels_of_its_source_and_changes_its_own",
            cloned,
        ),
        ("labels_go_with_the_dataset_that_changes_places", exchanged),
        ("a_sealed_dataset_keeps_its_labels_and_takes_none", sealed),
        ("a_label_is_bounded_and_an_empty_one_is_one", bounded),
        ("a_strange_name_is_no_label", strange),
        ("where_no_dataset_is_there_are_no_labels", nothing_there),
    ]
}

fn set<B: Bench>(bench: &mut B, place: Place, name: &str, value: &[u8]) {
    bench.store().set_label(place, name, Some(value)).unwrap();
}

fn get<B: Bench>(bench: &mut B, place: Place, name: &str) -> Option<Vec<u8>> {
    bench.store().label(place, name).unwrap()
}

fn written<B: Bench>(bench: &mut B) {
    bench.create(DATA);
    assert_eq!(get(bench, DATA, STATE), None);
    bench.store().set_label(DATA, STATE, None).unwrap();
    for value in [&b"1"[..], b"a longer one", b"2"] {
        set(bench, DATA, STATE, value);
        assert_eq!(get(bench, DATA, STATE).as_deref(), Some(value));
        bench.store().sync().unwrap();
        assert_eq!(
            get(bench, DATA, STATE).as_deref(),
            Some(value),
            "after a sync"
        );
    }
    for _ in 0..2 {
        bench.store().set_label(DATA, STATE, None).unwrap();
        bench.store().sync().unwrap();
        assert_eq!(get(bench, DATA, STATE), None);
    }
}

fn listed<B: Bench>(bench: &mut B) {
    let mail = Place::Live(Part::Data(1));
    bench.create(DATA);
    bench.create(mail);
    assert_eq!(bench.store().labels(DATA).unwrap(), [""; 0]);
    for name in ["state.shop", "history.shop", "state.a+b-c.d~1"] {
        set(bench, DATA, name, name.as_bytes());
    }
    set(bench, mail, "state.mail", b"3");
    assert_eq!(
        bench.store().labels(DATA).unwrap(),
        ["history.shop", "state.a+b-c.d~1", "state.shop"]
    );
    assert_eq!(bench.store().labels(mail).unwrap(), ["state.mail"]);
    bench.store().set_label(DATA, "history.shop", None).unwrap();
    assert_eq!(
        bench.store().labels(DATA).unwrap(),
        ["state.a+b-c.d~1", "state.shop"]
    );
    assert_eq!(
        bench.store().names(DATA, "").unwrap(),
        [""; 0],
        "a label is no file"
    );
}

fn cloned<B: Bench>(bench: &mut B) {
    bench.create(DATA);
    set(bench, DATA, STATE, b"1");
    let (writable, read_only) = (
        Place::Snapshot(13, Part::Data(0)),
        Place::Template(Part::Data(0)),
    );
    for (to, access) in [(writable, Access::Writable), (read_only, Access::ReadOnly)] {
        bench.store().clone_to(DATA, to, access).unwrap();
        assert_eq!(get(bench, to, STATE).as_deref(), Some(&b"1"[..]));
    }
    set(bench, DATA, STATE, b"2");
    set(bench, writable, STATE, b"3");
    bench.store().sync().unwrap();
    for (place, value) in [(DATA, b"2"), (writable, b"3"), (read_only, b"1")] {
        assert_eq!(
            get(bench, place, STATE).as_deref(),
            Some(&value[..]),
            "{place:?}"
        );
    }
}

fn exchanged<B: Bench>(bench: &mut B) {
    bench.create(LIVE);
    set(bench, LIVE, STATE, b"1");
    bench
        .store()
        .clone_to(LIVE, NEXT, Access::Writable)
        .unwrap();
    set(bench, NEXT, STATE, b"2");
    bench.store().exchange(LIVE, NEXT).unwrap();
    bench.store().sync().unwrap();
    assert_eq!(get(bench, LIVE, STATE).as_deref(), Some(&b"2"[..]));
    assert_eq!(get(bench, NEXT, STATE).as_deref(), Some(&b"1"[..]));
}

fn sealed<B: Bench>(bench: &mut B) {
    bench.create(DATA);
    set(bench, DATA, STATE, b"1");
    let identity = bench.store().seal(DATA).unwrap();
    for value in [Some(&b"2"[..]), None] {
        for name in [STATE, "state.other"] {
            let refused = bench.store().set_label(DATA, name, value);
            assert!(matches!(refused, Err(StoreError::Place(_))), "{refused:?}");
        }
    }
    bench.store().sync().unwrap();
    assert_eq!(get(bench, DATA, STATE).as_deref(), Some(&b"1"[..]));
    assert_eq!(bench.store().labels(DATA).unwrap(), [STATE]);
    let found = bench.store().dataset(DATA).unwrap().unwrap();
    assert_eq!(
        found.identity, identity,
        "reading and refusing changed nothing"
    );
}

fn bounded<B: Bench>(bench: &mut B) {
    bench.create(DATA);
    let longest = [b'x'; MAX];
    set(bench, DATA, STATE, &longest);
    let refused = bench.store().set_label(DATA, STATE, Some(&[b'y'; MAX + 1]));
    assert!(matches!(refused, Err(StoreError::Label(_))), "{refused:?}");
    assert_eq!(get(bench, DATA, STATE).as_deref(), Some(&longest[..]));
    set(bench, DATA, STATE, b"");
    assert_eq!(get(bench, DATA, STATE).as_deref(), Some(&b""[..]));
    // All that one application has, and of several.
    for app in 0..8 {
        for kind in ["state", "converting", "history"] {
            set(bench, DATA, &format!("{kind}.{app}"), &longest);
        }
    }
    bench.store().sync().unwrap();
    assert_eq!(bench.store().labels(DATA).unwrap().len(), 25);
}

fn strange<B: Bench>(bench: &mut B) {
    bench.create(DATA);
    let long = "x".repeat(MAX_NAME + 1);
    for name in [
        "",
        "state shop",
        "state/shop",
        "state\0",
        "zustand.ä",
        "a\nb",
        long.as_str(),
    ] {
        let store = bench.store();
        for refused in [
            store.set_label(DATA, name, Some(b"1")),
            store.set_label(DATA, name, None),
            store.label(DATA, name).map(|_| ()),
        ] {
            assert!(
                matches!(refused, Err(StoreError::Label(_))),
                "{name:?}: {refused:?}"
            );
        }
    }
    assert_eq!(bench.store().labels(DATA).unwrap(), [""; 0]);
    let longest = "x".repeat(MAX_NAME);
    set(bench, DATA, &longest, b"1");
    assert_eq!(bench.store().labels(DATA).unwrap(), [longest]);
}

fn nothing_there<B: Bench>(bench: &mut B) {
    let store = bench.store();
    assert!(store.label(DATA, STATE).is_err());
    assert!(store.labels(DATA).is_err());
    assert!(store.set_label(DATA, STATE, Some(b"1")).is_err());
}
