//! What uuid, the read-only flag and ctransid say of a sealed dataset.

use super::Premise;
use crate::bench::Machine;
use crate::conformance::Bench;
use backstay::record::Identity;
use backstay::record::layout::Part;
use backstay::store::place::Place;
use backstay::store::{Access, Store};
use backstay::sys::btrfs::set_read_only;
use rustix::fs::{Timespec, Timestamps, XattrFlags, futimens, setxattr};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

pub const ALL: &[Premise] = &[
    (
        "the_identity_of_a_sealed_dataset_survives_use_scrub_and_balance",
        survives,
    ),
    ("every_write_after_unsealing_changes_the_identity", written),
    (
        "a_writer_with_a_descriptor_is_not_stopped_by_sealing",
        writer,
    ),
    ("a_read_only_clone_has_no_writer_from_before", no_writer),
];

const FACTORY: Place = Place::Factory(Part::System);
const LIVE: Place = Place::Live(Part::System);

/// A sealed dataset with a file that was never read since it was written.
fn sealed(machine: &mut Machine) -> Identity {
    machine.create(FACTORY);
    machine.write(FACTORY, "etc/version", b"one");
    let file = File::open(machine.at(FACTORY, "etc/version")).unwrap();
    let long_ago = Timespec {
        tv_sec: 1_000_000,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: long_ago,
        last_modification: long_ago,
    };
    futimens(file, &times).unwrap();
    machine.store.seal(FACTORY).unwrap()
}

fn identity(machine: &mut Machine) -> Identity {
    machine.store.sync().unwrap();
    machine.store.dataset(FACTORY).unwrap().unwrap().identity
}

fn survives(mut machine: Machine) {
    let before = sealed(&mut machine);
    let check = |machine: &mut Machine, what: &str| {
        assert_eq!(identity(machine), before, "after: {what}");
    };
    machine
        .store
        .clone_to(FACTORY, LIVE, Access::Writable)
        .unwrap();
    machine.write(LIVE, "etc/version", b"two");
    check(&mut machine, "a writable clone, written to");
    machine
        .store
        .clone_to(FACTORY, Place::Snapshot(1, Part::System), Access::ReadOnly)
        .unwrap();
    check(&mut machine, "a read-only clone");
    let options = "subvol=@backstay/factory/system";
    let at = machine.scratch.try_mount(true, options).unwrap();
    assert_eq!(fs::read(at.join("etc/version")).unwrap(), b"one");
    assert!(fs::write(at.join("etc/version"), b"x").is_err());
    check(&mut machine, "a read-only mount");
    let at = machine.scratch.try_mount(false, options).unwrap();
    assert!(fs::write(at.join("etc/version"), b"x").is_err());
    check(&mut machine, "a mount to write, in vain");
    for arguments in [
        ["scrub", "start", "-B"],
        ["balance", "start", "--full-balance"],
    ] {
        let output = Command::new("btrfs")
            .args(arguments)
            .arg(&machine.top)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        check(&mut machine, arguments[0]);
    }
    let mut machine = machine.after_power_cut();
    check(&mut machine, "a power cut and a mount");
}

/// One write: given the dataset's root.
type Write = fn(&Path);

fn written(mut machine: Machine) {
    let mut before = sealed(&mut machine);
    let writes: [(&str, Write); 6] = [
        ("a file made", |root| {
            fs::write(root.join("new"), b"").unwrap()
        }),
        ("a file changed", |root| {
            fs::write(root.join("etc/version"), b"two").unwrap()
        }),
        ("a mode", |root| {
            fs::set_permissions(root, Permissions::from_mode(0o750)).unwrap()
        }),
        ("an attribute of the root", |root| {
            setxattr(
                root,
                "trusted.backstay.state.shop",
                b"1",
                XattrFlags::empty(),
            )
            .unwrap()
        }),
        ("a file removed", |root| {
            fs::remove_file(root.join("new")).unwrap()
        }),
        // Alone when it was last changed after it was last read, and so at most once.
        ("a time of reading", |root| read_at_another_mount(root)),
    ];
    for (what, write) in writes {
        let root = machine.at(FACTORY, "");
        let flag = |on| set_read_only(File::open(&root).unwrap(), on).unwrap();
        flag(false);
        write(&root);
        flag(true);
        let after = identity(&mut machine);
        assert_eq!(after.uuid, before.uuid, "{what}");
        assert_ne!(after.ctransid, before.ctransid, "{what}");
        before = after;
    }
}

/// Reads with the mount option relatime, which is every system's default.
fn read_at_another_mount(root: &Path) {
    let at = tempfile::tempdir().unwrap();
    mount(root, at.path(), "", MountFlags::BIND, None).unwrap();
    let flags = MountFlags::BIND | MountFlags::RELATIME;
    rustix::mount::mount_remount(at.path(), flags, c"").unwrap();
    assert_eq!(fs::read(at.path().join("etc/version")).unwrap(), b"two");
    unmount(at.path(), UnmountFlags::empty()).unwrap();
}

fn writer(mut machine: Machine) {
    machine.create(LIVE);
    machine.write(LIVE, "file", b"one");
    let file = File::options()
        .write(true)
        .open(machine.at(LIVE, "file"))
        .unwrap();
    let before = machine.store.seal(LIVE).unwrap();
    file.write_all_at(b"two", 0).unwrap();
    file.sync_all().unwrap();
    machine.store.sync().unwrap();
    assert_eq!(
        machine.store.content(LIVE, "file").unwrap().unwrap(),
        b"two"
    );
    let after = machine.store.dataset(LIVE).unwrap().unwrap();
    assert!(after.read_only);
    assert_ne!(after.identity, before, "at least it is seen");
}

fn no_writer(mut machine: Machine) {
    machine.create(LIVE);
    machine.write(LIVE, "file", b"one");
    let file = File::options()
        .write(true)
        .open(machine.at(LIVE, "file"))
        .unwrap();
    machine
        .store
        .clone_to(LIVE, FACTORY, Access::ReadOnly)
        .unwrap();
    let before = machine.store.seal(FACTORY).unwrap();
    file.write_all_at(b"two", 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(identity(&mut machine), before);
    assert_eq!(
        machine.store.content(FACTORY, "file").unwrap().unwrap(),
        b"one"
    );
}
