//! Health checks: what a machine's owner wants to hold before a system is marked good.
//!
//! Executables in `/etc/backstay/health.d/required` and `…/wanted`, run one after another in the order of
//! their names, as root, with nothing on standard input. One that ends with another status than 0, or not
//! within its time, has failed. A required one that fails keeps the system from being marked good; a wanted
//! one is reported. What is no executable file is no check, and is said.

use super::error::{Error, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Serialize;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where they lie.
pub const DIRECTORY: &str = "/etc/backstay/health.d";
/// A check's time. systemd gives a service 90 s to start; a check looks at what has started.
pub const LIMIT: Duration = Duration::from_secs(60);
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How often a check that runs is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How a check ended. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Its file's name.
    pub name: String,
    /// Whether a failure keeps the system from being marked good.
    pub required: bool,
    /// Why it failed; `None` when it held.
    pub failed: Option<String>,
}

/// Runs all of them. `say` gets a line for each.
pub fn run(directory: &Path, limit: Duration, say: &mut dyn FnMut(&str)) -> Result<Vec<Checked>> {
    let mut all = Vec::new();
    for (kind, required) in [("required", true), ("wanted", false)] {
        for path in files(&directory.join(kind), say)? {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            // A link to nothing is a check that was lost: it cannot be run, and so has failed.
            if path.exists() && !is_executable(&path) {
                say(&format!(
                    "{kind} check {name}: not run, it is no executable file"
                ));
                continue;
            }
            let failed = check(&path, limit);
            match &failed {
                None => say(&format!("{kind} check {name}: good")),
                Some(why) => say(&format!("{kind} check {name}: FAILED, {why}")),
            }
            all.push(Checked {
                name,
                required,
                failed,
            });
        }
    }
    Ok(all)
}

/// The first required check that failed.
pub fn first_failure(checked: &[Checked]) -> Option<&Checked> {
    checked
        .iter()
        .find(|check| check.required && check.failed.is_some())
}

/// What lies in a directory, sorted; hidden files and what editors leave are none.
fn files(directory: &Path, say: &mut dyn FnMut(&str)) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        // No reason to leave a system that has come up.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            say(&format!(
                "{}: no directory, so no check is in it",
                directory.display()
            ));
            return Ok(Vec::new());
        }
        Err(error) => return Err(Error::file("reading", directory)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::file("reading", directory))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with('.') && !name.ends_with('~') {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

/// Runs one; why it failed.
fn check(path: &Path, limit: Duration) -> Option<String> {
    // A group of its own: what it started ends with it.
    let started = Command::new(path)
        .stdin(Stdio::null())
        // Standard output is the command's own.
        .stdout(std::io::stderr())
        .process_group(0)
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return Some(format!("it cannot be run: {error}")),
    };
    let waited = wait(&mut child, limit);
    if matches!(waited, Ok(Some(_))) {
        // What it left behind in its group.
        kill(&child, Signal::SIGKILL);
    }
    match waited {
        Ok(Some(status)) if status.success() => None,
        Ok(Some(status)) => Some(match (status.code(), status.signal()) {
            (Some(code), _) => format!("it ended with status {code}"),
            (None, signal) => format!("it was ended by signal {}", signal.unwrap_or(0)),
        }),
        Ok(None) => {
            end(&mut child);
            Some(format!("it took longer than {} s", limit.as_secs()))
        }
        Err(error) => {
            end(&mut child);
            Some(format!("nobody knows how it ended: {error}"))
        }
    }
}

fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() >= limit {
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

/// To all of a check's group; whoever ended meanwhile is not there any more.
fn kill(child: &Child, signal: Signal) {
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(group), signal);
    }
}

/// Ends a check and what it started.
fn end(child: &mut Child) {
    for (signal, time) in [(Signal::SIGTERM, GRACE), (Signal::SIGKILL, GRACE)] {
        kill(child, signal);
        if matches!(wait(child, time), Ok(Some(_))) && signal == Signal::SIGKILL {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(directory: &Path, name: &str, text: &str, mode: u32) {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn checked(directory: &Path, limit: Duration) -> Vec<(String, bool, Option<String>)> {
        let all = run(directory, limit, &mut |_| {}).unwrap();
        all.into_iter()
            .map(|it| (it.name, it.required, it.failed))
            .collect()
    }

    #[test]
    fn checks_run_in_order_and_each_failure_has_its_reason() {
        let here = tempfile::tempdir().unwrap();
        let order = here.path().join("order");
        let note = |name: &str| format!("#!/bin/sh\necho {name} >> {}\n", order.display());
        put(
            here.path(),
            "required/20-bad",
            &(note("b") + "exit 3\n"),
            0o755,
        );
        put(here.path(), "required/10-good", &note("a"), 0o755);
        put(
            here.path(),
            "wanted/10-killed",
            &(note("c") + "kill -9 $$\n"),
            0o755,
        );
        put(here.path(), "required/README", "no check", 0o644);
        put(
            here.path(),
            "required/.hidden",
            "#!/bin/sh\nexit 1\n",
            0o755,
        );
        let found = checked(here.path(), LIMIT);
        let why = |text: &str| Some(text.to_owned());
        assert_eq!(
            found,
            [
                ("10-good".to_owned(), true, None),
                ("20-bad".to_owned(), true, why("it ended with status 3")),
                (
                    "10-killed".to_owned(),
                    false,
                    why("it was ended by signal 9")
                ),
            ]
        );
        assert_eq!(std::fs::read_to_string(order).unwrap(), "a\nb\nc\n");
        let all = run(here.path(), LIMIT, &mut |_| {}).unwrap();
        assert_eq!(first_failure(&all).unwrap().name, "20-bad");
    }

    #[test]
    fn one_that_takes_too_long_is_ended_with_what_it_started() {
        let here = tempfile::tempdir().unwrap();
        let left = here.path().join("left");
        let script = format!(
            "#!/bin/sh\n(sleep 8; touch {}) &\nsleep 30\n",
            left.display()
        );
        put(here.path(), "required/slow", &script, 0o755);
        let begun = Instant::now();
        let found = checked(here.path(), Duration::from_secs(1));
        assert_eq!(found[0].2.as_deref(), Some("it took longer than 1 s"));
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_secs(1));
        assert!(!left.exists());
    }

    #[test]
    fn a_link_to_nothing_has_failed_and_what_a_good_check_started_ends_with_it() {
        let here = tempfile::tempdir().unwrap();
        let left = here.path().join("left");
        let script = format!("#!/bin/sh\n(sleep 1; touch {}) &\n", left.display());
        put(here.path(), "required/forks", &script, 0o755);
        std::os::unix::fs::symlink("/no/such", here.path().join("required/lost")).unwrap();
        let found = checked(here.path(), LIMIT);
        assert_eq!(found[0].2, None);
        assert!(
            found[1]
                .2
                .as_deref()
                .is_some_and(|why| why.contains("cannot be run"))
        );
        std::thread::sleep(Duration::from_secs(2));
        assert!(!left.exists());
    }

    #[test]
    fn no_directory_is_no_check() {
        let here = tempfile::tempdir().unwrap();
        assert_eq!(checked(here.path(), LIMIT), []);
    }
}
