//! Every verb, a power cut before every operation, every world that the cut may leave, and a
//! second cut during recovery: the live set is wholly the old or wholly the new one.

use super::execute::execute;
use super::plan::{Plan, plan};
use super::records::{Records, read_journal, read_state};
use super::recover::recover;
use super::{Error, catalogue};
use crate::policy::intent::Intent;
use crate::policy::{Decision, Health, Wish, decide, target};
use crate::record::journal::Journal;
use crate::record::layout::{Dataset, Layout, Part};
use crate::record::manifest::{Kind, Manifest, Member, Origin, title};
use crate::record::slots::Slots;
use crate::record::state::{Live, State, Verb};
use crate::record::{Identity, block};
use crate::store::memory::{Content, Memory, Tree, World};
use crate::store::place::{File, Place, Set};
use crate::store::{Store, StoreError};
use heapless::String as Text;
use std::collections::BTreeMap;

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
/// a nested subvolume lies.
pub(crate) fn machine() -> (Memory, Records) {
    let mut store = Memory::new(layout());
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
    store.put(Place::Live(Part::Config), tree("live"));
    store.put(Place::Live(Part::Defaults), tree("defaults"));
    store.put(Place::Live(Part::Data(0)), tree("data"));
    store.put(Place::Template(Part::Data(0)), tree("empty"));
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

fn sealed(store: &mut Memory, set: Set, name: &str) {
    let mut members = heapless::Vec::new();
    for part in layout().set() {
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
        members,
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

fn make_plan(intent: &Intent, store: &Memory, state: &State) -> Plan {
    let source = intent
        .source()
        .and_then(|set| catalogue::manifest(store, set).unwrap());
    plan(intent, state, &layout(), source.as_ref(), 1000)
}

/// What each live place holds, by content; the parts in which old and new may differ.
pub(super) fn live_set(store: &Memory) -> BTreeMap<Part, Option<Tree>> {
    let tree = |part| {
        store
            .world()
            .datasets
            .get(&Place::Live(part))
            .map(|it| it.tree.clone())
    };
    layout().all().map(|part| (part, tree(part))).collect()
}

/// Sealed sets that existed before must be the very same afterwards.
fn sealed_sets(world: &World) -> BTreeMap<Place, crate::store::memory::Subvolume> {
    let is_sealed = |place: &Place| match place {
        Place::Snapshot(id, _) => *id <= 2,
        Place::Factory(_) | Place::Template(_) => true,
        Place::Live(_) => false,
    };
    world
        .datasets
        .iter()
        .filter(|(place, _)| is_sealed(place))
        .map(|(p, s)| (*p, s.clone()))
        .collect()
}

/// What the agent does at each start, as far as it concerns the store.
fn start(store: &mut Memory) -> Result<Records, Error> {
    let mut records = Records::open(store)?;
    recover(store, &mut records, &mut |_| {})?;
    Ok(records)
}

/// Everything that must hold once the agent has run.
fn check(store: &Memory, before: &Memory, old: &State, new: &Memory, new_state: &State) {
    let records = Records::open(store).unwrap();
    assert_eq!(records.journal.value, Journal::Closed);
    let live = live_set(store);
    let is_new = live == live_set(new);
    assert!(
        is_new || live == live_set(before),
        "a mixed live set: {live:?}"
    );
    let mut state = records.state.value.clone();
    let mut want = if is_new && live_set(new) != live_set(before) {
        new_state.clone()
    } else {
        old.clone()
    };
    // UUIDs differ from run to run, and a snapshot changes no live content.
    if live_set(new) == live_set(before) && state.next_id == new_state.next_id {
        want = new_state.clone();
    }
    want.request = None;
    state.request = None;
    let system = store
        .dataset(Place::Live(Part::System))
        .unwrap()
        .unwrap()
        .identity
        .uuid;
    assert_eq!(
        store.world().default,
        Some(system),
        "the default follows the name"
    );
    if state.parked.is_none() {
        assert_eq!(state.live.system, system);
    }
    for it in [&mut state, &mut want] {
        it.live.system = system;
        if let Some(destroy) = &mut it.destroy {
            destroy.live = system;
        }
    }
    assert_eq!(state, want);
    assert_eq!(sealed_sets(store.world()), sealed_sets(before.world()));
    for id in store.ids().unwrap() {
        let health = catalogue::health(store, Set::Snapshot(id)).unwrap();
        assert!(
            matches!(
                health,
                Health::Sound | Health::WithoutConfig | Health::Parked
            ),
            "{id}: {health:?}"
        );
    }
    assert_eq!(
        store.world().files.contains_key(&File::Armed),
        state.parked.is_some()
    );
}

/// Runs an intent with a cut before operation `n`; `None` when it ended before.
fn cut(store: &Memory, records: &Records, intent: &Intent, n: usize) -> Option<Memory> {
    let (mut store, mut records) = (store.clone(), records.clone());
    store.power = Some(n);
    let plan = make_plan(intent, &store, &records.state.value);
    match execute(&mut store, &mut records, &plan, 1000, &mut |_| {}) {
        Ok(_) => None,
        Err(_) => Some(store),
    }
}

pub(super) fn explore(
    store: &Memory,
    records: &Records,
    intent: &Intent,
) -> (Memory, Records, usize) {
    let (mut new, mut new_records) = (store.clone(), records.clone());
    let plan = make_plan(intent, &new, &new_records.state.value);
    execute(&mut new, &mut new_records, &plan, 1000, &mut |_| {}).unwrap();
    let (old, after) = (&records.state.value, &new_records.state.value);
    check(&new, store, old, &new, after);
    let mut tried = 0;
    for n in 0.. {
        let Some(off) = cut(store, records, intent, n) else {
            break;
        };
        for world in off.after_power_cut() {
            for second in 0.. {
                let mut again = world.clone();
                again.power = Some(second);
                let ended = start(&mut again).is_ok();
                for mut third in again.after_power_cut() {
                    start(&mut third).unwrap();
                    check(&third, store, old, &new, after);
                    let settled = third.clone();
                    start(&mut third).unwrap();
                    assert_eq!(
                        third.world(),
                        settled.world(),
                        "a further start changes nothing"
                    );
                    tried += 1;
                }
                if ended {
                    break;
                }
            }
        }
    }
    new.power = None;
    (new, new_records, tried)
}

fn intents() -> Vec<Intent> {
    vec![
        Intent::Rollback { to: 2 },
        Intent::Rollback { to: 1 },
        Intent::Select { id: 1 },
        Intent::ResetConfig { data: false },
        Intent::ResetConfig { data: true },
        Intent::ResetSystem { keep_config: false },
        Intent::ResetSystem { keep_config: true },
        Intent::ResetEverything,
        Intent::Snapshot {
            title: title("by hand"),
        },
    ]
}

#[test]
fn no_power_cut_in_any_verb_leaves_a_mixed_live_set() {
    for intent in intents() {
        let (store, records) = machine();
        let (_, _, tried) = explore(&store, &records, &intent);
        assert!(tried > 50, "{intent:?} was cut {tried} times");
    }
}

#[test]
fn no_power_cut_in_a_return_forward_or_undone_reset_leaves_a_mixed_live_set() {
    for (first, second) in [
        (Intent::Select { id: 1 }, Intent::Return { parked: 3 }),
        (Intent::Rollback { to: 2 }, Intent::Forward { to: 3 }),
        (
            Intent::ResetConfig { data: true },
            Intent::Rollback { to: 3 },
        ),
        (Intent::ResetEverything, Intent::Rollback { to: 3 }),
        (
            Intent::ResetSystem { keep_config: false },
            Intent::ResetSystem { keep_config: false },
        ),
    ] {
        let (mut store, mut records) = machine();
        let plan = make_plan(&first, &store, &records.state.value);
        execute(&mut store, &mut records, &plan, 1000, &mut |_| {}).unwrap();
        explore(&store, &records, &second);
    }
}

#[test]
fn no_power_cut_in_a_first_boot_leaves_half_a_machine() {
    let mut store = Memory::new(layout());
    sealed(&mut store, Set::Factory, "factory");
    store.put(Place::Template(Part::Data(0)), tree("empty"));
    store.edit(|world, _| world.files.insert(File::FirstBoot, Vec::new()));
    let boot = |store: &mut Memory| -> Result<(), Error> {
        let state = read_state(store)?;
        let set = target(Wish::Boot, &state);
        let facts = catalogue::facts(store, set, false)?;
        let fresh = State::new(Live {
            system: crate::record::Uuid([0; 16]),
            clone_of: Some(0),
        });
        let mut records = match state {
            Slots::Empty => Records::fresh(store, fresh)?,
            _ => Records::open(store)?,
        };
        recover(store, &mut records, &mut |_| {})?;
        let (state, journal) = (read_state(store)?, read_journal(store)?);
        let facts = catalogue::facts(store, target(Wish::Boot, &state), false).unwrap_or(facts);
        if let Decision::Transact { intent, .. } = decide(Wish::Boot, &state, &journal, &facts) {
            assert_eq!(intent, Intent::FirstBoot);
            let plan = make_plan(&intent, store, &records.state.value);
            execute(store, &mut records, &plan, 1000, &mut |_| {})?;
        }
        Ok(())
    };
    for n in 0.. {
        let mut off = store.clone();
        off.power = Some(n);
        let done = boot(&mut off).is_ok();
        for mut world in off.after_power_cut() {
            boot(&mut world).unwrap();
            let live = live_set(&world);
            assert_eq!(live[&Part::System], Some(root("factory")), "cut before {n}");
            assert_eq!(live[&Part::Config], Some(tree("factory")));
            assert_eq!(live[&Part::Data(0)], Some(tree("empty")));
            assert!(!world.world().files.contains_key(&File::FirstBoot));
            assert_eq!(world.ids().unwrap(), Vec::<u32>::new());
        }
        if done {
            break;
        }
    }
}

#[test]
fn a_full_file_system_rolls_back_by_giving_up_its_ballast() {
    for intent in intents() {
        let (mut store, mut records) = machine();
        store.full = Some(false);
        let plan = make_plan(&intent, &store, &records.state.value);
        execute(&mut store, &mut records, &plan, 1000, &mut |_| {}).unwrap();
        assert!(!store.world().ballast);
    }
}

#[test]
fn a_file_system_without_any_room_keeps_the_old_live_set() {
    for intent in intents() {
        let (store, records) = machine();
        let (mut full, mut full_records) = (store.clone(), records.clone());
        full.full = Some(true);
        let plan = make_plan(&intent, &full, &full_records.state.value);
        let error = execute(&mut full, &mut full_records, &plan, 1000, &mut |_| {}).unwrap_err();
        assert!(
            matches!(error, Error::Store(StoreError::Full(_))),
            "{error}"
        );
        assert_eq!(live_set(&full), live_set(&store));
        assert_eq!(full_records.journal.value, Journal::Closed);
    }
}

#[test]
fn a_dataset_that_the_journal_does_not_know_stops_recovery_and_nothing_is_touched() {
    let (mut store, mut records) = machine();
    let plan = make_plan(&Intent::Rollback { to: 2 }, &store, &records.state.value);
    for n in 0.. {
        let mut off = store.clone();
        let mut off_records = records.clone();
        off.power = Some(n);
        if execute(&mut off, &mut off_records, &plan, 1000, &mut |_| {}).is_ok() {
            panic!("no cut fell between the commit record and the first exchange");
        }
        let mut left = off.after_power_cut().remove(0);
        let open = Records::open(&left).unwrap();
        let untouched = live_set(&left) == live_set(&store);
        if matches!(open.journal.value, Journal::Committing(_)) && untouched {
            left.put(Place::Live(Part::System), root("a stranger"));
            let before = left.world().clone();
            assert!(matches!(start(&mut left), Err(Error::Third { .. })));
            assert_eq!(*left.world(), before);
            break;
        }
    }
    records.state.value.request = None;
    store.power = None;
}

#[test]
fn a_request_is_taken_out_before_anything_is_done() {
    let (mut store, mut records) = machine();
    let mut state = records.state.value.clone();
    let verb = Verb::Rollback(None);
    state.request = Some(crate::record::state::Request {
        ticket: [7; 16],
        verb,
        created: 0,
    });
    records.state.write(&mut store, state).unwrap();
    store.full = Some(true);
    let plan = make_plan(&Intent::Rollback { to: 2 }, &store, &records.state.value);
    execute(&mut store, &mut records, &plan, 1000, &mut |_| {}).unwrap_err();
    assert_eq!(Records::open(&store).unwrap().state.value.request, None);
}
