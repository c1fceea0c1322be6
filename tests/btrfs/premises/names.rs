//! Which names may change, and which subvolumes may go.

use super::Premise;
use crate::bench::Machine;
use crate::conformance::{Bench, layout};
use backstay::record::layout::Part;
use backstay::store::btrfs::{Btrfs, open_top};
use backstay::store::place::{Place, STORE};
use backstay::store::{Access, Store, StoreError};
use backstay::sys::btrfs::destroy_subvolume;
use rustix::fs::{
    CWD, FallocateFlags, IFlags, RenameFlags, fallocate, ioctl_setflags, renameat_with,
};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

pub const ALL: &[Premise] = &[
    ("nothing_is_renamed_over_a_subvolume", over),
    ("a_read_only_subvolume_keeps_its_directory", read_only),
    (
        "after_an_exchange_the_default_subvolume_is_the_old_dataset",
        default_moves,
    ),
    (
        "subvol_is_relative_to_the_top_level_whatever_the_default_is",
        subvol,
    ),
    (
        "the_default_subvolume_is_not_destroyed_nor_what_is_inside_it",
        default_kept,
    ),
    (
        "a_subvolume_with_an_active_swap_file_is_neither_destroyed_nor_cloned",
        swap,
    ),
    (
        "an_exchange_with_an_ordinary_directory_is_refused",
        ordinary,
    ),
    ("a_symbolic_link_in_the_way_is_not_followed", links),
    ("only_a_top_level_is_opened_as_a_store", top),
    (
        "a_new_store_is_closed_to_users_and_completed_when_made_again",
        skeleton,
    ),
    (
        "a_flag_of_chattr_on_a_dataset_or_around_it_is_told_before_an_exchange",
        chattr,
    ),
    (
        "a_clone_of_an_immutable_dataset_becomes_live_and_both_are_destroyed",
        immutable,
    ),
];

const LIVE: Place = Place::Live(Part::System);
const NEXT: Place = Place::Snapshot(13, Part::System);

/// Two datasets, the second a clone of the first.
fn two(machine: &mut Machine) {
    machine.create(LIVE);
    machine.write(LIVE, "file", b"one");
    machine
        .store
        .clone_to(LIVE, NEXT, Access::Writable)
        .unwrap();
}

fn over(mut machine: Machine) {
    two(&mut machine);
    machine.create(Place::Live(Part::Config));
    let next = machine.at(NEXT, "");
    // The last one is empty.
    for over in [
        machine.at(LIVE, ""),
        machine.at(Place::Live(Part::Config), ""),
    ] {
        let plain = fs::rename(&next, &over).map_err(|error| Errno::from_io_error(&error));
        assert_eq!(plain, Err(Some(Errno::NOTEMPTY)), "{over:?}");
        let careful = renameat_with(CWD, &next, CWD, &over, RenameFlags::NOREPLACE);
        assert_eq!(careful, Err(Errno::EXIST), "{over:?}");
    }
}

fn read_only(mut machine: Machine) {
    two(&mut machine);
    machine.store.seal(NEXT).unwrap();
    let (live, next) = (machine.at(LIVE, ""), machine.at(NEXT, ""));
    for flags in [RenameFlags::EXCHANGE, RenameFlags::NOREPLACE] {
        let to = if flags == RenameFlags::EXCHANGE {
            live.clone()
        } else {
            machine.top.join("to")
        };
        assert_eq!(
            renameat_with(CWD, &next, CWD, to, flags),
            Err(Errno::ROFS),
            "{flags:?}"
        );
    }
    let beside = next.parent().unwrap().join("beside");
    fs::rename(&next, &beside).unwrap();
    machine.store.create(NEXT).unwrap();
    renameat_with(CWD, &next, CWD, &beside, RenameFlags::EXCHANGE).unwrap();
    assert!(machine.store.dataset(NEXT).unwrap().unwrap().read_only);
}

fn default_moves(mut machine: Machine) {
    two(&mut machine);
    assert_eq!(machine.store.default_subvolume().unwrap(), 5);
    machine.store.set_default_subvolume(LIVE).unwrap();
    let old = machine.store.subvolume_id(LIVE).unwrap();
    machine.store.exchange(LIVE, NEXT).unwrap();
    machine.store.sync().unwrap();
    assert_eq!(machine.store.default_subvolume().unwrap(), old);
    assert_eq!(machine.store.subvolume_id(NEXT).unwrap(), old);
    machine.store.set_default_subvolume(LIVE).unwrap();
    assert_ne!(machine.store.default_subvolume().unwrap(), old);
}

fn subvol(mut machine: Machine) {
    two(&mut machine);
    machine.store.set_default_subvolume(LIVE).unwrap();
    machine.store.sync().unwrap();
    let mut look = |options: &str, path: &str| {
        let at = machine.scratch.try_mount(true, options).unwrap();
        assert!(at.join(path).exists(), "{options} {path}");
    };
    look("", "file");
    look("subvolid=5", STORE);
    look("subvol=/", STORE);
    look("subvol=@backstay/snapshots/13/system", "file");
}

fn default_kept(mut machine: Machine) {
    two(&mut machine);
    machine.nest(NEXT, "inner");
    machine.store.set_default_subvolume(NEXT).unwrap();
    let id = machine.store.subvolume_id(NEXT).unwrap();
    let uuid = machine.store.dataset(NEXT).unwrap().unwrap().identity.uuid;
    let Err(StoreError::Place(text)) = machine.store.destroy(NEXT, uuid) else {
        panic!("destroyed");
    };
    assert!(
        text.contains("snapshots/13/system is the default subvolume"),
        "{text}"
    );
    assert_eq!(machine.store.nested(NEXT).unwrap().len(), 1);
    fs::remove_dir(machine.at(NEXT, "inner")).unwrap();
    let raw = destroy_subvolume(machine.store.top(), id).map_err(|error| error.errno);
    assert_eq!(raw, Err(Errno::PERM));
    machine.store.set_default_subvolume(LIVE).unwrap();
    machine.store.destroy(NEXT, uuid).unwrap();
}

/// Makes a swap file and runs `during` while it is active.
fn with_swap<T>(path: &Path, during: impl FnOnce() -> T) -> T {
    let file = File::create(path).unwrap();
    ioctl_setflags(&file, IFlags::NOCOW).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o600))
        .unwrap();
    drop(file);
    let run = |program: &str| {
        let output = Command::new(program).arg(path).output().expect(program);
        assert!(output.status.success(), "{program}: {output:?}");
    };
    run("mkswap");
    run("swapon");
    let result = during();
    run("swapoff");
    result
}

fn swap(mut machine: Machine) {
    two(&mut machine);
    machine.nest(NEXT, "inner");
    let uuid = machine.store.dataset(NEXT).unwrap().unwrap().identity.uuid;
    let inner = machine.at(NEXT, "inner/swap");
    let (refused, inside) = with_swap(&inner, || {
        let refused = machine.store.destroy(NEXT, uuid);
        (refused, machine.store.nested(NEXT).unwrap())
    });
    let Err(StoreError::Place(text)) = refused else {
        panic!("{refused:?}");
    };
    assert!(text.contains("active swap file"), "{text}");
    assert_eq!(
        inside.len(),
        1,
        "it was refused before anything was destroyed"
    );
    machine.store.destroy(NEXT, uuid).unwrap();
    let live = machine.at(LIVE, "swap");
    let refused = with_swap(&live, || {
        machine.store.clone_to(LIVE, NEXT, Access::Writable)
    });
    let Err(StoreError::System(text)) = refused else {
        panic!("{refused:?}");
    };
    assert!(text.contains("swapoff it"), "{text}");
}

fn ordinary(mut machine: Machine) {
    two(&mut machine);
    let other = Place::Snapshot(14, Part::System);
    fs::create_dir_all(machine.at(other, "")).unwrap();
    for (one, two) in [(LIVE, other), (other, LIVE)] {
        let refused = machine.store.exchange(one, two);
        assert!(matches!(refused, Err(StoreError::Place(_))), "{refused:?}");
    }
    assert!(matches!(
        machine.store.dataset(other),
        Err(StoreError::Place(_))
    ));
    assert!(machine.at(LIVE, "file").exists());
}

fn links(mut machine: Machine) {
    two(&mut machine);
    symlink("13", machine.top.join("@backstay/snapshots/14")).unwrap();
    symlink("system", machine.top.join("@backstay/snapshots/13/config")).unwrap();
    for place in [
        Place::Snapshot(14, Part::System),
        Place::Snapshot(13, Part::Config),
    ] {
        let found = machine.store.dataset(place);
        assert!(
            matches!(found, Err(StoreError::Place(_))),
            "{place:?}: {found:?}"
        );
    }
    symlink("/etc", machine.at(LIVE, "etc")).unwrap();
    assert_eq!(machine.store.content(LIVE, "etc/passwd").unwrap(), None);
    assert!(
        machine
            .store
            .content(LIVE, "../@backstay/../../etc/passwd")
            .is_err()
    );
    // A symbolic link for a small file is replaced, not written through.
    let target = machine.top.join("target");
    fs::write(&target, b"untouched").unwrap();
    symlink(&target, machine.top.join("@backstay/armed/armed.cfg")).unwrap();
    symlink(&target, machine.top.join("@backstay/armed/.armed.cfg.new")).unwrap();
    let armed = backstay::store::place::File::Armed;
    assert_eq!(machine.store.read(armed).unwrap(), None);
    machine.store.replace(armed, b"armed").ok();
    assert_eq!(fs::read(&target).unwrap(), b"untouched");
}

fn top(mut machine: Machine) {
    two(&mut machine);
    for path in [
        machine.at(LIVE, ""),
        machine.top.join("@backstay/snapshots"),
        "/".into(),
    ] {
        let refused = Btrfs::open(open_top(&path).unwrap(), layout());
        assert!(
            matches!(refused, Err(StoreError::Place(_))),
            "{path:?}: {refused:?}"
        );
    }
}

fn skeleton(mut machine: Machine) {
    let store = machine.top.join(STORE);
    assert_eq!(fs::metadata(&store).unwrap().mode() & 0o7777, 0o700);
    machine
        .store
        .write_slot(backstay::store::place::File::State, 0, &[1; 4096])
        .unwrap();
    fs::remove_dir(store.join("snapshots")).unwrap();
    fs::remove_file(store.join("journal")).unwrap();
    fs::write(store.join(".journal.new"), b"cut short").unwrap();
    machine.store.create_store().unwrap();
    assert!(store.join("snapshots").exists());
    assert_eq!(fs::read(store.join("journal")).unwrap(), [0; 8192]);
    assert_eq!(fs::read(store.join("state")).unwrap()[..4096], [1; 4096]);
    let journal = backstay::store::place::File::Journal;
    assert!(machine.store.replace(journal, b"x").is_err());
    // One that was copied is not overwritten in place any more, and says so.
    fs::remove_file(store.join("journal")).unwrap();
    fs::write(store.join("journal"), [0; 8192]).unwrap();
    let refused = machine.store.write_slot(journal, 0, &[1; 4096]);
    assert!(matches!(refused, Err(StoreError::Place(_))), "{refused:?}");
}

fn chattr(mut machine: Machine) {
    two(&mut machine);
    let around = machine.at(NEXT, "").join("..");
    for (at, place, want) in [
        (machine.at(LIVE, ""), LIVE, "immutable"),
        (machine.at(NEXT, ""), NEXT, "immutable"),
        (machine.top.clone(), LIVE, "in an immutable directory"),
        (around, NEXT, "in an immutable directory"),
    ] {
        for flag in [IFlags::IMMUTABLE, IFlags::APPEND] {
            let set = |flags| ioctl_setflags(File::open(&at).unwrap(), flags).unwrap();
            set(flag);
            let held = machine.store.held(place);
            let exchanged = machine.store.exchange(LIVE, NEXT);
            set(IFlags::empty());
            assert_eq!(held.unwrap(), Some(want), "{at:?} {flag:?}");
            assert!(exchanged.is_err(), "{at:?} {flag:?}");
            assert_eq!(machine.store.held(place).unwrap(), None);
        }
    }
    machine.store.exchange(LIVE, NEXT).unwrap();
}

fn immutable(mut machine: Machine) {
    let set = |path: &Path, flags| ioctl_setflags(File::open(path).unwrap(), flags).unwrap();
    let uuid = |machine: &Machine, place| {
        let dataset = machine.store.dataset(place).unwrap();
        dataset.unwrap().identity.uuid
    };
    let other = Place::Snapshot(14, Part::System);
    for flag in [IFlags::IMMUTABLE, IFlags::APPEND] {
        machine.create(LIVE);
        machine.directory(LIVE, "dir");
        machine.nest(LIVE, "dir/inner");
        for path in ["dir/inner", "dir", ""] {
            set(&machine.at(LIVE, path), flag);
        }
        machine
            .store
            .clone_to(LIVE, NEXT, Access::ReadOnly)
            .unwrap();
        machine
            .store
            .clone_to(NEXT, other, Access::Writable)
            .unwrap();
        assert_eq!(machine.store.held(other).unwrap(), None, "{flag:?}");
        // As an attempt leaves it that found no room to take the flag away.
        let first = uuid(&machine, other);
        set(&machine.at(other, ""), flag);
        let mut again = |from, access| machine.store.clone_to(from, other, access);
        assert!(again(LIVE, Access::Writable).is_err(), "{flag:?}");
        assert!(again(NEXT, Access::ReadOnly).is_err(), "{flag:?}");
        let clone = again(NEXT, Access::Writable).unwrap();
        assert_eq!(clone.identity.uuid, first, "{flag:?}");
        // A finished one is in the way.
        assert!(again(NEXT, Access::Writable).is_err(), "{flag:?}");
        assert_eq!(machine.store.held(other).unwrap(), None, "{flag:?}");
        set(&machine.at(LIVE, ""), IFlags::empty());
        machine.store.exchange(LIVE, other).unwrap();
        set(&machine.at(other, ""), flag);
        // With what they inherited, and what lies inside.
        for place in [LIVE, NEXT, other] {
            machine.store.destroy(place, uuid(&machine, place)).unwrap();
            assert_eq!(machine.store.dataset(place).unwrap(), None);
        }
    }
}
