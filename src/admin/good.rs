//! `backstay mark-good`: the live system has proved itself.
//!
//! It ends what waited for that: the second phase of `reset everything` begins, which deletes what
//! the reset replaced. The state says so durably before the first deletion ([`Phase::Begun`]), and forgets
//! it after the last one: a power cut in between is made up for by the next call. Deletion is not
//! erasure: the disk may still hold what was deleted.
//!
//! Where somebody tried to go back and that did not come to pass, nothing is deleted until a person
//! says so.

use super::error::{Error, Result};
use super::request::disarm_stale;
use crate::record::Uuid;
use crate::record::journal::Journal;
use crate::record::layout::Part;
use crate::record::state::{Destroy, Phase};
use crate::store::place::{File, Place, STORE, Set};
use crate::store::{Store, StoreError};
use crate::transaction::records::Records;
use crate::transaction::{self, catalogue};
use serde::Serialize;

/// What `mark-good` did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Marked {
    /// Whether the live system is marked good now.
    pub good: bool,
    /// Why it was not marked.
    pub why_not: Option<String>,
    /// The snapshots that `reset everything` deleted.
    pub deleted: Vec<u32>,
    /// Whether the deletion is suspended, because somebody tried to go back.
    pub suspended: bool,
    /// What was in the way of a deletion; it is tried again by the next call.
    pub kept: Vec<String>,
}

/// Marks the live system good and finishes `reset everything`.
///
/// `booted` is the dataset that the running system was booted from, by its name in the top level;
/// `None` offline. `delete` says that a person wants the deletion to go on although somebody tried to
/// go back.
pub fn mark_good<S: Store>(
    store: &mut S,
    records: &mut Records,
    booted: Option<&str>,
    delete: bool,
    progress: &mut dyn FnMut(&str),
) -> Result<Marked> {
    if records.journal.value != Journal::Closed {
        return Err(transaction::Error::Open.into());
    }
    let live_name = store.layout().system.live.clone();
    if let Some(booted) = booted.filter(|booted| *booted != live_name.as_str()) {
        return Err(Error::NotLive(format!(
            "this system was booted from {booted}, the live one is {live_name}: nothing was marked"
        )));
    }
    let mut state = records.state.value.clone();
    if let Some(parked) = state.parked {
        return Ok(Marked {
            why_not: Some(format!(
                "a snapshot is booted once; the next boot returns to the system parked as {parked}"
            )),
            ..Marked::default()
        });
    }
    let Some(live) = store.dataset(Place::Live(Part::System))? else {
        return Err(Error::NotLive(format!(
            "the live system {live_name} is missing"
        )));
    };
    let live = live.identity.uuid;
    if live != state.live.system {
        return Err(Error::NotLive(format!(
            "{live_name} is not the dataset that the state records ({} instead of {}): nothing was \
             marked; if it was put there on purpose, 'backstay init --repair' takes it over",
            live, state.live.system
        )));
    }
    state.good = Some(live);
    state.rebooted_for = None;
    // Somebody who asked for a change in the meantime may need what would be deleted.
    let asked = state.request.is_some();
    match &mut state.destroy {
        Some(destroy)
            if destroy.live == live && !asked && (destroy.phase == Phase::Waits || delete) =>
        {
            destroy.phase = Phase::Begun;
        }
        _ => {}
    }
    let suspended = state
        .destroy
        .is_some_and(|destroy| destroy.phase == Phase::Suspended);
    let destroy = state
        .destroy
        .filter(|destroy| destroy.phase == Phase::Begun);
    records.state.write(store, state)?;
    let mut marked = Marked {
        good: true,
        suspended,
        ..Marked::default()
    };
    if let Some(destroy) = destroy {
        finish(store, records, destroy, &mut marked, progress)?;
    }
    disarm_stale(store, records)?;
    Ok(marked)
}

/// Deletes every snapshot up to the recorded id, lets the history forget them, and closes the
/// second phase. One that cannot be deleted does not keep the others, nor the machine from changing:
/// it can be promoted no more, and the next call tries it again.
fn finish<S: Store>(
    store: &mut S,
    records: &mut Records,
    destroy: Destroy,
    marked: &mut Marked,
    progress: &mut dyn FnMut(&str),
) -> Result<()> {
    let spared = spared(store)?;
    for id in catalogue::ids(store)? {
        if id > destroy.up_to {
            continue;
        }
        progress(&format!("deleting snapshot {id}"));
        match delete(store, id, &spared) {
            Ok(()) => marked.deleted.push(id),
            Err(error) => marked.kept.push(format!("snapshot {id}: {error}")),
        }
    }
    store.sync()?;
    let mut state = records.state.value.clone();
    state.destroy = match marked.kept.is_empty() {
        true => None,
        false => Some(Destroy {
            phase: Phase::Waits,
            ..destroy
        }),
    };
    state.older.retain(|id| *id > destroy.up_to);
    state.newer.retain(|id| *id > destroy.up_to);
    Ok(records.state.write(store, state)?)
}

/// UUIDs that are never deleted, whatever a record says: what is live, the factory, the templates.
fn spared<S: Store>(store: &S) -> Result<Vec<Uuid>> {
    let mut spared = Vec::new();
    for part in store.layout().all() {
        for place in [
            Place::Live(part),
            Place::Factory(part),
            Place::Template(part),
        ] {
            // A template of the system, say, has no place.
            if place.path(store.layout()).is_none() {
                continue;
            }
            match store.dataset(place) {
                Ok(Some(dataset)) => spared.push(dataset.identity.uuid),
                // Something that is no dataset has no UUID.
                Ok(None) | Err(StoreError::Place(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(spared)
}

/// Deletes one snapshot: GRUB forgets it first; without its manifest nothing promotes what is left of
/// it; then its datasets, as many as possible, then its directory.
fn delete<S: Store>(store: &mut S, id: u32, spared: &[Uuid]) -> Result<()> {
    let set = Set::Snapshot(id);
    strangers(store.remove(File::MenuCfg(set)))?;
    strangers(store.remove(File::Manifest(set)))?;
    let mut failed = None;
    for part in store.layout().all() {
        if let Err(error) = destroy(store, set.place(part), spared) {
            failed = failed.or(Some(error));
        }
    }
    match failed {
        Some(error) => Err(error),
        None => strangers(store.remove_directory(id)),
    }
}

/// What lies in the way and is not what the store puts there: it is somebody's, and no further call
/// deletes it.
fn strangers<T>(result: std::result::Result<T, StoreError>) -> Result<T> {
    result.map_err(|error| match error {
        StoreError::Place(what) => Error::Destroy(format!(
            "{what}, which backstay did not make: move it out of {STORE}"
        )),
        error => error.into(),
    })
}

fn destroy<S: Store>(store: &mut S, place: Place, spared: &[Uuid]) -> Result<()> {
    let Some(dataset) = strangers(store.dataset(place))? else {
        return Ok(());
    };
    let uuid = dataset.identity.uuid;
    if spared.contains(&uuid) {
        return Err(Error::Destroy(format!("{uuid} is in use elsewhere")));
    }
    Ok(store.destroy(place, uuid)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::request::{attempted, cancel, submit};
    use crate::policy::Health;
    use crate::policy::intent::Intent;
    use crate::record::state::Verb;
    use crate::store::memory::Memory;
    use crate::transaction::execute::{ARMED, execute};
    use crate::transaction::model::machine;
    use crate::transaction::plan::plan;

    /// The machine after `reset everything`, which was not marked good yet.
    fn reset() -> (Memory, Records) {
        let (mut store, mut records) = machine();
        let manifest = catalogue::manifest(&store, Set::Factory).unwrap();
        let plan = plan(
            &Intent::ResetEverything,
            &records.state.value,
            store.layout(),
            manifest.as_ref(),
            1,
        );
        execute(&mut store, &mut records, &plan, 1, &mut |_| {}).unwrap();
        store.sync().unwrap();
        (store, records)
    }

    fn check_finished(store: &Memory, what: &str) {
        let state = Records::open(store).unwrap().state.value;
        assert_eq!(store.ids().unwrap(), Vec::<u32>::new(), "{what}");
        assert_eq!(state.destroy, None, "{what}");
        assert!(state.older.is_empty() && state.newer.is_empty(), "{what}");
        for part in store.layout().all() {
            assert!(
                store.dataset(Place::Live(part)).unwrap().is_some(),
                "{what}"
            );
        }
        let factory = catalogue::health(store, Set::Factory).unwrap();
        assert_eq!(factory, Health::Sound, "{what}");
        assert!(
            store
                .dataset(Place::Template(Part::Data(0)))
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn a_good_system_ends_reset_everything_and_keeps_factory_and_templates() {
        let (mut store, mut records) = reset();
        let marked = mark_good(
            &mut store,
            &mut records,
            Some("@rootfs"),
            false,
            &mut |_| {},
        )
        .unwrap();
        assert_eq!((marked.good, marked.deleted), (true, vec![1, 2, 3]));
        check_finished(&store, "uncut");
    }

    #[test]
    fn a_power_cut_at_any_point_is_made_up_for_by_the_next_call() {
        for power in 0.. {
            let (mut store, mut records) = reset();
            store.power = Some(power);
            let ended = mark_good(&mut store, &mut records, None, false, &mut |_| {})
                .is_ok_and(|marked| marked.kept.is_empty());
            for mut left in store.after_power_cut() {
                let mut records = Records::open(&left).unwrap();
                mark_good(&mut left, &mut records, None, false, &mut |_| {}).unwrap();
                check_finished(&left, &format!("cut at {power}"));
            }
            if ended {
                assert!(power > 10);
                return;
            }
        }
    }

    #[test]
    fn one_that_cannot_be_deleted_is_named_and_tried_again_and_stands_in_the_way_of_nothing() {
        let (mut store, mut records) = reset();
        let stuck = Place::Snapshot(2, Part::System);
        let uuid = store.dataset(stuck).unwrap().unwrap().identity.uuid;
        let default = store.world().default;
        store.edit(|world, _| world.default = Some(uuid));
        for deleted in [&[1, 3][..], &[]] {
            let marked = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
            assert_eq!(marked.deleted, deleted);
            let [kept] = &marked.kept[..] else {
                panic!("{:?}", marked.kept);
            };
            assert!(kept.starts_with("snapshot 2: "), "{kept}");
            assert!(kept.contains("default subvolume"), "{kept}");
            assert_eq!(catalogue::ids(&store).unwrap(), [2]);
            assert_eq!(
                store.dataset(Place::Snapshot(2, Part::Config)).unwrap(),
                None
            );
            // Nothing promotes it, and everything else can be asked for.
            for (verb, refused) in [
                (Verb::Rollback(Some(2)), true),
                (Verb::Rollback(None), true),
                (Verb::ResetConfig { data: false }, false),
                (Verb::ResetEverything, false),
            ] {
                let asked = crate::admin::request::preview(&store, &records, verb, 0);
                assert_eq!(asked.is_err(), refused, "{verb}: {asked:?}");
            }
            records = Records::open(&store).unwrap();
        }
        store.edit(|world, _| world.default = default);
        let marked = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
        assert_eq!(marked.deleted, [2]);
        check_finished(&store, "the third time");
    }

    #[test]
    fn what_a_stranger_put_in_the_way_is_named_with_what_to_do() {
        let what = "@backstay/snapshots/2/system is not a subvolume but an ordinary directory";
        let error = strangers::<()>(Err(StoreError::Place(what.to_owned()))).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{what}, which backstay did not make: move it out of @backstay")
        );
        // What else stops a deletion has its remedy already, or is nobody's.
        let error = strangers::<()>(Err(StoreError::System("input/output error".to_owned())));
        assert_eq!(error.unwrap_err().to_string(), "input/output error");
    }

    #[test]
    fn going_back_before_the_mark_keeps_the_old_data() {
        let (mut store, mut records) = reset();
        let (to, id) = (3, 3);
        let manifest = catalogue::manifest(&store, Set::Snapshot(id)).unwrap();
        let plan = plan(
            &Intent::Rollback { to },
            &records.state.value,
            store.layout(),
            manifest.as_ref(),
            2,
        );
        let text = crate::transaction::explain::explain(&plan, store.layout()).to_string();
        assert!(text.contains("kept (snapshot 3), no longer"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 78), "{text}");
        for (verb, said) in [
            (Verb::ResetSystem { keep_config: true }, true),
            (Verb::ResetConfig { data: false }, false),
            (Verb::ResetEverything, false),
        ] {
            let shown = crate::admin::request::preview(&store, &records, verb, 0).unwrap();
            let text = shown.to_string();
            assert_eq!(text.contains("no longer deleted"), said, "{text}");
        }
        execute(&mut store, &mut records, &plan, 2, &mut |_| {}).unwrap();
        let marked = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
        assert_eq!(marked.deleted, Vec::<u32>::new());
        assert_eq!(catalogue::ids(&store).unwrap(), [1, 2, 3, 4]);
    }

    #[test]
    fn a_rollback_that_was_asked_for_before_the_mark_keeps_its_snapshot() {
        let (mut store, mut records) = reset();
        let link = crate::admin::request::no_spare;
        submit(
            &mut store,
            &mut records,
            Verb::Rollback(None),
            [1; 16],
            1,
            &link,
        )
        .unwrap();
        let marked = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
        assert_eq!((marked.good, marked.deleted), (true, Vec::new()));
        assert_eq!(catalogue::ids(&store).unwrap(), [1, 2, 3]);
        cancel(&mut store, &mut records).unwrap();
        mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
        check_finished(&store, "after cancel");
    }

    /// However an attempt to go back ends without doing it: what it wanted back stays.
    #[test]
    fn an_attempt_to_go_back_suspends_the_deletion_until_a_person_decides() {
        use crate::policy::Wish;
        use crate::transaction::model::boot::boot;
        let back = Verb::Rollback(None);
        let present = Wish::Change {
            verb: back,
            present: true,
        };
        let request = |store: &mut Memory, records: &mut Records| {
            submit(
                store,
                records,
                back,
                [1; 16],
                1,
                &crate::admin::request::no_spare,
            )
            .unwrap();
        };
        let suspended = |mut store: Memory, what: &str| {
            let mut records = Records::open(&store).unwrap();
            for _ in 0..2 {
                let marked = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
                assert!(marked.good && marked.suspended, "{what}: {marked:?}");
                assert!(marked.deleted.is_empty(), "{what}: {marked:?}");
            }
            assert_eq!(catalogue::ids(&store).unwrap(), [1, 2, 3], "{what}");
            // A request that is withdrawn leaves it to the person as before.
            request(&mut store, &mut records);
            cancel(&mut store, &mut records).unwrap();
            let marked = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
            assert!(marked.suspended, "{what}");
            let mut back = store.clone();
            assert!(boot(&mut back, present, &mut |_| {}).is_quiet(), "{what}");
            let state = Records::open(&back).unwrap().state.value;
            assert_eq!(state.destroy, None, "{what}");
            mark_good(&mut store, &mut records, None, true, &mut |_| {}).unwrap();
            check_finished(&store, what);
        };
        for requested in [true, false] {
            let wish = if requested { Wish::Boot } else { present };
            let asked = || {
                let (mut store, mut records) = reset();
                if requested {
                    request(&mut store, &mut records);
                }
                store
            };
            // The start is cut, and the next one undoes what it began.
            let mut undone = 0;
            for power in 1.. {
                let mut store = asked();
                let before = Records::open(&store).unwrap().state.seq();
                store.power = Some(power);
                let ended = boot(&mut store, wish, &mut |_| {}).is_quiet();
                for mut left in store.after_power_cut() {
                    let records = Records::open(&left).unwrap();
                    let began = records.journal.value != Journal::Closed;
                    let request = records.state.value.request.is_some();
                    if request || records.state.seq() == before {
                        continue;
                    }
                    boot(&mut left, Wish::Boot, &mut |_| {});
                    let state = Records::open(&left).unwrap().state.value;
                    if state.destroy.is_some() {
                        suspended(left, &format!("{requested}, cut at {power}"));
                        undone += usize::from(began);
                    }
                }
                if ended {
                    break;
                }
            }
            assert!(undone > 3, "{undone}");
            // It fails before it takes effect.
            let mut store = asked();
            let tree = root_without_modules(&mut store);
            let booted = boot(&mut store, wish, &mut |_| {});
            assert!(!booted.errors.is_empty(), "{booted:?}");
            root_again(&mut store, tree);
            suspended(store, &format!("{requested}, not done"));
        }
        // It is refused.
        let (mut store, _) = reset();
        let gone = Wish::Change {
            verb: Verb::Rollback(Some(77)),
            present: true,
        };
        assert!(!boot(&mut store, gone, &mut |_| {}).refusals.is_empty());
        suspended(store, "refused at GRUB");
        let (mut store, mut records) = reset();
        request(&mut store, &mut records);
        store.remove(File::Armed).unwrap();
        assert!(
            !boot(&mut store, Wish::Boot, &mut |_| {})
                .refusals
                .is_empty()
        );
        suspended(store, "refused");
        // No plan can be made of it.
        let (mut store, mut records) = reset();
        request(&mut store, &mut records);
        let mut state = Records::open(&store).unwrap().state.value;
        let next = core::mem::replace(&mut state.next_id, u32::MAX);
        records.state.write_anew(&mut store, state).unwrap();
        assert!(!boot(&mut store, Wish::Boot, &mut |_| {}).errors.is_empty());
        let mut records = Records::open(&store).unwrap();
        let mut state = records.state.value.clone();
        assert_eq!(state.request, None);
        state.next_id = next;
        records.state.write_anew(&mut store, state).unwrap();
        suspended(store, "no plan");
        // The command refuses to ask for it.
        let (mut store, mut records) = reset();
        let before = records.state.seq();
        attempted(&mut store, &mut records, Verb::Select(77)).unwrap();
        assert_eq!(records.state.seq(), before);
        attempted(&mut store, &mut records, Verb::Rollback(Some(77))).unwrap();
        attempted(&mut store, &mut records, Verb::Rollback(Some(77))).unwrap();
        assert_eq!(records.state.seq(), before + 1);
        suspended(store, "not asked for");
    }

    fn root_without_modules(store: &mut Memory) -> crate::store::memory::Tree {
        let mut before = Default::default();
        store.edit(|world, _| {
            let place = Place::Snapshot(3, Part::System);
            let tree = &mut world.datasets.get_mut(&place).unwrap().tree;
            before = (**tree).clone();
            tree.remove("lib/modules/6.12/modules.dep");
        });
        before
    }

    fn root_again(store: &mut Memory, before: crate::store::memory::Tree) {
        store.edit(|world, _| {
            let place = Place::Snapshot(3, Part::System);
            world.datasets.get_mut(&place).unwrap().tree = before.into();
        });
    }

    #[test]
    fn only_the_recorded_live_system_is_marked() {
        let (mut store, mut records) = machine();
        let other = mark_good(&mut store, &mut records, Some("@other"), false, &mut |_| {});
        assert!(matches!(other, Err(Error::NotLive(_))));
        let mut state = records.state.value.clone();
        state.live.system = Uuid([7; 16]);
        records.state.write(&mut store, state).unwrap();
        let error = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("nothing was marked"), "{error}");
        assert!(error.to_string().contains("init --repair"), "{error}");
        assert_eq!(Records::open(&store).unwrap().state.value.good, None);
    }

    #[test]
    fn a_snapshot_that_is_booted_once_is_not_marked() {
        let (mut store, mut records) = machine();
        let mut state = records.state.value.clone();
        state.parked = Some(2);
        records.state.write(&mut store, state).unwrap();
        let marked = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
        assert!(!marked.good && marked.why_not.is_some());
    }

    #[test]
    fn a_hint_that_is_left_over_goes() {
        let (mut store, mut records) = machine();
        store.replace(File::Armed, ARMED).unwrap();
        mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
        assert_eq!(store.read(File::Armed).unwrap(), None);
    }
}
