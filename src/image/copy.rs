//! Copies one path of a root into another root, with everything that belongs to it.
//!
//! For config datasets: the declared paths of an extracted system become a dataset of their own. Kept are
//! owners, modes, times with nanoseconds, extended attributes with ACLs, links, hard links among what
//! is copied, devices, holes. Directories on the way are made like those of the source and get
//! nothing else of them.
//!
//! Both sides may hold what other people wrote: no link is followed on either, and nothing that lies at
//! a copied path already is overwritten. An error or a power cut leaves a part of it: the target is a
//! fresh dataset, which is thrown away then.

use super::attributes::{self, ACCESS, DEFAULT};
use super::walk::{Edge, Found, Visitor, join, lossy, walk_from};
use crate::store::btrfs::path::{self, DIRECTORY, split_bytes};
use crate::sys::{self, Context};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Statx, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// What can stop it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error(transparent)]
    System(#[from] sys::Error),
    /// `..`, or nothing.
    #[error("{0:?} is no path below a root: name it without '..'")]
    Path(std::path::PathBuf),
    /// Something lies there that is not part of the tree.
    #[error(
        "{0} is a mount or a subvolume, which is not copied: unmount it, or declare a path without it"
    )]
    Boundary(String),
    /// A link in the way, which is not followed.
    #[error(
        "the declared path {path} goes through the link {link}: declare {instead} in layout.toml"
    )]
    Link {
        /// What was to be copied.
        path: String,
        /// Where the link is.
        link: String,
        /// The same path without this link.
        instead: String,
    },
    /// Sockets and the like.
    #[error("{0} is neither a file, a directory, a link, a device nor a FIFO: remove it")]
    Kind(String),
}

/// Whether anything lies at `path` below `from`. What lies behind a link in the way is not there for
/// [`copy()`], and leaving it out would lose it: that is an error. A link at the path itself is there.
pub fn is_there(from: BorrowedFd<'_>, path: &Path) -> Result<bool, Error> {
    let below = below(path)?;
    for parent in parents(&below) {
        let Some(look) = path::if_there(path::open(from, parent, path::LOOK))? else {
            return Ok(false);
        };
        let mode = rustix::fs::fstat(&look)
            .call(|| "fstat".to_owned())?
            .st_mode;
        if FileType::from_raw_mode(mode) == FileType::Symlink {
            let target = rustix::fs::readlinkat(&look, c"", Vec::new())
                .call(|| format!("readlinkat({:?})", lossy(parent)))?;
            let rest = below.get(parent.len()..).unwrap_or_default();
            return Err(Error::Link {
                path: format!("/{}", lossy(&below)),
                link: format!("/{}", lossy(parent)),
                instead: without_link(split_bytes(parent).0, target.to_bytes(), rest),
            });
        }
    }
    Ok(path::if_there(path::open(from, &below, path::LOOK))?.is_some())
}

/// Where a link in `directory` leads, and `rest` behind it.
fn without_link(directory: &[u8], target: &[u8], rest: &[u8]) -> String {
    let mut names: Vec<&[u8]> = Vec::new();
    let directory = match target.first() {
        Some(b'/') => &[],
        _ => directory,
    };
    for name in [directory, target, rest]
        .iter()
        .flat_map(|it| it.split(|byte| *byte == b'/'))
    {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", lossy(&names.join(&b'/')))
}

/// Copies `path`, a file or a tree below `from`, to the same path below `to`.
pub fn copy(from: BorrowedFd<'_>, path: &Path, to: BorrowedFd<'_>) -> Result<(), Error> {
    let below = below(path)?;
    let parents = parents(&below);
    let mut copier = Copier {
        from,
        to,
        links: HashMap::new(),
    };
    for parent in &parents {
        copier.parent(parent)?;
    }
    walk_from(from, &below, &mut copier)?;
    // Their times changed while entries were made in them.
    for parent in parents.iter().rev() {
        copier.finish_directory(parent)?;
    }
    Ok(())
}

/// A path as it is below a root.
fn below(path: &Path) -> Result<Vec<u8>, Error> {
    let mut below = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => below = join(&below, name.as_bytes()),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::Path(path.to_owned()));
            }
        }
    }
    if below.is_empty() {
        return Err(Error::Path(path.to_owned()));
    }
    Ok(below)
}

/// The directories above a path, from the top.
fn parents(path: &[u8]) -> Vec<&[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.filter_map(|(at, _)| path.get(..at)).collect()
}

struct Copier<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    /// The first name of each file that has several.
    links: HashMap<(u32, u32, u64), Vec<u8>>,
}

impl Visitor for Copier<'_> {
    type Error = Error;

    fn enter(&mut self, found: Found<'_>) -> Result<(), Error> {
        if found.edge != Edge::Inside {
            return Err(Error::Boundary(lossy(found.path)));
        }
        let directory = self.target(split_bytes(found.path).0)?;
        let target = Target {
            directory: directory.as_fd(),
            name: found.name,
            path: found.path,
        };
        let kind = found.kind();
        if kind != FileType::Directory && found.stat.stx_nlink > 1 {
            if let Some(first) = self.links.get(&found.inode()) {
                return self.link(first, &target);
            }
            self.links.insert(found.inode(), found.path.to_vec());
        }
        match kind {
            // Writable for us until all is in it.
            FileType::Directory => {
                rustix::fs::mkdirat(target.directory, target.name, Mode::RWXU)
                    .call(|| target.text("mkdirat"))?;
                return Ok(());
            }
            FileType::RegularFile => content(&found, &target)?,
            FileType::Symlink => {
                let to = rustix::fs::readlinkat(found.directory, found.name, Vec::new())
                    .call(|| target.text("readlinkat"))?;
                rustix::fs::symlinkat(&to, target.directory, target.name)
                    .call(|| target.text("symlinkat"))?;
            }
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo => {
                let stat = found.stat;
                let device = rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor);
                let mode = Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(target.directory, target.name, kind, mode, device)
                    .call(|| target.text("mknodat"))?;
            }
            _ => return Err(Error::Kind(lossy(found.path))),
        }
        metadata(found.directory, found.name, found.stat, &target)?;
        Ok(())
    }

    fn leave(&mut self, path: &[u8], _: &Statx) -> Result<(), Error> {
        self.finish_directory(path)
    }
}

impl Copier<'_> {
    /// The directory at `path` below the target.
    fn target(&self, path: &[u8]) -> sys::Result<OwnedFd> {
        path::open(self.to, path, OFlags::RDONLY | DIRECTORY)
    }

    /// Makes a directory on the way; one that is there is good.
    fn parent(&self, path: &[u8]) -> Result<(), Error> {
        // It must be a directory in the source, and no link to one.
        path::open(self.from, path, OFlags::RDONLY | DIRECTORY)?;
        let (above, name) = split_bytes(path);
        match rustix::fs::mkdirat(self.target(above)?, name, Mode::RWXU) {
            Err(Errno::EXIST) => Ok(()),
            other => Ok(other.call(|| format!("mkdirat({:?})", lossy(path)))?),
        }
    }

    /// Gives a directory what the source's has, after everything is in it.
    fn finish_directory(&self, path: &[u8]) -> Result<(), Error> {
        let source = path::open(self.from, path, OFlags::RDONLY | DIRECTORY)?;
        let directory = self.target(path)?;
        let stat = super::walk::look(source.as_fd(), c".", path)?;
        let target = Target {
            directory: directory.as_fd(),
            name: c".",
            path,
        };
        metadata(source.as_fd(), c".", &stat, &target)?;
        Ok(())
    }

    fn link(&self, first: &[u8], target: &Target<'_>) -> Result<(), Error> {
        let (above, name) = split_bytes(first);
        let old = self.target(above)?;
        let flags = AtFlags::empty();
        rustix::fs::linkat(&old, name, target.directory, target.name, flags)
            .call(|| target.text("linkat"))?;
        Ok(())
    }
}

/// Where something is made.
struct Target<'a> {
    directory: BorrowedFd<'a>,
    name: &'a CStr,
    path: &'a [u8],
}

impl Target<'_> {
    fn text(&self, call: &str) -> String {
        format!("{call}({:?})", lossy(self.path))
    }
}

/// Makes a file with the data of another one, its holes left out.
fn content(found: &Found<'_>, target: &Target<'_>) -> Result<(), Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let source = path::open(found.directory, found.name.to_bytes(), flags)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = rustix::fs::openat(target.directory, target.name, flags, mode)
        .call(|| target.text("openat O_EXCL"))?;
    // On one btrfs the blocks are shared, holes included.
    if rustix::fs::ioctl_ficlone(&file, &source).is_ok() {
        return Ok(());
    }
    let size = found.stat.stx_size;
    rustix::fs::ftruncate(&file, size).call(|| target.text("ftruncate"))?;
    let mut at = 0;
    while at < size {
        let (begin, end) = match rustix::fs::seek(&source, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => (at, size),
            other => {
                let begin = other.call(|| target.text("lseek SEEK_DATA"))?;
                let end = rustix::fs::seek(&source, SeekFrom::Hole(begin))
                    .call(|| target.text("lseek SEEK_HOLE"))?;
                (begin, end)
            }
        };
        range(&source, &file, begin, end.min(size), target)?;
        at = end;
    }
    Ok(())
}

fn range(
    source: &OwnedFd,
    file: &OwnedFd,
    mut at: u64,
    end: u64,
    target: &Target<'_>,
) -> Result<(), Error> {
    let mut buffer = vec![0; 256 << 10];
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX);
        let want = want.min(buffer.len());
        let piece = buffer.get_mut(..want).unwrap_or_default();
        let read = rustix::io::pread(source, piece, at).call(|| target.text("pread"))?;
        if read == 0 {
            break;
        }
        let mut done = 0;
        while done < read {
            let rest = buffer.get(done..read).unwrap_or_default();
            done +=
                rustix::io::pwrite(file, rest, at + done as u64).call(|| target.text("pwrite"))?;
        }
        at += read as u64;
    }
    Ok(())
}

/// Owner, mode, attributes and times, in the order in which one does not undo another: a new owner takes
/// set-id bits and capabilities away, an ACL changes the mode's group bits to what they were.
fn metadata(
    directory: BorrowedFd<'_>,
    name: &CStr,
    stat: &Statx,
    target: &Target<'_>,
) -> sys::Result<()> {
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let (owner, group) = (Uid::from_raw(stat.stx_uid), Gid::from_raw(stat.stx_gid));
    let (at, to) = (target.directory, target.name);
    rustix::fs::chownat(at, to, Some(owner), Some(group), nofollow)
        .call(|| target.text("fchownat"))?;
    if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::Symlink {
        // Not a link, as we made it ourselves and nobody else can: nothing is followed.
        let mode = Mode::from_raw_mode(u32::from(stat.stx_mode) & 0o7777);
        rustix::fs::chmodat(at, to, mode, AtFlags::empty()).call(|| target.text("fchmodat"))?;
    }
    let wanted = attributes::read(directory, name)?;
    let there = attributes::by_name(at, to);
    // What a default ACL above it gave it.
    for acl in [ACCESS, DEFAULT] {
        if !wanted.contains_key(acl) {
            match rustix::fs::lremovexattr(&there, acl) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                other => other.call(|| target.text("lremovexattr"))?,
            }
        }
    }
    for (key, value) in &wanted {
        let flags = XattrFlags::empty();
        rustix::fs::lsetxattr(&there, key.as_slice(), value, flags).call(|| {
            let key = String::from_utf8_lossy(key);
            format!("lsetxattr({:?}, {key:?})", lossy(target.path))
        })?;
    }
    let time = |stamp: &rustix::fs::StatxTimestamp| Timespec {
        tv_sec: stamp.tv_sec,
        tv_nsec: stamp.tv_nsec.into(),
    };
    let times = Timestamps {
        last_access: time(&stat.stx_atime),
        last_modification: time(&stat.stx_mtime),
    };
    rustix::fs::utimensat(at, to, &times, nofollow).call(|| target.text("utimensat"))
}

#[cfg(test)]
mod tests;
