//! `cargo check-all --full` can be interrupted: what passed on guests is kept in a state file, and counts as
//! long as nothing has changed that they see: the built programs, and the files that make and drive the guests. A file of
//! stories counts for the stories in it, and for those that take steps of it. All other checks are done each time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::command::{target, workspace};
use super::{Tally, agent, quick};
use crate::accel::Accel;
use crate::emulator;
use crate::scenario::{GROUPS, Group, Machine, all};

/// What passed of a version.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// What it belongs to.
    version: String,
    /// Scenarios that passed.
    passed: BTreeMap<String, Passed>,
    /// Where this is kept.
    #[serde(skip)]
    file: PathBuf,
}

/// A scenario that passed.
#[derive(Debug, Serialize, Deserialize)]
struct Passed {
    /// How long it took.
    seconds: f32,
    /// A digest of its story.
    story: String,
}

/// What guests do not see. Of what the programs are built from they see the programs.
const UNSEEN: &str = "src tests examples fuzz kernel-cmdline initramfs-hooks/src initramfs-hooks/tests docs README.md \
    LICENSE-APACHE LICENSE-MIT .ci .gitignore Cargo.lock clippy.toml deny.toml rustfmt.toml qemu-tests/examples \
    qemu-tests/src/bin qemu-tests/src/check qemu-tests/src/crash qemu-tests/src/demo qemu-tests/src/tarball";

/// What single files of stories build or read of that.
const SEEN_BY: [(&str, &str); 5] = [
    (
        "btrfs",
        "src tests/btrfs kernel-cmdline initramfs-hooks/src Cargo.lock",
    ),
    (
        "fault",
        "src examples/stop_at.rs kernel-cmdline initramfs-hooks/src Cargo.lock",
    ),
    ("kernel", "kernel-cmdline Cargo.lock"),
    ("stock", "README.md"),
    ("grub_password", "docs/grub.md"),
];

/// A digest of what a scenario's group does; that of nothing for one that is not there.
fn story(name: &str) -> String {
    let group = GROUPS
        .iter()
        .find(|group| group.scenarios.iter().any(|it| it.name == name));
    let texts = group.map(Group::texts).unwrap_or_default();
    let mut digest = Sha256::new();
    digest.update(texts.concat());
    let sees = seen_by(&texts);
    if !sees.is_empty() {
        digest.update(quick::files_of(workspace(), &sees));
    }
    hex(digest.finalize().as_ref())
}

/// What these files of stories see of [`UNSEEN`].
fn seen_by(texts: &[&str]) -> Vec<String> {
    let there = |story: &str| {
        let mut stories = GROUPS.iter().map(|group| group.story);
        stories.any(|(name, text)| name == story && texts.contains(&text))
    };
    let paths = SEEN_BY.iter().filter(|(story, _)| there(story));
    let paths = paths.flat_map(|(_, paths)| paths.split(' '));
    paths.map(str::to_owned).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl State {
    /// What is known of `version` in the target directory; nothing where that is missing, garbled or of
    /// another version.
    #[must_use]
    pub fn load(version: &str) -> Self {
        Self::load_from(target().join("check-all/full.json"), version)
    }

    fn load_from(file: PathBuf, version: &str) -> Self {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let passed = match serde_json::from_str::<Self>(&text) {
            Ok(state) if state.version == version => state.passed,
            _ => BTreeMap::new(),
        };
        Self {
            version: version.to_owned(),
            passed,
            file,
        }
    }

    /// Whether a scenario passed before.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let known = self.passed.get(name);
        known.is_some_and(|passed| passed.story == story(name))
    }

    /// Keeps that a scenario passed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&mut self, name: &str, took: Duration) -> Result<()> {
        let passed = Passed {
            seconds: took.as_secs_f32(),
            story: story(name),
        };
        self.passed.insert(name.to_owned(), passed);
        let new = self.file.with_extension("new");
        fs::write(&new, serde_json::to_string_pretty(self)?)
            .and_then(|()| fs::rename(&new, &self.file))
            .with_context(|| format!("write {}", self.file.display()))
    }
}

/// The version that results belong to: a digest of what all guests see.
///
/// # Errors
/// When a program was not built.
pub fn version() -> Result<String> {
    version_of(workspace(), &agent::BINARIES.map(agent::path))
}

fn version_of(tree: &Path, programs: &[PathBuf]) -> Result<String> {
    let mut digest = Sha256::new();
    digest.update(quick::files_of(tree, &quick::without(UNSEEN)));
    for path in programs {
        digest.update(fs::read(path).with_context(|| format!("read {}", path.display()))?);
    }
    Ok(hex(digest.finalize().as_ref()))
}

/// The first line that a command prints, for a report.
#[must_use]
pub fn said(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command)
        .args(arguments)
        .current_dir(workspace())
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let text = text.unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

/// Writes docs/check-report.md.
///
/// # Errors
/// When it cannot be written.
pub fn report(tally: &Tally, state: &State, accel: Accel) -> Result<PathBuf> {
    let mut text = String::from("# Report of `cargo check-all --full`\n\n| | |\n|---|---|\n");
    for (what, value) in [
        ("date", said("date", &["--utc", "+%Y-%m-%d %H:%M UTC"])),
        ("commit", said("git", &["log", "-1", "--format=%H %s"])),
        ("host", said("uname", &["-srm"])),
        ("QEMU", emulator::version()),
        ("guests run by", accel.name().to_owned()),
        ("Rust", said("rustc", &["--version"])),
        (
            "result",
            crate::report::counts(tally.passed, tally.failed.len()),
        ),
    ] {
        let _ = writeln!(text, "| {what} | {value} |");
    }
    text.push_str("\n## Checks\n\n| check | seconds |\n|---|---:|\n");
    for (name, took) in &tally.times {
        let _ = writeln!(text, "| {name} | {:.0} |", took.as_secs_f32());
    }
    text.push_str(
        "\n## Scenarios\n\nOn these programs, in this run or in one before it. D: on the real Debian.\n\n\
         | scenario | | seconds |\n|---|---|---:|\n",
    );
    for (_, scenario) in all() {
        let mark = if scenario.machine == Machine::Debian {
            "D"
        } else {
            ""
        };
        let time = match state.passed.get(scenario.name) {
            Some(passed) if state.has(scenario.name) => format!("{:.0}", passed.seconds),
            _ => "**not passed**".to_owned(),
        };
        let _ = writeln!(text, "| {} | {mark} | {time} |", scenario.name);
    }
    for (title, list) in [("Failed", &tally.failed), ("Not run", &tally.not_run)] {
        if !list.is_empty() {
            let _ = write!(text, "\n## {title}\n\n");
            for line in list {
                let _ = writeln!(text, "- {line}");
            }
        }
    }
    let path = workspace().join("docs/check-report.md");
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_counts_for_its_own_version_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("full.json");
        let mut state = State::load_from(file.clone(), "one");
        assert!(!state.has("boots-live"));
        assert_ne!(story("boots-live"), story("rollback-previous"));
        state.keep("boots-live", Duration::from_secs(3)).unwrap();
        assert!(State::load_from(file.clone(), "one").has("boots-live"));
        assert!(!State::load_from(file.clone(), "two").has("boots-live"));
        state
            .keep("rollback-previous", Duration::from_secs(3))
            .unwrap();
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace(&story("boots-live"), "another")).unwrap();
        let state = State::load_from(file.clone(), "one");
        assert!(!state.has("boots-live") && state.has("rollback-previous"));
        fs::write(&file, "{ garbled").unwrap();
        assert!(!State::load_from(file, "one").has("boots-live"));
    }

    #[test]
    fn a_version_is_what_all_guests_see() {
        let scratch = tempfile::tempdir().unwrap();
        let (tree, program) = (scratch.path().join("tree"), scratch.path().join("program"));
        let git = |arguments: &[&str]| {
            assert!(
                quick::git_at(&tree)
                    .args(arguments)
                    .status()
                    .unwrap()
                    .success()
            );
        };
        let write = |name: &str| {
            let path = tree.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "changed").unwrap();
            git(&["add", "--all"]);
        };
        let version = || version_of(&tree, std::slice::from_ref(&program)).unwrap();
        fs::create_dir(&tree).unwrap();
        git(&["init", "--quiet"]);
        fs::write(&program, "built").unwrap();
        let mut before = version();
        let unseen = "tests/worker.rs examples/man.rs src/lib.rs docs/design.md \
            qemu-tests/src/crash/act.rs qemu-tests/src/scenario/fence.rs";
        for name in unseen.split(' ') {
            write(name);
            assert_eq!(version(), before, "{name}");
        }
        let seen = "qemu-tests/src/scenario/steps.rs qemu-tests/images/tiny/init packaging/postinst \
            initramfs-hooks/initramfs-tools/hook grub-entries/menu.cfg systemd/a.service Cargo.toml";
        for name in seen.split(' ') {
            write(name);
            assert_ne!(version(), before, "{name}");
            before = version();
        }
        fs::write(&program, "built anew").unwrap();
        assert_ne!(version(), before);
    }

    #[test]
    fn no_story_sees_more_than_is_counted() {
        for (name, text) in GROUPS.iter().map(|group| group.story) {
            let own = seen_by(&[text]);
            for rest in text.split("(\"../../../").skip(1) {
                let path = rest.split('"').next().unwrap();
                let unseen = UNSEEN.split(' ').any(|it| Path::new(path).starts_with(it));
                assert!(!unseen || own.contains(&path.to_owned()), "{name}: {path}");
            }
            let of_others = ["check", "crash", "demo", "tarball"];
            let uses = |module: &&str| text.contains(&format!("crate::{module}::"));
            assert_eq!(of_others.iter().find(|module| uses(module)), None, "{name}");
            let builds = text.contains("(\"CARGO\")");
            assert!(
                !builds || !own.is_empty(),
                "{name} builds what is not counted"
            );
        }
    }
}
