//! Snapshots that have the data: cut anywhere, gone back to with and without it, and fallen back to.

use super::acts::{Act, Ended};
use super::explore::explore;
use super::fence::{is, its, now, shop, with_shop};
use super::trials::good_machine;
use super::{layout, machine, machine_of};
use crate::fence::names::Version;
use crate::fence::tests::{declare, label};
use crate::policy::refusal::{Refusal, Ways};
use crate::record::layout::{Dataset, Layout, Part};
use crate::record::state::{Consent, Trial, Verb};
use crate::store::Store;
use crate::store::memory::{Content, Memory};
use crate::store::place::Place;
use crate::transaction::records::Records;

const DATA: Part = Part::Data(0);
const LIVE: Place = Place::Live(DATA);

fn done(store: &mut Memory, act: Act) {
    let ended = act.run(store, &mut |_| {});
    assert!(ended.is_ok(), "{act:?}: {ended:?}");
}

/// Two datasets for data.
fn two() -> Layout {
    let text = |text: &str| heapless::String::try_from(text).unwrap();
    let mail = Dataset {
        name: text("mail"),
        live: heapless::String::try_from("@mail").unwrap(),
        mount: heapless::String::try_from("/srv/data/mail").unwrap(),
    };
    let mut layout = layout();
    layout.data.push(mail).unwrap();
    layout
}

/// What an application writes after the snapshot.
fn write(store: &mut Memory, path: &str) {
    let tree = [(path.to_owned(), Content::File(b"new".to_vec()))];
    store.fill(LIVE, tree.into_iter().collect()).unwrap();
    store.sync().unwrap();
}

fn has(store: &Memory, path: &str) -> bool {
    store.world().datasets[&LIVE].tree.contains_key(path)
}

#[test]
fn a_snapshot_with_data_is_whole_or_not_there_wherever_it_is_cut() {
    for (store, parts) in [(machine().0, 1), (machine_of(two()).0, 2)] {
        let (after, report) = explore(&store, Act::SnapshotWithData);
        report.expect_sound("snapshot with data");
        println!("{} disks", report.disks);
        let kept = its(&after, 3);
        let data = kept
            .members
            .iter()
            .filter(|it| kept.aside.contains(it.part));
        assert_eq!(data.count(), parts);
    }
}

#[test]
fn going_back_leaves_the_live_data_and_returns_to_the_kept_one_by_consent_alone() {
    let mut store = shop();
    done(&mut store, Act::SnapshotWithData);
    declare(
        &mut store,
        Version::Snapshot(3),
        "dataset = \"data\"\nstate = \"3\"\n",
    );
    write(&mut store, "order");
    // It runs on what there is: nothing moves by itself, nor by a consent that nothing needs.
    for consent in [Consent::Refuse, Consent::Restore] {
        let mut store = store.clone();
        done(&mut store, Act::Agreed(Verb::Rollback(Some(3)), consent));
        assert!(has(&store, "order"));
        assert!(its(&store, 4).identity(DATA).is_none());
    }
    // The upgrade has converted the data, in place.
    label(&mut store, LIVE, "4");
    let ended = Act::Present(Verb::Rollback(Some(3))).run(&mut store.clone(), &mut |_| {});
    let Ended::Booted(booted) = ended else {
        panic!("{ended:?}");
    };
    let ways = Ways {
        convert: false,
        restore: true,
    };
    let refused = Refusal::Fenced(Version::Snapshot(3), ways);
    assert_eq!(booted.refusals, [refused]);
    let restore = Act::Agreed(Verb::Rollback(Some(3)), Consent::Restore);
    let (after, report) = explore(&store, restore);
    report.expect_sound("restore of the data of a snapshot");
    assert!(!has(&after, "order"));
    assert_eq!(now(&after), is("live", "3", None));
    // And what was live is kept with it, for the way forward.
    let left = its(&after, 4);
    assert!(left.identity(DATA).is_some() && !left.brings(DATA));
}

#[test]
fn what_was_never_marked_good_gives_the_data_of_its_snapshot_back_when_the_machine_falls_back() {
    for data_of in [None, Some(4)] {
        let mut store = with_shop(good_machine());
        done(&mut store, Act::SnapshotWithData);
        for id in [3, 4] {
            declare(
                &mut store,
                Version::Snapshot(id),
                "dataset = \"data\"\nstate = \"3\"\n",
            );
        }
        // An upgrade in place, which converts the data and does not come up.
        label(&mut store, LIVE, "4");
        write(&mut store, "half");
        let mut records = Records::open(&store).unwrap();
        let mut state = records.state.value.clone();
        state.good = None;
        state.trial = Some(Trial {
            system: state.live.system,
            tries: 3,
            begun: 3,
            condemned: false,
            fallback: false,
            clone_of: None,
            data_of,
            guarded: false,
        });
        records.state.write(&mut store, state).unwrap();
        let ended = Act::Start.run(&mut store, &mut |_| {});
        let fell_back = Records::open(&store).unwrap().state.value.fell_back;
        match data_of {
            Some(id) => {
                assert!(ended.is_ok(), "{ended:?}");
                assert_eq!(fell_back.map(|it| it.to), Some(id));
                assert_eq!(now(&store), is("live", "3", None));
                assert!(!has(&store, "half"));
                // What it had made of the data is kept with it.
                assert!(its(&store, 5).identity(DATA).is_some());
            }
            // Nobody agreed to lose what came since.
            None => {
                assert_eq!((ended.is_ok(), fell_back), (false, None));
                assert!(has(&store, "half"));
            }
        }
    }
}

/// The state in which the live data says that it is.
fn labelled(store: &Memory, place: Place) -> Option<String> {
    let label = store.world().datasets[&place].labels.get("state.shop");
    label.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

#[test]
fn fresh_data_is_in_the_state_of_the_version_that_will_write_it() {
    // The template says 1, as it was when it was made; what stays live writes 3, and the factory version 1.
    let store = shop();
    let template = Place::Template(DATA);
    assert_eq!(labelled(&store, template).as_deref(), Some("1"));
    for (verb, state) in [
        (Verb::ResetConfig { data: true }, "3"),
        (Verb::ResetEverything, "1"),
    ] {
        let (after, report) = explore(&store, Act::Present(verb));
        report.expect_sound(&format!("{verb:?} with declared applications"));
        assert_eq!(labelled(&after, LIVE).as_deref(), Some(state), "{verb:?}");
        assert_eq!(labelled(&after, template).as_deref(), Some("1"));
        // So the version before it is asked about this data.
        let mut after = after;
        done(&mut after, Act::Present(Verb::Rollback(None)));
        assert_eq!(labelled(&after, LIVE).as_deref(), Some("3"));
    }
    // Where nothing is declared nobody knows more than the template.
    let mut store = machine().0;
    done(&mut store, Act::Present(Verb::ResetConfig { data: true }));
    assert_eq!(labelled(&store, LIVE).as_deref(), Some("1"));
}

#[test]
fn a_first_boot_says_in_which_state_its_data_is() {
    let mut store = super::verbs::fresh();
    declare(
        &mut store,
        Version::Factory,
        "dataset = \"data\"\nstate = \"7\"\n",
    );
    done(&mut store, Act::Start);
    assert_eq!(labelled(&store, LIVE).as_deref(), Some("7"));
}

#[test]
fn a_configuration_from_the_defaults_is_in_the_state_of_its_version() {
    let mut store = machine().0;
    let (config, defaults) = (Place::Live(Part::Config), Place::Live(Part::Defaults));
    for version in [Version::Live, Version::Factory] {
        declare(&mut store, version, "dataset = \"config\"\nstate = \"7\"\n");
    }
    label(&mut store, config, "9");
    label(&mut store, defaults, "8");
    store
        .set_label(defaults, "converting.shop", Some(b"8 9"))
        .unwrap();
    store.sync().unwrap();
    done(&mut store, Act::Present(Verb::ResetConfig { data: false }));
    assert_eq!(labelled(&store, config).as_deref(), Some("7"));
    let labels = &store.world().datasets[&config].labels;
    assert!(!labels.contains_key("converting.shop"));
    // The data is none of this application's.
    assert_eq!(labelled(&store, LIVE).as_deref(), Some("2"));
}

#[test]
fn kept_data_is_pruned_wherever_that_is_cut() {
    let mut store = shop();
    done(&mut store, Act::SnapshotWithData);
    done(
        &mut store,
        Act::Agreed(Verb::Rollback(Some(2)), Consent::Convert),
    );
    done(&mut store, Act::MarkGood);
    let (after, report) = explore(&store, Act::PruneData);
    report.expect_sound("prune");
    println!("{} disks", report.disks);
    for id in [3, 4] {
        let manifest = its(&after, id);
        assert!(manifest.data().next().is_none() && manifest.gone.len() == 1);
        let place = Place::Snapshot(id, DATA);
        assert!(!after.world().datasets.contains_key(&place));
    }
    // The version is still there to be gone to, and the data that is live stays.
    let mut after = after;
    done(&mut after, Act::Agreed(Verb::Forward, Consent::Convert));
    assert_eq!(now(&after), is("live", "3", Some("shop of 3")));
}
