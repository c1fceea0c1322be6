//! Deliberate bugs. The rig must catch each of them, or it proves nothing.
//!
//! - an exchange is two renames with a commit between them;
//! - a converter works on the live data, before the commit;
//! - what is live is labelled before the commit with the state of what is about to be, and what was live labelled back after.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use backstay::policy::intent::Intent;
use backstay::record::Identity;
use backstay::record::Uuid;
use backstay::record::block::{BLOCK, Block};
use backstay::record::layout::{DataParts, Layout, Part};
use backstay::record::state::Consent;
use backstay::store::btrfs::{Btrfs, open_top};
use backstay::store::place::{File, Place};
use backstay::store::{Access, Carried, Dataset, Nested, Node, Result as StoreResult, Store};
use backstay::transaction::execute::{Hands, execute_by, no_image};
use backstay::transaction::fenced::plan_for;
use backstay::transaction::plan::{Conversion, Plan, Step};
use backstay::transaction::records::Records;
use backstay::transaction::{self};

use super::books;

/// Where the live dataset lies in the hole between the renames; no snapshot has this number.
const ASIDE: u32 = 4_000_000_000;
/// The label with the state of the books, as the store calls it.
const STATE: &str = "state.books";

/// What the store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    TwoRenames,
    LabelsFirst,
}

/// The store as it is, but for one bug.
struct Broken {
    store: Btrfs,
    bug: Bug,
    /// A label of the live data, as it was before it was changed too early.
    before: Option<(String, Option<Vec<u8>>)>,
}

/// Rolls the store under `top` back to this snapshot, by an exchange that is two renames.
///
/// # Errors
/// The engine's.
pub fn two_renames(top: &Path, to: u32) -> Result<()> {
    roll_back(top, to, Bug::TwoRenames, |_| {})
}

/// The same with a conversion of the live data itself.
///
/// # Errors
/// The engine's.
pub fn in_place(top: &Path, to: u32) -> Result<()> {
    let of_data = |place: &Place| matches!(place.part(), Part::Data(_));
    roll_back(top, to, Bug::None, |plan| {
        plan.steps.retain(|step| match step {
            Step::Clone { to, .. } => !of_data(to),
            Step::Exchange { live, .. } => !of_data(live),
            _ => true,
        });
        for step in &mut plan.steps {
            if let Step::Convert { at, .. } = step {
                *at = Place::Live(at.part());
            }
        }
        plan.aside = DataParts::NONE;
    })
}

/// The same with a conversion whose state the live data gets, too, before it is exchanged.
///
/// # Errors
/// The engine's.
pub fn labelled_first(top: &Path, to: u32) -> Result<()> {
    roll_back(top, to, Bug::LabelsFirst, |_| {})
}

/// By the engine, over the broken store. `spoil` changes the plan.
fn roll_back(top: &Path, to: u32, bug: Bug, spoil: impl FnOnce(&mut Plan)) -> Result<()> {
    let fd = open_top(top)?;
    let Some(Block::Valid { value: layout, .. }) = Btrfs::recorded_layout(&fd)? else {
        bail!("the store has no layout");
    };
    let mut store = Broken {
        store: Btrfs::open(fd, layout)?,
        bug,
        before: None,
    };
    let mut records = Records::open(&store)?;
    let (intent, state) = (Intent::Rollback { to }, &records.state.value);
    let mut plan = plan_for(&store, &intent, state, Consent::Convert, 1)?;
    let converts = !plan.conversions.is_empty();
    ensure!(
        converts == (bug != Bug::TwoRenames),
        "the plan has {} conversions",
        plan.conversions.len()
    );
    spoil(&mut plan);
    let mut convert =
        |store: &mut Broken, at: Place, it: &Conversion| convert_at(store, top, at, it);
    let mut hands = Hands {
        fill: &mut no_image,
        convert: &mut convert,
    };
    execute_by(&mut store, &mut records, &plan, 1, &mut hands, &mut |_| {})?;
    Ok(())
}

/// What the program of the version does, without the room that it has.
fn convert_at(
    store: &mut Broken,
    top: &Path,
    at: Place,
    it: &Conversion,
) -> Result<(), transaction::Error> {
    let converted = at
        .path(store.layout())
        .context("no such place")
        .and_then(|path| {
            let (from, to) = (it.step.from.as_str(), it.step.to.as_str());
            Ok(books::convert(&top.join(path), from, to)?)
        });
    converted.map_err(|error| transaction::Error::NotConverted {
        app: it.app.to_string(),
        why: format!("{error:#}"),
    })
}

impl Broken {
    fn by_two_renames(&mut self, part: Part, other: Place) -> StoreResult<()> {
        let (live, aside) = (Place::Live(part), Place::Snapshot(ASIDE, part));
        self.store.rename(live, aside)?;
        self.store.sync()?;
        self.store.rename(other, live)?;
        self.store.rename(aside, other)?;
        // The directory would be taken for a snapshot.
        self.store.remove_directory(ASIDE)
    }
}

impl Store for Broken {
    fn exchange(&mut self, one: Place, other: Place) -> StoreResult<()> {
        if let (Place::Live(part), Bug::TwoRenames) = (one, self.bug) {
            return self.by_two_renames(part, other);
        }
        self.store.exchange(one, other)?;
        match self.before.take_if(|_| matches!(one.part(), Part::Data(_))) {
            Some((name, before)) => self.store.set_label(other, &name, before.as_deref()),
            None => Ok(()),
        }
    }

    fn set_label(&mut self, place: Place, name: &str, value: Option<&[u8]>) -> StoreResult<()> {
        if self.bug == Bug::LabelsFirst && name == STATE {
            let live = Place::Live(place.part());
            self.before = Some((name.to_owned(), self.store.label(live, name)?));
            self.store.set_label(live, name, value)?;
            self.store.sync()?;
        }
        self.store.set_label(place, name, value)
    }

    fn layout(&self) -> &Layout {
        self.store.layout()
    }
    fn dataset(&self, place: Place) -> StoreResult<Option<Dataset>> {
        self.store.dataset(place)
    }
    fn clone_to(&mut self, from: Place, to: Place, access: Access) -> StoreResult<Dataset> {
        self.store.clone_to(from, to, access)
    }
    fn create(&mut self, place: Place) -> StoreResult<Dataset> {
        self.store.create(place)
    }
    fn exchange_factory(&mut self, id: u32) -> StoreResult<()> {
        self.store.exchange_factory(id)
    }
    fn factory_held(&self) -> StoreResult<Option<&'static str>> {
        self.store.factory_held()
    }
    fn has_tarball(&self) -> StoreResult<bool> {
        self.store.has_tarball()
    }
    fn clone_nested(&mut self, from: Place, to: Place) -> StoreResult<Vec<Nested>> {
        self.store.clone_nested(from, to)
    }
    fn rename(&mut self, from: Place, to: Place) -> StoreResult<()> {
        self.store.rename(from, to)
    }
    fn follow_default(&mut self, old: Place, new: Place) -> StoreResult<()> {
        self.store.follow_default(old, new)
    }
    fn seal(&mut self, place: Place) -> StoreResult<Identity> {
        self.store.seal(place)
    }
    fn destroy(&mut self, place: Place, uuid: Uuid) -> StoreResult<()> {
        self.store.destroy(place, uuid)
    }
    fn written_since(&self, live: Place, clone: Place) -> StoreResult<bool> {
        self.store.written_since(live, clone)
    }
    fn nested(&self, place: Place) -> StoreResult<Vec<Nested>> {
        self.store.nested(place)
    }
    fn carry(&mut self, nested: &Nested, from: Place, to: Place) -> StoreResult<Carried> {
        self.store.carry(nested, from, to)
    }
    fn ids(&self) -> StoreResult<Vec<u32>> {
        self.store.ids()
    }
    fn make_directory(&mut self, id: u32) -> StoreResult<()> {
        self.store.make_directory(id)
    }
    fn remove_directory(&mut self, id: u32) -> StoreResult<()> {
        self.store.remove_directory(id)
    }
    fn read(&self, file: File) -> StoreResult<Option<Vec<u8>>> {
        self.store.read(file)
    }
    fn write_slot(&mut self, file: File, slot: usize, block: &[u8; BLOCK]) -> StoreResult<()> {
        self.store.write_slot(file, slot, block)
    }
    fn replace(&mut self, file: File, bytes: &[u8]) -> StoreResult<()> {
        self.store.replace(file, bytes)
    }
    fn remove(&mut self, file: File) -> StoreResult<()> {
        self.store.remove(file)
    }
    fn give_up_ballast(&mut self) -> StoreResult<bool> {
        self.store.give_up_ballast()
    }
    fn node(&self, place: Place, path: &str) -> StoreResult<Option<Node>> {
        self.store.node(place, path)
    }
    fn is_executable(&self, place: Place, path: &str) -> StoreResult<bool> {
        self.store.is_executable(place, path)
    }
    fn names(&self, place: Place, path: &str) -> StoreResult<Vec<String>> {
        self.store.names(place, path)
    }
    fn link(&self, place: Place, path: &str) -> StoreResult<Option<String>> {
        self.store.link(place, path)
    }
    fn content(&self, place: Place, path: &str) -> StoreResult<Option<Vec<u8>>> {
        self.store.content(place, path)
    }
    fn label(&self, place: Place, name: &str) -> StoreResult<Option<Vec<u8>>> {
        self.store.label(place, name)
    }
    fn labels(&self, place: Place) -> StoreResult<Vec<String>> {
        self.store.labels(place)
    }
    fn sync(&mut self) -> StoreResult<()> {
        self.store.sync()
    }
}
