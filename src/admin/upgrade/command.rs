//! What upgrades: the command that was given, or apt-get; run at the terminal, with its signals handed on.
//!
//! Nobody answers questions. dpkg keeps a configuration file that was changed (`--force-confold`; the packager's lies beside
//! it) and replaces one that was not (`--force-confdef` takes the default action where there is one).

use crate::sys::process::{self, Ended};
use crate::sys::{self, signals};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What every command finds in its environment.
pub const ENVIRONMENT: [(&str, &str); 2] = [
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("APT_LISTCHANGES_FRONTEND", "none"),
];
/// What package hooks can look at: `in-place`, or `staged`.
pub const MODE: &str = "BACKSTAY_UPGRADE";

/// How apt-get is told what to do about configuration files.
const CONFFILES: [&str; 4] = [
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    "Dpkg::Options::=--force-confold",
];
/// Between two looks at what is run.
const LOOK: Duration = Duration::from_millis(50);

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commands {
    /// All packages, by apt-get.
    Packages,
    /// A program and its arguments.
    Given(Vec<OsString>),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ran {
    /// It succeeded.
    Done,
    /// There was nothing to upgrade, and nothing was.
    Nothing,
    /// It failed, or was interrupted: why.
    Failed(String),
}

/// Whether a child has ended, and how; does not wait.
pub type Look<'a> = &'a mut dyn FnMut(i32) -> sys::Result<Option<Ended>>;

/// How commands are run.
pub struct Runner<'a> {
    /// Looks whether one has ended.
    pub look: Look<'a>,
    /// Standard output is somebody else's: what they print goes to standard error.
    pub quiet: bool,
    /// `in-place` or `staged`.
    pub mode: &'static str,
    /// What else they find in their environment.
    pub environment: &'a [(&'static str, String)],
}

impl Commands {
    /// By the arguments after `--`.
    pub fn of(arguments: &[OsString]) -> Commands {
        match arguments.is_empty() {
            true => Commands::Packages,
            false => Commands::Given(arguments.to_vec()),
        }
    }

    /// Looks whether there is anything to upgrade, where that can be known beforehand, and fetches it. [`Ran::Done`]: there is.
    pub fn prepare(&self, runner: &mut Runner<'_>) -> Ran {
        if let Commands::Given(_) = self {
            return Ran::Done;
        }
        match runner.run(&words(&["apt-get", "update"])) {
            Ran::Done => {}
            other => return other,
        }
        let simulated = runner
            .command(&words(&["apt-get", "--simulate", "full-upgrade"]))
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .and_then(std::process::Child::wait_with_output);
        match simulated {
            Ok(output) if !output.status.success() => Ran::Failed(format!(
                "apt-get --simulate full-upgrade: {}",
                output.status
            )),
            Ok(output) if !changes(&String::from_utf8_lossy(&output.stdout)) => Ran::Nothing,
            // What cannot be fetched fails before anything is begun.
            Ok(_) => runner.run(&words(&[
                "apt-get",
                "-y",
                "--download-only",
                "full-upgrade",
            ])),
            Err(error) => Ran::Failed(format!("apt-get --simulate full-upgrade: {error}")),
        }
    }

    /// Upgrades.
    pub fn run(&self, runner: &mut Runner<'_>) -> Ran {
        runner.run(&self.words())
    }

    /// The program that upgrades, and its arguments.
    pub fn words(&self) -> Vec<OsString> {
        match self {
            Commands::Given(given) => given.clone(),
            Commands::Packages => {
                let all = ["apt-get", "-y"].into_iter().chain(CONFFILES);
                all.chain(["full-upgrade"]).map(OsString::from).collect()
            }
        }
    }
}

impl core::fmt::Display for Commands {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if *self == Commands::Packages {
            f.write_str("apt-get update; ")?;
        }
        f.write_str(&shown(&self.words()))
    }
}

impl Runner<'_> {
    fn command(&self, words: &[OsString]) -> Command {
        let mut command = Command::new(words.first().cloned().unwrap_or_default());
        command
            .args(words.iter().skip(1))
            .envs(ENVIRONMENT)
            .env(MODE, self.mode)
            .envs(self.environment.iter().cloned());
        if self.quiet {
            command.stdout(std::io::stderr());
        }
        command
    }

    /// Runs one to its end.
    fn run(&mut self, words: &[OsString]) -> Ran {
        let name = shown(words);
        if let Some(caught) = signals::taken() {
            return Ran::Failed(format!("{name} was not begun (signal {})", caught.number));
        }
        // What was printed before comes before what it prints.
        std::io::stdout().flush().ok();
        let child = match self.command(words).spawn() {
            Ok(child) => child,
            Err(error) => return Ran::Failed(format!("{name} cannot be run: {error}")),
        };
        let ended = i32::try_from(child.id())
            .map_err(|error| error.to_string())
            .and_then(|pid| attend(pid, self.look).map_err(|error| error.to_string()));
        match ended {
            Err(why) => Ran::Failed(format!("nobody knows how {name} ended: {why}")),
            // Also one that went on to its end: somebody wanted it to stop.
            Ok((_, Some(signal))) => {
                Ran::Failed(format!("{name} was interrupted (signal {signal})"))
            }
            Ok((Ended::Exit(0), None)) => Ran::Done,
            Ok((ended, None)) => Ran::Failed(format!("{name} failed ({ended})")),
        }
    }
}

/// Waits for a child. A signal that came to this process alone is handed on to it. Gives how it ended, and the last signal
/// that asked it to.
///
/// # Errors
/// What waiting for it says.
pub fn attend(child: i32, look: Look<'_>) -> sys::Result<(Ended, Option<i32>)> {
    let mut asked = None;
    loop {
        if let Some(caught) = signals::taken() {
            asked = Some(caught.number);
            if caught.alone {
                // One that is gone is seen by the look.
                signals::send(child, caught.number).ok();
            }
        }
        match look(child)? {
            Some(ended) => return Ok((ended, asked)),
            None => std::thread::sleep(LOOK),
        }
    }
}

/// For [`Runner::look`]: this child alone.
///
/// # Errors
/// As [`process::has_ended`].
pub fn alone(child: i32) -> sys::Result<Option<Ended>> {
    process::has_ended(child)
}

/// dpkg's list of what is installed, below a root, and the directory of changes that are not in it yet (dpkg(1)).
const LIST: (&str, &str) = ("var/lib/dpkg/status", "var/lib/dpkg/updates");

impl Commands {
    /// Whether a command that failed has changed nothing that is installed, as far as it is known what it changes: dpkg notes
    /// what it is about to do before it does it. `before` and `now` are the system's roots.
    pub fn changed_nothing(&self, before: &Path, now: &Path) -> bool {
        let (list, pending) = LIST;
        let read = |root: &Path| std::fs::read(root.join(list)).ok();
        let is_empty = |root: &Path| {
            let mut names = std::fs::read_dir(root.join(pending)).into_iter().flatten();
            names.next().is_none()
        };
        *self == Commands::Packages
            && read(now).is_some_and(|text| read(before) == Some(text))
            && is_empty(before)
            && is_empty(now)
    }
}

/// Whether a simulation of apt-get names anything that would be done.
fn changes(simulation: &str) -> bool {
    let done = ["Inst ", "Conf ", "Remv ", "Purg "];
    let mut lines = simulation.lines();
    lines.any(|line| done.iter().any(|word| line.starts_with(word)))
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// As a person reads it: not for a shell.
fn shown(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{fork, wait_for};

    fn given(words: &[&str]) -> Commands {
        Commands::of(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn ran(commands: &Commands) -> Ran {
        commands.run(&mut Runner {
            look: &mut alone,
            quiet: true,
            mode: "in-place",
            environment: &[],
        })
    }

    fn sh(script: &str) -> Ran {
        ran(&given(&["sh", "-c", script]))
    }

    #[test]
    fn a_command_succeeds_or_says_how_it_failed() {
        assert_eq!(sh("exit 0"), Ran::Done);
        assert_eq!(
            sh("exit 7"),
            Ran::Failed("sh -c exit 7 failed (exit status 7)".into())
        );
        let killed = "kill -9 $$";
        assert_eq!(
            sh(killed),
            Ran::Failed(format!("sh -c {killed} failed (signal 9)"))
        );
        let Ran::Failed(why) = ran(&given(&["/no/such", "x"])) else {
            panic!("it ran");
        };
        assert!(why.starts_with("/no/such x cannot be run: "), "{why}");
    }

    #[test]
    fn it_finds_the_environment_that_asks_nobody() {
        let script = "test \"$DEBIAN_FRONTEND $APT_LISTCHANGES_FRONTEND $BACKSTAY_UPGRADE\" = \
                      \"noninteractive none in-place\"";
        assert_eq!(sh(script), Ran::Done);
    }

    /// In a process of its own: whoever runs the tests has other things to wait for.
    fn apart(script: &str, expected: &str) {
        let child = fork(|| {
            if signals::catch().is_err() {
                return 1;
            }
            match sh(script) {
                Ran::Failed(why) if why.ends_with(expected) => 0,
                _ => 2,
            }
        });
        assert_eq!(
            wait_for(child.unwrap()).unwrap(),
            Ended::Exit(0),
            "{script}"
        );
    }

    #[test]
    fn a_signal_is_handed_on_and_whatever_comes_of_it_is_a_failure() {
        // It would go on for a minute.
        let hangs = "kill -TERM $PPID; exec sleep 60";
        apart(hangs, "was interrupted (signal 15)");
        // It takes no notice, and succeeds.
        let deaf = "trap '' TERM; kill -TERM $PPID; sleep 1; exit 0";
        apart(deaf, "was interrupted (signal 15)");
        apart(
            "trap 'exit 3' INT; kill -INT $PPID; sleep 1; exit 0",
            "(signal 2)",
        );
    }

    #[test]
    fn without_a_command_all_packages_are_upgraded_and_changed_files_are_kept() {
        let all = Commands::of(&[]);
        assert_eq!(
            all.to_string(),
            "apt-get update; apt-get -y -o Dpkg::Options::=--force-confdef -o \
             Dpkg::Options::=--force-confold full-upgrade"
        );
        assert_eq!(given(&["dnf", "upgrade"]).to_string(), "dnf upgrade");
        // Nobody knows beforehand what another program would do.
        let mut runner = Runner {
            look: &mut |_| panic!("it was run"),
            quiet: true,
            mode: "in-place",
            environment: &[],
        };
        assert_eq!(given(&["false"]).prepare(&mut runner), Ran::Done);
    }

    #[test]
    fn nothing_was_changed_where_dpkg_has_noted_nothing() {
        let all = Commands::of(&[]);
        let roots = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [before, now] = [roots[0].path(), roots[1].path()];
        // Without a list nothing is known.
        assert!(!all.changed_nothing(before, now));
        for root in [before, now] {
            std::fs::create_dir_all(root.join("var/lib/dpkg/updates")).unwrap();
            std::fs::write(root.join("var/lib/dpkg/status"), "Package: bash\n").unwrap();
        }
        assert!(all.changed_nothing(before, now));
        assert!(!given(&["apt-get", "full-upgrade"]).changed_nothing(before, now));
        let noted = now.join("var/lib/dpkg/updates/0001");
        std::fs::write(&noted, "Status: half-installed\n").unwrap();
        assert!(!all.changed_nothing(before, now));
        std::fs::remove_file(noted).unwrap();
        std::fs::write(now.join("var/lib/dpkg/status"), "Package: bush\n").unwrap();
        assert!(!all.changed_nothing(before, now));
    }

    #[test]
    fn a_simulation_says_whether_there_is_anything_to_do() {
        let head = "NOTE: This is only a simulation!\nReading package lists...\n";
        let none =
            format!("{head}0 upgraded, 0 newly installed, 0 to remove and 2 not upgraded.\n");
        assert!(!changes(&none));
        for line in [
            "Inst bash [5.2-1] (5.2-2 Debian:13 [amd64])",
            "Conf half-configured (1 Debian:13 [amd64])",
            "Remv old [1]",
            "Purg old [1]",
        ] {
            assert!(changes(&format!("{none}{line}\n")), "{line}");
        }
    }
}
