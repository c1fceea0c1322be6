//! Data that the running system converts before it asks: taken while it fits, refused when it does not, left nowhere, and
//! cut anywhere on the way.
//!
//! As in `fence.rs`. The converters of what is live are not early here, so that before boot there is no way at all.

use super::acts::Act;
use super::boot::FAILS;
use super::explore::explore;
use super::fence::{DATA, LIVE, booted, done, history, is, its, now, shop, state, writes};
use crate::admin::request::planned;
use crate::fence::names::Version;
use crate::fence::tests::{declare, label};
use crate::policy::refusal::Refusal;
use crate::policy::terms::{Conversions, Terms};
use crate::record::state::{Consent, Verb};
use crate::store::memory::{Content, Memory, Tree};
use crate::store::place::{File, Place};
use crate::store::{Access, Store};
use crate::transaction::plan::Plan;
use crate::transaction::prepared::{left_over, make};
use crate::transaction::records::Records;

const CLONE: Place = Place::Prepared(DATA);
const BACK: Verb = Verb::Rollback(Some(2));

/// A converter that does not run before boot.
fn converter(from: &str, to: &str, command: &str) -> String {
    format!(
        "[[converter]]\nfrom = [\"{from}\"]\nto = \"{to}\"\ncommand = [\"{command}\"]\nlossless = true\n"
    )
}

/// What is live writes 3 and leads back to 2.
fn late() -> Memory {
    let mut store = shop();
    let text = writes("3") + &converter("3", "2", "/usr/bin/down");
    declare(&mut store, Version::Live, &text);
    store
}

/// The same, asked for and converted.
pub(super) fn prepared() -> Memory {
    let mut store = late();
    done(&mut store, Act::Prepare(BACK, Consent::Convert));
    store
}

/// What the running system is asked to convert, with the plan.
pub(super) fn to_convert() -> (Memory, Records, Plan) {
    let store = late();
    let records = Records::open(&store).unwrap();
    let terms = Terms {
        conversions: Conversions::Running,
        ..Terms::from(Consent::Convert)
    };
    let (plan, explanation) = planned(&store, &records, BACK, terms, 1).unwrap();
    let text = explanation.to_string();
    assert!(text.contains("3 to 2 by down of the live system"), "{text}");
    (store, records, plan)
}

fn file(text: &str) -> Tree {
    let file = Content::File(text.as_bytes().to_vec());
    [("written".to_owned(), file)].into_iter().collect()
}

fn has_clone(store: &Memory) -> bool {
    store.world().datasets.contains_key(&CLONE)
}

/// What a start makes of it, which is nothing.
fn refused(store: &mut Memory) -> Vec<Refusal> {
    let before = store.world().datasets[&LIVE].clone();
    let booted = booted(store, Act::Start);
    assert!(booted.errors.is_empty() && !booted.prompt, "{booted:?}");
    assert_eq!(store.world().datasets[&LIVE], before);
    assert_eq!(state(store).request, None);
    assert!(!has_clone(store), "nothing is left of it");
    assert_eq!(store.read(File::Armed).unwrap(), None);
    booted.refusals
}

#[test]
fn what_was_converted_in_the_running_system_becomes_live_with_the_version() {
    let mut store = prepared();
    assert_eq!(now(&store), is("live", "3", None));
    let clone = &store.world().datasets[&CLONE];
    assert!(clone.dataset.read_only);
    assert_eq!(clone.labels["state.shop"], b"2");
    assert_eq!(history(&store, CLONE), "1 3 2 3 live down\n");
    done(&mut store, Act::Start);
    assert_eq!(history(&store, LIVE), "1 3 2 3 live down\n");
    assert_eq!(now(&store), is("2", "2", Some("shop of 2")));
    assert!(!has_clone(&store));
    let live = &store.world().datasets[&LIVE];
    assert!(!live.dataset.read_only);
    // As it was, and aside.
    assert!(its(&store, 3).identity(DATA).is_some() && !its(&store, 3).brings(DATA));
    let old = &store.world().datasets[&Place::Snapshot(3, DATA)];
    assert_eq!(old.labels["state.shop"], b"3");
}

#[test]
fn before_boot_there_is_no_such_way() {
    let mut store = late();
    done(&mut store, Act::RequestAgreed(BACK, Consent::Convert));
    let refusals = refused(&mut store);
    assert!(
        matches!(refusals[..], [Refusal::Fenced(Version::Snapshot(2), _)]),
        "{refusals:?}"
    );
}

#[test]
fn the_live_version_can_have_its_data_converted_there_too() {
    let mut store = shop();
    let text = writes("3") + &converter("2", "3", "/usr/bin/up");
    declare(&mut store, Version::Live, &text);
    label(&mut store, LIVE, "2");
    done(&mut store, Act::Prepare(Verb::Convert, Consent::Refuse));
    done(&mut store, Act::Start);
    assert_eq!(now(&store), is("live", "3", Some("shop of 3")));
    assert!(!has_clone(&store));
}

#[test]
fn data_that_was_written_to_since_is_not_replaced() {
    let mut store = prepared();
    store.fill(LIVE, file("later")).unwrap();
    store.sync().unwrap();
    assert_eq!(refused(&mut store), [Refusal::Outdated]);
    // A label is a write, too.
    let mut store = prepared();
    store.set_label(LIVE, "state.other", Some(b"1")).unwrap();
    store.sync().unwrap();
    assert_eq!(refused(&mut store), [Refusal::Outdated]);
}

#[test]
fn a_clone_of_the_live_data_is_no_write() {
    let mut store = prepared();
    let at = Place::Snapshot(1, DATA);
    store.clone_to(LIVE, at, Access::ReadOnly).unwrap();
    done(&mut store, Act::Start);
    assert_eq!(now(&store), is("2", "2", Some("shop of 2")));
}

#[test]
fn what_is_not_what_the_request_names_is_not_taken() {
    type Change = fn(&mut Memory);
    let changes: [Change; 5] = [
        // Somebody wrote to the clone, or replaced it.
        |store| {
            store.edit(|world, _| {
                let clone = world.datasets.get_mut(&CLONE).unwrap();
                clone.dataset.identity.ctransid += 1;
            });
        },
        |store| {
            store.edit(|world, _| {
                world.datasets.get_mut(&CLONE).unwrap().dataset.read_only = false;
            });
        },
        |store| {
            let uuid = store.world().datasets[&CLONE].dataset.identity.uuid;
            store.destroy(CLONE, uuid).unwrap();
            store.clone_to(LIVE, CLONE, Access::ReadOnly).unwrap();
        },
        |store| {
            let uuid = store.world().datasets[&CLONE].dataset.identity.uuid;
            store.destroy(CLONE, uuid).unwrap();
            store.sync().unwrap();
        },
        // Another program would do it now.
        |store| {
            let text = writes("3") + &converter("3", "2", "/usr/bin/other");
            declare(store, Version::Live, &text);
        },
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut store = prepared();
        change(&mut store);
        assert_eq!(refused(&mut store), [Refusal::Outdated], "change {i}");
    }
}

#[test]
fn other_live_data_than_that_which_was_cloned_is_not_replaced() {
    let mut store = prepared();
    // As old as the clone, and not what it was made of.
    let like = store.world().datasets[&LIVE].clone();
    store.edit(|world, _| {
        let live = world.datasets.get_mut(&LIVE).unwrap();
        *live = like;
        live.dataset.identity.uuid = crate::record::Uuid([77; 16]);
    });
    assert_eq!(refused(&mut store), [Refusal::Outdated]);
}

#[test]
fn whoever_is_there_and_asks_for_something_else_gets_that_and_the_clone_goes() {
    let mut store = prepared();
    done(&mut store, Act::Present(Verb::ResetConfig { data: false }));
    assert_eq!(now(&store), is("live", "3", None));
    assert!(!has_clone(&store));
    // What was prepared is the request's, not that of a person who asks for the same.
    let mut store = prepared();
    let booted = booted(&mut store, Act::Agreed(BACK, Consent::Convert));
    assert_eq!(booted.refusals.len(), 1, "{booted:?}");
    assert_eq!(now(&store), is("live", "3", None));
}

#[test]
fn a_request_that_is_withdrawn_leaves_nothing() {
    let mut store = prepared();
    done(&mut store, Act::Cancel);
    assert!(!has_clone(&store));
    done(&mut store, Act::Start);
    assert_eq!(now(&store), is("live", "3", None));
}

#[test]
fn a_converter_that_fails_there_leaves_nothing_and_asks_for_nothing() {
    let mut store = shop();
    let text = writes("3") + &converter("3", "2", FAILS);
    declare(&mut store, Version::Live, &text);
    let before = store.world().datasets[&LIVE].clone();
    let ended = Act::Prepare(BACK, Consent::Convert).run(&mut store, &mut |_| {});
    assert!(!ended.is_ok(), "{ended:?}");
    assert!(!has_clone(&store));
    assert_eq!(state(&store).request, None);
    assert_eq!(store.read(File::Armed).unwrap(), None);
    assert!(store.world().datasets[&LIVE] == before);
}

#[test]
fn a_converter_that_leaves_a_clone_which_takes_no_label_has_failed() {
    let (mut store, records, plan) = to_convert();
    let made = make(
        &mut store,
        &records,
        &plan,
        &mut |store: &mut Memory, at, _| {
            store.edit(|world, _| {
                world.datasets.get_mut(&at).unwrap().dataset.read_only = true;
            });
            Ok(())
        },
    );
    let text = made.unwrap_err().to_string();
    assert!(
        text.contains("was not converted (its converter has left a clone that takes no label: "),
        "{text}"
    );
    assert!(!has_clone(&store));
}

#[test]
fn a_write_during_the_conversion_is_noticed_before_anything_is_asked_for() {
    let (mut store, records, plan) = to_convert();
    assert_eq!(plan.convertible(), [DATA]);
    let made = make(
        &mut store,
        &records,
        &plan,
        &mut |store: &mut Memory, _, _| {
            store.fill(LIVE, file("meanwhile"))?;
            Ok(())
        },
    );
    let text = made.unwrap_err().to_string();
    assert!(text.contains("somebody wrote to data"), "{text}");
    assert!(!has_clone(&store));
    // Subvolumes inside that cannot come along are noticed as well.
    store.edit(|world, _| {
        let inner = Content::Nested(crate::record::Uuid([66; 16]));
        let live = world.datasets.get_mut(&LIVE).unwrap();
        live.tree.insert("inner".to_owned(), inner);
    });
    store.barred = true;
    let made = make(&mut store, &records, &plan, &mut |_: &mut Memory, _, _| {
        Ok(())
    });
    let text = made.unwrap_err().to_string();
    assert!(text.contains("subvolume inner"), "{text}");
    assert!(!has_clone(&store));
}

#[test]
fn what_an_interrupted_command_left_goes_at_the_next_start_and_is_in_nobodys_way() {
    let mut store = late();
    store.clone_to(LIVE, CLONE, Access::Writable).unwrap();
    let records = Records::open(&store).unwrap();
    assert_eq!(left_over(&store, &records).unwrap(), [DATA]);
    done(&mut store.clone(), Act::Prepare(BACK, Consent::Convert));
    done(&mut store, Act::Start);
    assert!(!has_clone(&store));
    // A start that finds nothing writes nothing.
    let operations = store.operations;
    done(&mut store, Act::Start);
    assert_eq!(store.operations, operations);
}

#[test]
fn conversions_in_the_running_system_can_be_cut_anywhere() {
    let mut written = prepared();
    written.fill(LIVE, file("later")).unwrap();
    written.sync().unwrap();
    let mut nested = late();
    nested.edit(|world, _| {
        let inner = Content::Nested(crate::record::Uuid([66; 16]));
        let live = world.datasets.get_mut(&LIVE).unwrap();
        live.tree.insert("inner".to_owned(), inner);
    });
    for (before, act) in [
        (late(), Act::Prepare(BACK, Consent::Convert)),
        (nested, Act::Prepare(BACK, Consent::Convert)),
        (prepared(), Act::Start),
        (prepared(), Act::Cancel),
        (written, Act::Start),
        (prepared(), Act::Present(Verb::ResetConfig { data: false })),
    ] {
        let (_, report) = explore(&before, act);
        report.expect_sound(&format!("{act:?}"));
        assert!(report.disks > 3, "{act:?}: {} disks", report.disks);
        println!("{act:?}: {} disks", report.disks);
    }
}
