//! State, journal and hint damaged, cut short, and swapped with older copies of themselves, at every
//! stage of every verb: nothing is destroyed or exchanged that would not have been, the live set is
//! there, a mixed one is said aloud, and no id that lies in the store is given out again.

use super::acts::{Act, acts};
use super::boot::{Booted, boot};
use super::explore::{Milestones, record};
use super::form::{Form, live};
use super::verbs::fresh;
use super::{layout, machine, machine_of};
use crate::admin::request::{armed, settle};
use crate::policy::Wish;
use crate::record::Uuid;
use crate::record::block::BLOCK;
use crate::record::journal::Journal;
use crate::record::layout::{Layout, Part};
use crate::record::slots::Slots;
use crate::record::state::Verb;
use crate::store::Store;
use crate::store::memory::shared::digest;
use crate::store::memory::{Cuts, Memory};
use crate::store::place::{File, Place, Set};
use crate::transaction::execute::ARMED;
use crate::transaction::records::{Records, read_journal, read_state};
use crate::transaction::recover;
use crate::transaction::{Error, catalogue};
use std::collections::BTreeSet;

/// What one start destroyed of what was there, and which places it exchanged.
#[derive(Debug, PartialEq, Eq)]
struct Deeds {
    destroyed: BTreeSet<Uuid>,
    moved: Vec<(Place, Place)>,
}

fn start(disk: &Memory) -> (Memory, Booted, Deeds) {
    let there: BTreeSet<Uuid> = disk
        .world()
        .datasets
        .values()
        .map(|it| it.dataset.identity.uuid)
        .collect();
    let mut store = disk.clone();
    let booted = boot(&mut store, Wish::Boot, &mut |_| {});
    let destroyed: BTreeSet<Uuid> = store.destroyed.iter().copied().collect();
    let deeds = Deeds {
        destroyed: destroyed.intersection(&there).copied().collect(),
        moved: store.moved.clone(),
    };
    store.destroyed.clear();
    store.moved.clear();
    (store, booted, deeds)
}

/// A disk of which the records are attacked.
struct Target<'a> {
    disk: &'a Memory,
    /// What the start does without the attack.
    would: Deeds,
    milestones: &'a Milestones,
}

impl<'a> Target<'a> {
    fn new(disk: &'a Memory, milestones: &'a Milestones) -> Target<'a> {
        let (_, _, mut would) = start(disk);
        // A request that was used up, with the hint still there and before anything was begun: its
        // older copy is the disk that a cut an instant before would have left.
        let before = &milestones.before;
        let begun = disk.world().datasets != before.world().datasets;
        if !begun && disk.world().files.contains_key(&File::Armed) {
            let (_, _, asked) = start(before);
            would.destroyed.extend(asked.destroyed);
            would.moved.extend(asked.moved);
        }
        Target {
            disk,
            would,
            milestones,
        }
    }

    /// What must not be destroyed: what was there before the verb, what is live, what has a manifest.
    /// A clone that was only staged may go, as if the commit record had never been written.
    fn is_precious(&self, uuid: Uuid) -> bool {
        let before = self.milestones.before.world().datasets.values();
        let old = before
            .map(|it| it.dataset.identity.uuid)
            .any(|it| it == uuid);
        let world = self.disk.world();
        let mut now = world.datasets.iter();
        let at = now.find(|(_, it)| it.dataset.identity.uuid == uuid);
        old || at.is_some_and(|(place, _)| match place {
            Place::Snapshot(id, _) => {
                let manifest = File::Manifest(Set::Snapshot(*id));
                world.files.contains_key(&manifest)
            }
            _ => true,
        })
    }

    /// The next two starts after an attack.
    fn check(&self, attacked: &Memory) -> Result<(), String> {
        let mut disk = attacked.clone();
        for round in 1..=2 {
            let (store, booted, did) = start(&disk);
            let mut more = did.destroyed.difference(&self.would.destroyed);
            if more.any(|uuid| self.is_precious(*uuid)) {
                return Err(format!("start {round} destroys: {did:?} {booted:?}"));
            }
            if did
                .moved
                .iter()
                .any(|pair| !self.would.moved.contains(pair))
            {
                return Err(format!("start {round} exchanges: {did:?} {booted:?}"));
            }
            self.check_live(&store, &booted)?;
            disk = store;
        }
        if let Ok(Slots::Valid { value, .. }) = read_journal(&disk)
            && matches!(value, Journal::Preparing(_))
            && bytes(&disk, File::Journal).len() == 2 * BLOCK
            && Records::open(&disk).is_ok()
        {
            return Err("an old journal stays open for ever".to_owned());
        }
        check_ids(&disk)
    }

    fn check_live(&self, store: &Memory, booted: &Booted) -> Result<(), String> {
        let live = live(store);
        let was = super::form::live(self.disk);
        if was.contains_key(&Part::System) && !live.contains_key(&Part::System) {
            return Err("the live system is gone".to_owned());
        }
        if self.milestones.has_live(&live) {
            return Ok(());
        }
        match self.milestones.has_parts(&live) {
            false => Err("a live dataset is neither old nor new".to_owned()),
            true if booted.is_quiet() => Err("a mixed live set starts silently".to_owned()),
            true => Ok(()),
        }
    }
}

fn check_ids(store: &Memory) -> Result<(), String> {
    let Ok(Slots::Valid { value, .. }) = read_state(store) else {
        return Ok(());
    };
    let next = catalogue::with_free_id(store, &value).unwrap().next_id;
    match store.ids().unwrap().contains(&next) {
        true => Err(format!("{next} is given out again")),
        false => Ok(()),
    }
}

/// Disks, what is done on them, and the disks of the verb before.
fn cases() -> Vec<(Memory, Act, Vec<Memory>)> {
    let alone = acts().into_iter();
    let mut cases: Vec<_> = alone.map(|act| (machine().0, act, Vec::new())).collect();
    for (first, then) in [
        (Act::Present(Verb::Select(1)), Act::Start),
        (
            Act::Present(Verb::Select(1)),
            Act::Present(Verb::Rollback(None)),
        ),
        (Act::Request(Verb::Rollback(None)), Act::Start),
        (Act::Request(Verb::Select(1)), Act::Start),
        (Act::Request(Verb::ResetConfig { data: true }), Act::Start),
        (Act::Request(Verb::Rollback(None)), Act::Cancel),
        (Act::Present(Verb::ResetEverything), Act::MarkGood),
        (
            Act::Present(Verb::ResetEverything),
            Act::Present(Verb::Rollback(None)),
        ),
        (
            Act::Present(Verb::Rollback(None)),
            Act::Present(Verb::Forward),
        ),
        (
            Act::Present(Verb::Rollback(None)),
            Act::Present(Verb::Rollback(Some(2))),
        ),
        (
            Act::Present(Verb::ResetConfig { data: false }),
            Act::Present(Verb::ResetConfig { data: true }),
        ),
    ] {
        let (mut store, _, earlier) = record(&machine().0, first, |_| {});
        store.sync().unwrap();
        cases.push((store, then, earlier.found));
    }
    cases.push((fresh(), Act::Start, Vec::new()));
    // With one dataset there is no other one from which to see how far a change has come. The live
    // one is a clone of what is promoted already.
    let alone = Layout {
        config: None,
        config_paths: heapless::Vec::new(),
        data: heapless::Vec::new(),
        ..layout()
    };
    for verb in [Verb::Rollback(None), Verb::Select(2)] {
        let mut store = machine_of(alone.clone()).0;
        Act::Present(Verb::Rollback(None)).run(&mut store, &mut |_| {});
        store.sync().unwrap();
        let again = match verb {
            Verb::Rollback(None) => Verb::Rollback(Some(2)),
            verb => verb,
        };
        cases.push((store, Act::Present(again), Vec::new()));
    }
    cases
}

const SLOTTED: [File; 2] = [File::State, File::Journal];

fn bytes(disk: &Memory, file: File) -> Vec<u8> {
    disk.slots().get(&file).unwrap().to_vec()
}

fn with(disk: &Memory, file: File, bytes: Vec<u8>) -> Memory {
    let mut disk = disk.clone();
    disk.edit(|_, slots| slots.insert(file, bytes.into()));
    disk
}

/// A hash of the disk to the last bit of its slots.
fn exact(disk: &Memory) -> u64 {
    digest(&(disk.world(), disk.slots()))
}

/// Runs every attack that `attacks` makes of a stage of a case, given what was on disk before that
/// stage; each distinct disk once.
fn attack_all(mut attacks: impl FnMut(&Memory, &[Memory]) -> Vec<(String, Memory)>) -> usize {
    let mut tried = 0;
    let mut failed = Vec::new();
    for (before, act, mut earlier) in cases() {
        let (milestones, _, _) = Milestones::of(&before, act);
        let (_, _, cuts) = record(&before, act, |_| {});
        let mut seen = BTreeSet::new();
        for (at, disk) in cuts.found.iter().enumerate() {
            let target = Target::new(disk, &milestones);
            for (name, attacked) in attacks(disk, &earlier) {
                if !seen.insert(exact(&attacked)) {
                    continue;
                }
                tried += 1;
                if let Err(text) = target.check(&attacked) {
                    failed.push(format!("{act:?}, stage {at}, {name}: {text}"));
                }
            }
            earlier.push(disk.clone());
        }
    }
    println!("{tried} attacks, {} failed", failed.len());
    failed.truncate(8);
    assert!(failed.is_empty(), "{failed:#?}");
    tried
}

#[test]
fn an_older_copy_of_state_or_journal_destroys_nothing() {
    let tried = attack_all(|disk, earlier| {
        let mut all = Vec::new();
        for file in SLOTTED {
            let own = bytes(disk, file);
            let mut copies: Vec<Vec<u8>> = Vec::new();
            for older in earlier.iter().map(|disk| bytes(disk, file)) {
                if older != own && !copies.contains(&older) {
                    copies.push(older);
                }
            }
            for (n, older) in copies.into_iter().enumerate() {
                all.push((format!("{file:?} {n}"), with(disk, file, older)));
            }
        }
        all
    });
    assert!(tried > 4000, "{tried}");
}

#[test]
fn slots_that_are_swapped_equal_or_zero_destroy_nothing() {
    let tried = attack_all(|disk, _| {
        let mut all = Vec::new();
        for file in SLOTTED {
            let own = bytes(disk, file);
            let (one, other) = own.split_at(BLOCK);
            let zero = &[0; BLOCK][..];
            for (name, slots) in [
                ("swapped", [other, one]),
                ("both the first", [one, one]),
                ("both the second", [other, other]),
                ("first zero", [zero, other]),
                ("second zero", [one, zero]),
                ("both zero", [zero, zero]),
                ("both damaged", [&[0xa5; BLOCK], &[0xa5; BLOCK]]),
            ] {
                all.push((format!("{file:?} {name}"), with(disk, file, slots.concat())));
            }
        }
        all
    });
    assert!(tried > 1000, "{tried}");
}

#[test]
fn a_copy_from_the_verb_before_destroys_nothing() {
    let mut tried = 0;
    for first in acts() {
        let (mut between, _, earlier) = record(&machine().0, first, |_| {});
        between.cuts = None;
        between.sync().unwrap();
        for act in acts() {
            let (milestones, _, _) = Milestones::of(&between, act);
            let (mut after, _, _) = record(&between, act, |_| {});
            after.sync().unwrap();
            let target = Target::new(&after, &milestones);
            let mut seen = Cuts::default();
            for (file, disk) in SLOTTED.iter().flat_map(|file| {
                let disks = earlier.found.iter();
                disks.map(|disk| (*file, disk))
            }) {
                let attacked = with(&after, file, bytes(disk, file));
                if seen.add(attacked.clone()) {
                    tried += 1;
                    let checked = target.check(&attacked);
                    assert_eq!(checked, Ok(()), "{first:?}, {act:?}: {file:?}");
                }
            }
        }
    }
    println!("{tried} attacks");
    assert!(tried > 1000, "{tried}");
}

#[test]
fn a_set_whose_manifest_is_gone_is_not_undone_by_an_older_journal() {
    let (mut after, _, cuts) = record(&machine().0, Act::Snapshot, |_| {});
    after.sync().unwrap();
    after.edit(|world, _| world.files.remove(&File::Manifest(Set::Snapshot(3))));
    let mut preparing = 0;
    for disk in &cuts.found {
        if let Ok(Slots::Valid { value, .. }) = read_journal(disk)
            && matches!(value, Journal::Preparing(_))
        {
            preparing += 1;
            let (_, booted, did) = start(&with(&after, File::Journal, bytes(disk, File::Journal)));
            assert!(did.destroyed.is_empty(), "{did:?}");
            assert!(!booted.errors.is_empty(), "it is said");
        }
    }
    assert!(preparing > 5, "{preparing}");
}

#[test]
fn a_command_of_the_running_system_ends_what_a_lost_journal_left() {
    let (_, _, cuts) = record(&machine().0, Act::Present(Verb::Rollback(None)), |_| {});
    let mixed = cuts
        .found
        .iter()
        .find(|disk| recover::live_set_is_mixed(*disk).unwrap());
    let mut store = with(mixed.unwrap(), File::Journal, vec![0; 2 * BLOCK]);
    for _ in 0..2 {
        let (_, booted, _) = start(&store);
        assert!(matches!(booted.errors.as_slice(), [Error::JournalLost(3)]));
        let mut records = Records::open(&store).unwrap();
        settle(&mut store, &mut records).unwrap();
    }
    Act::MarkGood.run(&mut store, &mut |_| {});
    let (mut store, booted, _) = start(&store);
    assert!(booted.is_quiet(), "{booted:?}");
    let back = Act::Present(Verb::Rollback(None)).run(&mut store, &mut |_| {});
    assert!(back.is_ok(), "{back:?}");
    assert_eq!(
        Records::open(&store).unwrap().state.value.last.unwrap().id,
        4
    );
}

/// Numbers that look random and are the same in every run (a linear congruential generator, Knuth's
/// MMIX constants).
struct Sample(u64);

impl Sample {
    fn below(&mut self, limit: usize) -> usize {
        let (a, c) = (6_364_136_223_846_793_005, 1_442_695_040_888_963_407);
        self.0 = self.0.wrapping_mul(a).wrapping_add(c);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

#[test]
fn flipped_bits_and_bytes_in_state_and_journal_destroy_nothing() {
    let mut sample = Sample(20_261_124);
    let tried = attack_all(|disk, _| {
        let mut all = Vec::new();
        for file in SLOTTED {
            for flip in 0..4 {
                let mut bytes = bytes(disk, file);
                // Half of them where the records are, not in the zeros behind them.
                let at = sample.below(2) * BLOCK + sample.below([BLOCK, 200][flip % 2]);
                let mask = [1 << sample.below(8), 0xff][usize::from(flip > 2)];
                bytes[at] ^= mask;
                all.push((
                    format!("{file:?} byte {at} ^ {mask:#x}"),
                    with(disk, file, bytes),
                ));
            }
        }
        all
    });
    assert!(tried > 4000, "{tried}");
}

#[test]
fn state_and_journal_cut_short_at_any_length_destroy_nothing() {
    let edges = [0, 19, BLOCK - 1, BLOCK, 2 * BLOCK - 1];
    let cut = |disk: &Memory, file, length: usize| {
        let name = format!("{file:?} of {length} bytes");
        (name, with(disk, file, bytes(disk, file)[..length].to_vec()))
    };
    let tried = attack_all(|disk, _| {
        let all = SLOTTED
            .iter()
            .flat_map(|file| edges.map(|at| cut(disk, *file, at)));
        all.collect()
    });
    assert!(tried > 4000, "{tried}");
    // At every length: the state while a request waits, the journal between two exchanges.
    let act = Act::Request(Verb::Rollback(None));
    let mut before = machine().0;
    act.run(&mut before, &mut |_| {});
    let (milestones, _, _) = Milestones::of(&before, Act::Start);
    let (_, _, cuts) = record(&before, Act::Start, |_| {});
    let mixed = cuts
        .found
        .iter()
        .position(|disk| recover::live_set_is_mixed(disk).unwrap());
    for (at, file) in [(0, File::State), (mixed.unwrap(), File::Journal)] {
        let disk = &cuts.found[at];
        let target = Target::new(disk, &milestones);
        for length in 0..2 * BLOCK {
            let (name, attacked) = cut(disk, file, length);
            assert_eq!(target.check(&attacked), Ok(()), "stage {at}, {name}");
        }
    }
}

#[test]
fn a_damaged_or_older_hint_changes_nothing_and_a_missing_one_stops_only_a_request() {
    let hints = [ARMED.to_vec(), armed(Verb::ResetEverything), Vec::new()];
    let mut sample = Sample(20_261_124);
    let mut tried = 0;
    for (before, act, _) in cases() {
        let (milestones, _, _) = Milestones::of(&before, act);
        let (_, _, cuts) = record(&before, act, |_| {});
        let mut hints_cut = BTreeSet::new();
        for disk in &cuts.found {
            let target = Target::new(disk, &milestones);
            let hint = disk.world().files.get(&File::Armed).cloned();
            let mut others: Vec<Option<Vec<u8>>> = hints.iter().cloned().map(Some).collect();
            others.push(None);
            if let Some(hint) = &hint {
                if hints_cut.insert(hint.clone()) {
                    others.extend((0..hint.len()).map(|length| Some(hint[..length].to_vec())));
                }
                let mut flipped = hint.clone();
                flipped[sample.below(hint.len())] ^= 1 << sample.below(8);
                others.push(Some(flipped));
            }
            let (settled, _, _) = start(disk);
            for other in others {
                let mut attacked = disk.clone();
                let there = other.is_some();
                attacked.edit(|world, _| match other {
                    Some(bytes) => world.files.insert(File::Armed, bytes),
                    None => world.files.remove(&File::Armed),
                });
                tried += 1;
                assert_eq!(target.check(&attacked), Ok(()), "{act:?}");
                if there == hint.is_some() {
                    let (store, _, _) = start(&attacked);
                    assert_eq!(Form::of(&store), Form::of(&settled), "{act:?}");
                }
            }
        }
    }
    println!("{tried} attacks");
    assert!(tried > 4000, "{tried}");
}
