//! The numbered directories of the store.

use super::file::kind;
use super::path::{
    DIRECTORY, LOOK, entries, if_there, make_directories, names, open, split, unlink,
};
use super::{Btrfs, Doing, Result};
use crate::store::StoreError;
use crate::store::place::{STORE, Set};
use crate::sys::Context;
use rustix::fs::{AtFlags, FileType, unlinkat};
use rustix::io::Errno;
use std::os::unix::ffi::OsStrExt;

/// The number that a name is, if it is exactly how we write it.
fn id(name: &str) -> Option<u32> {
    name.parse().ok().filter(|id: &u32| id.to_string() == name)
}

impl Btrfs {
    /// The names in a directory below the top level; none where it does not exist.
    fn listing(&self, path: &str) -> Result<Vec<String>> {
        let list = || match if_there(open(&self.top, path, DIRECTORY))? {
            Some(directory) => names(directory),
            None => Ok(Vec::new()),
        };
        list().doing(|| format!("listing {path}"))
    }

    pub(super) fn ids_present(&self) -> Result<Vec<u32>> {
        let mut names = self.listing(&format!("{STORE}/snapshots"))?;
        for dataset in self.listing(&format!("{STORE}/data"))? {
            names.extend(self.listing(&format!("{STORE}/data/{dataset}"))?);
        }
        let mut ids: Vec<u32> = names.iter().filter_map(|name| id(name)).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    pub(super) fn make_snapshot_directory(&self, id: u32) -> Result<()> {
        let path = Set::Snapshot(id).directory();
        make_directories(&self.top, &path).doing(|| format!("making {path}"))?;
        Ok(())
    }

    pub(super) fn remove_snapshot_directory(&self, id: u32) -> Result<()> {
        let path = Set::Snapshot(id).directory();
        let doing = || format!("removing {path}");
        let Some(directory) = if_there(open(&self.top, &path, DIRECTORY)).doing(doing)? else {
            return Ok(());
        };
        let mut files = entries(&directory).doing(doing)?;
        for name in &files {
            let entry = open(&directory, name.as_bytes(), LOOK).doing(doing)?;
            if kind(&entry).doing(doing)? == FileType::Directory {
                let name = name.display();
                return Err(StoreError::Place(format!("{path} still holds {name}")));
            }
        }
        // What GRUB shows goes first: it must never offer a snapshot that is half gone.
        files.sort_by_key(|name| name != "menu.cfg");
        for name in &files {
            unlink(&directory, name)?;
        }
        let (parent, name) = split(&path);
        let parent = open(&self.top, parent, DIRECTORY).doing(doing)?;
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno)
                .call(|| format!("unlinkat({path:?}, REMOVEDIR)"))
                .doing(doing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::id;

    #[test]
    fn only_numbers_as_we_write_them_are_ids() {
        for (name, want) in [
            ("12", Some(12)),
            ("0", Some(0)),
            ("4294967295", Some(u32::MAX)),
            ("012", None),
            ("+1", None),
            ("4294967296", None),
            ("template", None),
            (".12.new", None),
            ("", None),
        ] {
            assert_eq!(id(name), want, "{name:?}");
        }
    }
}
