//! What the menu works on: early boot, the running system, a model in tests.

use super::command::{Log, Way};
use super::versions::Version;
use crate::record::state::{Consent, Verb};
use crate::transaction::explain::Explanation;
use serde::Serialize;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

/// Where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before any root is mounted: a change is made at once.
    EarlyBoot,
    /// In the running system: a change is written down, and made at the next start.
    Running,
}

/// How things stand now. Each field that says what can be done is what the commands are offered by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Situation {
    /// Why the menu is open.
    pub why: Vec<String>,
    /// What is live; empty where that cannot be read.
    pub live: Vec<String>,
    /// What waits for a start, or for the mark that the system is good.
    pub waits: Vec<String>,
    /// Whether the snapshots can be read.
    pub readable: bool,
    /// Why nothing can be changed; absent: it can.
    pub unchangeable: Option<String>,
    /// The snapshot that a rollback goes to.
    pub back: Option<u32>,
    /// The snapshot that forward goes to.
    pub ahead: Option<u32>,
    /// Whether there is a config dataset.
    pub config: bool,
    /// Whether there is a data dataset.
    pub data: bool,
    /// Whether what is live can be started.
    pub starts: bool,
    /// Whether a hibernated system lies on the disk.
    pub hibernated: bool,
    /// Whether the disk can be mounted in another way from here.
    pub mounts: bool,
    /// Whether it lacks a device.
    pub degraded: bool,
    /// Why the policy of this machine counts for nothing. The session knows it, not the machine.
    pub policy: Option<String>,
}

/// A path that is not the same in two versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// `added`, `removed` or `changed` in the live system.
    pub what: &'static str,
    /// The path, from the root; what is not printable ASCII as `\xNN`.
    pub path: String,
    /// What of it: sizes, owner and mode; empty where there is nothing more to say.
    pub note: String,
}

impl Changed {
    /// Whether it is this path, or lies below it; without a name in it, everything does.
    pub fn is_below(&self, path: &str) -> bool {
        let names: Vec<&str> = path
            .split('/')
            .filter(|it| !matches!(*it, "" | "."))
            .collect();
        let rest = self.path.trim_start_matches('/');
        let rest = rest.strip_prefix(names.join("/").as_str());
        rest.is_some_and(|rest| names.is_empty() || rest.is_empty() || rest.starts_with('/'))
    }
}

/// What lies at a path of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// The beginning of a directory.
    Directory {
        /// What lies in it.
        entries: Vec<Entry>,
        /// How many more there are.
        more: usize,
    },
    /// The beginning of a file.
    Text {
        /// Its lines.
        lines: Vec<String>,
        /// Whether it goes on.
        more: bool,
    },
    /// A symbolic link, and where it leads.
    Link(String),
    /// Something that is not shown, in words.
    Other(String),
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its name; what is not printable ASCII as `\xNN`.
    pub name: String,
    /// `file`, `directory`, `link` or `other`.
    pub kind: &'static str,
    /// A file's size in bytes.
    pub size: Option<u64>,
}

/// Errors are for people: one line each, with what to do about it.
pub type Answer<T> = Result<T, String>;

/// What the menu works on.
pub trait Machine {
    /// Where it runs.
    fn stage(&self) -> Stage;

    /// How things stand now.
    fn situation(&mut self) -> Situation;

    /// The versions, newest first, the factory's last.
    fn versions(&mut self) -> Answer<Vec<Version>>;

    /// What a verb would do. Writes nothing, but that somebody tried it: a deletion that waits goes on only if nobody
    /// does.
    fn plan(&mut self, verb: Verb, consent: Consent) -> Answer<Explanation>;

    /// Does it, or asks for it at the next start, and says what comes next.
    fn carry_out(&mut self, verb: Verb, consent: Consent) -> Answer<String>;

    /// The paths that are not the same in a version (0: the factory's) and in the live system, in their order. An error
    /// where `path` lies in neither, or in what is not compared; others than those below it may come, too.
    fn compare(
        &mut self,
        version: u32,
        path: &str,
        found: &mut dyn FnMut(Changed) -> ControlFlow<()>,
    ) -> Answer<()>;

    /// What lies at a path of a version (0: the factory's; `None`: what is live), as far as everybody may read it there.
    fn look(&mut self, version: Option<u32>, path: &str) -> Answer<Look>;

    /// The disk, and how it is mounted, in lines.
    fn disk(&mut self) -> Vec<String>;

    /// Mounts it in another way; nothing else is done.
    fn mount(&mut self, way: Way) -> Answer<()>;

    /// A log's lines, oldest first.
    fn log(&mut self, which: Log) -> Answer<Vec<String>>;

    /// Gives the hibernated system up; the machine has to restart then.
    fn forget(&mut self) -> Answer<()>;

    /// Runs a shell on this terminal to its end; `meanwhile` is called now and then.
    fn shell(&mut self, terminal: &Path, meanwhile: &mut dyn FnMut()) -> Answer<()>;

    /// Writes down what a person did here, where what the agent said is kept.
    fn note(&mut self, line: &str);

    /// The time by a clock that does not go back, the same one for all menus of a start.
    fn now(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Duration::try_from(now).unwrap_or_default()
    }

    /// Lets this time pass.
    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}
