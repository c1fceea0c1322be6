//! What a request agrees to is what was shown: a loss that came into the plan afterwards is not carried out.
//!
//! As in `fence.rs`: what is live writes state 3 and ships the converters, snapshot 2 writes 2 and snapshot 1 writes 1.

use super::acts::Act;
use super::fence::{LIVE, booted, converter, done, is, now, shop, state, writes};
use super::prepared::prepared;
use crate::fence::names::Version;
use crate::fence::tests::{declare, label};
use crate::policy::refusal::Refusal;
use crate::record::state::{Consent, Verb};
use crate::store::Store;
use crate::store::memory::Memory;
use crate::store::place::File;

const BACK: Verb = Verb::Rollback(Some(2));
const CONVERT: Consent = Consent::Convert;
const UNSEEN: Refusal = Refusal::Unseen(Version::Snapshot(2));

/// What leads from 3 to 2 loses something, or does not.
fn down(store: &mut Memory, lossless: bool) {
    let text = writes("3") + &converter("3", "2", lossless, "/usr/bin/down");
    declare(store, Version::Live, &text);
}

/// Snapshot 2 is asked for with consent to conversions, when its only way loses something or does not.
fn asked(lossless: bool) -> Memory {
    let mut store = shop();
    down(&mut store, lossless);
    done(&mut store, Act::RequestAgreed(BACK, CONVERT));
    assert_eq!(state(&store).request.unwrap().loss, !lossless);
    store
}

/// What a start says that refuses it, and changes nothing.
fn refused(store: &mut Memory) -> Vec<Refusal> {
    let before = now(store);
    let booted = booted(store, Act::Start);
    assert!(booted.errors.is_empty() && !booted.prompt, "{booted:?}");
    assert_eq!(now(store), before);
    assert_eq!(state(store).request, None);
    assert_eq!(store.read(File::Armed).unwrap(), None);
    // Said once.
    done(store, Act::Start);
    booted.refusals
}

#[test]
fn a_loss_that_was_not_shown_is_not_carried_out() {
    let mut store = asked(true);
    // The converter that was seen is gone; the one that is left loses something.
    down(&mut store, false);
    assert_eq!(refused(&mut store), [UNSEEN]);
    // Whoever sees it and asks again gets it.
    done(&mut store, Act::RequestAgreed(BACK, CONVERT));
    done(&mut store, Act::Start);
    assert_eq!(now(&store), is("2", "2", Some("shop of 2")));
}

#[test]
fn a_loss_that_was_shown_is_carried_out_and_so_is_less_than_that() {
    for by_then in [false, true] {
        let mut store = asked(false);
        down(&mut store, by_then);
        done(&mut store, Act::Start);
        assert_eq!(now(&store), is("2", "2", Some("shop of 2")));
    }
    // Without a loss it is what it always was.
    let mut store = asked(true);
    done(&mut store, Act::Start);
    assert_eq!(now(&store), is("2", "2", Some("shop of 2")));
}

#[test]
fn the_live_version_has_its_data_converted_with_a_loss_only_where_that_was_shown() {
    let up = |lossless| writes("3") + &converter("2", "3", lossless, "/usr/bin/up");
    let mut store = shop();
    label(&mut store, LIVE, "2");
    declare(&mut store, Version::Live, &up(true));
    done(&mut store, Act::RequestAgreed(Verb::Convert, CONVERT));
    declare(&mut store, Version::Live, &up(false));
    assert_eq!(refused(&mut store), [Refusal::Unseen(Version::Live)]);
    done(&mut store, Act::RequestAgreed(Verb::Convert, CONVERT));
    done(&mut store, Act::Start);
    assert_eq!(now(&store), is("live", "3", Some("shop of 3")));
}

#[test]
fn what_was_converted_already_is_not_taken_where_it_turns_out_to_lose_something() {
    let mut store = prepared();
    assert!(!state(&store).request.unwrap().loss);
    let text = writes("3") + &converter("3", "2", false, "/usr/bin/down");
    declare(
        &mut store,
        Version::Live,
        &text.replace("early = true\n", ""),
    );
    assert_eq!(refused(&mut store), [UNSEEN]);
}

#[test]
fn whoever_writes_it_at_grub_agrees_to_what_there_is() {
    let mut store = shop();
    down(&mut store, false);
    done(&mut store, Act::Agreed(BACK, CONVERT));
    assert_eq!(now(&store), is("2", "2", Some("shop of 2")));
    // Also where a request waits to which no loss was shown.
    let mut store = asked(true);
    down(&mut store, false);
    done(&mut store, Act::Agreed(BACK, CONVERT));
    assert_eq!(now(&store), is("2", "2", Some("shop of 2")));
}
