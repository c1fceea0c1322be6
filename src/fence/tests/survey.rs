use super::{app, state};
use crate::fence::names::Version;
use crate::fence::survey::{APPS_MAX, Survey, offer};
use crate::record::layout::Part;
use crate::store::Store;
use crate::store::memory::{Content, Memory, Tree};
use crate::store::place::Place;
use crate::transaction::model::{layout, root};

const APPS: &str = "usr/lib/backstay/apps.d";

fn declared(state: &str) -> String {
    format!("dataset = \"data\"\nstate = \"{state}\"\n")
}

/// A root with these declarations.
fn with(files: &[(&str, &str)]) -> Tree {
    let mut tree = root("1");
    for path in ["usr", "usr/lib", "usr/lib/backstay", APPS] {
        tree.insert(path.to_owned(), Content::Directory);
    }
    for (name, text) in files {
        let content = Content::File(text.as_bytes().to_vec());
        tree.insert(format!("{APPS}/{name}"), content);
    }
    tree
}

fn store(tree: Tree) -> Memory {
    let mut store = Memory::new(layout());
    store.put(Place::Live(Part::System), tree);
    store
}

#[test]
fn every_version_that_has_a_system_is_read() {
    let mut store = store(with(&[("ledger.toml", &declared("3"))]));
    store.put(
        Place::Snapshot(12, Part::System),
        with(&[
            ("ledger.toml", &declared("2")),
            ("README", "no declaration"),
        ]),
    );
    store.put(Place::Factory(Part::System), root("0"));
    // Data that was kept, and no system.
    store.put(Place::Snapshot(9, Part::Data(0)), Tree::new());
    let operations = store.operations;
    let found = Survey::default().versions(&store).unwrap();
    assert_eq!(store.operations, operations);
    let names: Vec<Version> = found.keys().copied().collect();
    assert_eq!(
        names,
        [Version::Factory, Version::Snapshot(12), Version::Live]
    );
    assert!(found[&Version::Factory].apps.is_empty());
    for (version, expected) in [(Version::Live, "3"), (Version::Snapshot(12), "2")] {
        let offer = &found[&version];
        assert_eq!((offer.apps.len(), offer.faults.len()), (1, 0));
        let declared = offer.apps[&app("ledger")].as_ref().unwrap();
        assert_eq!(declared.state, state(expected));
    }
}

#[test]
fn what_cannot_be_read_is_an_answer() {
    let long = declared("3") + &"#".repeat(64 << 10);
    let mut tree = with(&[
        ("good.toml", &declared("3")),
        ("bad.toml", "state ="),
        ("long.toml", &long),
        ("Foo.toml", &declared("3")),
    ]);
    let mut put = |name: &str, content| tree.insert(format!("{APPS}/{name}"), content);
    put("directory.toml", Content::Directory);
    put("nowhere.toml", Content::Link("/nowhere".into()));
    put(
        "linked.toml",
        Content::Link("../../../../etc/linked".into()),
    );
    put("bytes.toml", Content::File(vec![b'#', 0xff]));
    tree.insert(
        "etc/linked".into(),
        Content::File(declared("4").into_bytes()),
    );
    let found = offer(&store(tree), Version::Live);
    let read = |name: &str| found.apps[&app(name)].as_ref();
    assert_eq!(read("good").unwrap().state, state("3"));
    assert_eq!(read("linked").unwrap().state, state("4"));
    for (name, says) in [
        ("bad", "line 1"),
        ("long", "65536 bytes"),
        ("directory", "regular file"),
        ("nowhere", "regular file"),
        ("bytes", "UTF-8"),
    ] {
        let why = read(name).unwrap_err();
        assert!(why.contains(says), "{name}: {why}");
    }
    assert_eq!(found.faults.len(), 1);
    assert_eq!(found.faults[0].file, "Foo.toml");
}

#[test]
fn a_directory_that_is_lost_is_not_one_that_is_absent() {
    let mut tree = root("1");
    assert!(offer(&store(tree.clone()), Version::Live).faults.is_empty());
    for path in ["usr", "usr/lib", "usr/lib/backstay"] {
        tree.insert(path.to_owned(), Content::Directory);
    }
    tree.insert(APPS.to_owned(), Content::Link("/nowhere".into()));
    assert_eq!(offer(&store(tree), Version::Live).faults.len(), 1);
    let many: Vec<String> = (0..=APPS_MAX).map(|at| format!("a{at}.toml")).collect();
    let text = declared("1");
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), &*text)).collect();
    let found = offer(&store(with(&many)), Version::Live);
    assert_eq!((found.apps.len(), found.faults.len()), (0, 1));
    let found = offer(&store(with(&many[1..])), Version::Live);
    assert_eq!((found.apps.len(), found.faults.len()), (APPS_MAX, 0));
}

#[test]
fn a_disk_that_fails_is_said_whenever_it_does() {
    let tree = with(&[("ledger.toml", &declared("3"))]);
    let whole = store(tree.clone());
    let all = Survey::default().versions(&whole).unwrap();
    for at in 0..whole.looks.get() {
        let mut store = store(tree.clone());
        store.blind = Some(at);
        let Ok(found) = Survey::default().versions(&store) else {
            continue;
        };
        let live = found.get(&Version::Live);
        let unread = live
            .is_some_and(|live| !live.faults.is_empty() || live.apps.values().any(Result::is_err));
        let elsewhere = found.values().any(|offer| !offer.faults.is_empty());
        assert!(unread || elsewhere, "look {at} failed unseen: {found:?}");
        assert_ne!(found, all);
    }
    assert!(whole.layout().config.is_some());
}
