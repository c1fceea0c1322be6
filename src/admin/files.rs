//! Files outside the records: GRUB's and the recovery kernel's. Each is whole old or whole new.

use super::error::{Error, Result};
use crate::store::btrfs::leftover;
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
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
        // Not through a link that somebody put there meanwhile.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(new)?;
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

/// Bytes of a key at the most.
pub const KEY_MAX: u64 = 64 << 10;

/// Reads a small file that somebody named, such as a key. It may be a link; a FIFO or a device would keep
/// us here, or never end, so it is refused, and so is what is longer than `max` bytes.
pub fn read_small(path: &Path, max: u64) -> Result<Vec<u8>> {
    let reading = || Error::file("reading", path);
    // Without NONBLOCK the opening of a FIFO waits for a writer.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)
        .map_err(reading())?;
    if !file.metadata().map_err(reading())?.is_file() {
        return Err(Error::NotAFile(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(reading())?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= max => Ok(bytes),
        _ => Err(Error::TooLong(path.to_owned(), max)),
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
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_would_keep_us_waiting_or_never_end_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), kind, mode, 0).unwrap();
        std::fs::write(at("four"), "1234").unwrap();
        std::os::unix::fs::symlink("four", at("link")).unwrap();
        assert_eq!(read_small(&at("link"), 4).unwrap(), b"1234");
        let refused = |path: &Path| read_small(path, 3).unwrap_err();
        assert!(matches!(refused(&at("four")), Error::TooLong(_, 3)));
        for path in [at("fifo"), directory.path().into(), "/dev/zero".into()] {
            assert!(matches!(refused(&path), Error::NotAFile(_)), "{path:?}");
        }
        let Error::File { source, .. } = refused(&at("missing")) else {
            panic!("it is not there");
        };
        assert_eq!(source.kind(), ErrorKind::NotFound);
    }

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
        // An initramfs that is copied may hold the hash of a password.
        let mode = std::fs::metadata(&to).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
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
