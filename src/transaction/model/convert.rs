//! The data converted for the version that stays: what is refused, what is kept, and cut anywhere on the way.
//!
//! As in `fence.rs`, what is live writes state 3.

use super::acts::Act;
use super::boot::convert;
use super::explore::explore;
use super::fence::{
    DATA, LIVE, booted, converter, done, is, its, now, planned, shop, state, with_shop, writes,
};
use super::trials::good_machine;
use crate::admin::error::Error;
use crate::admin::request::preview;
use crate::fence::names::Version;
use crate::fence::tests::{declare, label};
use crate::policy::intent::Intent;
use crate::policy::refusal::Refusal;
use crate::record::Uuid;
use crate::record::layout::Part;
use crate::record::state::{Consent, Destroy, Phase, State, Trial, Verb};
use crate::store::Store;
use crate::store::memory::{Content, Memory};
use crate::store::place::Place;
use crate::transaction::execute::{Hands, execute_by, no_image};
use crate::transaction::plan::Step;
use crate::transaction::records::Records;

const REFUSE: Consent = Consent::Refuse;

/// The data is in state 2, which the live version does not read and converts without a loss.
fn behind(mut store: Memory) -> Memory {
    label(&mut store, LIVE, "2");
    store
}

/// The same with a loss.
fn lossy() -> Memory {
    let mut store = behind(shop());
    let text = writes("3") + &converter("2", "3", false, "/usr/bin/up");
    declare(&mut store, Version::Live, &text);
    store
}

fn edit(store: &mut Memory, change: impl FnOnce(&mut State)) {
    let mut records = Records::open(store).unwrap();
    let mut state = records.state.value.clone();
    change(&mut state);
    records.state.write(store, state).unwrap();
}

fn converted(store: &mut Memory, consent: Consent) {
    done(store, Act::RequestAgreed(Verb::Convert, consent));
    done(store, Act::Start);
}

#[test]
fn the_version_stays_and_its_data_is_converted_on_a_clone() {
    let mut store = behind(shop());
    let plan = planned(&store, &Intent::Convert, REFUSE);
    let replaced: Vec<Part> = plan.replaced().map(|(part, _)| part).collect();
    assert_eq!(replaced, [DATA]);
    assert!(!plan.steps.contains(&Step::CarryNested));
    let before = state(&store);
    converted(&mut store, REFUSE);
    assert_eq!(now(&store), is("live", "3", Some("shop of 3")));
    let after = state(&store);
    assert_eq!(after.live, before.live);
    assert_eq!(after.older, [1, 2, 3]);
    assert_eq!(after.last.unwrap().verb, Some(Verb::Convert));
    // What was live is whole, with the data as it was, which does not come back by itself.
    let kept = its(&store, 3);
    let all = [Part::System, Part::Config, Part::Defaults, DATA];
    assert!(all.iter().all(|part| kept.identity(*part).is_some()));
    assert!(!kept.brings(DATA));
    let old = &store.world().datasets[&Place::Snapshot(3, DATA)];
    assert_eq!(old.labels["state.shop"], b"2");
    assert!(old.dataset.read_only && !old.tree.contains_key("converted"));
}

#[test]
fn a_loss_needs_a_consent_and_a_way_that_is_not_there_none_helps() {
    let refused = |store: &Memory, consent| {
        let (mut store, before) = (store.clone(), now(store));
        done(&mut store, Act::RequestAgreed(Verb::Convert, consent));
        let booted = booted(&mut store, Act::Start);
        assert_eq!(now(&store), before);
        assert_eq!(state(&store).request, None);
        booted.refusals
    };
    let mut store = lossy();
    for consent in [REFUSE, Consent::Restore] {
        assert_eq!(refused(&store, consent), [Refusal::NotConvertible(true)]);
    }
    converted(&mut store, Consent::Convert);
    assert_eq!(now(&store), is("live", "3", Some("shop of 3")));
    let mut store = shop();
    label(&mut store, LIVE, "7");
    for consent in [REFUSE, Consent::Convert] {
        assert_eq!(refused(&store, consent), [Refusal::NotConvertible(false)]);
    }
}

#[test]
fn where_nothing_is_to_be_converted_nothing_is_done() {
    let store = shop();
    let records = Records::open(&store).unwrap();
    for consent in Consent::ALL {
        let refused = preview(&store, &records, Verb::Convert, consent, 0);
        assert!(
            matches!(refused, Err(Error::Refused(Refusal::NothingToConvert))),
            "{refused:?}"
        );
    }
    // It was asked for, and the data was converted by somebody else meanwhile.
    let mut store = behind(shop());
    done(&mut store, Act::Request(Verb::Convert));
    label(&mut store, LIVE, "3");
    let booted = booted(&mut store, Act::Start);
    assert_eq!(booted.refusals, [Refusal::NothingToConvert]);
    assert_eq!(now(&store), is("live", "3", None));
    assert_eq!((state(&store).request, state(&store).next_id), (None, 3));
    done(&mut store, Act::Start);
}

#[test]
fn the_plan_says_what_is_converted_and_what_is_kept() {
    let store = lossy();
    let records = Records::open(&store).unwrap();
    let plan = preview(&store, &records, Verb::Convert, Consent::Convert, 0).unwrap();
    let text = plan.to_string();
    for says in [
        "keep the version",
        "data: becomes a converted clone of itself",
        "system: stays as it is",
        "LOST: ",
        "2 to 3 by up of the live system",
        "kept as snapshot 3, with the data as it was",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    assert!(!text.contains("fence=restore"), "{text}");
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
}

#[test]
fn what_is_on_trial_stays_on_that_trial_and_what_was_good_is_on_one() {
    let mut store = behind(with_shop(good_machine()));
    converted(&mut store, REFUSE);
    let trial = state(&store).live_trial().unwrap();
    assert_eq!((trial.begun, trial.data_of), (1, Some(4)));
    assert_eq!(state(&store).good, None);
    for data_of in [Some(3), None] {
        let mut store = behind(with_shop(good_machine()));
        edit(&mut store, |state| {
            state.trial = Some(Trial {
                system: state.live.system,
                tries: 3,
                begun: 1,
                condemned: false,
                fallback: true,
                clone_of: Some(2),
                data_of,
                guarded: true,
            });
        });
        let before = state(&store).trial.unwrap();
        converted(&mut store, REFUSE);
        let after = Trial {
            begun: 2,
            data_of: data_of.or(Some(4)),
            ..before
        };
        assert_eq!(state(&store).trial, Some(after));
    }
}

#[test]
fn what_waits_to_be_deleted_goes_on_waiting() {
    let mut store = behind(shop());
    edit(&mut store, |state| {
        state.destroy = Some(Destroy {
            live: state.live.system,
            up_to: 2,
            phase: Phase::Waits,
        });
    });
    let before = state(&store).destroy;
    converted(&mut store, REFUSE);
    assert_eq!(state(&store).destroy, before);
}

#[test]
fn a_conversion_for_the_version_that_stays_can_be_cut_anywhere() {
    let asked = |mut store: Memory, consent| {
        done(&mut store, Act::RequestAgreed(Verb::Convert, consent));
        store
    };
    for (before, act) in [
        (behind(shop()), Act::Request(Verb::Convert)),
        (asked(behind(shop()), REFUSE), Act::Start),
        (asked(behind(shop()), REFUSE), Act::Cancel),
        (asked(lossy(), Consent::Convert), Act::Start),
        (asked(lossy(), REFUSE), Act::Start),
    ] {
        let (_, report) = explore(&before, act);
        report.expect_sound(&format!("{act:?}"));
        println!("{act:?}: {} disks", report.disks);
    }
}

#[test]
fn one_that_does_not_start_on_its_converted_data_gives_that_back_with_an_older_version() {
    for early in [false, true] {
        // Good before, on data that it did not read. Also where its converter could be run again before boot, what is kept of it
        // is no way out: that is the version which did not start.
        let mut store = with_shop(good_machine());
        declare(&mut store, Version::Snapshot(3), &writes("2"));
        let up = converter("2", "3", true, "/usr/bin/up");
        let up = up.replace("early = true", &format!("early = {early}"));
        declare(&mut store, Version::Live, &(writes("3") + &up));
        let mut store = behind(store);
        done(&mut store, Act::Prepare(Verb::Convert, REFUSE));
        for _ in 0..3 {
            done(&mut store, Act::Start);
            assert_eq!(now(&store), is("live", "3", Some("shop of 3")));
        }
        done(&mut store, Act::Start);
        // Snapshot 3 is older than what the conversion has kept, and the data is from there.
        assert_eq!(state(&store).fell_back.unwrap().to, 3);
        assert_eq!(now(&store), is("live", "2", None));
    }
}

#[test]
fn a_subvolume_in_the_data_stays_behind_only_where_what_is_live_has_none_in_its_place() {
    let mut store = behind(shop());
    store.edit(|world, _| {
        let live = world.datasets.get_mut(&LIVE).unwrap();
        let inner = Content::Nested(Uuid([66; 16]));
        live.tree.insert("inner".to_owned(), inner);
    });
    let (mut records, plan) = (
        Records::open(&store).unwrap(),
        planned(&store, &Intent::Convert, REFUSE),
    );
    let mut hands = Hands {
        fill: &mut no_image,
        convert: &mut convert,
    };
    let did = execute_by(&mut store, &mut records, &plan, 1, &mut hands, &mut |_| {}).unwrap();
    let all = |place| store.nested(place).unwrap().len();
    assert_eq!((all(LIVE), all(Place::Snapshot(plan.id, DATA))), (1, 1));
    assert!(did.left_behind.is_empty(), "{:?}", did.left_behind);
    // A reset makes data without one.
    let plan = planned(&store, &Intent::ResetConfig { data: true }, REFUSE);
    let did = execute_by(&mut store, &mut records, &plan, 1, &mut hands, &mut |_| {}).unwrap();
    assert_eq!(did.left_behind.len(), 1);
}
