//! A disk in a form that does not depend on UUIDs, and what holds for every settled disk.

use super::super::records::{Records, read_state};
use super::super::{catalogue, prepared};
use crate::policy::Health;
use crate::record::Uuid;
use crate::record::block::{Block, decode};
use crate::record::journal::Journal;
use crate::record::layout::{DataParts, Part};
use crate::record::manifest::{Manifest, Title};
use crate::record::slots::Slots;
use crate::record::state::{Consent, Phase, State, Verb};
use crate::store::Store;
use crate::store::memory::{Content, Memory, Subvolume, Tree, World};
use crate::store::place::{File, Place, Set};
use std::collections::{BTreeMap, BTreeSet};

/// The state, with places instead of UUIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct StateForm {
    next_id: u32,
    live: Option<Place>,
    clone_of: Option<u32>,
    older: Vec<u32>,
    newer: Vec<u32>,
    request: Option<(Verb, Consent, bool, Vec<Part>)>,
    parked: Option<u32>,
    destroy: Option<(Option<Place>, u32, Phase)>,
    good: Option<Option<Place>>,
    last: Option<(Option<Verb>, u32)>,
    /// Not the starts that were begun: a start after a power cut is one more.
    trial: Option<(Option<Place>, bool, Option<u32>, bool)>,
    failed: Vec<u32>,
    fell_back: Option<(u32, u32)>,
}

/// A manifest without identities.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ManifestForm {
    id: u32,
    what: String,
    title: Title,
    clone_of: Option<u32>,
    members: Vec<Part>,
    aside: DataParts,
    gone: Vec<Part>,
    health: Health,
}

/// A disk, such that two runs that did the same have the same form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    datasets: BTreeMap<Place, (Tree, bool)>,
    directories: BTreeSet<u32>,
    manifests: BTreeMap<File, Option<ManifestForm>>,
    others: BTreeMap<File, Vec<u8>>,
    default: Option<Option<Place>>,
    state: Option<StateForm>,
}

fn place_of(world: &World, uuid: Uuid) -> Option<Place> {
    let mut all = world.datasets.iter();
    all.find(|(_, subvolume)| subvolume.dataset.identity.uuid == uuid)
        .map(|(place, _)| *place)
}

/// What lies in a dataset; clones of nested subvolumes have new UUIDs in each run. Its labels are files whose paths no
/// file can have.
fn tree(subvolume: &Subvolume) -> Tree {
    let mut tree = (*subvolume.tree).clone();
    for (name, value) in &subvolume.labels {
        tree.insert(label(name), Content::File(value.clone()));
    }
    for content in tree.values_mut() {
        if let Content::Nested(uuid) = content
            && uuid.0[..8] == [0; 8]
        {
            *content = Content::Nested(Uuid([0; 16]));
        }
    }
    tree
}

/// Where the label of a dataset is found among its files.
pub fn label(name: &str) -> String {
    format!("//{name}")
}

/// Files, links and labels. Nested subvolumes, which may still have to be carried, and directories, which may
/// be their stubs, are left out.
fn held(tree: &Tree) -> Tree {
    tree.iter()
        .filter(|(_, content)| matches!(content, Content::File(_) | Content::Link(_)))
        .map(|(path, content)| (path.clone(), content.clone()))
        .collect()
}

/// What each live place of a store holds, as [`Form::live`] has it.
pub fn live(store: &Memory) -> BTreeMap<Part, Tree> {
    let all = store.world().datasets.iter();
    all.filter(|(place, _)| matches!(place, Place::Live(_)))
        .map(|(place, it)| (place.part(), held(&tree(it))))
        .collect()
}

fn state_form(world: &World, state: &State) -> StateForm {
    let place = |uuid| place_of(world, uuid);
    StateForm {
        next_id: state.next_id,
        live: place(state.live.system),
        clone_of: state.live.clone_of,
        older: state.older.to_vec(),
        newer: state.newer.to_vec(),
        request: state
            .request
            .map(|it| (it.verb, it.consent, it.loss, it.prepared.parts().collect())),
        parked: state.parked,
        destroy: state.destroy.map(|it| (place(it.live), it.up_to, it.phase)),
        good: state.good.map(place),
        last: state.last.map(|last| (last.verb, last.id)),
        trial: state
            .trial
            .map(|it| (place(it.system), it.fallback, it.clone_of, it.guarded)),
        failed: state.failed.to_vec(),
        fell_back: state.fell_back.map(|it| (it.from, it.to)),
    }
}

impl Form {
    /// The form of what the newest world holds.
    pub fn of(store: &Memory) -> Form {
        let world = store.world();
        let mut manifests = BTreeMap::new();
        let mut others = BTreeMap::new();
        for (file, bytes) in world.files.iter() {
            let File::Manifest(set) = file else {
                // The hint's text differs, its presence counts; the log is for people.
                let bytes = if *file == File::Armed {
                    &[]
                } else {
                    &bytes[..]
                };
                others.insert(*file, bytes.to_vec());
                continue;
            };
            let form = match decode::<Manifest>(bytes) {
                Block::Valid { value, .. } => Some(ManifestForm {
                    id: value.id,
                    // Not the kernel: where it cannot be read at that moment it is left out.
                    what: format!("{:?} {:?}", value.kind, value.origin),
                    members: value.members.iter().map(|member| member.part).collect(),
                    aside: value.aside,
                    gone: value.gone.iter().map(|member| member.part).collect(),
                    title: value.title,
                    clone_of: value.clone_of,
                    health: catalogue::health(store, *set).unwrap(),
                }),
                _ => None,
            };
            manifests.insert(*file, form);
        }
        let datasets = world.datasets.iter();
        Form {
            datasets: datasets
                .map(|(place, it)| (*place, (tree(it), it.dataset.read_only)))
                .collect(),
            directories: world.directories.clone(),
            manifests,
            others,
            default: world.default.map(|uuid| place_of(world, uuid)),
            state: match read_state(store) {
                Ok(Slots::Valid { value, .. }) => Some(state_form(world, &value)),
                _ => None,
            },
        }
    }

    /// What each live place holds.
    pub fn live(&self) -> BTreeMap<Part, Tree> {
        let all = self.datasets.iter();
        all.filter(|(place, _)| matches!(place, Place::Live(_)))
            .map(|(place, (tree, _))| (place.part(), held(tree)))
            .collect()
    }

    /// The first difference, for a message.
    pub fn difference(&self, other: &Form) -> String {
        for place in self.datasets.keys().chain(other.datasets.keys()) {
            let (own, their) = (self.datasets.get(place), other.datasets.get(place));
            if own != their {
                let brief = |it: Option<&(Tree, bool)>| {
                    it.map(|(tree, read_only)| {
                        let version = tree.get("etc/version").or(tree.get("version"));
                        format!("{version:?}, {} entries, ro {read_only}", tree.len())
                    })
                };
                return format!("{place:?}: {:?} instead of {:?}", brief(own), brief(their));
            }
        }
        if self.state != other.state {
            return format!("state {:?} instead of {:?}", self.state, other.state);
        }
        format!(
            "{:?} {:?} {:?} {:?} instead of {:?} {:?} {:?} {:?}",
            self.manifests,
            self.others.keys(),
            self.directories,
            self.default,
            other.manifests,
            other.others.keys(),
            other.directories,
            other.default
        )
    }
}

/// Sealed datasets of `before` that are not the very same in `store`.
pub fn changed_sealed(before: &Memory, store: &Memory) -> Vec<Place> {
    let sealed = before.world().datasets.iter();
    sealed
        .filter(|(place, it)| {
            let fixed = it.dataset.read_only || matches!(place, Place::Template(_));
            // What was the factory snapshot may lie under a number now, and is the same there.
            let is_there = match place {
                Place::Factory(_) => store.world().datasets.values().any(|other| other == *it),
                _ => store.world().datasets.get(place) == Some(it),
            };
            // What was prepared goes when it was used, or is not needed.
            fixed && !is_there && !matches!(place, Place::Prepared(_))
        })
        .map(|(place, _)| *place)
        .collect()
}

/// What holds for every settled disk of a machine that has a state.
pub fn sane(store: &Memory) -> Result<(), String> {
    let records = Records::open(store).map_err(|error| error.to_string())?;
    if records.journal.value != Journal::Closed {
        return Err("the journal is open".to_owned());
    }
    let state = &records.state.value;
    let world = store.world();
    let live = Place::Live(Part::System);
    let system = world
        .datasets
        .get(&live)
        .ok_or("no live system".to_owned())?
        .dataset
        .identity
        .uuid;
    if state.parked.is_none() && state.live.system != system {
        return Err("the state names another live system".to_owned());
    }
    if world.default.is_some_and(|uuid| uuid != system) {
        return Err("the default does not follow the name".to_owned());
    }
    let waits = state.parked.is_some() || state.request.is_some();
    if world.files.contains_key(&File::Armed) != waits {
        return Err(format!("something waits: {waits}, the hint says otherwise"));
    }
    let left_over = prepared::left_over(store, &records).map_err(|error| error.to_string())?;
    if !left_over.is_empty() {
        return Err(format!("prepared for nobody: {left_over:?}"));
    }
    for id in store.ids().unwrap() {
        if id >= state.next_id {
            return Err(format!("{id} lies there and is still to be given out"));
        }
        let health = catalogue::health(store, Set::Snapshot(id)).unwrap();
        let parked = state.parked == Some(id);
        match health {
            Health::Sound | Health::WithoutConfig if !parked => {}
            Health::Parked if parked => {}
            Health::FormerFactory => {}
            other => return Err(format!("set {id}: {other:?}")),
        }
    }
    Ok(())
}
