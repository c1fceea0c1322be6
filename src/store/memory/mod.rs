//! A store in memory that keeps btrfs's rules about what is on disk when, for tests.
//!
//! Every changing operation adds a world; `sync` and `clone_to` make the newest one durable.
//! `cut.rs` says what a power cut may leave, `rules.rs` what each operation does and in how many
//! steps the kernel does it. Nothing here is more forgiving than `store/btrfs`; a conformance suite
//! runs over both. Besides a cut, an operation can find no room ([`Memory::full`]), fail with or
//! without its effect ([`Memory::fault`]), and the store itself can be made wrong ([`Broken`]), so
//! that a checker can be seen to fail.

mod cut;
mod labels;
mod rules;
pub mod shared;

pub use cut::Cuts;
pub use labels::Labels;

use super::place::{File, Place};
use super::{Dataset, Result, StoreError};
use crate::record::block::BLOCK;
use crate::record::layout::Layout;
use crate::record::{Identity, Uuid};
use shared::Shared;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A dataset's content: paths and what lies there.
pub type Tree = BTreeMap<String, Content>;

/// One thing in a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// A regular file.
    File(Vec<u8>),
    /// A directory.
    Directory,
    /// A symbolic link.
    Link(String),
    /// A subvolume of its own.
    Nested(Uuid),
}

/// A dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subvolume {
    /// As the store reports it.
    pub dataset: Dataset,
    /// What its source's last change was when it was cloned from that.
    pub otransid: u64,
    /// What it holds.
    pub tree: Shared<Tree>,
    /// What is said of it.
    pub labels: Labels,
}

impl Hash for Subvolume {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Identity { uuid, ctransid } = self.dataset.identity;
        let Dataset {
            parent, read_only, ..
        } = self.dataset;
        (uuid, ctransid, parent, read_only, self.otransid).hash(state);
        (&self.tree, &self.labels).hash(state);
    }
}

/// Everything in the store but the slot files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct World {
    /// Datasets by place.
    pub datasets: Shared<BTreeMap<Place, Subvolume>>,
    /// Directories of snapshots.
    pub directories: BTreeSet<u32>,
    /// Small files.
    pub files: Shared<BTreeMap<File, Vec<u8>>>,
    /// The dataset that is booted without a name.
    pub default: Option<Uuid>,
    /// Whether the ballast is there.
    pub ballast: bool,
}

/// The two slot files, whole.
pub type SlotFiles = BTreeMap<File, Shared<Vec<u8>>>;

/// What an operation does that fails with an input/output error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing; a slot keeps what it held.
    NotDone,
    /// All of it, and the error came afterwards.
    Done,
    /// Nothing, and a slot that was to be written holds garbage.
    Garbled,
}

/// A store that does not keep its promises: what checks the engine must see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// An exchange is three renames, with instants at which the live name is missing.
    Renames,
    /// `sync` brings nothing to disk.
    DeafSync,
    /// `sync` brings nothing to disk while an exchange waits for it: records come before it.
    LateExchange,
}

/// The store.
#[derive(Clone, Debug)]
pub struct Memory {
    layout: Arc<Layout>,
    /// The durable world first, then one for each operation since.
    worlds: Vec<World>,
    slots: SlotFiles,
    uuids: u64,
    /// UUIDs up to this one were there before what is explored.
    floor: Option<u64>,
    changes: u64,
    /// Changing operations left before the power goes.
    pub power: Option<usize>,
    /// Changing operations done.
    pub operations: usize,
    /// Looks at the store done.
    pub looks: Cell<usize>,
    /// No room for new metadata while the ballast is there, and none at all without it if `true`.
    pub full: Option<bool>,
    /// From this operation on the file system is full, as [`Memory::full`] says.
    pub full_from: Option<(usize, bool)>,
    /// The operation with this number fails.
    pub fault: Option<(usize, Fault)>,
    /// The look with this number fails.
    pub blind: Option<usize>,
    /// No nested subvolume can be cloned.
    pub barred: bool,
    /// There is a default tarball.
    pub tarball: bool,
    /// What a cut may leave is recorded here before and after each operation.
    pub cuts: Option<Box<Cuts>>,
    /// UUIDs that were destroyed, and those that changed places, since this was emptied.
    pub destroyed: Vec<Uuid>,
    /// The pairs of places that were exchanged or renamed.
    pub moved: Vec<(Place, Place)>,
    /// How it breaks its promises.
    pub broken: Option<Broken>,
}

impl Memory {
    /// An empty store; both slot files are zero.
    pub fn new(layout: Layout) -> Memory {
        Memory::empty(Arc::new(layout))
    }

    fn empty(layout: Arc<Layout>) -> Memory {
        let slots = [File::State, File::Journal].map(|file| (file, vec![0; 2 * BLOCK].into()));
        Memory {
            layout,
            worlds: vec![World {
                ballast: true,
                ..World::default()
            }],
            slots: slots.into_iter().collect(),
            uuids: 0,
            floor: None,
            changes: 0,
            power: None,
            operations: 0,
            looks: Cell::new(0),
            full: None,
            full_from: None,
            fault: None,
            blind: None,
            barred: false,
            tarball: false,
            cuts: None,
            destroyed: Vec::new(),
            moved: Vec::new(),
            broken: None,
        }
    }

    /// The newest world.
    pub fn world(&self) -> &World {
        self.worlds.last().unwrap()
    }

    /// The slot files.
    pub fn slots(&self) -> &SlotFiles {
        &self.slots
    }

    /// Changes the newest world as an outsider would, durably.
    pub fn edit<T>(&mut self, change: impl FnOnce(&mut World, &mut SlotFiles) -> T) -> T {
        let mut world = self.world().clone();
        let result = change(&mut world, &mut self.slots);
        self.worlds = vec![world];
        result
    }

    /// Puts a fresh dataset at a place, durably.
    pub fn put(&mut self, place: Place, tree: Tree) -> Uuid {
        let identity = Identity {
            uuid: self.uuid(),
            ctransid: self.tick(),
        };
        let dataset = Dataset {
            identity,
            parent: None,
            read_only: false,
        };
        let subvolume = Subvolume {
            dataset,
            otransid: 0,
            tree: tree.into(),
            labels: Labels::new(),
        };
        self.edit(|world, _| world.datasets.insert(place, subvolume));
        identity.uuid
    }

    /// Fills a dataset, as writing files does: in steps, some of them on disk before others.
    pub fn fill(&mut self, place: Place, tree: Tree) -> Result<()> {
        let half = tree.len() / 2;
        for part in [
            tree.iter().take(half).collect::<Vec<_>>(),
            tree.iter().skip(half).collect(),
        ] {
            self.change_with_room(|world| {
                let subvolume = world
                    .datasets
                    .get_mut(&place)
                    .ok_or_else(|| absent(place))?;
                for (path, content) in part {
                    subvolume.tree.insert(path.clone(), content.clone());
                }
                subvolume.dataset.identity.ctransid += 1;
                Ok(())
            })?;
        }
        Ok(())
    }

    fn tick(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    /// Begins a changing operation; says whether it is to fail after it was done.
    fn operate(&mut self) -> Result<Option<Fault>> {
        if let Some(power) = &mut self.power {
            *power = power
                .checked_sub(1)
                .ok_or(StoreError::System("the power is off".into()))?;
        }
        self.note_cut();
        let now = self.operations;
        self.operations += 1;
        if let Some((_, always)) = self.full_from.filter(|(from, _)| now >= *from) {
            self.full = Some(always);
        }
        match self.fault.filter(|(at, _)| *at == now) {
            Some((_, Fault::NotDone)) => Err(broken_disk()),
            other => Ok(other.map(|(_, fault)| fault)),
        }
    }

    /// One step that the kernel does as a whole, in the newest world.
    fn change<T>(&mut self, change: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        let fault = self.operate()?;
        if fault == Some(Fault::Garbled) {
            return Err(broken_disk());
        }
        let mut world = self.world().clone();
        let result = change(&mut world)?;
        self.worlds.push(world);
        if fault.is_some() {
            return Err(broken_disk());
        }
        Ok(result)
    }

    /// The same for a step that takes room in the metadata.
    fn change_with_room<T>(&mut self, change: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        let after = self.operations;
        let will_be_full = self.full_from.filter(|(from, _)| after >= *from);
        // Room that was given up can be used once that is on disk.
        let held = self.worlds.iter().any(|world| world.ballast);
        match will_be_full.map(|(_, always)| always).or(self.full) {
            Some(always) if always || held => {
                self.operate()?;
                Err(StoreError::Full("no space left".into()))
            }
            _ => self.change(change),
        }
    }

    fn look(&self) -> Result<()> {
        let now = self.looks.get();
        self.looks.set(now + 1);
        match self.blind {
            Some(at) if at == now => Err(broken_disk()),
            _ => Ok(()),
        }
    }

    fn at(&self, place: Place) -> Result<&Subvolume> {
        self.world()
            .datasets
            .get(&place)
            .ok_or_else(|| absent(place))
    }

    fn content_at(&self, place: Place, path: &str) -> Result<Option<&Content>> {
        Ok(self.at(place)?.tree.get(path))
    }
}

fn absent(place: Place) -> StoreError {
    StoreError::Place(format!("nothing at {place:?}"))
}

fn broken_disk() -> StoreError {
    StoreError::System("EIO: input/output error".into())
}
