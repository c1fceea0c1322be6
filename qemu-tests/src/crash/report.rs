//! What is said about the states: a line a verb, a sum, docs/crash-report.md.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::boots::Booted;
use super::run::{Choice, Kind, Tally};
use crate::check::command::workspace;
use crate::check::full::said;

/// The head of the table.
#[must_use]
pub fn head() -> String {
    row(
        "verb",
        &[
            "writes",
            "flushes",
            "prefix",
            "subset",
            "torn",
            "later cut",
            "superblock",
            "full",
            "refused",
            "EIO",
            "failed",
            "s",
        ]
        .map(str::to_owned),
    )
}

fn row(name: &str, cells: &[String]) -> String {
    cells.iter().fold(format!("{name:<25}"), |mut line, cell| {
        let _ = write!(line, " {cell:>9}");
        line
    })
}

fn cells(tally: &Tally) -> Vec<String> {
    [tally.writes, tally.flushes]
        .into_iter()
        .chain(tally.states)
        .chain([tally.full, tally.refused, tally.failing])
        .chain([tally.failures.len()])
        .map(|number| number.to_string())
        .chain([format!("{:.0}", tally.seconds)])
        .collect()
}

/// A verb's line.
#[must_use]
pub fn line(tally: &Tally) -> String {
    row(&tally.verb, &cells(tally))
}

/// The sum of all lines.
#[must_use]
pub fn sum(tallies: &[Tally]) -> Tally {
    let mut sum = Tally {
        verb: "all".into(),
        ..Tally::default()
    };
    for tally in tallies {
        sum.writes += tally.writes;
        sum.flushes += tally.flushes;
        for (all, one) in sum.states.iter_mut().zip(tally.states) {
            *all += one;
        }
        sum.full += tally.full;
        sum.refused += tally.refused;
        sum.refusals.extend(tally.refusals.iter().cloned());
        sum.failing += tally.failing;
        sum.mended += tally.mended;
        sum.recovered += tally.recovered;
        sum.settled += tally.settled;
        sum.failures.extend(tally.failures.iter().cloned());
        sum.seconds += tally.seconds;
    }
    sum
}

/// What a control shows, in a sentence. `bug` says what was done wrong on purpose.
#[must_use]
pub fn control(bug: &str, tally: &Tally) -> String {
    format!(
        "control: {bug} failed in {} of {} states",
        tally.failures.len(),
        tally.all()
    )
}

/// The commit that is checked out, and whether something differs from it.
#[must_use]
pub fn commit() -> String {
    let changed = match said("git", &["status", "--porcelain", "--", ":!docs"]).as_str() {
        // What `said` makes of nothing.
        "unknown" => "",
        _ => ", with changes",
    };
    said("git", &["log", "-1", "--format=%H %s"]) + changed
}

fn share(part: usize, whole: usize) -> String {
    format!("{part} ({} %)", part * 100 / whole.max(1))
}

/// Writes docs/crash-report.md.
///
/// # Errors
/// When it cannot be written.
pub fn write(
    tallies: &[Tally],
    checked: &[(&str, Tally)],
    booted: &Booted,
    choice: &Choice,
    commit: &str,
) -> Result<PathBuf> {
    let all = sum(tallies);
    let controls = checked
        .iter()
        .map(|(bug, tally)| ("control", control(bug, tally)));
    let mut text = String::from(
        "# Report of `cargo crash --all`\n\nWhat the columns mean: power-cuts.md. A state counts \
         once, however many cuts leave the same disk.\n\n| | |\n|---|---|\n",
    );
    for (what, value) in [
        ("date", said("date", &["--utc", "+%Y-%m-%d %H:%M UTC"])),
        ("commit", commit.to_owned()),
        ("kernel", said("uname", &["-srm"])),
        ("mkfs", said("mkfs.btrfs", &["--version"])),
        ("Rust", said("rustc", &["--version"])),
        ("seed", choice.seed.to_string()),
        ("states, each disk once", all.all().to_string()),
        (
            "of these subsets or torn",
            share(all.of(Kind::Subset) + all.of(Kind::Torn), all.all()),
        ),
        (
            "of these with a later cut",
            share(all.of(Kind::Later), all.all()),
        ),
        ("recoveries that wrote", all.recovered.to_string()),
        ("superblocks mended", all.mended.to_string()),
        ("failures", all.failures.len().to_string()),
        ("in virtual machines", booted.to_string()),
    ]
    .into_iter()
    .chain(controls)
    {
        let _ = writeln!(text, "| {what} | {value} |");
    }
    text.push_str(
        "\n| verb | writes | flushes | prefix | subset | torn | later cut | superblock | \
         full | refused | EIO | failed | s |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for tally in tallies.iter().chain([&all]) {
        let _ = writeln!(text, "| {} | {} |", tally.verb, cells(tally).join(" | "));
    }
    if !all.refusals.is_empty() {
        text.push_str("\n## Refused on a full disk\n\n");
        for tally in tallies {
            for said in &tally.refusals {
                let _ = writeln!(text, "- {}: `{said}`", tally.verb);
            }
        }
    }
    if !all.failures.is_empty() || !booted.failures.is_empty() {
        text.push_str("\n## Failures\n\n");
        for tally in tallies {
            for (name, wrong) in &tally.failures {
                let _ = writeln!(text, "- {} {name}: {wrong}", tally.verb);
            }
        }
    }
    for (name, wrong) in &booted.failures {
        let _ = writeln!(text, "- started for real, {name}: {wrong}");
    }
    let path = workspace().join("docs/crash-report.md");
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
