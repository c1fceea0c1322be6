//! A file system without room for data or metadata.

use super::Premise;
use crate::bench::Machine;
use crate::conformance::{Bench, layout};
use backstay::record::block::BLOCK;
use backstay::record::layout::Part;
use backstay::store::btrfs::Btrfs;
use backstay::store::place::{File, Place, Set};
use backstay::store::{Access, Store, StoreError};
use rustix::fs::{FallocateFlags, XattrFlags, fallocate, fsetxattr};
use std::fs;
use std::path::Path;

pub const ALL: &[Premise] = &[
    (
        "on_a_full_file_system_giving_up_the_ballast_lets_an_exchange_succeed",
        exchange,
    ),
    (
        "on_a_full_file_system_slots_are_written_and_files_removed",
        slots,
    ),
    (
        "the_ballast_is_metadata_and_made_again_where_files_of_it_are_missing",
        remake,
    ),
];

const LIVE: Place = Place::Live(Part::System);
const NEXT: Place = Place::Snapshot(13, Part::System);

/// Takes all room: data in ever smaller pieces, then metadata with attributes, which is quick, and the
/// rest with small files and with empty ones, again and again until nothing gets anything.
fn fill(top: &Path) {
    let into = top.join("@rootfs/fill");
    fs::create_dir_all(&into).unwrap();
    let mut count = 0;
    let mut next = || {
        count += 1;
        into.join(count.to_string())
    };
    loop {
        let mut got = 0;
        let mut size = 64 << 20;
        while size >= 4096 {
            let file = fs::File::create(next());
            match file.map(|file| fallocate(&file, FallocateFlags::empty(), 0, size)) {
                Ok(Ok(())) => got += 1,
                _ => size /= 2,
            }
        }
        if let Ok(file) = fs::File::create(next()) {
            let attribute = |number: u32| {
                let (name, value) = (format!("user.fill.{number}"), [b'x'; 3800]);
                fsetxattr(&file, name, &value, XattrFlags::empty())
            };
            got += (0..)
                .take_while(|number| attribute(*number).is_ok())
                .count();
        }
        for length in [2000, 500, 0] {
            while fs::write(next(), vec![b'x'; length]).is_ok() {
                got += 1;
            }
        }
        rustix::fs::sync();
        if got == 0 {
            return;
        }
    }
}

fn full(mut machine: Machine) -> Machine {
    machine.ballast();
    machine.create(LIVE);
    machine
        .store
        .clone_to(LIVE, NEXT, Access::Writable)
        .unwrap();
    machine.store.sync().unwrap();
    fill(&machine.top);
    machine
}

fn is_full<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Full(_)))
}

fn exchange(machine: Machine) {
    let mut machine = full(machine);
    let store = &mut machine.store;
    for _ in 0..8 {
        assert!(is_full(store.exchange(LIVE, NEXT)));
    }
    assert!(is_full(store.replace(File::Armed, b"set backstay_armed=1")));
    assert!(store.give_up_ballast().unwrap());
    // What a transaction does, several times over.
    for id in 14..18 {
        let next = Place::Snapshot(id, Part::System);
        let set = Set::Snapshot(id);
        store.replace(File::Armed, b"set backstay_armed=1").unwrap();
        store.make_directory(id).unwrap();
        store.clone_to(LIVE, next, Access::Writable).unwrap();
        store.exchange(LIVE, next).unwrap();
        store.sync().unwrap();
        store.seal(next).unwrap();
        store.replace(File::Manifest(set), &[7; BLOCK]).unwrap();
        store.replace(File::MenuCfg(set), &[b'#'; 300]).unwrap();
        store.replace(File::Log, &[b'-'; 60_000]).unwrap();
        store.remove(File::Armed).unwrap();
        store.sync().unwrap();
    }
}

fn slots(machine: Machine) {
    let mut machine = full(machine);
    for (slot, byte) in [(0, 1), (1, 2), (0, 3)] {
        machine
            .store
            .write_slot(File::State, slot, &[byte; BLOCK])
            .unwrap();
    }
    let machine = machine.after_power_cut();
    let state = machine.store.read(File::State).unwrap();
    assert_eq!(state, Some([[3; BLOCK], [2; BLOCK]].concat()));
    let mut removed = 0;
    for entry in fs::read_dir(machine.at(LIVE, "fill")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
        removed += 1;
    }
    assert!(removed > 16, "{removed} files took all room");
}

fn remake(mut machine: Machine) {
    machine.ballast();
    let ballast = machine.top.join("@backstay/ballast");
    let blocks = |machine: &mut Machine| {
        machine.store.sync().unwrap();
        metadata(&machine.top)
    };
    let with = blocks(&mut machine);
    assert!(machine.store.give_up_ballast().unwrap());
    let without = blocks(&mut machine);
    // Twice on the disk, once here; somewhat more than the attributes themselves.
    assert!(
        (15 << 20..24 << 20).contains(&(with - without)),
        "{with} {without}"
    );
    machine.store.make_ballast().unwrap();
    for name in ["000", "100", "data"] {
        fs::remove_file(ballast.join(name)).unwrap();
    }
    machine.store.make_ballast().unwrap();
    assert!(blocks(&mut machine).abs_diff(with) < 1 << 20);
    assert_eq!(fs::read_dir(&ballast).unwrap().count(), 257);
}

/// Bytes of metadata in use, from sysfs.
fn metadata(top: &Path) -> u64 {
    let store = Btrfs::open_path(top, layout()).unwrap();
    let uuid = store.file_system_uuid().unwrap();
    let path = format!("/sys/fs/btrfs/{uuid}/allocation/metadata/bytes_used");
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}
