use super::{app, dataset, declare, kept, known, label, stays};
use crate::fence::ask::{ask, datasets, versions};
use crate::fence::names::Version;
use crate::fence::question::{By, Consent, Datasets, Fate};
use crate::fence::survey::Survey;
use crate::fence::verdict::{Answer, Cause, Verdict};
use crate::policy::intent::Intent;
use crate::record::block;
use crate::record::layout::Part;
use crate::record::manifest::{Manifest, title};
use crate::store::Store;
use crate::store::memory::{Content, Memory};
use crate::store::place::{File, Place, Set};
use crate::transaction::catalogue::{health, manifest};
use crate::transaction::check::APPS;
use crate::transaction::execute::execute;
use crate::transaction::model::machine;
use crate::transaction::plan::{Plan, plan};
use crate::transaction::records::Records;

const DATA: Part = Part::Data(0);
const CONVERTS: &str = "dataset = \"data\"\nstate = \"2\"\n[[converter]]\nfrom = [\"2\"]\nto = \"1\"\n\
                        command = [\"/usr/bin/down\"]\nlossless = true\nearly = true\n";

fn change(store: &mut Memory, place: Place) {
    store.edit(|world, _| {
        let found = world.datasets.get_mut(&place).unwrap();
        found.dataset.identity.ctransid += 1;
    });
}

fn rewrite(store: &mut Memory, set: Set, change: impl FnOnce(&mut Manifest)) {
    let mut manifest = manifest(store, set).unwrap().unwrap();
    change(&mut manifest);
    let bytes = block::encode(1, &manifest).unwrap().to_vec();
    store.edit(|world, _| world.files.insert(File::Manifest(set), bytes));
}

/// As from before there was a config dataset.
fn without_config(store: &mut Memory, set: Set) {
    rewrite(store, set, |manifest| {
        manifest.members.retain(|it| it.part == Part::System);
    });
}

fn planned(store: &Memory, records: &Records, intent: &Intent) -> Plan {
    let source = intent.source().map(|set| manifest(store, set).unwrap());
    let state = &records.state.value;
    plan(intent, state, store.layout(), source.flatten().as_ref(), 0)
}

fn fates(store: &Memory, records: &Records, intent: &Intent, target: Version) -> Datasets {
    datasets(store, &planned(store, records, intent), target).unwrap()
}

fn asked(store: &Memory, records: &Records, intent: &Intent, consent: Consent) -> Verdict {
    let plan = planned(store, records, intent);
    ask(store, &Survey::default(), &plan, By::Console, consent)
        .unwrap()
        .unwrap()
}

/// A machine whose data was reset: snapshot 3 has what there was.
fn reset() -> (Memory, Records) {
    let (mut store, mut records) = machine();
    let plan = planned(&store, &records, &Intent::ResetConfig { data: true });
    execute(&mut store, &mut records, &plan, 77, &mut |_| {}).unwrap();
    assert!(
        manifest(&store, Set::Snapshot(3))
            .unwrap()
            .unwrap()
            .identity(DATA)
            .is_some()
    );
    label(&mut store, Place::Live(DATA), "3");
    (store, records)
}

fn config(fates: &Datasets) -> &Fate {
    &fates[&dataset("config")]
}

fn data(fates: &Datasets) -> &Fate {
    &fates[&dataset("data")]
}

#[test]
fn a_dataset_that_comes_from_a_sealed_set_is_the_data_of_that_version() {
    let (mut store, records) = reset();
    label(&mut store, Place::Snapshot(2, Part::Config), "8");
    label(&mut store, Place::Factory(Part::Config), "9");
    let two = Version::Snapshot(2);
    for intent in [
        Intent::Rollback { to: 2 },
        Intent::FallBack { to: 2 },
        Intent::Forward { to: 2 },
        Intent::Select { id: 2 },
    ] {
        let fates = fates(&store, &records, &intent, two);
        let its = kept(two, Some(0), &[("shop", known("8"))]);
        assert_eq!(config(&fates), &Fate::Exchanged(its), "{intent:?}");
        let live = stays(&[("shop", known("3"))], None);
        assert_eq!(data(&fates), &live, "{intent:?}");
    }
    for intent in [
        Intent::ResetSystem { keep_config: false },
        Intent::ResetEverything,
        Intent::FirstBoot,
    ] {
        let fates = fates(&store, &records, &intent, Version::Factory);
        let its = kept(Version::Factory, Some(0), &[("shop", known("9"))]);
        assert_eq!(config(&fates), &Fate::Exchanged(its), "{intent:?}");
    }
}

#[test]
fn data_that_a_set_brings_back_is_that_of_its_version_since_it_was_sealed() {
    let (store, records) = reset();
    let three = Version::Snapshot(3);
    let since = manifest(&store, Set::Snapshot(3)).unwrap().unwrap().created;
    assert_eq!(since, 77);
    let its = || kept(three, Some(77), &[("shop", known("2"))]);
    for intent in [Intent::Rollback { to: 3 }, Intent::Forward { to: 3 }] {
        let fates = fates(&store, &records, &intent, three);
        assert_eq!(data(&fates), &Fate::Exchanged(its()), "{intent:?}");
    }
    // It has it, and leaves what is live where it is.
    for intent in [Intent::Select { id: 3 }, Intent::FallBack { to: 3 }] {
        let fates = fates(&store, &records, &intent, three);
        let live = stays(&[("shop", known("3"))], Some(its()));
        assert_eq!(data(&fates), &live, "{intent:?}");
    }
}

#[test]
fn what_comes_from_a_template_or_from_defaults_is_fresh() {
    let (mut store, records) = machine();
    let live = || stays(&[("shop", known("2"))], None);
    for (intent, target, fresh) in [
        (Intent::ResetConfig { data: true }, Version::Live, true),
        (Intent::ResetConfig { data: false }, Version::Live, false),
        (Intent::ResetEverything, Version::Factory, true),
        (Intent::FirstBoot, Version::Factory, true),
        (
            Intent::ResetSystem { keep_config: false },
            Version::Factory,
            false,
        ),
    ] {
        let fates = fates(&store, &records, &intent, target);
        let expected = if fresh { Fate::Fresh } else { live() };
        assert_eq!(data(&fates), &expected, "{intent:?}");
        if target == Version::Live {
            assert_eq!(config(&fates), &Fate::Fresh);
        }
    }
    // A factory version that has no configuration leaves the defaults of what is live.
    without_config(&mut store, Set::Factory);
    for intent in [
        Intent::ResetSystem { keep_config: false },
        Intent::ResetEverything,
    ] {
        let fates = fates(&store, &records, &intent, Version::Factory);
        assert_eq!(config(&fates), &Fate::Fresh, "{intent:?}");
    }
}

#[test]
fn what_stays_could_go_back_to_what_the_target_set_has_of_it() {
    let (mut store, records) = machine();
    label(&mut store, Place::Live(Part::Config), "7");
    label(&mut store, Place::Factory(Part::Config), "9");
    let keep = Intent::ResetSystem { keep_config: true };
    let found = |store: &Memory| config(&fates(store, &records, &keep, Version::Factory)).clone();
    let live = [("shop", known("7"))];
    let its = kept(Version::Factory, Some(0), &[("shop", known("9"))]);
    assert_eq!(found(&store), stays(&live, Some(its)));
    let place = Place::Factory(Part::Config);
    for spoil in [
        (|store, place| change(store, place)) as fn(&mut Memory, Place),
        |store, place| {
            store.edit(|world, _| {
                let found = world.datasets.get_mut(&place).unwrap();
                found.dataset.read_only = false;
            });
        },
        |store, place| store.edit(|world, _| drop(world.datasets.remove(&place))),
        |store, _| without_config(store, Set::Factory),
    ] {
        let mut store = store.clone();
        spoil(&mut store, place);
        assert_eq!(found(&store), stays(&live, None));
    }
}

#[test]
fn a_set_without_configuration_leaves_what_is_live_there() {
    let (mut store, records) = machine();
    label(&mut store, Place::Live(Part::Config), "7");
    without_config(&mut store, Set::Snapshot(1));
    for intent in [Intent::Rollback { to: 1 }, Intent::Select { id: 1 }] {
        let fates = fates(&store, &records, &intent, Version::Snapshot(1));
        let live = stays(&[("shop", known("7"))], None);
        assert_eq!(config(&fates), &live, "{intent:?}");
    }
}

#[test]
fn what_returns_after_a_boot_once_is_what_was_parked() {
    let (mut store, mut records) = machine();
    label(&mut store, Place::Live(Part::Config), "7");
    let select = planned(&store, &records, &Intent::Select { id: 1 });
    execute(&mut store, &mut records, &select, 5, &mut |_| {}).unwrap();
    label(&mut store, Place::Live(DATA), "4");
    let back = Intent::Return { parked: 3 };
    let fates = fates(&store, &records, &back, Version::Snapshot(3));
    let its = kept(Version::Snapshot(3), Some(5), &[("shop", known("7"))]);
    assert_eq!(config(&fates), &Fate::Exchanged(its));
    assert_eq!(data(&fates), &stays(&[("shop", known("4"))], None));
    // And what was parked is asked, whatever a health check of a sealed set says of it.
    declare(
        &mut store,
        Version::Snapshot(3),
        "dataset = \"data\"\nstate = \"2\"\n",
    );
    let verdict = asked(&store, &records, &back, Consent::Refuse);
    assert_eq!(
        (verdict.target, verdict.goes),
        (Version::Snapshot(3), false)
    );
}

#[test]
fn data_that_is_not_there_has_no_state() {
    let (mut store, records) = machine();
    store.edit(|world, _| drop(world.datasets.remove(&Place::Live(DATA))));
    let fates = fates(
        &store,
        &records,
        &Intent::Rollback { to: 2 },
        Version::Snapshot(2),
    );
    assert_eq!(data(&fates), &stays(&[], None));
}

#[test]
fn what_changes_nothing_that_is_live_asks_nothing() {
    let (store, records) = machine();
    for intent in [
        Intent::MakeFactory,
        Intent::Snapshot {
            title: title("x"),
            data: true,
        },
    ] {
        let plan = planned(&store, &records, &intent);
        let asked = ask(
            &store,
            &Survey::default(),
            &plan,
            By::Running,
            Consent::Refuse,
        )
        .unwrap();
        assert_eq!(asked, None, "{intent:?}");
    }
}

#[test]
fn each_intent_asks_the_version_that_will_run() {
    let (mut store, mut records) = reset();
    for (intent, target) in [
        (Intent::Rollback { to: 1 }, Version::Snapshot(1)),
        (Intent::FallBack { to: 1 }, Version::Snapshot(1)),
        (Intent::Forward { to: 2 }, Version::Snapshot(2)),
        (Intent::Select { id: 2 }, Version::Snapshot(2)),
        (Intent::ResetConfig { data: false }, Version::Live),
        (Intent::ResetSystem { keep_config: true }, Version::Factory),
        (Intent::ResetEverything, Version::Factory),
        (Intent::FirstBoot, Version::Factory),
    ] {
        let verdict = asked(&store, &records, &intent, Consent::Refuse);
        assert_eq!((verdict.target, verdict.goes), (target, true), "{intent:?}");
        assert_eq!(verdict.by, By::Console);
    }
    // Fresh data alone is not enough where the target's own declaration is damaged.
    declare(&mut store, Version::Factory, "state =");
    for intent in [Intent::ResetEverything, Intent::FirstBoot] {
        let verdict = asked(&store, &records, &intent, Consent::Refuse);
        assert!(!verdict.goes && verdict.possible.is_empty(), "{intent:?}");
    }
    let plan = planned(&store, &records, &Intent::Select { id: 2 });
    execute(&mut store, &mut records, &plan, 5, &mut |_| {}).unwrap();
    store.edit(|world, _| drop(world.datasets.remove(&Place::Factory(Part::System))));
    // Nobody knows what a version declares that is not there.
    let plan = planned(&store, &records, &Intent::ResetEverything);
    let error = ask(
        &store,
        &Survey::default(),
        &plan,
        By::Console,
        Consent::Refuse,
    )
    .unwrap_err();
    assert!(error.to_string().contains("factory/system"), "{error}");
}

#[test]
fn converters_are_those_of_sound_versions() {
    let (mut store, records) = machine();
    declare(
        &mut store,
        Version::Snapshot(1),
        "dataset = \"data\"\nstate = \"1\"\n",
    );
    declare(&mut store, Version::Snapshot(2), CONVERTS);
    let one = Intent::Rollback { to: 1 };
    let path = |store: &Memory| {
        let verdict = asked(store, &records, &one, Consent::Convert);
        match &verdict.apps[0].answer {
            Answer::Convert { path, .. } => Some(path.steps[0].shipped_by),
            Answer::Refuse(refusal) => {
                assert_eq!(refusal.cause, Cause::CannotRead);
                None
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(path(&store), Some(Version::Snapshot(2)));
    let mut spoiled = store.clone();
    change(&mut spoiled, Place::Snapshot(2, Part::Config));
    assert_eq!(path(&spoiled), None);
    assert!(
        !versions(&spoiled, None)
            .unwrap()
            .contains_key(&Version::Snapshot(2))
    );
    // What is live has no seal, and its programs run anyway.
    declare(&mut spoiled, Version::Live, CONVERTS);
    assert_eq!(path(&spoiled), Some(Version::Live));
    // One whose health cannot be told ships nothing either.
    let before = store.looks.get();
    path(&store);
    let all = store.looks.get() - before;
    for at in 0..all {
        let mut store = store.clone();
        store.looks.set(0);
        store.blind = Some(at);
        let plan = planned(&store, &records, &one);
        if let Ok(Some(verdict)) = ask(
            &store,
            &Survey::default(),
            &plan,
            By::Console,
            Consent::Convert,
        ) {
            let converts = matches!(
                verdict.apps.first().map(|it| &it.answer),
                Some(Answer::Convert { .. })
            );
            assert_eq!(verdict.goes, converts, "look {at}");
        }
    }
    assert_eq!(
        health(&store, Set::Snapshot(2)).unwrap(),
        crate::policy::Health::Sound
    );
}

#[test]
fn the_version_that_stays_is_not_judged_by_data_that_stays() {
    let (mut store, records) = machine();
    // What is live cannot run on its data, and half of its declarations cannot be read.
    declare(
        &mut store,
        Version::Live,
        "dataset = \"data\"\nstate = \"9\"\n",
    );
    store.edit(|world, _| {
        let place = Place::Live(Part::System);
        let tree = &mut world.datasets.get_mut(&place).unwrap().tree;
        for (name, text) in [
            ("bad", "state ="),
            ("Bad", "x"),
            ("its", "dataset = \"config\"\nstate = \"1\"\n"),
        ] {
            let content = Content::File(text.as_bytes().to_vec());
            tree.insert(format!("{APPS}/{name}.toml"), content);
        }
    });
    let verdict = asked(
        &store,
        &records,
        &Intent::ResetConfig { data: false },
        Consent::Refuse,
    );
    assert!(verdict.goes, "{verdict:?}");
    let its = verdict.apps.iter().find(|it| it.app == app("its")).unwrap();
    assert!(its.fresh);
    let verdict = asked(
        &store,
        &records,
        &Intent::Rollback { to: 2 },
        Consent::Refuse,
    );
    assert!(verdict.goes, "the other version has none of them");
}

#[test]
fn data_that_cannot_be_read_keeps_nobody_from_a_version_that_declares_nothing() {
    let (mut store, records) = machine();
    let failed = |store: &Memory| {
        let plan = planned(store, &records, &Intent::Rollback { to: 1 });
        let mut store = store.clone();
        let before = store.looks.get();
        ask(
            &store,
            &Survey::default(),
            &plan,
            By::Console,
            Consent::Refuse,
        )
        .unwrap();
        let all = before..store.looks.get();
        let failed = all.filter(|at| {
            store.looks.set(before);
            store.blind = Some(*at);
            ask(
                &store,
                &Survey::default(),
                &plan,
                By::Console,
                Consent::Refuse,
            )
            .is_err()
        });
        failed.count()
    };
    // Whether the target and the live system are there at all.
    assert_eq!(failed(&store), 2);
    declare(
        &mut store,
        Version::Snapshot(1),
        "dataset = \"data\"\nstate = \"2\"\n",
    );
    assert!(failed(&store) > 5);
}

#[test]
fn where_nothing_is_declared_the_answer_is_cheap() {
    let (mut store, records) = machine();
    let looks = |store: &Memory| {
        let plan = planned(store, &records, &Intent::Rollback { to: 1 });
        let before = store.looks.get();
        let verdict = ask(
            store,
            &Survey::default(),
            &plan,
            By::Console,
            Consent::Refuse,
        )
        .unwrap();
        assert!(verdict.unwrap().goes);
        store.looks.get() - before
    };
    let few = looks(&store);
    assert!(few < 25, "{few}");
    for id in 10..40 {
        store.put(Place::Snapshot(id, Part::System), Default::default());
    }
    assert_eq!(looks(&store), few);
    // Nor do others count where the target lives with the data as it is.
    declare(
        &mut store,
        Version::Snapshot(1),
        "dataset = \"data\"\nstate = \"2\"\n",
    );
    assert!(looks(&store) < few + 15);
}
