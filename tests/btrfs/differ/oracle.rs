//! The same comparison by reading every file, through the kernel's own view of the two.

use backstay::store::Node;
use backstay::store::difference::{Change, Difference, What};
use rustix::fs::{lgetxattr, llistxattr};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// All that lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    node: Node,
    /// The kind more finely, where `node` says `Other`.
    kind: u32,
    /// Mode, owner, group, device.
    owner: (u32, u32, u32, u64),
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    content: Vec<u8>,
    /// A subvolume or the stub of one.
    nested: bool,
}

/// A dataset by its paths.
pub type Facts = BTreeMap<Vec<u8>, Fact>;

/// Reads a dataset.
pub fn read(root: &Path) -> Facts {
    let mut facts = Facts::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let fact = look(&path, path == root);
        if fact.node == Node::Directory && !fact.nested {
            waiting.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
        }
        let below = path.strip_prefix(root).unwrap();
        facts.insert(below.as_os_str().as_bytes().to_vec(), fact);
    }
    facts
}

fn look(path: &Path, root: bool) -> Fact {
    let stat = fs::symlink_metadata(path).unwrap();
    let kind = stat.file_type();
    let (node, content) = if kind.is_file() {
        (Node::File, fs::read(path).unwrap())
    } else if kind.is_symlink() {
        let target = fs::read_link(path).unwrap().into_os_string().into_vec();
        (Node::Symlink, target)
    } else if kind.is_dir() {
        (Node::Directory, Vec::new())
    } else {
        assert!(kind.is_fifo() || kind.is_char_device() || kind.is_block_device());
        (Node::Other, Vec::new())
    };
    let rdev = match kind.is_char_device() || kind.is_block_device() {
        true => stat.rdev(),
        false => 0,
    };
    Fact {
        node,
        kind: stat.mode() & 0o170_000,
        owner: (stat.mode() & 0o7777, stat.uid(), stat.gid(), rdev),
        xattrs: xattrs(path),
        content,
        nested: !root && matches!(stat.ino(), 2 | 256),
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let length = llistxattr(path, &mut names[..]).unwrap();
    names.truncate(length);
    let mut found = BTreeMap::new();
    for name in names.split(|byte| *byte == 0).filter(|it| !it.is_empty()) {
        let mut value = vec![0; 1 << 16];
        let length = lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(length);
        found.insert(name.to_vec(), value);
    }
    found
}

/// What differs, by path.
pub fn differences(from: &Facts, to: &Facts) -> Vec<Difference> {
    let mut paths: Vec<&Vec<u8>> = from.keys().chain(to.keys()).collect();
    paths.sort();
    paths.dedup();
    let mut found = Vec::new();
    for path in paths {
        let (before, after) = (from.get(path), to.get(path));
        let size = |fact: Option<&Fact>| {
            let file = fact.filter(|fact| fact.node == Node::File);
            file.map(|fact| fact.content.len() as u64)
        };
        let change = match (before, after) {
            (Some(_), None) => Some(Change::Removed),
            (None, Some(_)) => Some(Change::Added),
            (Some(before), Some(after)) => changed(before, after).map(Change::Changed),
            (None, None) => unreachable!(),
        };
        if let Some(change) = change {
            found.push(Difference {
                path: path.clone(),
                node: after.or(before).unwrap().node,
                change,
                before: size(before),
                after: size(after),
            });
        }
    }
    found
}

fn changed(before: &Fact, after: &Fact) -> Option<What> {
    if before.kind != after.kind {
        return Some(What::Kind);
    }
    if before.nested || after.nested {
        return None;
    }
    let content = before.content != after.content;
    let metadata = before.owner != after.owner || before.xattrs != after.xattrs;
    What::of(content, metadata)
}

/// Takes from what was found the contents that were said to be others and are the same byte for byte, as is allowed.
/// Says how many those were.
pub fn without_rewritten(found: &mut Vec<Difference>, from: &Facts, to: &Facts) -> usize {
    let mut rewritten = 0;
    found.retain_mut(|it| {
        let (Some(before), Some(after)) = (from.get(&it.path), to.get(&it.path)) else {
            return true;
        };
        if before.node != Node::File || before.content != after.content {
            return true;
        }
        let rest = match it.change {
            Change::Changed(What::Content) => None,
            Change::Changed(What::Both) => Some(What::Metadata),
            _ => return true,
        };
        rewritten += 1;
        match rest {
            Some(rest) => it.change = Change::Changed(rest),
            None => return false,
        }
        true
    });
    rewritten
}
