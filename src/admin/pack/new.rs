//! The file that an archive is written to before it takes its name.
//!
//! The name belongs to whoever may write to the directory, so it says nothing about the bytes: what is
//! signed is read from the descriptor that wrote it, and the file gets its name only where the
//! temporary one is still its own. A lock tells a file that is being written from one that a killed
//! command left.

use super::super::error::{Error, Result};
use super::{directory_of, signature_of};
use crate::store::btrfs::leftover;
use crate::sys::Context;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, fstat, openat, statat};
use rustix::io::Errno;
use std::fs::{File, FileType};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Bytes of a name (`NAME_MAX`).
const LONGEST: usize = 255;
/// How often a name that others make and remove is tried.
const TRIES: usize = 100;

/// A locked, empty file.
#[derive(Debug)]
pub struct New {
    file: File,
    path: PathBuf,
}

/// Refuses what an archive cannot be renamed to, before the work of an hour: `output` and its signature
/// may be missing or regular files, and nothing else.
pub fn check(output: &Path) -> Result<()> {
    let refused = |path: &Path, what| Err(Error::Output(path.to_owned(), what));
    if output.as_os_str().as_bytes().ends_with(b"/") {
        return refused(output, "a directory");
    }
    let signature = signature_of(output);
    // The longest name of the four that will be there.
    if file_name(&signature).len() + leftover("").len() > LONGEST {
        return Err(Error::OutputName(output.to_owned()));
    }
    for path in [output, &signature] {
        match std::fs::symlink_metadata(path) {
            Ok(stat) if stat.is_file() => {}
            Ok(stat) => return refused(path, kind(stat.file_type())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("looking at", path)(error)),
        }
    }
    Ok(())
}

fn kind(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_fifo() => "a FIFO",
        _ => "no regular file",
    }
}

fn file_name(path: &Path) -> &[u8] {
    path.file_name().unwrap_or_default().as_bytes()
}

impl New {
    /// Makes the file for `output`. What a killed command left is replaced, not written to: it may have
    /// another name elsewhere, or be open somewhere.
    pub fn create(output: &Path) -> Result<Self> {
        let name = output.file_name().unwrap_or_default().to_string_lossy();
        let path = output.with_file_name(leftover(&name));
        for _ in 0..TRIES {
            if let Some(file) = Self::attempt(output, &path)? {
                let file = File::from(file);
                return Ok(Self { file, path });
            }
        }
        Err(Error::OutputBusy(output.to_owned()))
    }

    /// `None`: somebody else was quicker.
    fn attempt(output: &Path, path: &Path) -> Result<Option<OwnedFd>> {
        // It holds what only root may read, such as etc/shadow.
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        match openat(CWD, path, flags, mode) {
            Ok(file) => {
                lock(output, path, &file)?;
                // Between the two calls it may have been taken for a leftover.
                return Ok(is_at(&file, path)?.then_some(file));
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::file("writing", output)(errno.into())),
        }
        // Not followed and not waited for, whatever lies there.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let old = match openat(CWD, path, flags, Mode::empty()) {
            Ok(old) => old,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NXIO) => return Err(Error::OutputInTheWay(path.to_owned())),
            Err(errno) => return Err(Error::file("opening", path)(errno.into())),
        };
        let stat = fstat(&old).call(|| format!("fstat({path:?})"))?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return Err(Error::OutputInTheWay(path.to_owned()));
        }
        lock(output, path, &old)?;
        // Who holds the lock of what has the name may remove it, and nobody else.
        if is_at(&old, path)? {
            std::fs::remove_file(path).map_err(Error::file("removing", path))?;
        }
        Ok(None)
    }

    /// The file, to write to and to read from.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Refuses to go on where the temporary name is another file's by now.
    pub fn unchanged(&self) -> Result<()> {
        self.is(&self.path)
    }

    fn is(&self, path: &Path) -> Result<()> {
        match is_at(&self.file, path)? {
            true => Ok(()),
            false => Err(Error::OutputLost(path.to_owned())),
        }
    }

    /// Gives the file its name. On disk on return.
    pub fn rename(&self, output: &Path) -> Result<()> {
        self.unchanged()?;
        std::fs::rename(&self.path, output).map_err(Error::file("writing", output))?;
        // Whoever exchanged it in between has made a file that the signature does not fit.
        self.is(output)?;
        File::open(directory_of(output))
            .and_then(|directory| directory.sync_all())
            .map_err(Error::file("writing", output))
    }

    /// Removes the file, unless the name is another's by now.
    pub fn remove(&self) {
        if is_at(&self.file, &self.path).unwrap_or(false) {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

fn lock(output: &Path, path: &Path, file: &OwnedFd) -> Result<()> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Error::OutputBusy(output.to_owned())),
        other => Ok(other.call(|| format!("flock({path:?}, LOCK_EX | LOCK_NB)"))?),
    }
}

/// Whether `path` is a name of this file.
fn is_at(file: impl rustix::fd::AsFd, path: &Path) -> Result<bool> {
    let own = fstat(file).call(|| format!("fstat({path:?})"))?;
    match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok((there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Ok(Err(errno).call(|| format!("fstatat({path:?})"))?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    fn fifo(path: &Path) {
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(CWD, path, kind, Mode::RWXU, 0).unwrap();
    }

    #[test]
    fn what_no_archive_can_replace_is_refused_before_the_work() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file.tar"), "old").unwrap();
        fs::create_dir(at("dir.tar")).unwrap();
        fs::create_dir(at("key.tar.minisig")).unwrap();
        symlink("file.tar", at("link.tar")).unwrap();
        fifo(&at("fifo.tar"));
        check(&at("file.tar")).unwrap();
        check(&at("none.tar")).unwrap();
        for name in ["dir.tar", "key.tar", "link.tar", "fifo.tar", "none.tar/"] {
            let error = check(&at(name)).unwrap_err();
            assert!(matches!(error, Error::Output(..)), "{name}: {error}");
        }
        // '.NAME.minisig.new' is thirteen bytes longer.
        check(&at(&format!("{}.tar", "n".repeat(238)))).unwrap();
        let long = check(&at(&format!("{}.tar", "n".repeat(239)))).unwrap_err();
        assert!(matches!(long, Error::OutputName(_)), "{long}");
    }

    #[test]
    fn one_command_at_a_time_writes_an_archive_and_a_leftover_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("a.tar");
        let left = directory.path().join(".a.tar.new");
        let elsewhere = directory.path().join("elsewhere");
        fs::write(&elsewhere, "untouched").unwrap();
        fs::hard_link(&elsewhere, &left).unwrap();
        let new = New::create(&output).unwrap();
        new.file().write_all(b"whole").unwrap();
        let second = New::create(&output).unwrap_err();
        assert!(matches!(second, Error::OutputBusy(_)), "{second}");
        new.rename(&output).unwrap();
        assert_eq!(fs::read_to_string(&output).unwrap(), "whole");
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
        New::create(&output).unwrap().remove();
        assert!(!left.exists());
    }

    #[test]
    fn a_file_that_was_exchanged_gets_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("a.tar");
        let left = directory.path().join(".a.tar.new");
        let new = New::create(&output).unwrap();
        fs::remove_file(&left).unwrap();
        fs::write(&left, "another's").unwrap();
        let error = new.rename(&output).unwrap_err();
        assert!(matches!(error, Error::OutputLost(_)), "{error}");
        new.remove();
        assert!(left.exists() && !output.exists());
    }

    #[test]
    fn what_lies_in_the_way_is_neither_followed_nor_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("a.tar");
        let left = directory.path().join(".a.tar.new");
        let target = directory.path().join("target");
        let (sender, receiver) = std::sync::mpsc::channel();
        let refused = || {
            let (sender, output) = (sender.clone(), output.clone());
            std::thread::spawn(move || sender.send(New::create(&output).unwrap_err().to_string()));
            let text = receiver.recv_timeout(Duration::from_secs(10)).unwrap();
            assert!(text.contains("remove it"), "{text}");
            fs::remove_file(&left).unwrap();
        };
        symlink(&target, &left).unwrap();
        refused();
        assert!(!target.exists());
        fifo(&left);
        refused();
    }
}
