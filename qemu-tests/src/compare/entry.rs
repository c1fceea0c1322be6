//! What is known of an entry, and the reading of a whole tree.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

/// The granularity of holes, in bytes: a block of every file system that is used here.
const BLOCK: u64 = 4096;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Fifo,
    Socket,
}

/// One entry, without its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-id and sticky.
    pub mode: u32,
    /// User number.
    pub user: u32,
    /// Group number.
    pub group: u32,
    /// Time of modification: seconds since 1970, nanoseconds.
    pub time: (i64, i64),
    /// A file's length in bytes; 0 for anything else.
    pub size: u64,
    /// The SHA-256 of a file's bytes; of anything else, of nothing.
    pub digest: [u8; 32],
    /// Where a file's data is, in blocks: from, to.
    pub data: Vec<(u64, u64)>,
    /// Where a symbolic link points.
    pub target: Vec<u8>,
    /// A device's number.
    pub device: u64,
    /// Extended attributes.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Of a file with several names in the tree, the first of them by its bytes.
    pub first_name: Option<Vec<u8>>,
}

/// A whole tree, by path from its root; the root itself is the empty path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Its entries.
    pub entries: BTreeMap<Vec<u8>, Entry>,
}

impl Tree {
    /// Reads everything below `root`.
    ///
    /// # Errors
    /// Where something cannot be read.
    pub fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        let mut names = HashMap::new();
        tree.add(root, Vec::new(), &mut names)?;
        for mut paths in names.into_values() {
            paths.sort_unstable();
            let [first, _, ..] = paths.as_slice() else {
                continue;
            };
            for path in &paths {
                if let Some(entry) = tree.entries.get_mut(path) {
                    entry.first_name = Some(first.clone());
                }
            }
        }
        Ok(tree)
    }

    fn add(
        &mut self,
        at: &Path,
        path: Vec<u8>,
        names: &mut HashMap<(u64, u64), Vec<Vec<u8>>>,
    ) -> Result<()> {
        let entry =
            Entry::read(at, path.is_empty()).with_context(|| format!("{}", at.display()))?;
        let stat = fs::symlink_metadata(at)?;
        if entry.kind != Kind::Directory && stat.nlink() > 1 {
            let paths = names.entry((stat.dev(), stat.ino())).or_default();
            paths.push(path.clone());
        }
        let directory = entry.kind == Kind::Directory;
        self.entries.insert(path.clone(), entry);
        if directory {
            for below in fs::read_dir(at)? {
                let name = below?.file_name();
                let below = match path.as_slice() {
                    b"" => name.as_bytes().to_vec(),
                    path => [path, b"/", name.as_bytes()].concat(),
                };
                self.add(&at.join(&name), below, names)?;
            }
        }
        Ok(())
    }
}

impl Entry {
    fn read(at: &Path, root: bool) -> Result<Self> {
        // A root may be named by a link; nothing else is followed.
        let stat = if root {
            fs::metadata(at)?
        } else {
            fs::symlink_metadata(at)?
        };
        let kind = match stat.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::Symlink,
            kind if kind.is_char_device() => Kind::CharacterDevice,
            kind if kind.is_block_device() => Kind::BlockDevice,
            kind if kind.is_fifo() => Kind::Fifo,
            _ => Kind::Socket,
        };
        let mut entry = Self {
            kind,
            mode: stat.mode() & 0o7777,
            user: stat.uid(),
            group: stat.gid(),
            time: (stat.mtime(), stat.mtime_nsec()),
            size: 0,
            digest: [0; 32],
            data: Vec::new(),
            target: Vec::new(),
            device: 0,
            attributes: attributes(at)?,
            first_name: None,
        };
        match kind {
            Kind::File => {
                let file = File::open(at)?;
                entry.size = stat.len();
                entry.data = data(&file, stat.len())?;
                entry.digest = digest(&file, &entry.data, stat.len())?;
            }
            Kind::Symlink => entry.target = fs::read_link(at)?.as_os_str().as_bytes().to_vec(),
            Kind::CharacterDevice | Kind::BlockDevice => entry.device = stat.rdev(),
            Kind::Directory | Kind::Fifo | Kind::Socket => {}
        }
        Ok(entry)
    }
}

/// The blocks of a file that are no holes.
fn data(file: &File, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut pieces: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    while at < size {
        let begin = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            other => other?,
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(begin))?;
        let (from, to) = (begin / BLOCK, end.div_ceil(BLOCK));
        match pieces.last_mut() {
            Some(last) if last.1 >= from => last.1 = to,
            _ => pieces.push((from, to)),
        }
        at = end;
    }
    Ok(pieces)
}

/// The digest of the bytes as they are read, zeros of holes included. Holes of gigabytes are not read:
/// the length and place of each block that is not all zeros is part of the digest instead.
fn digest(file: &File, data: &[(u64, u64)], size: u64) -> Result<[u8; 32]> {
    let mut hash = Sha256::new().chain_update(size.to_le_bytes());
    let mut block = [0; BLOCK as usize];
    let mut file = file;
    for (from, to) in data {
        io::Seek::seek(&mut file, io::SeekFrom::Start(from * BLOCK))?;
        let mut reader = io::BufReader::with_capacity(1 << 20, file);
        for number in *from..*to {
            let length = (size - number * BLOCK).min(BLOCK) as usize;
            reader.read_exact(&mut block[..length])?;
            // A hole reads the same.
            if block[..length].iter().any(|byte| *byte != 0) {
                hash.update(number.to_le_bytes());
                hash.update(&block[..length]);
            }
        }
    }
    Ok(hash.finalize().into())
}

/// All extended attributes of an entry, whole; a symbolic link is not followed.
///
/// # Errors
/// Where they cannot be read.
pub fn attributes(at: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    // XATTR_LIST_MAX and XATTR_SIZE_MAX; xattr(7).
    let mut buffer = vec![0; 65536];
    let length = match rustix::fs::llistxattr(at, &mut buffer[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let names = buffer[..length].to_vec();
    let mut attributes = BTreeMap::new();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let length = rustix::fs::lgetxattr(at, name, &mut buffer[..])?;
        attributes.insert(name.to_vec(), buffer[..length].to_vec());
    }
    Ok(attributes)
}
