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
