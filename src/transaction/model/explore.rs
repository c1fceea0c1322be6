//! Every disk that power cuts may leave during an act and during the starts that follow, until no
//! new one appears: any number of cuts in a row, not two or three.

use super::acts::{Act, Ended};
use super::boot::{boot, make_plan};
use super::form::{Form, changed_sealed, sane};
use crate::admin::error::Error;
use crate::admin::repair::repair;
use crate::policy::Wish;
use crate::policy::intent::Intent;
use crate::policy::trial::Spent;
use crate::record::layout::Part;
use crate::record::state::Consent;
use crate::store::memory::shared::digest;
use crate::store::memory::{Cuts, Memory, Tree};
use crate::transaction;
use crate::transaction::catalogue;
use crate::transaction::records::Records;
use std::collections::{BTreeMap, BTreeSet};

/// Disks of one act at the most; in fact there are some hundred.
const LIMIT: usize = 20_000;

/// What an exploration found.
#[derive(Debug, Default)]
pub struct Report {
    /// Distinct disks that a cut may leave.
    pub disks: usize,
    /// Distinct disks after the start that follows.
    pub settled: BTreeSet<u64>,
    /// What went wrong, at most a few.
    pub failures: Vec<String>,
    /// Disks that went wrong.
    pub failed: usize,
}

impl Report {
    fn fail(&mut self, text: String) {
        self.failed += 1;
        if self.failures.len() < 5 {
            self.failures.push(text);
        }
    }

    /// Adds the figures of another exploration.
    pub fn add(&mut self, other: Report) {
        self.disks += other.disks;
        self.settled.extend(other.settled);
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.failures.truncate(5);
    }

    /// Panics with what went wrong.
    pub fn expect_sound(&self, what: &str) {
        assert_eq!(self.failed, 0, "{what}: {:#?}", self.failures);
    }
}

/// The forms that may follow when an act is cut.
pub struct Milestones {
    /// In the order in which they came about.
    forms: Vec<Form>,
    /// The live set of each.
    live_sets: Vec<BTreeMap<Part, Tree>>,
    /// The disk before.
    pub before: Memory,
    pub act: Act,
    /// Whether the menu may open.
    asks: bool,
}

impl Milestones {
    /// Runs the act without a cut and the starts that follow; returns the disk after the act too.
    pub fn of(before: &Memory, act: Act) -> (Milestones, Memory, Ended) {
        let mut store = before.clone();
        let mut forms = Vec::new();
        let ended = act.run(&mut store, &mut |store| forms.push(Form::of(store)));
        let after = store.clone();
        let mut asks = matches!(act, Act::Seal { .. });
        // What is booted once returns at the start after; a request is carried out, or it was used
        // up before the start was cut.
        for disk in [before, &after] {
            for mut store in [disk.clone(), used_up(disk, act)] {
                forms.push(Form::of(&store));
                let mut again = store.clone();
                boot(&mut store, Wish::Boot, &mut |store| {
                    forms.push(Form::of(store));
                });
                forms.push(Form::of(&store));
                if act.is_repeated() {
                    for store in [&mut store, &mut again] {
                        act.run(store, &mut |_| {});
                        forms.push(Form::of(store));
                    }
                }
            }
            for mut store in not_survived(disk) {
                let booted = boot(&mut store, Wish::Boot, &mut |_| {});
                asks |= booted.prompt;
                forms.push(Form::of(&store));
            }
        }
        forms.dedup();
        let mut live_sets: Vec<_> = forms.iter().map(Form::live).collect();
        live_sets.dedup();
        let milestones = Milestones {
            forms,
            live_sets,
            before: before.clone(),
            act,
            asks,
        };
        (milestones, after, ended)
    }

    /// Whether this is the form of one of them.
    pub fn has(&self, form: &Form) -> bool {
        self.forms.contains(form)
    }

    /// Whether this is the whole live set of one of them.
    pub fn has_live(&self, live: &BTreeMap<Part, Tree>) -> bool {
        self.live_sets.contains(live)
    }

    /// Whether each of these live datasets is that of one of them.
    pub fn has_parts(&self, live: &BTreeMap<Part, Tree>) -> bool {
        live.iter().all(|(part, tree)| {
            let mut sets = self.live_sets.iter();
            sets.any(|set| set.get(part) == Some(tree))
        })
    }

    /// Whether a settled disk is one that may follow.
    fn check(&self, settled: &Memory) -> Result<(), String> {
        let mut store = settled.clone();
        if self.act.is_repeated() {
            return self.check_again(settled);
        }
        let form = Form::of(settled);

        sane(&store)?;
        if !self.forms.contains(&form) {
            let all: Vec<String> = self.forms.iter().map(|it| form.difference(it)).collect();
            return Err(format!("neither old nor new: {all:#?}"));
        }
        let changed = changed_sealed(&self.before, settled);
        if !changed.is_empty() {
            return Err(format!("sealed and changed: {changed:?}"));
        }
        let operations = store.operations;
        let again = boot(&mut store, Wish::Boot, &mut |_| {});
        if !again.is_quiet() || store.operations != operations {
            return Err(format!("a further start changes something: {again:?}"));
        }
        Ok(())
    }

    fn check_again(&self, settled: &Memory) -> Result<(), String> {
        let mut store = settled.clone();
        let mut ended = self.act.run(&mut store, &mut |_| {});
        let sealing = matches!(self.act, Act::Seal { .. });
        if let Ended::Command(Err(Error::Transaction(transaction::Error::StateDamaged))) = ended {
            // What the error names as the remedy.
            repair(&mut store, None).map_err(|error| error.to_string())?;
            ended = self.act.run(&mut store, &mut |_| {});
        }
        let form = Form::of(&store);
        if !ended.is_ok() && !sealing {
            return Err(format!("the same command again: {ended:?}"));
        }
        if !self.forms.contains(&form) {
            let all: Vec<String> = self.forms.iter().map(|it| form.difference(it)).collect();
            return Err(format!(
                "the same command again ({ended:?}) leaves {all:#?}"
            ));
        }
        if !sealing {
            sane(&store)?;
            if Form::of(settled).live() != form.live() {
                return Err("the live set changed".to_owned());
            }
        }
        Ok(())
    }
}

/// The disk once the request is taken out for this act, and nothing else was done.
fn used_up(disk: &Memory, act: Act) -> Memory {
    let mut store = disk.clone();
    let asked = Records::open(disk).ok();
    let asked = asked.and_then(|records| records.state.value.request);
    Act::Cancel.run(&mut store, &mut |_| {});
    let Ok(mut records) = Records::open(&store) else {
        return store;
    };
    let mut state = records.state.value.clone();
    let verb = match act {
        Act::Present(verb) | Act::Agreed(verb, _) => Some(verb),
        _ => None,
    };
    for verb in asked.map(|request| request.verb).into_iter().chain(verb) {
        state.attempted(verb);
    }
    records.state.write(&mut store, state).unwrap();
    store
}

/// The disk as a cut in a converter leaves it that the machine runs by itself, once what that made is gone; then as one in the
/// next such converter leaves that disk, and so on.
fn not_survived(disk: &Memory) -> Vec<Memory> {
    let (mut store, mut left) = (disk.clone(), Vec::new());
    while let Some((mut records, to)) = falls_back_by_conversion(&store) {
        let mut state = records.state.value.clone();
        state.remember_failed(to);
        records.state.write(&mut store, state).unwrap();
        left.push(store.clone());
    }
    left
}

fn falls_back_by_conversion(store: &Memory) -> Option<(Records, u32)> {
    let records = Records::open(store).ok()?;
    let state = &records.state.value;
    let Ok(Some(Spent::FallBack(to))) = catalogue::spent(store, state, &[]) else {
        return None;
    };
    let intent = Intent::FallBack { to };
    let plan = make_plan(&intent, store, state, Consent::Refuse).ok()?;
    (!plan.conversions.is_empty()).then_some((records, to))
}

/// Runs an act with its cuts recorded; `prepare` may set a fault first.
pub fn record(before: &Memory, act: Act, prepare: impl Fn(&mut Memory)) -> (Memory, Ended, Cuts) {
    let mut store = before.clone();
    store.begin_exploration();
    prepare(&mut store);
    let ended = act.run(&mut store, &mut |_| {});
    store.note_cut();
    let cuts = store.cuts.take().map(|cuts| *cuts).unwrap_or_default();
    (store, ended, cuts)
}

/// From these disks: starts the agent on each, records the cuts of that start too, and goes on until
/// no new disk appears. Checks what each start settles on.
pub fn settle(cuts: Cuts, milestones: &Milestones) -> Report {
    let mut report = Report::default();
    let mut cuts = Box::new(cuts);
    let mut next = 0;
    while let Some(disk) = cuts.found.get(next) {
        next += 1;
        if next > LIMIT {
            report.fail("there is no end to the disks that a cut may leave".to_owned());
            break;
        }
        let mut store = disk.clone();
        store.cuts = Some(cuts);
        let booted = boot(&mut store, Wish::Boot, &mut |_| {});
        store.note_cut();
        cuts = store.cuts.take().unwrap_or_default();
        // What waits may be refused; that shows in what it settles on.
        if !booted.errors.is_empty() || booted.prompt && !milestones.asks {
            report.fail(format!("disk {next}: {booted:?}"));
            continue;
        }
        if report.settled.insert(digest(&store.digest()))
            && let Err(text) = milestones.check(&store)
        {
            report.fail(format!("disk {next}: {text}"));
        }
    }
    report.disks = cuts.found.len();
    report
}

/// Every cut of this act on this disk.
pub fn explore(before: &Memory, act: Act) -> (Memory, Report) {
    let (milestones, after, _) = Milestones::of(before, act);
    let (_, _, cuts) = record(before, act, |_| {});
    (after, settle(cuts, &milestones))
}
