//! No room, and operations that fail with or without their effect, at every point of every verb and
//! of every recovery, and a power cut at every point after that.

use super::acts::{Act, Ended, acts};
use super::boot::{Booted, boot, make_plan};
use super::explore::{Milestones, Report, record, settle};
use super::form::Form;
use super::machine;
use super::verbs::fresh;
use crate::policy::Wish;
use crate::policy::intent::Intent;
use crate::record::journal::Journal;
use crate::record::layout::Part;
use crate::record::slots::Slots;
use crate::record::state::{Consent, Request, Verb};
use crate::store::Store;
use crate::store::memory::{Cuts, Fault, Memory, Tree};
use crate::store::place::{File, Place};
use crate::transaction::Error;
use crate::transaction::execute::execute;
use crate::transaction::records::{Records, read_journal};
use std::collections::BTreeMap;

/// How an error of the engine ends that comes after the commit.
const RESTART: &str = "restart to go on";
const FAULTS: [Fault; 3] = [Fault::NotDone, Fault::Done, Fault::Garbled];

/// Disks and what is done on them: each act on the machine, a return, a verb at the same start as a
/// return, a first boot, the second phase of a reset.
fn cases() -> Vec<(Memory, Act)> {
    let mut cases: Vec<(Memory, Act)> = acts().into_iter().map(|act| (machine().0, act)).collect();
    let mut parked = machine().0;
    Act::Present(Verb::Select(1)).run(&mut parked, &mut |_| {});
    let mut asked = machine().0;
    Act::Request(Verb::ResetSystem { keep_config: true }).run(&mut asked, &mut |_| {});
    let mut reset = machine().0;
    Act::Present(Verb::ResetEverything).run(&mut reset, &mut |_| {});
    let mut kept = machine().0;
    Act::SnapshotWithData.run(&mut kept, &mut |_| {});
    cases.extend([
        (parked.clone(), Act::Start),
        (parked, Act::Present(Verb::Rollback(None))),
        (asked, Act::Start),
        (reset.clone(), Act::MarkGood),
        (reset, Act::Present(Verb::Rollback(None))),
        (fresh(), Act::Start),
        (machine().0, Act::SnapshotWithData),
        (kept, Act::PruneData),
    ]);
    cases
}

fn errors(ended: &Ended) -> Vec<String> {
    match ended {
        Ended::Booted(Booted { errors, .. }) => errors.iter().map(|it| it.to_string()).collect(),
        Ended::Command(result) => result
            .as_ref()
            .err()
            .iter()
            .map(|it| it.to_string())
            .collect(),
    }
}

/// The live set after one more start.
fn booted_once(after: &Memory) -> BTreeMap<Part, Tree> {
    let mut store = after.clone();
    boot(&mut store, Wish::Boot, &mut |_| {});
    Form::of(&store).live()
}

/// What holds right after a run that met an error, before any restart.
fn check_at_once(
    (before, after): (&Memory, &Memory),
    milestones: &Milestones,
    store: &Memory,
    ended: &Ended,
) {
    let texts = errors(ended);
    let live = Form::of(store).live();
    let old = Form::of(before).live();
    let late = texts.iter().any(|text| text.contains(RESTART));
    let whole = milestones.has_live(&live);
    if let Ended::Booted(booted) = ended {
        assert!(whole || late || booted.errors.is_empty(), "{texts:?}");
        if late && !whole && live.contains_key(&Part::System) {
            assert!(booted.mixed && booted.prompt, "a mixed set would boot");
        }
    }
    if late {
        let mut store = store.clone();
        (store.fault, store.blind, store.full, store.full_from) = (None, None, None, None);
        let booted = boot(&mut store, Wish::Boot, &mut |_| {});
        assert!(booted.errors.is_empty(), "{texts:?}, then {booted:?}");
        let form = Form::of(&store);
        // What is booted once has returned by then; what was asked after a return has not come yet.
        let finished = form.live() != old || booted_once(after) == old;
        assert!(
            finished && milestones.has(&form),
            "the next start finishes it"
        );
    }
    if let Ok(Slots::Valid { value, .. }) = read_journal(store) {
        let armed = store.world().files.contains_key(&File::Armed);
        let closed = value == Journal::Closed;
        assert!(
            armed || closed,
            "a change is open without the hint: {texts:?}"
        );
    }
    if let Ok(records) = Records::open(store) {
        let waits = records.state.value.parked.is_some();
        let armed = store.world().files.contains_key(&File::Armed);
        assert!(armed || !waits, "what is parked waits without the hint");
    }
}

/// Runs an act once for each of its operations (or looks), with something set to fail there, and
/// settles every disk that is left.
fn each<F: Copy>(
    count: impl Fn(&Memory) -> usize,
    faults: &[F],
    set: impl Fn(&mut Memory, usize, F),
    mut see: impl FnMut(&Memory, Act, &Ended),
) -> Report {
    let mut sum = Report::default();
    for (before, act) in cases() {
        let (milestones, after, _) = Milestones::of(&before, act);
        let (plain, _, _) = record(&before, act, |_| {});
        let mut all = Cuts::default();
        for at in 0..count(&plain) {
            for fault in faults {
                let (store, ended, cuts) = record(&before, act, |store| set(store, at, *fault));
                check_at_once((&before, &after), &milestones, &store, &ended);
                see(&store, act, &ended);
                for disk in cuts.found {
                    all.add(disk);
                }
            }
        }
        let report = settle(all, &milestones);
        report.expect_sound(&format!("{act:?}"));
        sum.add(report);
    }
    println!("{} disks, {} settle", sum.disks, sum.settled.len());
    sum
}

#[test]
fn an_error_at_any_operation_and_a_cut_after_it_leave_a_whole_machine() {
    let mut late = 0;
    let count = |store: &Memory| store.operations;
    let set = |store: &mut Memory, at, fault| store.fault = Some((at, fault));
    each(count, &FAULTS, set, |_, _, ended| {
        late += usize::from(errors(ended).iter().any(|text| text.contains(RESTART)));
    });
    assert!(late > 100, "{late} errors came after a commit");
}

#[test]
fn an_error_at_any_look_and_a_cut_after_it_leave_a_whole_machine() {
    let count = |store: &Memory| store.looks.get();
    each(
        count,
        &[()],
        |store, at, ()| store.blind = Some(at),
        |_, _, _| {},
    );
}

#[test]
fn a_file_system_that_is_full_from_any_operation_on_gives_up_its_ballast_and_succeeds() {
    let count = |store: &Memory| store.operations;
    let set = |store: &mut Memory, at, ()| store.full_from = Some((at, false));
    let mut given_up = 0;
    each(count, &[()], set, |store, act, ended| {
        assert_eq!(errors(ended), [""; 0], "{act:?}");
        given_up += usize::from(!store.world().ballast);
    });
    assert!(given_up > 100, "{given_up}");
}

#[test]
fn a_file_system_without_any_room_from_any_operation_on_keeps_a_whole_machine() {
    let count = |store: &Memory| store.operations;
    let set = |store: &mut Memory, at, ()| store.full_from = Some((at, true));
    each(count, &[()], set, |store, _, _| {
        // It is still full at the next start, and at the one after.
        let mut store = store.clone();
        for _ in 0..2 {
            boot(&mut store, Wish::Boot, &mut |_| {});
        }
    });
}

#[test]
fn an_error_at_any_operation_of_a_recovery_leaves_a_whole_machine() {
    let mut sum = Report::default();
    for (before, act) in cases() {
        let (milestones, _, _) = Milestones::of(&before, act);
        let (_, _, cuts) = record(&before, act, |_| {});
        let mut all = Cuts::default();
        for disk in cuts.found {
            for at in 0.. {
                let mut store = disk.clone();
                store.cuts = Some(Box::default());
                store.fault = Some((at, FAULTS[at % 3]));
                boot(&mut store, Wish::Boot, &mut |_| {});
                store.note_cut();
                for disk in store.cuts.take().unwrap_or_default().found {
                    all.add(disk);
                }
                if store.operations <= at {
                    break;
                }
            }
        }
        let report = settle(all, &milestones);
        report.expect_sound(&format!("{act:?}"));
        sum.add(report);
    }
    println!("{} disks, {} settle", sum.disks, sum.settled.len());
}

#[test]
fn a_file_system_without_any_room_keeps_the_old_live_set_and_closes_the_journal() {
    for intent in [Intent::Rollback { to: 2 }, Intent::ResetEverything] {
        let (before, records) = machine();
        let (mut full, mut records) = (before.clone(), records);
        full.full = Some(true);
        let plan = make_plan(&intent, &full, &records.state.value, Consent::Refuse).unwrap();
        let error = execute(&mut full, &mut records, &plan, 1000, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("full"), "{error}");
        assert_eq!(Form::of(&full).live(), Form::of(&before).live());
        assert_eq!(records.journal.value, Journal::Closed);
    }
}

#[test]
fn what_is_undone_on_a_full_file_system_gives_up_the_ballast_and_closes_the_journal() {
    let mut given_up = 0;
    for at in 0.. {
        let (mut store, mut records) = machine();
        store.edit(|world, _| {
            let place = Place::Snapshot(2, Part::System);
            let tree = &mut world.datasets.get_mut(&place).unwrap().tree;
            tree.remove("lib/modules/6.12/modules.dep");
        });
        let ids = store.ids().unwrap();
        store.operations = 0;
        store.full_from = Some((at, false));
        let intent = Intent::Rollback { to: 2 };
        let plan = make_plan(&intent, &store, &records.state.value, Consent::Refuse).unwrap();
        let error = execute(&mut store, &mut records, &plan, 1000, &mut |_| {}).unwrap_err();
        assert!(
            matches!(error, Error::Unbootable(_)),
            "full at {at}: {error}"
        );
        assert_eq!(records.journal.value, Journal::Closed, "full at {at}");
        assert_eq!(store.ids().unwrap(), ids, "full at {at}");
        given_up += usize::from(!store.world().ballast);
        if store.operations <= at {
            break;
        }
    }
    assert!(given_up > 3, "{given_up}");
}

#[test]
fn a_dataset_that_the_journal_does_not_know_stops_recovery_and_nothing_is_touched() {
    let (before, _) = machine();
    let old = Form::of(&before);
    let (_, _, cuts) = record(&before, Act::Present(Verb::Rollback(None)), |_| {});
    let mut tried = 0;
    for mut left in cuts.found {
        let open = Records::open(&left).unwrap().journal.value;
        if !matches!(open, Journal::Committing(_)) || Form::of(&left).live() != old.live() {
            continue;
        }
        left.put(Place::Live(Part::System), super::root("a stranger"));
        let world = left.world().clone();
        let booted = boot(&mut left, Wish::Boot, &mut |_| {});
        assert!(matches!(booted.errors.as_slice(), [Error::Third { .. }]));
        assert_eq!(*left.world(), world);
        tried += 1;
    }
    assert!(tried > 0);
}

#[test]
fn a_request_is_taken_out_before_anything_is_done() {
    let (mut store, mut records) = machine();
    let mut state = records.state.value.clone();
    let verb = Verb::Rollback(None);
    state.request = Some(Request {
        ticket: [7; 16],
        verb,
        consent: Default::default(),
        loss: false,
        created: 0,
        prepared: Default::default(),
    });
    records.state.write(&mut store, state).unwrap();
    store.full = Some(true);
    let plan = make_plan(
        &Intent::Rollback { to: 2 },
        &store,
        &records.state.value,
        Consent::Refuse,
    )
    .unwrap();
    execute(&mut store, &mut records, &plan, 1000, &mut |_| {}).unwrap_err();
    assert_eq!(Records::open(&store).unwrap().state.value.request, None);
}
