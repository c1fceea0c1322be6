//! What is on disk when a call returns: the power is cut right after it.

use super::Premise;
use crate::bench::Machine;
use crate::conformance::Bench;
use backstay::admin::state::name::{App, State};
use backstay::admin::state::{self, Begun};
use backstay::record::Uuid;
use backstay::record::block::BLOCK;
use backstay::record::layout::Part;
use backstay::store::place::{File, Place};
use backstay::store::{Access, Carried, Nested, Store};

pub const ALL: &[Premise] = &[
    ("a_new_subvolume_is_on_disk_only_after_a_sync", create),
    (
        "a_clone_is_on_disk_at_once_with_all_that_its_source_held",
        clone_to,
    ),
    ("an_exchange_is_old_or_new_and_new_after_a_sync", exchange),
    ("a_sealed_dataset_stays_sealed", seal),
    (
        "a_replaced_file_is_old_or_new_and_new_after_a_sync",
        replace,
    ),
    ("a_label_is_old_or_new_and_new_after_a_sync", label),
    (
        "a_conversion_that_was_begun_or_committed_is_on_disk_with_the_data",
        conversion,
    ),
    ("a_slot_is_on_disk_at_once", slot),
    (
        "a_carried_subvolume_is_in_one_of_the_two_and_carrying_again_finishes",
        carry,
    ),
    ("a_destroyed_dataset_is_gone_after_a_sync", destroy),
];

const LIVE: Place = Place::Live(Part::System);
const NEXT: Place = Place::Snapshot(13, Part::System);

fn uuid(machine: &Machine, place: Place) -> Option<Uuid> {
    let dataset = machine.store.dataset(place).unwrap();
    dataset.map(|dataset| dataset.identity.uuid)
}

/// A live dataset and a clone of it, on disk.
fn two(mut machine: Machine) -> (Machine, [Option<Uuid>; 2]) {
    machine.create(LIVE);
    machine.write(LIVE, "file", b"one");
    machine
        .store
        .clone_to(LIVE, NEXT, Access::Writable)
        .unwrap();
    machine.store.sync().unwrap();
    let uuids = [uuid(&machine, LIVE), uuid(&machine, NEXT)];
    (machine, uuids)
}

fn create(mut machine: Machine) {
    machine.create(LIVE);
    let mut machine = machine.after_power_cut();
    assert_eq!(
        uuid(&machine, LIVE),
        None,
        "else the other checks here prove nothing"
    );
    machine.create(LIVE);
    machine.store.sync().unwrap();
    let machine = machine.after_power_cut();
    assert!(uuid(&machine, LIVE).is_some());
}

fn clone_to(mut machine: Machine) {
    machine.create(LIVE);
    machine.write(LIVE, "long", &[7; 300_000]);
    machine.write(LIVE, "etc/short", b"one");
    let made = machine
        .store
        .clone_to(LIVE, NEXT, Access::ReadOnly)
        .unwrap();
    let machine = machine.after_power_cut();
    assert_eq!(uuid(&machine, NEXT), Some(made.identity.uuid));
    assert_eq!(
        machine.store.content(NEXT, "etc/short").unwrap().unwrap(),
        b"one"
    );
    assert_eq!(
        std::fs::read(machine.at(NEXT, "long")).unwrap(),
        [7; 300_000]
    );
    assert!(uuid(&machine, LIVE).is_some());
}

fn exchange(machine: Machine) {
    let (mut machine, [old, new]) = two(machine);
    machine.store.exchange(LIVE, NEXT).unwrap();
    let mut machine = machine.after_power_cut();
    let found = [uuid(&machine, LIVE), uuid(&machine, NEXT)];
    assert!(found == [old, new] || found == [new, old], "{found:?}");
    assert_eq!(found, [old, new], "nothing committed it");
    machine.store.exchange(LIVE, NEXT).unwrap();
    machine.store.sync().unwrap();
    let machine = machine.after_power_cut();
    assert_eq!([uuid(&machine, LIVE), uuid(&machine, NEXT)], [new, old]);
}

fn seal(machine: Machine) {
    let (mut machine, _) = two(machine);
    machine.write(NEXT, "file", b"changed just now");
    let sealed = machine.store.seal(NEXT).unwrap();
    let machine = machine.after_power_cut();
    let found = machine.store.dataset(NEXT).unwrap().unwrap();
    assert!(found.read_only);
    assert_eq!(found.identity, sealed);
    assert_eq!(
        machine.store.content(NEXT, "file").unwrap().unwrap(),
        b"changed just now"
    );
}

fn replace(mut machine: Machine) {
    let (old, new) = (vec![b'o'; 5000], vec![b'n'; 60_000]);
    machine.store.replace(File::Log, &old).unwrap();
    machine.store.sync().unwrap();
    machine.store.replace(File::Log, &new).unwrap();
    let mut machine = machine.after_power_cut();
    let found = machine.store.read(File::Log).unwrap().unwrap();
    assert!(found == old || found == new, "{} bytes", found.len());
    // One that replaces nothing: the kernel does not start to write its bytes at the rename.
    machine.store.replace(File::FirstBoot, &new).unwrap();
    // A clone commits, but brings no other dataset's bytes to disk.
    machine.create(LIVE);
    machine
        .store
        .clone_to(LIVE, NEXT, Access::Writable)
        .unwrap();
    let mut machine = machine.after_power_cut();
    let found = machine.store.read(File::FirstBoot).unwrap().unwrap();
    assert!(
        found == new,
        "the name is on disk with {} bytes",
        found.len()
    );
    machine.store.replace(File::Log, &old).unwrap();
    machine.store.sync().unwrap();
    let machine = machine.after_power_cut();
    assert_eq!(machine.store.read(File::Log).unwrap().unwrap(), old);
}

fn label(mut machine: Machine) {
    const STATE: &str = "state.shop";
    let data = Place::Live(Part::Data(0));
    machine.create(data);
    let set = |machine: &mut Machine, value: Option<&[u8]>| {
        machine.store.set_label(data, STATE, value).unwrap();
    };
    set(&mut machine, Some(b"1"));
    machine.store.sync().unwrap();
    set(&mut machine, Some(b"2"));
    let mut machine = machine.after_power_cut();
    let found = |machine: &Machine| machine.store.label(data, STATE).unwrap();
    assert_eq!(
        found(&machine).as_deref(),
        Some(&b"1"[..]),
        "nothing committed it"
    );
    set(&mut machine, Some(b"2"));
    machine.store.sync().unwrap();
    let mut machine = machine.after_power_cut();
    assert_eq!(found(&machine).as_deref(), Some(&b"2"[..]));
    set(&mut machine, None);
    let mut machine = machine.after_power_cut();
    assert_eq!(
        found(&machine).as_deref(),
        Some(&b"2"[..]),
        "nor that it was removed"
    );
    set(&mut machine, None);
    machine.store.sync().unwrap();
    let machine = machine.after_power_cut();
    assert_eq!(found(&machine), None);
}

fn conversion(mut machine: Machine) {
    let data = Place::Live(Part::Data(0));
    let app = App::parse("shop").unwrap();
    let (old, new) = (State::parse("1").unwrap(), State::parse("2").unwrap());
    machine.create(data);
    machine.write(data, "table", &[1; 100_000]);
    state::set(&mut machine.store, data, &app, &old, 1).unwrap();
    let found = |machine: &Machine| {
        let kept = state::get(&machine.store, Some(&app))
            .unwrap()
            .applications
            .remove(0);
        (kept.state.unwrap(), kept.converting.is_some())
    };
    let begun = state::begin(&mut machine.store, data, &app, &old, &new).unwrap();
    assert_eq!(begun, Begun::Now);
    machine.write(data, "table", &[2; 100_000]);
    let mut machine = machine.after_power_cut();
    assert_eq!(found(&machine), ("1".to_owned(), true));
    let begun = state::begin(&mut machine.store, data, &app, &old, &new).unwrap();
    assert_eq!(begun, Begun::Before);
    machine.write(data, "table", &[2; 100_000]);
    state::commit(&mut machine.store, data, &app, 2).unwrap();
    let machine = machine.after_power_cut();
    assert_eq!(found(&machine), ("2".to_owned(), false));
    let table = std::fs::read(machine.at(data, "table")).unwrap();
    assert!(table == [2; 100_000], "the data that this is said of");
}

fn slot(mut machine: Machine) {
    for (slot, byte) in [(0, 1), (1, 2), (0, 3)] {
        machine
            .store
            .write_slot(File::Journal, slot, &[byte; BLOCK])
            .unwrap();
        machine = machine.after_power_cut();
        let found = machine.store.read(File::Journal).unwrap().unwrap();
        assert_eq!(found[slot * BLOCK..][..BLOCK], [byte; BLOCK], "slot {slot}");
    }
}

fn carry(machine: Machine) {
    let (mut machine, _) = two(machine);
    let nested = Nested {
        path: b"inner".to_vec(),
        uuid: Some(machine.nest(LIVE, "inner")),
    };
    assert_eq!(
        machine.store.carry(&nested, LIVE, NEXT).unwrap(),
        Carried::Moved
    );
    let mut machine = machine.after_power_cut();
    let found = [LIVE, NEXT].map(|place| machine.store.nested(place).unwrap().len());
    assert_eq!(found[0] + found[1], 1, "{found:?}");
    assert_eq!(
        machine.store.carry(&nested, LIVE, NEXT).unwrap(),
        Carried::Moved
    );
    machine.store.sync().unwrap();
    let machine = machine.after_power_cut();
    assert_eq!(machine.store.nested(NEXT).unwrap(), [nested]);
}

fn destroy(machine: Machine) {
    let (mut machine, [_, new]) = two(machine);
    machine.store.destroy(NEXT, new.unwrap()).unwrap();
    let mut machine = machine.after_power_cut();
    // Either way destroying it again is right.
    machine.store.destroy(NEXT, new.unwrap()).unwrap();
    machine.store.sync().unwrap();
    let machine = machine.after_power_cut();
    assert_eq!(uuid(&machine, NEXT), None);
}
