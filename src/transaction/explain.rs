//! A plan in words: what changes, what stays, how to undo it.

use super::Error;
use super::catalogue::has_baseline;
use super::check::{is_unlocked_by_measurement, marks_itself_good};
use super::inside::inside;
use super::plan::{Plan, Step};
use crate::fence::verdict::{Answer, AppVerdict, Verdict};
use crate::fence::words;
use crate::policy::intent::Intent;
use crate::policy::trial::TRIES;
use crate::record::layout::{DataParts, Layout, Part};
use crate::store::Store;
use crate::store::place::Place;
use serde::Serialize;

/// A plan as a person reads it; each line is at most 78 columns for short dataset names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// One line: what happens.
    pub title: String,
    /// Each dataset that changes and where its new content comes from.
    pub changes: Vec<String>,
    /// Each dataset that stays as it is, and what is kept that was to be deleted.
    pub stays: Vec<String>,
    /// Data that lies in the system, and is what it was there.
    pub goes_along: Vec<String>,
    /// What is lost for good; empty when nothing is.
    pub lost: Vec<String>,
    /// Whether it lasts.
    pub lasts: String,
    /// What happens by itself if it does not start; empty where it is not on trial.
    pub trial: String,
    /// How to undo it.
    pub undo: String,
    /// What the fence says, where any application is judged: a line each.
    pub fence: Vec<String>,
    /// What was not looked at.
    pub unchecked: String,
}

/// Puts a plan into words.
pub fn explain(plan: &Plan, layout: &Layout) -> Explanation {
    let replaced: Vec<_> = plan.replaced().collect();
    let converted = |part: Part| plan.conversions.iter().any(|it| it.dataset == part);
    let changes = replaced
        .iter()
        .map(|(part, from)| {
            let name = layout.title(*part);
            match from {
                Some(Place::Live(_)) if converted(*part) => {
                    format!("{name}: becomes a converted clone of itself")
                }
                Some(Place::Prepared(_)) => {
                    format!("{name}: becomes a clone of itself that was converted already")
                }
                Some(from) if plan.aside.contains(*part) => {
                    format!(
                        "{name}: returns to what is kept with {}",
                        source(*from, layout)
                    )
                }
                Some(from) => format!("{name}: becomes a clone of {}", source(*from, layout)),
                None => format!("{name}: returns to what it was"),
            }
        })
        .collect();
    let stays = layout
        .all()
        .filter(|part| *part != Part::Defaults)
        .filter(|part| !replaced.iter().any(|(other, _)| other == part))
        .map(|part| format!("{}: stays as it is", layout.title(part)))
        .chain(plan.spared.map(|id| {
            format!("from before 'reset everything': kept (snapshot {id}), no longer deleted")
        }))
        .collect();
    Explanation {
        title: title(&plan.intent),
        changes,
        stays,
        goes_along: Vec::new(),
        lost: lost(plan),
        lasts: lasts(&plan.intent),
        trial: String::new(),
        undo: match (&plan.intent, plan.aside == DataParts::NONE) {
            (_, true) | (Intent::Convert, false) => undo(plan),
            (_, false) => format!("{}; with fence=restore the data is as it was", undo(plan)),
        },
        fence: fence(plan),
        unchecked: unchecked(plan, layout),
    }
}

/// What the fence says, if it had anything to judge.
fn fence(plan: &Plan) -> Vec<String> {
    let judged = |verdict: &&Verdict| {
        let alone = |it: &AppVerdict| matches!(it.answer, Answer::LeftAlone(_));
        !verdict.faults.is_empty() || !verdict.apps.iter().all(alone)
    };
    let verdict = plan.fence.as_ref().filter(judged);
    verdict.map(words::lines).unwrap_or_default()
}

/// The same with a look at what is live: a set that lacks a part cannot be gone back to.
pub fn explain_for<S: Store>(store: &S, plan: &Plan) -> Result<Explanation, Error> {
    let layout = store.layout();
    let mut explanation = explain(plan, layout);
    if has_baseline(store)? {
        explanation.calls_it_a_baseline();
    }
    if !matches!(plan.intent, Intent::FirstBoot | Intent::MakeFactory) {
        for part in layout.set() {
            if store.dataset(Place::Live(part))?.is_none() {
                explanation.undo = format!(
                    "it cannot be undone: the live {} is missing already",
                    layout.title(part)
                );
            }
        }
    }
    let source = plan.replaced().find(|(part, _)| *part == Part::System);
    let system = source.and_then(|(_, from)| from);
    let is_there = store.dataset(Place::Live(Part::System))?.is_some();
    if system.is_some() && is_there && plan.intent != Intent::FirstBoot {
        let inside = inside(store, Place::Live(Part::System))?;
        explanation.goes_along = inside.into_iter().map(str::to_owned).collect();
    }
    let system = system.unwrap_or(Place::Live(Part::System));
    if plan.arms() && marks_itself_good(store, system)? {
        // It falls back once.
        let then = match plan.intent {
            Intent::FallBack { .. } => "the menu opens, once",
            _ => "the machine falls back",
        };
        let trial = plan.after.trial;
        let left = trial.map_or(TRIES, |it| it.tries.saturating_sub(it.begun));
        explanation.trial =
            format!("on trial: unless it is marked good within {left} starts, {then}");
        if is_unlocked_by_measurement(store, system)? {
            explanation.trial.push_str(
                "\n(a TPM unlocks its disks: a kernel that panics at once is not counted)",
            );
        }
    }
    Ok(explanation)
}

impl Explanation {
    /// A used system is never called a factory version.
    fn calls_it_a_baseline(&mut self) {
        let lines = core::iter::once(&mut self.title).chain(&mut self.changes);
        for line in lines {
            for name in ["the factory version", "the factory snapshot"] {
                *line = line.replace(name, "the baseline, not factory");
            }
        }
    }
}

/// One line: what the intent does.
pub fn title(intent: &Intent) -> String {
    match intent {
        Intent::Rollback { to } => format!("roll back to snapshot {to}"),
        Intent::FallBack { to } => format!("fall back to snapshot {to}, the newest good one"),
        Intent::Forward { to } => format!("roll forward to snapshot {to}"),
        Intent::Select { id } => format!("boot a clone of snapshot {id} once"),
        Intent::Return { .. } => "return from the snapshot that was booted once".to_owned(),
        Intent::ResetConfig { data: false } => {
            "reset the configuration to this version's defaults".to_owned()
        }
        Intent::ResetConfig { data: true } => {
            "reset configuration and data, keep the system's version".to_owned()
        }
        Intent::ResetSystem { keep_config: false } => {
            "reset system and configuration to the factory version, keep data".to_owned()
        }
        Intent::ResetSystem { keep_config: true } => {
            "reset the system to the factory version, keep configuration and data".to_owned()
        }
        Intent::ResetEverything => "reset everything to the factory version".to_owned(),
        Intent::Convert => {
            "convert the data that the present version does not read, keep the version".to_owned()
        }
        Intent::FirstBoot => "first boot: start the factory version".to_owned(),
        Intent::MakeFactory => "make the factory snapshot from the default tarball".to_owned(),
        Intent::Snapshot { .. } => "keep a snapshot of what is live".to_owned(),
        Intent::Stage { .. } => "upgrade a clone of what is live".to_owned(),
    }
}

fn source(place: Place, layout: &Layout) -> String {
    match place {
        Place::Snapshot(id, _) => format!("snapshot {id}"),
        Place::Factory(_) => "the factory snapshot".to_owned(),
        Place::Template(_) => "its empty template".to_owned(),
        Place::Prepared(_) => "what was converted already".to_owned(),
        Place::Live(Part::Defaults) => "this version's defaults".to_owned(),
        Place::Live(part) => format!("the live {}", layout.title(part)),
    }
}

fn lost(plan: &Plan) -> Vec<String> {
    let id = plan.id;
    match &plan.intent {
        Intent::Rollback { .. } | Intent::Forward { .. } | Intent::ResetSystem { .. }
            if plan.fence.as_ref().is_some_and(Verdict::loses) =>
        {
            vec![
                "in the data that becomes live, what came since, or what no converter".to_owned(),
                format!(
                    "keeps. As it is now it stays with snapshot {id}: fence=restore goes there"
                ),
            ]
        }
        Intent::Convert if plan.fence.as_ref().is_some_and(Verdict::loses) => vec![
            "in the data that becomes live, what no converter keeps.".to_owned(),
            format!("As it is now it stays with snapshot {id}"),
        ],
        Intent::ResetEverything => vec![
            "the old data, what lies in nested subvolumes, and every".to_owned(),
            format!("snapshot up to {id} are deleted once the new system was"),
            "marked good. Deleted is not erased from the disk.".to_owned(),
        ],
        _ => Vec::new(),
    }
}

fn lasts(intent: &Intent) -> String {
    match intent {
        Intent::Snapshot { .. } | Intent::MakeFactory | Intent::Stage { .. } => String::new(),
        Intent::Select { .. } => {
            "it lasts for one boot: the next boot returns to the present system".to_owned()
        }
        _ => "it lasts: every boot from now on is this one".to_owned(),
    }
}

fn undo(plan: &Plan) -> String {
    let id = plan.id;
    match plan.intent {
        Intent::Rollback { .. } | Intent::FallBack { .. } | Intent::Forward { .. } => {
            let way = if plan.after.newer.first() == Some(&id) {
                "forward".to_owned()
            } else if plan.after.older.last() == Some(&id) {
                "back".to_owned()
            } else {
                format!("back to {id}")
            };
            format!("to undo it: roll {way} (what was live is kept as snapshot {id})")
        }
        Intent::Select { .. } => "to undo it: reboot".to_owned(),
        Intent::Return { .. } => {
            format!("what was booted once is kept as snapshot {id}: roll back to {id} to use it")
        }
        Intent::ResetEverything => {
            format!("to undo it before it is marked good: roll back (to snapshot {id})")
        }
        // The data as it was is for whoever reads it: not this version.
        Intent::Convert => {
            format!("what was live is kept as snapshot {id}, with the data as it was")
        }
        Intent::ResetConfig { .. } | Intent::ResetSystem { .. } => {
            format!("to undo it: roll back (what was live is kept as snapshot {id})")
        }
        Intent::FirstBoot => "there is nothing before it to go back to".to_owned(),
        Intent::Snapshot { .. } | Intent::MakeFactory | Intent::Stage { .. } => {
            "nothing that is live changes".to_owned()
        }
    }
}

fn unchecked(plan: &Plan, layout: &Layout) -> String {
    let system = plan
        .steps
        .iter()
        .any(|step| matches!(step, Step::Exchange { live, .. } if live.part() == Part::System));
    match (system, layout.data.is_empty()) {
        (true, false) if fence(plan).is_empty() => "data compatibility not checked".to_owned(),
        _ => String::new(),
    }
}

impl core::fmt::Display for Explanation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        writeln!(f, "{}", self.title)?;
        for line in self.changes.iter().chain(&self.stays) {
            writeln!(f, "  {line}")?;
        }
        for (i, line) in self.goes_along.iter().enumerate() {
            let head = match i {
                0 => "goes with the system: ",
                _ => "                      ",
            };
            writeln!(f, "  {head}{line}")?;
        }
        for (i, line) in self.lost.iter().enumerate() {
            writeln!(f, "  {}{line}", if i == 0 { "LOST: " } else { "      " })?;
        }
        for line in &self.fence {
            writeln!(f, "  {line}")?;
        }
        for line in [&self.lasts, &self.trial, &self.undo, &self.unchecked] {
            if !line.is_empty() {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}
