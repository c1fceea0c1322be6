//! The log tree: what an fsync leaves for the next mount.

use super::Premise;
use crate::bench::Machine;
use crate::conformance::Bench;
use crate::scratch::Scratch;
use backstay::record::block::BLOCK;
use backstay::record::layout::Part;
use backstay::store::Store;
use backstay::store::place::{File, Place};
use backstay::sys::probe::btrfs::{OFFSET, SIZE, parse};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_remount};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub const ALL: &[Premise] = &[
    (
        "without_log_replay_a_slot_is_new_and_a_copied_file_is_old",
        slots,
    ),
    (
        "a_clean_file_system_has_no_log_and_a_read_only_mount_writes_nothing",
        clean,
    ),
    (
        "a_read_only_mount_that_is_held_does_not_hinder_one_to_write",
        held,
    ),
    (
        "while_one_is_held_a_mount_refuses_a_wrong_option_and_ignores_a_right_one",
        options,
    ),
    ("a_read_only_mount_replays_a_log_and_so_writes", replays),
    (
        "after_a_mount_without_log_replay_nothing_is_mounted_to_write",
        nologreplay,
    ),
];

const LIVE: Place = Place::Live(Part::System);
const NO_REPLAY: &str = "subvolid=5,rescue=nologreplay";

/// The address of the log tree in the superblock on the disk.
fn log_root(scratch: &Scratch) -> u64 {
    let mut block = [0; SIZE];
    let device = fs::File::open(&scratch.device).unwrap();
    device.read_exact_at(&mut block, OFFSET).unwrap();
    parse(&block).unwrap().log_root
}

/// Cuts the power after a slot and an ordinary file were overwritten and fsynced.
fn cut_with_log(mut machine: Machine) -> Scratch {
    machine.create(LIVE);
    machine.write(LIVE, "file", &[b'o'; 5000]);
    machine
        .store
        .write_slot(File::State, 1, &[1; BLOCK])
        .unwrap();
    machine.store.sync().unwrap();
    let file = fs::File::options()
        .write(true)
        .open(machine.at(LIVE, "file"))
        .unwrap();
    file.write_all_at(&[b'n'; 5000], 0).unwrap();
    file.sync_all().unwrap();
    machine
        .store
        .write_slot(File::State, 1, &[2; BLOCK])
        .unwrap();
    drop(file);
    unmounted_as_is(machine)
}

/// The device as it is now, without the writes of an unmount.
fn unmounted_as_is(machine: Machine) -> Scratch {
    let Machine {
        store, mut scratch, ..
    } = machine;
    let image = scratch.image();
    drop(store);
    scratch.restore(&image);
    scratch
}

/// The first bytes of the file and of slot 1.
fn found(top: &Path) -> [u8; 2] {
    let file = fs::read(top.join("@rootfs/file")).unwrap();
    let state = fs::read(top.join("@backstay/state")).unwrap();
    [file[0], state[BLOCK]]
}

fn slots(machine: Machine) {
    let mut scratch = cut_with_log(machine);
    assert_ne!(log_root(&scratch), 0);
    let top = scratch.try_mount(true, NO_REPLAY).unwrap();
    assert_eq!(found(&top), [b'o', 2]);
    scratch.unmount();
    let top = scratch.mount();
    assert_eq!(found(&top), [b'n', 2]);
}

/// A machine that was shut down in order.
fn shut_down(mut machine: Machine) -> Scratch {
    machine.create(LIVE);
    machine.write(LIVE, "file", b"o");
    machine
        .store
        .write_slot(File::State, 1, &[2; BLOCK])
        .unwrap();
    let Machine {
        store, mut scratch, ..
    } = machine;
    drop(store);
    scratch.unmount();
    scratch
}

fn clean(machine: Machine) {
    let mut scratch = shut_down(machine);
    assert_eq!(log_root(&scratch), 0);
    let before = scratch.image();
    let top = scratch.try_mount(true, "subvolid=5").unwrap();
    assert_eq!(found(&top), [b'o', 2]);
    scratch.unmount();
    assert!(scratch.image() == before, "the disk was written to");
}

fn held(machine: Machine) {
    let mut scratch = shut_down(machine);
    let held = scratch.try_mount(true, "subvolid=5").unwrap();
    assert!(fs::write(held.join("new"), b"").is_err());
    let top = scratch.mount();
    fs::write(top.join("new"), b"").unwrap();
    assert!(fs::write(held.join("other"), b"").is_err());
}

fn options(machine: Machine) {
    let mut scratch = shut_down(machine);
    let before = scratch.image();
    scratch.try_mount(true, "subvolid=5").unwrap();
    for wrong in ["bogus", "compress=bogus", "commit=soon"] {
        let tried = scratch.try_mount(true, &format!("subvol=/,{wrong}"));
        assert_eq!(tried, Err(Errno::INVAL), "{wrong}");
    }
    let again = scratch.try_mount(true, "subvol=/,compress=zstd").unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let of_it = |line: &&str| line.split(' ').nth(4) == again.to_str();
    let line = mounts.lines().find(of_it).unwrap();
    assert!(!line.contains("compress"), "{line}");
    scratch.unmount();
    assert!(scratch.image() == before, "the disk was written to");
}

fn replays(machine: Machine) {
    let mut scratch = cut_with_log(machine);
    let before = scratch.image();
    let top = scratch.try_mount(true, "subvolid=5").unwrap();
    assert_eq!(found(&top), [b'n', 2]);
    scratch.unmount();
    assert_eq!(log_root(&scratch), 0);
    assert!(scratch.image() != before, "it was not written to");
}

fn nologreplay(machine: Machine) {
    let mut scratch = cut_with_log(machine);
    let before = scratch.image();
    let top = scratch.try_mount(true, NO_REPLAY).unwrap();
    assert!(mount_remount(&top, MountFlags::empty(), c"").is_err());
    assert!(scratch.try_mount(false, "subvolid=5").is_err());
    scratch.unmount();
    assert!(scratch.image() == before, "the disk was written to");
    // Once it is unmounted all is as ever.
    let top = scratch.mount();
    fs::write(top.join("new"), b"").unwrap();
}
