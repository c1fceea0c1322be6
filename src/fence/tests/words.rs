use super::{app, datasets, declared, kept, known, question, state, stays};
use crate::fence::dot::{Picture, dot};
use crate::fence::graph::Graph;
use crate::fence::infer::infer;
use crate::fence::names::Version;
use crate::fence::question::{By, Consent, Kept, Label, Offer, Question, Versions};
use crate::fence::words::{WIDTH, lines};

const PAGE: &str = include_str!("../../../docs/fencing.md");

/// The fenced blocks of a kind on the page.
fn blocks(kind: &str) -> Vec<String> {
    let begin = format!("```{kind}\n");
    let parts = PAGE.split(&begin).skip(1);
    parts
        .map(|part| part.split("```").next().unwrap().to_owned())
        .collect()
}

/// The versions on the page: two snapshots and what is live, and under 13 the same as what is live.
fn versions() -> Versions {
    let toml = blocks("toml");
    let versions = [
        (Version::Factory, 0),
        (Version::Snapshot(12), 1),
        (Version::Live, 2),
    ];
    let all = versions.into_iter().map(|(version, at)| {
        let apps = [(app("ledger"), Ok(declared(&toml[at])))];
        let offer = Offer {
            apps: apps.into_iter().collect(),
            faults: Vec::new(),
        };
        (version, offer)
    });
    all.collect()
}

fn said(
    versions: &Versions,
    label: Label,
    kept: Option<Kept>,
    target: Version,
    by: By,
    consent: Consent,
) -> String {
    let data = datasets(vec![("data", stays(&[("ledger", label)], kept))]);
    let verdict = infer(&question(versions, target, &data, by, consent));
    lines(&verdict).join("\n") + "\n"
}

#[test]
fn the_page_has_the_answers_as_they_are_given() {
    let versions = versions();
    let before = || {
        let twelve = Version::Snapshot(12);
        Some(kept(twelve, Some(1_790_000_000), &[("ledger", known("2"))]))
    };
    let mut later = versions.clone();
    let live = later.remove(&Version::Live).unwrap();
    later.insert(Version::Snapshot(13), live);
    let twelve = later[&Version::Snapshot(12)].clone();
    later.insert(Version::Live, twelve);
    let (factory, twelve, thirteen) = (
        Version::Factory,
        Version::Snapshot(12),
        Version::Snapshot(13),
    );
    use By::{Itself, Running};
    use Consent::{Convert, Refuse, Restore};
    let mut answers = Vec::new();
    for (versions, state, kept, target, by, consent) in [
        (&versions, "3", None, twelve, Running, Refuse),
        (&versions, "3", None, factory, Running, Convert),
        (&versions, "3", before(), twelve, Running, Restore),
        (&versions, "3", before(), twelve, Itself, Refuse),
        (&versions, "2", None, factory, Itself, Refuse),
        (&later, "2", None, thirteen, Running, Refuse),
    ] {
        answers.push(said(versions, known(state), kept, target, by, consent));
    }
    let graph = Graph::new(declarations(&versions));
    let picture = Picture {
        app: &app("ledger"),
        graph: &graph,
        present: Some(&super::state("3")),
        target: Some((
            twelve,
            versions[&twelve].apps[&app("ledger")].as_ref().unwrap(),
        )),
    };
    let shown: Vec<String> = blocks("text").into_iter().skip(1).collect();
    let all = answers.join("----\n");
    assert_eq!(shown, answers, "docs/fencing.md should have these:\n{all}");
    let drawn = dot(&picture);
    assert_eq!(blocks("dot").concat(), drawn, "and this:\n{drawn}");
}

fn declarations(
    versions: &Versions,
) -> impl Iterator<Item = (Version, &crate::fence::declaration::Declaration)> {
    let all = versions.iter();
    all.map(|(version, offer)| (*version, offer.apps[&app("ledger")].as_ref().unwrap()))
}

/// The longest of everything that may be said.
#[test]
fn a_line_fits_whatever_is_said() {
    let long = "9".repeat(48);
    let path = format!("/usr/lib/{}", "x".repeat(240));
    let other = "8".repeat(48);
    let reads: Vec<String> = (10..42)
        .map(|i| format!("\"{}{i}\"", "7".repeat(46)))
        .collect();
    let name = "d".repeat(48);
    let text = format!(
        "dataset = \"{name}\"\nstate = \"{long}\"\nreads = [{}]\nservices = [\"{}.service\"]\n[[converter]]\n\
         from = [\"{other}\"]\nto = \"{long}\"\ncommand = [\"{path}\"]\nlossless = false\ncost = 4294967295\n",
        reads.join(", "),
        "s".repeat(240),
    );
    let app_name = "a".repeat(32);
    let mut offer = super::offer(&app_name, &text);
    let why = format!("line 1: {} (see docs/fencing.md)", "y".repeat(200));
    let target = Version::Snapshot(u32::MAX);
    offer.apps.insert(app("broken"), Err(why));
    let versions: Versions = [(target, offer.clone()), (Version::Live, offer)]
        .into_iter()
        .collect();
    for label in [
        known(&other),
        known("1"),
        Label::Unknown,
        Label::Converting {
            from: super::state(&long),
            to: super::state(&other),
        },
    ] {
        for since in [None, Some(0), Some(u64::from(u32::MAX))] {
            for consent in Consent::ALL {
                let back = kept(target, since, &[(app_name.as_str(), known(&long))]);
                let fate = stays(&[(app_name.as_str(), label.clone())], Some(back));
                let verdict = infer(&Question {
                    versions: &versions,
                    target,
                    datasets: &datasets(vec![(name.as_str(), fate)]),
                    by: By::Running,
                    consent,
                });
                for line in lines(&verdict) {
                    assert!(line.chars().count() <= WIDTH, "{line:?}");
                    assert!(!line.ends_with(' ') && !line.trim().is_empty(), "{line:?}");
                }
            }
        }
    }
}

#[test]
fn the_names_in_json_are_these() {
    let data = datasets(vec![("data", stays(&[("ledger", known("3"))], None))]);
    let versions = versions();
    let twelve = Version::Snapshot(12);
    let verdict = infer(&question(
        &versions,
        twelve,
        &data,
        By::Running,
        Consent::Convert,
    ));
    let json: serde_json::Value = serde_json::to_value(&verdict).unwrap();
    assert_eq!(json["target"]["snapshot"], 12);
    assert_eq!(json["goes"], true);
    assert_eq!(json["possible"], serde_json::json!(["convert"]));
    let one = &json["apps"][0];
    assert_eq!(one["app"], "ledger");
    assert_eq!(one["dataset"], "data");
    assert_eq!(one["present"]["known"], "3");
    assert_eq!(one["after"], "2");
    let convert = &one["answer"]["convert"];
    assert_eq!(convert["lossy"], true);
    assert_eq!(convert["path"]["steps"][0]["shipped_by"], "live");
    let verdict = infer(&question(
        &versions,
        twelve,
        &data,
        By::Itself,
        Consent::Refuse,
    ));
    let json: serde_json::Value = serde_json::to_value(&verdict).unwrap();
    let refuse = &json["apps"][0]["answer"]["refuse"];
    assert_eq!(refuse["cause"], "cannot-read");
    assert_eq!(refuse["offers"], serde_json::json!(["convert"]));
}

#[test]
fn what_a_command_is_called_cannot_break_a_drawing() {
    let text = r#"
        dataset = "data"
        state = "1"
        [[converter]]
        from = ["0"]
        to = "1"
        command = ['/x/a"b\', "x"]
        lossless = false
        [[converter]]
        from = ["1"]
        to = "0"
        command = ["/x/label=<b>,]; }"]
        lossless = true
    "#;
    let declared = declared(text);
    let versions = [Version::Live, Version::Snapshot(3), Version::Factory];
    let graph = Graph::new(versions.map(|version| (version, &declared)));
    let drawn = dot(&Picture {
        app: &app("x"),
        graph: &graph,
        present: None,
        target: None,
    });
    assert_eq!(
        drawn,
        r#"digraph "x" {
  rankdir=LR;
  "0" [label="0"];
  "1" [label="1"];
  "0" -> "1" [label="a\"b\\\ncost 1\nlive and 2 older", style=dashed];
  "1" -> "0" [label="label=<b>,]; }\ncost 1\nlive and 2 older"];
}
"#
    );
}

#[test]
fn what_a_person_can_say_of_a_label_is_said_as_a_command() {
    let between = Label::Converting {
        from: state("2"),
        to: state("3"),
    };
    for (label, command) in [
        (Label::Unknown, "backstay state set ledger STATE"),
        (between, "backstay state commit ledger"),
        (Label::Damaged, "backstay state abort ledger"),
    ] {
        let twelve = Version::Snapshot(12);
        let text = said(
            &versions(),
            label,
            None,
            twelve,
            By::Console,
            Consent::Refuse,
        );
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(words.join(" ").contains(command), "{text}");
    }
}
