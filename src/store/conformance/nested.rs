//! Subvolumes inside datasets.

use super::{Bench, Check, LIVE, NEXT, content, uuid_at};
use crate::store::{Access, Carried, Nested, Node, Store};

/// The checks of this file.
pub fn checks<B: Bench>() -> Vec<Check<B>> {
    vec![
        ("nested_subvolumes_are_listed_and_not_cloned", nested),
        ("a_nested_subvolume_is_carried_over_once_and_again", carry),
        (
            "a_nested_subvolume_stays_where_something_else_lies",
            carry_refused,
        ),
        (
            "nested_subvolumes_are_cloned_once_however_often_it_is_tried",
            clone_nested,
        ),
        (
            "a_dataset_with_nested_ones_is_destroyed_whole",
            destroy_nested,
        ),
    ]
}

/// A live system with a nested subvolume that holds a file, and a clone of it.
fn two_with_nested<B: Bench>(bench: &mut B) -> Nested {
    bench.create(LIVE);
    bench.directory(LIVE, "var/lib");
    let uuid = bench.nest(LIVE, "var/lib/machines");
    bench
        .store()
        .clone_to(LIVE, NEXT, Access::Writable)
        .unwrap();
    Nested {
        path: b"var/lib/machines".to_vec(),
        uuid: Some(uuid),
    }
}

fn nested<B: Bench>(bench: &mut B) {
    let nested = two_with_nested(bench);
    assert_eq!(bench.store().nested(LIVE).unwrap(), [nested]);
    assert_eq!(bench.store().nested(NEXT).unwrap(), []);
    let stub = bench.store().node(NEXT, "var/lib/machines").unwrap();
    assert_eq!(
        stub,
        Some(Node::Directory),
        "an empty directory is left in the clone"
    );
}

fn carry<B: Bench>(bench: &mut B) {
    let nested = two_with_nested(bench);
    for again in [false, true] {
        let carried = bench.store().carry(&nested, LIVE, NEXT).unwrap();
        assert_eq!(carried, Carried::Moved, "again: {again}");
        bench.store().sync().unwrap();
        assert_eq!(
            bench.store().nested(NEXT).unwrap(),
            std::slice::from_ref(&nested)
        );
        assert_eq!(bench.store().nested(LIVE).unwrap(), []);
    }
}

fn carry_refused<B: Bench>(bench: &mut B) {
    bench.create(LIVE);
    bench.create(NEXT);
    for path in ["here/a", "here/b", "here/c", "gone/d"] {
        bench.directory(LIVE, path.split('/').next().unwrap());
        bench.nest(LIVE, path);
    }
    bench.write(NEXT, "here/a", b"a file");
    bench.write(NEXT, "here/b/file", b"in a directory");
    bench.link(NEXT, "here/c", "b");
    let all = bench.store().nested(LIVE).unwrap();
    assert_eq!(all.len(), 4);
    for nested in &all {
        let carried = bench.store().carry(nested, LIVE, NEXT).unwrap();
        assert_eq!(carried, Carried::Stayed, "{}", nested.name());
    }
    assert_eq!(bench.store().nested(LIVE).unwrap(), all);
    assert_eq!(content(bench, NEXT, "here/a").as_deref(), Some("a file"));
    assert_eq!(
        content(bench, NEXT, "here/b/file").as_deref(),
        Some("in a directory")
    );
}

fn clone_nested<B: Bench>(bench: &mut B) {
    let first = two_with_nested(bench);
    bench.directory(LIVE, "srv");
    bench.nest(LIVE, "srv/pool");
    let uuid = uuid_at(bench, NEXT).unwrap();
    bench.store().destroy(NEXT, uuid).unwrap();
    bench.store().seal(LIVE).unwrap();
    bench
        .store()
        .clone_to(LIVE, NEXT, Access::Writable)
        .unwrap();
    bench.store().clone_nested(LIVE, NEXT).unwrap();
    let made = bench.store().nested(NEXT).unwrap();
    assert_eq!(made.len(), 2);
    assert!(made.iter().all(|nested| nested.uuid != first.uuid));
    // A file system that was full is tried again.
    bench.store().clone_nested(LIVE, NEXT).unwrap();
    assert_eq!(bench.store().nested(NEXT).unwrap(), made);
}

fn destroy_nested<B: Bench>(bench: &mut B) {
    let nested = two_with_nested(bench);
    let (old, new) = (uuid_at(bench, LIVE).unwrap(), uuid_at(bench, NEXT).unwrap());
    assert_eq!(
        bench.store().carry(&nested, LIVE, NEXT).unwrap(),
        Carried::Moved
    );
    bench.store().seal(NEXT).unwrap();
    bench.store().destroy(NEXT, new).unwrap();
    assert_eq!(uuid_at(bench, NEXT), None);
    assert_eq!(uuid_at(bench, LIVE), Some(old));
}
