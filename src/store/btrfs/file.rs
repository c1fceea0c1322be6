//! Small files: whole old or whole new.

use super::path::{DIRECTORY, LOOK, if_there, is_absent, names, open, split, unlink};
use super::{Doing, Result};
use crate::store::StoreError;
use crate::sys::{self, Context};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, OFlags, fstat, fsync, renameat};
use std::io::{Read, Write};

/// No more than this is read of a file, in bytes.
const LIMIT: u64 = 64 * 1024;

/// What a descriptor is open on.
pub fn kind(fd: &OwnedFd) -> sys::Result<FileType> {
    let mode = fstat(fd).call(|| "fstat".to_owned())?.st_mode;
    Ok(FileType::from_raw_mode(mode))
}

/// Reads a regular file below a directory; `None` when there is none.
pub fn read(directory: impl AsFd, path: &str) -> Result<Option<Vec<u8>>> {
    read_at(directory, path).doing(|| format!("reading {path}"))
}

fn read_at(directory: impl AsFd, path: &str) -> sys::Result<Option<Vec<u8>>> {
    // A look first, because opening a device or a FIFO would do something to it.
    let Some(look) = if_there(open(&directory, path, LOOK))? else {
        return Ok(None);
    };
    if kind(&look)? != FileType::RegularFile {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Some(fd) = if_there(open(directory, path, flags))? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    std::fs::File::from(fd)
        .take(LIMIT)
        .read_to_end(&mut bytes)
        .call(|| format!("read({path:?})"))?;
    Ok(Some(bytes))
}

/// Where the new content of a file is written before it takes the file's name: `replace`, here and in
/// the admin command, writes there, and the store tidies up what was left.
pub fn leftover(name: &str) -> String {
    format!(".{name}.new")
}

/// Replaces a file in a directory that exists. What an interrupted replacement left, whatever it is,
/// goes first: it may be a link to something else.
pub fn replace(top: impl AsFd, path: &str, bytes: &[u8]) -> Result<()> {
    let (parent, name) = split(path);
    let directory = match open(top, parent, DIRECTORY) {
        Err(error) if is_absent(&error) => {
            return Err(StoreError::Place(format!("{parent} does not exist")));
        }
        other => other.doing(|| format!("writing {path}"))?,
    };
    let new = leftover(name);
    unlink(&directory, &new)?;
    let write = || {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mut file = std::fs::File::from(open(&directory, &new, flags)?);
        file.write_all(bytes)
            .call(|| format!("write({new:?}, {} bytes)", bytes.len()))?;
        // Without it a commit may hold the new name and not yet the new bytes.
        fsync(&file).call(|| format!("fsync({new:?})"))?;
        renameat(&directory, &new, &directory, name).call(|| format!("renameat({new:?}, {name:?})"))
    };
    let written = write();
    if written.is_err() {
        unlink(&directory, &new).ok();
    }
    written.doing(|| format!("writing {path}"))
}

/// Removes a file, and what an interrupted replacement of it left; none there is success, a directory
/// is not.
pub fn remove(top: impl AsFd, path: &str) -> Result<()> {
    let (parent, name) = split(path);
    let doing = || format!("removing {path}");
    match if_there(open(top, parent, DIRECTORY)).doing(doing)? {
        Some(directory) => {
            for name in [name, &leftover(name)] {
                let there = if_there(open(&directory, name, LOOK)).doing(doing)?;
                if there.is_some_and(|it| kind(&it) == Ok(FileType::Directory)) {
                    return Err(StoreError::Place(format!(
                        "{parent}/{name} is not a file but a directory"
                    )));
                }
                unlink(&directory, name)?;
            }
            Ok(())
        }
        None => Ok(()),
    }
}

/// Removes what interrupted replacements left in a directory; none there is success.
pub fn sweep(top: impl AsFd, path: &str) -> Result<()> {
    let doing = || format!("tidying up {path}");
    let Some(directory) = if_there(open(top, path, DIRECTORY)).doing(doing)? else {
        return Ok(());
    };
    for name in names(&directory).doing(doing)? {
        // A directory of such a name is somebody's own.
        if is_leftover(&name)
            && kind(&open(&directory, &name, LOOK).doing(doing)?).doing(doing)?
                != FileType::Directory
        {
            unlink(&directory, &name)?;
        }
    }
    Ok(())
}

/// Whether it is the name of a file of ours that was being written.
fn is_leftover(name: &str) -> bool {
    const OURS: [&str; 12] = [
        "armed.cfg",
        "armed.spare",
        "backstay.cfg",
        "backstay.cfg.garbled",
        "first-boot",
        "grub.cfg",
        "journal",
        "layout",
        "log",
        "manifest",
        "menu.cfg",
        "state",
    ];
    OURS.iter().any(|ours| leftover(ours) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_the_place_of_a_file_is_named_and_not_removed() {
        let top = tempfile::tempdir().unwrap();
        let fd = super::super::open_top(top.path()).unwrap();
        std::fs::create_dir_all(top.path().join("set/menu.cfg")).unwrap();
        std::fs::write(top.path().join("set/.manifest.new"), "").unwrap();
        let refused = remove(&fd, "set/menu.cfg");
        let Err(StoreError::Place(text)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(text, "set/menu.cfg is not a file but a directory");
        for path in ["set/manifest", "set/manifest", "missing/manifest"] {
            remove(&fd, path).unwrap();
        }
        let left = names(open(&fd, "set", DIRECTORY).unwrap()).unwrap();
        assert_eq!(left, ["menu.cfg"]);
    }

    #[test]
    fn what_interrupted_writes_left_is_tidied_up_and_a_strangers_file_is_not() {
        let top = tempfile::tempdir().unwrap();
        let fd = super::super::open_top(top.path()).unwrap();
        for name in ["state", "backstay.cfg.garbled", "notes"] {
            std::fs::write(top.path().join(leftover(name)), "").unwrap();
        }
        sweep(&fd, "").unwrap();
        assert_eq!(names(&fd).unwrap(), [".notes.new"]);
    }
}
