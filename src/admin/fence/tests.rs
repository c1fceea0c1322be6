use super::super::cli::{Cli, Command, Fence, FenceExplain};
use super::super::error::{Error, Result};
use super::super::run::{Ended, Out};
use super::graph::{Sheet, Way, drawn, sheet};
use super::{told, verdict};
use crate::fence::ask::versions;
use crate::fence::names::Version;
use crate::fence::tests::{app, declare, label};
use crate::fence::verdict::Verdict;
use crate::fence::words;
use crate::policy::intent::Intent;
use crate::policy::refusal::Refusal;
use crate::record::layout::Part;
use crate::record::manifest::Manifest;
use crate::record::state::Trial;
use crate::record::{Uuid, block};
use crate::store::Store;
use crate::store::memory::Memory;
use crate::store::place::{File, Place, Set};
use crate::transaction::catalogue::manifest;
use crate::transaction::execute::execute;
use crate::transaction::model::machine;
use crate::transaction::plan::plan;
use crate::transaction::records::Records;
use clap::Parser;

const OLD: &str = "dataset = \"data\"\nstate = \"1\"\n";
const NEW: &str = "dataset = \"data\"\nstate = \"2\"\n[[converter]]\nfrom = [\"2\"]\nto = \"1\"\n\
                   command = [\"/usr/lib/shop/down\"]\nlossless = false\nearly = true\n";

/// Snapshots 1 and 2 and what is live, of which 1 and the factory version are older than the data.
fn shop() -> (Memory, Records) {
    let (mut store, records) = machine();
    for version in [Version::Factory, Version::Snapshot(1)] {
        declare(&mut store, version, OLD);
    }
    for version in [Version::Snapshot(2), Version::Live] {
        declare(&mut store, version, NEW);
    }
    (store, records)
}

fn explain(words: &str) -> FenceExplain {
    let line = format!("backstay fence explain {words}");
    let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
    match cli.command {
        Command::Fence {
            command: Fence::Explain(args),
        } => args,
        other => panic!("{other:?}"),
    }
}

fn asked(store: &Memory, records: &Records, words: &str) -> Result<Verdict> {
    verdict(store, records, &explain(words))
}

fn text(verdict: &Verdict) -> String {
    let lines = words::lines(verdict).join(" ");
    lines.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn each_form_says_what_the_verb_would_do_and_writes_nothing() {
    let (store, records) = shop();
    let operations = store.operations;
    for (words, target, goes, says) in [
        ("", Version::Snapshot(2), true, "no conversion needed"),
        ("previous", Version::Snapshot(2), true, "state 2"),
        ("2", Version::Snapshot(2), true, ""),
        ("1", Version::Snapshot(1), false, "that version reads 1"),
        ("1 --once", Version::Snapshot(1), false, "reads 1"),
        (
            "1 --consent convert",
            Version::Snapshot(1),
            true,
            "SOMETHING IS LOST 2 to 1 by down of the live system",
        ),
        (
            "1 --consent convert --by console",
            Version::Snapshot(1),
            true,
            "LOSES",
        ),
        (
            "1 --consent convert --by itself",
            Version::Snapshot(1),
            false,
            "nobody was there",
        ),
        (
            "1 --consent restore",
            Version::Snapshot(1),
            false,
            "fence=convert goes",
        ),
        ("factory", Version::Factory, false, "state 2"),
        ("factory --keep-config", Version::Factory, false, "state 2"),
        ("factory --everything", Version::Factory, true, "fresh 1"),
    ] {
        let verdict = asked(&store, &records, words).unwrap();
        assert_eq!((verdict.target, verdict.goes), (target, goes), "{words}");
        let text = text(&verdict);
        assert!(text.contains(says), "{words}: {text}");
        let expected = if goes { Ended::Done } else { Ended::Unwell };
        assert_eq!(told(&verdict, Out { json: true }), expected);
    }
    assert_eq!(store.operations, operations);
}

#[test]
fn what_the_machine_has_no_time_for_by_itself_is_said() {
    let (mut store, records) = shop();
    for (seconds, goes) in [(3600, true), (3661, false)] {
        let new = NEW.replace("lossless = false", "lossless = true");
        declare(
            &mut store,
            Version::Live,
            &format!("{new}seconds = {seconds}\n"),
        );
        let verdict = asked(&store, &records, "1 --by itself").unwrap();
        assert_eq!(verdict.goes, goes, "{seconds}");
        let text = text(&verdict);
        let says = "may take 1 h 1 min 1 s, by the time limits: more than 1 h is never begun";
        assert_eq!(text.contains(says), !goes, "{text}");
        let with_somebody = asked(&store, &records, "1 --consent convert").unwrap();
        assert!(with_somebody.goes);
    }
}

#[test]
fn forward_is_where_a_rollback_came_from() {
    let (mut store, mut records) = shop();
    let mut state = records.state.value.clone();
    state.older = [1].into_iter().collect();
    state.newer = [2].into_iter().collect();
    records.state.write(&mut store, state).unwrap();
    for (words, to, goes) in [
        ("forward", 2, true),
        ("previous", 1, false),
        ("forward --once", 2, true),
    ] {
        let verdict = asked(&store, &records, words).unwrap();
        assert_eq!(
            (verdict.target, verdict.goes),
            (Version::Snapshot(to), goes)
        );
    }
}

#[test]
fn previous_by_itself_is_where_the_machine_falls_back_to() {
    let (mut store, mut records) = shop();
    // It goes only where nothing is lost.
    let lives = format!("{OLD}reads = [\"2\"]\n");
    declare(&mut store, Version::Snapshot(1), &lives);
    let set = Set::Snapshot(1);
    let good = Manifest {
        good: true,
        ..manifest(&store, set).unwrap().unwrap()
    };
    let bytes = block::encode(1, &good).unwrap().to_vec();
    store.edit(|world, _| world.files.insert(File::Manifest(set), bytes));
    let target =
        |store: &Memory, records: &Records, words| asked(store, records, words).unwrap().target;
    // It is not on trial: where it would go is nobody's guess, and the one before is asked about.
    assert_eq!(
        target(&store, &records, "--by itself"),
        Version::Snapshot(2)
    );
    let mut state = records.state.value.clone();
    state.trial = Some(Trial {
        system: state.live.system,
        tries: 3,
        begun: 1,
        condemned: false,
        fallback: false,
        clone_of: None,
        data_of: None,
        guarded: true,
    });
    records.state.write(&mut store, state).unwrap();
    assert_eq!(
        target(&store, &records, "--by itself"),
        Version::Snapshot(1)
    );
    assert_eq!(
        target(&store, &records, "--by console"),
        Version::Snapshot(2)
    );
}

#[test]
fn a_machine_that_falls_back_goes_on_with_the_data_that_is_live() {
    let (mut store, mut records) = shop();
    let state = &records.state.value;
    let intent = Intent::ResetConfig { data: true };
    let reset = plan(&intent, state, store.layout(), None, 7);
    execute(&mut store, &mut records, &reset, 7, &mut |_| {}).unwrap();
    label(&mut store, Place::Live(Part::Data(0)), "9");
    for (words, goes) in [("3", true), ("3 --by itself", false), ("3 --once", false)] {
        let verdict = asked(&store, &records, words).unwrap();
        assert_eq!(verdict.goes, goes, "{words}");
    }
}

#[test]
fn what_could_not_be_asked_for_is_refused_with_its_remedy() {
    let (mut store, mut records) = shop();
    for (words, says) in [
        ("2 --keep-config", "'factory'"),
        ("--everything", "'factory'"),
        ("factory --once", "number of a snapshot"),
    ] {
        let error = asked(&store, &records, words).unwrap_err().to_string();
        assert!(error.contains(says), "{words}: {error}");
    }
    assert!(matches!(
        asked(&store, &records, "forward"),
        Err(Error::Refused(Refusal::NothingNewer))
    ));
    assert!(matches!(
        asked(&store, &records, "77"),
        Err(Error::Refused(Refusal::Unsound(Set::Snapshot(77), _)))
    ));
    // The factory snapshot is gone, and an archive has another one.
    let mut made = store.clone();
    made.tarball = true;
    made.edit(|world, _| drop(world.datasets.remove(&Place::Factory(Part::System))));
    let error = asked(&made, &records, "factory").unwrap_err().to_string();
    assert!(error.contains("factory build"), "{error}");
    let mut state = records.state.value.clone();
    state.parked = Some(3);
    records.state.write(&mut store, state).unwrap();
    assert!(matches!(asked(&store, &records, ""), Err(Error::Parked(3))));
}

fn shown(store: &Memory, name: Option<&str>, to: Option<Version>) -> Result<Sheet> {
    let name = name.map(app);
    sheet(store, &versions(store, None).unwrap(), name.as_ref(), to)
}

#[test]
fn the_graph_has_what_every_version_declares_and_what_is_live() {
    let (store, _) = shop();
    let sheet = shown(&store, None, Some(Version::Snapshot(1))).unwrap();
    let text = sheet.to_string();
    let expected = "\
shop (dataset data, state 2)
  VERSION  WRITES  READS
  factory  1       -
  1        1       -
  2        2       -
  live     2       -
  FROM  TO  CONVERTER  OF    COST  LOSES  EARLY
  2     1   down       live  1     yes    yes
  2     1   down       2     1     yes    yes
  the best way to that version:
    2 to 1 by down of the live system, cost 1, LOSES SOMETHING
";
    assert_eq!(text, expected, "{text}");
    let json = serde_json::to_value(&sheet).unwrap();
    let one = &json["applications"][0];
    assert_eq!(one["present"]["known"], "2");
    assert_eq!(one["versions"][3]["version"], "live");
    assert_eq!(one["converters"][1]["shipped-by"], serde_json::Value::Null);
    assert_eq!(one["converters"][1]["shipped_by"]["snapshot"], 2);
    assert_eq!(one["way"]["convert"]["lossy"], 1);
    assert_eq!(json["unread"], serde_json::json!([]));
}

#[test]
fn the_way_to_a_version_is_by_converters_or_there_is_none() {
    let (mut store, _) = shop();
    declare(
        &mut store,
        Version::Factory,
        "dataset = \"config\"\nstate = \"1\"\n",
    );
    let way = |store: &Memory, to| {
        let sheet = shown(store, Some("shop"), Some(to)).unwrap();
        let data = sheet
            .applications
            .into_iter()
            .find(|it| it.dataset == "data");
        data.unwrap().way.unwrap()
    };
    assert_eq!(way(&store, Version::Factory), Way::NotThere);
    assert_eq!(way(&store, Version::Snapshot(2)), Way::Nothing);
    assert!(matches!(way(&store, Version::Snapshot(1)), Way::Convert(_)));
    label(&mut store, Place::Live(Part::Data(0)), "9");
    assert_eq!(way(&store, Version::Snapshot(1)), Way::None);
    store
        .set_label(Place::Live(Part::Data(0)), "state.shop", None)
        .unwrap();
    assert_eq!(way(&store, Version::Snapshot(1)), Way::None);
    declare(
        &mut store,
        Version::Snapshot(1),
        &format!("{OLD}reads-unknown = true\n"),
    );
    assert_eq!(way(&store, Version::Snapshot(1)), Way::Nothing);
    let text = shown(&store, None, None).unwrap().to_string();
    assert!(text.contains("  1        1       unknown\n"), "{text}");
}

#[test]
fn what_is_shown_is_of_one_application_and_of_sound_versions() {
    let (mut store, _) = shop();
    let data = Place::Live(Part::Data(0));
    // Nobody declares it any more, and its data is there.
    store.set_label(data, "state.old", Some(b"7")).unwrap();
    let names = |sheet: &Sheet| -> Vec<String> {
        sheet
            .applications
            .iter()
            .map(|it| it.app.to_string())
            .collect()
    };
    assert_eq!(names(&shown(&store, None, None).unwrap()), ["old", "shop"]);
    assert_eq!(names(&shown(&store, Some("old"), None).unwrap()), ["old"]);
    assert!(matches!(
        shown(&store, Some("mail"), None),
        Err(Error::NoApplication(_))
    ));
    assert!(matches!(
        shown(&store, None, Some(Version::Snapshot(9))),
        Err(Error::NoVersion(_))
    ));
    declare(&mut store, Version::Snapshot(1), "state =");
    store.edit(|world, _| {
        let place = Place::Snapshot(2, Part::Config);
        let found = world.datasets.get_mut(&place).unwrap();
        found.dataset.identity.uuid = Uuid([0xee; 16]);
    });
    let sheet = shown(&store, Some("shop"), None).unwrap();
    let listed: Vec<_> = sheet.applications[0]
        .versions
        .iter()
        .map(|it| it.version)
        .collect();
    assert_eq!(listed, [Version::Factory, Version::Live]);
    assert_eq!(sheet.unread[0].version, Version::Snapshot(1));
    assert!(
        sheet
            .to_string()
            .contains("shop.toml of snapshot 1 cannot be read: line 1")
    );
    assert_eq!(shown(&store, Some("old"), None).unwrap().unread, []);
}

#[test]
fn graphviz_gets_one_graph_for_each_application() {
    let (mut store, _) = shop();
    store
        .set_label(Place::Live(Part::Data(0)), "state.old", Some(b"7"))
        .unwrap();
    let all = versions(&store, None).unwrap();
    let text = drawn(&store, &all, None, Some(Version::Snapshot(1))).unwrap();
    assert_eq!(text.matches("digraph").count(), 2);
    assert!(
        text.contains("written by 1") && text.contains("present"),
        "{text}"
    );
    let one = drawn(&store, &all, Some(&app("old")), None).unwrap();
    assert_eq!(one.matches("digraph").count(), 1);
}

#[test]
fn a_version_is_not_booted_once_where_what_is_live_could_not_return() {
    let (mut store, records) = shop();
    assert!(asked(&store, &records, "2 --once").unwrap().goes);
    // Live writes 2, and the data is in 1: snapshot 1 would run on it.
    label(&mut store, Place::Live(Part::Data(0)), "1");
    assert!(asked(&store, &records, "1").unwrap().goes);
    let back = asked(&store, &records, "1 --once").unwrap();
    assert_eq!((back.target, back.goes), (Version::Live, false));
    assert!(text(&back).contains("reads 2"), "{}", text(&back));
    // What cannot be gone to is refused for that.
    let there = asked(&store, &records, "2 --once").unwrap();
    assert_eq!((there.target, there.goes), (Version::Snapshot(2), false));
}
