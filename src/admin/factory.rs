//! `backstay factory seal`: the pristine version, made by an image builder before the first boot.
//!
//! Order: read-only copies of the live datasets, then the manifest (a factory without one is a
//! half-made one and is made again); for a first boot then the state becomes all zero, the live
//! datasets go, and the marker is written last. A cut in between is made up for by the same command
//! once more; the marker alone makes an image that a first start accepts.

use super::error::{Error, Result};
use super::pristine::{Inside, findings};
use crate::policy::resolve;
use crate::record::block::BLOCK;
use crate::record::layout::{DataParts, Part};
use crate::record::manifest::{Kind, Manifest, Member, Origin, title};
use crate::record::slots::Slots;
use crate::record::state::State;
use crate::store::place::{File, Place, Set};
use crate::store::{Access, Store};
use crate::transaction::finish::write_manifest;
use crate::transaction::records::read_state;
use crate::transaction::{catalogue, check};

/// Seals the live datasets as the factory snapshot; with `first_boot`, prepares the first boot. On
/// disk on return.
pub fn seal<S: Store>(
    store: &mut S,
    first_boot: bool,
    now: u64,
    progress: &mut dyn FnMut(&str),
) -> Result<Manifest> {
    if let Some(manifest) = existing(store)? {
        if !first_boot || store.read(File::FirstBoot)?.is_some() {
            return Err(Error::FactoryExists);
        }
        // Sealed before, and not yet prepared for a first boot, or cut short while it was.
        resolve::sound(Set::Factory, catalogue::health(store, Set::Factory)?)?;
        match read_state(store)? {
            Slots::Empty => {}
            // A cut tore it while it was cleared. That nothing ran shows in what is live.
            Slots::Damaged => without_traces(store)?,
            _ => never_booted(store, progress)?,
        }
        unused(store)?;
        prepare_first_boot(store, progress)?;
        return Ok(manifest);
    }
    never_booted(store, progress)?;
    if first_boot {
        unused(store)?;
    }
    let manifest = copy(store, now, progress)?;
    if first_boot {
        prepare_first_boot(store, progress)?;
    }
    Ok(manifest)
}

/// The factory snapshot's manifest, if it is whole; a half-made one does not exist.
fn existing<S: Store>(store: &S) -> Result<Option<Manifest>> {
    match catalogue::manifest(store, Set::Factory)? {
        Some(manifest) => Ok(Some(manifest)),
        None if store.read(File::Manifest(Set::Factory))?.is_some() => Err(Error::FactoryDamaged),
        None => Ok(None),
    }
}

/// Refuses where something that is live was used.
fn without_traces<S: Store>(store: &S) -> Result<()> {
    let mut found = Vec::new();
    for part in store.layout().set() {
        let place = Place::Live(part);
        if store.dataset(place)?.is_some() {
            let all = findings(&Inside(store, place))?.into_iter();
            let booted = all.filter(|finding| finding.booted);
            found.extend(booted.map(|finding| finding.to_string()));
        }
    }
    match found.is_empty() {
        true => Ok(()),
        false => Err(Error::Used(found.join(", "))),
    }
}

/// Refuses what was booted; warns of what a factory version should not hold.
fn never_booted<S: Store>(store: &S, progress: &mut dyn FnMut(&str)) -> Result<()> {
    let (mut found, mut warnings) = (Vec::new(), Vec::new());
    for part in store.layout().set().filter(|part| *part != Part::Defaults) {
        let place = Place::Live(part);
        if store.dataset(place)?.is_none() {
            return Err(Error::NotLive(format!(
                "the live {} dataset is missing: there is nothing to seal",
                store.layout().title(part)
            )));
        }
        for finding in findings(&Inside(store, place))? {
            let list = if finding.booted {
                &mut found
            } else {
                &mut warnings
            };
            list.push(finding.to_string());
        }
    }
    let good = match read_state(store)? {
        Slots::Valid { value, .. } => value.good.is_some(),
        Slots::Empty => false,
        Slots::Damaged => return Err(crate::transaction::Error::StateDamaged.into()),
        Slots::Newer(version) => return Err(crate::transaction::Error::Newer(version).into()),
    };
    if good {
        found.push("it was marked good after a boot (make the image anew)".to_owned());
    }
    if !found.is_empty() {
        return Err(Error::Used(found.join(", ")));
    }
    for warning in warnings {
        progress(&format!("warning: {warning}"));
    }
    Ok(check::root(store, Place::Live(Part::System))?)
}

/// Nothing that a first boot could lose: no history, no data.
fn unused<S: Store>(store: &S) -> Result<()> {
    if let Slots::Valid { value, .. } = read_state(store)? {
        let fresh = State {
            recovery_kernel: value.recovery_kernel.clone(),
            ..State::new(value.live)
        };
        if value != fresh {
            return Err(Error::HasHistory("its state is not that of a new store"));
        }
    }
    if !store.ids()?.is_empty() {
        return Err(Error::HasHistory("it has snapshots"));
    }
    for part in store.layout().data_parts() {
        let place = Place::Live(part);
        if store.dataset(place)?.is_some() && !store.names(place, "")?.is_empty() {
            return Err(Error::DataNotEmpty(store.layout().title(part).to_owned()));
        }
        if store.dataset(Place::Template(part))?.is_none() {
            return Err(Error::NotSetUp);
        }
    }
    Ok(())
}

fn copy<S: Store>(store: &mut S, now: u64, progress: &mut dyn FnMut(&str)) -> Result<Manifest> {
    let layout = store.layout().clone();
    let mut members = heapless::Vec::new();
    for part in layout.set() {
        let place = Place::Factory(part);
        if let Some(half_made) = store.dataset(place)? {
            store.destroy(place, half_made.identity.uuid)?;
            store.sync()?;
        }
        progress(&format!("sealing the {}", layout.title(part)));
        store.clone_to(Place::Live(part), place, Access::ReadOnly)?;
    }
    store.sync()?;
    for part in layout.set() {
        let identity = store.seal(Place::Factory(part))?;
        members
            .push(Member { part, identity })
            .map_err(|_| crate::record::block::TooLarge)
            .map_err(crate::transaction::Error::from)?;
    }
    let system = Place::Factory(Part::System);
    let version = check::version(store, system)?;
    let manifest = Manifest {
        id: 0,
        kind: Kind::Factory,
        origin: Origin::Built,
        title: title(version.as_deref().unwrap_or("factory version")),
        created: now,
        kernel: check::kernel(store, system)?.map(|kernel| kernel.release),
        clone_of: None,
        good: false,
        members,
        aside: DataParts::NONE,
        gone: Default::default(),
    };
    write_manifest(store, Set::Factory, &manifest)?;
    store.sync()?;
    Ok(manifest)
}

fn prepare_first_boot<S: Store>(store: &mut S, progress: &mut dyn FnMut(&str)) -> Result<()> {
    progress("clearing the state");
    for slot in 0..2 {
        store.write_slot(File::State, slot, &[0; BLOCK])?;
    }
    store.sync()?;
    let layout = store.layout().clone();
    for part in layout.all() {
        let place = Place::Live(part);
        if let Some(dataset) = store.dataset(place)? {
            progress(&format!("removing the live {}", layout.title(part)));
            store.destroy(place, dataset.identity.uuid)?;
        }
    }
    store.sync()?;
    store.replace(File::FirstBoot, b"")?;
    Ok(store.sync()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Health;
    use crate::policy::intent::Intent;
    use crate::policy::{Decision, Wish, decide, target};
    use crate::record::journal::Journal;
    use crate::store::memory::{Content, Memory};
    use crate::transaction::model::image;
    use crate::transaction::records::{Records, read_journal};

    fn decision(store: &Memory) -> Decision {
        let state = read_state(store).unwrap();
        let journal = match read_journal(store).unwrap() {
            Slots::Damaged => Slots::Empty,
            journal => journal,
        };
        assert!(!matches!(
            journal,
            Slots::Valid {
                value: Journal::Committing(_),
                ..
            }
        ));
        let facts = catalogue::facts(store, target(Wish::Boot, &state), false).unwrap();
        decide(Wish::Boot, &state, &journal, &facts)
    }

    fn is_first_boot(store: &Memory) -> bool {
        matches!(
            decision(store),
            Decision::Transact {
                intent: Intent::FirstBoot,
                ..
            }
        )
    }

    #[test]
    fn a_sealed_factory_is_sound_and_the_image_still_boots() {
        let mut store = image();
        let manifest = seal(&mut store, false, 9, &mut |_| {}).unwrap();
        assert_eq!((manifest.id, manifest.kind), (0, Kind::Factory));
        assert_eq!(manifest.kernel.unwrap(), "6.12");
        assert_eq!(
            catalogue::health(&store, Set::Factory).unwrap(),
            Health::Sound
        );
        assert_eq!(decision(&store), Decision::Boot(None));
        assert!(matches!(
            seal(&mut store, false, 9, &mut |_| {}),
            Err(Error::FactoryExists)
        ));
        seal(&mut store, true, 9, &mut |_| {}).unwrap();
        assert!(is_first_boot(&store));
    }

    #[test]
    fn a_first_boot_image_starts_with_a_factory_reset() {
        let mut store = image();
        seal(&mut store, true, 9, &mut |_| {}).unwrap();
        assert!(is_first_boot(&store));
        for part in store.layout().all() {
            assert_eq!(store.dataset(Place::Live(part)).unwrap(), None);
        }
        assert!(matches!(
            seal(&mut store, true, 9, &mut |_| {}),
            Err(Error::FactoryExists)
        ));
    }

    #[test]
    fn a_cut_at_any_point_is_made_up_for_by_the_same_command() {
        for first_boot in [false, true] {
            for power in 0.. {
                let mut store = image();
                store.power = Some(power);
                let ended = seal(&mut store, first_boot, 9, &mut |_| {}).is_ok();
                for mut left in store.after_power_cut() {
                    if is_first_boot(&left) {
                        continue;
                    }
                    match seal(&mut left, first_boot, 9, &mut |_| {}) {
                        Ok(_) => {}
                        // The manifest was written, and the state is untouched.
                        Err(Error::FactoryExists) => assert!(!first_boot, "cut at {power}"),
                        Err(error) => panic!("cut at {power}: {error}"),
                    }
                    let health = catalogue::health(&left, Set::Factory).unwrap();
                    assert_eq!(health, Health::Sound, "cut at {power}");
                    assert_eq!(is_first_boot(&left), first_boot, "cut at {power}");
                }
                if ended {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_state_that_was_torn_while_it_was_cleared_does_not_hinder_the_same_command() {
        for used in [false, true] {
            let mut store = image();
            seal(&mut store, false, 9, &mut |_| {}).unwrap();
            for slot in 0..2 {
                store.write_slot(File::State, slot, &[0x5a; BLOCK]).unwrap();
            }
            if used {
                let place = Place::Live(Part::System);
                store.edit(|world, _| {
                    let tree = &mut world.datasets.get_mut(&place).unwrap().tree;
                    tree.insert("etc/machine-id".into(), Content::File(b"8f3a\n".to_vec()));
                });
            }
            let sealed = seal(&mut store, true, 9, &mut |_| {});
            assert_eq!(sealed.is_ok(), !used, "{sealed:?}");
            assert_eq!(is_first_boot(&store), !used);
        }
    }

    #[test]
    fn a_used_system_is_never_sealed_as_a_factory() {
        let mut store = image();
        let place = Place::Live(Part::System);
        store.edit(|world, _| {
            let tree = &mut world.datasets.get_mut(&place).unwrap().tree;
            tree.insert("etc/machine-id".into(), Content::File(b"8f3a\n".to_vec()));
        });
        let error = seal(&mut store, false, 9, &mut |_| {})
            .unwrap_err()
            .to_string();
        assert!(error.contains("etc/machine-id"), "{error}");

        let mut store = image();
        let mut records = Records::open(&store).unwrap();
        let mut state = records.state.value.clone();
        state.good = Some(state.live.system);
        records.state.write(&mut store, state).unwrap();
        let error = seal(&mut store, false, 9, &mut |_| {})
            .unwrap_err()
            .to_string();
        assert!(error.contains("marked good"), "{error}");
    }

    #[test]
    fn what_an_image_builder_may_mean_is_a_warning() {
        let mut store = image();
        let place = Place::Live(Part::System);
        store.edit(|world, _| {
            let tree = &mut world.datasets.get_mut(&place).unwrap().tree;
            tree.insert("etc/shadow".into(), Content::File(b"root::1\n".to_vec()));
        });
        let mut lines = Vec::new();
        seal(&mut store, false, 9, &mut |line| {
            lines.push(line.to_owned())
        })
        .unwrap();
        assert!(lines[0].starts_with("warning: etc/shadow: no password for root"));
    }

    #[test]
    fn a_first_boot_never_takes_data_or_a_history_away() {
        let mut store = image();
        store.edit(|world, _| {
            let data = world.datasets.get_mut(&Place::Live(Part::Data(0))).unwrap();
            data.tree.insert("customers".into(), Content::File(vec![1]));
        });
        let refused = seal(&mut store, true, 9, &mut |_| {});
        assert!(matches!(refused, Err(Error::DataNotEmpty(_))));
        assert_eq!(store.dataset(Place::Factory(Part::System)).unwrap(), None);
        assert!(seal(&mut store, false, 9, &mut |_| {}).is_ok());

        let mut store = image();
        let mut records = Records::open(&store).unwrap();
        crate::admin::snapshot::snapshot(&mut store, &mut records, "", 1, &mut |_| {}).unwrap();
        let refused = seal(&mut store, true, 9, &mut |_| {});
        assert!(matches!(refused, Err(Error::HasHistory(_))));
    }

    #[test]
    fn a_garbled_manifest_is_not_taken_for_a_half_made_factory() {
        let mut store = image();
        seal(&mut store, false, 9, &mut |_| {}).unwrap();
        store
            .replace(File::Manifest(Set::Factory), &[1; BLOCK])
            .unwrap();
        let refused = seal(&mut store, false, 9, &mut |_| {});
        assert!(matches!(refused, Err(Error::FactoryDamaged)));
    }
}
