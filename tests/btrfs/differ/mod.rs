//! The comparison of two datasets by btrfs's trees, against one that reads every file.

use super::Check;
use super::bench::Machine;
use backstay::record::layout::Part;
use backstay::store::difference::{Change, Compared, Difference, What};
use backstay::store::place::Place;
use backstay::store::{Access, Store};
use history::{Dice, play};
use oracle::Facts;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

mod history;
mod oracle;

const LIVE: Place = Place::Live(Part::System);
const SNAPSHOT: Place = Place::Snapshot(1, Part::System);
const ALONE: Place = Place::Live(Part::Data(1));

/// Random histories; their seeds are 0, 1, …
const HISTORIES: u64 = 12;
/// Histories that are balanced.
const BALANCED: u64 = 3;

pub fn checks() -> Vec<Check> {
    let check = |(name, mib, run): (&'static str, u64, fn(Machine))| Check {
        suite: "differ",
        name,
        run: Box::new(move || run(Machine::new(mib))),
    };
    let mut all: Vec<Check> = [
        (
            "few_of_many_files_are_found_without_reading_the_rest",
            400,
            few_of_many as fn(Machine),
        ),
        (
            "a_renamed_directory_takes_all_below_it_and_times_are_nothing",
            256,
            renamed,
        ),
        ("who_has_seen_enough_is_asked_no_more", 256, enough),
    ]
    .map(check)
    .into();
    all.extend((0..HISTORIES).map(|seed| Check {
        suite: "differ",
        name: Box::leak(format!("history_{seed}").into_boxed_str()),
        run: Box::new(move || history(seed)),
    }));
    all.extend((0..BALANCED).map(|seed| Check {
        suite: "differ",
        name: Box::leak(format!("balanced_{seed}").into_boxed_str()),
        run: Box::new(move || balanced(1000 + seed)),
    }));
    all
}

fn compare(machine: &Machine, from: Place, to: Place) -> (Vec<Difference>, Compared) {
    let mut found = Vec::new();
    let mut keep = |difference| {
        found.push(difference);
        ControlFlow::Continue(())
    };
    let compared = machine.store.differences(from, to, &mut keep).unwrap();
    (found, compared)
}

/// What the comparisons of all pairs came to.
#[derive(Debug, Default)]
struct Sum {
    pairs: usize,
    related: usize,
    differences: usize,
    rewritten: usize,
    searches: u64,
}

/// Compares each with each, both ways, itself included.
fn all_pairs(machine: &Machine, places: &[Place], facts: &[Facts]) -> Sum {
    let mut sum = Sum::default();
    for (from, before) in places.iter().zip(facts) {
        for (to, after) in places.iter().zip(facts) {
            let (mut found, compared) = compare(machine, *from, *to);
            assert!(found.is_sorted_by(|a, b| a.path < b.path), "{found:?}");
            sum.rewritten += oracle::without_rewritten(&mut found, before, after);
            let want = oracle::differences(before, after);
            assert!(
                found == want,
                "{from:?} to {to:?}, {compared:?}\nonly found: {:#?}\nonly there: {:#?}",
                found
                    .iter()
                    .filter(|it| !want.contains(it))
                    .collect::<Vec<_>>(),
                want.iter()
                    .filter(|it| !found.contains(it))
                    .collect::<Vec<_>>(),
            );
            sum.pairs += 1;
            sum.searches += compared.searches;
            sum.related += usize::from(compared.related);
            sum.differences += found.len();
        }
    }
    sum
}

fn facts(machine: &Machine, places: &[Place]) -> Vec<Facts> {
    let read = |place: &Place| oracle::read(&machine.at(*place, ""));
    places.iter().map(read).collect()
}

fn history(seed: u64) {
    let mut machine = Machine::new(256);
    let places = play(&mut machine, &mut Dice(seed));
    machine.store.sync().unwrap();
    let facts = facts(&machine, &places);
    println!("  {:?}", all_pairs(&machine, &places, &facts));
}

fn balanced(seed: u64) {
    let mut machine = Machine::new(400);
    let places = play(&mut machine, &mut Dice(seed));
    machine.store.sync().unwrap();
    let facts = facts(&machine, &places);
    let before = all_pairs(&machine, &places, &facts);
    btrfs(&["balance", "start", "--full-balance"], &machine.top);
    machine.store.sync().unwrap();
    let after = all_pairs(&machine, &places, &facts);
    println!("  {after:?}");
    let numbers = |it: &Sum| (it.pairs, it.related, it.differences, it.rewritten);
    assert_eq!(numbers(&before), numbers(&after));
}

fn btrfs(args: &[&str], path: &Path) {
    let output = Command::new("btrfs").args(args).arg(path).output();
    let output = output.expect("btrfs");
    assert!(output.status.success(), "{output:?}");
}

fn few_of_many(mut machine: Machine) {
    machine.store.create(LIVE).unwrap();
    machine.store.create(ALONE).unwrap();
    for place in [LIVE, ALONE] {
        for folder in 0..200 {
            let folder = machine.at(place, &format!("usr/{folder:03}"));
            fs::create_dir_all(&folder).unwrap();
            for file in 0..100 {
                fs::write(folder.join(format!("{file:02}")), [b'x'; 100]).unwrap();
            }
        }
    }
    machine.store.sync().unwrap();
    let read_only = Access::ReadOnly;
    machine.store.clone_to(LIVE, SNAPSHOT, read_only).unwrap();
    fs::write(machine.at(LIVE, "usr/007/07"), b"new").unwrap();
    fs::remove_file(machine.at(LIVE, "usr/100/99")).unwrap();
    fs::write(machine.at(LIVE, "usr/199/new"), b"new").unwrap();
    machine.store.sync().unwrap();
    let paths = |from, to| {
        let (found, compared) = compare(&machine, from, to);
        let paths = found.iter().map(|it| (it.name(), it.change));
        (paths.collect::<Vec<_>>(), compared)
    };
    let path = |path: &str, change| (path.to_owned(), change);
    let content = Change::Changed(What::Content);
    let want = [
        path("usr/007/07", content),
        path("usr/100/99", Change::Removed),
        path("usr/199/new", Change::Added),
    ];
    let (found, few) = paths(SNAPSHOT, LIVE);
    assert_eq!(found, want);
    // The same files, and no ancestor. What is inline is compared byte for byte.
    let (found, full) = paths(ALONE, LIVE);
    assert_eq!(found, want);
    println!(
        "  {} searches for few, {} for all",
        few.searches, full.searches
    );
    assert!(few.related && !full.related);
    assert!(few.searches * 8 < full.searches, "{few:?} {full:?}");
    // Every leaf is young now: both are read once for the candidates and once to compare them.
    btrfs(&["balance", "start", "--full-balance"], &machine.top);
    machine.store.sync().unwrap();
    let (found, balanced) = compare(&machine, SNAPSHOT, LIVE);
    println!("  {} after a balance", balanced.searches);
    assert_eq!(found.len(), 3);
    assert!(balanced.searches < full.searches * 3, "{balanced:?}");
}

fn renamed(mut machine: Machine) {
    machine.store.create(LIVE).unwrap();
    for path in ["etc/a/one", "etc/a/deep/two", "etc/keep", "etc/touched"] {
        let path = machine.at(LIVE, path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"12345").unwrap();
    }
    let read_only = Access::ReadOnly;
    machine.store.clone_to(LIVE, SNAPSHOT, read_only).unwrap();
    let at = |path| machine.at(LIVE, path);
    fs::rename(at("etc/a"), at("etc/b")).unwrap();
    fs::hard_link(at("etc/keep"), at("etc/kept")).unwrap();
    let touched = fs::File::open(at("etc/touched")).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    machine.store.sync().unwrap();
    let (found, _) = compare(&machine, SNAPSHOT, LIVE);
    let said = |it: &Difference| match it.change {
        Change::Added => format!("+{} {:?}", it.name(), it.after),
        Change::Removed => format!("-{} {:?}", it.name(), it.before),
        Change::Changed(what) => format!("{what:?} {}", it.name()),
    };
    let said: Vec<_> = found.iter().map(said).collect();
    let want = [
        "-etc/a None",
        "-etc/a/deep None",
        "-etc/a/deep/two Some(5)",
        "-etc/a/one Some(5)",
        "+etc/b None",
        "+etc/b/deep None",
        "+etc/b/deep/two Some(5)",
        "+etc/b/one Some(5)",
        "+etc/kept Some(5)",
    ];
    assert_eq!(said, want);
}

fn enough(mut machine: Machine) {
    machine.store.create(LIVE).unwrap();
    machine.store.create(ALONE).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(machine.at(LIVE, name), name).unwrap();
    }
    machine.store.sync().unwrap();
    let mut found = Vec::new();
    let mut two = |it: Difference| {
        found.push(it.name());
        match found.len() {
            2 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    machine.store.differences(ALONE, LIVE, &mut two).unwrap();
    assert_eq!(found, ["a", "b"]);
    let missing = machine
        .store
        .differences(SNAPSHOT, LIVE, &mut |_| ControlFlow::Break(()));
    let text = missing.unwrap_err().to_string();
    assert!(text.contains("does not exist"), "{text}");
}
