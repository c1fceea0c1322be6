//! What goes wrong besides power cuts: missing and damaged things, nested subvolumes, second thoughts.

use super::execute::{Done, execute};
use super::explain::explain;
use super::model::{layout, machine};
use super::plan::plan;
use super::records::Records;
use super::recover::{Recovered, live_set_is_mixed, recover};
use super::{Error, catalogue};
use crate::policy::intent::Intent;
use crate::record::block::BLOCK;
use crate::record::journal::Journal;
use crate::record::layout::Part;
use crate::store::Store;
use crate::store::memory::{Content, Memory};
use crate::store::place::{File, Place, Set};

fn go(store: &mut Memory, records: &mut Records, intent: &Intent) -> Result<(), Error> {
    done(store, records, intent).map(|_| ())
}

fn done(store: &mut Memory, records: &mut Records, intent: &Intent) -> Result<Done, Error> {
    let source = intent
        .source()
        .and_then(|set| catalogue::manifest(store, set).unwrap());
    let state = catalogue::with_free_id(store, &records.state.value)?;
    let plan = plan(intent, &state, &layout(), source.as_ref(), 1000);
    execute(store, records, &plan, 1000, &mut |_| {})
}

#[test]
fn a_missing_live_system_can_be_replaced() {
    let (mut store, mut records) = machine();
    store.edit(|world, _| world.datasets.remove(&Place::Live(Part::System)));
    let first = go(&mut store, &mut records, &Intent::Rollback { to: 2 });

    let again = recover(&mut store, &mut records, &mut |_| {});

    first.unwrap();
    again.unwrap();
    // What is left of the old set is kept, and GRUB does not offer it for booting.
    let kept = File::MenuCfg(Set::Snapshot(3));
    assert_eq!(store.read(kept).unwrap(), None);
}

#[test]
fn damaged_journal_while_preparing_does_not_wedge() {
    let (store, records) = machine();
    for n in 0..40 {
        let (mut s, mut r) = (store.clone(), records.clone());
        s.power = Some(n);
        if go(&mut s, &mut r, &Intent::Rollback { to: 2 }).is_ok() {
            break;
        }
        let mut left = s.after_power_cut().pop().unwrap();
        if left
            .dataset(Place::Snapshot(3, Part::System))
            .unwrap()
            .is_none()
        {
            continue;
        }
        for slot in 0..2 {
            left.write_slot(File::Journal, slot, &[0xa5; BLOCK])
                .unwrap();
        }
        let mut r = Records::open(&left).unwrap();
        let lost = recover(&mut left, &mut r, &mut |_| {});
        assert!(matches!(lost, Err(Error::JournalLost(3))), "{lost:?}");
        let result = go(&mut left, &mut r, &Intent::Rollback { to: 2 });

        result.unwrap();
        return;
    }
}

#[test]
fn reset_everything_leaves_no_nested_subvolume_of_the_owner() {
    let (mut store, mut records) = machine();
    go(&mut store, &mut records, &Intent::ResetEverything).unwrap();
    let nested = store.nested(Place::Live(Part::System)).unwrap();
    assert!(nested.is_empty(), "{nested:?}");
}

#[test]
fn undo_of_a_rollback_outside_the_history() {
    let (store, records) = machine();
    let mut state = records.state.value.clone();
    state.older = [1].into_iter().collect();
    let p = plan(
        &Intent::Rollback { to: 2 },
        &state,
        &layout(),
        catalogue::manifest(&store, Set::Snapshot(2))
            .unwrap()
            .as_ref(),
        1,
    );
    let text = explain(&p, &layout()).undo;
    assert!(
        !text.contains("forward") || !p.after.newer.is_empty(),
        "{text} newer {:?}",
        p.after.newer
    );
}

#[test]
fn a_return_does_not_judge_what_was_live() {
    let (mut store, mut records) = machine();
    store.edit(|world, _| {
        let tree = &mut world
            .datasets
            .get_mut(&Place::Live(Part::System))
            .unwrap()
            .tree;
        tree.insert(
            "etc/fstab".into(),
            Content::File(b"UUID=1 / btrfs subvolid=256 0 0\n".to_vec()),
        );
    });
    go(&mut store, &mut records, &Intent::Select { id: 1 }).unwrap();
    go(&mut store, &mut records, &Intent::Return { parked: 3 }).unwrap();
}

#[test]
fn reset_config_keeps_the_destruction_that_was_asked_for() {
    let (mut store, mut records) = machine();
    go(&mut store, &mut records, &Intent::ResetEverything).unwrap();
    go(
        &mut store,
        &mut records,
        &Intent::ResetConfig { data: false },
    )
    .unwrap();
    assert!(records.state.value.destroy.is_some());
}

#[test]
fn nested_subvolumes_of_data_come_back_when_a_reset_is_undone() {
    let (mut store, mut records) = machine();
    store.edit(|world, _| {
        let tree = &mut world
            .datasets
            .get_mut(&Place::Live(Part::Data(0)))
            .unwrap()
            .tree;
        tree.insert("db".into(), Content::Nested(crate::record::Uuid([8; 16])));
    });
    go(
        &mut store,
        &mut records,
        &Intent::ResetConfig { data: true },
    )
    .unwrap();
    go(&mut store, &mut records, &Intent::Rollback { to: 3 }).unwrap();
    let nested = store.nested(Place::Live(Part::Data(0))).unwrap();
    assert_eq!(nested.len(), 1);
}

#[test]
fn a_waiting_rollback_stops_the_destruction() {
    use crate::admin::{good::mark_good, request::submit};
    let (mut store, mut records) = machine();
    go(&mut store, &mut records, &Intent::ResetEverything).unwrap();
    let verb = crate::record::state::Verb::Rollback(None);
    let consent = Default::default();
    submit(&mut store, &mut records, verb, consent, [7; 16], 1, &|| {
        Ok(())
    })
    .unwrap();
    let marked = mark_good(&mut store, &mut records, None, false, &mut |_| {}).unwrap();
    assert!(marked.deleted.is_empty(), "{:?}", marked.deleted);
}

#[test]
fn a_parked_set_returns_even_when_its_manifest_is_gone_but_not_when_a_part_is() {
    use crate::policy::refusal::Refusal;
    use crate::policy::{Decision, Health, Wish, decide, target};
    use crate::transaction::records::{read_journal, read_state};
    let parked = Set::Snapshot(3);
    for manifest in [true, false] {
        for lost in [None, Some(Part::System), Some(Part::Config)] {
            let (mut store, mut records) = machine();
            go(&mut store, &mut records, &Intent::Select { id: 1 }).unwrap();
            store.edit(|world, _| {
                if !manifest {
                    world.files.remove(&File::Manifest(parked));
                }
                if let Some(part) = lost {
                    world.datasets.remove(&parked.place(part));
                }
            });
            let (s, j) = (read_state(&store).unwrap(), read_journal(&store).unwrap());
            let facts = catalogue::facts(&store, target(Wish::Boot, &s), false).unwrap();
            let decision = decide(Wish::Boot, &s, &j, &facts);
            let want = match lost {
                None => Decision::Transact {
                    intent: Intent::Return { parked: 3 },
                    request: None,
                },
                Some(part) => {
                    let lost = match (manifest, part) {
                        (false, Part::System) => Health::Absent,
                        _ => Health::Missing(part),
                    };
                    Decision::Boot(Some(Refusal::ParkedLost(3, lost)))
                }
            };
            assert_eq!(decision, want, "manifest {manifest}, lost {lost:?}");
        }
    }
}

/// A machine whose live system has a link to a name that no file can have.
fn with_a_link_to_no_name(path: &str) -> (Memory, Records) {
    let (mut store, records) = machine();
    store.edit(|world, _| {
        let live = Place::Live(Part::System);
        let tree = &mut world.datasets.get_mut(&live).unwrap().tree;
        tree.insert(path.into(), Content::Link("x".repeat(300)))
    });
    (store, records)
}

#[test]
fn a_kernel_whose_name_cannot_be_read_keeps_nothing_from_being_finished() {
    let (mut store, mut records) = with_a_link_to_no_name("boot/vmlinuz");
    go(&mut store, &mut records, &Intent::Rollback { to: 2 }).unwrap();
    let kernel = |store: &Memory| {
        let manifest = catalogue::manifest(store, Set::Snapshot(3)).unwrap();
        manifest.unwrap().kernel
    };
    assert_eq!(kernel(&store), None);
    let (mut store, mut records) = machine();
    go(&mut store, &mut records, &Intent::Rollback { to: 2 }).unwrap();
    assert!(kernel(&store).is_some());
}

#[test]
fn a_live_system_that_cannot_say_what_it_is_can_be_replaced() {
    let (mut store, mut records) = with_a_link_to_no_name("etc/os-release");
    go(&mut store, &mut records, &Intent::Rollback { to: 2 }).unwrap();
    let manifest = catalogue::manifest(&store, Set::Snapshot(3)).unwrap();
    assert_eq!(manifest.unwrap().title, "before roll back to 2");
}

#[test]
fn a_dataset_that_cannot_change_places_is_named_before_anything_is_committed() {
    for part in [Part::System, Part::Config] {
        let (mut store, mut records) = machine();
        store.seal(Place::Live(part)).unwrap();
        let before = store.world().datasets.clone();
        let error = go(&mut store, &mut records, &Intent::Rollback { to: 2 });
        assert!(
            matches!(error, Err(Error::Held(_, "read-only"))),
            "{error:?}"
        );
        assert_eq!(records.journal.value, Journal::Closed);
        assert_eq!(store.world().datasets, before);
    }
}

#[test]
fn an_undoing_that_fails_does_not_hide_why_there_was_one() {
    use crate::store::memory::Fault;
    let (mut store, records) = machine();
    store.seal(Place::Live(Part::System)).unwrap();
    let mut seen = 0;
    for n in 0..60 {
        let (mut s, mut r) = (store.clone(), records.clone());
        s.fault = Some((s.operations + n, Fault::NotDone));
        let error = go(&mut s, &mut r, &Intent::Rollback { to: 2 }).unwrap_err();
        if let Error::NotUndone(first, second) = &error {
            seen += usize::from(matches!(**first, Error::Held(..)));
            for one in [first, second] {
                assert!(error.to_string().contains(&one.to_string()), "{error}");
            }
        }
    }
    assert!(seen > 0);
}

#[test]
fn the_menu_opens_whatever_the_state() {
    use crate::policy::{Decision, Wish, decide, target};
    use crate::transaction::records::{read_journal, read_state};
    let (mut store, _) = machine();
    for slot in 0..2 {
        store.write_slot(File::State, slot, &[0xa5; BLOCK]).unwrap();
    }
    let (s, j) = (read_state(&store).unwrap(), read_journal(&store).unwrap());
    let facts = catalogue::facts(&store, target(Wish::Menu(None), &s), false).unwrap();
    let d = decide(Wish::Menu(None), &s, &j, &facts);
    assert!(matches!(d, Decision::Menu { .. }), "{d:?}");
}

#[test]
fn a_root_without_an_initramfs_is_not_promoted() {
    let (mut store, mut records) = machine();
    store.edit(|world, _| {
        let system = Place::Snapshot(2, Part::System);
        world
            .datasets
            .get_mut(&system)
            .unwrap()
            .tree
            .remove("boot/initrd.img")
    });
    let error = go(&mut store, &mut records, &Intent::Rollback { to: 2 }).unwrap_err();
    assert!(error.to_string().contains("initramfs"), "{error}");
}

#[test]
fn a_live_set_that_is_half_exchanged_is_known_as_such() {
    let (store, records) = machine();
    let uuid = |store: &Memory, part| {
        store
            .dataset(Place::Live(part))
            .unwrap()
            .unwrap()
            .identity
            .uuid
    };
    let changed = |s: &Memory, part| uuid(s, part) != uuid(&store, part);
    let mut mixed = 0;
    for n in 0.. {
        let (mut s, mut r) = (store.clone(), records.clone());
        s.power = Some(n);
        let done = go(&mut s, &mut r, &Intent::Rollback { to: 2 });
        s.power = None;
        let half = changed(&s, Part::Config) != changed(&s, Part::System);
        assert_eq!(live_set_is_mixed(&s).unwrap(), half, "cut before {n}");
        mixed += usize::from(half);
        if done.is_ok() {
            break;
        }
    }
    assert!(mixed > 0);
}

#[test]
fn the_nested_subvolumes_left_behind_are_told_after_a_power_cut_too() {
    let wide = || {
        let (mut store, records) = machine();
        store.edit(|world, _| {
            let tree = &mut world
                .datasets
                .get_mut(&Place::Live(Part::Config))
                .unwrap()
                .tree;
            for n in 0..12 {
                let uuid = crate::record::Uuid([n + 20; 16]);
                tree.insert(format!("sub{n:02}"), Content::Nested(uuid));
            }
        });
        (store, records)
    };
    let mut told = 0;
    for n in 0.. {
        let (mut store, mut records) = wide();
        store.power = Some(n);
        if go(&mut store, &mut records, &Intent::Rollback { to: 2 }).is_ok() {
            break;
        }
        let mut left = store.after_power_cut().pop().unwrap();
        let mut records = Records::open(&left).unwrap();
        if let Ok(Recovered::Finished(id, done)) = recover(&mut left, &mut records, &mut |_| {})
            && !done.left_behind.is_empty()
        {
            let lines = done.lines(id);
            assert_eq!(lines.len(), 11, "{lines:?}");
            assert!(
                lines[0].contains("snapshots/3/config/sub00 stays"),
                "{lines:?}"
            );
            assert_eq!(lines[10], "and 2 more");
            told += 1;
        }
    }
    assert!(told > 0);
}

#[test]
fn nested_subvolumes_come_back_when_a_reset_of_everything_is_undone() {
    let (mut store, mut records) = machine();
    go(&mut store, &mut records, &Intent::ResetEverything).unwrap();
    go(&mut store, &mut records, &Intent::Rollback { to: 3 }).unwrap();
    assert_eq!(store.nested(Place::Live(Part::System)).unwrap().len(), 1);
}

#[test]
fn the_nested_subvolumes_that_do_not_come_back_are_told() {
    let (mut store, mut records) = machine();
    go(&mut store, &mut records, &Intent::ResetEverything).unwrap();
    store.barred = true;
    let done = done(&mut store, &mut records, &Intent::Rollback { to: 3 }).unwrap();
    let lines = done.lines(4);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("@backstay/snapshots/3/system/")
            && lines[0].ends_with("is not brought back: it stays there"),
        "{lines:?}"
    );
}

#[test]
fn the_undo_that_is_printed_leads_back_to_what_was_live() {
    for to in [1, 2] {
        let (mut store, mut records) = machine();
        let before = records.state.value.next_id;
        let manifest = catalogue::manifest(&store, Set::Snapshot(to)).unwrap();
        let state = records.state.value.clone();
        let intent = Intent::Rollback { to };
        let plan = plan(&intent, &state, &layout(), manifest.as_ref(), 1);
        let undo = explain(&plan, &layout()).undo;
        go(&mut store, &mut records, &intent).unwrap();
        let after = &records.state.value;
        if undo.contains("roll forward (") {
            assert_eq!(after.newer.first(), Some(&before), "{undo}");
        } else if undo.contains("roll back (") {
            assert_eq!(after.older.last(), Some(&before), "{undo}");
        } else {
            assert!(undo.contains(&format!("roll back to {before} (")), "{undo}");
        }
    }
}

#[test]
fn a_strangers_directory_with_a_huge_number_uses_up_no_numbers() {
    let (mut store, mut records) = machine();
    store.edit(|world, _| world.directories.insert(u32::MAX));
    go(&mut store, &mut records, &Intent::Rollback { to: 2 }).unwrap();
    assert_eq!(records.state.value.next_id, 4);
}

#[test]
fn where_no_number_is_left_the_change_is_refused() {
    for (next, taken) in [(u32::MAX, None), (u32::MAX - 1, Some(u32::MAX - 1))] {
        let (mut store, mut records) = machine();
        let mut state = records.state.value.clone();
        state.next_id = next;
        records.state.write_anew(&mut store, state).unwrap();
        store.edit(|world, _| {
            world
                .directories
                .extend([u32::MAX].into_iter().chain(taken))
        });
        let error = go(&mut store, &mut records, &Intent::Rollback { to: 2 }).unwrap_err();
        assert!(matches!(error, Error::NoNumber), "{error}");
        recover(&mut store, &mut records, &mut |_| {}).unwrap();
    }
}

#[test]
fn a_root_whose_kernel_or_initramfs_is_empty_or_no_file_is_not_promoted() {
    for (path, content) in [
        ("boot/vmlinuz-6.12", Content::File(Vec::new())),
        ("boot/vmlinuz-6.12", Content::Directory),
        ("boot/initrd.img", Content::File(Vec::new())),
        ("boot/initrd.img", Content::Directory),
        ("sbin/init", Content::Directory),
        ("srv/data", Content::File(b"no directory".to_vec())),
    ] {
        let (mut store, mut records) = machine();
        store.edit(|world, _| {
            let system = Place::Snapshot(2, Part::System);
            let tree = &mut world.datasets.get_mut(&system).unwrap().tree;
            tree.insert(path.into(), content)
        });
        let error = go(&mut store, &mut records, &Intent::Rollback { to: 2 }).unwrap_err();
        assert!(matches!(error, Error::Unbootable(_)), "{path}: {error}");
    }
}

#[test]
fn a_root_with_nothing_but_a_shell_or_with_a_link_as_mount_point_is_not_promoted() {
    for (gone, link) in [("sbin/init", None), ("srv/data", Some("/etc"))] {
        let (mut store, mut records) = machine();
        store.edit(|world, _| {
            let system = Place::Snapshot(2, Part::System);
            let tree = &mut world.datasets.get_mut(&system).unwrap().tree;
            tree.remove(gone);
            tree.insert("bin/sh".into(), Content::File(Vec::new()));
            link.map(|link: &str| tree.insert(gone.into(), Content::Link(link.into())))
        });
        let error = go(&mut store, &mut records, &Intent::Rollback { to: 2 }).unwrap_err();
        assert!(matches!(error, Error::Unbootable(_)), "{error}");
    }
}
