//! Reads what the versions on disk declare, through the store. Nothing is written, nothing is run.
//!
//! A declaration that cannot be read is not an error here but an answer ([`Offer`]): of the target it refuses the
//! change, of another version it only takes its converters away. Symbolic links are followed inside the version's own
//! root.

use super::declaration;
use super::names::{AppName, Version};
use super::question::{Fault, Offer, Versions};
use crate::record::layout::Part;
use crate::store::place::Place;
use crate::store::{Node, Store, StoreError, shown};
use crate::transaction::check::{APPS, resolve};

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

/// What every version that has a system declares. Whether their programs may be run, because they are sound, is for
/// the caller to say: others are taken out of it.
pub fn versions<S: Store>(store: &S) -> Result<Versions, StoreError> {
    let mut versions = Versions::new();
    let snapshots = store.ids()?.into_iter().map(Version::Snapshot);
    for version in snapshots.chain([Version::Live, Version::Factory]) {
        match store.dataset(version.place()) {
            Ok(None) => {}
            Ok(Some(_)) => {
                versions.insert(version, offer(store, version));
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
