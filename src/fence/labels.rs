//! The labels of a dataset, as far as the fence looks at them: the state of each application's data in it.
//!
//! ```text
//! state.<app>       the state
//! converting.<app>  "FROM TO", while the data is in neither
//! ```
//! What is there and is no such thing is [`Label::Damaged`]: taken for none, it would pass a version that lives with
//! data of which no state is known.

use super::names::{AppName, AppState};
use super::question::{Label, Labels};
use crate::store::place::Place;
use crate::store::{Result, Store, StoreError};

/// The kind of label that has the state. Changing it is a format break.
pub const STATE: &str = "state";
/// The kind that says between which states the data is. Changing it is a format break.
pub const CONVERTING: &str = "converting";

/// Those of the dataset at a place. One that is not there is an error.
pub fn read<S: Store>(store: &S, place: Place) -> Result<Labels> {
    let mut labels = Labels::new();
    for name in store.labels(place)? {
        let Some((kind, app)) = name.split_once('.') else {
            continue;
        };
        let (Some(app), STATE | CONVERTING) = (AppName::new(app), kind) else {
            continue;
        };
        let value = match store.label(place, &name) {
            // Longer than what is kept, so it was not written by us.
            Err(StoreError::Label(_)) => Some(Label::Damaged),
            other => other?.map(|bytes| match kind {
                STATE => state(&bytes),
                _ => conversion(&bytes),
            }),
        };
        // They are sorted, so 'converting' comes first: data that is being converted is in no state, whatever is recorded.
        if let Some(label) = value {
            labels.entry(app).or_insert(label);
        }
    }
    Ok(labels)
}

fn state(bytes: &[u8]) -> Label {
    let text = core::str::from_utf8(bytes).ok();
    match text.and_then(AppState::new) {
        Some(state) => Label::Known(state),
        None => Label::Damaged,
    }
}

fn conversion(bytes: &[u8]) -> Label {
    let text = core::str::from_utf8(bytes).ok();
    let words = text.and_then(|text| text.split_once(' '));
    match words.map(|(from, to)| (AppState::new(from), AppState::new(to))) {
        Some((Some(from), Some(to))) => Label::Converting { from, to },
        _ => Label::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{app, known, state};
    use super::*;
    use crate::record::layout::Part;
    use crate::store::memory::Memory;
    use crate::transaction::model::layout;

    const DATA: Place = Place::Live(Part::Data(0));

    fn labelled(all: &[(&str, &[u8])]) -> Labels {
        let mut store = Memory::new(layout());
        store.put(DATA, Default::default());
        for (name, value) in all {
            store.set_label(DATA, name, Some(value)).unwrap();
        }
        read(&store, DATA).unwrap()
    }

    #[test]
    fn each_application_has_its_own_and_what_is_no_state_has_none() {
        let found = labelled(&[
            ("state.shop", b"2"),
            ("history.shop", b"1 1 2\n"),
            ("state.mail", b"2024.3+x"),
            ("history.gone", b"1 1 2\n"),
            ("state.Shop", b"2"),
            ("other", b"2"),
        ]);
        let expected = [(app("mail"), known("2024.3+x")), (app("shop"), known("2"))];
        assert_eq!(found, expected.into_iter().collect());
    }

    #[test]
    fn data_that_is_being_converted_is_in_no_state() {
        let (from, to) = (state("unknown"), state("3"));
        let converting = Label::Converting { from, to };
        for all in [
            &[("converting.shop", &b"unknown 3"[..]), ("state.shop", b"2")][..],
            &[("converting.shop", b"unknown 3")],
        ] {
            assert_eq!(labelled(all)[&app("shop")], converting);
        }
    }

    #[test]
    fn what_is_garbled_is_not_taken_for_none() {
        for value in [&b""[..], b"2 3", b"a/b", b"\xff", &[b'9'; 49]] {
            let found = labelled(&[("state.shop", value)]);
            assert_eq!(found[&app("shop")], Label::Damaged, "{value:?}");
        }
        for value in [&b""[..], b"2", b"2 3 4", b"2  3", b"\xff 3"] {
            let found = labelled(&[("converting.shop", value), ("state.shop", b"2")]);
            assert_eq!(found[&app("shop")], Label::Damaged, "{value:?}");
        }
    }

    #[test]
    fn a_disk_that_fails_is_said() {
        let mut store = Memory::new(layout());
        store.put(DATA, Default::default());
        store.set_label(DATA, "state.shop", Some(b"2")).unwrap();
        let before = store.looks.get();
        read(&store, DATA).unwrap();
        let looks = before..store.looks.get();
        assert!(looks.clone().count() > 1);
        for at in looks {
            store.looks.set(before);
            store.blind = Some(at);
            assert!(read(&store, DATA).is_err(), "look {at}");
        }
    }
}
