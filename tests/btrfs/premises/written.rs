//! What ctransid and otransid say of a dataset and a clone that was made of it.

use super::Premise;
use crate::bench::Machine;
use crate::conformance::Bench;
use backstay::record::layout::Part;
use backstay::store::place::Place;
use backstay::store::{Access, Store};
use backstay::sys::mount::set_read_only;
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

pub const ALL: &[Premise] = &[
    (
        "what_a_writer_writes_after_the_clone_is_seen_whatever_it_is",
        writers,
    ),
    (
        "an_fsync_after_the_clone_is_seen_once_its_log_was_replayed",
        replayed,
    ),
    ("reading_mounting_and_unmounting_is_no_write", readers),
    ("a_write_to_a_subvolume_inside_is_seen", inside),
    (
        "a_mount_with_a_writer_does_not_become_read_only_and_another_one_does_by_itself",
        quiet,
    ),
];

const DATA: Place = Place::Live(Part::Data(0));
const CLONE: Place = Place::Prepared(Part::Data(0));

fn cloned(machine: &mut Machine) {
    machine.create(DATA);
    machine.write(DATA, "books/1", b"one");
    let store = &mut machine.store;
    store.clone_to(DATA, CLONE, Access::Writable).unwrap();
    store.seal(CLONE).unwrap();
}

fn written(machine: &mut Machine) -> bool {
    machine.store.sync().unwrap();
    machine.store.written_since(DATA, CLONE).unwrap()
}

fn writers(mut machine: Machine) {
    type Write = fn(&Machine);
    let writes: [(&str, Write); 6] = [
        ("a file made", |it| {
            fs::write(it.at(DATA, "new"), b"").unwrap()
        }),
        ("a file overwritten", |it| {
            let file = File::options().write(true).open(it.at(DATA, "books/1"));
            file.unwrap().write_all_at(b"two", 0).unwrap();
        }),
        ("a file removed", |it| {
            fs::remove_file(it.at(DATA, "books/1")).unwrap()
        }),
        ("a name", |it| {
            fs::rename(it.at(DATA, "new"), it.at(DATA, "newer")).unwrap()
        }),
        ("a mode", |it| {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(it.at(DATA, "books"), fs::Permissions::from_mode(0o700)).unwrap();
        }),
        ("an owner", |it| {
            std::os::unix::fs::chown(it.at(DATA, "books"), Some(7), None).unwrap();
        }),
    ];
    cloned(&mut machine);
    assert!(!written(&mut machine));
    for (what, write) in writes {
        write(&machine);
        assert!(written(&mut machine), "{what}");
        let clone = machine.store.dataset(CLONE).unwrap().unwrap();
        machine.store.destroy(CLONE, clone.identity.uuid).unwrap();
        machine
            .store
            .clone_to(DATA, CLONE, Access::ReadOnly)
            .unwrap();
        assert!(!written(&mut machine), "cloned after: {what}");
    }
    // By somebody who had it open before.
    let file = File::options()
        .write(true)
        .open(machine.at(DATA, "newer"))
        .unwrap();
    let clone = machine.store.dataset(CLONE).unwrap().unwrap();
    machine.store.destroy(CLONE, clone.identity.uuid).unwrap();
    machine
        .store
        .clone_to(DATA, CLONE, Access::ReadOnly)
        .unwrap();
    file.write_all_at(b"late", 0).unwrap();
    assert!(written(&mut machine), "an open descriptor");
}

fn replayed(mut machine: Machine) {
    cloned(&mut machine);
    assert!(!written(&mut machine));
    let file = File::options()
        .write(true)
        .open(machine.at(DATA, "books/1"))
        .unwrap();
    file.write_all_at(&[b'n'; 9000], 0).unwrap();
    file.sync_all().unwrap();
    drop(file);
    // No commit: only the log has it.
    let mut machine = machine.after_power_cut();
    let content = fs::read(machine.at(DATA, "books/1")).unwrap();
    assert_eq!(content, [b'n'; 9000], "the log was replayed");
    assert!(machine.store.written_since(DATA, CLONE).unwrap());
    // And without such a write nothing is seen after a cut.
    let clone = machine.store.dataset(CLONE).unwrap().unwrap();
    machine.store.destroy(CLONE, clone.identity.uuid).unwrap();
    machine
        .store
        .clone_to(DATA, CLONE, Access::ReadOnly)
        .unwrap();
    let mut machine = machine.after_power_cut();
    assert!(!written(&mut machine));
}

fn readers(mut machine: Machine) {
    cloned(&mut machine);
    let at = machine.scratch.try_mount(false, "subvol=@data").unwrap();
    assert_eq!(fs::read(at.join("books/1")).unwrap(), b"one");
    assert!(!written(&mut machine), "a read");
    set_read_only(&at, true).unwrap();
    assert!(!written(&mut machine), "a mount made read-only");
    set_read_only(&at, false).unwrap();
    let held = machine
        .store
        .clone_to(DATA, Place::Snapshot(3, Part::Data(0)), Access::ReadOnly);
    held.unwrap();
    assert!(!written(&mut machine), "a snapshot");
    let mut machine = machine.after_power_cut();
    assert!(!written(&mut machine), "a power cut and a mount");
    fs::write(machine.at(DATA, "books/1"), b"two").unwrap();
    assert!(written(&mut machine));
}

fn inside(mut machine: Machine) {
    machine.create(DATA);
    machine.directory(DATA, "dir");
    machine.nest(DATA, "dir/inner");
    fs::write(machine.at(DATA, "dir/inner/file"), b"one").unwrap();
    // The clone writes out what is in memory of its source, and not of what lies inside.
    machine.store.sync().unwrap();
    machine
        .store
        .clone_to(DATA, CLONE, Access::Writable)
        .unwrap();
    assert_eq!(machine.store.clone_nested(DATA, CLONE).unwrap(), []);
    assert!(!written(&mut machine));
    fs::write(machine.at(CLONE, "dir/inner/file"), b"converted").unwrap();
    assert!(!written(&mut machine), "a write to the clone of it");
    fs::write(machine.at(DATA, "dir/inner/file"), b"two").unwrap();
    assert!(written(&mut machine));
}

fn quiet(mut machine: Machine) {
    cloned(&mut machine);
    let one = machine.scratch.try_mount(false, "subvol=@data").unwrap();
    let other = machine.scratch.try_mount(false, "subvol=@data").unwrap();
    let file = File::options()
        .write(true)
        .open(one.join("books/1"))
        .unwrap();
    let busy = set_read_only(&one, true).unwrap_err();
    assert_eq!(busy.errno, Errno::BUSY, "{busy}");
    set_read_only(&other, true).unwrap();
    let refused = fs::write(other.join("books/2"), b"x").unwrap_err();
    assert_eq!(Errno::from_io_error(&refused), Some(Errno::ROFS));
    assert!(!written(&mut machine));
    file.write_all_at(b"two", 0).unwrap();
    assert!(written(&mut machine), "through the mount that takes writes");
    drop(file);
    set_read_only(&one, true).unwrap();
    let mount = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = |at: &std::path::Path| {
        let at = format!(" {} ", at.display());
        mount
            .lines()
            .find(|line| line.contains(&at))
            .unwrap()
            .to_owned()
    };
    // The other options are as they were.
    assert!(line(&one).contains(" ro,noatime "), "{}", line(&one));
    set_read_only(&one, false).unwrap();
    fs::write(one.join("books/2"), b"x").unwrap();
    let nowhere = set_read_only(&one.join("books"), true).unwrap_err();
    assert_eq!(nowhere.errno, Errno::INVAL);
}
