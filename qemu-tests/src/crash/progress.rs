//! `cargo crash --all` can be interrupted: what was played to its end, verb by verb, is kept, and counts as
//! long as sources, seed and number of states are the same.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::boots::Booted;
use super::run::{Choice, Tally};
use crate::check::command::target;
use crate::check::quick;

/// The verbs that are done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Progress {
    version: String,
    choice: Choice,
    /// Their books, in the order they ended.
    pub done: Vec<Tally>,
    /// The books of what was started for real.
    pub started: Vec<Booted>,
    #[serde(skip)]
    file: PathBuf,
}

impl Progress {
    /// What is known of these sources. A choice that was not made by hand is that of the run before.
    #[must_use]
    pub fn load(choice: Choice, seed_given: bool) -> Self {
        let digest = Sha256::digest(quick::files());
        let version: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::load_from(
            target().join("crash/all.json"),
            &version,
            choice,
            seed_given,
        )
    }

    fn load_from(file: PathBuf, version: &str, choice: Choice, seed_given: bool) -> Self {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let same = |found: &Progress| {
            found.version == version
                && found.choice.states == choice.states
                && (!seed_given || found.choice.seed == choice.seed)
        };
        match serde_json::from_str::<Self>(&text) {
            Ok(found) if same(&found) => Self { file, ..found },
            _ => Self {
                version: version.to_owned(),
                choice,
                done: Vec::new(),
                started: Vec::new(),
                file,
            },
        }
    }

    /// How the states are chosen.
    #[must_use]
    pub fn choice(&self) -> Choice {
        self.choice
    }

    /// Keeps a verb's book.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&mut self, tally: Tally) -> Result<()> {
        self.done.push(tally);
        self.save()
    }

    /// Keeps the book of a row that was started for real.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_started(&mut self, booted: Booted) -> Result<()> {
        self.started.push(booted);
        self.save()
    }

    fn save(&self) -> Result<()> {
        if let Some(parent) = self.file.parent() {
            fs::create_dir_all(parent)?;
        }
        let new = self.file.with_extension("new");
        fs::write(&new, serde_json::to_string_pretty(self)?)
            .and_then(|()| fs::rename(&new, &self.file))
            .with_context(|| format!("write {}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_counts_for_the_same_sources_states_and_seed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("crash/all.json");
        let choice = |states, seed| Choice { states, seed };
        let load = |version, states, seed, given| {
            Progress::load_from(file.clone(), version, choice(states, seed), given)
        };
        load("a", 10, 1, false).keep(Tally::default()).unwrap();
        assert_eq!(load("a", 10, 1, true).done.len(), 1);
        // Another seed of this run's own: the one before is gone on with.
        assert_eq!(load("a", 10, 2, false).choice().seed, 1);
        assert!(load("a", 10, 2, true).done.is_empty());
        assert!(load("b", 10, 1, true).done.is_empty());
        assert!(load("a", 11, 1, true).done.is_empty());
    }
}
