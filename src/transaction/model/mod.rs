//! The protocol as a model: the same decisions, plans, execution and recovery over a store in memory
//! that keeps btrfs's rules, explored exhaustively.
//!
//! - `boot.rs` what the agent does at a start, `acts.rs` everything that changes a store
//! - `form.rs` a disk without what differs from run to run, and what must always hold
//! - `explore.rs` every disk that power cuts may leave, to the last one
//! - `verbs.rs`, `errors.rs`, `attacks.rs`, `trials.rs`, `fence.rs`, `convert.rs`, `prepared.rs`, `data.rs`, `upgrade.rs`,
//!   `upgrade_converts.rs`, `staged.rs`, `shown.rs`, `unasked.rs`, `alone.rs` what is explored; `controls.rs` stores that are
//!   wrong and must be caught

pub(crate) mod acts;
mod alone;
mod attacks;
pub(crate) mod boot;
mod controls;
mod convert;
mod data;
mod errors;
pub(super) mod explore;
mod fence;
pub(super) mod form;
mod lost_state;
mod prepared;
mod shown;
mod staged;
mod trials;
mod unasked;
mod upgrade;
mod upgrade_converts;
mod verbs;

use super::plan::Plan;
use super::records::Records;
use crate::record::layout::{DataParts, Dataset, Layout, Part};
use crate::record::manifest::{Kind, Manifest, Member, Origin, title};
use crate::record::state::{Live, State};
use crate::record::{Identity, block};
use crate::store::Store;
use crate::store::memory::{Content, Memory, Tree};
use crate::store::place::{File, Place, Set};
use heapless::String as Text;

pub(crate) fn layout() -> Layout {
    let text = |text: &str| Text::try_from(text).unwrap();
    let dataset = |name: &str, live: &str, mount: &str| Dataset {
        name: Text::try_from(name).unwrap(),
        live: Text::try_from(live).unwrap(),
        mount: Text::try_from(mount).unwrap(),
    };
    Layout {
        system: dataset("system", "@rootfs", "/"),
        config: Some(dataset("config", "@config", "/var/lib/backstay/config")),
        config_paths: [text("/etc/appliance")].into_iter().collect(),
        data: [dataset("data", "@data", "/srv/data")]
            .into_iter()
            .collect(),
    }
}

pub(crate) fn root(version: &str) -> Tree {
    let file = |text: &str| Content::File(text.as_bytes().to_vec());
    let entries = [
        ("sbin", Content::Directory),
        ("sbin/init", file("init")),
        ("boot", Content::Directory),
        ("boot/vmlinuz", Content::Link("vmlinuz-6.12".into())),
        ("boot/vmlinuz-6.12", file("kernel")),
        ("boot/initrd.img", file("initramfs")),
        ("lib", Content::Directory),
        ("lib/modules", Content::Directory),
        ("lib/modules/6.12", Content::Directory),
        ("lib/modules/6.12/modules.dep", file("")),
        ("etc", Content::Directory),
        ("etc/version", file(version)),
        ("var", Content::Directory),
        ("var/lib", Content::Directory),
        ("var/lib/machines", Content::Directory),
        ("var/lib/backstay", Content::Directory),
        ("var/lib/backstay/config", Content::Directory),
        ("srv", Content::Directory),
        ("srv/data", Content::Directory),
    ];
    entries
        .into_iter()
        .map(|(path, content)| (path.to_owned(), content))
        .collect()
}

fn tree(version: &str) -> Tree {
    [(
        "version".to_owned(),
        Content::File(version.as_bytes().to_vec()),
    )]
    .into_iter()
    .collect()
}

/// A machine with snapshots 1 and 2, a factory snapshot, a template, and version 3 live, in which
/// a nested subvolume lies. The data of the application 'shop' is in state 2, that of the template in state 1.
pub(crate) fn machine() -> (Memory, Records) {
    machine_of(layout())
}

/// The same with other datasets.
fn machine_of(layout: Layout) -> (Memory, Records) {
    let mut store = Memory::new(layout.clone());
    for (name, place) in [
        ("factory", Set::Factory),
        ("1", Set::Snapshot(1)),
        ("2", Set::Snapshot(2)),
    ] {
        sealed(&mut store, place, name);
    }
    let mut system = root("live");
    system.insert(
        "var/lib/machines".into(),
        Content::Nested(crate::record::Uuid([9; 16])),
    );
    let live = store.put(Place::Live(Part::System), system);
    store.edit(|world, _| world.default = Some(live));
    if layout.config.is_some() {
        store.put(Place::Live(Part::Config), tree("live"));
        store.put(Place::Live(Part::Defaults), tree("defaults"));
    }
    for part in layout.data_parts() {
        store.put(Place::Live(part), tree("data"));
        store.put(Place::Template(part), tree("empty"));
        labelled(&mut store, Place::Live(part), "2");
        labelled(&mut store, Place::Template(part), "1");
    }
    let mut state = State::new(Live {
        system: live,
        clone_of: Some(2),
    });
    state.next_id = 3;
    state.older = [1, 2].into_iter().collect();
    let mut records = Records::fresh(&store, state).unwrap();
    records.write_first_state(&mut store).unwrap();
    store.sync().unwrap();
    (store, records)
}

/// Says in which state the data of the application 'shop' is.
fn labelled(store: &mut Memory, place: Place, state: &str) {
    store.edit(|world, _| {
        let labels = &mut world.datasets.get_mut(&place).unwrap().labels;
        labels.insert("state.shop".to_owned(), state.as_bytes().to_vec());
    });
}

/// A machine in which data was converted for the request that waits.
pub(crate) fn prepared_machine() -> Memory {
    prepared::prepared()
}

/// The same before, with its request's plan.
pub(crate) fn machine_to_convert() -> (Memory, Records, Plan) {
    prepared::to_convert()
}

/// What an image builder has after `backstay init`.
pub(crate) fn image() -> Memory {
    let mut store = Memory::new(layout());
    let system = store.put(Place::Live(Part::System), root("1"));
    for place in [
        Place::Live(Part::Config),
        Place::Live(Part::Defaults),
        Place::Live(Part::Data(0)),
        Place::Template(Part::Data(0)),
    ] {
        store.put(place, Default::default());
    }
    let live = Live {
        system,
        clone_of: None,
    };
    let mut records = Records::fresh(&store, State::new(live)).unwrap();
    records.write_first_state(&mut store).unwrap();
    store.sync().unwrap();
    store
}

fn sealed(store: &mut Memory, set: Set, name: &str) {
    let mut members = heapless::Vec::new();
    for part in store.layout().set() {
        let place = set.place(part);
        store.put(
            place,
            if part == Part::System {
                root(name)
            } else {
                tree(name)
            },
        );
        let identity: Identity = store.seal(place).unwrap();
        members.push(Member { part, identity }).unwrap();
    }
    let id = if let Set::Snapshot(id) = set { id } else { 0 };
    let manifest = Manifest {
        id,
        kind: if id == 0 {
            Kind::Factory
        } else {
            Kind::Snapshot
        },
        origin: Origin::Built,
        title: title(name),
        created: 0,
        kernel: None,
        clone_of: None,
        good: false,
        members,
        aside: DataParts::NONE,
        gone: Default::default(),
    };
    store.edit(|world, _| {
        world.directories.insert(id);
        world.directories.remove(&0);
        world.files.insert(
            File::Manifest(set),
            block::encode(1, &manifest).unwrap().to_vec(),
        );
    });
}
