//! Plays the states of one verb: chooses them, counts each disk once, books what was wrong.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::act::Room;
use super::cut::{Cut, Name};
use super::disk::Disk;
use super::full;
use super::hardship::Hardship;
use super::keep::Keep;
use super::lab::{Lab, Played};
use super::random::Random;
use super::recording::Recording;
use super::verbs::{Step, Verb};

/// All subsets are tried of an epoch with at most this many pages in flight: 64.
const FEW: usize = 6;
/// How many states of a second cut one recovery is cut into.
const CUTS_OF_ONE: usize = 12;
/// Every so many of these, a third cut follows.
const THIRD: usize = 4;
/// From so many states a verb on, it is tried with all kinds of little room.
const ALL_ROOMS: usize = 500;
/// For so many states a verb there is one with writes that fail.
const EIO_SHARE: usize = 35;
/// Images of failures that are kept, for each verb.
const KEPT: usize = 20;

/// How the states are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// About how many states a verb.
    pub states: usize,
    /// What chooses them.
    pub seed: u64,
}

/// What kind of cut a state is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// After a write.
    Prefix,
    /// A part of what was in flight.
    Subset,
    /// A page in pieces.
    Torn,
    /// During a recovery, or the recovery of a recovery.
    Later,
    /// The primary superblock in pieces.
    Superblock,
}

/// The book of one verb.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// The verb.
    pub verb: String,
    /// Writes of the undisturbed verb.
    pub writes: usize,
    /// Its flushes.
    pub flushes: usize,
    /// States by [`Kind`], in its order.
    pub states: [usize; 5],
    /// Superblocks that the agent mended.
    pub mended: usize,
    /// States whose recovery wrote.
    pub recovered: usize,
    /// States after whose recovery the kernel had subvolumes to delete.
    pub settled: usize,
    /// Times that it was done on a full disk.
    pub full: usize,
    /// Of these, how often it was refused.
    pub refused: usize,
    /// What was said then.
    pub refusals: BTreeSet<String>,
    /// Times that it was done while writes failed.
    pub failing: usize,
    /// States that failed, by name, with what was wrong first.
    pub failures: Vec<(String, String)>,
    /// How long it took.
    pub seconds: f32,
}

impl Tally {
    /// The states of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> usize {
        self.states.get(kind as usize).copied().unwrap_or(0)
    }

    /// All states.
    #[must_use]
    pub fn all(&self) -> usize {
        self.states.iter().sum()
    }
}

/// Plays a verb's states. `tell` gets each failure as it is found.
///
/// # Errors
/// Where the rig itself breaks, or `stop` was set meanwhile.
pub fn verb(
    verb: &'static Verb,
    choice: &Choice,
    keep: &Keep,
    stop: &AtomicBool,
    tell: &dyn Fn(&str),
) -> Result<Tally> {
    let start = Instant::now();
    let lab = Lab::new(verb)?;
    keep.forget(verb.name)?;
    let mut run = Run {
        tally: Tally {
            verb: verb.name.to_owned(),
            writes: lab.recording.writes(),
            flushes: lab.recording.flushes,
            ..Tally::default()
        },
        lab,
        choice,
        keep,
        stop,
        tell,
        seen: HashSet::new(),
        wrote: Vec::new(),
    };
    run.first_cuts()?;
    run.later_cuts()?;
    run.full_disks()?;
    run.failing_writes()?;
    run.tally.seconds = start.elapsed().as_secs_f32();
    Ok(run.tally)
}

struct Run<'a> {
    lab: Lab,
    choice: &'a Choice,
    keep: &'a Keep,
    stop: &'a AtomicBool,
    tell: &'a dyn Fn(&str),
    tally: Tally,
    seen: HashSet<u128>,
    /// States whose recovery wrote.
    wrote: Vec<Cut>,
}

impl Run<'_> {
    fn random(&self, what: u64) -> Random {
        let name = self.lab.verb.name.bytes().fold(what, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        Random::new(self.choice.seed ^ name)
    }

    /// Half prefixes, the rest subsets and torn writes, and beside them torn superblocks.
    fn first_cuts(&mut self) -> Result<()> {
        let states = self.choice.states;
        // What is left is for later cuts.
        let first = states * 17 / 20;
        let recording = self.lab.recording.clone();
        let each = 1 + first / recording.writes().max(1);
        self.some(
            Kind::Prefix,
            recording.prefixes(&mut self.random(1)),
            first / 2,
        )?;
        let left = first.saturating_sub(self.tally.all());
        let torn = recording.torn(&mut self.random(2), false, each);
        self.some(Kind::Torn, torn, left / 3)?;
        let left = first.saturating_sub(self.tally.all());
        let subsets = recording.subsets(&mut self.random(3), FEW, 4 * each);
        self.some(Kind::Subset, subsets, left)?;
        if matches!(self.lab.verb.recovery.first(), Some(Step::Admin(_))) {
            // It is the agent that mends one, and it does not run first.
            return Ok(());
        }
        let superblock = recording.torn(&mut self.random(4), true, 4);
        self.some(Kind::Superblock, superblock, states / 20)
    }

    /// Plays at most `limit` of these cuts whose disks were not there before.
    fn some(&mut self, kind: Kind, cuts: Vec<Cut>, limit: usize) -> Result<()> {
        let mut left = limit;
        for cut in cuts {
            if left == 0 {
                break;
            }
            let disk = self.lab.recording.disk(&cut)?;
            let name = Name(vec![cut.clone()]);
            let Some(played) = self.one(kind, &name, &disk)? else {
                continue;
            };
            left -= 1;
            if played
                .recovery
                .is_some_and(|recovery| recovery.writes() > 0)
                && kind != Kind::Superblock
            {
                self.wrote.push(cut);
            }
        }
        Ok(())
    }

    /// Plays a state unless its disk was played before.
    fn one(&mut self, kind: Kind, name: &Name, disk: &Disk) -> Result<Option<Played>> {
        if !self.seen.insert(disk.digest()) {
            return Ok(None);
        }
        ensure!(!self.stop.load(Ordering::Relaxed), "interrupted");
        let played = self.lab.play(disk)?;
        self.tally.states[kind as usize] += 1;
        self.tally.mended += usize::from(played.mended && played.wrong.is_empty());
        self.tally.settled += usize::from(played.settled);
        let wrote = played
            .recovery
            .as_ref()
            .is_some_and(|recovery| recovery.writes() > 0);
        self.tally.recovered += usize::from(wrote);
        if self.book(name, &played)? {
            self.keep.disk(self.lab.verb.name, name, disk)?;
        }
        Ok(Some(played))
    }

    /// Books what was wrong. Whether it is a failure that is kept.
    fn book(&mut self, name: &dyn Display, played: &Played) -> Result<bool> {
        let Some(wrong) = played.wrong.first() else {
            return Ok(false);
        };
        let verb = self.lab.verb.name;
        if self.tally.failures.is_empty() {
            self.keep.recording(verb, &self.lab.recording)?;
        }
        let kept = self.tally.failures.len() < KEPT;
        if kept {
            (self.tell)(&told(verb, name, played));
        }
        self.tally.failures.push((name.to_string(), wrong.clone()));
        Ok(kept)
    }

    /// The verb on disks with all kinds of little room; in a small sample on two of them.
    fn full_disks(&mut self) -> Result<()> {
        if self.lab.verb.on_a_full_disk() || self.lab.verb.not_when_full {
            return Ok(());
        }
        let mut rooms: Vec<Room> = full::rooms().collect();
        if self.choice.states < ALL_ROOMS {
            self.random(6).shuffle(&mut rooms);
            rooms.truncate(2);
        }
        let filled = self.lab.filled()?;
        for room in rooms {
            ensure!(!self.stop.load(Ordering::Relaxed), "interrupted");
            let played = self.lab.play_full(&filled, room)?;
            self.tally.full += 1;
            self.tally.refused += usize::from(!played.carried_out);
            self.tally.refusals.extend(played.refusal.clone());
            self.book(&Hardship::Full(room), &played)?;
        }
        Ok(())
    }

    /// The verb while writes fail, from each on or from some; and where the write of a record is said to fail.
    fn failing_writes(&mut self) -> Result<()> {
        let mut all: Vec<u64> = (0..self.lab.recording.writes() as u64).collect();
        self.random(7).shuffle(&mut all);
        all.truncate(self.choice.states.div_ceil(EIO_SHARE));
        for writes in all {
            ensure!(!self.stop.load(Ordering::Relaxed), "interrupted");
            let played = self.lab.play_failing(writes)?;
            self.tally.failing += 1;
            self.book(&Hardship::Failing(writes), &played)?;
        }
        let mut slots = self.lab.recording.in_place();
        self.random(8).shuffle(&mut slots);
        slots.truncate(self.choice.states.div_ceil(EIO_SHARE));
        for writes in slots {
            ensure!(!self.stop.load(Ordering::Relaxed), "interrupted");
            let played = self.lab.play_denied(writes)?;
            self.tally.failing += 1;
            self.book(&Hardship::Denied(writes), &played)?;
        }
        Ok(())
    }

    /// Cuts the recoveries from first cuts, and the recoveries from these, until the verb has its states: a verb with
    /// few writes has few first cuts.
    fn later_cuts(&mut self) -> Result<()> {
        let mut random = self.random(5);
        let counted_apart = self.tally.of(Kind::Superblock);
        let limit = (self.choice.states + counted_apart).saturating_sub(self.tally.all());
        let mut firsts = std::mem::take(&mut self.wrote);
        random.shuffle(&mut firsts);
        let most = limit.div_ceil(firsts.len().max(1)).max(CUTS_OF_ONE);
        let mut done = 0;
        for first in firsts {
            if done >= limit {
                break;
            }
            let disk = self.lab.recording.disk(&first)?;
            // The kernel chooses anew when it records again, so the recording belongs to this disk only.
            let Some(recovery) = self.lab.play(&disk)?.recovery else {
                continue;
            };
            let name = Name(vec![first]);
            done +=
                self.cut_recovery(&name, &recovery, &mut random, most.min(limit - done), true)?;
        }
        Ok(())
    }

    fn cut_recovery(
        &mut self,
        name: &Name,
        recovery: &Recording,
        random: &mut Random,
        limit: usize,
        third: bool,
    ) -> Result<usize> {
        let mut done = 0;
        for cut in mixed(recovery, random) {
            if done >= limit {
                break;
            }
            let disk = recovery.disk(&cut)?;
            let mut longer = name.clone();
            longer.0.push(cut);
            let Some(played) = self.one(Kind::Later, &longer, &disk)? else {
                continue;
            };
            done += 1;
            if third
                && done.is_multiple_of(THIRD)
                && let Some(next) = played.recovery.filter(|next| next.writes() > 0)
            {
                done += self.cut_recovery(&longer, &next, random, 2, false)?;
            }
        }
        Ok(done)
    }
}

/// Prefixes, subsets and torn writes in turn.
fn mixed(recording: &Recording, random: &mut Random) -> Vec<Cut> {
    if recording.writes() == 0 {
        return Vec::new();
    }
    let lists = [
        recording.prefixes(random),
        recording.subsets(random, FEW, 2),
        recording.prefixes(random),
        recording.torn(random, false, 1),
    ];
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|at| lists.iter().filter_map(move |list| list.get(at).cloned()))
        .collect()
}

/// What is shown of a failure.
#[must_use]
pub fn told(verb: &str, name: &dyn Display, played: &Played) -> String {
    let mut text = format!("FAILED {verb} {name}\n");
    for line in &played.wrong {
        text.push_str(&format!("    {line}\n"));
    }
    text.push_str("  the console during the recovery:\n");
    for line in played.console.lines() {
        text.push_str(&format!("    {line}\n"));
    }
    text.push_str(&format!("  again: cargo crash {verb} --state {name}\n"));
    text
}
