//! Checks that need no virtual machine.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::command::{Ran, cargo, run, workspace};
use super::{Failed, Tally, dependencies};
use crate::scenario::GROUPS;

/// Time for anything that may first have to build the workspace.
const BUILD: Duration = Duration::from_secs(1200);

/// All of them.
pub fn check(tally: &mut Tally) {
    tally.check("formatting (cargo fmt --check)", || {
        passes("fmt", cargo(&["fmt", "--all", "--check"]))
    });
    tally.check("lints (cargo clippy, warnings are errors)", || {
        let arguments = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ];
        passes("clippy", cargo(&arguments))
    });
    // `--all-targets` leaves out tests that `cargo test` does not run.
    tally.check("lints of the checks that need root or a guest", || {
        let arguments = [
            "clippy", "-p", "backstay", "--test", "btrfs", "--test", "image", "--locked", "--",
            "-D", "warnings",
        ];
        passes("clippy-root", cargo(&arguments))
    });
    tally.check("quick tests (cargo test --workspace)", tests);
    dependencies::check(tally);
}

fn passes(name: &str, command: Command) -> Result<usize, Failed> {
    run(name, command, BUILD)?.succeeded()?;
    Ok(1)
}

/// The workspace's tests, counted one by one.
fn tests() -> Result<usize, Failed> {
    let ran = run(
        "test",
        cargo(&["test", "--workspace", "--no-fail-fast", "--locked"]),
        BUILD,
    )?;
    let (passed, failed) = count_tests(&ran.output);
    println!("  {passed} tests passed, {} failed", failed.len());
    if ran.status.success() && failed.is_empty() && passed > 0 {
        return Ok(passed);
    }
    Err(Failed {
        passed,
        failed,
        why: explain(&ran),
    })
}

/// The tests that passed, and the names of those that failed, from what `cargo test` printed.
fn count_tests(output: &str) -> (usize, Vec<String>) {
    let mut passed = 0;
    let mut failed = Vec::new();
    for line in output.lines() {
        let Some(test) = line.strip_prefix("test ") else {
            continue;
        };
        if test.ends_with("... ok") {
            passed += 1;
        } else if let Some((name, _)) = test.split_once(" ... FAILED") {
            failed.push(name.to_owned());
        }
    }
    (passed, failed)
}

/// The part of the output that says what failed, else its end.
fn explain(ran: &Ran) -> String {
    match ran.output.find("\nfailures:\n") {
        Some(at) => {
            let shown = ran.output[at..].lines().take(120);
            let shown: String = shown.map(|line| format!("    | {line}\n")).collect();
            shown + &format!("  all of it: {}", ran.log.display())
        }
        None => ran.tail(60),
    }
}

/// A list of the files of this version with their contents' digests, without docs/ and the stories, and what was
/// changed since. Empty where there is no git.
#[must_use]
pub fn files() -> String {
    files_of(workspace(), &without("docs"))
}

/// What leaves the stories and these paths out of [`files_of`].
#[must_use]
pub fn without(paths: &str) -> Vec<String> {
    let stories = GROUPS.iter().map(|group| group.story.0);
    let stories = stories.map(|name| format!(":!qemu-tests/src/scenario/{name}.rs"));
    let paths = paths.split(' ').map(|path| format!(":!{path}"));
    stories.chain(paths).collect()
}

/// The same list of a git working tree, of what these pathspecs choose.
#[must_use]
pub fn files_of(tree: &Path, chosen: &[String]) -> String {
    let list = |arguments: [&str; 2]| text(git_at(tree).args(arguments).arg("--").args(chosen));
    list(["ls-files", "-s"]) + &list(["diff", "HEAD"])
}

/// A seed that is another one each day and for each commit.
#[must_use]
pub fn seed() -> u64 {
    let commit = git(&["rev-parse", "HEAD"]);
    let commit = commit
        .get(..8)
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    (commit.unwrap_or(0) + now.as_secs() / 86_400) % 1_000_000
}

fn git(arguments: &[&str]) -> String {
    text(git_at(workspace()).args(arguments))
}

/// git in this directory, also where a hook of another tree runs this.
pub(super) fn git_at(tree: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(tree)
        .env_remove("GIT_DIR")
        .env_remove("GIT_INDEX_FILE");
    git
}

fn text(command: &mut Command) -> String {
    command
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_by_their_own_lines() {
        let output = "running 3 tests\ntest a::b ... ok\ntest c ... FAILED\ntest d - should panic ... ok\n\
                      test src/lib.rs - x (line 3) ... ok\ntest result: FAILED. 9 passed; 1 failed\n";
        assert_eq!(count_tests(output), (3, vec!["c".to_owned()]));
    }
}
