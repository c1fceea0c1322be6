//! Entries → files.

use std::io::BufRead;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ftruncate, linkat, makedev, mknodat, openat, statat,
    symlinkat,
};
use rustix::io::{Errno, pwrite};

use super::error::{Doing, Error, Result, shown};
use super::limits::Limits;
use super::metadata::{self, Creator, Metadata};
use super::tar::{Entry, Kind, Reader};
use super::tree::{Path, Tree};
use crate::sys::{Context, descriptor};

/// A file of this length is on its way to the disk as soon as it is written, in bytes: the disk works
/// while the next files are unpacked, and the sync at the end finds little to do. Smaller ones are left to
/// the kernel, which puts many of them together.
const WRITEBACK: u64 = 256 << 10;

/// What was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of the decompressed archive.
    pub bytes: u64,
}

/// Extracts a whole archive into an empty directory; `made` is told how many entries that were so far.
/// The process's umask must be 0.
///
/// # Errors
/// Any of [`Error`]; a part of the archive is there then.
pub fn write_all<R: BufRead>(
    source: R,
    root: BorrowedFd<'_>,
    limits: &Limits,
    made: &mut dyn FnMut(u64),
) -> Result<Written> {
    empty(root)?;
    let mut reader = Reader::new(source, limits);
    let mut tree = Tree::new(root, limits);
    let creator = Creator::current();
    let mut entries = 0;
    while let Some(mut entry) = reader.next()? {
        entries += 1;
        if entries > limits.entries {
            return Err(Error::limit(&entry.path, "entries", limits.entries));
        }
        one(&mut reader, &mut tree, &mut entry, creator, limits)?;
        made(entries);
    }
    tree.finish()?;
    Ok(Written {
        entries,
        bytes: reader.read_bytes(),
    })
}

/// Nothing of anybody else's may lie there: then everything that lies there is of this run.
fn empty(root: BorrowedFd<'_>) -> Result<()> {
    let look = || -> rustix::io::Result<bool> {
        for entry in Dir::read_from(root)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    };
    match look()
        .call(|| "getdents64".into())
        .doing(|| "looking at the directory to extract into".into())?
    {
        true => Ok(()),
        false => Err(Error::NotEmpty),
    }
}

fn one<R: BufRead>(
    reader: &mut Reader<R>,
    tree: &mut Tree<'_>,
    entry: &mut Entry,
    creator: Creator,
    limits: &Limits,
) -> Result<()> {
    let raw = std::mem::take(&mut entry.path);
    let path = Path::new(&raw, limits)?;
    let data = Metadata::of(entry, creator);
    if entry.kind == Kind::Directory {
        return tree.entry(&path, data, &raw);
    }
    let Some((parent, name)) = path.split() else {
        return Err(Error::refused(&raw, "it is the root and no directory"));
    };
    if raw.last() == Some(&b'/') {
        return Err(Error::refused(
            &raw,
            "it is no directory and its name ends in '/'",
        ));
    }
    if let Kind::HardLink(target) = &entry.kind {
        return hard_link(tree, target, parent, name, &raw, limits);
    }
    let directory = tree.directory(parent, &raw)?;
    match &entry.kind {
        Kind::File => {
            let file = create(directory, name, data.creation_mode(), &raw)?;
            fill(reader, &file, entry, &raw)?;
            metadata::to_file(&file, &data, &raw)?;
            if entry.size >= WRITEBACK {
                // Only sooner than it would be: whatever is wrong with the disk, the sync says.
                let _ = descriptor::start_writeback(file.as_fd());
            }
            Ok(())
        }
        Kind::Symlink(target) => {
            if target.is_empty() || target.contains(&0) || target.len() > 4095 {
                return Err(Error::refused(&raw, "it is a link to no possible name"));
            }
            symlinkat(target.as_slice(), directory, name).map_err(|errno| {
                exists_or(errno, &raw, || format!("symlinkat({:?})", shown(name)))
            })?;
            metadata::to_name(directory, name, &data, true, &raw)
        }
        Kind::Fifo => node(directory, name, &data, FileType::Fifo, (0, 0), &raw),
        Kind::Character(major, minor) => node(
            directory,
            name,
            &data,
            FileType::CharacterDevice,
            (*major, *minor),
            &raw,
        ),
        Kind::Block(major, minor) => node(
            directory,
            name,
            &data,
            FileType::BlockDevice,
            (*major, *minor),
            &raw,
        ),
        Kind::Directory | Kind::HardLink(_) => Ok(()),
    }
}

fn create(directory: BorrowedFd<'_>, name: &[u8], mode: Mode, entry: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, mode).map_err(|errno| {
        exists_or(errno, entry, || {
            format!("openat({:?}, {flags:?}, {mode:?})", shown(name))
        })
    })
}

/// The data of a file, each stretch in its place.
fn fill<R: BufRead>(
    reader: &mut Reader<R>,
    file: &OwnedFd,
    entry: &Entry,
    raw: &[u8],
) -> Result<()> {
    let whole = [(0, entry.size)];
    let (stretches, length) = match &entry.sparse {
        Some(sparse) => (sparse.stretches.as_slice(), Some(sparse.length)),
        None => (&whole[..], None),
    };
    let doing = || format!("extracting {:?}", shown(raw));
    for (offset, bytes) in stretches {
        let (mut offset, mut left) = (*offset, *bytes);
        while left != 0 {
            let chunk = reader.chunk()?;
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let part = chunk.get(..chunk.len().min(most)).unwrap_or_default();
            if part.is_empty() {
                return Err(Error::refused(
                    raw,
                    "its sparse map is longer than its data",
                ));
            }
            let written = loop {
                match pwrite(file, part, offset) {
                    Err(Errno::INTR) => {}
                    other => break other,
                }
            };
            let written = written
                .call(|| format!("pwrite({} bytes, offset {offset})", part.len()))
                .doing(doing)?;
            reader.consume(written);
            offset += written as u64;
            left -= written as u64;
        }
    }
    match length {
        Some(length) => ftruncate(file, length)
            .call(|| format!("ftruncate({length})"))
            .doing(doing),
        None => Ok(()),
    }
}

/// A hard link's target is anything but a directory; as the tree was empty, this run made it. A link that
/// is the target is itself: nothing is followed, and it gets a second name.
fn hard_link(
    tree: &mut Tree<'_>,
    target: &[u8],
    parent: &[&[u8]],
    name: &[u8],
    raw: &[u8],
    limits: &Limits,
) -> Result<()> {
    let doing = || format!("extracting {:?}", shown(raw));
    let path = Path::new(target, limits)?;
    let Some((from, from_name)) = path.split() else {
        return Err(Error::refused(
            raw,
            "it is a hard link to the root directory",
        ));
    };
    let nothing = || {
        Error::refused(
            raw,
            format!(
                "it is a hard link to {:?}, which is no file that came before it: pack it with \
                 'backstay factory pack' or GNU tar",
                shown(target)
            ),
        )
    };
    let from = match tree.look(from) {
        Ok(fd) => fd,
        Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
            return Err(nothing());
        }
        Err(error) => return Err(error).doing(doing),
    };
    let directory = tree.directory(parent, raw)?;
    let status = match statat(&from, from_name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(status) => status,
        Err(Errno::NOENT) => return Err(nothing()),
        Err(errno) => {
            return Err(errno)
                .call(|| format!("fstatat({:?})", shown(from_name)))
                .doing(doing);
        }
    };
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        return Err(nothing());
    }
    // Without AT_SYMLINK_FOLLOW the last component is itself.
    linkat(&from, from_name, directory, name, AtFlags::empty()).map_err(|errno| {
        exists_or(errno, raw, || {
            format!("linkat({:?}, {:?})", shown(target), shown(name))
        })
    })
}

fn node(
    directory: BorrowedFd<'_>,
    name: &[u8],
    data: &Metadata,
    kind: FileType,
    (major, minor): (u32, u32),
    raw: &[u8],
) -> Result<()> {
    // linux/kdev_t.h: 12 and 20 bits; more would be cut off in silence.
    if major > 0xfff || minor > 0xf_ffff {
        return Err(Error::refused(
            raw,
            "its device number is larger than Linux has",
        ));
    }
    let mode = data.creation_mode();
    mknodat(directory, name, kind, mode, makedev(major, minor)).map_err(|errno| {
        exists_or(errno, raw, || {
            format!("mknodat({:?}, {kind:?}, {major}:{minor})", shown(name))
        })
    })?;
    metadata::to_name(directory, name, data, false, raw)
}

/// tar lets a later entry replace an earlier one, for archives that were appended to. An image of a
/// system is made in one go, and a second entry of a name is how many an attack begins: refused.
fn exists_or(errno: Errno, entry: &[u8], call: impl FnOnce() -> String) -> Error {
    match errno {
        Errno::EXIST => Error::refused(
            entry,
            "an entry before it has the same name: pack it anew, not with --append or --update",
        ),
        errno => Error::System {
            doing: format!("extracting {:?}", shown(entry)),
            source: crate::sys::Error::new(call(), errno),
        },
    }
}
