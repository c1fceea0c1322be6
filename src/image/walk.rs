//! A directory tree, entry by entry, in an order that depends on nothing but its names.
//!
//! A directory comes before what is in it, and its entries are sorted by the bytes of their names. No
//! link is followed, and two descriptors are open at a time however deep the tree is: a directory that
//! is come back to is opened again, by its path beneath the root.
//!
//! Where another file system or a subvolume begins, the walk ends: what is shown there is not part of
//! the tree.

use crate::store::btrfs::path::{self, DIRECTORY};
use crate::store::shown;
use crate::sys::{self, Context, Error};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Statx, StatxFlags, statx};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// Where an entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// In the tree.
    Inside,
    /// Something is mounted there.
    Mount,
    /// A subvolume begins there.
    Subvolume,
}

/// An entry of the tree.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The directory that it lies in; of the root, the root itself.
    pub directory: BorrowedFd<'a>,
    /// Its name there; of the root, `.`.
    pub name: &'a CStr,
    /// Its path from the root, without a slash before it; of the root, empty.
    pub path: &'a [u8],
    /// What statx(2) says of it.
    pub stat: &'a Statx,
    /// Where it lies.
    pub edge: Edge,
}

impl Found<'_> {
    /// What it is.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.stx_mode.into())
    }

    /// Its device and inode number: the same for all names of one file.
    pub fn inode(&self) -> (u32, u32, u64) {
        inode(self.stat)
    }
}

/// Device and inode number.
pub fn inode(stat: &Statx) -> (u32, u32, u64) {
    (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino)
}

/// What is done with a tree.
pub trait Visitor {
    /// What can stop it.
    type Error: From<sys::Error>;

    /// Comes to an entry. A directory's entries follow if it lies inside.
    fn enter(&mut self, found: Found<'_>) -> Result<(), Self::Error>;

    /// Goes back from a directory, after its entries.
    fn leave(&mut self, path: &[u8], stat: &Statx) -> Result<(), Self::Error> {
        let _ = (path, stat);
        Ok(())
    }
}

/// A directory whose entries are being visited.
struct Level {
    path: Vec<u8>,
    stat: Statx,
    names: std::vec::IntoIter<CString>,
}

/// Visits everything from `root` on, the root first.
pub fn walk<V: Visitor>(root: BorrowedFd<'_>, visitor: &mut V) -> Result<(), V::Error> {
    let top = look(root, c".", b"")?;
    let found = Found {
        directory: root,
        name: c".",
        path: b"",
        stat: &top,
        edge: Edge::Inside,
    };
    visit(root, found, &Home::of(&top), visitor)
}

/// Visits what lies at `path` below `root`, with what is below it.
pub fn walk_from<V: Visitor>(
    root: BorrowedFd<'_>,
    path: &[u8],
    visitor: &mut V,
) -> Result<(), V::Error> {
    let (above, name) = path::split_bytes(path);
    let directory = path::open(root, above, OFlags::RDONLY | DIRECTORY)?;
    let name = CString::new(name).unwrap_or_default();
    let stat = look(directory.as_fd(), &name, path)?;
    let home = Home::of(&look(root, c".", b"")?);
    let found = Found {
        directory: directory.as_fd(),
        name: &name,
        path,
        stat: &stat,
        edge: home.edge(&stat),
    };
    visit(root, found, &home, visitor)
}

fn visit<V: Visitor>(
    root: BorrowedFd<'_>,
    first: Found<'_>,
    home: &Home,
    visitor: &mut V,
) -> Result<(), V::Error> {
    visitor.enter(first)?;
    if first.kind() != FileType::Directory || first.edge != Edge::Inside {
        return Ok(());
    }
    let directory = path::open(root, first.path, OFlags::RDONLY | DIRECTORY)?;
    let mut levels = vec![Level {
        names: names(&directory, first.path)?.into_iter(),
        path: first.path.to_vec(),
        stat: *first.stat,
    }];
    let mut open = Some(directory);
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.next() else {
            visitor.leave(&level.path, &level.stat)?;
            levels.pop();
            open = None;
            continue;
        };
        let directory = match open.take() {
            Some(directory) => directory,
            None => path::open(root, &level.path, OFlags::RDONLY | DIRECTORY)?,
        };
        let below = join(&level.path, name.to_bytes());
        let stat = look(directory.as_fd(), &name, &below)?;
        let found = Found {
            directory: directory.as_fd(),
            name: &name,
            path: &below,
            stat: &stat,
            edge: home.edge(&stat),
        };
        visitor.enter(found)?;
        if found.kind() != FileType::Directory || found.edge != Edge::Inside {
            open = Some(directory);
            continue;
        }
        let child = path::open(&directory, name.to_bytes(), OFlags::RDONLY | DIRECTORY)?;
        levels.push(Level {
            names: names(&child, &below)?.into_iter(),
            path: below,
            stat,
        });
        open = Some(child);
    }
    Ok(())
}

/// What the root lies on.
struct Home {
    device: (u32, u32),
    mount: u64,
}

impl Home {
    fn of(stat: &Statx) -> Self {
        Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            mount: stat.stx_mnt_id,
        }
    }

    /// Every subvolume has a device number of its own; a mount may show a part of the same file system.
    /// On an overlay, a file has the device number of the layer that it is in: directories alone count.
    fn edge(&self, stat: &Statx) -> Edge {
        let there = Self::of(stat);
        let directory = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory;
        if there.mount != self.mount {
            Edge::Mount
        } else if directory && there.device != self.device {
            Edge::Subvolume
        } else {
            Edge::Inside
        }
    }
}

/// What statx(2) says of `name`, not followed; `path` is for its error.
pub fn look(directory: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> sys::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let text = || format!("statx({:?}, AT_SYMLINK_NOFOLLOW)", lossy(path));
    let stat = statx(directory, name, flags, wanted).call(text)?;
    // Before Linux 5.8 there is no telling where something is mounted.
    match stat.stx_mask & StatxFlags::MNT_ID.bits() {
        0 => Err(Error::new(
            format!("statx({:?}, STATX_MNT_ID)", lossy(path)),
            Errno::NOSYS,
        )),
        _ => Ok(stat),
    }
}

/// The names in a directory, sorted by their bytes.
fn names(directory: &OwnedFd, path: &[u8]) -> sys::Result<Vec<CString>> {
    let text = || format!("getdents64({:?})", lossy(path));
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).call(text)? {
        let entry = entry.call(text)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A path for people, and for their terminals.
pub fn lossy(path: &[u8]) -> String {
    match path {
        b"" => "/".to_owned(),
        path => shown(path),
    }
}

/// The path of `name` in the directory at `path`.
pub fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path {
        b"" => name.to_vec(),
        path => [path, b"/", name].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[derive(Default)]
    struct Paths(Vec<String>);

    impl Visitor for Paths {
        type Error = sys::Error;

        fn enter(&mut self, found: Found<'_>) -> sys::Result<()> {
            self.0.push(lossy(found.path));
            Ok(())
        }

        fn leave(&mut self, path: &[u8], _: &Statx) -> sys::Result<()> {
            self.0.push(format!("<{}", lossy(path)));
            Ok(())
        }
    }

    fn paths(root: &std::path::Path) -> Vec<String> {
        let mut paths = Paths::default();
        let root = fs::File::open(root).unwrap();
        walk(root.as_fd(), &mut paths).unwrap();
        paths.0
    }

    #[test]
    fn directories_come_before_their_entries_and_names_are_sorted_by_bytes() {
        let root = tempfile::tempdir().unwrap();
        for directory in ["b/c", "a", "b.d"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        for file in ["b/c/x", "b/B", "b/z", "a-", "é"] {
            fs::write(root.path().join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("/etc", root.path().join("b/link")).unwrap();
        assert_eq!(
            paths(root.path()),
            [
                "/", "a", "<a", "a-", "b", "b/B", "b/c", "b/c/x", "<b/c", "b/link", "b/z", "<b",
                "b.d", "<b.d", "é", "</"
            ]
        );
    }

    #[test]
    fn a_tree_deeper_than_a_path_can_be_long_is_walked_with_two_descriptors() {
        let root = tempfile::tempdir().unwrap();
        let name = "d".repeat(200);
        let mut at: OwnedFd = fs::File::open(root.path()).unwrap().into();
        for _ in 0..40 {
            rustix::fs::mkdirat(&at, &*name, rustix::fs::Mode::RWXU).unwrap();
            at = path::open(&at, &name, OFlags::RDONLY | DIRECTORY).unwrap();
        }
        assert_eq!(paths(root.path()).len(), 82);
    }
}
