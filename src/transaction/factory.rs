//! A new factory snapshot takes the place of the old one, which stays under the transaction's number.
//!
//! A sealed dataset cannot change its directory, so the directories change places, with all that lies
//! in them. What a power cut leaves after the commit: the new set in either directory, whole and
//! sealed; its manifest is written before the exchange and moves with it.

use super::finish::{members, with_ballast, write_manifest};
use super::plan::Step;
use super::{Error, catalogue, check, named};
use crate::policy::Health;
use crate::record::Uuid;
use crate::record::journal::{Committing, Label};
use crate::record::layout::{DataParts, Part};
use crate::record::manifest::{Kind, Manifest, Origin, title};
use crate::store::place::{File, Place, Set};
use crate::store::{Store, StoreError};

/// What a baseline's system has, so that it is known as one whatever its manifest says, and by GRUB too.
pub const MARK: &str = "etc/backstay/baseline";

/// The UUID of the dataset at a place; what is no dataset has none.
pub(super) fn uuid_at<S: Store>(store: &S, place: Place) -> Result<Option<Uuid>, Error> {
    match store.dataset(place) {
        Ok(found) => Ok(found.map(|found| found.identity.uuid)),
        Err(StoreError::Place(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How the set that is the factory snapshot now is recorded when another one has taken its place.
pub(super) fn label<S: Store>(store: &S, now: u64) -> Result<Label, Error> {
    let (origin, what) = match catalogue::health(store, Set::Factory)? {
        Health::Sound | Health::WithoutConfig => (Origin::Superseded, "superseded"),
        _ => (Origin::Failed, "failed its check"),
    };
    let known = catalogue::manifest(store, Set::Factory)?;
    let text = match &known {
        Some(manifest) => format!("{}, factory, {what}", manifest.title),
        None => format!("factory, {what}"),
    };
    Ok(Label {
        title: title(&text),
        origin,
        created: now,
        clone_of: None,
        good: false,
        aside: DataParts::NONE,
    })
}

/// Puts the set that was made under this number in the factory's place, unless it is there.
pub(super) fn replace<S: Store>(
    store: &mut S,
    committing: &Committing,
    label: &Label,
    progress: &mut dyn FnMut(&Step),
) -> Result<(), Error> {
    let id = committing.id;
    for swap in &committing.swaps {
        if uuid_at(store, swap.live)? == Some(swap.new) {
            continue;
        }
        let staged = uuid_at(store, swap.staged)?;
        if staged != Some(swap.new) {
            return Err(Error::Third {
                place: swap.staged.path(store.layout()).unwrap_or_default(),
                found: named(staged),
            });
        }
        let manifest = manifest(store, id, label.created)?;
        write_manifest(store, Set::Snapshot(id), &manifest)?;
        store.sync()?;
        progress(&Step::ReplaceFactory(id));
        with_ballast(store, |store| store.exchange_factory(id))?;
        store.sync()?;
    }
    retire(store, id, label)
}

/// The manifest of the new factory snapshot, while it lies under its number.
fn manifest<S: Store>(store: &mut S, id: u32, now: u64) -> Result<Manifest, Error> {
    let system = Place::Snapshot(id, Part::System);
    let version = check::version(store, system)?;
    let version = version.as_deref();
    let (origin, name) = match store.node(system, MARK)? {
        Some(_) => {
            let of = version.map(|version| format!("baseline of {version}"));
            (
                Origin::Baseline,
                of.unwrap_or_else(|| "baseline".to_owned()),
            )
        }
        None => (
            Origin::Extracted,
            version.unwrap_or("factory version").to_owned(),
        ),
    };
    let members = members(store, id, |store, place| {
        Ok(store.dataset(place)?.map(|dataset| dataset.identity))
    })?;
    Ok(Manifest {
        id: 0,
        kind: Kind::Factory,
        origin,
        title: title(&name),
        created: now,
        kernel: check::kernel(store, system)?.map(|kernel| kernel.release),
        clone_of: None,
        good: false,
        members,
        aside: DataParts::NONE,
        gone: Default::default(),
    })
}

/// What was the factory snapshot is marked, so that nobody goes back to it; if nothing was, nothing stays.
fn retire<S: Store>(store: &mut S, id: u32, label: &Label) -> Result<(), Error> {
    let set = Set::Snapshot(id);
    let members = members(store, id, |store, place| match store.dataset(place) {
        Err(StoreError::Place(_)) => Ok(None),
        found => Ok(found?.map(|dataset| dataset.identity)),
    })?;
    if members.is_empty() && store.remove_directory(id).is_ok() {
        return Ok(());
    }
    let manifest = Manifest {
        id,
        kind: Kind::FormerFactory,
        origin: label.origin,
        title: label.title.clone(),
        created: label.created,
        kernel: None,
        clone_of: None,
        good: false,
        members,
        aside: DataParts::NONE,
        gone: Default::default(),
    };
    write_manifest(store, set, &manifest)?;
    Ok(store.remove(File::MenuCfg(set))?)
}
