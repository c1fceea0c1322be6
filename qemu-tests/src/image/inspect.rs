//! A disk looked at from outside: what a scenario expects to find after it, and what must not have changed.
//!
//! [`inspect`] boots the toolbox with a scratch view of the disk, so that it changes nothing,
//! and reads the superblock, every subvolume, and the files of the trees asked for into a [`Tree`].

mod parse;

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::toolbox::{Disk, Error, Job};

const SCRIPT: &str = include_str!("../../images/store/inspect.sh");

/// Which files are listed. Reading all of a whole Debian takes minutes under emulation.
#[derive(Debug, Clone, Copy)]
pub enum Listing<'a> {
    /// No file, only the superblock and the subvolumes.
    Subvolumes,
    /// All below these paths, relative to the top level (`@config`, `@rootfs/etc`); what is not there is left out.
    Below(&'a [&'a str]),
    /// Everything.
    All,
}

/// What is on a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The superblock's log_root as it was found: 0 after a clean unmount. Otherwise the log tree was
    /// replayed (in the scratch view) before anything else was read.
    pub log_root: u64,
    /// The superblock's generation as it was found.
    pub generation: u64,
    /// All subvolumes by path, without the top level; deleted ones that wait for the cleaner are not among them.
    pub subvolumes: BTreeMap<String, Subvolume>,
    /// The files of the listing by path.
    pub files: BTreeMap<String, Entry>,
}

/// One subvolume. UUIDs are lower-case text, None where all bits are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subvolume {
    /// Its id.
    pub id: u64,
    /// The id of the subvolume that it lies in; 5 is the top level.
    pub nested_in: u64,
    /// Its UUID.
    pub uuid: Option<String>,
    /// The UUID of what it is a snapshot of.
    pub parent_uuid: Option<String>,
    /// The UUID that it was received from.
    pub received_uuid: Option<String>,
    /// Whether it is read-only.
    pub read_only: bool,
    /// The transaction that last changed its root item, also by a snapshot taken of it.
    pub generation: u64,
    /// The transaction that last changed its content.
    pub ctransid: u64,
    /// The transaction that created it.
    pub otransid: u64,
}

/// One file, directory, link or other thing with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As find(1) writes it: f, d, l, c, b, p, s.
    pub kind: char,
    /// Permission bits, with set-id and sticky.
    pub mode: u32,
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
    /// Bytes of a file or link; 0 for directories, whose size means nothing.
    pub size: u64,
    /// Where a symbolic link points.
    pub target: String,
    /// The SHA-256 of a file's content in hexadecimal; empty for anything else.
    pub sha256: String,
    /// Extended attributes, values as `0x…`; those of the ballast's files are left out.
    pub attributes: BTreeMap<String, String>,
}

/// Looks at the store of a disk image, which is not changed.
pub fn inspect(image: &Path, listing: Listing<'_>) -> Result<Tree, Error> {
    let trees = match listing {
        Listing::Subvolumes => String::new(),
        Listing::Below(paths) => paths.join(" "),
        Listing::All => String::from("."),
    };
    let what = format!("looking at {}", image.display());
    let output = Job::new(&what, format!("TREES='{trees}'\n{SCRIPT}"))
        .disk(Disk::scratch(image))
        .timeout(Duration::from_secs(300))
        .run()?;
    parse::tree(&output).map_err(|reason| Error::Output { what, reason })
}

impl Tree {
    /// The subvolume at `path`.
    pub fn subvolume(&self, path: &str) -> Option<&Subvolume> {
        self.subvolumes.get(path)
    }

    /// The file at `path`.
    pub fn file(&self, path: &str) -> Option<&Entry> {
        self.files.get(path)
    }

    /// Whether the file at `path` holds exactly this text.
    pub fn has_text(&self, path: &str, text: &str) -> bool {
        let digest = Sha256::digest(text.as_bytes());
        let wanted: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.file(path).is_some_and(|entry| entry.sha256 == wanted)
    }

    /// The files below a directory, by their paths in it: equal for two directories of equal content.
    pub fn below(&self, directory: &str) -> BTreeMap<&str, &Entry> {
        let prefix = format!("{directory}/");
        self.files
            .iter()
            .filter_map(|(path, entry)| Some((path.strip_prefix(&prefix)?, entry)))
            .collect()
    }

    /// What differs from an earlier look: a line for each thing that is gone (`-`), new (`+`) or changed
    /// (both). The superblock's numbers are left out: any write changes them.
    pub fn changes_since(&self, before: &Tree) -> Vec<String> {
        let mut lines = changes(&before.subvolumes, &self.subvolumes);
        lines.extend(changes(&before.files, &self.files));
        lines
    }
}

fn changes<T: PartialEq + Display>(
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, old) in before {
        if after.get(path) != Some(old) {
            lines.push(format!("- {path} {old}"));
        }
    }
    for (path, new) in after {
        if before.get(path) != Some(new) {
            lines.push(format!("+ {path} {new}"));
        }
    }
    lines.sort_by(|a, b| a.get(2..).cmp(&b.get(2..)));
    lines
}

impl Display for Tree {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            to,
            "superblock log_root={} generation={}",
            self.log_root, self.generation
        )?;
        for (path, subvolume) in &self.subvolumes {
            writeln!(to, "{path} {subvolume}")?;
        }
        for (path, entry) in &self.files {
            writeln!(to, "{path} {entry}")?;
        }
        Ok(())
    }
}

impl Display for Subvolume {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |uuid: &Option<String>| uuid.clone().unwrap_or_else(|| "-".into());
        write!(
            to,
            "subvolume id={} in={} {} uuid={} parent={} received={} generation={} ctransid={} otransid={}",
            self.id,
            self.nested_in,
            if self.read_only { "ro" } else { "rw" },
            text(&self.uuid),
            text(&self.parent_uuid),
            text(&self.received_uuid),
            self.generation,
            self.ctransid,
            self.otransid
        )
    }
}

impl Display for Entry {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{} {:04o} {}:{} {}",
            self.kind, self.mode, self.user, self.group, self.size
        )?;
        if self.kind == 'l' {
            write!(to, " -> {}", self.target)?;
        }
        if !self.sha256.is_empty() {
            write!(to, " {}", self.sha256)?;
        }
        for (name, value) in &self.attributes {
            write!(to, " {name}={value}")?;
        }
        Ok(())
    }
}
