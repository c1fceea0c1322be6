//! What the state of data is, and what a power cut or an error leaves of it.

mod past;
mod unsaid;

use super::*;
use crate::record::layout::Part;
use crate::store::conformance;
use crate::store::memory::{Broken, Content, Fault, Memory};
use crate::store::{Access, label};
use crate::transaction::check;
use crate::transaction::model::machine;

/// Where the model's application 'shop' has its data, in state 2.
const DATA: Place = Place::Live(Part::Data(0));
const CONFIG: Place = Place::Live(Part::Config);

fn app(name: &str) -> App {
    App::parse(name).unwrap()
}

fn shop() -> App {
    app("shop")
}

fn word(text: &str) -> State {
    State::parse(text).unwrap()
}

fn start(store: &mut Memory, from: &str, to: &str) -> Result<Begun> {
    begin(store, DATA, &shop(), &word(from), &word(to))
}

/// The model's machine with a conversion from 2 to 3 open, on disk.
fn converting() -> Memory {
    let mut store = machine().0;
    assert_eq!(start(&mut store, "2", "3").unwrap(), Begun::Now);
    store
}

/// The state and whether the data is being converted.
fn now(store: &Memory) -> (String, bool) {
    let kept = kept(store, DATA, shop()).unwrap();
    (kept.state.unwrap_or_default(), kept.converting.is_some())
}

fn changes(store: &Memory) -> Vec<(u64, String, String)> {
    let all = history::read(store, DATA, shop().name())
        .unwrap()
        .into_iter();
    all.map(|it| (it.at, it.from.to_string(), it.to.to_string()))
        .collect()
}

/// Two datasets for data, and nothing recorded.
fn two_datasets() -> Memory {
    let mut store = Memory::new(conformance::layout());
    for part in [Part::System, Part::Config, Part::Data(0), Part::Data(1)] {
        store.put(Place::Live(part), Default::default());
    }
    store
}

fn declare(store: &mut Memory, app: &str, text: &str) {
    store.edit(|world, _| {
        let system = world.datasets.get_mut(&Place::Live(Part::System)).unwrap();
        for path in ["usr", "usr/lib", "usr/lib/backstay", check::APPS] {
            system.tree.insert(path.to_owned(), Content::Directory);
        }
        let path = format!("{}/{app}.toml", check::APPS);
        system.tree.insert(path, Content::File(text.into()));
    });
}

fn undeclare(store: &mut Memory, app: &str) {
    store.edit(|world, _| {
        let system = world.datasets.get_mut(&Place::Live(Part::System)).unwrap();
        system.tree.remove(&format!("{}/{app}.toml", check::APPS));
    });
}

#[test]
fn existing_data_is_recorded_and_listed_with_the_time_since_when() {
    let (mut store, _) = machine();
    assert_eq!(
        set(&mut store, CONFIG, &app("admin"), &word("7"), 60).unwrap(),
        "unknown"
    );
    assert_eq!(
        set(&mut store, DATA, &shop(), &word("3"), 120).unwrap(),
        "2"
    );
    let listing = get(&store, None).unwrap();
    assert_eq!(
        listing.to_string(),
        "APPLICATION  DATASET  STATE  SINCE                 CONVERTING\n\
         admin        config   7      1970-01-01T00:01:00Z  -\n\
         shop         data     3      1970-01-01T00:02:00Z  -\n"
    );
    assert_eq!(get(&store, Some(&shop())).unwrap().applications.len(), 1);
    let error = get(&store, Some(&app("other"))).unwrap_err().to_string();
    assert!(error.contains("backstay state set other"), "{error}");
    assert_eq!(changes(&store), [(120, "2".into(), "3".into())]);
    // Again is no change, and the time stays.
    assert_eq!(
        set(&mut store, DATA, &shop(), &word("3"), 180).unwrap(),
        "3"
    );
    assert_eq!(get(&store, None).unwrap(), listing);
    let json = serde_json::to_value(&listing).unwrap();
    assert_eq!(
        json["applications"][1],
        serde_json::json!({"app": "shop", "dataset": "data", "state": "3",
            "since": "1970-01-01T00:02:00Z", "converting": null})
    );
}

#[test]
fn a_state_of_which_nobody_knows_since_when_is_listed_all_the_same() {
    let (mut store, _) = machine();
    let kept = |store: &Memory| get(store, None).unwrap().applications.remove(0);
    assert_eq!(
        (kept(&store).state.as_deref(), kept(&store).since),
        (Some("2"), None)
    );
    store
        .set_label(DATA, "state.shop", Some(b"2\x1b[2J"))
        .unwrap();
    assert_eq!(kept(&store).state.as_deref(), Some("2\u{fffd}[2J"));
    store.set_label(DATA, "state.shop", None).unwrap();
    assert_eq!(get(&store, None).unwrap().applications, []);
    store
        .set_label(DATA, "converting.shop", Some(b"?"))
        .unwrap();
    let text = get(&store, None).unwrap().to_string();
    assert!(
        text.contains("unknown") && text.contains("not readable"),
        "{text}"
    );
}

#[test]
fn a_conversion_is_bracketed() {
    let mut store = converting();
    let kept = get(&store, Some(&shop())).unwrap().applications.remove(0);
    assert_eq!(kept.state.as_deref(), Some("2"));
    assert!(kept.converting.unwrap().is(&word("2"), &word("3")));
    assert_eq!(
        commit(&mut store, DATA, &shop(), 9).unwrap(),
        (word("2"), word("3"))
    );
    assert_eq!(now(&store), ("3".to_owned(), false));
    assert_eq!(changes(&store), [(9, "2".into(), "3".into())]);
    assert_eq!(start(&mut store, "3", "4").unwrap(), Begun::Now);
    assert_eq!(abort(&mut store, DATA, &shop()).unwrap(), "3");
    assert_eq!(now(&store), ("3".to_owned(), false));
    assert_eq!(changes(&store).len(), 1);
    for refused in [
        commit(&mut store, DATA, &shop(), 9).map(|_| ()),
        abort(&mut store, DATA, &shop()).map(|_| ()),
    ] {
        assert!(
            matches!(refused, Err(Error::NotConverting(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn data_of_which_no_state_is_known_is_converted_from_unknown() {
    let (mut store, _) = machine();
    let other = app("other");
    let begun = begin(&mut store, DATA, &other, &State::unknown(), &word("1"));
    assert_eq!(begun.unwrap(), Begun::Now);
    assert_eq!(abort(&mut store, DATA, &other).unwrap(), "unknown");
    assert_eq!(store.labels(DATA).unwrap(), ["state.shop"]);
    begin(&mut store, DATA, &other, &State::unknown(), &word("1")).unwrap();
    commit(&mut store, DATA, &other, 5).unwrap();
    let kept = get(&store, Some(&other)).unwrap().applications.remove(0);
    assert_eq!(kept.state.as_deref(), Some("1"));
    assert!(kept.since.is_some());
}

#[test]
fn data_in_another_state_or_in_conversion_is_not_converted() {
    let (mut store, _) = machine();
    let operations = store.operations;
    for (from, to) in [("1", "3"), ("unknown", "3"), ("3", "4"), ("2", "2")] {
        let error = start(&mut store, from, to).unwrap_err().to_string();
        assert!(
            error.contains("state 2") || error.contains("from 2 to 2"),
            "{error}"
        );
        assert!(!error.contains('\n'));
    }
    assert_eq!(store.operations, operations, "nothing was written");
    let mut store = converting();
    assert_eq!(start(&mut store, "2", "3").unwrap(), Begun::Before);
    for (place, from, to) in [(DATA, "2", "4"), (DATA, "3", "4"), (CONFIG, "unknown", "3")] {
        let error = begin(&mut store, place, &shop(), &word(from), &word(to)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("from 2 to 3") && text.contains("state abort shop"),
            "{text}"
        );
    }
    for place in [DATA, CONFIG] {
        let refused = set(&mut store, place, &shop(), &word("3"), 1);
        assert!(
            matches!(refused, Err(Error::Converting { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(now(&store), ("2".to_owned(), true));
    // Another application's data is its own.
    set(&mut store, DATA, &app("other"), &word("1"), 1).unwrap();
}

#[test]
fn a_snapshot_taken_meanwhile_is_converting_too() {
    let mut store = converting();
    let to = Place::Snapshot(9, Part::Data(0));
    store.clone_to(DATA, to, Access::ReadOnly).unwrap();
    commit(&mut store, DATA, &shop(), 9).unwrap();
    let value = store.label(to, "converting.shop").unwrap();
    assert_eq!(value.as_deref(), Some(&b"2 3"[..]));
    assert_eq!(
        store.label(to, "state.shop").unwrap().as_deref(),
        Some(&b"2"[..])
    );
}

#[test]
fn a_damaged_record_of_a_conversion_counts_as_one_and_abort_removes_it() {
    for damaged in [
        &b""[..],
        b"2",
        b"2 3 4",
        b"2  3",
        b"\xff 3",
        b"2 unknown",
        b"a/b 3",
    ] {
        let (mut store, _) = machine();
        store
            .set_label(DATA, "converting.shop", Some(damaged))
            .unwrap();
        assert!(matches!(
            start(&mut store, "2", "3"),
            Err(Error::Converting { .. })
        ));
        let error = commit(&mut store, DATA, &shop(), 1).unwrap_err();
        assert!(error.to_string().contains("state abort shop"), "{error}");
        assert_eq!(abort(&mut store, DATA, &shop()).unwrap(), "2");
        assert_eq!(now(&store), ("2".to_owned(), false));
    }
}

/// `begin` returns only when no power cut can lose it: the data is changed from then on.
#[test]
fn a_conversion_that_was_begun_is_on_disk() {
    for broken in [None, Some(Broken::DeafSync)] {
        let (mut store, _) = machine();
        store.broken = broken;
        start(&mut store, "2", "3").unwrap();
        let left = store.after_power_cut();
        let lost = left.iter().any(|left| !now(left).1);
        assert_eq!(lost, broken.is_some(), "a store that forgets is noticed");
    }
}

/// Does it with the power going at each operation, and gives each disk that may be left, with whether it had returned.
fn cut(before: &Memory, act: impl Fn(&mut Memory) -> Result<()>) -> Vec<(Memory, bool)> {
    let mut all = Vec::new();
    for power in 0.. {
        let mut store = before.clone();
        store.power = Some(power);
        let done = act(&mut store).is_ok();
        all.extend(store.after_power_cut().into_iter().map(|left| (left, done)));
        if done {
            assert!(power > 2, "only {power} operations");
            break;
        }
    }
    all
}

/// As a package's script that runs again, whatever was done before.
fn finish(store: &mut Memory) {
    match now(store) {
        (_, true) => drop(commit(store, DATA, &shop(), 8).unwrap()),
        (state, false) => assert_eq!(state, "3"),
    }
}

#[test]
fn no_power_cut_leaves_the_old_state_without_converting() {
    let before = converting();
    let commit = |store: &mut Memory| commit(store, DATA, &shop(), 7).map(|_| ());
    let mut seen = Vec::new();
    for (mut left, done) in cut(&before, commit) {
        let (state, open) = now(&left);
        assert!(open || state == "3", "{state}");
        assert!(!done || !open, "it had returned");
        // Where it is not open any more, all that is said of the data is there.
        assert!(open || changes(&left) == [(7, "2".into(), "3".into())]);
        seen.push((state, open, changes(&left).len()));
        // The state came back with the power, and either end of the conversion is reached from here.
        if open {
            let mut taken_back = left.clone();
            assert_eq!(abort(&mut taken_back, DATA, &shop()).unwrap(), "2");
            assert_eq!(now(&taken_back), ("2".to_owned(), false));
            assert_eq!(changes(&taken_back), []);
        }
        finish(&mut left);
        assert_eq!(now(&left), ("3".to_owned(), false));
        assert_eq!(changes(&left).len(), 1);
        let durable = left.after_power_cut();
        assert!(
            durable
                .iter()
                .all(|left| now(left) == ("3".to_owned(), false))
        );
    }
    for (state, open, lines) in [
        ("2", true, 0),
        ("3", true, 0),
        ("3", true, 1),
        ("3", false, 1),
    ] {
        assert!(
            seen.contains(&(state.to_owned(), open, lines)),
            "{state} {open} {lines} was never left"
        );
    }
}

#[test]
fn no_power_cut_while_a_conversion_is_taken_back_leaves_the_new_state_without_converting() {
    let commit_cut = |store: &mut Memory| commit(store, DATA, &shop(), 7).map(|_| ());
    for (before, _) in cut(&converting(), commit_cut) {
        if !now(&before).1 {
            continue;
        }
        for power in 0..8 {
            let mut store = before.clone();
            store.power = Some(power);
            abort(&mut store, DATA, &shop()).ok();
            for mut left in store.after_power_cut() {
                let (state, open) = now(&left);
                assert!(
                    open || (state == "2" && changes(&left).is_empty()),
                    "{state}"
                );
                if open {
                    abort(&mut left, DATA, &shop()).unwrap();
                }
                assert_eq!(now(&left), ("2".to_owned(), false));
            }
        }
    }
}

#[test]
fn no_power_cut_while_a_state_is_recorded_leaves_another_one() {
    let record = |store: &mut Memory| set(store, DATA, &shop(), &word("3"), 7).map(|_| ());
    for (mut left, done) in cut(&machine().0, record) {
        let (state, open) = now(&left);
        assert!(!open && (state == "3" || state == "2" && !done), "{state}");
        set(&mut left, DATA, &shop(), &word("3"), 8).unwrap();
        assert_eq!(now(&left), ("3".to_owned(), false));
    }
}

#[test]
fn an_error_leaves_what_can_be_done_again_or_taken_back() {
    for fault in [Fault::NotDone, Fault::Done] {
        for at in 0..6 {
            let (mut store, _) = machine();
            store.fault = Some((store.operations + at, fault));
            if start(&mut store, "2", "3").is_err() {
                assert_eq!(now(&store).0, "2");
                store.fault = None;
                start(&mut store, "2", "3").unwrap();
            }
            let mut store = converting();
            store.fault = Some((store.operations + at, fault));
            if commit(&mut store, DATA, &shop(), 7).is_err() {
                let (state, open) = now(&store);
                assert!(open || state == "3");
                finish(&mut store);
            }
            assert_eq!(now(&store), ("3".to_owned(), false));
            assert_eq!(changes(&store).len(), 1);
        }
    }
    let (mut store, _) = machine();
    store.full = Some(true);
    let full = start(&mut store, "2", "3");
    assert!(
        matches!(full, Err(Error::Store(StoreError::Full(_)))),
        "{full:?}"
    );
    assert_eq!(now(&store), ("2".to_owned(), false));
}

#[test]
fn the_dataset_is_the_one_that_is_named_declared_used_or_alone() {
    let mut store = two_datasets();
    let mail = Place::Live(Part::Data(1));
    let app = shop();
    let error = dataset::of(&store, &app, None).unwrap_err().to_string();
    assert!(error.contains("--dataset (config, data, mail)"), "{error}");
    for (name, place) in [("config", CONFIG), ("data", DATA), ("mail", mail)] {
        assert_eq!(dataset::of(&store, &app, Some(name)).unwrap(), place);
    }
    for name in ["system", "@data", "", "/srv/data"] {
        let error = dataset::of(&store, &app, Some(name))
            .unwrap_err()
            .to_string();
        assert!(error.contains("config, data, mail"), "{error}");
    }
    set(&mut store, mail, &app, &word("1"), 1).unwrap();
    assert_eq!(dataset::of(&store, &app, None).unwrap(), mail);
    declare(&mut store, "shop", "dataset = \"config\"\nstate = \"1\"\n");
    assert_eq!(dataset::of(&store, &app, None).unwrap(), CONFIG);
    assert_eq!(dataset::of(&store, &app, Some("data")).unwrap(), DATA);
    for text in [
        "dataset = 7",
        "dataset = \"web\"\nstate = \"1\"\n",
        "dataset = ",
        "state = \"1\"\n",
        "dataset = \"data\"\nstate = \"1\"\nread = [\"2\"]\n",
        "\u{1b}",
    ] {
        declare(&mut store, "shop", text);
        let error = dataset::of(&store, &app, None).unwrap_err().to_string();
        let names = error.contains("/usr/lib/backstay/apps.d/shop.toml");
        assert!(
            names && error.contains("--dataset") && !error.contains('\n'),
            "{error}"
        );
    }
    // That of another application says nothing of this one.
    undeclare(&mut store, "shop");
    declare(&mut store, "other", "dataset = ");
    assert_eq!(dataset::of(&store, &app, None).unwrap(), mail);
    set(&mut store, DATA, &app, &word("1"), 1).unwrap();
    let error = dataset::of(&store, &app, None).unwrap_err().to_string();
    assert!(error.contains("--dataset (data, mail)"), "{error}");
    // The only one for data, though there is configuration.
    assert_eq!(
        dataset::of(&machine().0, &self::app("other"), None).unwrap(),
        DATA
    );
}

#[test]
fn a_conversion_is_ended_where_it_is_open() {
    let mut store = two_datasets();
    let mail = Place::Live(Part::Data(1));
    let app = shop();
    declare(&mut store, "shop", "dataset = \"data\"\nstate = \"1\"\n");
    let none = dataset::converting(&store, &app, None);
    assert!(matches!(none, Err(Error::NotConverting(_))), "{none:?}");
    begin(&mut store, mail, &app, &State::unknown(), &word("1")).unwrap();
    assert_eq!(dataset::converting(&store, &app, None).unwrap(), mail);
    assert_eq!(
        dataset::converting(&store, &app, Some("data")).unwrap(),
        DATA
    );
    store
        .set_label(DATA, "converting.shop", Some(b"1 2"))
        .unwrap();
    let several = dataset::converting(&store, &app, None);
    assert!(
        matches!(several, Err(Error::WhichDataset(..))),
        "{several:?}"
    );
}

#[test]
fn datasets_that_are_not_there_have_nothing_and_stop_nothing() {
    let mut store = Memory::new(conformance::layout());
    assert_eq!(get(&store, None).unwrap().applications, []);
    assert!(get(&store, Some(&shop())).is_err());
    assert!(dataset::of(&store, &shop(), None).is_err());
    assert!(set(&mut store, DATA, &shop(), &word("1"), 1).is_err());
}
