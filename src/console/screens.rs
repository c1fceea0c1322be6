//! The menu's texts. Nothing is asked or done here.

use super::command::{self, WAYS};
use super::machine::{Changed, Entry, Look, Situation, Stage};
use super::text::{WIDTH, columns, size};
use super::versions::Version;
use crate::agent::policy::console::Right;
use crate::record::state::Verb;

/// What may be done, as far as the policy says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Changes of what boots.
    pub change: Right,
    /// A shell.
    pub shell: Right,
}

/// The first screen: why, what is live, what waits, and the few commands that most people come for.
pub fn top(situation: &Situation, stage: Stage, rights: Rights) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        format!("backstay {} - menu", env!("CARGO_PKG_VERSION")),
    ];
    lines.extend(situation.why.iter().cloned());
    lines.extend(live(situation));
    lines.extend(situation.waits.iter().map(|line| format!("Note: {line}")));
    if let Some(why) = situation
        .unchangeable
        .as_ref()
        .filter(|_| situation.readable)
    {
        lines.push(format!("Nothing can be changed: {why}"));
    }
    if let Some(fault) = &situation.policy {
        lines.push(format!(
            "Changes and the shell are closed: {fault}. Correct it in the system, then 'backstay recovery install'. \
             GRUB's entries go back all the same."
        ));
    }
    lines.push(String::new());
    let mut rows = Vec::new();
    let mut row =
        |command: &str, does: &str| rows.push(vec![format!("  {command}"), does.to_owned()]);
    if situation.readable {
        row("list", "the versions on this disk");
    }
    if let Some(back) = situation.back.filter(|_| can_change(situation, rights)) {
        row(
            "rollback",
            &format!("go back to snapshot {back}; asks first"),
        );
    }
    if let Some(ahead) = situation.ahead.filter(|_| can_change(situation, rights)) {
        row(
            "forward",
            &format!("undo that, to snapshot {ahead}; asks first"),
        );
    }
    if situation.mounts && !situation.readable {
        row(
            "disk",
            "what is wrong with the disk, and other ways to mount it",
        );
    }
    if situation.hibernated {
        row(
            "FORGET",
            "give the hibernated system up; what it had not saved is lost",
        );
    }
    match (stage, situation.starts) {
        (Stage::Running, _) => row("exit", "leave this menu"),
        (Stage::EarlyBoot, true) => row("boot", "start the system"),
        (Stage::EarlyBoot, false) => row("reboot", "restart the machine"),
    }
    row("help", "everything that can be done here");
    lines.extend(columns(&rows));
    lines.push(String::new());
    lines
}

fn can_change(situation: &Situation, rights: Rights) -> bool {
    situation.readable && situation.unchangeable.is_none() && rights.change != Right::Closed
}

/// Every command that can do something now.
pub fn help(situation: &Situation, stage: Stage, rights: Rights) -> Vec<String> {
    let mut rows = Vec::new();
    let mut row =
        |command: &str, does: &str| rows.push(vec![format!("  {command}"), does.to_owned()]);
    row("menu", "the first screen again (or Enter alone)");
    if situation.readable {
        row("list", "the versions, newest first");
        row("show N", "one of them, and what can be done with it");
        row(
            "diff N [PATH]",
            "files of the live system that differ from version N",
        );
        row(
            "look N [PATH]",
            "its files; 'look live' for those of the live system",
        );
    }
    if can_change(situation, rights) {
        row("once N", "start a copy of snapshot N, for one start");
        row(
            "rollback [N]",
            "go back to the version before, or to snapshot N",
        );
        if situation.ahead.is_some() {
            row("forward", "undo the last rollback");
        }
        if situation.config {
            row(
                "reset config",
                "this version's own configuration; the rest stays",
            );
            if situation.data {
                row("reset config,data", "the same, and the data is emptied");
            }
        }
        row(
            "reset system",
            "factory system and configuration; data stays",
        );
        if situation.config {
            row(
                "reset system keep=config",
                "factory system; configuration and data stay",
            );
        }
        row(
            "reset everything",
            "factory system; data and snapshots are LOST",
        );
    }
    row(
        "log [disk | kernel]",
        "what was said at this start, done on this disk",
    );
    match situation.mounts {
        true => row("disk [WAY]", "the disk, and the ways to mount it"),
        false => row("disk", "the disk, and how it is mounted"),
    }
    if situation.hibernated && rights.change != Right::Closed {
        row(
            "FORGET",
            "give the hibernated system up; what it had not saved is lost",
        );
    }
    if rights.shell != Right::Closed {
        row("shell", "a shell as root; 'exit' comes back here");
    }
    match stage {
        Stage::Running => row("exit", "leave this menu"),
        Stage::EarlyBoot => {
            if situation.starts {
                row("boot", "start the system");
            }
            row("poweroff", "switch the machine off");
        }
    }
    row("reboot", "restart the machine");
    let mut lines = columns(&rows);
    if can_change(situation, rights) {
        lines.push(String::new());
        lines.push(
            match stage {
                Stage::EarlyBoot => {
                    "Each change shows its plan and wants a word typed before it is made."
                }
                Stage::Running => {
                    "Each change shows its plan, wants a word typed, and is made at the next start."
                }
            }
            .to_owned(),
        );
    }
    lines
}

/// The disk, and the ways to mount it.
pub fn disk(lines: Vec<String>, situation: &Situation) -> Vec<String> {
    let mut lines = lines;
    if situation.mounts {
        let ways = WAYS.iter();
        let ways = ways.filter(|(_, word, _)| situation.degraded || *word != "degraded");
        let row =
            |(_, word, does): &(_, &str, &str)| vec![format!("  disk {word}"), (*does).to_owned()];
        lines.extend(columns(&ways.map(row).collect::<Vec<_>>()));
    }
    lines
}

/// Columns of a kernel's release in the table of versions.
const KERNEL: usize = 16;

/// At most so many characters; the last of them is `~` where there were more.
fn cut(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text
            .chars()
            .take(width.saturating_sub(1))
            .chain(['~'])
            .collect(),
        false => text.to_owned(),
    }
}

/// What is live, and the versions as a table.
pub fn list(versions: &[Version], situation: &Situation) -> Vec<String> {
    let head = ["  N", "kept", "last start", "kernel", "title"].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    for version in versions.iter().filter(|it| it.is_there()) {
        let mark = match (version.back, version.ahead) {
            (true, _) => "<",
            (_, true) => ">",
            _ => " ",
        };
        let number = match version.id {
            0 => "factory".to_owned(),
            id => id.to_string(),
        };
        let day = version.created.as_deref().and_then(|it| it.get(..10));
        let title = match version.usable {
            true => version.title.clone(),
            false => format!("{}: {}", version.health, version.title),
        };
        rows.push(vec![
            format!("{mark} {number}"),
            day.unwrap_or("-").to_owned(),
            version.last_start.to_owned(),
            version
                .kernel
                .as_deref()
                .map_or("-".to_owned(), |it| cut(it, KERNEL)),
            title,
        ]);
    }
    let mut lines = live(situation);
    if rows.len() == 1 {
        lines.push("There are no snapshots, and no factory snapshot.".to_owned());
        return lines;
    }
    // One line each: 'show N' has the rest.
    let table = columns(&rows).into_iter();
    lines.extend(table.map(|row| cut(&row, WIDTH)));
    let any = |is: fn(&Version) -> bool| versions.iter().any(is);
    let ways = [
        ("< rollback goes here", any(|it| it.back)),
        ("> forward goes here", any(|it| it.ahead)),
        ("show N: more about one", true),
    ];
    let ways: Vec<&str> = ways.iter().filter(|it| it.1).map(|it| it.0).collect();
    lines.push(ways.join("   "));
    lines.extend(data(versions, situation));
    lines
}

/// Which versions run on the data that is live, where any of them declares something.
fn data(versions: &[Version], situation: &Situation) -> Vec<String> {
    if !versions.iter().any(|it| it.data.is_some()) {
        let line = "Whether a version can read the present data is not checked.";
        return match situation.data {
            true => vec![line.to_owned()],
            false => Vec::new(),
        };
    }
    let named = |word: &str| {
        let all = versions.iter().filter(|it| it.data == Some(word));
        let all: Vec<String> = all
            .map(|it| match it.id {
                0 => "factory".to_owned(),
                id => id.to_string(),
            })
            .collect();
        all.join(", ")
    };
    let lines = [
        ("refused", "Cannot run on the present data: "),
        (
            "convert",
            "Only with fence=convert, which converts a copy of the data: ",
        ),
        (
            "restore",
            "Only with fence=restore, which loses what came since: ",
        ),
    ];
    lines
        .into_iter()
        .map(|(word, says)| (named(word), says))
        .filter(|(named, _)| !named.is_empty())
        .map(|(named, says)| format!("{says}{named}"))
        .collect()
}

fn live(situation: &Situation) -> Vec<String> {
    let lines = situation.live.iter().enumerate();
    lines
        .map(|(i, line)| match i {
            0 => format!("Live: {line}"),
            _ => format!("      {line}"),
        })
        .collect()
}

/// One version.
pub fn show(version: &Version, situation: &Situation, rights: Rights) -> Vec<String> {
    let name = match version.id {
        0 => "Factory".to_owned(),
        id => format!("Snapshot {id}"),
    };
    let mut lines = vec![format!("{name}: {}", version.title)];
    let mut rows = Vec::new();
    let mut row = |what: &str, text: &str| rows.push(vec![format!("  {what}"), text.to_owned()]);
    if let Some(created) = &version.created {
        row("kept", &format!("{created}, by a clock that may be wrong"));
    }
    if let Some(origin) = version.origin {
        row("because", origin);
    }
    row("kernel", version.kernel.as_deref().unwrap_or("not known"));
    row("condition", version.health);
    row("last start", version.last_start);
    let data = match version.data {
        Some("runs") => Some("its applications run on the data as it is"),
        Some("convert") => Some("it needs fence=convert: the data is converted, on a copy"),
        Some("restore") => {
            Some("it needs fence=restore: the data goes back; what came since is LOST")
        }
        Some(_) => Some("its applications CANNOT run on the data"),
        None => None,
    };
    if let Some(data) = data {
        row("data", data);
    }
    if !version.kept_data.is_empty() {
        row("kept data", &version.kept_data.join(", "));
    }
    if version.back || version.ahead {
        let verb = if version.back { "rollback" } else { "forward" };
        row("history", &format!("'{verb}' goes here"));
    }
    lines.extend(columns(&rows));
    let mut rows = Vec::new();
    let mut row =
        |command: String, does: &str| rows.push(vec![format!("  {command}"), does.to_owned()]);
    let id = match version.id {
        0 => "factory".to_owned(),
        id => id.to_string(),
    };
    if version.usable && can_change(situation, rights) {
        match version.id {
            0 => row("reset system".to_owned(), "go back to it; data stays"),
            _ => {
                row(format!("rollback {id}"), "go back to it, for good");
                row(
                    format!("once {id}"),
                    "start a copy of it once; the next start returns",
                );
            }
        }
    }
    if version.is_there() {
        row(
            format!("diff {id}"),
            "files of the live system that differ from it",
        );
        row(format!("look {id}"), "its files, read-only");
    }
    lines.extend(columns(&rows));
    lines
}

/// The question after a plan.
pub fn asks(verb: Verb, stage: Stage) -> String {
    let word = command::word(verb);
    match stage {
        Stage::EarlyBoot => {
            format!("Type {word} and Enter to do this; anything else changes nothing.")
        }
        Stage::Running => {
            format!(
                "Type {word} and Enter to ask for this at the next start; anything else changes nothing."
            )
        }
    }
}

/// A path that differs.
pub fn changed(changed: &Changed) -> String {
    let sign = match changed.what {
        "added" => '+',
        "removed" => '-',
        _ => '*',
    };
    match changed.note.is_empty() {
        true => format!("{sign} {}", changed.path),
        false => format!("{sign} {}  ({})", changed.path, changed.note),
    }
}

/// What lies at a path.
pub fn look(look: &Look) -> Vec<String> {
    match look {
        Look::Directory { entries, .. } if entries.is_empty() => {
            vec!["(an empty directory)".to_owned()]
        }
        Look::Directory { entries, more } => {
            let mut lines = columns(&entries.iter().map(entry).collect::<Vec<_>>());
            if *more > 0 {
                lines.push(format!(
                    "(the directory goes on: {more} more are not shown)"
                ));
            }
            lines
        }
        Look::Text { lines, more } => {
            let mut lines = lines.clone();
            if *more {
                lines.push("(the file goes on)".to_owned());
            }
            lines
        }
        Look::Link(target) => vec![format!("a link to {target}")],
        Look::Other(what) => vec![format!("{what}: not shown")],
    }
}

fn entry(entry: &Entry) -> Vec<String> {
    let mark = match entry.kind {
        "directory" => "/",
        "link" => "@",
        "file" => "",
        _ => "=",
    };
    let size = entry.size.map_or(String::new(), size);
    vec![format!("{size:>10}"), format!("{}{mark}", entry.name)]
}
