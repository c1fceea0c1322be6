//! Subvolumes inside datasets.

use super::Premise;
use crate::bench::Machine;
use crate::conformance::Bench;
use backstay::record::layout::Part;
use backstay::store::place::Place;
use backstay::store::{Access, Carried, Nested, Store};
use backstay::sys::btrfs::{STUB_INODE, create_subvolume, destroy_subvolume};
use rustix::fs::{IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags, mkdirat, openat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

pub const ALL: &[Premise] = &[
    (
        "a_snapshot_has_an_empty_stub_where_its_source_has_a_subvolume",
        stub,
    ),
    (
        "more_nested_subvolumes_than_one_call_returns_are_all_listed",
        many,
    ),
    ("what_lies_in_a_nested_subvolume_travels_with_it", deep),
    (
        "a_nested_subvolume_is_carried_where_its_stub_is_gone_already",
        no_stub,
    ),
    ("another_subvolume_of_that_name_is_not_carried", another),
    ("a_read_only_nested_subvolume_stays", read_only),
    (
        "out_of_and_into_a_sealed_dataset_nothing_is_carried",
        sealed,
    ),
    (
        "a_sealed_dataset_is_destroyed_with_what_stayed_in_it",
        destroyed,
    ),
    (
        "a_name_that_is_not_utf8_is_carried_cloned_and_destroyed",
        bytes,
    ),
    (
        "a_flag_of_chattr_keeps_a_nested_subvolume_where_it_is",
        barred,
    ),
    ("a_path_that_is_too_long_stops_nothing", too_long),
];

const LIVE: Place = Place::Live(Part::System);
const NEXT: Place = Place::Snapshot(13, Part::System);

/// A dataset with a nested subvolume that holds a file, and a clone of the dataset.
fn two(machine: &mut Machine) -> Nested {
    machine.create(LIVE);
    machine.directory(LIVE, "var/lib");
    let uuid = machine.nest(LIVE, "var/lib/machines");
    machine.write(LIVE, "var/lib/machines/file", b"one");
    machine
        .store
        .clone_to(LIVE, NEXT, Access::Writable)
        .unwrap();
    Nested {
        path: b"var/lib/machines".to_vec(),
        uuid: Some(uuid),
    }
}

fn stub(mut machine: Machine) {
    let nested = two(&mut machine);
    let stub = machine.at(NEXT, &nested.name());
    assert_eq!(fs::metadata(&stub).unwrap().ino(), STUB_INODE);
    assert_eq!(fs::read_dir(&stub).unwrap().count(), 0);
    let carried = machine.store.carry(&nested, LIVE, NEXT).unwrap();
    assert_eq!(carried, Carried::Moved);
    assert_eq!(fs::read(stub.join("file")).unwrap(), b"one");
    assert!(!machine.at(LIVE, &nested.name()).exists());
}

fn many(mut machine: Machine) {
    machine.create(LIVE);
    machine.directory(LIVE, "many/of/them");
    for number in 0..300 {
        let directory = fs::File::open(machine.at(LIVE, "many/of/them")).unwrap();
        create_subvolume(directory, &format!("{number:03}")).unwrap();
    }
    let mut found = machine.store.nested(LIVE).unwrap();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    let paths: Vec<String> = found.iter().map(Nested::name).collect();
    let want: Vec<String> = (0..300)
        .map(|number| format!("many/of/them/{number:03}"))
        .collect();
    assert_eq!(paths, want);
}

fn deep(mut machine: Machine) {
    let nested = two(&mut machine);
    machine.directory(LIVE, "var/lib/machines/a");
    machine.nest(LIVE, "var/lib/machines/a/b");
    machine.nest(LIVE, "var/lib/machines/a/b/c");
    let all = machine.store.nested(LIVE).unwrap();
    let paths: Vec<String> = all.iter().map(Nested::name).collect();
    let (b, c) = ("var/lib/machines/a/b", "var/lib/machines/a/b/c");
    assert_eq!(
        paths,
        [nested.name().as_str(), b, c],
        "parents before children"
    );
    for one in &all {
        assert_eq!(
            machine.store.carry(one, LIVE, NEXT).unwrap(),
            Carried::Moved,
            "{}",
            one.name()
        );
    }
    assert_eq!(machine.store.nested(NEXT).unwrap(), all);
    assert_eq!(machine.store.nested(LIVE).unwrap(), []);
}

fn no_stub(mut machine: Machine) {
    let nested = two(&mut machine);
    fs::remove_dir(machine.at(NEXT, &nested.name())).unwrap();
    assert_eq!(
        machine.store.carry(&nested, LIVE, NEXT).unwrap(),
        Carried::Moved
    );
    // But not where the directory around it is gone.
    fs::remove_dir_all(machine.at(LIVE, "var")).unwrap();
    assert_eq!(
        machine.store.carry(&nested, NEXT, LIVE).unwrap(),
        Carried::Stayed
    );
    assert_eq!(machine.store.nested(NEXT).unwrap(), [nested]);
}

fn another(mut machine: Machine) {
    let nested = two(&mut machine);
    let gone = Nested {
        uuid: Some(machine.nest(LIVE, "other")),
        ..nested.clone()
    };
    assert_eq!(
        machine.store.carry(&gone, LIVE, NEXT).unwrap(),
        Carried::Stayed
    );
    fs::remove_dir(machine.at(NEXT, &nested.name())).unwrap();
    machine.nest(NEXT, &nested.name());
    assert_eq!(
        machine.store.carry(&nested, LIVE, NEXT).unwrap(),
        Carried::Stayed
    );
    assert_eq!(machine.store.nested(LIVE).unwrap().len(), 2);
}

fn read_only(mut machine: Machine) {
    let nested = two(&mut machine);
    let inner = fs::File::open(machine.at(LIVE, &nested.name())).unwrap();
    backstay::sys::btrfs::set_read_only(inner, true).unwrap();
    let (from, to) = (
        machine.at(LIVE, &nested.name()),
        machine.at(NEXT, "elsewhere"),
    );
    let raw = fs::rename(from, to).map_err(|error| Errno::from_io_error(&error));
    assert_eq!(raw, Err(Some(Errno::ROFS)));
    assert_eq!(
        machine.store.carry(&nested, LIVE, NEXT).unwrap(),
        Carried::Stayed
    );
    assert!(
        machine.at(NEXT, &nested.name()).exists(),
        "the stub is still there"
    );
}

fn sealed(mut machine: Machine) {
    let nested = two(&mut machine);
    for place in [NEXT, LIVE] {
        machine.store.seal(place).unwrap();
        assert_eq!(
            machine.store.carry(&nested, LIVE, NEXT).unwrap(),
            Carried::Stayed
        );
    }
}

fn destroyed(mut machine: Machine) {
    let nested = two(&mut machine);
    machine.nest(LIVE, "var/lib/machines/inner");
    let outer = machine.store.seal(LIVE).unwrap();
    let raw = |place_id: u64| {
        destroy_subvolume(machine.store.top(), place_id).map_err(|error| error.errno)
    };
    let id = machine.store.subvolume_id(LIVE).unwrap();
    assert_eq!(raw(id), Err(Errno::NOTEMPTY), "children first");
    let child = fs::File::open(machine.at(LIVE, &nested.name())).unwrap();
    let child_id = backstay::sys::btrfs::subvolume_id(&child).unwrap();
    drop(child);
    fs::remove_dir(machine.at(LIVE, "var/lib/machines/inner")).unwrap();
    assert_eq!(
        raw(child_id),
        Err(Errno::ROFS),
        "a sealed dataset lets go of nothing"
    );
    machine.store.destroy(LIVE, outer.uuid).unwrap();
    assert_eq!(machine.store.dataset(LIVE).unwrap(), None);
    machine.store.sync().unwrap();
}

fn bytes(mut machine: Machine) {
    machine.create(LIVE);
    let name = OsStr::from_bytes(b"caf\xe9\n");
    let made = std::process::Command::new("btrfs")
        .args(["subvolume", "create"])
        .arg(machine.at(LIVE, "").join(name))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    fs::write(machine.at(LIVE, "").join(name).join("file"), b"one").unwrap();
    machine
        .store
        .clone_to(LIVE, NEXT, Access::Writable)
        .unwrap();
    let nested = machine.store.nested(LIVE).unwrap();
    assert_eq!(nested.len(), 1);
    assert_eq!(nested[0].path, name.as_bytes());
    assert_eq!(nested[0].name(), "caf\u{fffd}\u{fffd}", "one plain line");
    assert_eq!(
        machine.store.carry(&nested[0], LIVE, NEXT).unwrap(),
        Carried::Moved
    );
    machine.store.seal(NEXT).unwrap();
    let uuid = |machine: &Machine, place| {
        let dataset = machine.store.dataset(place).unwrap();
        dataset.unwrap().identity.uuid
    };
    machine.store.destroy(LIVE, uuid(&machine, LIVE)).unwrap();
    machine
        .store
        .clone_to(NEXT, LIVE, Access::Writable)
        .unwrap();
    machine.store.clone_nested(NEXT, LIVE).unwrap();
    let file = machine.at(LIVE, "").join(name).join("file");
    assert_eq!(fs::read(file).unwrap(), b"one");
    for place in [LIVE, NEXT] {
        machine.store.destroy(place, uuid(&machine, place)).unwrap();
        assert_eq!(machine.store.dataset(place).unwrap(), None);
    }
}

/// Sets flags of chattr on a directory, in place of what it has.
fn chattr(path: &std::path::Path, flags: IFlags) {
    ioctl_setflags(fs::File::open(path).unwrap(), flags).unwrap();
}

fn barred(mut machine: Machine) {
    let nested = two(&mut machine);
    for (place, path) in [
        (LIVE, "var/lib/machines"),
        (LIVE, "var/lib"),
        (NEXT, "var/lib"),
    ] {
        for flag in [IFlags::IMMUTABLE, IFlags::APPEND] {
            let at = machine.at(place, path);
            chattr(&at, flag);
            let carried = machine.store.carry(&nested, LIVE, NEXT);
            chattr(&at, IFlags::empty());
            assert_eq!(carried.unwrap(), Carried::Stayed, "{at:?} {flag:?}");
            assert!(machine.at(NEXT, &nested.name()).exists(), "the stub");
        }
    }
    // The directory in the clone has the flag of the one in the snapshot.
    for flag in [IFlags::IMMUTABLE, IFlags::APPEND] {
        let uuid = machine.store.dataset(NEXT).unwrap().unwrap().identity.uuid;
        machine.store.destroy(NEXT, uuid).unwrap();
        chattr(&machine.at(LIVE, "var/lib"), flag);
        machine
            .store
            .clone_to(LIVE, NEXT, Access::Writable)
            .unwrap();
        let left_out = machine.store.clone_nested(LIVE, NEXT).unwrap();
        assert_eq!(left_out, [], "{flag:?}");
        assert_eq!(machine.store.nested(NEXT).unwrap().len(), 1);
        let around = fs::File::open(machine.at(NEXT, "var/lib")).unwrap();
        assert!(ioctl_getflags(around).unwrap().contains(flag));
        chattr(&machine.at(NEXT, "var/lib"), IFlags::empty());
        chattr(&machine.at(LIVE, "var/lib"), IFlags::empty());
    }
}

fn too_long(mut machine: Machine) {
    machine.create(LIVE);
    let uuid = machine.nest(LIVE, "near");
    let name = "d".repeat(250);
    let mut at = fs::File::open(machine.at(LIVE, "")).unwrap();
    // The kernel tells no path of 3824 bytes or more below a subvolume.
    for _ in 0..16 {
        mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        at = openat(&at, name.as_str(), flags, Mode::empty())
            .unwrap()
            .into();
    }
    create_subvolume(&at, "far").unwrap();
    drop(at);
    machine
        .store
        .clone_to(LIVE, NEXT, Access::Writable)
        .unwrap();
    let all = machine.store.nested(LIVE).unwrap();
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all[0].uuid, Some(uuid));
    assert_eq!(all[1].uuid, None);
    let left_out = machine.store.clone_nested(LIVE, NEXT).unwrap();
    assert_eq!(left_out, all[1..]);
    let carried = machine.store.carry(&all[1], LIVE, NEXT).unwrap();
    assert_eq!(carried, Carried::Stayed);
    let uuid = machine.store.dataset(LIVE).unwrap().unwrap().identity.uuid;
    machine.store.destroy(LIVE, uuid).unwrap();
    assert_eq!(machine.store.dataset(LIVE).unwrap(), None);
}
