//! The fence where nobody is asked: the return from a boot once, a fallback with the data of another set, and a plan that does
//! not say what it converts.

use super::acts::Act;
use super::fence::{
    LIVE, booted, converter, done, is, newest, now, planned, shop, state, with_shop, writes,
};
use super::machine;
use super::trials::good_machine;
use crate::fence::names::Version;
use crate::fence::tests::declare;
use crate::policy::intent::Intent;
use crate::policy::refusal::Refusal;
use crate::record::state::{Consent, Verb};
use crate::store::Store;
use crate::transaction::Error;
use crate::transaction::execute::execute;
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
    for mut store in [unlabelled, unread] {
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
