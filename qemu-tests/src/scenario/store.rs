//! What a store must look like from outside after a story: every subvolume, which version lies in it,
//! whether it is sealed, and nothing besides.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use super::Context;
use crate::image::{Listing, Tree, inspect};

/// What the customer's data are on every fixture.
pub const CUSTOMER: &str = "made by the customer";

/// One subvolume that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    read_only: bool,
    /// A file in it, and its one line; None: the file must not be there.
    file: Option<(&'static str, Option<String>)>,
}

/// A store as it must be.
#[derive(Debug, Clone)]
pub struct Store {
    subvolumes: BTreeMap<String, Wanted>,
    files: Vec<(String, bool)>,
}

const SYSTEM: &str = "etc/appliance-release";
const CONFIG: &str = "etc/appliance/version";
const DATA: &str = "content";

impl Store {
    /// A store in which these versions of system, configuration and defaults are live, with the
    /// factory's version 1, an empty template of the data, the customer's data, and nothing waiting.
    #[must_use]
    pub fn live(system: &str, config: &str, defaults: &str) -> Self {
        let mut store = Self {
            subvolumes: BTreeMap::new(),
            files: Vec::new(),
        };
        store.is("@rootfs", false, SYSTEM, Some(system));
        store.is("@config", false, CONFIG, Some(config));
        store.is("@backstay/defaults", false, CONFIG, Some(defaults));
        store.is("@backstay/data/data/template", false, DATA, None);
        store.subvolumes.insert(
            "@backstay".to_owned(),
            Wanted {
                read_only: false,
                file: None,
            },
        );
        store
            .files
            .push(("@backstay/armed/armed.cfg".to_owned(), false));
        store
            .set("@backstay/factory", ["1", "1", "1"])
            .data(Some(CUSTOMER))
    }

    fn is(&mut self, path: &str, read_only: bool, file: &'static str, line: Option<&str>) {
        let file = Some((file, line.map(str::to_owned)));
        self.subvolumes
            .insert(path.to_owned(), Wanted { read_only, file });
    }

    fn set(mut self, place: &str, versions: [&str; 3]) -> Self {
        let [system, config, defaults] = versions;
        self.is(&format!("{place}/system"), true, SYSTEM, Some(system));
        self.is(&format!("{place}/config"), true, CONFIG, Some(config));
        self.is(&format!("{place}/defaults"), true, CONFIG, Some(defaults));
        self.files.push((format!("{place}/manifest"), true));
        self
    }

    /// With a factory snapshot of these versions.
    #[must_use]
    pub fn factory(self, versions: [&str; 3]) -> Self {
        self.set("@backstay/factory", versions)
    }

    /// And what was the factory snapshot once, which GRUB does not offer.
    #[must_use]
    pub fn former_factory(mut self, id: u32, versions: [&str; 3]) -> Self {
        let place = format!("@backstay/snapshots/{id}");
        self.files.push((format!("{place}/menu.cfg"), false));
        self.set(&place, versions)
    }

    /// And a sealed snapshot of these versions, with its entry for GRUB's menu.
    #[must_use]
    pub fn snapshot(mut self, id: u32, versions: [&str; 3]) -> Self {
        let place = format!("@backstay/snapshots/{id}");
        self.files.push((format!("{place}/menu.cfg"), true));
        self.set(&place, versions)
    }

    /// But what was kept as `id` has no system, and so no entry in GRUB's menu.
    #[must_use]
    pub fn without_system(mut self, id: u32) -> Self {
        let place = format!("@backstay/snapshots/{id}");
        self.subvolumes.remove(&format!("{place}/system"));
        for (path, there) in &mut self.files {
            *there = *there && *path != format!("{place}/menu.cfg");
        }
        self
    }

    /// And the same, parked: it is to return at the next boot, so it is not sealed, and GRUB is armed.
    #[must_use]
    pub fn parked(mut self, id: u32, versions: [&str; 3]) -> Self {
        let place = format!("@backstay/snapshots/{id}");
        self = self.set(&place, versions).armed();
        for part in ["system", "config", "defaults"] {
            if let Some(wanted) = self.subvolumes.get_mut(&format!("{place}/{part}")) {
                wanted.read_only = false;
            }
        }
        self.files
            .retain(|(path, _)| *path != format!("{place}/manifest"));
        self
    }

    /// And these live data; None: without content, as fresh from the template.
    #[must_use]
    pub fn data(mut self, content: Option<&str>) -> Self {
        self.is("@data", false, DATA, content);
        self
    }

    /// And the data that were live before the change that made snapshot `id`.
    #[must_use]
    pub fn kept_data(mut self, id: u32, content: Option<&str>) -> Self {
        self.is(&format!("@backstay/data/data/{id}"), true, DATA, content);
        self
    }

    /// And a snapshot with the customer's data, as a change leaves it that replaces them.
    #[must_use]
    pub fn snapshot_and_data(self, id: u32, versions: [&str; 3]) -> Self {
        self.snapshot(id, versions).kept_data(id, Some(CUSTOMER))
    }

    /// And one more subvolume, writable, of any content.
    #[must_use]
    pub fn nested(mut self, path: &str) -> Self {
        self.subvolumes.insert(
            path.to_owned(),
            Wanted {
                read_only: false,
                file: None,
            },
        );
        self
    }

    /// Something waits for the agent, and GRUB knows.
    #[must_use]
    pub fn armed(mut self) -> Self {
        for (path, there) in &mut self.files {
            if path == "@backstay/armed/armed.cfg" {
                *there = true;
            }
        }
        self
    }

    /// The paths that have to be looked at.
    fn paths(&self) -> Vec<String> {
        let content = self.subvolumes.iter().filter_map(|(path, wanted)| {
            wanted
                .file
                .as_ref()
                .map(|(file, _)| format!("{path}/{file}"))
        });
        content
            .chain(self.files.iter().map(|(path, _)| path.clone()))
            .collect()
    }

    /// What is otherwise than it must be, a line each.
    fn differences(&self, tree: &Tree) -> Vec<String> {
        let mut lines = Vec::new();
        for path in tree.subvolumes.keys() {
            if !self.subvolumes.contains_key(path) {
                lines.push(format!("{path} is there and must not be"));
            }
        }
        for (path, wanted) in &self.subvolumes {
            let Some(found) = tree.subvolume(path) else {
                lines.push(format!("{path} is not there"));
                continue;
            };
            if found.read_only != wanted.read_only {
                let word = if found.read_only {
                    "read-only"
                } else {
                    "writable"
                };
                lines.push(format!("{path} is {word}"));
            }
            match &wanted.file {
                Some((file, Some(line)))
                    if !tree.has_text(&format!("{path}/{file}"), &format!("{line}\n")) =>
                {
                    lines.push(format!("{path}/{file} is not {line:?}"));
                }
                Some((file, None)) if tree.file(&format!("{path}/{file}")).is_some() => {
                    lines.push(format!("{path}/{file} is there and must not be"));
                }
                _ => {}
            }
        }
        for (path, there) in &self.files {
            if tree.file(path).is_some() != *there {
                lines.push(format!(
                    "{path} is {}there",
                    if *there { "not " } else { "" }
                ));
            }
        }
        lines
    }
}

impl Context {
    /// Looks at the disk of a machine that is off and ends the story unless it is as it must be:
    /// exactly these subvolumes, and in them these versions.
    ///
    /// # Errors
    /// When something differs: the text has a line for each thing.
    pub fn expect_store(&self, disk: &Path, wanted: &Store) -> Result<Tree> {
        self.step("look at the disk from outside");
        let paths = wanted.paths();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let tree = inspect(disk, Listing::Below(&paths))?;
        let differences = wanted.differences(&tree);
        if !differences.is_empty() {
            bail!(
                "the disk is not as it must be:\n    {}",
                differences.join("\n    ")
            );
        }
        Ok(tree)
    }
}

/// Ends the story unless the sealed sets in both looks are the same subvolumes, unchanged.
///
/// # Errors
/// When one was written to, replaced or unsealed.
pub fn same_sealed(before: &Tree, after: &Tree) -> Result<()> {
    for (path, old) in &before.subvolumes {
        let Some(new) = after.subvolume(path).filter(|_| old.read_only) else {
            continue;
        };
        if (&old.uuid, old.ctransid) != (&new.uuid, new.ctransid) || !new.read_only {
            bail!("{path} was sealed and has changed: {old} became {new}");
        }
    }
    Ok(())
}

/// The SHA-256 of every byte of a disk image.
///
/// # Errors
/// When it cannot be read.
pub fn digest(disk: &Path) -> Result<Vec<u8>> {
    let mut file = BufReader::new(File::open(disk).context("open the disk image")?);
    let mut digest = Sha256::new();
    let mut bytes = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut bytes).context("read the disk image")?;
        if count == 0 {
            return Ok(digest.finalize().to_vec());
        }
        digest.update(&bytes[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::inspect::{Entry, Subvolume};

    fn file(line: &str) -> Entry {
        let digest = Sha256::digest(format!("{line}\n"));
        Entry {
            kind: 'f',
            mode: 0o644,
            user: 0,
            group: 0,
            size: 2,
            target: String::new(),
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            attributes: BTreeMap::new(),
        }
    }

    fn subvolume(read_only: bool) -> Subvolume {
        Subvolume {
            id: 256,
            nested_in: 5,
            uuid: Some("u".to_owned()),
            parent_uuid: None,
            received_uuid: None,
            read_only,
            generation: 7,
            ctransid: 7,
            otransid: 7,
        }
    }

    /// What a disk that is exactly as `store` wants it looks like.
    fn tree(store: &Store) -> Tree {
        let mut tree = Tree {
            log_root: 0,
            generation: 9,
            subvolumes: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        for (path, wanted) in &store.subvolumes {
            tree.subvolumes
                .insert(path.clone(), subvolume(wanted.read_only));
            if let Some((name, Some(line))) = &wanted.file {
                tree.files.insert(format!("{path}/{name}"), file(line));
            }
        }
        for (path, _) in store.files.iter().filter(|(_, there)| *there) {
            tree.files.insert(path.clone(), file(""));
        }
        tree
    }

    #[test]
    fn everything_that_differs_is_named_and_nothing_else() {
        let store = Store::live("2", "2", "2")
            .snapshot(1, ["1", "1", "1"])
            .kept_data(1, None);
        assert_eq!(store.differences(&tree(&store)), Vec::<String>::new());
        type Spoil = fn(&mut Tree);
        let spoil: [(&str, Spoil); 8] = [
            (
                "@backstay/snapshots/9/system is there and must not be",
                |tree| {
                    tree.subvolumes
                        .insert("@backstay/snapshots/9/system".to_owned(), subvolume(true));
                },
            ),
            ("@config is not there", |tree| {
                drop(tree.subvolumes.remove("@config"))
            }),
            ("@backstay/factory/system is writable", |tree| {
                tree.subvolumes
                    .insert("@backstay/factory/system".to_owned(), subvolume(false));
            }),
            ("@rootfs is read-only", |tree| {
                tree.subvolumes
                    .insert("@rootfs".to_owned(), subvolume(true));
            }),
            ("@data/content is not \"made by the customer\"", |tree| {
                tree.files.insert("@data/content".to_owned(), file("else"));
            }),
            (
                "@backstay/data/data/1/content is there and must not be",
                |tree| {
                    tree.files
                        .insert("@backstay/data/data/1/content".to_owned(), file("x"));
                },
            ),
            ("@backstay/snapshots/1/menu.cfg is not there", |tree| {
                tree.files.remove("@backstay/snapshots/1/menu.cfg");
            }),
            ("@backstay/armed/armed.cfg is there", |tree| {
                tree.files
                    .insert("@backstay/armed/armed.cfg".to_owned(), file(""));
            }),
        ];
        for (line, spoil) in spoil {
            let mut spoiled = tree(&store);
            spoil(&mut spoiled);
            assert_eq!(store.differences(&spoiled), [line]);
        }
    }

    #[test]
    fn a_sealed_set_that_was_written_to_is_not_the_same() {
        let store = Store::live("2", "2", "2").snapshot(1, ["1", "1", "1"]);
        let before = tree(&store);
        let mut after = before.clone();
        assert!(same_sealed(&before, &after).is_ok());
        after.subvolumes.get_mut("@rootfs").unwrap().ctransid = 8;
        assert!(same_sealed(&before, &after).is_ok());
        after
            .subvolumes
            .get_mut("@backstay/snapshots/1/config")
            .unwrap()
            .ctransid = 8;
        assert!(same_sealed(&before, &after).is_err());
    }
}
