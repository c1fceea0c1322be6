use super::*;
use crate::record::state::Last;
use crate::transaction::model::machine;

#[test]
fn every_set_is_listed_with_its_place_in_the_history() {
    let (store, records) = machine();
    let mut state = records.state.value.clone();
    state.older = [1].into_iter().collect();
    state.newer = [2].into_iter().collect();
    let listing = listing(&store, Some(&state)).unwrap();
    let got: Vec<_> = listing
        .sets
        .iter()
        .map(|set| (set.id, set.kind, set.history, set.health.as_str()))
        .collect();
    assert_eq!(got[0].2, None);
    assert_eq!((got[1].0, got[1].2), (1, Some(-1)));
    assert_eq!((got[2].0, got[2].2), (2, Some(1)));
    assert!(got.iter().all(|set| set.3 == "sound"), "{got:?}");
    let text = listing.to_string();
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(text.lines().last().unwrap().starts_with("live"));
}

#[test]
fn a_version_that_declares_something_says_whether_it_runs_on_the_data() {
    use crate::fence::names::Version;
    use crate::fence::tests::declare;
    let (mut store, records) = machine();
    let state = &records.state.value;
    let shown = |store: &crate::store::memory::Memory| {
        let listing = listing(store, Some(state)).unwrap();
        let data: Vec<_> = listing.sets.iter().map(|set| set.data).collect();
        (data, listing.to_string())
    };
    let (data, text) = shown(&store);
    assert_eq!(data, [None; 3]);
    assert!(!text.contains("DATA"), "{text}");
    let writes = |state: &str| format!("dataset = \"data\"\nstate = \"{state}\"\n");
    declare(&mut store, Version::Snapshot(1), &writes("1"));
    declare(&mut store, Version::Snapshot(2), &writes("2"));
    let (data, text) = shown(&store);
    assert_eq!(data, [None, Some("refused"), Some("runs")]);
    assert!(text.contains("DATA") && text.contains("refused"), "{text}");
    let converts = "[[converter]]\nfrom = [\"2\"]\nto = \"1\"\ncommand = [\"/usr/bin/down\"]\nlossless = true\n";
    let live = |early| format!("{}{converts}early = {early}\n", writes("2"));
    // Before boot, which is where it would be run.
    for (early, want) in [(true, "convert"), (false, "refused")] {
        declare(&mut store, Version::Live, &live(early));
        assert_eq!(shown(&store).0[1], Some(want));
    }
}

#[test]
fn however_many_versions_there_are_each_is_read_once() {
    use crate::admin::snapshot::snapshot;
    use crate::console::versions;
    use crate::fence::names::Version;
    use crate::fence::tests::{declare, label};
    let writes = |state: &str| format!("dataset = \"data\"\nstate = \"{state}\"\n");
    let converts = "[[converter]]\nfrom = [\"3\"]\nto = \"2\"\ncommand = [\"/x\"]\nlossless = true\nearly = true\n";
    let looks = |snapshots: u32| {
        let (mut store, mut records) = machine();
        for _ in 2..snapshots {
            snapshot(&mut store, &mut records, "x", 5, &mut |_| {}).unwrap();
        }
        for id in 1..=snapshots {
            declare(&mut store, Version::Snapshot(id), &writes("2"));
        }
        declare(&mut store, Version::Live, &(writes("3") + converts));
        label(&mut store, Place::Live(Part::Data(0)), "3");
        let state = Some(&records.state.value);
        let before = store.looks.get();
        let listing = listing(&store, state).unwrap();
        let between = store.looks.get();
        let shown = versions::list(&store, state).unwrap();
        let is = |data: Option<&str>| data == Some("convert");
        let all = usize::try_from(snapshots).unwrap();
        assert_eq!(listing.sets.iter().filter(|it| is(it.data)).count(), all);
        assert_eq!(shown.iter().filter(|it| is(it.data)).count(), all);
        (between - before, store.looks.get() - between)
    };
    let (few, more, most) = (looks(4), looks(8), looks(12));
    assert_eq!(most.0 - more.0, more.0 - few.0, "list");
    assert_eq!(most.1 - more.1, more.1 - few.1, "the menu");
}

#[test]
fn a_snapshot_that_keeps_the_data_says_so_also_when_that_is_gone() {
    use crate::admin::prune::{Asked, prune};
    use crate::admin::snapshot::snapshot_with_data;
    use crate::policy::retention::Retention;
    let (mut store, mut records) = machine();
    let text = |store: &crate::store::memory::Memory| listing(store, None).unwrap().to_string();
    assert!(!text(&store).contains("KEPT"));
    snapshot_with_data(&mut store, &mut records, "x", 5, &mut |_| {}).unwrap();
    let shown = text(&store);
    assert!(
        shown.contains("KEPT DATA") && !shown.contains("gone"),
        "{shown}"
    );
    assert_eq!(listing(&store, None).unwrap().sets[3].kept_data, ["data"]);
    let retention = Retention {
        keep: 0,
        keep_days: None,
    };
    let asked = Asked {
        retention,
        ..Asked::default()
    };
    prune(&mut store, &records, asked, 9).unwrap();
    let shown = text(&store);
    assert!(shown.contains("data (gone)"), "{shown}");
    assert_eq!(listing(&store, None).unwrap().sets[3].gone_data, ["data"]);
}

#[test]
fn what_a_dataset_that_was_declared_later_makes_unusable_is_said() {
    let (store, records) = machine();
    assert_eq!(unusable(&store).unwrap(), Vec::<String>::new());
    let mut store = store;
    for set in [Set::Factory, Set::Snapshot(1)] {
        store.edit(|world, _| {
            let place = set.place(Part::System);
            let tree = &mut world.datasets.get_mut(&place).unwrap().tree;
            tree.remove("srv/data");
        });
    }
    let lines = unusable(&store).unwrap();
    assert_eq!(lines.len(), 1);
    let names = "the factory snapshot, snapshot 1, whose system mounts nothing at /srv/data";
    assert!(lines[0].contains(names), "{lines:?}");
    let listing = listing(&store, Some(&records.state.value)).unwrap();
    let health: Vec<_> = listing.sets.iter().map(|set| set.health.as_str()).collect();
    assert_eq!(health, ["no /srv/data", "no /srv/data", "sound"]);
    for (id, refused) in [(1, true), (2, false)] {
        let verb = Verb::Rollback(Some(id));
        let asked = crate::admin::request::preview(&store, &records, verb, Default::default(), 0);
        assert_eq!(asked.is_err(), refused, "{id}");
    }
}

#[test]
fn a_set_that_cannot_be_looked_at_does_not_hide_what_others_lack() {
    let machine = || {
        let (mut store, _) = machine();
        store.edit(|world, _| {
            let place = Place::Snapshot(2, Part::System);
            let tree = &mut world.datasets.get_mut(&place).unwrap().tree;
            tree.remove("srv/data");
        });
        store
    };
    let store = machine();
    let before = store.looks.get();
    let whole = unusable(&store).unwrap();
    let looks = before + 1..store.looks.get();
    let count = looks.len();
    let mut kept = 0;
    // The first look is for which sets there are.
    for at in looks {
        let mut store = machine();
        store.blind = Some(at);
        kept += usize::from(unusable(&store).unwrap() == whole);
    }
    assert!(kept > 3 && kept < count, "{kept} of {count}");
}

#[test]
fn what_cannot_be_read_in_the_live_system_is_shown_as_unknown() {
    let (store, _) = machine();
    let before = store.looks.get();
    live(&store, None).unwrap();
    let looks = store.looks.get();
    assert!(looks - before > 3);
    for at in before + 1..looks {
        let (mut store, _) = machine();
        store.blind = Some(at);
        let live = live(&store, None).unwrap().unwrap();
        let unknown = Some("unknown".to_owned());
        assert!(live.title == unknown || live.kernel == unknown, "{live:?}");
    }
}

#[test]
fn what_is_booted_once_is_shown_as_a_clone_of_its_snapshot() {
    let (store, records) = machine();
    let mut state = records.state.value.clone();
    let clone = |state: &State| live(&store, Some(state)).unwrap().unwrap().clone_of;
    assert_eq!(clone(&state), Some(2));
    state.parked = Some(3);
    state.last = Some(Last {
        verb: Some(Verb::Select(1)),
        id: 3,
        at: 0,
    });
    assert_eq!(clone(&state), Some(1));
}

#[test]
fn a_changed_member_is_named_and_a_lost_manifest_too() {
    let (mut store, records) = machine();
    let place = Place::Snapshot(1, Part::Config);
    store.edit(|world, _| {
        world
            .datasets
            .get_mut(&place)
            .unwrap()
            .dataset
            .identity
            .ctransid += 1;
        world
            .files
            .remove(&crate::store::place::File::Manifest(Set::Snapshot(2)));
    });
    let listing = listing(&store, Some(&records.state.value)).unwrap();
    assert_eq!(listing.sets[1].health, "changed: configuration");
    assert_eq!(listing.sets[2].health, "no manifest");
    assert_eq!(listing.sets[2].kind, "unknown");
}
