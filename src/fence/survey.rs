//! Reads what the versions on disk declare, through the store. Nothing is written, nothing is run.
//!
//! A declaration that cannot be read is not an error here but an answer ([`Offer`]): of the target it refuses the
//! change, of another version it only takes its converters away. Symbolic links are followed inside the version's own
//! root.

use super::declaration;
use super::names::{AppName, Version};
use super::question::{Fault, Offer, Versions};
use crate::policy::Health;
use crate::record::layout::Part;
use crate::store::place::Place;
use crate::store::place::Set;
use crate::store::{Node, Store, StoreError, shown};
use crate::transaction::catalogue;
use crate::transaction::check::{APPS, resolve};
use std::cell::RefCell;
use std::rc::Rc;

/// Declarations of one version at the most.
pub const APPS_MAX: usize = 64;

impl Version {
    /// Where its system lies.
    pub fn place(self) -> Place {
        match self {
            Version::Live => Place::Live(Part::System),
            Version::Snapshot(id) => Place::Snapshot(id, Part::System),
            Version::Factory => Place::Factory(Part::System),
        }
    }
}

/// What versions declare, each read once, when it is first asked for: for several questions about a store in which nothing
/// changes meanwhile.
#[derive(Debug, Default)]
pub struct Survey {
    read: RefCell<Versions>,
    runnable: RefCell<Option<Rc<Versions>>>,
}

impl Survey {
    /// What one version declares; `None` where it has no system.
    pub fn offer<S: Store>(
        &self,
        store: &S,
        version: Version,
    ) -> Result<Option<Offer>, StoreError> {
        if let Some(known) = self.read.borrow().get(&version) {
            return Ok(Some(known.clone()));
        }
        if store.dataset(version.place())?.is_none() {
            return Ok(None);
        }
        let offer = offer(store, version);
        self.read.borrow_mut().insert(version, offer.clone());
        Ok(Some(offer))
    }

    /// What every version that has a system declares, whether its programs may be run or not.
    pub fn versions<S: Store>(&self, store: &S) -> Result<Versions, StoreError> {
        let mut versions = Versions::new();
        let snapshots = store.ids()?.into_iter().map(Version::Snapshot);
        for version in snapshots.chain([Version::Live, Version::Factory]) {
            match self.offer(store, version) {
                Ok(None) => {}
                Ok(Some(offer)) => {
                    versions.insert(version, offer);
                }
                Err(error) => {
                    let mut unread = Offer::default();
                    unread.faults.push(fault(version, APPS, error.to_string()));
                    versions.insert(version, unread);
                }
            }
        }
        Ok(versions)
    }

    /// The same of each whose programs may be run: the live one, and the sound ones.
    pub fn runnable<S: Store>(&self, store: &S) -> Result<Rc<Versions>, StoreError> {
        if let Some(known) = &*self.runnable.borrow() {
            return Ok(Rc::clone(known));
        }
        let mut versions = self.versions(store)?;
        versions.retain(|version, _| is_sound(store, *version));
        let versions = Rc::new(versions);
        *self.runnable.borrow_mut() = Some(Rc::clone(&versions));
        Ok(versions)
    }
}

/// Whether a version is what it was. One that cannot be looked at is not.
fn is_sound<S: Store>(store: &S, version: Version) -> bool {
    let set = match version {
        Version::Live => return true,
        Version::Snapshot(id) => Set::Snapshot(id),
        Version::Factory => Set::Factory,
    };
    let health = catalogue::health(store, set);
    matches!(health, Ok(Health::Sound | Health::WithoutConfig))
}

/// What one version declares.
pub fn offer<S: Store>(store: &S, version: Version) -> Offer {
    let mut offer = Offer::default();
    let place = version.place();
    let listed = match resolve(store, place, APPS) {
        Ok(None) => match store.node(place, APPS) {
            Ok(None) => return offer,
            // A link, or something in it, that leads nowhere: what was declared there is lost.
            Ok(Some(_)) => Err("it leads to no directory".to_owned()),
            Err(error) => Err(error.to_string()),
        },
        Ok(Some(directory)) => match store.names(place, &directory) {
            Ok(names) => Ok((directory, names)),
            Err(error) => Err(error.to_string()),
        },
        Err(error) => Err(error.to_string()),
    };
    let (directory, mut names) = match listed {
        Ok(listed) => listed,
        Err(why) => {
            offer.faults.push(fault(version, APPS, why));
            return offer;
        }
    };
    names.retain(|name| name.ends_with(".toml"));
    names.sort_unstable();
    if names.len() > APPS_MAX {
        let why = format!("it has more than {APPS_MAX} declarations");
        offer.faults.push(fault(version, APPS, why));
        return offer;
    }
    for name in &names {
        let Some(app) = AppName::of_file(name) else {
            let why = declaration::DeclarationError::FileName.to_string();
            offer.faults.push(fault(version, name, why));
            continue;
        };
        let declared = bytes(store, place, &format!("{directory}/{name}")).and_then(|bytes| {
            let read = declaration::read(name, &bytes);
            read.map(|(_, it)| it).map_err(|error| error.to_string())
        });
        offer.apps.insert(app, declared);
    }
    offer
}

fn fault(version: Version, file: &str, why: String) -> Fault {
    Fault {
        version,
        file: shown(file.as_bytes()),
        why,
    }
}

/// A file's bytes, by whatever links inside the root.
fn bytes<S: Store>(store: &S, place: Place, path: &str) -> Result<Vec<u8>, String> {
    let nothing = || "it is no regular file, nor a link to one".to_owned();
    let path = resolve(store, place, path).map_err(|error| error.to_string())?;
    let path = path.ok_or_else(nothing)?;
    match store.node(place, &path) {
        Ok(Some(Node::File)) => {}
        Ok(_) => return Err(nothing()),
        Err(error) => return Err(error.to_string()),
    }
    match store.content(place, &path) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(nothing()),
        Err(error) => Err(error.to_string()),
    }
}
