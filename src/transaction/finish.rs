//! What follows the commit record: the exchanges, the seal, the state. Every step finds out
//! whether it was done already, so the same code runs the first time and after a power cut.

use super::check;
use super::execute::Done;
use super::factory::{self, uuid_at};
use super::plan::Step;
use super::records::Records;
use super::recover::{disarm, disarm_known};
use super::{Error, named, prepared};
use crate::record::journal::{Committing, Journal, Label, Outcome, Swap};
use crate::record::layout::{MAX_DATA, Part};
use crate::record::manifest::{Kind, Manifest, Member};
use crate::record::{Identity, Uuid, block};
use crate::store::place::{File, Place, Set};
use crate::store::{Carried, Result as StoreResult, Store, StoreError};
use heapless::Vec as Bounded;

/// Runs an operation; on a full file system gives up the ballast and runs it once more.
pub fn with_ballast<S: Store, T>(
    store: &mut S,
    mut operation: impl FnMut(&mut S) -> StoreResult<T>,
) -> StoreResult<T> {
    match operation(store) {
        Err(StoreError::Full(_)) if store.give_up_ballast()? => {
            store.sync()?;
            operation(store)
        }
        result => result,
    }
}

/// Finishes the transaction whose commit record is in the journal.
pub fn finish<S: Store>(
    store: &mut S,
    records: &mut Records,
    progress: &mut dyn FnMut(&Step),
) -> Result<Done, Error> {
    let Journal::Committing(committing) = records.journal.value.clone() else {
        return Ok(Done::default());
    };
    if is_recorded(records, &committing) {
        close(store, records, &committing, progress)?;
        // The record may be an older copy of itself: what else was begun is still looked for.
        disarm(store, records)?;
        prepared::tidied(store, records);
        return Ok(Done::default());
    }
    known(store, &committing)?;
    let left_behind = match &committing.outcome {
        Outcome::Factory(_) => Vec::new(),
        _ => exchange_live(store, &committing, progress)?,
    };
    match &committing.outcome {
        Outcome::Sealed(label) => {
            progress(&Step::Seal(committing.id));
            seal(store, &committing, label)?;
        }
        Outcome::Parked(label) => {
            progress(&Step::Park(committing.id));
            // By these the return knows what it has exchanged already, should the journal be lost.
            let manifest = Manifest {
                members: members(store, committing.id, |store, place| {
                    Ok(store.dataset(place)?.map(|dataset| dataset.identity))
                })?,
                ..manifest(store, committing.id, Kind::Parked, label)?
            };
            write_manifest(store, Set::Snapshot(committing.id), &manifest)?;
        }
        Outcome::Nothing => {
            with_ballast(store, |store| store.remove_directory(committing.id))?;
        }
        Outcome::Factory(label) => factory::replace(store, &committing, label, progress)?,
    }
    store.sync()?;
    progress(&Step::Record);
    // A first boot is known by a state that was never written: making its factory writes none.
    let never = matches!(committing.outcome, Outcome::Factory(_))
        && committing.after.live.system == Uuid::NONE;
    if !never {
        records.state.write(store, committing.after.clone())?;
    }
    close(store, records, &committing, progress)?;
    // This change is the newest one and is known to the end: whatever lies under later numbers is
    // somebody else's.
    disarm_known(store, records)?;
    prepared::tidied(store, records);
    Ok(Done {
        left_behind,
        ..Done::default()
    })
}

/// The exchanges of live datasets, and what follows from them. Gives [`Done::left_behind`].
fn exchange_live<S: Store>(
    store: &mut S,
    committing: &Committing,
    progress: &mut dyn FnMut(&Step),
) -> Result<Vec<String>, Error> {
    for swap in &committing.swaps {
        progress(&Step::Exchange {
            live: swap.live,
            staged: swap.staged,
        });
        exchange(store, swap)?;
    }
    for swap in committing.swaps.iter().filter(|swap| swap.old.is_some()) {
        if swap.live.part() == Part::System && store.dataset(swap.staged)?.is_some() {
            with_ballast(store, |store| store.follow_default(swap.staged, swap.live))?;
        }
    }
    carry_nested(store, committing, progress)
}

/// Whether the state has this transaction already. Everything before that was on disk by then; doing
/// it again would undo what came since, if the journal is an older copy of itself.
fn is_recorded(records: &Records, committing: &Committing) -> bool {
    let state = &records.state.value;
    let given_out = committing.id < state.next_id;
    match committing.outcome {
        Outcome::Nothing => records.state.seq() > 0,
        Outcome::Parked(_) | Outcome::Factory(_) => given_out,
        // A return has the number of what is parked.
        Outcome::Sealed(_) => given_out && state.parked != Some(committing.id),
    }
}

/// What follows the state's record, but for the hint.
fn close<S: Store>(
    store: &mut S,
    records: &mut Records,
    committing: &Committing,
    progress: &mut dyn FnMut(&Step),
) -> Result<(), Error> {
    if committing.outcome == Outcome::Nothing {
        store.remove(File::FirstBoot)?;
        store.sync()?;
    }
    progress(&Step::Disarm);
    records.journal.write(store, Journal::Closed)
}

/// Before anything is touched: every live place holds the old dataset or the new one.
fn known<S: Store>(store: &S, committing: &Committing) -> Result<(), Error> {
    for swap in &committing.swaps {
        let live = uuid_at(store, swap.live)?;
        if live != Some(swap.new) && live != swap.old {
            let place = swap.live.path(store.layout()).unwrap_or_default();
            return Err(Error::Third {
                place,
                found: named(live),
            });
        }
    }
    Ok(())
}

fn exchange<S: Store>(store: &mut S, swap: &Swap) -> Result<(), Error> {
    let live = store
        .dataset(swap.live)?
        .map(|dataset| dataset.identity.uuid);
    if live == Some(swap.new) {
        return Ok(());
    }
    let staged = store
        .dataset(swap.staged)?
        .map(|dataset| dataset.identity.uuid);
    if staged != Some(swap.new) {
        let place = swap.staged.path(store.layout()).unwrap_or_default();
        return Err(Error::Third {
            place,
            found: named(staged),
        });
    }
    with_ballast(store, |store| match swap.old {
        Some(_) => store.exchange(swap.live, swap.staged),
        None => store.rename(swap.staged, swap.live),
    })?;
    store.sync()?;
    Ok(())
}

fn carry_nested<S: Store>(
    store: &mut S,
    committing: &Committing,
    progress: &mut dyn FnMut(&Step),
) -> Result<Vec<String>, Error> {
    let mut left_behind = Vec::new();
    for swap in committing.swaps.iter().filter(|swap| swap.old.is_some()) {
        if store.dataset(swap.staged)?.is_none() {
            continue;
        }
        let carries = committing.carries_nested && swap.live.part() == Part::System;
        let all = store.nested(swap.staged)?;
        if carries && !all.is_empty() {
            progress(&Step::CarryNested);
        }
        // Data that was converted, or comes back, has its own.
        let has_own = match swap.live.part() {
            Part::Data(_) if !all.is_empty() => store.nested(swap.live)?,
            _ => Vec::new(),
        };
        for nested in &all {
            // What lies inside another nested subvolume travels with it.
            let inside = |other: &crate::store::Nested| {
                nested
                    .path
                    .strip_prefix(other.path.as_slice())
                    .is_some_and(|rest| rest.starts_with(b"/"))
            };
            if all.iter().any(inside) || has_own.iter().any(|it| it.path == nested.path) {
                continue;
            }
            let carried = match carries {
                true => with_ballast(store, |store| store.carry(nested, swap.staged, swap.live))?,
                false => Carried::Stayed,
            };
            if carried == Carried::Stayed {
                let dataset = swap.staged.path(store.layout()).unwrap_or_default();
                left_behind.push(format!("{dataset}/{}", nested.name()));
            }
        }
        store.sync()?;
    }
    Ok(left_behind)
}

fn seal<S: Store>(store: &mut S, committing: &Committing, label: &Label) -> Result<(), Error> {
    let id = committing.id;
    let manifest = Manifest {
        members: members(store, id, |store, place| match store.dataset(place)? {
            Some(_) => Ok(Some(with_ballast(store, |store| store.seal(place))?)),
            None => Ok(None),
        })?,
        ..manifest(store, id, Kind::Snapshot, label)?
    };
    let set = Set::Snapshot(id);
    write_manifest(store, set, &manifest)?;
    store.sync()?;
    if manifest.identity(Part::System).is_none() {
        // The live system was missing: what is left cannot boot, so GRUB does not list it.
        return Ok(());
    }
    let menu = menu_cfg(&manifest);
    with_ballast(store, |store| {
        store.replace(File::MenuCfg(set), menu.as_bytes())
    })?;
    Ok(())
}

/// The members of the set under this id, as `identify` knows them; what is not there is left out.
pub(super) fn members<S: Store>(
    store: &mut S,
    id: u32,
    mut identify: impl FnMut(&mut S, Place) -> Result<Option<Identity>, Error>,
) -> Result<Bounded<Member, { MAX_DATA + 3 }>, Error> {
    let mut members = Bounded::new();
    for part in store.layout().all() {
        if let Some(identity) = identify(store, Place::Snapshot(id, part))? {
            members
                .push(Member { part, identity })
                .map_err(|_| block::TooLarge)?;
        }
    }
    Ok(members)
}

fn manifest<S: Store>(store: &S, id: u32, kind: Kind, label: &Label) -> Result<Manifest, Error> {
    let system = Place::Snapshot(id, Part::System);
    let kernel = match store.dataset(system)? {
        // Only to be shown: what was committed does not wait for a name that cannot be read.
        Some(_) => check::kernel(store, system).ok().flatten(),
        None => None,
    };
    Ok(Manifest {
        id,
        kind,
        origin: label.origin,
        title: label.title.clone(),
        created: label.created,
        kernel: kernel.map(|kernel| kernel.release),
        clone_of: label.clone_of,
        good: label.good,
        members: Bounded::new(),
        aside: label.aside,
        gone: Bounded::new(),
    })
}

/// Writes a manifest, unless the very same one is there already.
pub fn write_manifest<S: Store>(store: &mut S, set: Set, manifest: &Manifest) -> Result<(), Error> {
    let block = block::encode(1, manifest)?;
    let file = File::Manifest(set);
    if store.read(file)?.as_deref() != Some(block.as_slice()) {
        with_ballast(store, |store| store.replace(file, &block))?;
    }
    Ok(())
}

/// What GRUB sources to list a snapshot. Titles hold nothing that GRUB would interpret.
pub fn menu_cfg(manifest: &Manifest) -> String {
    format!("set backstay_snapshot_title=\"{}\"\n", manifest.title)
}
