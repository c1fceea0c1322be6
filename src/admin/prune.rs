//! `backstay prune --data`: deletes data that snapshots keep; the versions themselves stay.
//!
//! ```text
//! the manifest says that the data is gone     on disk before anything is deleted
//! the subvolume is deleted                    by its UUID, which the manifest has
//! ```
//! In this order, since a manifest that names what is not there makes its snapshot one that nothing goes back to. What a
//! power cut leaves: data that is there and that no snapshot counts on. The next call deletes it. Each snapshot by itself is
//! one step, so there is no journal to be written.
//!
//! Only data that is what it was when it was sealed is deleted, so nothing that anybody has written to.

use super::error::{Error, Result};
use super::output::{table, utc};
use crate::policy::retention::{self, KeptData, Need, Retention, Stays};
use crate::policy::{self, resolve};
use crate::record::Uuid;
use crate::record::journal::Journal;
use crate::record::layout::Part;
use crate::record::manifest::{Kind, Manifest, Member};
use crate::record::state::State;
use crate::store::place::{STORE, Set};
use crate::store::{Store, StoreError};
use crate::transaction::finish::{with_ballast, write_manifest};
use crate::transaction::records::Records;
use crate::transaction::{self, catalogue};
use serde::Serialize;

/// What is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// What stays.
    pub retention: Retention,
    /// Data that comes back by itself with its snapshot goes, too.
    pub reset_data: bool,
    /// Nothing is written.
    pub dry_run: bool,
}

/// One dataset of one snapshot, as `--json` gives it. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The snapshot.
    pub snapshot: u32,
    /// The dataset's name in layout.toml.
    pub dataset: String,
    /// When it was kept, by a clock that may have been wrong.
    pub kept: String,
    /// `deleted`, `to be deleted` in a dry run, `stays` or `failed`.
    pub what: &'static str,
    /// Why it stays or failed.
    pub why: Option<String>,
}

/// What was done, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Every dataset that a sealed snapshot keeps, or kept.
    pub data: Vec<Row>,
}

const DELETED: &str = "deleted";
const PLANNED: &str = "to be deleted";
const STAYS: &str = "stays";
const FAILED: &str = "failed";

impl Pruned {
    /// The rows about what goes, or went.
    pub fn going(&self) -> impl Iterator<Item = &Row> {
        let rows = self.data.iter();
        rows.filter(|row| [DELETED, PLANNED].contains(&row.what))
    }

    /// What could not be deleted, and why.
    pub fn failed(&self) -> Vec<String> {
        let failed = self.data.iter().filter(|row| row.what == FAILED);
        let line = |row: &Row| {
            let why = row.why.as_deref().unwrap_or_default();
            format!("{} of snapshot {}: {why}", row.dataset, row.snapshot)
        };
        failed.map(line).collect()
    }
}

impl core::fmt::Display for Pruned {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let heading = ["SNAPSHOT", "DATASET", "KEPT", "", "WHY"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        rows.extend(self.data.iter().map(|row| {
            vec![
                row.snapshot.to_string(),
                row.dataset.clone(),
                row.kept.clone(),
                row.what.to_owned(),
                row.why.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        }));
        f.write_str(&table(&rows))
    }
}

/// Deletes what is to go. On disk on return. One that cannot be deleted keeps no other one. `now` is in seconds since
/// 1970.
pub fn prune<S: Store>(store: &mut S, records: &Records, asked: Asked, now: u64) -> Result<Pruned> {
    if records.journal.value != Journal::Closed {
        return Err(transaction::Error::Open.into());
    }
    let state = &records.state.value;
    // What the newest state needs is not known.
    if policy::is_behind(state, &catalogue::facts(store, None, false)?) {
        return Err(Error::StateBehind);
    }
    let spared = super::good::spared(store)?;
    let needs = needs(store, state)?;
    let sets = sealed(store)?;
    let copies: Vec<KeptData> = sets.iter().flat_map(copies).collect();
    let decided = retention::decide(&copies, asked.retention, asked.reset_data, now, needs);
    let stays = |id: u32, part: Part| {
        let mut both = copies.iter().zip(&decided);
        both.find(|(copy, _)| copy.id == id && copy.part == part)
            .and_then(|(_, stays)| *stays)
    };
    let mut pruned = Pruned::default();
    for manifest in &sets {
        let stays = |part| stays(manifest.id, part);
        pruned
            .data
            .extend(of_set(store, manifest, &stays, &spared, asked.dry_run)?);
    }
    Ok(pruned)
}

/// The manifests of the sealed snapshots that have data, or of which it is gone; the oldest first.
fn sealed<S: Store>(store: &S) -> Result<Vec<Manifest>> {
    let mut sets = Vec::new();
    for id in catalogue::ids(store)? {
        let Some(manifest) = catalogue::manifest(store, Set::Snapshot(id))? else {
            continue;
        };
        let has_data = manifest.data().next().is_some() || !manifest.gone.is_empty();
        if manifest.kind == Kind::Snapshot && manifest.id == id && has_data {
            sets.push(manifest);
        }
    }
    Ok(sets)
}

fn copies(manifest: &Manifest) -> impl Iterator<Item = KeptData> + '_ {
    manifest.data().map(|member| KeptData {
        id: manifest.id,
        part: member.part,
        created: manifest.created,
        comes_back: manifest.brings(member.part),
    })
}

/// Says of a snapshot what needs its data.
fn needs<S: Store>(store: &S, state: &State) -> Result<impl Fn(u32) -> Option<Need>> {
    // Where it falls back to; and where a person can go who agrees to lose what came since, if it does not.
    let mut trial = Vec::new();
    if let Some(running) = state.trial {
        trial.extend(catalogue::fenced_off(store, state)?);
        trial.extend(super::trial::fall_back_to(store, state)?);
        trial.extend(running.data_of);
    }
    let asked = state.request.and_then(|request| {
        let intent = resolve::intent(request.verb, state).ok()?;
        intent.source()
    });
    let (parked, destroy) = (state.parked, state.destroy);
    Ok(move |id| {
        Some(if parked.is_some() {
            Need::Parked
        } else if trial.contains(&id) {
            Need::Trial
        } else if asked == Some(Set::Snapshot(id)) {
            Need::Request
        } else if destroy.is_some_and(|destroy| id <= destroy.up_to) {
            Need::Destruction
        } else {
            return None;
        })
    })
}

/// Deletes what goes of one snapshot's data, and what an interrupted call has left of it.
fn of_set<S: Store>(
    store: &mut S,
    manifest: &Manifest,
    stays: &dyn Fn(Part) -> Option<Stays>,
    spared: &[Uuid],
    dry_run: bool,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut after = manifest.clone();
    let mut going: Vec<Member> = Vec::new();
    let layout = store.layout().clone();
    let row = |part: Part, what, why| Row {
        snapshot: manifest.id,
        dataset: layout.title(part).to_owned(),
        kept: utc(manifest.created),
        what,
        why,
    };
    for member in manifest.data() {
        let part = member.part;
        if let Some(stays) = stays(part) {
            rows.push(row(part, STAYS, Some(stays.to_string())));
        } else if let Err(error) = lets(store, manifest.id, member, spared) {
            rows.push(row(part, FAILED, Some(error.to_string())));
        } else if dry_run {
            rows.push(row(part, PLANNED, None));
        } else {
            after.let_go(part);
            going.push(*member);
        }
    }
    for member in &manifest.gone {
        let there = is_there(store, manifest.id, member);
        match there.and_then(|there| {
            there
                .then(|| lets(store, manifest.id, member, spared))
                .transpose()
        }) {
            Ok(None) => {}
            Ok(Some(())) if dry_run => rows.push(row(member.part, PLANNED, None)),
            Ok(Some(())) => going.push(*member),
            Err(error) => rows.push(row(member.part, FAILED, Some(error.to_string()))),
        }
    }
    if after != *manifest {
        write_manifest(store, Set::Snapshot(manifest.id), &after)?;
        // Before anything of it goes.
        store.sync()?;
    }
    for member in going {
        let place = Set::Snapshot(manifest.id).place(member.part);
        let uuid = member.identity.uuid;
        // A deletion wants room, too, before it gives any back.
        let gone = with_ballast(store, |store| store.destroy(place, uuid));
        rows.push(match gone.and_then(|()| store.sync()) {
            Ok(()) => row(member.part, DELETED, None),
            Err(error) => row(member.part, FAILED, Some(error.to_string())),
        });
    }
    Ok(rows)
}

fn is_there<S: Store>(store: &S, id: u32, member: &Member) -> Result<bool> {
    let place = Set::Snapshot(id).place(member.part);
    Ok(store.dataset(place)?.is_some())
}

/// Whether it is what it was when it was sealed, and nothing else is called by its UUID. One that is missing can be said to
/// be gone.
fn lets<S: Store>(store: &S, id: u32, member: &Member, spared: &[Uuid]) -> Result<()> {
    let place = Set::Snapshot(id).place(member.part);
    let refused = |why: &str| {
        let path = place.path(store.layout()).unwrap_or_default();
        Err(Error::Destroy(format!(
            "{path} {why}: if it is not needed, 'btrfs subvolume delete' it, or move it out of {STORE}"
        )))
    };
    let found = match store.dataset(place) {
        Ok(found) => found,
        Err(StoreError::Place(_)) => return refused("is no subvolume"),
        Err(error) => return Err(error.into()),
    };
    match found {
        None => Ok(()),
        Some(found) if !found.read_only || found.identity != member.identity => {
            refused("is not what was sealed")
        }
        Some(found) if spared.contains(&found.identity.uuid) => refused("is in use elsewhere"),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
#[path = "prune_tests.rs"]
mod tests;
