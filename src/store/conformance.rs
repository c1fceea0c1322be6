//! What every store must do, as one suite of checks. Each check gets a fresh store.
//!
//! The suite knows a store only through [`Store`] and a [`Bench`], which puts in what a store's
//! users would. Checks panic with a sentence, as tests do.

use crate::record::Uuid;
use crate::record::block::BLOCK;
use crate::record::layout::{Dataset, Layout, Part};
use crate::store::place::{File, Place, Set};
use crate::store::{Access, Carried, Nested, Node, Store, StoreError};

/// A store with a machine around it, which has [`layout`], an empty store and no dataset.
pub trait Bench {
    /// The store to check.
    type Store: Store;

    /// The store.
    fn store(&mut self) -> &mut Self::Store;

    /// Makes an empty writable dataset.
    fn create(&mut self, place: Place);

    /// Writes a file into a dataset, making its directories. Returns whether that was possible.
    fn write(&mut self, place: Place, path: &str, bytes: &[u8]) -> bool;

    /// Makes a directory in a dataset.
    fn directory(&mut self, place: Place, path: &str);

    /// Makes a symbolic link in a dataset.
    fn link(&mut self, place: Place, path: &str, target: &str);

    /// Makes a subvolume inside a dataset, in a directory that exists.
    fn nest(&mut self, place: Place, path: &str) -> Uuid;
}

/// The machine of the suite: a system, configuration and two kinds of data.
pub fn layout() -> Layout {
    let dataset = |name: &str, live: &str, mount: &str| Dataset {
        name: name.try_into().unwrap(),
        live: live.try_into().unwrap(),
        mount: mount.try_into().unwrap(),
    };
    Layout {
        system: dataset("system", "@rootfs", "/"),
        config: Some(dataset("config", "@config", "/var/lib/backstay/config")),
        config_paths: ["/etc/appliance".try_into().unwrap()].into_iter().collect(),
        data: [
            dataset("data", "@data", "/srv/data"),
            dataset("mail", "@mail", "/var/mail"),
        ]
        .into_iter()
        .collect(),
    }
}

const LIVE: Place = Place::Live(Part::System);
const NEXT: Place = Place::Snapshot(13, Part::System);

/// A check: its name, a sentence, and what it does.
pub type Check<B> = (&'static str, fn(&mut B));

/// All checks.
pub fn checks<B: Bench>() -> Vec<Check<B>> {
    vec![
        (
            "every_place_is_empty_at_first_and_holds_what_was_put_there",
            places,
        ),
        ("a_clone_holds_its_source_and_names_it_as_parent", clone_to),
        ("a_clone_goes_its_own_way", clones_diverge),
        ("a_read_only_clone_cannot_be_written", read_only_clone),
        (
            "nothing_is_cloned_over_something_or_from_nothing",
            clone_refused,
        ),
        ("an_exchange_changes_names_and_nothing_else", exchange),
        ("an_exchange_with_nothing_is_refused", exchange_refused),
        (
            "a_rename_takes_the_dataset_along_and_covers_nothing",
            rename,
        ),
        ("a_sealed_dataset_keeps_its_identity", seal),
        ("only_the_dataset_with_the_uuid_is_destroyed", destroy),
        ("nested_subvolumes_are_listed_and_not_cloned", nested),
        ("a_nested_subvolume_is_carried_over_once_and_again", carry),
        (
            "a_nested_subvolume_stays_where_something_else_lies",
            carry_refused,
        ),
        (
            "a_dataset_with_nested_ones_is_destroyed_whole",
            destroy_nested,
        ),
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

fn places<B: Bench>(bench: &mut B) {
    let places: Vec<Place> = layout()
        .all()
        .map(Place::Live)
        .chain([
            Place::Snapshot(1, Part::System),
            Place::Snapshot(1, Part::Config),
            Place::Snapshot(1, Part::Defaults),
            Place::Snapshot(1, Part::Data(1)),
            Place::Factory(Part::System),
            Place::Template(Part::Data(0)),
        ])
        .collect();
    let mut uuids = Vec::new();
    for place in &places {
        assert_eq!(bench.store().dataset(*place).unwrap(), None, "{place:?}");
        bench.create(*place);
        let found = bench.store().dataset(*place).unwrap().unwrap();
        assert!(
            !found.read_only && found.parent.is_none(),
            "{place:?}: {found:?}"
        );
        uuids.push(found.identity.uuid);
    }
    for (place, uuid) in places.iter().zip(&uuids) {
        assert_eq!(uuid_at(bench, *place), Some(*uuid), "{place:?}");
    }
    uuids.sort();
    uuids.dedup();
    assert_eq!(uuids.len(), places.len(), "UUIDs are unique");
}

fn uuid_at<B: Bench>(bench: &mut B, place: Place) -> Option<Uuid> {
    let dataset = bench.store().dataset(place).unwrap();
    dataset.map(|dataset| dataset.identity.uuid)
}

fn content<B: Bench>(bench: &mut B, place: Place, path: &str) -> Option<String> {
    let bytes = bench.store().content(place, path).unwrap();
    bytes.map(|bytes| String::from_utf8(bytes).unwrap())
}

/// A live system with a file, and a writable clone of it in the next snapshot's place.
fn two<B: Bench>(bench: &mut B) -> (Uuid, Uuid) {
    bench.create(LIVE);
    bench.write(LIVE, "etc/version", b"old");
    bench.directory(LIVE, "var/lib");
    let clone = bench
        .store()
        .clone_to(LIVE, NEXT, Access::Writable)
        .unwrap();
    bench.write(NEXT, "etc/version", b"new");
    bench.store().sync().unwrap();
    (uuid_at(bench, LIVE).unwrap(), clone.identity.uuid)
}

fn clone_to<B: Bench>(bench: &mut B) {
    bench.create(LIVE);
    bench.write(LIVE, "etc/hostname", b"one");
    let source = uuid_at(bench, LIVE);
    for (to, access) in [
        (NEXT, Access::Writable),
        (Place::Factory(Part::System), Access::ReadOnly),
    ] {
        let made = bench.store().clone_to(LIVE, to, access).unwrap();
        assert_eq!(made.parent, source);
        assert_eq!(made.read_only, access == Access::ReadOnly);
        assert_eq!(bench.store().dataset(to).unwrap(), Some(made));
        assert_eq!(content(bench, to, "etc/hostname").as_deref(), Some("one"));
    }
}

fn clones_diverge<B: Bench>(bench: &mut B) {
    two(bench);
    assert_eq!(content(bench, LIVE, "etc/version").as_deref(), Some("old"));
    assert_eq!(content(bench, NEXT, "etc/version").as_deref(), Some("new"));
}

fn read_only_clone<B: Bench>(bench: &mut B) {
    bench.create(LIVE);
    bench
        .store()
        .clone_to(LIVE, NEXT, Access::ReadOnly)
        .unwrap();
    let before = bench.store().seal(NEXT).unwrap();
    assert!(!bench.write(NEXT, "file", b"x"));
    assert_eq!(bench.store().seal(NEXT).unwrap(), before);
}

fn clone_refused<B: Bench>(bench: &mut B) {
    let (_, clone) = two(bench);
    let nothing = Place::Snapshot(7, Part::System);
    for (from, to) in [
        (LIVE, NEXT),
        (NEXT, LIVE),
        (nothing, Place::Snapshot(8, Part::System)),
    ] {
        let refused = bench.store().clone_to(from, to, Access::Writable);
        assert!(matches!(refused, Err(StoreError::Place(_))), "{refused:?}");
    }
    assert_eq!(uuid_at(bench, NEXT), Some(clone));
    assert_eq!(uuid_at(bench, Place::Snapshot(8, Part::System)), None);
}

fn exchange<B: Bench>(bench: &mut B) {
    let (old, new) = two(bench);
    for round in 0..3 {
        bench.store().exchange(LIVE, NEXT).unwrap();
        bench.store().sync().unwrap();
        let (live, next) = if round % 2 == 0 {
            (new, old)
        } else {
            (old, new)
        };
        assert_eq!(uuid_at(bench, LIVE), Some(live), "round {round}");
        assert_eq!(uuid_at(bench, NEXT), Some(next), "round {round}");
    }
    assert_eq!(content(bench, LIVE, "etc/version").as_deref(), Some("new"));
}

fn exchange_refused<B: Bench>(bench: &mut B) {
    let (old, _) = two(bench);
    let nothing = Place::Snapshot(7, Part::System);
    for (one, other) in [(LIVE, nothing), (nothing, LIVE)] {
        assert!(bench.store().exchange(one, other).is_err());
    }
    assert_eq!(uuid_at(bench, LIVE), Some(old));
    assert_eq!(uuid_at(bench, nothing), None);
}

fn rename<B: Bench>(bench: &mut B) {
    let (old, new) = two(bench);
    assert!(matches!(
        bench.store().rename(NEXT, LIVE),
        Err(StoreError::Place(_))
    ));
    assert_eq!(uuid_at(bench, LIVE), Some(old));
    let to = Place::Snapshot(14, Part::System);
    bench.store().rename(NEXT, to).unwrap();
    assert_eq!(uuid_at(bench, to), Some(new));
    assert_eq!(uuid_at(bench, NEXT), None);
    assert!(
        bench
            .store()
            .rename(NEXT, Place::Snapshot(15, Part::System))
            .is_err()
    );
}

fn seal<B: Bench>(bench: &mut B) {
    let (old, _) = two(bench);
    let sealed = bench.store().seal(LIVE).unwrap();
    assert_eq!(sealed.uuid, old);
    assert!(!bench.write(LIVE, "etc/version", b"changed"));
    // Used as the source of clones, which are written to, it stays the same.
    let to = Place::Snapshot(14, Part::System);
    bench.store().clone_to(LIVE, to, Access::Writable).unwrap();
    assert!(bench.write(to, "etc/version", b"changed"));
    bench.store().sync().unwrap();
    let found = bench.store().dataset(LIVE).unwrap().unwrap();
    assert_eq!((found.identity, found.read_only), (sealed, true));
    assert_eq!(
        bench.store().seal(LIVE).unwrap(),
        sealed,
        "sealing again changes nothing"
    );
    assert!(
        bench
            .store()
            .seal(Place::Snapshot(7, Part::System))
            .is_err()
    );
}

fn destroy<B: Bench>(bench: &mut B) {
    let (old, new) = two(bench);
    // Whether it complains or not: what has another UUID is left alone.
    bench.store().destroy(NEXT, old).ok();
    assert_eq!(uuid_at(bench, NEXT), Some(new));
    bench.store().seal(NEXT).unwrap();
    bench.store().destroy(NEXT, new).unwrap();
    assert_eq!(uuid_at(bench, NEXT), None);
    bench.store().destroy(NEXT, new).unwrap();
    assert_eq!(uuid_at(bench, LIVE), Some(old));
}

/// A live system with a nested subvolume that holds a file, and a clone of it.
fn two_with_nested<B: Bench>(bench: &mut B) -> Nested {
    bench.create(LIVE);
    bench.directory(LIVE, "var/lib");
    let uuid = bench.nest(LIVE, "var/lib/machines");
    bench
        .store()
        .clone_to(LIVE, NEXT, Access::Writable)
        .unwrap();
    Nested {
        path: "var/lib/machines".to_owned(),
        uuid,
    }
}

fn nested<B: Bench>(bench: &mut B) {
    let nested = two_with_nested(bench);
    assert_eq!(bench.store().nested(LIVE).unwrap(), [nested]);
    assert_eq!(bench.store().nested(NEXT).unwrap(), []);
    let stub = bench.store().node(NEXT, "var/lib/machines").unwrap();
    assert_eq!(
        stub,
        Some(Node::Directory),
        "an empty directory is left in the clone"
    );
}

fn carry<B: Bench>(bench: &mut B) {
    let nested = two_with_nested(bench);
    for again in [false, true] {
        let carried = bench.store().carry(&nested, LIVE, NEXT).unwrap();
        assert_eq!(carried, Carried::Moved, "again: {again}");
        bench.store().sync().unwrap();
        assert_eq!(
            bench.store().nested(NEXT).unwrap(),
            std::slice::from_ref(&nested)
        );
        assert_eq!(bench.store().nested(LIVE).unwrap(), []);
    }
}

fn carry_refused<B: Bench>(bench: &mut B) {
    bench.create(LIVE);
    bench.create(NEXT);
    for path in ["here/a", "here/b", "here/c", "gone/d"] {
        bench.directory(LIVE, path.split('/').next().unwrap());
        bench.nest(LIVE, path);
    }
    bench.write(NEXT, "here/a", b"a file");
    bench.write(NEXT, "here/b/file", b"in a directory");
    bench.link(NEXT, "here/c", "b");
    let all = bench.store().nested(LIVE).unwrap();
    assert_eq!(all.len(), 4);
    for nested in &all {
        let carried = bench.store().carry(nested, LIVE, NEXT).unwrap();
        assert_eq!(carried, Carried::Stayed, "{}", nested.path);
    }
    assert_eq!(bench.store().nested(LIVE).unwrap(), all);
    assert_eq!(content(bench, NEXT, "here/a").as_deref(), Some("a file"));
    assert_eq!(
        content(bench, NEXT, "here/b/file").as_deref(),
        Some("in a directory")
    );
}

fn destroy_nested<B: Bench>(bench: &mut B) {
    let nested = two_with_nested(bench);
    let (old, new) = (uuid_at(bench, LIVE).unwrap(), uuid_at(bench, NEXT).unwrap());
    assert_eq!(
        bench.store().carry(&nested, LIVE, NEXT).unwrap(),
        Carried::Moved
    );
    bench.store().seal(NEXT).unwrap();
    bench.store().destroy(NEXT, new).unwrap();
    assert_eq!(uuid_at(bench, NEXT), None);
    assert_eq!(uuid_at(bench, LIVE), Some(old));
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
    assert!(bench.store().give_up_ballast().unwrap());
    assert!(!bench.store().give_up_ballast().unwrap());
}
