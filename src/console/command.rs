//! What a person types in the menu, as data.

use crate::record::state::{Consent, Verb};

/// A line that was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Nothing but Enter, or `menu`: the first screen again.
    Top,
    /// All commands.
    Help,
    /// The versions.
    List,
    /// One version; 0 is the factory's.
    Show(u32),
    /// Files that differ from the live system, all or below a path.
    Diff(u32, String),
    /// A directory or a file of a version; `None`: of the live system.
    Look(Option<u32>, String),
    /// A change of what boots, and what is agreed to about the data.
    Change(Verb, Consent),
    /// What the disk is and how it is mounted.
    Disk,
    /// The same, mounted in another way.
    Mount(Way),
    /// What the agent said, or the kernel.
    Log(Log),
    /// Give the hibernated system up.
    Forget,
    /// A shell.
    Shell,
    /// Start the live system; in the running system: leave the menu.
    Boot,
    /// Restart.
    Reboot,
    /// Switch off.
    PowerOff,
    /// Anything else.
    Unknown(Unknown),
}

/// Why a line is none of the commands: one line, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// No such word.
    Word(String),
    /// The word is right, what follows it is not: how it is written.
    Form(&'static str),
}

/// A way to mount the disk, named by what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As at every start.
    Again,
    /// Read-only.
    ReadOnly,
    /// Read-only, without replaying the log.
    NoReplay,
    /// Read-only, from an older copy of the tree's root.
    BackupRoot,
    /// Without the devices that are missing.
    Degraded,
}

/// All ways, with their words and what each means for the data.
pub const WAYS: [(Way, &str, &str); 5] = [
    (Way::Again, "again", "the usual way once more"),
    (
        Way::ReadOnly,
        "ro",
        "read-only; only the file system's log is replayed",
    ),
    (
        Way::NoReplay,
        "noreplay",
        "read-only, no write at all; the last seconds may be missing",
    ),
    (
        Way::BackupRoot,
        "backup",
        "read-only, by an older root; the last minute may be missing",
    ),
    (
        Way::Degraded,
        "degraded",
        "without what is missing, for a mirror that lost a disk",
    ),
];

/// A log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// What the agent said at this start.
    Agent,
    /// What was done to this disk, start by start.
    Store,
    /// The kernel's messages.
    Kernel,
}

const RESET: &str =
    "reset config | reset config,data | reset system | reset system keep=config | reset everything";

/// Reads a line.
pub fn read(line: &str) -> Command {
    let words: Vec<&str> = line.split_whitespace().collect();
    let form = |text| Command::Unknown(Unknown::Form(text));
    match words.as_slice() {
        [] | ["menu"] => Command::Top,
        ["help" | "?" | "h"] => Command::Help,
        ["list" | "ls" | "l"] => Command::List,
        ["show", id] => version(id).map_or(form("show N"), Command::Show),
        ["show", ..] => form("show N, with a number that 'list' gives"),
        ["diff", id] => version(id).map_or(form(DIFF), |id| Command::Diff(id, String::new())),
        ["diff", id, ..] => {
            version(id).map_or(form(DIFF), |id| Command::Diff(id, rest(line, 2).to_owned()))
        }
        ["diff"] => form(DIFF),
        ["look"] => form(LOOK),
        ["look", "live", ..] => Command::Look(None, rest(line, 2).to_owned()),
        ["look", id, ..] => version(id).map_or(form(LOOK), |id| {
            Command::Look(Some(id), rest(line, 2).to_owned())
        }),
        ["once" | "select", id] => snapshot(id).map_or(form(ONCE), |id| change(Verb::Select(id))),
        ["once" | "select", ..] => form(ONCE),
        ["rollback" | "forward" | "reset", ..] => agreed(&words),
        ["disk"] => Command::Disk,
        ["disk", way] => match WAYS.iter().find(|(_, word, _)| word == way) {
            Some((way, ..)) => Command::Mount(*way),
            None => form("disk again | disk ro | disk noreplay | disk backup | disk degraded"),
        },
        ["log"] => Command::Log(Log::Agent),
        ["log", "kernel"] => Command::Log(Log::Kernel),
        ["log", "disk"] => Command::Log(Log::Store),
        ["log", ..] => form("log | log disk | log kernel"),
        ["FORGET"] => Command::Forget,
        ["shell" | "sh"] => Command::Shell,
        ["boot" | "exit" | "quit" | "q"] => Command::Boot,
        ["reboot"] => Command::Reboot,
        ["poweroff"] => Command::PowerOff,
        [word, ..] => Command::Unknown(Unknown::Word((*word).to_owned())),
    }
}

const ONCE: &str = "once N, with a number that 'list' gives";
const ROLLBACK: &str = "rollback, or rollback N with a number that 'list' gives";
const FORWARD: &str = "forward, with nothing but fence=convert or fence=restore after it";
const DIFF: &str = "diff N, or diff N PATH";
const LOOK: &str = "look N PATH, or look live PATH";

fn change(verb: Verb) -> Command {
    Command::Change(verb, Consent::Refuse)
}

/// A change that what is agreed to may follow, as the last word.
fn agreed(words: &[&str]) -> Command {
    let fence = |word: &&str| {
        let said = word.strip_prefix("fence=")?;
        Consent::ALL.into_iter().find(|it| it.word() == said)
    };
    let (words, consent) = match words.split_last() {
        Some((last, rest)) => match fence(last) {
            Some(consent) => (rest, consent),
            None => (words, Consent::Refuse),
        },
        None => (words, Consent::Refuse),
    };
    let (verb, form) = match words {
        ["rollback"] => (Some(Verb::Rollback(None)), ROLLBACK),
        ["rollback", id] => (snapshot(id).map(|id| Verb::Rollback(Some(id))), ROLLBACK),
        ["rollback", ..] => (None, ROLLBACK),
        ["forward"] => (Some(Verb::Forward), FORWARD),
        ["forward", ..] => (None, FORWARD),
        [_, what @ ..] => (reset(what), RESET),
        [] => (None, RESET),
    };
    match verb {
        // It keeps its version, and its data or none.
        Some(Verb::ResetConfig { .. }) if consent != Consent::Refuse => {
            Command::Unknown(Unknown::Form(RESET))
        }
        Some(verb) => Command::Change(verb, consent),
        None => Command::Unknown(Unknown::Form(form)),
    }
}

fn reset(what: &[&str]) -> Option<Verb> {
    Some(match what {
        ["config"] => Verb::ResetConfig { data: false },
        ["config,data"] => Verb::ResetConfig { data: true },
        ["system"] => Verb::ResetSystem { keep_config: false },
        ["system", "keep=config"] => Verb::ResetSystem { keep_config: true },
        ["everything"] => Verb::ResetEverything,
        _ => return None,
    })
}

fn snapshot(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id > 0)
}

fn version(text: &str) -> Option<u32> {
    match text {
        "factory" | "0" => Some(0),
        _ => snapshot(text),
    }
}

/// What follows the first words, with the blanks in it.
fn rest(line: &str, words: usize) -> &str {
    let mut rest = line.trim();
    for _ in 0..words {
        rest = rest.split_once(char::is_whitespace).map_or("", |it| it.1);
        rest = rest.trim_start();
    }
    rest
}

/// The word that a person types so that it is done.
pub fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Rollback(_) => "ROLLBACK",
        Verb::Forward => "FORWARD",
        Verb::Select(_) => "ONCE",
        Verb::ResetConfig { data: false } | Verb::ResetSystem { .. } => "RESET",
        Verb::ResetConfig { data: true } => "RESET DATA",
        Verb::ResetEverything => "RESET EVERYTHING",
        Verb::Convert => "CONVERT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_a_person_types_them() {
        let text = str::to_owned;
        for (line, want) in [
            ("", Command::Top),
            ("  boot ", Command::Boot),
            ("show 12", Command::Show(12)),
            ("show factory", Command::Show(0)),
            ("diff 2", Command::Diff(2, text(""))),
            ("diff 2  /etc/a b", Command::Diff(2, text("/etc/a b"))),
            ("look live /etc", Command::Look(None, text("/etc"))),
            ("look factory", Command::Look(Some(0), text(""))),
            ("rollback", change(Verb::Rollback(None))),
            ("rollback 12", change(Verb::Rollback(Some(12)))),
            ("once 3", change(Verb::Select(3))),
            ("select 3", change(Verb::Select(3))),
            ("forward", change(Verb::Forward)),
            ("reset config", change(Verb::ResetConfig { data: false })),
            (
                "reset config,data",
                change(Verb::ResetConfig { data: true }),
            ),
            (
                "reset system keep=config",
                change(Verb::ResetSystem { keep_config: true }),
            ),
            ("reset everything", change(Verb::ResetEverything)),
            (
                "rollback fence=refuse",
                Command::Change(Verb::Rollback(None), Consent::Refuse),
            ),
            (
                "rollback 12 fence=restore",
                Command::Change(Verb::Rollback(Some(12)), Consent::Restore),
            ),
            (
                "forward fence=convert",
                Command::Change(Verb::Forward, Consent::Convert),
            ),
            (
                "reset system keep=config fence=convert",
                Command::Change(Verb::ResetSystem { keep_config: true }, Consent::Convert),
            ),
            ("disk noreplay", Command::Mount(Way::NoReplay)),
            ("log kernel", Command::Log(Log::Kernel)),
            ("FORGET", Command::Forget),
        ] {
            assert_eq!(read(line), want, "{line}");
        }
    }

    #[test]
    fn whatever_is_not_exactly_a_command_changes_nothing_and_says_how_it_is_written() {
        for line in [
            "rollback 0",
            "rollback twelve",
            "rollback +1",
            "rollback 1 2",
            "once",
            "once 0",
            "reset",
            "reset all",
            "reset system keep",
            "reset config data",
            "reset config fence=convert",
            "reset fence=convert",
            "rollback fence=yes",
            "rollback fence=convert 12",
            "rollback 12 fence=convert fence=restore",
            "forward 12",
            "once 12 fence=convert",
            "disk fix",
            "diff",
            "look",
            "log x",
        ] {
            let Command::Unknown(Unknown::Form(form)) = read(line) else {
                panic!("{line}: {:?}", read(line));
            };
            assert!(form.starts_with(line.split(' ').next().unwrap()), "{form}");
        }
        for line in ["rm -rf /", "ROLLBACK", "forget", "Boot"] {
            assert!(
                matches!(read(line), Command::Unknown(Unknown::Word(_))),
                "{line}"
            );
        }
    }
}
