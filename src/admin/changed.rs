//! How much of a directory has changed since a snapshot: counted by names, sizes and times, without reading a file.

use super::output::size;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Entries that are looked at in a directory before it is enough to say how many there are at least.
const ENTRIES_MAX: u64 = 200_000;

/// What differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Files that are new, gone or other ones.
    pub files: u64,
    /// Bytes of those that are new or other ones.
    pub bytes: u64,
    looked_at: u64,
}

impl Changed {
    /// From what a directory was to what it is. What cannot be read counts as not there.
    pub fn between(was: &Path, is: &Path) -> Changed {
        let mut changed = Changed::default();
        changed.compare(was, is);
        changed
    }

    fn compare(&mut self, was: &Path, is: &Path) {
        let old = entries(was);
        let new = entries(is);
        for (name, entry) in &new {
            if self.is_enough() {
                return;
            }
            self.looked_at += 1;
            let before = old.get(name);
            if entry.is_dir() {
                self.compare(&was.join(name), &is.join(name));
            } else if before.is_none_or(|before| !is_same(before, entry)) {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(entry.len());
            }
        }
        for (name, entry) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
            if self.is_enough() {
                return;
            }
            self.looked_at += 1;
            match entry.is_dir() {
                true => self.compare(&was.join(name), &is.join(name)),
                false => self.files += 1,
            }
        }
    }

    fn is_enough(&self) -> bool {
        self.looked_at >= ENTRIES_MAX
    }
}

impl core::fmt::Display for Changed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let least = if self.is_enough() { "at least " } else { "" };
        match self.files {
            0 => f.write_str("unchanged since"),
            files => write!(
                f,
                "{least}{files} files changed since, {}",
                size(self.bytes)
            ),
        }
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    one.len() == other.len()
        && one.mode() == other.mode()
        && (one.mtime(), one.mtime_nsec()) == (other.mtime(), other.mtime_nsec())
}

fn entries(directory: &Path) -> BTreeMap<OsString, Metadata> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return BTreeMap::new();
    };
    let read = |entry: std::fs::DirEntry| Some((entry.file_name(), entry.metadata().ok()?));
    entries.flatten().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn new_changed_and_removed_files_are_counted_and_the_rest_is_not() {
        let here = tempfile::tempdir().unwrap();
        let [was, is] = ["was", "is"].map(|name| here.path().join(name));
        for tree in [&was, &is] {
            fs::create_dir_all(tree.join("a/b")).unwrap();
        }
        fs::write(was.join("a/same"), "1").unwrap();
        let copied = std::process::Command::new("cp")
            .args(["--archive", "--"])
            .args([was.join("a/same"), is.join("a/same")])
            .status();
        assert!(copied.unwrap().success());
        assert_eq!(Changed::between(&was, &is).to_string(), "unchanged since");
        fs::write(was.join("a/b/gone"), "123").unwrap();
        fs::write(is.join("a/b/new"), "1234").unwrap();
        fs::write(was.join("other"), "1").unwrap();
        fs::write(is.join("other"), "12").unwrap();
        let changed = Changed::between(&was, &is);
        assert_eq!((changed.files, changed.bytes), (3, 6));
        assert_eq!(changed.to_string(), "3 files changed since, 6 B");
        assert_eq!(Changed::between(&here.path().join("x"), &is).files, 3);
    }
}
