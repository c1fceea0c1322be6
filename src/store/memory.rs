//! A store in memory that keeps btrfs's rules about what is on disk when, for tests.
//!
//! Every changing operation adds a world; `sync` and `clone_to` make the newest one durable. A
//! power cut may leave any world since then: [`Memory::after_power_cut`] gives them all. Slot files
//! are durable at once. A cut can be set before the n-th changing operation, and the file system
//! can be full.

use super::place::{File, Place, Set};
use super::{Access, Carried, Dataset, Nested, Node, Result, Store, StoreError};
use crate::record::block::BLOCK;
use crate::record::layout::{Layout, Part};
use crate::record::{Identity, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// A dataset's content: paths and what lies there.
pub type Tree = BTreeMap<String, Content>;

/// One thing in a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// What it holds.
    pub tree: Tree,
}

/// Everything in the store but the slot files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Datasets by place.
    pub datasets: BTreeMap<Place, Subvolume>,
    /// Directories of snapshots.
    pub directories: BTreeSet<u32>,
    /// Small files.
    pub files: BTreeMap<File, Vec<u8>>,
    /// The dataset that is booted without a name.
    pub default: Option<Uuid>,
    /// Whether the ballast is there.
    pub ballast: bool,
}

/// The store.
#[derive(Clone, Debug)]
pub struct Memory {
    layout: Layout,
    /// The durable world first, then one for each operation since.
    worlds: Vec<World>,
    slots: BTreeMap<File, Vec<u8>>,
    uuids: u64,
    changes: u64,
    /// Changing operations left before the power goes.
    pub power: Option<usize>,
    /// Changing operations done.
    pub operations: usize,
    /// No room for new metadata while the ballast is there, and none at all without it if `true`.
    pub full: Option<bool>,
}

impl Memory {
    /// An empty store; both slot files are zero.
    pub fn new(layout: Layout) -> Memory {
        let slots = [File::State, File::Journal].map(|file| (file, vec![0; 2 * BLOCK]));
        Memory {
            layout,
            worlds: vec![World {
                ballast: true,
                ..World::default()
            }],
            slots: slots.into_iter().collect(),
            uuids: 0,
            changes: 0,
            power: None,
            operations: 0,
            full: None,
        }
    }

    /// The newest world.
    pub fn world(&self) -> &World {
        self.worlds.last().unwrap()
    }

    /// Changes the newest world as an outsider would, durably.
    pub fn edit<T>(
        &mut self,
        change: impl FnOnce(&mut World, &mut BTreeMap<File, Vec<u8>>) -> T,
    ) -> T {
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
        self.edit(|world, _| world.datasets.insert(place, Subvolume { dataset, tree }));
        identity.uuid
    }

    /// Every store that a power cut now may leave, the oldest first.
    pub fn after_power_cut(&self) -> Vec<Memory> {
        let left = |world: &World| Memory {
            worlds: vec![world.clone()],
            power: None,
            operations: 0,
            ..self.clone()
        };
        let mut distinct: Vec<&World> = Vec::new();
        for world in &self.worlds {
            if distinct.last() != Some(&world) {
                distinct.push(world);
            }
        }
        distinct.into_iter().map(left).collect()
    }

    fn uuid(&mut self) -> Uuid {
        self.uuids += 1;
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&self.uuids.to_be_bytes());
        Uuid(bytes)
    }

    fn tick(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    fn operate(&mut self) -> Result<()> {
        if let Some(power) = &mut self.power {
            *power = power
                .checked_sub(1)
                .ok_or(StoreError::System("the power is off".into()))?;
        }
        self.operations += 1;
        Ok(())
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        self.operate()?;
        let mut world = self.world().clone();
        let result = change(&mut world)?;
        self.worlds.push(world);
        Ok(result)
    }

    fn room(&self) -> Result<()> {
        match self.full {
            Some(always) if always || self.world().ballast => {
                Err(StoreError::Full("no space left".into()))
            }
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

impl Store for Memory {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn dataset(&self, place: Place) -> Result<Option<Dataset>> {
        Ok(self
            .world()
            .datasets
            .get(&place)
            .map(|subvolume| subvolume.dataset))
    }

    fn clone_to(&mut self, from: Place, to: Place, access: Access) -> Result<Dataset> {
        let source = self.at(from)?.clone();
        let identity = Identity {
            uuid: self.uuid(),
            ctransid: source.dataset.identity.ctransid,
        };
        let read_only = access == Access::ReadOnly;
        let dataset = Dataset {
            identity,
            parent: Some(source.dataset.identity.uuid),
            read_only,
        };
        let tree = source
            .tree
            .into_iter()
            .map(|(path, content)| match content {
                Content::Nested(_) => (path, Content::Directory),
                content => (path, content),
            });
        let subvolume = Subvolume {
            dataset,
            tree: tree.collect(),
        };
        self.change(|world| match world.datasets.insert(to, subvolume) {
            Some(_) => Err(StoreError::Place(format!("{to:?} exists"))),
            None => Ok(()),
        })?;
        self.worlds.drain(..self.worlds.len() - 1);
        Ok(dataset)
    }

    fn clone_nested(&mut self, from: Place, to: Place) -> Result<()> {
        for nested in self.nested(from)? {
            let uuid = self.uuid();
            self.change(|world| {
                let subvolume = world.datasets.get_mut(&to).ok_or(absent(to))?;
                subvolume
                    .tree
                    .insert(nested.path.clone(), Content::Nested(uuid));
                Ok(())
            })?;
        }
        Ok(())
    }

    fn exchange(&mut self, one: Place, other: Place) -> Result<()> {
        self.room()?;
        let (a, b) = (self.at(one)?.clone(), self.at(other)?.clone());
        if a.dataset.read_only || b.dataset.read_only {
            return Err(StoreError::System(
                "EROFS: a read-only subvolume cannot move".into(),
            ));
        }
        self.change(|world| {
            world.datasets.insert(one, b);
            world.datasets.insert(other, a);
            Ok(())
        })
    }

    fn rename(&mut self, from: Place, to: Place) -> Result<()> {
        self.room()?;
        let moved = self.at(from)?.clone();
        self.change(|world| {
            world.datasets.remove(&from);
            match world.datasets.insert(to, moved) {
                Some(_) => Err(StoreError::Place(format!("{to:?} exists"))),
                None => Ok(()),
            }
        })
    }

    fn follow_default(&mut self, old: Place, new: Place) -> Result<()> {
        let (old, new) = (
            self.at(old)?.dataset.identity.uuid,
            self.at(new)?.dataset.identity.uuid,
        );
        if self.world().default != Some(old) {
            return Ok(());
        }
        self.change(|world| {
            world.default = Some(new);
            Ok(())
        })
    }

    fn seal(&mut self, place: Place) -> Result<Identity> {
        let identity = self.at(place)?.dataset.identity;
        if !self.at(place)?.dataset.read_only {
            self.change(|world| match world.datasets.get_mut(&place) {
                Some(subvolume) => {
                    subvolume.dataset.read_only = true;
                    Ok(())
                }
                None => Err(absent(place)),
            })?;
            self.sync()?;
        }
        Ok(identity)
    }

    fn destroy(&mut self, place: Place, uuid: Uuid) -> Result<()> {
        self.change(|world| {
            if world
                .datasets
                .get(&place)
                .is_some_and(|it| it.dataset.identity.uuid == uuid)
            {
                if world.default == Some(uuid) {
                    let text = format!("{place:?} is the default subvolume");
                    return Err(StoreError::Place(text));
                }
                world.datasets.remove(&place);
            }
            Ok(())
        })
    }

    fn nested(&self, place: Place) -> Result<Vec<Nested>> {
        let nested = |(path, content): (&String, &Content)| match content {
            Content::Nested(uuid) => Some(Nested {
                path: path.clone(),
                uuid: *uuid,
            }),
            _ => None,
        };
        Ok(self.at(place)?.tree.iter().filter_map(nested).collect())
    }

    fn carry(&mut self, nested: &Nested, from: Place, to: Place) -> Result<Carried> {
        let target = self.content_at(to, &nested.path)?.cloned();
        if target == Some(Content::Nested(nested.uuid)) {
            return Ok(Carried::Moved);
        }
        let empty = self.names(to, &nested.path)?.is_empty();
        if target != Some(Content::Directory) || !empty {
            return Ok(Carried::Stayed);
        }
        self.change(|world| {
            for (place, content) in [(from, None), (to, Some(Content::Nested(nested.uuid)))] {
                let tree = &mut world.datasets.get_mut(&place).ok_or(absent(place))?.tree;
                match content {
                    Some(content) => tree.insert(nested.path.clone(), content),
                    None => tree.remove(&nested.path),
                };
            }
            Ok(Carried::Moved)
        })
    }

    fn ids(&self) -> Result<Vec<u32>> {
        let places = self
            .world()
            .datasets
            .keys()
            .filter_map(|place| match place {
                Place::Snapshot(id, _) => Some(*id),
                _ => None,
            });
        Ok(self
            .world()
            .directories
            .iter()
            .copied()
            .chain(places)
            .collect())
    }

    fn make_directory(&mut self, id: u32) -> Result<()> {
        self.change(|world| {
            world.directories.insert(id);
            Ok(())
        })
    }

    fn remove_directory(&mut self, id: u32) -> Result<()> {
        let set = [Part::Config, Part::Defaults, Part::System];
        let inside = |part: &Part| {
            self.world()
                .datasets
                .contains_key(&Place::Snapshot(id, *part))
        };
        if set.iter().any(inside) {
            return Err(StoreError::System("ENOTEMPTY: a dataset lies in it".into()));
        }
        self.change(|world| {
            world.directories.remove(&id);
            world.files.remove(&File::Manifest(Set::Snapshot(id)));
            world.files.remove(&File::MenuCfg(Set::Snapshot(id)));
            Ok(())
        })
    }

    fn read(&self, file: File) -> Result<Option<Vec<u8>>> {
        Ok(self
            .slots
            .get(&file)
            .or_else(|| self.world().files.get(&file))
            .cloned())
    }

    fn write_slot(&mut self, file: File, slot: usize, block: &[u8; BLOCK]) -> Result<()> {
        self.operate()?;
        let slots = self
            .slots
            .get_mut(&file)
            .ok_or(StoreError::Place("no slots".into()))?;
        slots[slot * BLOCK..][..BLOCK].copy_from_slice(block);
        Ok(())
    }

    fn replace(&mut self, file: File, bytes: &[u8]) -> Result<()> {
        self.room()?;
        self.change(|world| {
            world.files.insert(file, bytes.to_vec());
            Ok(())
        })
    }

    fn remove(&mut self, file: File) -> Result<()> {
        self.change(|world| {
            world.files.remove(&file);
            Ok(())
        })
    }

    fn give_up_ballast(&mut self) -> Result<bool> {
        let had = self.world().ballast;
        self.change(|world| {
            world.ballast = false;
            Ok(had)
        })
    }

    fn node(&self, place: Place, path: &str) -> Result<Option<Node>> {
        Ok(self.content_at(place, path)?.map(|content| match content {
            Content::File(_) => Node::File,
            Content::Directory | Content::Nested(_) => Node::Directory,
            Content::Link(_) => Node::Symlink,
        }))
    }

    fn names(&self, place: Place, path: &str) -> Result<Vec<String>> {
        let prefix = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        let child = |path: &String| {
            let rest = path.strip_prefix(&prefix)?;
            (!rest.is_empty() && !rest.contains('/')).then(|| rest.to_owned())
        };
        Ok(self.at(place)?.tree.keys().filter_map(child).collect())
    }

    fn link(&self, place: Place, path: &str) -> Result<Option<String>> {
        Ok(match self.content_at(place, path)? {
            Some(Content::Link(target)) => Some(target.clone()),
            _ => None,
        })
    }

    fn content(&self, place: Place, path: &str) -> Result<Option<Vec<u8>>> {
        Ok(match self.content_at(place, path)? {
            Some(Content::File(bytes)) => Some(bytes.clone()),
            _ => None,
        })
    }

    fn sync(&mut self) -> Result<()> {
        self.operate()?;
        self.worlds.drain(..self.worlds.len() - 1);
        Ok(())
    }
}
