//! A checker that has never failed proves nothing: stores that break their promises are caught.

use super::acts::Act;
use super::explore::{Milestones, Report, record, settle};
use super::machine;
use crate::record::state::Verb;
use crate::store::memory::{Broken, Memory};

/// What the model finds in a verb on a store that breaks its promises in this way.
fn found(how: Broken, verb: Verb) -> Report {
    let act = Act::Present(verb);
    let mut before: Memory = machine().0;
    let (milestones, _, _) = Milestones::of(&before, act);
    before.broken = Some(how);
    let (_, _, cuts) = record(&before, act, |_| {});
    settle(cuts, &milestones)
}

#[test]
fn a_store_that_renames_twice_instead_of_exchanging_is_caught() {
    for verb in [Verb::Rollback(None), Verb::ResetConfig { data: true }] {
        let report = found(Broken::Renames, verb);
        println!("{}, {:?}", report.failed, report.failures.first());
        assert!(report.failed > 0, "{verb:?}");
    }
}

#[test]
fn a_store_whose_sync_does_nothing_is_caught() {
    let report = found(Broken::DeafSync, Verb::Rollback(None));
    println!("{}, {:?}", report.failed, report.failures.first());
    assert!(report.failed > 0);
}

#[test]
fn a_record_that_is_on_disk_before_the_exchange_is_caught() {
    let report = found(Broken::LateExchange, Verb::Rollback(None));
    println!("{}, {:?}", report.failed, report.failures.first());
    assert!(report.failed > 0);
}
