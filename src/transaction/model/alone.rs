//! The converters that a machine runs by itself, with nobody there: an hour of them at the most, and none that took the
//! machine down a second time.
//!
//! As in `fence.rs`: what is live is in state 3 and ships the converters. No start is left to it; snapshots 1 and 2 are good.

use super::acts::Act;
use super::boot::{FAILS, convert};
use super::explore::explore;
use super::fence::{
    LIVE, booted, converter, done, history, is, now, planned, shop, spent, state, ways, writes,
};
use crate::fence::names::Version;
use crate::fence::tests::declare;
use crate::policy::intent::Intent;
use crate::policy::refusal::Refusal;
use crate::record::state::{Consent, State, Verb};
use crate::store::memory::Memory;
use crate::transaction::Error;
use crate::transaction::execute::{Hands, execute_by, no_image};
use crate::transaction::fenced::refused;
use crate::transaction::records::Records;

/// What is live leads to 2 by this converter, and snapshot 1 lives with state 3 as it is, or not.
fn leads_to_2(command: &str, one_reads_it: bool) -> Memory {
    let mut store = shop();
    let text = writes("3") + &converter("3", "2", true, command);
    declare(&mut store, Version::Live, &text);
    if one_reads_it {
        let text = writes("1") + "reads = [\"3\"]\n";
        declare(&mut store, Version::Snapshot(1), &text);
    }
    spent(store)
}

fn edit(store: &mut Memory, change: impl FnOnce(&mut State)) {
    let mut records = Records::open(store).unwrap();
    let mut state = records.state.value.clone();
    change(&mut state);
    records.state.write(store, state).unwrap();
}

/// The disks that are left where the converter of the fallback to 2 takes the machine down.
fn taken_down(mut store: Memory) -> Vec<Memory> {
    let mut left = Vec::new();
    let mut records = Records::open(&store).unwrap();
    let plan = planned(&store, &Intent::FallBack { to: 2 }, Consent::Refuse);
    assert!(!plan.conversions.is_empty());
    let mut converter = |store: &mut Memory, at, it: &_| {
        left.extend(store.after_power_cut());
        convert(store, at, it)?;
        left.extend(store.after_power_cut());
        Ok(())
    };
    let mut hands = Hands {
        fill: &mut no_image,
        convert: &mut converter,
    };
    execute_by(&mut store, &mut records, &plan, 1, &mut hands, &mut |_| {}).unwrap();
    // It did not, and nothing is left of that it might have.
    assert!(self::state(&store).failed.is_empty());
    assert!(!left.is_empty());
    left
}

#[test]
fn a_converter_that_takes_the_machine_down_is_not_run_by_itself_again() {
    for mut store in taken_down(leads_to_2("/usr/bin/down", true)) {
        done(&mut store, Act::Start);
        assert_eq!(now(&store), is("1", "3", None));
        assert_eq!(state(&store).failed, [2]);
        done(&mut store, Act::Start);
    }
    // There is no other one: somebody is asked, once, and then it goes on.
    for mut store in taken_down(leads_to_2("/usr/bin/down", false)) {
        let asked = booted(&mut store, Act::Start);
        assert!(asked.prompt && asked.errors.is_empty(), "{asked:?}");
        assert_eq!(asked.refusals, [Refusal::NothingGood]);
        assert_eq!(now(&store), is("live", "3", None));
        done(&mut store, Act::Start);
        // A person may, and the machine keeps what it knows.
        let back = Verb::Rollback(Some(2));
        done(&mut store, Act::Agreed(back, Consent::Convert));
        assert_eq!(now(&store), is("2", "2", Some("shop of 2")));
        assert_eq!(state(&store).failed, [2]);
    }
}

#[test]
fn a_converter_that_fails_and_leaves_the_machine_up_costs_its_snapshot_this_start_alone() {
    let mut store = leads_to_2(FAILS, true);
    // As many as there is room for: none is forgotten for one that did not fail.
    edit(&mut store, |state| {
        (100..116).for_each(|id| state.remember_failed(id));
    });
    let before = state(&store).failed;
    booted(&mut store, Act::Start);
    assert_eq!(now(&store), is("1", "3", None));
    assert_eq!(state(&store).failed, before);
    assert_eq!(state(&store).fell_back.unwrap().to, 1);
}

#[test]
fn a_record_that_is_said_to_have_failed_is_taken_back_too() {
    use crate::store::memory::Fault;
    let before = leads_to_2("/usr/bin/down", true);
    let mut tried = 0;
    for at in 0..40 {
        for fault in [Fault::NotDone, Fault::Done] {
            let mut store = before.clone();
            store.fault = Some((store.operations + at, fault));
            let mut records = Records::open(&store).unwrap();
            let plan = planned(&store, &Intent::FallBack { to: 2 }, Consent::Refuse);
            let mut hands = Hands {
                fill: &mut no_image,
                convert: &mut convert,
            };
            let result = execute_by(&mut store, &mut records, &plan, 1, &mut hands, &mut |_| {});
            store.fault = None;
            match result {
                Err(Error::Unfinished(_)) | Ok(_) => {}
                Err(error) => {
                    let failed = self::state(&store).failed;
                    assert!(
                        failed.is_empty(),
                        "{at}, {fault:?}: {failed:?} after {error}"
                    );
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 10, "{tried}");
}

#[test]
fn what_the_machine_converts_by_itself_can_be_cut_anywhere() {
    for one_reads_it in [true, false] {
        let before = leads_to_2("/usr/bin/down", one_reads_it);
        let (_, report) = explore(&before, Act::Start);
        report.expect_sound("a fallback with a conversion");
        assert!(report.disks > 10, "{} disks", report.disks);
    }
}

/// The same converter with this time limit, in seconds.
fn takes(store: &mut Memory, version: Version, seconds: u32, from: &str, to: &str, command: &str) {
    let text = writes(from) + &converter(from, to, true, command);
    declare(store, version, &format!("{text}seconds = {seconds}\n"));
}

/// What is said of the machine's own way to 2, in one line.
fn explained(store: &Memory) -> String {
    let intent = Intent::FallBack { to: 2 };
    let plan = planned(store, &intent, Consent::Refuse);
    let text = refused(&plan).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_may_take_more_than_an_hour_is_not_begun_with_nobody_there() {
    for (seconds, goes) in [(3600, true), (3601, false)] {
        let mut store = leads_to_2("/usr/bin/down", false);
        takes(
            &mut store,
            Version::Live,
            seconds,
            "3",
            "2",
            "/usr/bin/down",
        );
        let text = explained(&store);
        let too_long = "nobody is there, and all that would be run may take 1 h 1 s, by the time limits: more than 1 h is \
                        never begun then";
        assert_eq!(text.contains(too_long), !goes, "{text}");
        assert_eq!(text.contains("fence=convert goes to snapshot 2"), !goes);
        let by_person = Act::Agreed(Verb::Rollback(Some(2)), Consent::Convert);
        done(&mut store.clone(), by_person);
        let booted = booted(&mut store, Act::Start);
        match goes {
            true => assert_eq!(now(&store), is("2", "2", Some("shop of 2"))),
            false => {
                assert_eq!(booted.refusals, [Refusal::NothingGood]);
                assert_eq!(now(&store), is("live", "3", None));
                assert_eq!(history(&store, LIVE), "");
            }
        }
    }
    let refused = Refusal::Fenced(Version::Snapshot(2), ways(true, false));
    let mut store = leads_to_2("/usr/bin/down", false);
    takes(&mut store, Version::Live, 3601, "3", "2", "/usr/bin/down");
    // It is what a person is told who has not agreed, and no more than that.
    let asked = booted(&mut store, Act::Present(Verb::Rollback(Some(2))));
    assert_eq!(asked.refusals, [refused]);
}

#[test]
fn the_hour_is_of_all_that_is_tried_in_one_start() {
    // The first fails after half an hour, if it comes to that; the second has what is left.
    for (seconds, goes) in [(1800, true), (1801, false)] {
        let mut store = shop();
        let fails = converter("3", "2", true, FAILS) + "seconds = 1800\n";
        let works = converter("3", "1", true, "/usr/bin/down");
        let text = format!("{}{fails}{works}seconds = {seconds}\n", writes("3"));
        declare(&mut store, Version::Live, &text);
        let mut store = spent(store);
        let booted = booted(&mut store, Act::Start);
        match goes {
            true => assert_eq!(now(&store), is("1", "1", Some("shop of 1"))),
            false => {
                assert_eq!(booted.refusals, [Refusal::NothingGood]);
                assert_eq!(now(&store), is("live", "3", None));
            }
        }
    }
}
