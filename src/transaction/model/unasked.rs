//! The fence where nobody is asked: the return from a boot once, a request that somebody's wish comes on top of, a fallback
//! with the data of another set, and a plan that does not say what it converts.

use super::acts::Act;
use super::fence::{
    LIVE, booted, converter, done, is, newest, now, planned, shop, state, with_shop, writes,
};
use super::trials::{good, good_machine};
use super::{layout, machine, machine_of};
use crate::admin::request::preview;
use crate::fence::names::Version;
use crate::fence::tests::{declare, label};
use crate::policy::intent::Intent;
use crate::policy::refusal::Refusal;
use crate::record::layout::{Dataset, Part};
use crate::record::state::{Consent, Verb};
use crate::store::Store;
use crate::store::memory::{Content, Memory};
use crate::store::place::{File, Place};
use crate::transaction::Error;
use crate::transaction::check::APPS;
use crate::transaction::execute::execute;
use crate::transaction::fenced::refused;
use crate::transaction::records::Records;

fn reads_3(writes_too: &str) -> String {
    writes(writes_too) + "reads = [\"3\"]\n"
}

#[test]
fn what_was_parked_returns_to_data_that_is_as_it_was_when_it_was_live() {
    // Nobody ever said in which state the data is.
    let mut unlabelled = machine().0;
    unlabelled.set_label(LIVE, "state.shop", None).unwrap();
    declare(&mut unlabelled, Version::Live, &newest());
    // What the live system declares cannot be read.
    let mut unread = shop();
    declare(&mut unread, Version::Live, "state =");
    declare(&mut unread, Version::Snapshot(2), &reads_3("2"));
    // It keeps its data in a dataset that this machine does not have.
    let mut elsewhere = shop();
    let other = "dataset = \"other\"\nstate = \"3\"\n";
    declare(&mut elsewhere, Version::Live, other);
    declare(&mut elsewhere, Version::Snapshot(2), &reads_3("2"));
    for mut store in [unlabelled, unread, elsewhere] {
        let before = now(&store);
        done(&mut store, Act::Present(Verb::Select(2)));
        assert_eq!(now(&store).0, "2");
        done(&mut store, Act::Start);
        assert_eq!(now(&store), before);
        assert_eq!(state(&store).parked, None);
    }
    // What was booted once began to convert it, and did not end.
    let mut store = shop();
    declare(&mut store, Version::Snapshot(2), &reads_3("4"));
    done(&mut store, Act::Present(Verb::Select(2)));
    let begun = store.set_label(LIVE, "converting.shop", Some(b"3 4"));
    begun.unwrap();
    let booted = booted(&mut store, Act::Start);
    assert_eq!(booted.refusals, [Refusal::ParkedFenced(3)]);
}

#[test]
fn what_could_not_return_is_not_parked() {
    // It runs on data of which it says that it does not read it.
    let mut behind = shop();
    label(&mut behind, LIVE, "2");
    // Somebody has begun to convert the data, and what would be booted does not have the application.
    let mut begun = machine().0;
    declare(&mut begun, Version::Live, &newest());
    begun
        .set_label(LIVE, "converting.shop", Some(b"2 3"))
        .unwrap();
    for store in [behind.clone(), begun] {
        let before = now(&store);
        let mut asked = store.clone();
        done(&mut asked, Act::Request(Verb::Select(2)));
        for (mut store, act) in [
            (store.clone(), Act::Present(Verb::Select(2))),
            (asked, Act::Start),
        ] {
            let booted = booted(&mut store, act);
            assert_eq!(booted.refusals, [Refusal::NoReturn], "{act:?}");
            assert_eq!(now(&store), before);
            let state = state(&store);
            assert_eq!((state.parked, state.request), (None, None));
            assert_eq!(store.read(File::Armed).unwrap(), None);
        }
        // The running system refuses before it asks.
        let records = Records::open(&store).unwrap();
        let why = preview(&store, &records, Verb::Select(2), Consent::Refuse, 1).unwrap_err();
        assert_eq!(why.to_string(), Refusal::NoReturn.to_string());
    }
    // The menu says what it is that is not read.
    let plan = planned(&behind, &Intent::Select { id: 2 }, Consent::Refuse);
    let said = refused(&plan).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], Refusal::NoReturn.to_string());
    assert_eq!(
        lines[1..],
        ["  shop (dataset data, state 2): refused, since that version reads 3"]
    );
    // What cannot be gone to at all is refused for that.
    declare(&mut behind, Version::Snapshot(2), &writes("1"));
    let booted = booted(&mut behind, Act::Present(Verb::Select(2)));
    let two = Version::Snapshot(2);
    let no_ways = Default::default();
    assert_eq!(booted.refusals, [Refusal::Fenced(two, no_ways)]);
    // The remedy is one.
    declare(&mut behind, Version::Snapshot(2), &reads_3("2"));
    done(
        &mut behind,
        Act::RequestAgreed(Verb::Convert, Consent::Refuse),
    );
    done(&mut behind, Act::Start);
    done(&mut behind, Act::Present(Verb::Select(2)));
    done(&mut behind, Act::Start);
    assert_eq!(now(&behind), is("live", "3", Some("shop of 3")));
}

#[test]
fn a_request_that_is_refused_is_over_also_where_nobody_confirmed_something_else() {
    for act in [Act::Start, Act::Unconfirmed(Verb::Rollback(Some(1)))] {
        let mut store = shop();
        done(&mut store, Act::Request(Verb::Rollback(Some(2))));
        let refused = booted(&mut store, act).refusals;
        let fenced = matches!(refused[..], [Refusal::Fenced(Version::Snapshot(2), _)]);
        assert!(fenced, "{act:?}: {refused:?}");
        assert_eq!(state(&store).request, None, "{act:?}");
        assert_eq!(store.read(File::Armed).unwrap(), None, "{act:?}");
        assert_eq!(now(&store), is("live", "3", None));
    }
    // One who was there comes first, and what he is refused is not the request.
    let mut store = shop();
    done(&mut store, Act::Request(Verb::Rollback(Some(2))));
    let refused = booted(&mut store, Act::Present(Verb::Rollback(Some(1)))).refusals;
    let fenced = matches!(refused[..], [Refusal::Fenced(Version::Snapshot(1), _)]);
    assert!(fenced, "{refused:?}");
    assert!(state(&store).request.is_some());
}

const MORE: Part = Part::Data(1);

/// A good machine with a second dataset of data.
fn with_more() -> Memory {
    let mut layout = layout();
    let text = |text: &str| heapless::String::try_from(text).unwrap();
    let more = Dataset {
        name: heapless::String::try_from("more").unwrap(),
        live: heapless::String::try_from("@more").unwrap(),
        mount: text("/srv/more"),
    };
    layout.data.push(more).unwrap();
    let mut store = machine_of(layout).0;
    store.edit(|world, _| {
        let systems = world.datasets.iter_mut();
        for (_, system) in systems.filter(|(place, _)| place.part() == Part::System) {
            let tree = &mut system.tree;
            tree.insert("srv/more".to_owned(), Content::Directory);
        }
    });
    with_shop(good(store))
}

/// The version has the application 'wiki' in the second dataset, too.
fn has_wiki(store: &mut Memory, version: Version, text: &str) {
    let text = text.replacen("\"data\"", "\"more\"", 1);
    store.edit(|world, _| {
        let tree = &mut world.datasets.get_mut(&version.place()).unwrap().tree;
        tree.insert(format!("{APPS}/wiki.toml"), Content::File(text.into()));
    });
}

#[test]
fn data_of_two_datasets_that_two_changes_converted_comes_back_by_hand_alone() {
    let mut store = with_more();
    let good = writes("3") + &converter("3", "2", true, "/usr/bin/down");
    // Nothing leads back up.
    for version in [Version::Live, Version::Snapshot(3)] {
        declare(&mut store, version, &good);
        has_wiki(&mut store, version, &good);
    }
    has_wiki(&mut store, Version::Snapshot(2), &writes("3"));
    declare(&mut store, Version::Snapshot(1), &writes("2"));
    has_wiki(&mut store, Version::Snapshot(1), &writes("2"));
    let more = Place::Live(MORE);
    store.set_label(more, "state.wiki", Some(b"3")).unwrap();
    let wiki = |store: &Memory| store.label(more, "state.wiki").unwrap().unwrap();
    let back = |to| Verb::Rollback(Some(to));
    // The first change converts the one, the second the other.
    done(&mut store, Act::Agreed(back(2), Consent::Convert));
    assert_eq!(
        (now(&store).1.as_str(), &wiki(&store)[..]),
        ("2", &b"3"[..])
    );
    done(&mut store, Act::Agreed(back(1), Consent::Convert));
    assert_eq!(
        (now(&store).1.as_str(), &wiki(&store)[..]),
        ("2", &b"2"[..])
    );
    assert_eq!(state(&store).live_trial().unwrap().data_of, Some(4));
    // It does not start. What was good is not gone to with half of its data.
    for _ in 0..2 {
        done(&mut store, Act::Start);
    }
    let booted = booted(&mut store, Act::Start);
    assert_eq!(booted.refusals, [Refusal::NothingGood]);
    assert!(booted.prompt);
    assert_eq!(now(&store), is("1", "2", Some("shop of 2")));
    // Whoever is there brings back one after the other.
    done(&mut store, Act::Agreed(back(5), Consent::Restore));
    assert_eq!(
        (now(&store).0.as_str(), &wiki(&store)[..]),
        ("2", &b"3"[..])
    );
    done(&mut store, Act::Agreed(back(4), Consent::Restore));
    assert_eq!(now(&store), is("live", "3", None));
    assert_eq!(wiki(&store), b"3");
}

#[test]
fn the_data_comes_back_where_the_first_of_several_changes_converted_nothing() {
    let mut store = with_shop(good_machine());
    let one_way = writes("3") + &converter("3", "1", true, "/usr/bin/down");
    declare(&mut store, Version::Live, &one_way);
    declare(&mut store, Version::Snapshot(2), &reads_3("2"));
    let back = |to| Verb::Rollback(Some(to));
    // What was good is 4, and its data is live.
    done(&mut store, Act::Present(back(2)));
    // The data as it was is in 5, which never was.
    done(&mut store, Act::Agreed(back(1), Consent::Convert));
    assert_eq!(now(&store), is("1", "1", Some("shop of 1")));
    assert_eq!(state(&store).live_trial().unwrap().data_of, Some(5));
    for _ in 0..3 {
        done(&mut store, Act::Start);
    }
    assert_eq!(now(&store), is("live", "3", None));
    assert_eq!(state(&store).fell_back.unwrap().to, 4);
}

#[test]
fn a_plan_that_does_not_say_how_to_convert_is_not_carried_out() {
    let mut store = shop();
    let mut plan = planned(&store, &Intent::Rollback { to: 2 }, Consent::Convert);
    plan.conversions.clear();
    let mut records = Records::open(&store).unwrap();
    let done = execute(&mut store, &mut records, &plan, 1, &mut |_| {});
    assert!(matches!(done, Err(Error::Missing(_))), "{done:?}");
    assert_eq!(now(&store), is("live", "3", None));
}
