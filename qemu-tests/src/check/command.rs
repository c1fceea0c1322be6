//! Running the tools that check: what they print goes to a log, and who waits hears every half
//! minute that something is going on, and what.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How often somebody who waits hears something.
const PROGRESS: Duration = Duration::from_secs(25);

/// The workspace's root.
#[must_use]
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where logs and states are kept: cargo's target directory.
#[must_use]
pub fn target() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty());
    named.map_or_else(
        || workspace().join("target"),
        |target| workspace().join(target),
    )
}

/// The cargo that runs this, with `arguments`, in the workspace.
#[must_use]
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace());
    command
}

/// A command that has ended.
pub struct Ran {
    /// How.
    pub status: ExitStatus,
    /// All it printed.
    pub output: String,
    /// Where that is.
    pub log: PathBuf,
}

impl Ran {
    /// The last `count` lines it printed.
    #[must_use]
    pub fn tail(&self, count: usize) -> String {
        let lines: Vec<&str> = self.output.lines().collect();
        let from = lines.len().saturating_sub(count);
        let shown = lines
            .iter()
            .skip(from)
            .map(|line| format!("    | {line}\n"));
        shown.collect::<String>() + &format!("  all of it: {}", self.log.display())
    }

    /// Nothing, or the end of what it printed.
    ///
    /// # Errors
    /// When it failed.
    pub fn succeeded(self) -> Result<Self> {
        if !self.status.success() {
            bail!("it ended with {}:\n{}", self.status, self.tail(60));
        }
        Ok(self)
    }
}

/// Runs `command` to its end. Its output is in `NAME.log` in the target directory's `check-all`.
///
/// # Errors
/// When it cannot be started, or takes longer than `limit` (then it is killed).
pub fn run(name: &str, mut command: Command, limit: Duration) -> Result<Ran> {
    let directory = target().join("check-all");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let log = directory.join(format!("{name}.log"));
    let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    let mut child = command
        .spawn()
        .with_context(|| format!("run {command:?}"))?;
    let begun = Instant::now();
    let mut said = begun;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!(
                "{name} took longer than {} s; its log is {}",
                limit.as_secs(),
                log.display()
            );
        }
        if said.elapsed() > PROGRESS {
            said = Instant::now();
            let last = fs::read(&log)
                .map(|text| last_line(&text))
                .unwrap_or_default();
            println!("  ... {name} ({} s) {last}", begun.elapsed().as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let output = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    Ok(Ran {
        status,
        output,
        log,
    })
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines()
        .last()
        .unwrap_or_default()
        .trim()
        .chars()
        .take(100)
        .collect()
}
