//! `backstay list`: the snapshots, and where the live system stands among them.

use super::error::Result;
use super::output::{table, utc};
use crate::fence::survey::Survey;
use crate::policy::Health;
use crate::record::layout::{Layout, MountPath, Part};
use crate::record::manifest::{Kind, Member, Origin};
use crate::record::state::{State, Verb};
use crate::store::Store;
use crate::store::place::{Place, Set};
use crate::transaction::fenced::{self, Standing};
use crate::transaction::{catalogue, check};
use serde::Serialize;

/// One set as `--json` gives it. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its number; 0 for the factory snapshot.
    pub id: u32,
    /// `snapshot`, `factory`, `parked`, or `unknown` without a manifest.
    pub kind: &'static str,
    /// Why it was made: `asked`, `replaced`, `before-reset`, `booted-once`, `built`.
    pub origin: Option<&'static str>,
    /// When, as 2026-11-23T13:06:36Z, by a clock that may have been wrong.
    pub created: Option<String>,
    /// For people.
    pub title: String,
    /// The release of the kernel that it boots.
    pub kernel: Option<String>,
    /// The snapshot that it is a changed clone of; 0 is the factory.
    pub clone_of: Option<u32>,
    /// `sound`, or what is wrong with it; `no /srv/media` where its system lacks that to mount on.
    pub health: String,
    /// Steps from the live system: negative for rollback, positive for forward.
    pub history: Option<i64>,
    /// Its datasets.
    pub members: Vec<String>,
    /// Whether its applications run on the data that is live: `runs`, after `convert`, by `restore`, or `refused`; absent where
    /// none declares anything.
    pub data: Option<&'static str>,
    /// The data datasets that it keeps, by their names in layout.toml.
    pub kept_data: Vec<String>,
    /// Those that it kept, and that were deleted.
    pub gone_data: Vec<String>,
}

/// The live system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Live {
    /// What the system calls itself.
    pub title: Option<String>,
    /// The release of its kernel.
    pub kernel: Option<String>,
    /// The snapshot it was cloned from; 0 is the factory.
    pub clone_of: Option<u32>,
    /// Whether it was marked good.
    pub good: bool,
}

/// Everything that `list` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// What boots; absent before the first boot.
    pub live: Option<Live>,
    /// The factory snapshot and all others, oldest first.
    pub sets: Vec<Entry>,
}

/// Looks at every set. `state` is absent when none is recorded or it is damaged.
pub fn listing<S: Store>(store: &S, state: Option<&State>) -> Result<Listing> {
    let (mut sets, survey) = (Vec::new(), Survey::default());
    let factory = entry(store, &survey, state, Set::Factory)?;
    if factory.health != word(store, Health::Absent) {
        sets.push(factory);
    }
    for id in catalogue::ids(store)? {
        sets.push(entry(store, &survey, state, Set::Snapshot(id))?);
    }
    Ok(Listing {
        live: live(store, state)?,
        sets,
    })
}

/// What is live, as the store holds it.
pub fn live<S: Store>(store: &S, state: Option<&State>) -> Result<Option<Live>> {
    let place = Place::Live(Part::System);
    let Some(dataset) = store.dataset(place)? else {
        return Ok(None);
    };
    // What cannot be read in the system must not hide what the store knows.
    let unknown = |_| Some("unknown".to_owned());
    let kernel = check::kernel(store, place);
    let kernel = kernel.map(|kernel| kernel.map(|kernel| kernel.release.to_string()));
    Ok(Some(Live {
        title: check::version(store, place).unwrap_or_else(unknown),
        kernel: kernel.unwrap_or_else(unknown),
        clone_of: state.and_then(clone_that_is_live),
        good: state.is_some_and(|state| state.good == Some(dataset.identity.uuid)),
    }))
}

/// What is live is a clone of this; while a snapshot is booted once, the state speaks of what is
/// parked.
fn clone_that_is_live(state: &State) -> Option<u32> {
    match (state.parked, state.last.and_then(|last| last.verb)) {
        (Some(_), Some(Verb::Select(id))) => Some(id),
        _ => state.live.clone_of,
    }
}

/// The mount of a dataset for which the system of a set has no directory, so that the set cannot be
/// gone back to: the dataset was declared after it was sealed.
fn lacks_mount<S: Store>(store: &S, set: Set) -> Result<Option<MountPath>> {
    if !matches!(
        catalogue::health(store, set)?,
        Health::Sound | Health::WithoutConfig
    ) {
        return Ok(None);
    }
    let lacking = check::lacks_mount(store, set.place(Part::System))?;
    Ok(lacking.into_iter().next().map(|dataset| dataset.mount))
}

/// One line for each mount that makes sets unusable, with what can be done. A set that cannot be
/// looked at is left out: `list` and `status` tell of it, and it is no reason not to go on.
pub fn unusable<S: Store>(store: &S) -> Result<Vec<String>> {
    let mut by_mount: Vec<(MountPath, Vec<String>)> = Vec::new();
    let snapshots = catalogue::ids(store)?.into_iter().map(Set::Snapshot);
    for set in std::iter::once(Set::Factory).chain(snapshots) {
        let Ok(Some(mount)) = lacks_mount(store, set) else {
            continue;
        };
        let name = match set {
            Set::Factory => "the factory snapshot".to_owned(),
            Set::Snapshot(id) => format!("snapshot {id}"),
        };
        match by_mount.iter_mut().find(|(other, _)| *other == mount) {
            Some((_, names)) => names.push(name),
            None => by_mount.push((mount, vec![name])),
        }
    }
    let line = |(mount, names): (MountPath, Vec<String>)| {
        format!(
            "nothing can go back to {}, whose system mounts nothing at {mount} (no directory, or no entry in its \
             /etc/fstab): if you need that, mount it in layout.toml at a directory that they have, and run 'backstay \
             init' again",
            names.join(", ")
        )
    };
    Ok(by_mount.into_iter().map(line).collect())
}

fn entry<S: Store>(store: &S, survey: &Survey, state: Option<&State>, set: Set) -> Result<Entry> {
    let id = match set {
        Set::Factory => 0,
        Set::Snapshot(id) => id,
    };
    let manifest = catalogue::manifest(store, set)?;
    let health = health(store, set)?;
    let history = state.and_then(|state| steps(state, set));
    let layout = store.layout();
    Ok(match manifest {
        Some(manifest) => Entry {
            id,
            kind: kind(manifest.kind),
            origin: Some(origin(manifest.origin)),
            created: Some(utc(manifest.created)),
            title: manifest.title.to_string(),
            kernel: manifest.kernel.as_ref().map(ToString::to_string),
            clone_of: manifest.clone_of,
            health,
            history,
            members: names(layout, manifest.members.iter()),
            data: data(store, survey, state, set)?,
            kept_data: names(layout, manifest.data()),
            gone_data: names(layout, manifest.gone.iter()),
        },
        None => Entry {
            id,
            kind: "unknown",
            origin: None,
            created: None,
            title: String::new(),
            kernel: None,
            clone_of: None,
            health,
            history,
            members: Vec::new(),
            data: None,
            kept_data: Vec::new(),
            gone_data: Vec::new(),
        },
    })
}

/// What datasets are called.
pub fn names<'a>(layout: &Layout, members: impl Iterator<Item = &'a Member>) -> Vec<String> {
    members
        .map(|member| layout.title(member.part).to_owned())
        .collect()
}

fn data<S: Store>(
    store: &S,
    survey: &Survey,
    state: Option<&State>,
    set: Set,
) -> Result<Option<&'static str>> {
    let sound = matches!(
        catalogue::health(store, set)?,
        Health::Sound | Health::WithoutConfig
    );
    let state = state.filter(|_| sound);
    let standing = state.and_then(|state| fenced::standing(store, survey, state, set));
    Ok(standing.map(Standing::word))
}

fn steps(state: &State, set: Set) -> Option<i64> {
    let Set::Snapshot(id) = set else {
        return None;
    };
    let position = |mut ids: Box<dyn Iterator<Item = &u32> + '_>| {
        let at = ids.position(|other| *other == id)?;
        i64::try_from(at).ok()?.checked_add(1)
    };
    position(Box::new(state.older.iter().rev()))
        .map(|at| -at)
        .or_else(|| position(Box::new(state.newer.iter())))
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Snapshot => "snapshot",
        Kind::Factory => "factory",
        Kind::Parked => "parked",
        Kind::FormerFactory => "former-factory",
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Asked => "asked",
        Origin::Replaced => "replaced",
        Origin::BeforeReset => "before-reset",
        Origin::BootedOnce => "booted-once",
        Origin::Built => "built",
        Origin::Extracted => "extracted",
        Origin::Failed => "failed",
        Origin::Superseded => "superseded",
        Origin::DidNotStart => "did-not-start",
        Origin::Baseline => "baseline",
        Origin::Upgraded => "upgraded",
    }
}

/// A set's health, and whether its system can mount what the layout declares, in a word or two.
pub fn health<S: Store>(store: &S, set: Set) -> Result<String> {
    let health = match lacks_mount(store, set) {
        Ok(Some(mount)) => format!("no {mount}"),
        Ok(None) | Err(_) => word(store, catalogue::health(store, set)?),
    };
    Ok(
        match set == Set::Factory && catalogue::has_baseline(store)? {
            true => format!("{health}, baseline, not factory"),
            false => health,
        },
    )
}

fn word<S: Store>(store: &S, health: Health) -> String {
    match health {
        Health::Sound => "sound".to_owned(),
        Health::WithoutConfig => "sound, no config".to_owned(),
        Health::Absent => "absent".to_owned(),
        Health::NoManifest => "no manifest".to_owned(),
        Health::Parked => "parked".to_owned(),
        Health::FormerFactory => "former factory".to_owned(),
        Health::Missing(part) => format!("missing: {}", store.layout().title(part)),
        Health::Changed(part) => format!("changed: {}", store.layout().title(part)),
    }
}

impl core::fmt::Display for Listing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // Where no application declares anything, and no data is kept, there is nothing to say.
        let judged = self.sets.iter().any(|set| set.data.is_some());
        let keeps = self.sets.iter().any(|set| kept(set).is_some());
        let row = |cells: [String; 9]| {
            let all = cells.into_iter().enumerate();
            let shown = all.filter(|(at, _)| (judged || *at != DATA) && (keeps || *at != KEPT));
            shown.map(|(_, cell)| cell).collect::<Vec<String>>()
        };
        let heading = [
            "ID",
            "HISTORY",
            "HEALTH",
            "DATA",
            "KEPT DATA",
            "DATE",
            "KERNEL",
            "CLONE OF",
            "TITLE",
        ];
        let mut rows = vec![row(heading.map(str::to_owned))];
        for set in &self.sets {
            rows.push(row([
                match set.kind {
                    "factory" if set.origin == Some("baseline") => "baseline".to_owned(),
                    "factory" => "factory".to_owned(),
                    _ => set.id.to_string(),
                },
                match set.history {
                    Some(steps) if steps < 0 => format!("older {}", -steps),
                    Some(steps) => format!("newer {steps}"),
                    None => "-".to_owned(),
                },
                set.health.clone(),
                set.data.map_or_else(dash, str::to_owned),
                kept(set).unwrap_or_else(dash),
                set.created.clone().unwrap_or_else(dash),
                set.kernel.clone().unwrap_or_else(dash),
                clone_of(set.clone_of),
                set.title.clone(),
            ]));
        }
        if let Some(live) = &self.live {
            rows.push(row([
                "live".to_owned(),
                "live".to_owned(),
                if live.good { "good" } else { "not marked" }.to_owned(),
                dash(),
                dash(),
                dash(),
                live.kernel.clone().unwrap_or_else(dash),
                clone_of(live.clone_of),
                live.title.clone().unwrap_or_default(),
            ]));
        }
        f.write_str(&table(&rows))
    }
}

/// The column that says whether a version runs on the data.
const DATA: usize = 3;
/// The column that says which data is kept with it.
const KEPT: usize = 4;

/// Which data a set keeps, and of which it is gone; `None` where it never kept any.
fn kept(set: &Entry) -> Option<String> {
    let gone = set.gone_data.iter().map(|name| format!("{name} (gone)"));
    let all: Vec<String> = set.kept_data.iter().cloned().chain(gone).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn dash() -> String {
    "-".to_owned()
}

/// What a set was cloned from, for people.
pub fn clone_of(id: Option<u32>) -> String {
    match id {
        Some(0) => "factory".to_owned(),
        Some(id) => id.to_string(),
        None => dash(),
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
