//! Files outside the records: GRUB's and the recovery kernel's. Each is whole old or whole new.

use super::error::{Error, Result};
use crate::store::btrfs::leftover;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Replaces a file whose directory exists; what an interrupted replacement left goes first. On disk
/// after the next sync. One that holds these bytes already stays, which needs no room.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let is_file = std::fs::symlink_metadata(path).is_ok_and(|it| it.is_file());
    if is_file && std::fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let new = &place_of_new(path)?;
    let write = || -> std::io::Result<()> {
        let mut file = create(new)?;
        file.write_all(bytes)?;
        // Without it a commit may hold the new name and not yet the new bytes.
        file.sync_all()?;
        std::fs::rename(new, path)
    };
    let written = write();
    if written.is_err() {
        std::fs::remove_file(new).ok();
    }
    written.map_err(Error::file("writing", path))
}

/// Where the new content of a file is written before it takes the file's name; what an interrupted
/// replacement left there is removed.
pub fn place_of_new(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // The store tidies up files of this name.
    let new = path.with_file_name(leftover(&name));
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::file("removing", new)(error))
        }
        _ => Ok(new),
    }
}

/// Copies a file's content; what was at `to` is overwritten. On disk on return.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut source = File::open(from).map_err(Error::file("reading", from))?;
    let mut write = || -> std::io::Result<()> {
        let mut target = create(to)?;
        std::io::copy(&mut source, &mut target)?;
        target.sync_all()
    };
    write().map_err(Error::file("writing", to))
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        for text in ["first and longer", "second"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let to = directory.path().join("b");
        copy(&path, &to).unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "second");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
        // A leftover may have another name elsewhere, which must not be written through.
        let elsewhere = directory.path().join("elsewhere");
        std::fs::write(&elsewhere, "untouched").unwrap();
        std::fs::hard_link(&elsewhere, directory.path().join(".a.new")).unwrap();
        replace(&path, b"third").unwrap();
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "untouched");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "third");
        std::fs::create_dir(directory.path().join("c")).unwrap();
        assert!(replace(&directory.path().join("c"), b"x").is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 4);
        let missing = replace(&directory.path().join("x/y"), b"").unwrap_err();
        assert!(missing.to_string().contains("x/y"), "{missing}");
    }
}
