//! Slot files that are not as they must be, and what interrupted writers left.

use super::Premise;
use crate::bench::Machine;
use backstay::record::block::BLOCK;
use backstay::store::place::{File, STORE, Set};
use backstay::store::{Store, StoreError};
use rustix::fs::{CWD, FileType, IFlags, Mode, ioctl_getflags, mknodat};
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

pub const ALL: &[Premise] = &[
    (
        "a_slot_file_that_cannot_be_overwritten_in_place_is_made_again_with_what_it_holds",
        again,
    ),
    ("a_state_that_was_lost_never_looks_like_an_empty_one", lost),
    (
        "a_slot_file_that_was_made_again_is_on_disk_at_once",
        durable,
    ),
    ("a_directory_in_the_way_of_a_slot_file_is_named", directory),
    ("what_interrupted_writers_left_is_removed", leftovers),
];

/// Replaces the state, and says what its two slots must hold afterwards.
type Spoil = fn(&Path) -> [u8; 2];

const LOST: u8 = 0xff;

fn rewrite(state: &Path, length: usize) {
    let mut bytes = fs::read(state).unwrap();
    bytes.resize(length, 9);
    fs::remove_file(state).unwrap();
    fs::write(state, bytes).unwrap();
}

fn nocow(path: &Path) -> bool {
    let file = fs::File::open(path).unwrap();
    ioctl_getflags(&file).unwrap().contains(IFlags::NOCOW)
}

fn again(mut machine: Machine) {
    let spoils: [(&str, Spoil); 7] = [
        ("copied", |state| {
            rewrite(state, 2 * BLOCK);
            [1, 2]
        }),
        ("longer", |state| {
            rewrite(state, 2 * BLOCK + 100);
            [1, 2]
        }),
        ("cut in place", |state| {
            let file = fs::File::options().write(true).open(state).unwrap();
            file.set_len(BLOCK as u64).unwrap();
            [1, LOST]
        }),
        ("empty", |state| {
            rewrite(state, 0);
            [LOST, LOST]
        }),
        ("with a hole", |state| {
            let file = fs::File::options().write(true).open(state).unwrap();
            file.set_len(0).unwrap();
            file.set_len(2 * BLOCK as u64).unwrap();
            file.write_all_at(&[1; BLOCK], 0).unwrap();
            assert!(nocow(state));
            [1, 0]
        }),
        ("a link", |state| {
            fs::rename(state, state.with_file_name("elsewhere")).unwrap();
            symlink("elsewhere", state).unwrap();
            [LOST, LOST]
        }),
        ("a pipe", |state| {
            fs::remove_file(state).unwrap();
            mknodat(CWD, state, FileType::Fifo, Mode::RUSR, 0).unwrap();
            [LOST, LOST]
        }),
    ];
    let path = machine.top.join(File::State.path());
    for (what, spoil) in spoils {
        for (slot, byte) in [(0, 1), (1, 2)] {
            let block = [byte; BLOCK];
            machine.store.write_slot(File::State, slot, &block).unwrap();
        }
        let want = spoil(&path);
        let remade = machine.store.create_slots().unwrap();
        let remade: Vec<_> = remade.iter().map(|it| (it.file, it.lost)).collect();
        assert_eq!(remade, [(File::State, false)], "{what}");
        assert!(nocow(&path), "{what}");
        let [first, second] = want.map(|byte| [byte; BLOCK]);
        assert!(
            fs::read(&path).unwrap() == [first, second].concat(),
            "{what}"
        );
        assert_eq!(machine.store.create_slots().unwrap(), [], "{what}");
    }
}

fn lost(mut machine: Machine) {
    let [state, journal] = [File::State, File::Journal].map(|file| machine.top.join(file.path()));
    fs::remove_file(&state).unwrap();
    let [remade] = machine.store.create_slots().unwrap()[..] else {
        panic!("one was lost");
    };
    assert!(remade.lost && remade.file == File::State);
    assert!(fs::read(&state).unwrap() == [LOST; 2 * BLOCK]);
    // Without its twin it was never there. An empty journal is a closed one, whatever is lost.
    for files in [&[&state, &journal][..], &[&journal]] {
        files.iter().for_each(|file| fs::remove_file(file).unwrap());
        assert_eq!(machine.store.create_slots().unwrap(), []);
        for file in files {
            assert!(fs::read(file).unwrap() == [0; 2 * BLOCK]);
        }
    }
}

fn durable(mut machine: Machine) {
    let state = machine.top.join(File::State.path());
    machine
        .store
        .write_slot(File::State, 0, &[1; BLOCK])
        .unwrap();
    rewrite(&state, 2 * BLOCK);
    machine.store.sync().unwrap();
    machine.store.create_slots().unwrap();
    let mut machine = machine.after_power_cut();
    let state = machine.top.join(File::State.path());
    assert!(nocow(&state));
    assert!(fs::read(&state).unwrap() == [[1; BLOCK], [0; BLOCK]].concat());
    machine
        .store
        .write_slot(File::State, 1, &[2; BLOCK])
        .unwrap();
    let machine = machine.after_power_cut();
    let found = machine.store.read(File::State).unwrap().unwrap();
    assert!(found == [[1; BLOCK], [2; BLOCK]].concat());
}

fn directory(mut machine: Machine) {
    let state = machine.top.join(File::State.path());
    fs::remove_file(&state).unwrap();
    fs::create_dir(&state).unwrap();
    let Err(StoreError::Place(text)) = machine.store.create_slots() else {
        panic!("made over a directory");
    };
    assert!(text.contains("move it away"), "{text}");
}

fn leftovers(mut machine: Machine) {
    let store = machine.top.join(STORE);
    machine.store.make_directory(7).unwrap();
    let ours = [
        "armed/.armed.cfg.new",
        "grub/.grub.cfg.new",
        ".layout.new",
        "snapshots/7/.manifest.new",
        "factory/.menu.cfg.new",
    ];
    let others = ["grub/.mine.new", "armed/armed.cfg.new", ".state.new"];
    for name in ours.iter().chain(&others) {
        match *name {
            ".state.new" => fs::create_dir(store.join("grub").join(name)).unwrap(),
            name => fs::write(store.join(name), b"x").unwrap(),
        }
    }
    machine.store.create_skeleton().unwrap();
    for name in ours {
        assert!(!store.join(name).exists(), "{name}");
    }
    for name in ["grub/.mine.new", "armed/armed.cfg.new", "grub/.state.new"] {
        assert!(store.join(name).exists(), "{name} is not ours");
    }
    // The next writer, and who removes the file, copes with one by itself.
    let leftover = store.join("armed/.armed.cfg.new");
    let target = store.join("target");
    fs::write(&target, b"untouched").unwrap();
    for link in [false, true] {
        match link {
            true => symlink(&target, &leftover).unwrap(),
            false => fs::hard_link(&target, &leftover).unwrap(),
        }
        machine.store.replace(File::Armed, b"armed").unwrap();
        assert_eq!(machine.store.read(File::Armed).unwrap().unwrap(), b"armed");
        assert!(!leftover.exists());
    }
    fs::write(&leftover, b"x").unwrap();
    machine.store.remove(File::Armed).unwrap();
    assert!(!leftover.exists());
    assert_eq!(fs::read(&target).unwrap(), b"untouched");
    // One that failed leaves nothing.
    let manifest = File::Manifest(Set::Snapshot(7));
    fs::create_dir(store.join("snapshots/7/manifest")).unwrap();
    assert!(machine.store.replace(manifest, b"x").is_err());
    assert!(!store.join("snapshots/7/.manifest.new").exists());
}
