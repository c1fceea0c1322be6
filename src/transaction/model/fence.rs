//! The fence in the plans: refused, converted, gone back, fallen back from, and cut anywhere on the way.
//!
//! The application 'shop' is declared by every version. What is live writes state 3 and ships the converters; snapshot 2
//! writes 2, snapshot 1 and the factory version write 1.

use super::acts::{Act, Ended};
use super::boot::{Booted, FAILS, make_plan};
use super::explore::explore;
use super::form::{label as labelled, live};
use super::machine;
use super::trials::good_machine;
use crate::admin::state::get;
use crate::fence::names::Version;
use crate::fence::tests::{declare, label};
use crate::policy::intent::Intent;
use crate::policy::refusal::{Refusal, Ways};
use crate::record::layout::{DataParts, Part};
use crate::record::manifest::Manifest;
use crate::record::state::{Consent, State, Trial, Verb};
use crate::record::{Uuid, block};
use crate::store::memory::{Content, Memory};
use crate::store::place::{File, Place, Set};
use crate::transaction::catalogue::{fenced_off, manifest};
use crate::transaction::plan::{Plan, Step};
use crate::transaction::records::Records;

pub(super) const DATA: Part = Part::Data(0);
pub(super) const LIVE: Place = Place::Live(DATA);

pub(super) fn writes(state: &str) -> String {
    format!("dataset = \"data\"\nstate = \"{state}\"\n")
}

/// A converter that runs before boot.
pub(super) fn converter(from: &str, to: &str, lossless: bool, command: &str) -> String {
    format!(
        "[[converter]]\nfrom = [\"{from}\"]\nto = \"{to}\"\ncommand = [\"{command}\"]\nlossless = {lossless}\n\
         early = true\n"
    )
}

pub(super) fn newest() -> String {
    [
        writes("3"),
        converter("3", "2", true, "/usr/bin/down"),
        converter("2", "1", false, "/usr/bin/further"),
        converter("2", "3", true, "/usr/bin/up"),
    ]
    .concat()
}

/// `store` with the declarations, and its data in state 3.
pub(super) fn with_shop(mut store: Memory) -> Memory {
    for version in [Version::Factory, Version::Snapshot(1)] {
        declare(&mut store, version, &writes("1"));
    }
    declare(&mut store, Version::Snapshot(2), &writes("2"));
    declare(&mut store, Version::Live, &newest());
    label(&mut store, LIVE, "3");
    store
}

pub(super) fn shop() -> Memory {
    with_shop(machine().0)
}

pub(super) fn booted(store: &mut Memory, act: Act) -> Booted {
    match act.run(store, &mut |_| {}) {
        Ended::Booted(booted) => booted,
        Ended::Command(done) => panic!("{act:?} is no start: {done:?}"),
    }
}

pub(super) fn done(store: &mut Memory, act: Act) {
    let ended = act.run(store, &mut |_| {});
    assert!(ended.is_ok(), "{act:?}: {ended:?}");
}

pub(super) fn state(store: &Memory) -> State {
    Records::open(store).unwrap().state.value.clone()
}

fn text(content: Option<&Content>) -> Option<String> {
    match content? {
        Content::File(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        other => panic!("{other:?}"),
    }
}

/// The live version, the state of its data, and what converted that last.
pub(super) fn now(store: &Memory) -> (String, String, Option<String>) {
    let live = live(store);
    let version = text(live[&Part::System].get("etc/version"));
    let state = text(live[&DATA].get(&labelled("state.shop")));
    let converted = text(live[&DATA].get("converted"));
    (version.unwrap(), state.unwrap_or_default(), converted)
}

pub(super) fn is(
    version: &str,
    state: &str,
    converted: Option<&str>,
) -> (String, String, Option<String>) {
    (
        version.to_owned(),
        state.to_owned(),
        converted.map(str::to_owned),
    )
}

/// What is remembered of the data's states at a place.
pub(super) fn history(store: &Memory, place: Place) -> String {
    let labels = &store.world().datasets[&place].labels;
    let text = labels.get("history.shop").cloned().unwrap_or_default();
    String::from_utf8(text).unwrap()
}

pub(super) fn ways(convert: bool, restore: bool) -> Ways {
    Ways { convert, restore }
}

fn back(to: u32) -> Verb {
    Verb::Rollback(Some(to))
}

pub(super) fn its(store: &Memory, id: u32) -> Manifest {
    manifest(store, Set::Snapshot(id)).unwrap().unwrap()
}

pub(super) fn planned(store: &Memory, intent: &Intent, consent: Consent) -> Plan {
    make_plan(intent, store, &state(store), consent).unwrap()
}

#[test]
fn a_version_that_cannot_read_the_data_is_not_gone_to() {
    let before = shop();
    for (verb, target, ways) in [
        (back(2), Version::Snapshot(2), ways(true, false)),
        (back(1), Version::Snapshot(1), ways(true, false)),
        (
            Verb::ResetSystem { keep_config: true },
            Version::Factory,
            ways(true, false),
        ),
        // A boot once converts nothing.
        (Verb::Select(2), Version::Snapshot(2), Ways::default()),
    ] {
        for act in [Act::Present(verb), Act::Agreed(verb, Consent::Restore)] {
            let mut store = before.clone();
            let booted = booted(&mut store, act);
            assert_eq!(booted.refusals, [Refusal::Fenced(target, ways)], "{act:?}");
            assert_eq!(now(&store), is("live", "3", None));
        }
    }
    // Nothing of the data stays, or what is live keeps its version.
    for verb in [
        Verb::ResetEverything,
        Verb::ResetConfig { data: true },
        Verb::ResetConfig { data: false },
    ] {
        done(&mut before.clone(), Act::Present(verb));
    }
    let mut asked = before.clone();
    done(&mut asked, Act::Request(back(2)));
    let booted = booted(&mut asked, Act::Start);
    assert_eq!(booted.refusals.len(), 1);
    assert_eq!(state(&asked).request, None);
}

#[test]
fn a_refusal_names_what_could_be_agreed_to() {
    for (ways, says) in [
        (ways(true, true), "fence=convert"),
        (ways(true, true), "fence=restore"),
        (ways(true, false), "fence=convert"),
        (ways(false, true), "loses what came since"),
        (ways(false, false), "choose another version"),
    ] {
        let text = Refusal::Fenced(Version::Snapshot(12), ways).to_string();
        assert!(
            text.contains(says) && text.contains("snapshot 12"),
            "{text}"
        );
        assert!(!text.contains('\n'));
    }
}

#[test]
fn a_conversion_is_of_a_clone_and_becomes_live_with_the_system() {
    let mut store = shop();
    let plan = planned(&store, &Intent::Rollback { to: 2 }, Consent::Convert);
    let staged = Place::Snapshot(3, DATA);
    let at = |step: &Step| plan.steps.iter().position(|it| it == step).unwrap();
    let clone = plan.steps.iter().position(
        |step| matches!(step, Step::Clone { from, to, .. } if *from == LIVE && *to == staged),
    );
    let convert = at(&Step::Convert { at: staged, nth: 0 });
    let check = at(&Step::Check(Place::Snapshot(3, Part::System)));
    let exchange = at(&Step::Exchange { live: LIVE, staged });
    let system = at(&Step::Exchange {
        live: Place::Live(Part::System),
        staged: Place::Snapshot(3, Part::System),
    });
    assert!(clone.unwrap() < convert && convert < check && check < at(&Step::Commit));
    assert!(at(&Step::Commit) < exchange && exchange < system);

    done(&mut store, Act::Agreed(back(2), Consent::Convert));
    assert_eq!(now(&store), is("2", "2", Some("shop of 2")));
    // What was converted is kept as it was, and stays there.
    let kept = its(&store, 3);
    assert!(kept.identity(DATA).is_some() && !kept.brings(DATA));
    let world = store.world();
    let kept = &world.datasets[&staged];
    assert_eq!(kept.labels["state.shop"], b"3");
    assert!(!kept.tree.contains_key("converted") && kept.dataset.read_only);

    // By two converters, one after the other.
    let mut store = shop();
    done(&mut store, Act::Agreed(back(1), Consent::Convert));
    assert_eq!(now(&store), is("1", "1", Some("shop of 1")));
    assert_eq!(
        history(&store, LIVE),
        "1000 3 2 3 live down\n1000 2 1 3 live further\n"
    );
    let shown = get(&store, None).unwrap();
    assert_eq!(shown.applications.len(), 1);
    let shown = &shown.applications[0];
    assert_eq!(shown.state.as_deref(), Some("1"));
    assert_eq!(shown.since.as_deref(), Some("1970-01-01T00:16:40Z"));
    assert_eq!(history(&store, staged), "");
    // And the configuration that stays is not mistaken for the data.
    let mut store = shop();
    let verb = Verb::ResetSystem { keep_config: true };
    done(&mut store, Act::Agreed(verb, Consent::Convert));
    assert_eq!(now(&store), is("factory", "1", Some("shop of 1")));
}

#[test]
fn a_running_system_agrees_in_its_request() {
    let mut store = shop();
    done(&mut store, Act::RequestAgreed(back(2), Consent::Convert));
    done(&mut store, Act::Start);
    assert_eq!(now(&store), is("2", "2", Some("shop of 2")));
}

#[test]
fn a_converter_that_fails_leaves_everything_as_it_was() {
    let mut store = shop();
    let fails = writes("3") + &converter("3", "2", true, FAILS);
    declare(&mut store, Version::Live, &fails);
    let before = store.world().datasets[&LIVE].clone();
    let booted = booted(&mut store, Act::Agreed(back(2), Consent::Convert));
    assert_eq!(booted.errors.len(), 1);
    let text = booted.errors[0].to_string();
    assert!(
        text.contains("shop") && text.contains("exit status 1"),
        "{text}"
    );
    // Not as much as a label of it: nothing was done.
    assert!(store.world().datasets[&LIVE] == before);
    assert!(
        !store
            .world()
            .datasets
            .contains_key(&Place::Snapshot(3, DATA))
    );
    let again = Act::Start.run(&mut store, &mut |_| {});
    assert!(again.is_ok(), "{again:?}");
}

#[test]
fn what_was_converted_comes_back_by_consent_alone() {
    let mut store = shop();
    done(&mut store, Act::Agreed(back(2), Consent::Convert));
    // It reads state 3 only.
    let refused = booted(&mut store.clone(), Act::Present(Verb::Forward));
    let three = Version::Snapshot(3);
    assert_eq!(refused.refusals, [Refusal::Fenced(three, ways(true, true))]);
    let mut forth = store.clone();
    done(&mut forth, Act::Agreed(Verb::Forward, Consent::Convert));
    assert_eq!(now(&forth), is("live", "3", Some("shop of 3")));
    let mut forth = store.clone();
    done(&mut forth, Act::Agreed(Verb::Forward, Consent::Restore));
    assert_eq!(now(&forth), is("live", "3", None));
    // And what was left for that is kept, and stays there in its turn.
    let left = its(&forth, 4);
    assert!(left.identity(DATA).is_some() && !left.brings(DATA));
    done(&mut forth, Act::Agreed(back(4), Consent::Restore));
    assert_eq!(now(&forth), is("2", "2", Some("shop of 2")));
    // Where it reads what there is, nothing of the data moves by itself.
    let reads = newest().replacen("state = \"3\"\n", "state = \"3\"\nreads = [\"2\"]\n", 1);
    declare(&mut store, three, &reads);
    done(&mut store, Act::Present(Verb::Forward));
    assert_eq!(now(&store), is("live", "2", Some("shop of 2")));
    assert!(its(&store, 4).identity(DATA).is_none());
}

#[test]
fn data_that_a_reset_replaced_comes_back_as_before() {
    let mut store = shop();
    done(&mut store, Act::Present(Verb::ResetConfig { data: true }));
    assert_eq!(its(&store, 3).aside, DataParts::NONE);
    label(&mut store, LIVE, "3");
    done(&mut store, Act::Present(Verb::Rollback(None)));
    assert_eq!(now(&store), is("live", "3", None));
    assert!(its(&store, 4).brings(DATA));
}

#[test]
fn conversions_and_returns_can_be_cut_anywhere() {
    let back_and_forth = |consent| {
        let mut store = shop();
        done(&mut store, Act::Agreed(back(2), Consent::Convert));
        (store, Act::Agreed(Verb::Forward, consent))
    };
    let mut asked = shop();
    done(&mut asked, Act::RequestAgreed(back(1), Consent::Convert));
    let keep = Verb::ResetSystem { keep_config: true };
    for (before, act) in [
        (shop(), Act::Agreed(back(2), Consent::Convert)),
        (shop(), Act::Agreed(back(1), Consent::Convert)),
        (shop(), Act::Agreed(keep, Consent::Convert)),
        (shop(), Act::Present(back(2))),
        (shop(), Act::RequestAgreed(back(2), Consent::Convert)),
        (asked, Act::Start),
        // By itself.
        (spent(shop()), Act::Start),
        back_and_forth(Consent::Convert),
        back_and_forth(Consent::Restore),
    ] {
        let (_, report) = explore(&before, act);
        report.expect_sound(&format!("{act:?}"));
        println!("{act:?}: {} disks", report.disks);
    }
}

#[test]
fn what_is_booted_once_stays_where_it_has_changed_the_data() {
    let mut store = shop();
    let reads = |state: &str| writes(state) + "reads = [\"3\"]\n";
    declare(&mut store, Version::Snapshot(2), &reads("4"));
    done(&mut store, Act::Present(Verb::Select(2)));
    assert_eq!(now(&store), is("2", "3", None));
    // It leaves the data alone, and the next start returns.
    done(&mut store.clone(), Act::Start);
    // It converts it in place.
    label(&mut store, LIVE, "4");
    let booted = booted(&mut store, Act::Start);
    assert_eq!(booted.refusals, [Refusal::ParkedFenced(3)]);
    assert!(booted.errors.is_empty() && !booted.prompt);
    assert_eq!(now(&store), is("2", "4", None));
    assert_eq!(state(&store).parked, None);
    // Said once, and verbs are heard again.
    done(&mut store, Act::Start);
    done(&mut store, Act::Present(Verb::ResetConfig { data: false }));
    let verb = back(1);
    let text = Refusal::ParkedFenced(3).to_string();
    assert!(text.contains("docs/recovery.md"), "{text}");
    assert!(!booted_refusals(&mut store, verb).is_empty());
}

fn booted_refusals(store: &mut Memory, verb: Verb) -> Vec<Refusal> {
    booted(store, Act::Present(verb)).refusals
}

fn mark(store: &mut Memory, id: u32) {
    let good = Manifest {
        good: true,
        ..its(store, id)
    };
    let bytes = block::encode(1, &good).unwrap().to_vec();
    store.edit(|world, _| world.files.insert(File::Manifest(Set::Snapshot(id)), bytes));
}

/// No start is left to what is live, and snapshots 1 and 2 are good.
pub(super) fn spent(mut store: Memory) -> Memory {
    mark(&mut store, 1);
    mark(&mut store, 2);
    let mut records = Records::open(&store).unwrap();
    let mut state = records.state.value.clone();
    state.trial = Some(Trial {
        system: state.live.system,
        tries: 3,
        begun: 3,
        condemned: false,
        fallback: false,
        clone_of: None,
        data_of: None,
        guarded: false,
    });
    records.state.write(&mut store, state).unwrap();
    store
}

#[test]
fn a_machine_falls_back_by_itself_only_to_what_runs_on_the_data_without_a_loss() {
    // Lossless converters lead to 2.
    let mut store = spent(shop());
    done(&mut store, Act::Start);
    assert_eq!(now(&store), is("2", "2", Some("shop of 2")));
    // None to 2, and 1 reads it as it is.
    let mut store = shop();
    let lossy = writes("3") + &converter("3", "2", false, "/usr/bin/down");
    declare(&mut store, Version::Live, &lossy);
    declare(
        &mut store,
        Version::Snapshot(1),
        &(writes("1") + "reads = [\"3\"]\n"),
    );
    let mut store = spent(store);
    done(&mut store, Act::Start);
    assert_eq!(now(&store), is("1", "3", None));
    // The one that would be taken fails in its converter: the next one.
    let mut store = shop();
    let fails = writes("3") + &converter("3", "2", true, FAILS);
    declare(&mut store, Version::Live, &fails);
    declare(
        &mut store,
        Version::Snapshot(1),
        &(writes("1") + "reads = [\"3\"]\n"),
    );
    let mut store = spent(store);
    booted(&mut store, Act::Start);
    assert_eq!(now(&store), is("1", "3", None));
    // Nothing of it has failed: once the converter has what it needs, it is a way out again.
    assert!(state(&store).failed.is_empty());
    // Nothing is left: somebody has to agree.
    let mut store = shop();
    declare(&mut store, Version::Live, &lossy);
    let mut store = spent(store);
    assert_eq!(fenced_off(&store, &state(&store)).unwrap(), [1, 2]);
    let booted = booted(&mut store, Act::Start);
    assert_eq!(booted.refusals, [Refusal::NothingGood]);
    assert!(booted.prompt);
    assert_eq!(now(&store), is("live", "3", None));
}

#[test]
fn what_was_never_good_gives_the_unconverted_data_back_when_the_machine_falls_back() {
    let mut store = with_shop(good_machine());
    // As it was kept when it was good: number 3.
    declare(&mut store, Version::Snapshot(3), &newest());
    done(&mut store, Act::Agreed(back(2), Consent::Convert));
    assert_eq!(now(&store), is("2", "2", Some("shop of 2")));
    assert_eq!(state(&store).live_trial().unwrap().data_of, Some(4));
    for _ in 0..3 {
        done(&mut store, Act::Start);
    }
    assert_eq!(now(&store), is("live", "3", None));
    assert_eq!(state(&store).fell_back.unwrap().to, 4);
    // What the one that failed had made of it is kept with it.
    assert!(its(&store, 5).identity(DATA).is_some());

    // However many changes there were since it was good.
    let mut store = with_shop(good_machine());
    done(&mut store, Act::Agreed(back(2), Consent::Convert));
    done(&mut store, Act::Agreed(back(1), Consent::Convert));
    assert_eq!(now(&store), is("1", "1", Some("shop of 1")));
    assert_eq!(state(&store).live_trial().unwrap().data_of, Some(4));
    for _ in 0..3 {
        done(&mut store, Act::Start);
    }
    assert_eq!(now(&store), is("live", "3", None));

    let mut store = with_shop(good_machine());
    done(&mut store, Act::Agreed(back(2), Consent::Convert));
    done(&mut store, Act::MarkGood);
    assert_eq!(state(&store).live_trial(), None);
    // Now it has what came since.
    let refused = booted(&mut store, Act::Present(back(4)));
    let four = Version::Snapshot(4);
    assert_eq!(refused.refusals, [Refusal::Fenced(four, ways(true, true))]);
}

#[test]
fn a_first_boot_of_a_version_whose_declarations_are_damaged_asks_somebody() {
    let mut store = super::verbs::fresh();
    declare(&mut store, Version::Factory, "state =");
    let booted = booted(&mut store, Act::Start);
    let fenced = Refusal::Fenced(Version::Factory, Ways::default());
    assert_eq!((booted.refusals, booted.prompt), (vec![fenced], true));
    let mut store = super::verbs::fresh();
    declare(&mut store, Version::Factory, &writes("1"));
    done(&mut store, Act::Start);
    // Nothing was ever live, so no dataset there has an identity of none.
    assert!(state(&store).live.system != Uuid::NONE);
}
