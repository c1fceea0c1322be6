//! `backstay snapshot`: what is live, sealed under a new id.
//!
//! In the running system the copies are read-only from their first moment, so that no writer slips
//! in between copy and seal. With the data, each dataset is copied at one instant, one right after the
//! other: each copy is what a power cut at its instant would have left of that dataset, and the instants lie as far apart
//! as the disk takes to write down what came in between. All of it is one transaction: there is the whole snapshot or none.

use super::error::Result;
use super::request::idle;
use crate::policy::intent::Intent;
use crate::record::manifest::title;
use crate::store::Store;
use crate::store::place::Place;
use crate::transaction::catalogue;
use crate::transaction::execute::execute;
use crate::transaction::plan::{Step, plan};
use crate::transaction::records::Records;

/// Makes the snapshot, without the data, and returns its id. On disk on return; a power cut before that
/// leaves nothing, or a whole snapshot.
pub fn snapshot<S: Store>(
    store: &mut S,
    records: &mut Records,
    text: &str,
    now: u64,
    progress: &mut dyn FnMut(&Step),
) -> Result<u32> {
    take(store, records, text, false, now, progress)
}

/// The same with all data datasets, which stay aside: going back to the snapshot leaves the live data alone, and returns to
/// the kept one where somebody agrees to that, or where what became live since was never marked good.
pub fn snapshot_with_data<S: Store>(
    store: &mut S,
    records: &mut Records,
    text: &str,
    now: u64,
    progress: &mut dyn FnMut(&Step),
) -> Result<u32> {
    take(store, records, text, true, now, progress)
}

/// The subvolumes inside live data, by their paths below the top level: no copy of the data has them.
pub fn left_out<S: Store>(store: &S) -> Result<Vec<String>> {
    let layout = store.layout();
    let mut paths = Vec::new();
    for part in layout.data_parts() {
        let place = Place::Live(part);
        let path = place.path(layout).unwrap_or_default();
        let nested = store.nested(place)?;
        paths.extend(nested.iter().map(|it| format!("{path}/{}", it.name())));
    }
    Ok(paths)
}

fn take<S: Store>(
    store: &mut S,
    records: &mut Records,
    text: &str,
    data: bool,
    now: u64,
    progress: &mut dyn FnMut(&Step),
) -> Result<u32> {
    idle(records)?;
    let title = title(text);
    let intent = Intent::Snapshot { title, data };
    let state = catalogue::with_free_id(store, &records.state.value)?;
    let plan = plan(&intent, &state, store.layout(), None, now);
    let id = plan.id;
    execute(store, records, &plan, now, progress)?;
    store.sync()?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::error::Error;
    use crate::admin::request::{no_spare, settle, submit};
    use crate::policy::Health;
    use crate::record::state::Verb;
    use crate::store::place::{File, Set};
    use crate::transaction::catalogue::{health, manifest};
    use crate::transaction::model::machine;

    #[test]
    fn a_snapshot_is_sound_and_lies_before_the_live_system() {
        let (mut store, mut records) = machine();
        let live = records.state.value.live;
        let id = snapshot(&mut store, &mut records, "before $work", 5, &mut |_| {}).unwrap();
        assert_eq!(id, 3);
        assert_eq!(health(&store, Set::Snapshot(3)).unwrap(), Health::Sound);
        let manifest = manifest(&store, Set::Snapshot(3)).unwrap().unwrap();
        assert_eq!(manifest.title, "before _work");
        let state = &records.state.value;
        assert_eq!(state.older.as_slice(), &[1, 2, 3]);
        assert_eq!((state.live, state.next_id), (live, 4));
        assert_eq!(store.read(File::Armed).unwrap(), None);
    }

    #[test]
    fn one_with_the_data_has_it_aside_and_names_what_it_lacks() {
        use crate::record::Uuid;
        use crate::record::layout::Part;
        use crate::store::memory::Content;
        let (mut store, mut records) = machine();
        let data = Place::Live(Part::Data(0));
        store.edit(|world, _| {
            let tree = &mut world.datasets.get_mut(&data).unwrap().tree;
            tree.insert("inside".into(), Content::Nested(Uuid([8; 16])));
        });
        assert_eq!(left_out(&store).unwrap(), ["@data/inside"]);
        let id = snapshot_with_data(&mut store, &mut records, "x", 5, &mut |_| {}).unwrap();
        assert_eq!(health(&store, Set::Snapshot(id)).unwrap(), Health::Sound);
        let manifest = manifest(&store, Set::Snapshot(id)).unwrap().unwrap();
        assert!(manifest.identity(data.part()).is_some() && !manifest.brings(data.part()));
        let world = store.world();
        let (live, kept) = (
            &world.datasets[&data],
            &world.datasets[&Place::Snapshot(id, data.part())],
        );
        assert!(kept.dataset.read_only && !live.dataset.read_only);
        assert_eq!(kept.labels, live.labels);
        // A dataset that is missing is said before anything is made.
        store.edit(|world, _| drop(world.datasets.remove(&data)));
        let error = snapshot_with_data(&mut store, &mut records, "", 5, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("@data"), "{error}");
        assert_eq!(Records::open(&store).unwrap().state.value.next_id, id + 1);
    }

    #[test]
    fn a_waiting_request_is_not_lost_to_a_snapshot() {
        let (mut store, mut records) = machine();
        submit(
            &mut store,
            &mut records,
            Verb::Rollback(None),
            Default::default(),
            [1; 16],
            1,
            &no_spare,
        )
        .unwrap();
        let error = snapshot(&mut store, &mut records, "", 5, &mut |_| {});
        assert!(matches!(error, Err(Error::Waiting(Verb::Rollback(None)))));
        assert!(Records::open(&store).unwrap().state.value.request.is_some());
    }

    #[test]
    fn what_an_interrupted_snapshot_left_is_settled_by_the_next_command() {
        for power in 0..40 {
            let (mut store, mut records) = machine();
            store.power = Some(power);
            if snapshot(&mut store, &mut records, "x", 5, &mut |_| {}).is_ok() {
                assert!(power > 10);
                return;
            }
            for mut left in store.after_power_cut() {
                let mut records = Records::open(&left).unwrap();
                settle(&mut left, &mut records).unwrap();
                let id = snapshot(&mut left, &mut records, "x", 5, &mut |_| {}).unwrap();
                assert_eq!(health(&left, Set::Snapshot(id)).unwrap(), Health::Sound);
                assert_eq!(health(&left, Set::Snapshot(2)).unwrap(), Health::Sound);
            }
        }
        panic!("it never ended");
    }
}
