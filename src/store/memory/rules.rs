//! What each operation does, step by step as `store/btrfs` has the kernel do it: a cut may fall
//! between any two steps.

use super::{Broken, Content, Fault, Labels, Memory, Subvolume, absent, broken_disk};
use crate::record::block::BLOCK;
use crate::record::layout::{Layout, Part};
use crate::record::{Identity, Uuid};
use crate::store::place::{File, Place, Set};
use crate::store::{Access, Carried, Dataset, Nested, Node, Result, Store, StoreError};

impl Memory {
    /// Everything up to now is on disk.
    fn commit(&mut self) {
        self.worlds.drain(..self.worlds.len() - 1);
    }

    /// The directory that a place lies in is made where it is missing.
    fn room_for(&mut self, place: Place) -> Result<()> {
        match place {
            Place::Snapshot(_, Part::Data(_)) => Ok(()),
            Place::Snapshot(id, _) => self.make_directory(id),
            _ => Ok(()),
        }
    }

    fn subvolume_mut<T>(
        &mut self,
        place: Place,
        change: impl FnOnce(&mut Subvolume) -> T,
    ) -> Result<T> {
        self.change(|world| {
            let subvolume = world
                .datasets
                .get_mut(&place)
                .ok_or_else(|| absent(place))?;
            Ok(change(subvolume))
        })
    }

    fn put_nested(&mut self, place: Place, path: &str, uuid: Uuid) -> Result<()> {
        self.change_with_room(|world| {
            let subvolume = world
                .datasets
                .get_mut(&place)
                .ok_or_else(|| absent(place))?;
            let nested = Content::Nested(uuid);
            subvolume.tree.insert(path.to_owned(), nested);
            Ok(())
        })
    }

    /// The wrong way: the live name is missing for an instant.
    fn rename_thrice(&mut self, one: Place, other: Place) -> Result<()> {
        let (a, b) = (self.at(one)?.clone(), self.at(other)?.clone());
        self.change(|world| Ok(world.datasets.remove(&one).is_some()))?;
        self.change(|world| {
            world.datasets.remove(&other);
            Ok(world.datasets.insert(one, b).is_some())
        })?;
        self.change(|world| Ok(world.datasets.insert(other, a).is_some()))?;
        Ok(())
    }

    /// Whether the newest world has a live dataset that the durable one does not have there.
    fn exchange_waits(&self) -> bool {
        let live = |world: &super::World| -> Vec<(Place, Uuid)> {
            let all = world.datasets.iter();
            all.filter(|(place, _)| matches!(place, Place::Live(_)))
                .map(|(place, subvolume)| (*place, subvolume.dataset.identity.uuid))
                .collect()
        };
        live(self.world()) != live(&self.worlds[0])
    }
}

/// The path of a nested one; all paths of this store are UTF-8.
fn key(nested: &Nested) -> Result<&str> {
    let path = std::str::from_utf8(&nested.path);
    path.map_err(|error| StoreError::Place(error.to_string()))
}

impl Store for Memory {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn dataset(&self, place: Place) -> Result<Option<Dataset>> {
        self.look()?;
        Ok(self
            .world()
            .datasets
            .get(&place)
            .map(|subvolume| subvolume.dataset))
    }

    fn clone_to(&mut self, from: Place, to: Place, access: Access) -> Result<Dataset> {
        let source = self.at(from)?.clone();
        if self.world().datasets.contains_key(&to) {
            return Err(StoreError::Place(format!("{to:?} exists")));
        }
        self.room_for(to)?;
        let identity = Identity {
            uuid: self.uuid(),
            ctransid: source.dataset.identity.ctransid,
        };
        let dataset = Dataset {
            identity,
            parent: Some(source.dataset.identity.uuid),
            read_only: access == Access::ReadOnly,
        };
        let mut tree = source.tree;
        if tree
            .values()
            .any(|content| matches!(content, Content::Nested(_)))
        {
            for content in tree.values_mut() {
                if matches!(content, Content::Nested(_)) {
                    *content = Content::Directory;
                }
            }
        }
        let subvolume = Subvolume {
            dataset,
            otransid: source.dataset.identity.ctransid,
            tree,
            labels: source.labels,
        };
        let made = self.change_with_room(|world| {
            world.datasets.insert(to, subvolume);
            Ok(dataset)
        });
        // SNAP_CREATE commits. With an error after it the commit may have happened or not.
        if made.is_ok() {
            self.commit();
        }
        made
    }

    fn create(&mut self, place: Place) -> Result<Dataset> {
        if self.world().datasets.contains_key(&place) {
            return Err(StoreError::Place(format!("{place:?} exists")));
        }
        self.room_for(place)?;
        let identity = Identity {
            uuid: self.uuid(),
            // The same each time, so that an exploration comes to an end.
            ctransid: 0,
        };
        let dataset = Dataset {
            identity,
            parent: None,
            read_only: false,
        };
        self.change_with_room(|world| {
            let subvolume = Subvolume {
                dataset,
                otransid: 0,
                tree: Default::default(),
                labels: Labels::new(),
            };
            world.datasets.insert(place, subvolume);
            Ok(dataset)
        })
    }

    fn exchange_factory(&mut self, id: u32) -> Result<()> {
        let set = Set::Snapshot(id);
        if !self.world().directories.contains(&id) {
            return Err(StoreError::Place(format!("no directory for {set:?}")));
        }
        self.change_with_room(|world| {
            for part in [Part::System, Part::Config, Part::Defaults] {
                let places = [set.place(part), Place::Factory(part)];
                let [staged, old] = places.map(|place| world.datasets.remove(&place));
                let [to_set, to_factory] = places;
                for (place, moved) in [(to_factory, staged), (to_set, old)] {
                    moved.and_then(|moved| world.datasets.insert(place, moved));
                }
            }
            for file in [File::Manifest as fn(Set) -> File, File::MenuCfg] {
                let files = [file(set), file(Set::Factory)];
                let [staged, old] = files.map(|file| world.files.remove(&file));
                let [to_set, to_factory] = files;
                for (file, moved) in [(to_factory, staged), (to_set, old)] {
                    moved.and_then(|moved| world.files.insert(file, moved));
                }
            }
            Ok(())
        })
    }

    fn factory_held(&self) -> Result<Option<&'static str>> {
        Ok(None)
    }

    fn has_tarball(&self) -> Result<bool> {
        self.look()?;
        Ok(self.tarball)
    }

    fn clone_nested(&mut self, from: Place, to: Place) -> Result<Vec<Nested>> {
        if self.barred {
            return self.nested(from);
        }
        for nested in self.nested(from)? {
            let path = key(&nested)?;
            let there = self.content_at(to, path)?.cloned();
            if matches!(there, Some(Content::Nested(_))) {
                continue;
            }
            if there.is_some() {
                self.subvolume_mut(to, |it| it.tree.remove(path))?;
            }
            let uuid = self.uuid();
            self.put_nested(to, path, uuid)?;
            self.commit();
        }
        Ok(Vec::new())
    }

    fn exchange(&mut self, one: Place, other: Place) -> Result<()> {
        let (a, b) = (self.at(one)?.clone(), self.at(other)?.clone());
        if a.dataset.read_only || b.dataset.read_only {
            return Err(StoreError::System(
                "EROFS: a read-only subvolume cannot move".into(),
            ));
        }
        self.moved.push((one, other));
        if self.broken == Some(Broken::Renames) {
            return self.rename_thrice(one, other);
        }
        self.change_with_room(|world| {
            world.datasets.insert(one, b);
            world.datasets.insert(other, a);
            Ok(())
        })
    }

    fn rename(&mut self, from: Place, to: Place) -> Result<()> {
        let moved = self.at(from)?.clone();
        if moved.dataset.read_only {
            return Err(StoreError::System(
                "EROFS: a read-only subvolume cannot move".into(),
            ));
        }
        if self.world().datasets.contains_key(&to) {
            return Err(StoreError::Place(format!("{to:?} exists")));
        }
        self.room_for(to)?;
        self.moved.push((from, to));
        self.change_with_room(|world| {
            world.datasets.remove(&from);
            world.datasets.insert(to, moved);
            Ok(())
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
        self.change_with_room(|world| {
            world.default = Some(new);
            Ok(())
        })
    }

    fn seal(&mut self, place: Place) -> Result<Identity> {
        if !self.at(place)?.dataset.read_only {
            self.change_with_room(|world| {
                let subvolume = world
                    .datasets
                    .get_mut(&place)
                    .ok_or_else(|| absent(place))?;
                subvolume.dataset.read_only = true;
                Ok(())
            })?;
        }
        self.sync()?;
        Ok(self.at(place)?.dataset.identity)
    }

    fn destroy(&mut self, place: Place, uuid: Uuid) -> Result<()> {
        let Some(subvolume) = self.world().datasets.get(&place) else {
            return Ok(());
        };
        let found = subvolume.dataset;
        if found.identity.uuid != uuid {
            return Err(StoreError::Place(format!(
                "{place:?} is {}, not {uuid}: it was left alone",
                found.identity.uuid
            )));
        }
        if self.world().default == Some(uuid) {
            return Err(StoreError::Place(format!(
                "{place:?} is the default subvolume"
            )));
        }
        let nested = self.nested(place)?;
        if found.read_only && !nested.is_empty() {
            self.subvolume_mut(place, |it| it.dataset.read_only = false)?;
        }
        for inner in nested.iter().rev() {
            let path = key(inner)?;
            self.destroyed.extend(inner.uuid);
            // Its name goes with it.
            self.change_with_room(|world| {
                let subvolume = world
                    .datasets
                    .get_mut(&place)
                    .ok_or_else(|| absent(place))?;
                Ok(subvolume.tree.remove(path))
            })?;
        }
        // SNAP_DESTROY reserves metadata before it gives any back.
        let result = self.change_with_room(|world| Ok(world.datasets.remove(&place).is_some()));
        if !self.world().datasets.contains_key(&place) {
            self.destroyed.push(uuid);
        }
        result.map(|_| ())
    }

    fn written_since(&self, live: Place, clone: Place) -> Result<bool> {
        self.look()?;
        let (live, clone) = (self.at(live)?, self.at(clone)?);
        // What lies in a nested one has no trees here.
        let nested = |content: &&Content| matches!(content, Content::Nested(_));
        let count = |it: &Subvolume| it.tree.values().filter(nested).count();
        Ok(live.dataset.identity.ctransid > clone.otransid || count(live) != count(clone))
    }

    fn nested(&self, place: Place) -> Result<Vec<Nested>> {
        self.look()?;
        let nested = |(path, content): (&String, &Content)| match content {
            Content::Nested(uuid) => Some(Nested {
                path: path.clone().into_bytes(),
                uuid: Some(*uuid),
            }),
            _ => None,
        };
        Ok(self.at(place)?.tree.iter().filter_map(nested).collect())
    }

    fn carry(&mut self, nested: &Nested, from: Place, to: Place) -> Result<Carried> {
        let path = key(nested)?;
        let Some(uuid) = nested.uuid else {
            return Ok(Carried::Stayed);
        };
        let target = self.content_at(to, path)?.cloned();
        if target == Some(Content::Nested(uuid)) {
            return Ok(Carried::Moved);
        }
        let parent = path.rsplit_once('/').map(|(parent, _)| parent);
        let stub = match target {
            None => false,
            Some(Content::Directory) if self.names(to, path)?.is_empty() => true,
            Some(_) => return Ok(Carried::Stayed),
        };
        let has_parent = match parent {
            Some(parent) => self.content_at(to, parent)? == Some(&Content::Directory),
            None => true,
        };
        let there = self.content_at(from, path)? == Some(&Content::Nested(uuid));
        let sealed = self.at(from)?.dataset.read_only || self.at(to)?.dataset.read_only;
        if !has_parent || !there || sealed {
            return Ok(Carried::Stayed);
        }
        if stub {
            self.subvolume_mut(to, |it| it.tree.remove(path))?;
        }
        let moved = self.change_with_room(|world| {
            for (place, content) in [(from, None), (to, Some(Content::Nested(uuid)))] {
                let tree = &mut world.datasets.get_mut(&place).ok_or(absent(place))?.tree;
                match content {
                    Some(content) => tree.insert(path.to_owned(), content),
                    None => tree.remove(path),
                };
            }
            Ok(Carried::Moved)
        });
        if moved.is_err() && stub && self.content_at(to, path)?.is_none() {
            let put_back = |it: &mut Subvolume| {
                it.tree.insert(path.to_owned(), Content::Directory);
            };
            self.subvolume_mut(to, put_back).ok();
        }
        moved
    }

    fn ids(&self) -> Result<Vec<u32>> {
        self.look()?;
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
        if self.world().directories.contains(&id) {
            return Ok(());
        }
        self.change_with_room(|world| {
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
        for file in [
            File::MenuCfg(Set::Snapshot(id)),
            File::Manifest(Set::Snapshot(id)),
        ] {
            self.remove(file)?;
        }
        if self.world().directories.contains(&id) {
            self.change_with_room(|world| {
                world.directories.remove(&id);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn read(&self, file: File) -> Result<Option<Vec<u8>>> {
        self.look()?;
        if let Some(bytes) = self.slots.get(&file) {
            return Ok(Some(bytes.to_vec()));
        }
        Ok(self.world().files.get(&file).cloned())
    }

    fn write_slot(&mut self, file: File, slot: usize, block: &[u8; BLOCK]) -> Result<()> {
        match self.slots.get(&file).map(|bytes| bytes.len()) {
            Some(length) if length == 2 * BLOCK => {}
            _ => return Err(StoreError::Place(format!("{file:?} has no two slots"))),
        }
        let fault = self.operate()?;
        self.note_torn(file, slot);
        if let Some(bytes) = self.slots.get_mut(&file) {
            let target = &mut bytes[slot * BLOCK..][..BLOCK];
            match fault {
                Some(Fault::Garbled) => target.fill(0xa5),
                _ => target.copy_from_slice(block),
            }
        }
        match fault {
            Some(_) => Err(broken_disk()),
            None => Ok(()),
        }
    }

    fn replace(&mut self, file: File, bytes: &[u8]) -> Result<()> {
        if self.slots.contains_key(&file) {
            return Err(StoreError::Place(format!("{file:?} is written in slots")));
        }
        if let File::Manifest(Set::Snapshot(id)) | File::MenuCfg(Set::Snapshot(id)) = file
            && !self.world().directories.contains(&id)
        {
            return Err(StoreError::Place(format!("no directory for {file:?}")));
        }
        self.change_with_room(|world| {
            world.files.insert(file, bytes.to_vec());
            Ok(())
        })
    }

    fn remove(&mut self, file: File) -> Result<()> {
        if !self.world().files.contains_key(&file) {
            return Ok(());
        }
        self.change(|world| {
            world.files.remove(&file);
            Ok(())
        })
    }

    fn give_up_ballast(&mut self) -> Result<bool> {
        if !self.world().ballast {
            return Ok(false);
        }
        self.change(|world| {
            world.ballast = false;
            Ok(())
        })?;
        self.sync()?;
        Ok(true)
    }

    fn node(&self, place: Place, path: &str) -> Result<Option<Node>> {
        self.look()?;
        if path.split('/').any(|name| name.len() > 255) {
            return Err(StoreError::System(
                "ENAMETOOLONG: file name too long".into(),
            ));
        }
        Ok(self.content_at(place, path)?.map(|content| match content {
            Content::File(_) => Node::File,
            Content::Directory | Content::Nested(_) => Node::Directory,
            Content::Link(_) => Node::Symlink,
        }))
    }

    // Files have no mode here.
    fn is_executable(&self, place: Place, path: &str) -> Result<bool> {
        Ok(self.node(place, path)? == Some(Node::File))
    }

    fn names(&self, place: Place, path: &str) -> Result<Vec<String>> {
        self.look()?;
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
        self.look()?;
        Ok(match self.content_at(place, path)? {
            Some(Content::Link(target)) => Some(target.clone()),
            _ => None,
        })
    }

    fn content(&self, place: Place, path: &str) -> Result<Option<Vec<u8>>> {
        self.look()?;
        Ok(match self.content_at(place, path)? {
            Some(Content::File(bytes)) => Some(bytes.clone()),
            _ => None,
        })
    }

    fn label(&self, place: Place, name: &str) -> Result<Option<Vec<u8>>> {
        self.label_at(place, name)
    }

    fn labels(&self, place: Place) -> Result<Vec<String>> {
        self.labels_at(place)
    }

    fn set_label(&mut self, place: Place, name: &str, value: Option<&[u8]>) -> Result<()> {
        self.set_label_at(place, name, value)
    }

    fn sync(&mut self) -> Result<()> {
        let fault = self.operate()?;
        if fault == Some(Fault::Garbled) {
            return Err(broken_disk());
        }
        let deaf = match self.broken {
            Some(Broken::DeafSync) => true,
            Some(Broken::LateExchange) => self.exchange_waits(),
            _ => false,
        };
        if !deaf {
            self.commit();
        }
        match fault {
            Some(_) => Err(broken_disk()),
            None => Ok(()),
        }
    }
}
