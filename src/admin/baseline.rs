//! `backstay factory baseline`: a used system, cleaned of what is one machine's or one owner's, in the factory's place.
//!
//! It is no factory version, since it was used: it holds what was installed and changed until now, and every accounts'
//! password. So it has a mark in it ([`MARK`]), and wherever it is shown it is called a baseline.
//!
//! The same transaction as that of a factory snapshot from an archive: what is live is not touched, and a power cut
//! leaves the old one or the new one. What it is made from is a read-only snapshot, so that it is one state of the
//! system; its data is shared, not copied.

use super::build::refuse_to_replace;
use super::error::{Error, Result};
use super::install::tools;
use super::pristine::{Inside, findings};
use super::request;
use crate::policy::intent::Intent;
use crate::record::layout::Part;
use crate::record::manifest::Manifest;
use crate::store::btrfs::Btrfs;
use crate::store::place::{Place, STORE, Set};
use crate::store::{Store, StoreError};
use crate::sys::btrfs;
use crate::transaction::factory::MARK;
use crate::transaction::plan::plan;
use crate::transaction::records::Records;
use crate::transaction::{self, catalogue, execute};
use std::path::{Path, PathBuf};

/// Logs of all kinds, one finding for all.
const LOGS: &str = "var/log";

/// A baseline.
#[derive(Debug)]
pub struct Baseline {
    /// Its manifest.
    pub manifest: Manifest,
    /// Accounts that somebody can log in to, and how.
    pub kept: Vec<String>,
}

/// Makes it. On disk on return.
pub fn baseline(
    store: &mut Btrfs,
    records: &mut Records,
    top: &Path,
    replace: bool,
    now: u64,
    say: &mut dyn FnMut(&str),
) -> Result<Baseline> {
    request::idle(records)?;
    refuse_to_replace(store, replace)?;
    let source = Source::of_live(store, top)?;
    let state = catalogue::with_free_id(store, &records.state.value)?;
    let plan = plan(&Intent::MakeFactory, &state, store.layout(), None, now);
    let mut kept = Vec::new();
    let mut fill = |store: &mut Btrfs, place| {
        fill(store, top, &source, place, &mut kept, say).map_err(|error| match error {
            Error::Transaction(error) => error,
            Error::Store(error) => error.into(),
            error => transaction::Error::Image(error.to_string()),
        })
    };
    let made = execute::execute_with(store, records, &plan, now, &mut fill, &mut |_| {});
    source.discard()?;
    made?;
    let manifest = catalogue::manifest(store, Set::Factory)?.ok_or(Error::FactoryDamaged)?;
    Ok(Baseline { manifest, kept })
}

/// A read-only snapshot of what is live, for as long as it is copied.
struct Source {
    path: PathBuf,
}

impl Source {
    fn of_live(store: &Btrfs, top: &Path) -> Result<Source> {
        let path = top.join(STORE).join("baseline.part");
        tools::discard(&path)?;
        let live = store.directory(Place::Live(Part::System), "")?;
        let directory = top.join(STORE);
        let directory =
            std::fs::File::open(&directory).map_err(Error::file("opening", &directory))?;
        btrfs::snapshot(&live, &directory, "baseline.part", true)?;
        Ok(Source { path })
    }

    fn discard(&self) -> Result<()> {
        tools::discard(&self.path)
    }
}

fn fill(
    store: &mut Btrfs,
    top: &Path,
    source: &Source,
    place: Place,
    kept: &mut Vec<String>,
    say: &mut dyn FnMut(&str),
) -> Result<()> {
    let below = place.path(store.layout());
    let to = below
        .map(|path| top.join(path))
        .ok_or_else(|| StoreError::Place("there is no such dataset here".to_owned()))?;
    if place.part() != Part::System {
        let from = Place::Live(place.part()).path(store.layout());
        return match from {
            Some(from) => tools::copy_tree(&top.join(from), &to),
            None => Ok(()),
        };
    }
    say("copying the system; its data is shared");
    tools::copy_tree(&source.path, &to)?;
    *kept = clean(store, place, &to, say)?;
    let mark = to.join(MARK);
    if let Some(parent) = mark.parent() {
        std::fs::create_dir_all(parent).map_err(Error::file("making", parent))?;
    }
    std::fs::write(
        &mark,
        "This system was made of one that was used: it is a baseline, and no factory version.\n",
    )
    .map_err(Error::file("writing", &mark))
}

/// Removes what belongs to one machine or one owner; gives the accounts that stay.
fn clean<S: Store>(
    store: &S,
    place: Place,
    root: &Path,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    for finding in findings(&Inside(store, place))? {
        let path = root.join(&finding.path);
        if finding.path == "etc/machine-id" {
            // Then the next start is a first one (machine-id(5)); an empty file would not be.
            std::fs::write(&path, "uninitialized\n").map_err(Error::file("writing", &path))?;
        } else if finding.path.contains(": ") {
            kept.push(finding.path.clone());
            continue;
        } else if finding.path == LOGS {
            empty(&path)?;
        } else {
            remove(&path)?;
        }
        say(&format!("cleaned of /{}", finding.path));
    }
    Ok(kept)
}

/// Removes a file, or a directory with all that is in it: its name may be an identity, as a journal's is.
fn remove(path: &Path) -> Result<()> {
    let is_directory = std::fs::symlink_metadata(path).is_ok_and(|it| it.is_dir());
    let removed = match is_directory {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    };
    removed.map_err(Error::file("removing", path))
}

/// Removes the files below a directory. Directories stay: services expect theirs.
fn empty(directory: &Path) -> Result<()> {
    for entry in std::fs::read_dir(directory).map_err(Error::file("reading", directory))? {
        let entry = entry.map_err(Error::file("reading", directory))?.path();
        let is_directory = std::fs::symlink_metadata(&entry).is_ok_and(|it| it.is_dir());
        match is_directory {
            true => empty(&entry)?,
            false => remove(&entry)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::Content;
    use crate::transaction::model::machine;

    #[test]
    fn what_is_one_machines_goes_and_accounts_are_named() {
        let (mut store, _) = machine();
        let place = Place::Live(Part::System);
        let files = [
            ("etc/machine-id", "8f3a\n"),
            ("etc/ssh/ssh_host_ed25519_key", "secret"),
            ("etc/shadow", "root:$y$x:1\n"),
            ("var/log/apt/history.log", "x"),
            ("root/.bash_history", "ls"),
        ];
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let real = root.path().join(path);
            std::fs::create_dir_all(real.parent().unwrap()).unwrap();
            std::fs::write(real, text).unwrap();
            store.edit(|world, _| {
                let tree = &mut world.datasets.get_mut(&place).unwrap().tree;
                for parent in Path::new(path).ancestors().skip(1) {
                    tree.entry(parent.display().to_string())
                        .or_insert(Content::Directory);
                }
                tree.insert(path.into(), Content::File(text.into()));
            });
        }
        let kept = clean(&store, place, root.path(), &mut |_| {}).unwrap();
        assert_eq!(kept, ["etc/shadow: password of root"]);
        let read = |path: &str| std::fs::read_to_string(root.path().join(path));
        assert_eq!(read("etc/machine-id").unwrap(), "uninitialized\n");
        assert!(read("etc/shadow").is_ok());
        for path in ["etc/ssh/ssh_host_ed25519_key", "root/.bash_history"] {
            assert!(read(path).is_err(), "{path}");
        }
        assert!(read("var/log/apt/history.log").is_err());
        assert!(root.path().join("var/log/apt").is_dir());
    }
}
