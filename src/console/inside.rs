//! What lies in the versions of a btrfs store: their files, and what differs.

use super::look;
use super::machine::{Answer, Changed, Look};
use super::menu::no_version;
use super::text::{name, size};
use crate::policy::Health;
use crate::record::layout::Part;
use crate::store::Store;
use crate::store::btrfs::Btrfs;
use crate::store::difference::{Change, Difference, What};
use crate::store::place::{Place, Set};
use crate::transaction::catalogue;
use std::ops::ControlFlow;

fn set(version: u32) -> Set {
    match version {
        0 => Set::Factory,
        id => Set::Snapshot(id),
    }
}

/// What lies at a path of a version (0: the factory's; `None`: what is live).
pub fn look(store: &Btrfs, version: Option<u32>, path: &str) -> Answer<Look> {
    let (part, below) = look::locate(store.layout(), path);
    let place = match (version, part) {
        (None, part) => Place::Live(part),
        (Some(_), Part::Data(_)) => {
            return Err("that is data, which versions share: 'look live' shows it".to_owned());
        }
        (Some(id), part) => set(id).place(part),
    };
    let dataset = match store.directory(place, "") {
        Ok(dataset) => dataset,
        Err(_) if is_missing(store, place)? => {
            return Err(version.map_or("there is no live system".to_owned(), no_version));
        }
        Err(error) => return Err(error.to_string()),
    };
    look::at(&dataset, &below)
}

/// Why a path in data is not compared.
pub const NOT_COMPARED: &str =
    "That is data, which stays as it is and is not compared: 'look live' shows it";

/// Why there is nothing to compare at a path.
pub fn in_neither(version: u32, path: &str) -> String {
    let version = match version {
        0 => "the factory snapshot".to_owned(),
        id => format!("snapshot {id}"),
    };
    let path = name(path.trim_matches('/').as_bytes());
    format!("Neither {version} nor the live system has /{path} (links are not followed).")
}

/// Whether something lies at a path of a dataset, as far as everybody may know it.
fn may_be_in(store: &Btrfs, place: Place, path: &str) -> Answer<bool> {
    if is_missing(store, place)? {
        return Ok(false);
    }
    let dataset = store.directory(place, "");
    let dataset = dataset.map_err(|error| error.to_string())?;
    Ok(look::may_be_there(&dataset, path))
}

fn is_missing(store: &Btrfs, place: Place) -> Answer<bool> {
    let there = store.dataset(place).map_err(|error| error.to_string())?;
    Ok(there.is_none())
}

/// The paths that are not the same in a version and in what is live: system and configuration. `path` has to lie there.
pub fn compare(
    store: &Btrfs,
    version: u32,
    path: &str,
    found: &mut dyn FnMut(Changed) -> ControlFlow<()>,
) -> Answer<()> {
    let set = set(version);
    if catalogue::health(store, set).map_err(|error| error.to_string())? == Health::Absent {
        return Err(no_version(version));
    }
    look::is_whole(path)?;
    match look::locate(store.layout(), path) {
        (Part::Data(_), _) => return Err(NOT_COMPARED.to_owned()),
        (part, below) => {
            let places = [set.place(part), Place::Live(part)];
            let there = places.map(|place| may_be_in(store, place, &below));
            if let [Ok(false), Ok(false)] = there {
                return Err(in_neither(version, path));
            }
        }
    }
    let mut stopped = false;
    for part in store.layout().set().filter(|part| *part != Part::Defaults) {
        let (from, to) = (set.place(part), Place::Live(part));
        if stopped || is_missing(store, from)? || is_missing(store, to)? {
            continue;
        }
        let open = |place| {
            store
                .directory(place, "")
                .map_err(|error| error.to_string())
        };
        let (old, new) = (open(from)?, open(to)?);
        let mut hidden: Option<Vec<u8>> = None;
        let mut each = |difference: Difference| {
            // The names in a directory that not everybody may read are not everybody's.
            let there = match difference.change {
                Change::Removed => &old,
                _ => &new,
            };
            let (path, note) = match look::is_listed(there, &difference.path) {
                true => (difference.path.clone(), note(&difference)),
                false => {
                    let above = listed_above(there, &difference.path);
                    if hidden.as_ref() == Some(&above) {
                        return ControlFlow::Continue(());
                    }
                    hidden = Some(above.clone());
                    (above, "inside, where not everybody may look".to_owned())
                }
            };
            let changed = Changed {
                what: match difference.change {
                    _ if note.starts_with("inside") => "changed",
                    Change::Added => "added",
                    Change::Removed => "removed",
                    Change::Changed(_) => "changed",
                },
                path: name(&look::seen_at(store.layout(), part, &path)),
                note,
            };
            let flow = found(changed);
            stopped = flow.is_break();
            flow
        };
        store
            .differences(from, to, &mut each)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The closest directory above a path whose name everybody may read.
fn listed_above(dataset: &rustix::fd::OwnedFd, path: &[u8]) -> Vec<u8> {
    let mut above = path;
    while !above.is_empty() && !look::is_listed(dataset, above) {
        above = crate::store::btrfs::path::split_bytes(above).0;
    }
    above.to_vec()
}

fn note(difference: &Difference) -> String {
    let what = match difference.change {
        Change::Changed(What::Content) => "content",
        Change::Changed(What::Metadata) => "owner, mode or attributes",
        Change::Changed(What::Both) => "content, and owner, mode or attributes",
        Change::Changed(What::Kind) => "another kind of file",
        Change::Added | Change::Removed => "",
    };
    let sizes = match (difference.before, difference.after) {
        (Some(before), Some(after)) if before != after => {
            format!("{} -> {}", size(before), size(after))
        }
        (Some(one), _) | (_, Some(one)) => size(one),
        (None, None) => String::new(),
    };
    let both: Vec<&str> = [what, sizes.as_str()]
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect();
    both.join(", ")
}
