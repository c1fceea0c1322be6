//! A deliberate bug: an exchange that is two renames. The rig must catch it, or it proves nothing.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use backstay::policy::intent::Intent;
use backstay::record::Identity;
use backstay::record::Uuid;
use backstay::record::block::{BLOCK, Block};
use backstay::record::layout::Layout;
use backstay::store::btrfs::{Btrfs, open_top};
use backstay::store::place::{File, Place, Set};
use backstay::store::{Access, Carried, Dataset, Nested, Node, Result as StoreResult, Store};
use backstay::transaction::records::Records;
use backstay::transaction::{catalogue, execute::execute, plan::plan};

/// Where the live dataset lies in the hole between the renames; no snapshot has this number.
const ASIDE: u32 = 4_000_000_000;

/// The store as it is, but for one operation.
struct TwoRenames(Btrfs);

/// Rolls the store under `top` back to this snapshot, by the engine, over the broken store.
///
/// # Errors
/// The engine's.
pub fn roll_back(top: &Path, to: u32) -> Result<()> {
    let fd = open_top(top)?;
    let Some(Block::Valid { value: layout, .. }) = Btrfs::recorded_layout(&fd)? else {
        bail!("the store has no layout");
    };
    let mut store = TwoRenames(Btrfs::open(fd, layout)?);
    let mut records = Records::open(&store)?;
    let manifest = catalogue::manifest(&store, Set::Snapshot(to))?.context("no such snapshot")?;
    let state = &records.state.value;
    let plan = plan(
        &Intent::Rollback { to },
        state,
        store.layout(),
        Some(&manifest),
        1,
    );
    execute(&mut store, &mut records, &plan, 1, &mut |_| {})?;
    Ok(())
}

impl Store for TwoRenames {
    fn exchange(&mut self, one: Place, other: Place) -> StoreResult<()> {
        let aside = match one {
            Place::Live(part) => Place::Snapshot(ASIDE, part),
            _ => return self.0.exchange(one, other),
        };
        self.0.rename(one, aside)?;
        self.0.sync()?;
        self.0.rename(other, one)?;
        self.0.rename(aside, other)?;
        // The directory would be taken for a snapshot.
        self.0.remove_directory(ASIDE)
    }

    fn layout(&self) -> &Layout {
        self.0.layout()
    }
    fn dataset(&self, place: Place) -> StoreResult<Option<Dataset>> {
        self.0.dataset(place)
    }
    fn clone_to(&mut self, from: Place, to: Place, access: Access) -> StoreResult<Dataset> {
        self.0.clone_to(from, to, access)
    }
    fn create(&mut self, place: Place) -> StoreResult<Dataset> {
        self.0.create(place)
    }
    fn exchange_factory(&mut self, id: u32) -> StoreResult<()> {
        self.0.exchange_factory(id)
    }
    fn factory_held(&self) -> StoreResult<Option<&'static str>> {
        self.0.factory_held()
    }
    fn has_tarball(&self) -> StoreResult<bool> {
        self.0.has_tarball()
    }
    fn clone_nested(&mut self, from: Place, to: Place) -> StoreResult<Vec<Nested>> {
        self.0.clone_nested(from, to)
    }
    fn rename(&mut self, from: Place, to: Place) -> StoreResult<()> {
        self.0.rename(from, to)
    }
    fn follow_default(&mut self, old: Place, new: Place) -> StoreResult<()> {
        self.0.follow_default(old, new)
    }
    fn seal(&mut self, place: Place) -> StoreResult<Identity> {
        self.0.seal(place)
    }
    fn destroy(&mut self, place: Place, uuid: Uuid) -> StoreResult<()> {
        self.0.destroy(place, uuid)
    }
    fn written_since(&self, live: Place, clone: Place) -> StoreResult<bool> {
        self.0.written_since(live, clone)
    }
    fn nested(&self, place: Place) -> StoreResult<Vec<Nested>> {
        self.0.nested(place)
    }
    fn carry(&mut self, nested: &Nested, from: Place, to: Place) -> StoreResult<Carried> {
        self.0.carry(nested, from, to)
    }
    fn ids(&self) -> StoreResult<Vec<u32>> {
        self.0.ids()
    }
    fn make_directory(&mut self, id: u32) -> StoreResult<()> {
        self.0.make_directory(id)
    }
    fn remove_directory(&mut self, id: u32) -> StoreResult<()> {
        self.0.remove_directory(id)
    }
    fn read(&self, file: File) -> StoreResult<Option<Vec<u8>>> {
        self.0.read(file)
    }
    fn write_slot(&mut self, file: File, slot: usize, block: &[u8; BLOCK]) -> StoreResult<()> {
        self.0.write_slot(file, slot, block)
    }
    fn replace(&mut self, file: File, bytes: &[u8]) -> StoreResult<()> {
        self.0.replace(file, bytes)
    }
    fn remove(&mut self, file: File) -> StoreResult<()> {
        self.0.remove(file)
    }
    fn give_up_ballast(&mut self) -> StoreResult<bool> {
        self.0.give_up_ballast()
    }
    fn node(&self, place: Place, path: &str) -> StoreResult<Option<Node>> {
        self.0.node(place, path)
    }
    fn is_executable(&self, place: Place, path: &str) -> StoreResult<bool> {
        self.0.is_executable(place, path)
    }
    fn names(&self, place: Place, path: &str) -> StoreResult<Vec<String>> {
        self.0.names(place, path)
    }
    fn link(&self, place: Place, path: &str) -> StoreResult<Option<String>> {
        self.0.link(place, path)
    }
    fn content(&self, place: Place, path: &str) -> StoreResult<Option<Vec<u8>>> {
        self.0.content(place, path)
    }
    fn label(&self, place: Place, name: &str) -> StoreResult<Option<Vec<u8>>> {
        self.0.label(place, name)
    }
    fn labels(&self, place: Place) -> StoreResult<Vec<String>> {
        self.0.labels(place)
    }
    fn set_label(&mut self, place: Place, name: &str, value: Option<&[u8]>) -> StoreResult<()> {
        self.0.set_label(place, name, value)
    }
    fn sync(&mut self) -> StoreResult<()> {
        self.0.sync()
    }
}
