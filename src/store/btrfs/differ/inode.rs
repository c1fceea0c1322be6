//! An inode with all that is compared of it, and the comparison.

use super::item::{self, Attribute, Attributes, Entry, Extent};
use crate::store::Node;
use crate::store::difference::{Change, What};
use crate::sys::btrfs::search::Key;

/// The kind of thing in a mode (`S_IFMT`).
const KIND: u32 = 0o170_000;

/// What a tree says of an inode, in one form whatever the order it came to be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// With the size of a regular file only: others have none that means anything.
    pub attributes: Attributes,
    /// By name.
    pub xattrs: Vec<Attribute>,
    /// By place; neighbours on the disk are one.
    pub extents: Vec<Extent>,
    /// By name; those of a directory.
    pub entries: Vec<Entry>,
    /// The directories that have a name of it.
    pub parents: Vec<u64>,
}

impl Inode {
    /// Puts its items together. `Ok(None)`: there is no such inode. `Err`: the key of an item that is not what
    /// the kernel writes.
    #[cfg(test)]
    pub fn of(items: &[(Key, Vec<u8>)]) -> Result<Option<Inode>, Key> {
        let mut parts = Parts::default();
        for (key, item) in items {
            parts.add(*key, item).ok_or(*key)?;
        }
        Ok(parts.inode())
    }

    /// What kind of thing it is.
    pub fn node(&self) -> Node {
        match self.attributes.mode & KIND {
            0o100_000 => Node::File,
            0o040_000 => Node::Directory,
            0o120_000 => Node::Symlink,
            _ => Node::Other,
        }
    }

    fn size(&self) -> Option<u64> {
        (self.node() == Node::File).then_some(self.attributes.size)
    }
}

/// What came of an inode's items so far.
#[derive(Default)]
pub struct Parts {
    attributes: Option<Attributes>,
    xattrs: Vec<Attribute>,
    extents: Vec<Extent>,
    entries: Vec<Entry>,
    parents: Vec<u64>,
}

impl Parts {
    /// Takes the next item. `None` where it is not what the kernel writes.
    pub fn add(&mut self, key: Key, item: &[u8]) -> Option<()> {
        match key.kind {
            item::INODE_ITEM => self.attributes = Some(item::attributes(item)?),
            item::INODE_REF => self.parents.push(key.offset),
            item::INODE_EXTREF => self.parents.extend(item::extref_parents(item)?),
            item::XATTR_ITEM => self.xattrs.extend(item::xattrs(item)?),
            item::DIR_INDEX => self.entries.push(item::entry(item)?),
            item::EXTENT_DATA => {
                if let Some(extent) = item::extent(key.offset, item)? {
                    join(&mut self.extents, extent)?;
                }
            }
            _ => {}
        }
        Some(())
    }

    /// The inode, when all its items were added.
    pub fn inode(mut self) -> Option<Inode> {
        let mut attributes = self.attributes?;
        if attributes.mode & KIND != 0o100_000 {
            attributes.size = 0;
        }
        self.xattrs.sort_unstable();
        self.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.parents.sort_unstable();
        self.parents.dedup();
        Some(Inode {
            attributes,
            xattrs: self.xattrs,
            extents: self.extents,
            entries: self.entries,
            parents: self.parents,
        })
    }
}

/// Adds an extent: one that goes on where the last one ends, in the file and on the disk, makes it longer. A write
/// into the middle leaves two where one was, and a later one may leave the same bytes behind.
fn join(extents: &mut Vec<Extent>, next: Extent) -> Option<()> {
    if let (
        Some(Extent::Disk {
            at,
            address,
            offset,
            length,
        }),
        Extent::Disk {
            at: next_at,
            address: next_address,
            offset: next_offset,
            length: next_length,
        },
    ) = (extents.last_mut(), &next)
        && address == next_address
        && at.checked_add(*length)? == *next_at
        && offset.checked_add(*length)? == *next_offset
    {
        *length = length.checked_add(*next_length)?;
        return Some(());
    }
    extents.push(next);
    Some(())
}

/// What lies at a path in one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// An inode of the tree.
    Inode(Inode),
    /// A subvolume, or the stub of one: a directory, of which nothing else is compared.
    Subvolume,
}

impl Found {
    fn node(&self) -> Node {
        match self {
            Found::Inode(inode) => inode.node(),
            Found::Subvolume => Node::Directory,
        }
    }

    /// Bytes of a regular file.
    pub fn size(&self) -> Option<u64> {
        match self {
            Found::Inode(inode) => inode.size(),
            Found::Subvolume => None,
        }
    }
}

/// What became of a path; `None`: nothing.
pub fn compare(before: Option<&Found>, after: Option<&Found>) -> Option<(Node, Change)> {
    let (before, after) = match (before, after) {
        (None, None) => return None,
        (None, Some(after)) => return Some((after.node(), Change::Added)),
        (Some(before), None) => return Some((before.node(), Change::Removed)),
        (Some(before), Some(after)) => (before, after),
    };
    let changed = |what| Some((after.node(), Change::Changed(what)));
    let (Found::Inode(one), Found::Inode(other)) = (before, after) else {
        return (before.node() != after.node())
            .then_some(What::Kind)
            .and_then(changed);
    };
    let (old, new) = (one.attributes, other.attributes);
    if old.mode & KIND != new.mode & KIND {
        return changed(What::Kind);
    }
    let content = old.size != new.size || one.extents != other.extents;
    let all = |of: Attributes| (of.mode, of.uid, of.gid, of.rdev);
    let metadata = all(old) != all(new) || one.xattrs != other.xattrs;
    What::of(content, metadata).and_then(changed)
}

#[cfg(test)]
pub mod tests {
    use super::super::item::Target;
    use super::super::item::tests::{dir_item, regular};
    use super::*;

    pub fn inode(mode: u32) -> Inode {
        Inode {
            attributes: Attributes {
                size: 0,
                uid: 0,
                gid: 0,
                mode,
                rdev: 0,
            },
            xattrs: Vec::new(),
            extents: Vec::new(),
            entries: Vec::new(),
            parents: Vec::new(),
        }
    }

    fn key(kind: u8, offset: u64) -> Key {
        Key {
            objectid: 300,
            kind,
            offset,
        }
    }

    fn inode_item(mode: u32, size: u64) -> Vec<u8> {
        let mut item = vec![0; 160];
        item[16..24].copy_from_slice(&size.to_le_bytes());
        item[52..56].copy_from_slice(&mode.to_le_bytes());
        item
    }

    #[test]
    fn items_become_one_inode_in_the_order_of_names_and_a_garbled_one_says_its_key() {
        let items = [
            (key(1, 0), inode_item(0o040_755, 12)),
            (key(12, 256), Vec::new()),
            (key(24, 5), dir_item(0, 0, b"user.b", b"1", 8)),
            (key(24, 9), dir_item(0, 0, b"user.a", b"2", 8)),
            (key(84, 1), b"anything".to_vec()),
            (key(96, 2), dir_item(301, 1, b"z", b"", 1)),
            (key(96, 3), dir_item(302, 132, b"a", b"", 2)),
        ];
        let read = Inode::of(&items).unwrap().unwrap();
        assert_eq!(read.attributes.size, 0, "that of a directory");
        assert_eq!(read.node(), Node::Directory);
        let names: Vec<_> = read.xattrs.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(names, [b"user.a", b"user.b"]);
        let targets: Vec<_> = read.entries.iter().map(|entry| entry.target).collect();
        assert_eq!(targets, [Target::Subvolume(302), Target::Inode(301)]);
        assert_eq!(read.parents, [256]);
        assert_eq!(Inode::of(&items[1..]), Ok(None));
        for at in [0, 2, 5] {
            let mut cut = items.clone();
            cut[at].1.pop();
            assert_eq!(Inode::of(&cut), Err(cut[at].0));
        }
    }

    #[test]
    fn how_a_file_was_cut_into_extents_is_no_difference() {
        let file = |extents: &[(u64, Vec<u8>)]| {
            let mut items = vec![(key(1, 0), inode_item(0o100_644, 1 << 20))];
            items.extend(
                extents
                    .iter()
                    .map(|(at, item)| (key(108, *at), item.clone())),
            );
            Inode::of(&items).unwrap().unwrap()
        };
        let whole = file(&[(0, regular(1, 7 << 20, 4096, 12288))]);
        for (same, extents) in [
            (
                true,
                vec![
                    (0, regular(1, 7 << 20, 4096, 4096)),
                    (4096, regular(1, 7 << 20, 8192, 8192)),
                    (12288, regular(1, 0, 0, 4096)),
                    (16384, regular(2, 9 << 20, 0, 4096)),
                ],
            ),
            (
                false,
                vec![
                    (0, regular(1, 7 << 20, 4096, 4096)),
                    (4096, regular(1, 8 << 20, 8192, 8192)),
                ],
            ),
            (
                false,
                vec![
                    (0, regular(1, 7 << 20, 4096, 4096)),
                    (8192, regular(1, 7 << 20, 8192, 8192)),
                ],
            ),
        ] {
            assert_eq!(file(&extents) == whole, same, "{extents:?}");
        }
        let beyond = (u64::MAX, regular(1, 7 << 20, 0, u64::MAX));
        let items = [
            (key(108, 0), regular(1, 7 << 20, 0, u64::MAX)),
            (key(108, beyond.0), beyond.1),
        ];
        assert!(Inode::of(&items).is_ok(), "and no overflow");
    }

    #[test]
    fn what_differs_is_told_apart() {
        let file = Found::Inode(inode(0o100_644));
        let changed = |change: fn(&mut Inode)| {
            let mut other = inode(0o100_644);
            change(&mut other);
            compare(Some(&file), Some(&Found::Inode(other)))
        };
        let file_is = |what| Some((Node::File, Change::Changed(what)));
        assert_eq!(changed(|_| {}), None);
        assert_eq!(changed(|it| it.parents.push(9)), None);
        type Alter = fn(&mut Inode);
        let cases: [(Alter, What); 7] = [
            (|it| it.attributes.size = 1, What::Content),
            (|it| it.attributes.mode = 0o100_600, What::Metadata),
            (|it| it.attributes.uid = 1, What::Metadata),
            (|it| it.attributes.gid = 1, What::Metadata),
            (|it| it.attributes.rdev = 1, What::Metadata),
            (
                |it| it.xattrs.push((b"user.a".to_vec(), Vec::new())),
                What::Metadata,
            ),
            (
                |it| (it.attributes.size, it.attributes.uid) = (1, 1),
                What::Both,
            ),
        ];
        for (change, what) in cases {
            assert_eq!(changed(change), file_is(what));
        }
        let link = Found::Inode(inode(0o120_777));
        let directory = Found::Inode(inode(0o040_700));
        let stub = Found::Subvolume;
        let kind = |node| Some((node, Change::Changed(What::Kind)));
        for (before, after, want) in [
            (None, None, None),
            (None, Some(&link), Some((Node::Symlink, Change::Added))),
            (Some(&stub), None, Some((Node::Directory, Change::Removed))),
            (Some(&file), Some(&link), kind(Node::Symlink)),
            (Some(&link), Some(&stub), kind(Node::Directory)),
            (Some(&directory), Some(&stub), None),
            (Some(&stub), Some(&stub), None),
        ] {
            assert_eq!(compare(before, after), want);
        }
    }
}
