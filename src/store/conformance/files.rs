//! What lies beside the datasets, and in them.

use super::{Bench, Check, LIVE, NEXT, two, uuid_at};
use crate::record::block::BLOCK;
use crate::record::layout::Part;
use crate::store::place::{File, Place, Set};
use crate::store::{Node, Store};

/// The checks of this file.
pub fn checks<B: Bench>() -> Vec<Check<B>> {
    vec![
        ("ids_are_what_lies_in_the_store", ids),
        (
            "a_snapshot_directory_goes_only_without_datasets",
            directories,
        ),
        ("small_files_are_replaced_whole_and_removed", files),
        ("slots_are_written_one_by_one_in_place", slots),
        ("only_slot_files_have_slots", slots_refused),
        (
            "what_lies_in_a_dataset_is_seen_and_no_link_is_followed",
            look_inside,
        ),
        ("ballast_is_given_up_once", ballast),
    ]
}

fn ids<B: Bench>(bench: &mut B) {
    assert_eq!(bench.store().ids().unwrap(), [0_u32; 0]);
    bench.create(LIVE);
    bench.create(Place::Live(Part::Data(0)));
    bench.create(Place::Template(Part::Data(0)));
    bench.create(Place::Factory(Part::System));
    assert_eq!(bench.store().ids().unwrap(), [0_u32; 0]);
    bench.store().make_directory(4).unwrap();
    bench.create(Place::Snapshot(12, Part::System));
    bench.create(Place::Snapshot(9, Part::Data(0)));
    bench.create(Place::Snapshot(12, Part::Data(1)));
    let mut ids = bench.store().ids().unwrap();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, [4, 9, 12]);
}

fn directories<B: Bench>(bench: &mut B) {
    let (_, new) = two(bench);
    let manifest = File::Manifest(Set::Snapshot(13));
    for _ in 0..2 {
        bench.store().make_directory(13).unwrap();
    }
    for file in [manifest, File::MenuCfg(Set::Snapshot(13))] {
        bench.store().replace(file, b"x").unwrap();
    }
    assert!(bench.store().remove_directory(13).is_err());
    assert_eq!(uuid_at(bench, NEXT), Some(new));
    assert_eq!(
        bench.store().read(manifest).unwrap().as_deref(),
        Some(&b"x"[..])
    );
    bench.store().destroy(NEXT, new).unwrap();
    for _ in 0..2 {
        bench.store().remove_directory(13).unwrap();
        assert_eq!(bench.store().ids().unwrap(), [0_u32; 0]);
        assert_eq!(bench.store().read(manifest).unwrap(), None);
    }
}

fn files<B: Bench>(bench: &mut B) {
    bench.store().make_directory(3).unwrap();
    for file in [
        File::Layout,
        File::Manifest(Set::Snapshot(3)),
        File::MenuCfg(Set::Factory),
        File::Armed,
        File::FirstBoot,
        File::Log,
    ] {
        assert_eq!(bench.store().read(file).unwrap(), None, "{file:?}");
        bench.store().remove(file).unwrap();
        for bytes in [&b"one"[..], &[7; 5000], b""] {
            bench.store().replace(file, bytes).unwrap();
            assert_eq!(
                bench.store().read(file).unwrap().as_deref(),
                Some(bytes),
                "{file:?}"
            );
        }
        bench.store().remove(file).unwrap();
        assert_eq!(bench.store().read(file).unwrap(), None, "{file:?}");
    }
}

fn slots<B: Bench>(bench: &mut B) {
    for file in [File::State, File::Journal] {
        let mut want = vec![0; 2 * BLOCK];
        assert_eq!(
            bench.store().read(file).unwrap().as_deref(),
            Some(&want[..])
        );
        for (slot, byte) in [(0, 1), (1, 2), (0, 3), (0, 4), (1, 5)] {
            bench
                .store()
                .write_slot(file, slot, &[byte; BLOCK])
                .unwrap();
            want[slot * BLOCK..][..BLOCK].fill(byte);
            assert_eq!(
                bench.store().read(file).unwrap().as_deref(),
                Some(&want[..])
            );
        }
    }
}

fn slots_refused<B: Bench>(bench: &mut B) {
    bench.store().replace(File::Log, &[0; 2 * BLOCK]).unwrap();
    assert!(bench.store().write_slot(File::Log, 0, &[1; BLOCK]).is_err());
    let log = bench.store().read(File::Log).unwrap();
    assert_eq!(log.as_deref(), Some(&[0; 2 * BLOCK][..]));
}

fn look_inside<B: Bench>(bench: &mut B) {
    bench.create(LIVE);
    bench.write(LIVE, "boot/vmlinuz-6.12", b"kernel");
    bench.link(LIVE, "boot/vmlinuz", "vmlinuz-6.12");
    bench.directory(LIVE, "lib");
    bench.directory(LIVE, "lib/modules");
    bench.link(LIVE, "lib/here", "modules");
    let store = bench.store();
    for (path, want) in [
        ("boot", Some(Node::Directory)),
        ("boot/vmlinuz-6.12", Some(Node::File)),
        ("boot/vmlinuz", Some(Node::Symlink)),
        ("boot/missing", None),
        ("boot/vmlinuz-6.12/below", None),
    ] {
        assert_eq!(store.node(LIVE, path).unwrap(), want, "{path}");
    }
    for path in ["boot", "boot/vmlinuz", "boot/missing"] {
        assert!(!store.is_executable(LIVE, path).unwrap(), "{path}");
    }
    let mut names = store.names(LIVE, "boot").unwrap();
    names.sort();
    assert_eq!(names, ["vmlinuz", "vmlinuz-6.12"]);
    for path in ["missing", "lib/modules", "boot/vmlinuz-6.12", "lib/here"] {
        assert_eq!(store.names(LIVE, path).unwrap(), [""; 0], "{path}");
    }
    assert_eq!(
        store.link(LIVE, "boot/vmlinuz").unwrap().as_deref(),
        Some("vmlinuz-6.12")
    );
    assert_eq!(store.link(LIVE, "boot/vmlinuz-6.12").unwrap(), None);
    let kernel = store.content(LIVE, "boot/vmlinuz-6.12").unwrap();
    assert_eq!(kernel.as_deref(), Some(&b"kernel"[..]));
    for path in ["boot/vmlinuz", "boot", "missing"] {
        assert_eq!(store.content(LIVE, path).unwrap(), None, "{path}");
    }
    assert!(store.node(NEXT, "boot").is_err(), "no dataset lies there");
}

fn ballast<B: Bench>(bench: &mut B) {
    bench.ballast();
    assert!(bench.store().give_up_ballast().unwrap());
    assert!(!bench.store().give_up_ballast().unwrap());
}
