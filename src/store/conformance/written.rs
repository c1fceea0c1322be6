//! Whether something was written to a dataset since a clone was made of it.

use super::{Bench, Check};
use crate::record::layout::Part;
use crate::store::place::Place;
use crate::store::{Access, Store};

const DATA: Place = Place::Live(Part::Data(0));
const CLONE: Place = Place::Prepared(Part::Data(0));

/// The checks of this file.
pub fn checks<B: Bench>() -> Vec<Check<B>> {
    vec![
        (
            "a_write_after_the_clone_is_seen_and_one_before_is_not",
            files,
        ),
        ("a_label_of_the_source_is_a_write", labels),
        (
            "a_clone_of_the_source_is_no_write_and_one_to_the_clone_is_none",
            others,
        ),
        ("a_subvolume_inside_that_came_later_is_a_write", nested),
        ("of_what_is_not_there_nobody_can_tell", nothing_there),
    ]
}

/// Live data with a file, and a clone of it.
fn cloned<B: Bench>(bench: &mut B) {
    bench.create(DATA);
    bench.write(DATA, "books/1", b"one");
    bench
        .store()
        .clone_to(DATA, CLONE, Access::Writable)
        .unwrap();
}

fn written<B: Bench>(bench: &mut B) -> bool {
    bench.store().sync().unwrap();
    bench.store().written_since(DATA, CLONE).unwrap()
}

fn files<B: Bench>(bench: &mut B) {
    cloned(bench);
    assert!(!written(bench), "what was written before is in the clone");
    bench.write(DATA, "books/1", b"two");
    assert!(written(bench));
}

fn labels<B: Bench>(bench: &mut B) {
    cloned(bench);
    bench
        .store()
        .set_label(DATA, "state.shop", Some(b"2"))
        .unwrap();
    assert!(written(bench));
}

fn others<B: Bench>(bench: &mut B) {
    cloned(bench);
    bench.write(CLONE, "books/1", b"converted");
    bench
        .store()
        .set_label(CLONE, "state.shop", Some(b"2"))
        .unwrap();
    assert!(!written(bench), "a write to the clone");
    bench.store().seal(CLONE).unwrap();
    assert!(!written(bench), "the seal of the clone");
    for (to, access) in [
        (Place::Snapshot(12, Part::Data(0)), Access::ReadOnly),
        (Place::Snapshot(13, Part::Data(0)), Access::Writable),
    ] {
        bench.store().clone_to(DATA, to, access).unwrap();
        assert!(!written(bench), "{access:?} clone of the source");
    }
    bench.write(DATA, "books/2", b"three");
    assert!(written(bench));
}

fn nested<B: Bench>(bench: &mut B) {
    bench.create(DATA);
    bench.directory(DATA, "inner");
    bench.nest(DATA, "inner/before");
    bench
        .store()
        .clone_to(DATA, CLONE, Access::Writable)
        .unwrap();
    bench.store().clone_nested(DATA, CLONE).unwrap();
    assert!(!written(bench));
    bench.nest(DATA, "inner/after");
    assert!(written(bench));
}

fn nothing_there<B: Bench>(bench: &mut B) {
    assert!(bench.store().written_since(DATA, CLONE).is_err());
    bench.create(DATA);
    assert!(bench.store().written_since(DATA, CLONE).is_err());
}
