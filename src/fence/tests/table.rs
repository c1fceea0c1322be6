//! Every small case, written out: what state the data is in, whether data of before is kept, what is agreed to, and
//! whether anybody asked.

use super::{datasets, declared, kept, known, offer, question, state, stays};
use crate::fence::infer::infer;
use crate::fence::names::Version;
use crate::fence::question::{By, Consent, Datasets, Fate, Fault, Kept, Label, Offer, Versions};
use crate::fence::verdict::{Answer, Cause, Lot, Verdict};
use crate::fence::words;

const TARGET: Version = Version::Snapshot(12);

const DECLARED: &str = r#"
dataset = "data"
state = "15"
reads = ["14"]
services = ["app.service"]
"#;

/// The live system, which converts down: from 13 without loss, from 12 not.
const LIVE: &str = r#"
dataset = "data"
state = "16"
services = ["app.service", "app.socket"]
[[converter]]
from = ["13"]
to = "15"
command = ["/usr/lib/app/convert"]
lossless = true
early = EARLY
[[converter]]
from = ["12"]
to = "15"
command = ["/usr/lib/app/force"]
lossless = false
early = EARLY
"#;

fn versions(early: bool) -> Versions {
    let live = LIVE.replace("EARLY", &early.to_string());
    [
        (TARGET, offer("app", DECLARED)),
        (Version::Live, offer("app", &live)),
    ]
    .into_iter()
    .collect()
}

fn converting() -> Label {
    Label::Converting {
        from: state("14"),
        to: state("15"),
    }
}

fn before() -> Kept {
    kept(TARGET, Some(1_700_000_000), &[("app", known("14"))])
}

fn ask(label: &Label, kept: bool, by: By, consent: Consent, early: bool) -> Verdict {
    let fate = stays(&[("app", label.clone())], kept.then(before));
    infer(&question(
        &versions(early),
        TARGET,
        &datasets(vec![("data", fate)]),
        by,
        consent,
    ))
}

/// `.` no conversion needed, `c` convert, `l` convert with loss, `b` back to the data as it was, `x` refused.
fn letter(verdict: &Verdict) -> char {
    let letter = match &verdict.apps[0].answer {
        Answer::Nothing => '.',
        Answer::Convert { lossy: false, .. } => 'c',
        Answer::Convert { lossy: true, .. } => 'l',
        Answer::Restore { .. } => 'b',
        Answer::Refuse(_) => 'x',
        Answer::LeftAlone(_) => '-',
    };
    assert_eq!(verdict.goes, letter != 'x');
    letter
}

/// What is said, without its lines.
fn text(verdict: &Verdict) -> String {
    let lines = words::lines(verdict).join(" ");
    let words: Vec<&str> = lines.split_whitespace().collect();
    words.join(" ")
}

#[test]
fn every_combination_has_the_answer_that_is_written_here() {
    // In each word: refuse, convert, restore in the running system; at the console; nobody agreed.
    let table = [
        (known("15"), "... ... .", "... ... ."),
        (known("14"), "... ... .", "... ... ."),
        (known("13"), "xcx xcx c", "xcb xcb c"),
        (known("12"), "xlx xlx x", "xlb xlb x"),
        (known("16"), "xxx xxx x", "xxb xxb x"),
        (Label::Unknown, "xxx xxx x", "xxb xxb x"),
        (converting(), "xxx xxx x", "xxb xxb x"),
        (Label::Damaged, "xxx xxx x", "xxb xxb x"),
    ];
    for (label, without, with) in table {
        for (kept, expected) in [(false, without), (true, with)] {
            let ask = |by, consent| letter(&ask(&label, kept, by, consent, true));
            let all = |by| -> String { Consent::ALL.iter().map(|it| ask(by, *it)).collect() };
            // Consent does not count where nobody is.
            let nobody = all(By::Itself);
            let one = &nobody[..1];
            assert_eq!(nobody, one.repeat(3), "{label:?}");
            let found = format!("{} {} {one}", all(By::Running), all(By::Console));
            assert_eq!(found, expected, "{label:?}, kept: {kept}");
        }
    }
}

#[test]
fn what_cannot_run_before_boot_is_run_in_the_running_system_only() {
    for (label, running) in [(known("13"), 'c'), (known("12"), 'l')] {
        let ask = |by| ask(&label, false, by, Consent::Convert, false);
        assert_eq!(letter(&ask(By::Running)), running);
        for by in [By::Console, By::Itself] {
            let verdict = ask(by);
            assert_eq!(letter(&verdict), 'x');
            let Answer::Refuse(refusal) = &verdict.apps[0].answer else {
                panic!("it is refused");
            };
            assert!(refusal.only_running && refusal.offers.is_empty());
            assert!(text(&verdict).contains("in the running system"));
        }
    }
}

#[test]
fn with_nobody_there_everything_that_is_run_ends_within_an_hour() {
    let declares =
        |dataset: &str, state: &str| format!("dataset = \"{dataset}\"\nstate = \"{state}\"\n");
    let ask = |by, limits: [u32; 2]| {
        let (mut old, mut new) = (Offer::default(), Offer::default());
        let mut fates = Vec::new();
        for (name, seconds) in ["one", "two"].into_iter().zip(limits) {
            let converter = format!(
                "[[converter]]\nfrom = [\"2\"]\nto = \"1\"\ncommand = [\"/usr/lib/down\"]\nlossless = true\n\
                 early = true\nseconds = {seconds}\n"
            );
            let with = declares(name, "2") + &converter;
            old.apps.extend(offer(name, &declares(name, "1")).apps);
            new.apps.extend(offer(name, &with).apps);
            fates.push((name, stays(&[(name, known("2"))], None)));
        }
        let versions: Versions = [(TARGET, old), (Version::Live, new)].into_iter().collect();
        infer(&question(
            &versions,
            TARGET,
            &datasets(fates),
            by,
            Consent::Convert,
        ))
    };
    for (limits, goes) in [
        ([1800, 1800], true),
        ([1800, 1801], false),
        ([1, 86_400], false),
    ] {
        let verdict = ask(By::Itself, limits);
        assert_eq!(verdict.goes, goes, "{limits:?}");
        assert_eq!(verdict.possible, [Consent::Convert]);
        for by in [By::Running, By::Console] {
            assert!(ask(by, limits).goes, "somebody is there");
        }
        if goes {
            continue;
        }
        let all: u32 = limits.iter().sum();
        for app in &verdict.apps {
            let Answer::Refuse(refusal) = &app.answer else {
                panic!("it is refused");
            };
            assert_eq!(refusal.too_long, Some(all.into()));
            assert_eq!(refusal.offers, [Consent::Convert]);
        }
        let text = text(&verdict);
        assert!(text.contains("more than 1 h is never begun then"), "{text}");
        assert!(text.contains("nobody was there to agree; fence=convert goes to snapshot 12"));
    }
    let text = text(&ask(By::Itself, [1, 86_400]));
    assert!(
        text.contains("may take 24 h 1 s, by the time limits"),
        "{text}"
    );
}

#[test]
fn a_refusal_says_what_would_have_to_be_agreed_to() {
    use Consent::{Convert, Refuse, Restore};
    for (label, kept, possible) in [
        (known("14"), false, vec![Refuse, Convert, Restore]),
        (known("13"), false, vec![Convert]),
        (known("12"), true, vec![Convert, Restore]),
        (known("16"), true, vec![Restore]),
        (known("16"), false, vec![]),
        (Label::Unknown, true, vec![Restore]),
        (converting(), false, vec![]),
    ] {
        let verdict = ask(&label, kept, By::Running, Refuse, true);
        assert_eq!(verdict.possible, possible, "{label:?}");
        if let Answer::Refuse(refusal) = &verdict.apps[0].answer {
            assert_eq!(refusal.offers, possible, "{label:?}");
        }
    }
}

fn alone(versions: &Versions, fates: Vec<(&str, Fate)>, consent: Consent) -> Verdict {
    let datasets: Datasets = datasets(fates);
    infer(&question(versions, TARGET, &datasets, By::Running, consent))
}

#[test]
fn unknown_data_passes_a_version_that_says_so_and_no_interrupted_one() {
    let mut versions = versions(true);
    let text = DECLARED.replace("services", "reads-unknown = true\nservices");
    versions.insert(TARGET, offer("app", &text));
    // Without a label is without a label, whether it is listed or not.
    for labels in [vec![], vec![("app", Label::Unknown)]] {
        let verdict = alone(
            &versions,
            vec![("data", stays(&labels, None))],
            Consent::Refuse,
        );
        assert_eq!(letter(&verdict), '.');
        assert_eq!(verdict.apps[0].after, None);
    }
    for label in [converting(), known("16")] {
        let fate = stays(&[("app", label)], None);
        let verdict = alone(&versions, vec![("data", fate)], Consent::Refuse);
        assert_eq!(letter(&verdict), 'x');
    }
}

#[test]
fn fresh_data_takes_the_native_state_and_is_never_refused() {
    let verdict = alone(
        &versions(true),
        vec![("data", Fate::Fresh)],
        Consent::Refuse,
    );
    assert_eq!(letter(&verdict), '.');
    assert!(verdict.apps[0].fresh);
    assert_eq!(verdict.apps[0].after, Some(state("15")));
}

#[test]
fn data_that_comes_with_the_change_is_looked_at_as_it_will_be() {
    let back = |of, label| {
        let fate = Fate::Exchanged(kept(of, None, &[("app", label)]));
        letter(&alone(
            &versions(true),
            vec![("data", fate)],
            Consent::Refuse,
        ))
    };
    assert_eq!(back(TARGET, known("14")), '.');
    assert_eq!(back(TARGET, known("16")), 'x');
    // A version ran with its own data, whatever its label; with another one's it did not.
    assert_eq!(back(TARGET, Label::Unknown), '.');
    assert_eq!(back(Version::Snapshot(11), Label::Unknown), 'x');
    assert_eq!(back(TARGET, converting()), 'x');
}

#[test]
fn kept_data_that_the_target_cannot_read_is_not_returned_to() {
    let fate = |of, label| {
        let back = kept(of, None, &[("app", label)]);
        vec![("data", stays(&[("app", known("16"))], Some(back)))]
    };
    for (of, label, expected) in [
        (TARGET, known("15"), 'b'),
        (TARGET, Label::Unknown, 'b'),
        (TARGET, known("16"), 'x'),
        (TARGET, converting(), 'x'),
        (Version::Snapshot(11), known("15"), 'b'),
        (Version::Snapshot(11), Label::Unknown, 'x'),
    ] {
        let verdict = alone(&versions(true), fate(of, label), Consent::Restore);
        assert_eq!(letter(&verdict), expected);
        if let Answer::Refuse(refusal) = &verdict.apps[0].answer {
            assert!(refusal.kept_unfit);
        }
    }
}

#[test]
fn an_application_that_the_target_does_not_have_is_left_alone_and_named() {
    let mut versions = versions(true);
    versions.insert(TARGET, Offer::default());
    let fate = stays(&[("app", known("16")), ("other", converting())], None);
    let verdict = alone(&versions, vec![("data", fate)], Consent::Refuse);
    assert!(verdict.goes);
    assert_eq!(verdict.apps.len(), 2);
    for it in &verdict.apps {
        assert_eq!(it.answer, Answer::LeftAlone(Lot::Stays));
    }
    let text = text(&verdict);
    assert!(text.contains("app (dataset data, state 16)"), "{text}");
    assert!(text.contains("left alone"), "{text}");
    // Nobody declared anything, and nothing has a label.
    let verdict = alone(
        &Versions::new(),
        vec![("data", Fate::Fresh)],
        Consent::Refuse,
    );
    assert!(verdict.goes && verdict.apps.is_empty());
}

#[test]
fn a_dataset_goes_back_as_a_whole_or_not_at_all() {
    let mut versions = versions(true);
    let target = versions.get_mut(&TARGET).unwrap();
    target
        .apps
        .insert(super::app("beside"), Ok(declared(DECLARED)));
    let now = [
        ("app", known("16")),
        ("beside", known("15")),
        ("gone", known("1")),
    ];
    let ask = |before: &[(&str, Label)]| {
        let fate = stays(&now, Some(kept(TARGET, None, before)));
        alone(&versions, vec![("data", fate)], Consent::Restore)
    };
    let verdict = ask(&[("app", known("14")), ("beside", known("14"))]);
    let answers: Vec<_> = verdict.apps.iter().map(|it| &it.answer).collect();
    assert!(verdict.goes && verdict.loses());
    assert!(matches!(answers[0], Answer::Restore { .. }));
    // It would have read the present data.
    assert!(matches!(answers[1], Answer::Restore { .. }));
    assert_eq!(verdict.apps[1].after, Some(state("14")));
    assert_eq!(*answers[2], Answer::LeftAlone(Lot::GoesBack));
    assert_eq!(verdict.returns().len(), 1);
    // One of them cannot live with what is kept.
    let verdict = ask(&[("app", known("14")), ("beside", known("3"))]);
    assert!(!verdict.goes);
    assert!(verdict.returns().is_empty());
}

#[test]
fn several_applications_of_one_dataset_are_converted_one_after_the_other() {
    let mut versions = versions(false);
    let live = versions[&Version::Live].apps[&super::app("app")].clone();
    for (version, declared) in [(TARGET, Ok(declared(DECLARED))), (Version::Live, live)] {
        let offer = versions.get_mut(&version).unwrap();
        offer.apps.insert(super::app("beside"), declared);
    }
    let other = DECLARED.replace("\"data\"", "\"config\"");
    let target = versions.get_mut(&TARGET).unwrap();
    target
        .apps
        .insert(super::app("third"), Ok(declared(&other)));
    let fates = |third| {
        vec![
            (
                "data",
                stays(&[("app", known("13")), ("beside", known("12"))], None),
            ),
            ("config", stays(&[("third", known(third))], None)),
        ]
    };
    let verdict = alone(&versions, fates("14"), Consent::Convert);
    assert!(verdict.goes && verdict.loses());
    let conversions = verdict.conversions();
    assert_eq!(conversions.len(), 1);
    let steps = &conversions[&super::dataset("data")];
    let order: Vec<_> = steps
        .iter()
        .map(|(app, step)| (app.as_str(), step.from.as_str()))
        .collect();
    assert_eq!(order, [("app", "13"), ("beside", "12")]);
    assert_eq!(verdict.services, ["app.service", "app.socket"]);
    // One that cannot go holds all up.
    let verdict = alone(&versions, fates("99"), Consent::Convert);
    assert!(!verdict.goes && verdict.conversions().is_empty() && verdict.services.is_empty());
    assert!(verdict.possible.is_empty());
}

#[test]
fn no_consent_covers_a_conversion_and_a_return_at_once() {
    let mut versions = versions(true);
    let other = DECLARED.replace("\"data\"", "\"mail\"");
    let target = versions.get_mut(&TARGET).unwrap();
    target.apps.insert(super::app("mail"), Ok(declared(&other)));
    let fates = vec![
        ("data", stays(&[("app", known("13"))], None)),
        (
            "mail",
            stays(
                &[("mail", known("99"))],
                Some(kept(TARGET, None, &[("mail", known("15"))])),
            ),
        ),
    ];
    let verdict = alone(&versions, fates, Consent::Refuse);
    assert!(!verdict.goes && verdict.possible.is_empty());
    let text = text(&verdict);
    assert!(text.contains("never done at"), "{text}");
}

#[test]
fn a_declaration_that_cannot_be_read_refuses_its_own_version_only() {
    let broken = || {
        let mut offer = Offer::default();
        let why = "line 1: x".to_owned();
        offer.apps.insert(super::app("app"), Err(why));
        offer
    };
    let fate = || vec![("data", stays(&[("app", known("13"))], Some(before())))];
    let mut versions = versions(true);
    versions.insert(TARGET, broken());
    for consent in Consent::ALL {
        let verdict = alone(&versions, fate(), consent);
        assert!(!verdict.goes && verdict.possible.is_empty());
        assert_eq!(verdict.apps.len(), 1);
        let Answer::Refuse(refusal) = &verdict.apps[0].answer else {
            panic!("it is refused");
        };
        assert!(matches!(&refusal.cause, Cause::Unread(why) if why.contains("line 1")));
    }
    // Elsewhere it only takes the converters away.
    versions.insert(TARGET, offer("app", DECLARED));
    versions.insert(Version::Live, broken());
    let verdict = alone(&versions, fate(), Consent::Convert);
    assert!(!verdict.goes);
    assert_eq!(verdict.unread.len(), 1);
    let text = text(&verdict);
    assert!(text.contains("app.toml of the live system"), "{text}");
    // One that is no application's refuses the version as a whole.
    let fault = Fault {
        version: TARGET,
        file: "Foo.toml".to_owned(),
        why: "its name".to_owned(),
    };
    versions.get_mut(&TARGET).unwrap().faults.push(fault);
    let fate = vec![("data", stays(&[("app", known("15"))], None))];
    let verdict = alone(&versions, fate, Consent::Convert);
    assert!(!verdict.goes && verdict.possible.is_empty());
}

#[test]
fn a_dataset_that_is_not_there_or_has_changed_is_refused() {
    let verdict = alone(&versions(true), vec![], Consent::Convert);
    assert_eq!(letter(&verdict), 'x');
    let moved = DECLARED.replace("\"data\"", "\"db\"");
    let mut versions = versions(true);
    versions.insert(TARGET, offer("app", &moved));
    let fates = vec![
        ("data", stays(&[("app", known("13"))], None)),
        ("db", stays(&[], None)),
    ];
    let verdict = alone(&versions, fates, Consent::Convert);
    // In the order of the datasets: what lies in the old place is left alone, and the new one is empty.
    assert_eq!(verdict.apps[0].answer, Answer::LeftAlone(Lot::Stays));
    let Answer::Refuse(refusal) = &verdict.apps[1].answer else {
        panic!("it is refused");
    };
    let elsewhere = Some(super::dataset("data"));
    assert_eq!(refusal.cause, Cause::Unlabelled { elsewhere });
    // The converters of an application work where its version has its data: not on another dataset.
    let fates = vec![
        ("data", Fate::Fresh),
        ("db", stays(&[("app", known("13"))], None)),
    ];
    assert!(!alone(&versions, fates, Consent::Convert).goes);
}
