//! `backstay list`: the snapshots, and where the live system stands among them.

use super::error::Result;
use super::output::{table, utc};
use crate::policy::Health;
use crate::record::layout::{MountPath, Part};
use crate::record::manifest::{Kind, Origin};
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
    let mut sets = Vec::new();
    let factory = entry(store, state, Set::Factory)?;
    if factory.health != word(store, Health::Absent) {
        sets.push(factory);
    }
    for id in catalogue::ids(store)? {
        sets.push(entry(store, state, Set::Snapshot(id))?);
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

fn entry<S: Store>(store: &S, state: Option<&State>, set: Set) -> Result<Entry> {
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
            members: manifest
                .members
                .iter()
                .map(|member| layout.title(member.part).to_owned())
                .collect(),
            data: data(store, state, set)?,
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
        },
    })
}

fn data<S: Store>(store: &S, state: Option<&State>, set: Set) -> Result<Option<&'static str>> {
    let sound = matches!(
        catalogue::health(store, set)?,
        Health::Sound | Health::WithoutConfig
    );
    let state = state.filter(|_| sound);
    let standing = state.and_then(|state| fenced::standing(store, state, set));
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
        // Where no application declares anything there is nothing to say.
        let judged = self.sets.iter().any(|set| set.data.is_some());
        let row = |cells: [String; 8]| {
            let all = cells.into_iter().enumerate();
            let shown = all.filter(|(at, _)| judged || *at != DATA);
            shown.map(|(_, cell)| cell).collect::<Vec<String>>()
        };
        let heading = [
            "ID", "HISTORY", "HEALTH", "DATA", "DATE", "KERNEL", "CLONE OF", "TITLE",
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
mod tests {
    use super::*;
    use crate::record::state::Last;
    use crate::transaction::model::machine;

    #[test]
    fn every_set_is_listed_with_its_place_in_the_history() {
        let (store, records) = machine();
        let mut state = records.state.value.clone();
        state.older = [1].into_iter().collect();
        state.newer = [2].into_iter().collect();
        let listing = listing(&store, Some(&state)).unwrap();
        let got: Vec<_> = listing
            .sets
            .iter()
            .map(|set| (set.id, set.kind, set.history, set.health.as_str()))
            .collect();
        assert_eq!(got[0].2, None);
        assert_eq!((got[1].0, got[1].2), (1, Some(-1)));
        assert_eq!((got[2].0, got[2].2), (2, Some(1)));
        assert!(got.iter().all(|set| set.3 == "sound"), "{got:?}");
        let text = listing.to_string();
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(text.lines().last().unwrap().starts_with("live"));
    }

    #[test]
    fn a_version_that_declares_something_says_whether_it_runs_on_the_data() {
        use crate::fence::names::Version;
        use crate::fence::tests::declare;
        let (mut store, records) = machine();
        let state = &records.state.value;
        let shown = |store: &crate::store::memory::Memory| {
            let listing = listing(store, Some(state)).unwrap();
            let data: Vec<_> = listing.sets.iter().map(|set| set.data).collect();
            (data, listing.to_string())
        };
        let (data, text) = shown(&store);
        assert_eq!(data, [None; 3]);
        assert!(!text.contains("DATA"), "{text}");
        let writes = |state: &str| format!("dataset = \"data\"\nstate = \"{state}\"\n");
        declare(&mut store, Version::Snapshot(1), &writes("1"));
        declare(&mut store, Version::Snapshot(2), &writes("2"));
        let (data, text) = shown(&store);
        assert_eq!(data, [None, Some("refused"), Some("runs")]);
        assert!(text.contains("DATA") && text.contains("refused"), "{text}");
        let converts = "[[converter]]\nfrom = [\"2\"]\nto = \"1\"\ncommand = [\"/usr/bin/down\"]\nlossless = true\n";
        let live = |early| format!("{}{converts}early = {early}\n", writes("2"));
        // Before boot, which is where it would be run.
        for (early, want) in [(true, "convert"), (false, "refused")] {
            declare(&mut store, Version::Live, &live(early));
            assert_eq!(shown(&store).0[1], Some(want));
        }
    }

    #[test]
    fn what_a_dataset_that_was_declared_later_makes_unusable_is_said() {
        let (store, records) = machine();
        assert_eq!(unusable(&store).unwrap(), Vec::<String>::new());
        let mut store = store;
        for set in [Set::Factory, Set::Snapshot(1)] {
            store.edit(|world, _| {
                let place = set.place(Part::System);
                let tree = &mut world.datasets.get_mut(&place).unwrap().tree;
                tree.remove("srv/data");
            });
        }
        let lines = unusable(&store).unwrap();
        assert_eq!(lines.len(), 1);
        let names = "the factory snapshot, snapshot 1, whose system mounts nothing at /srv/data";
        assert!(lines[0].contains(names), "{lines:?}");
        let listing = listing(&store, Some(&records.state.value)).unwrap();
        let health: Vec<_> = listing.sets.iter().map(|set| set.health.as_str()).collect();
        assert_eq!(health, ["no /srv/data", "no /srv/data", "sound"]);
        for (id, refused) in [(1, true), (2, false)] {
            let verb = Verb::Rollback(Some(id));
            let asked =
                crate::admin::request::preview(&store, &records, verb, Default::default(), 0);
            assert_eq!(asked.is_err(), refused, "{id}");
        }
    }

    #[test]
    fn a_set_that_cannot_be_looked_at_does_not_hide_what_others_lack() {
        let machine = || {
            let (mut store, _) = machine();
            store.edit(|world, _| {
                let place = Place::Snapshot(2, Part::System);
                let tree = &mut world.datasets.get_mut(&place).unwrap().tree;
                tree.remove("srv/data");
            });
            store
        };
        let store = machine();
        let before = store.looks.get();
        let whole = unusable(&store).unwrap();
        let looks = before + 1..store.looks.get();
        let count = looks.len();
        let mut kept = 0;
        // The first look is for which sets there are.
        for at in looks {
            let mut store = machine();
            store.blind = Some(at);
            kept += usize::from(unusable(&store).unwrap() == whole);
        }
        assert!(kept > 3 && kept < count, "{kept} of {count}");
    }

    #[test]
    fn what_cannot_be_read_in_the_live_system_is_shown_as_unknown() {
        let (store, _) = machine();
        let before = store.looks.get();
        live(&store, None).unwrap();
        let looks = store.looks.get();
        assert!(looks - before > 3);
        for at in before + 1..looks {
            let (mut store, _) = machine();
            store.blind = Some(at);
            let live = live(&store, None).unwrap().unwrap();
            let unknown = Some("unknown".to_owned());
            assert!(live.title == unknown || live.kernel == unknown, "{live:?}");
        }
    }

    #[test]
    fn what_is_booted_once_is_shown_as_a_clone_of_its_snapshot() {
        let (store, records) = machine();
        let mut state = records.state.value.clone();
        let clone = |state: &State| live(&store, Some(state)).unwrap().unwrap().clone_of;
        assert_eq!(clone(&state), Some(2));
        state.parked = Some(3);
        state.last = Some(Last {
            verb: Some(Verb::Select(1)),
            id: 3,
            at: 0,
        });
        assert_eq!(clone(&state), Some(1));
    }

    #[test]
    fn a_changed_member_is_named_and_a_lost_manifest_too() {
        let (mut store, records) = machine();
        let place = Place::Snapshot(1, Part::Config);
        store.edit(|world, _| {
            world
                .datasets
                .get_mut(&place)
                .unwrap()
                .dataset
                .identity
                .ctransid += 1;
            world
                .files
                .remove(&crate::store::place::File::Manifest(Set::Snapshot(2)));
        });
        let listing = listing(&store, Some(&records.state.value)).unwrap();
        assert_eq!(listing.sets[1].health, "changed: configuration");
        assert_eq!(listing.sets[2].health, "no manifest");
        assert_eq!(listing.sets[2].kind, "unknown");
    }
}
