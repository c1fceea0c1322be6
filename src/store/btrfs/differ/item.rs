//! The items of a subvolume's tree, taken apart (`<linux/btrfs_tree.h>`; integers are little-endian).
//!
//! Every function gives `None` for bytes that are not what the kernel writes.

/// `BTRFS_INODE_ITEM_KEY`.
pub const INODE_ITEM: u8 = 1;
/// `BTRFS_INODE_REF_KEY`; the offset of its key is the directory.
pub const INODE_REF: u8 = 12;
/// `BTRFS_INODE_EXTREF_KEY`: further names, where the other is full.
pub const INODE_EXTREF: u8 = 13;
/// `BTRFS_XATTR_ITEM_KEY`.
pub const XATTR_ITEM: u8 = 24;
/// `BTRFS_DIR_INDEX_KEY`. `BTRFS_DIR_ITEM_KEY` (84) has the same again, by hash.
pub const DIR_INDEX: u8 = 96;
/// `BTRFS_EXTENT_DATA_KEY`; the offset of its key is the place in the file.
pub const EXTENT_DATA: u8 = 108;
/// `BTRFS_ROOT_ITEM_KEY`.
pub const ROOT_ITEM: u8 = 132;

/// `BTRFS_FT_DIR`; the kernel sets the highest bit for an encrypted name.
const FT_DIRECTORY: u8 = 2;
/// `BTRFS_FILE_EXTENT_INLINE`, `…REG`, `…PREALLOC`.
const INLINE: u8 = 0;
const REGULAR: u8 = 1;
const PREALLOCATED: u8 = 2;
/// Bytes of a `btrfs_dir_item`.
const DIR_ITEM: usize = 30;

fn byte(item: &[u8], at: usize) -> Option<u8> {
    item.get(at).copied()
}

fn u16_at(item: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*item.get(at..)?.first_chunk()?))
}

fn u32_at(item: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*item.get(at..)?.first_chunk()?))
}

fn u64_at(item: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*item.get(at..)?.first_chunk()?))
}

/// Of a `btrfs_inode_item`, what is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub size: u64,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub rdev: u64,
}

pub fn attributes(item: &[u8]) -> Option<Attributes> {
    item.get(..160)?;
    Some(Attributes {
        size: u64_at(item, 16)?,
        uid: u32_at(item, 44)?,
        gid: u32_at(item, 48)?,
        mode: u32_at(item, 52)?,
        rdev: u64_at(item, 56)?,
    })
}

/// The directories in a `btrfs_inode_extref`, of which there may be several in an item.
pub fn extref_parents(mut item: &[u8]) -> Option<Vec<u64>> {
    let mut parents = Vec::new();
    while !item.is_empty() {
        parents.push(u64_at(item, 0)?);
        let name = usize::from(u16_at(item, 16)?);
        item = item.get(18..)?.get(name..)?;
    }
    Some(parents)
}

/// An extended attribute: its name and its value.
pub type Attribute = (Vec<u8>, Vec<u8>);

/// Those of an item: there are several where their names have one hash.
pub fn xattrs(mut item: &[u8]) -> Option<Vec<Attribute>> {
    let mut found = Vec::new();
    while !item.is_empty() {
        let value = usize::from(u16_at(item, 25)?);
        let name = usize::from(u16_at(item, 27)?);
        let (name, rest) = item.get(DIR_ITEM..)?.split_at_checked(name)?;
        let (value, rest) = rest.split_at_checked(value)?;
        found.push((name.to_vec(), value.to_vec()));
        item = rest;
    }
    Some(found)
}

/// What a name in a directory leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An inode of the same tree.
    Inode(u64),
    /// A subvolume, by its id. A snapshot shows an empty directory there.
    Subvolume(u64),
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    pub target: Target,
    pub directory: bool,
}

pub fn entry(item: &[u8]) -> Option<Entry> {
    let id = u64_at(item, 0)?;
    let target = match byte(item, 8)? {
        INODE_ITEM => Target::Inode(id),
        ROOT_ITEM => Target::Subvolume(id),
        _ => return None,
    };
    let length = usize::from(u16_at(item, 27)?);
    let name = item.get(DIR_ITEM..)?;
    // Whatever is put into a path must not change what the path means.
    let plain = !matches!(name, b"" | b"." | b"..")
        && !name.iter().any(|byte| matches!(byte, b'/' | b'\0'));
    (name.len() == length && plain).then_some(Entry {
        name: name.to_vec(),
        target,
        directory: byte(item, 29)? & 0x7f == FT_DIRECTORY,
    })
}

/// Where a piece of a file lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// In the item itself.
    Inline {
        compression: u8,
        length: u64,
        bytes: Vec<u8>,
    },
    /// On the disk: `length` bytes of the file from `at` on are those from `offset` on in what lies at
    /// `address`, when it is not compressed.
    Disk {
        at: u64,
        address: u64,
        offset: u64,
        length: u64,
    },
}

/// An extent of a file; `Some(None)`: a hole, or room that nothing was written to yet: both read as zeros.
pub fn extent(at: u64, item: &[u8]) -> Option<Option<Extent>> {
    match byte(item, 20)? {
        INLINE => Some(Some(Extent::Inline {
            compression: byte(item, 16)?,
            length: u64_at(item, 8)?,
            bytes: item.get(21..)?.to_vec(),
        })),
        REGULAR => {
            let extent = Extent::Disk {
                at,
                address: u64_at(item, 21)?,
                offset: u64_at(item, 37)?,
                length: u64_at(item, 45)?,
            };
            let hole = matches!(extent, Extent::Disk { address: 0, .. });
            Some((!hole).then_some(extent))
        }
        PREALLOCATED => Some(None),
        _ => None,
    }
}

/// Of a `btrfs_root_item`, what says where a subvolume comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub uuid: [u8; 16],
    /// Zeros: it is no snapshot.
    pub parent: [u8; 16],
    /// The transaction that made it.
    pub made: u64,
}

/// `None` also for one as kernels before 3.6 wrote it, which has no UUID.
pub fn origin(item: &[u8]) -> Option<Origin> {
    let uuid = |at| Some(*item.get(at..)?.first_chunk()?);
    Some(Origin {
        uuid: uuid(247)?,
        parent: uuid(263)?,
        made: u64_at(item, 303)?,
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn dir_item(id: u64, kind: u8, name: &[u8], value: &[u8], ft: u8) -> Vec<u8> {
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_le_bytes();
        let mut item = id.to_le_bytes().to_vec();
        item.push(kind);
        item.extend([0; 16]);
        item.extend(length(value));
        item.extend(length(name));
        item.push(ft);
        [&item, name, value].concat()
    }

    pub fn regular(kind: u8, address: u64, offset: u64, length: u64) -> Vec<u8> {
        let mut item = vec![0; 21];
        item[20] = kind;
        for word in [address, 1 << 20, offset, length] {
            item.extend(word.to_le_bytes());
        }
        item
    }

    /// No part of an item is taken for the whole.
    fn cut<T: PartialEq + core::fmt::Debug>(
        item: &[u8],
        from: usize,
        read: fn(&[u8]) -> Option<T>,
    ) {
        assert!(read(item).is_some());
        for end in from..item.len() {
            assert_eq!(read(&item[..end]), None, "{end} of {}", item.len());
        }
    }

    #[test]
    fn an_inode_item_is_read_and_a_cut_one_is_not() {
        let mut item = vec![0; 160];
        item[16] = 5;
        item[44] = 1;
        item[48] = 2;
        item[52..54].copy_from_slice(&0o10_0644u16.to_le_bytes());
        item[56] = 9;
        let want = Attributes {
            size: 5,
            uid: 1,
            gid: 2,
            mode: 0o10_0644,
            rdev: 9,
        };
        assert_eq!(attributes(&item), Some(want));
        cut(&item, 0, attributes);
    }

    #[test]
    fn attributes_of_one_hash_lie_in_one_item() {
        let one = dir_item(0, 0, b"user.a", b"1", 8);
        let two = [one.clone(), dir_item(0, 0, b"user.b", b"", 8)].concat();
        let want = vec![
            (b"user.a".to_vec(), b"1".to_vec()),
            (b"user.b".to_vec(), Vec::new()),
        ];
        assert_eq!(xattrs(&two), Some(want));
        cut(&two, one.len() + 1, xattrs);
        cut(&one, 1, xattrs);
    }

    #[test]
    fn a_name_leads_to_an_inode_or_a_subvolume_and_never_out_of_its_directory() {
        let read = |kind, name: &[u8]| entry(&dir_item(300, kind, name, b"", 2));
        assert_eq!(read(1, b"x").unwrap().target, Target::Inode(300));
        assert_eq!(read(132, b"x").unwrap().target, Target::Subvolume(300));
        assert!(read(1, b"x").unwrap().directory);
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
            assert_eq!(read(1, name), None, "{name:?}");
        }
        assert_eq!(read(84, b"x"), None);
        cut(&dir_item(300, 1, b"name", b"", 1), 0, entry);
    }

    #[test]
    fn holes_and_preallocated_room_are_no_extents_and_unknown_kinds_are_refused() {
        let disk = extent(4096, &regular(1, 7 << 20, 8192, 4096)).unwrap();
        let want = Extent::Disk {
            at: 4096,
            address: 7 << 20,
            offset: 8192,
            length: 4096,
        };
        assert_eq!(disk, Some(want));
        assert_eq!(extent(0, &regular(1, 0, 0, 4096)), Some(None));
        assert_eq!(extent(0, &regular(2, 7 << 20, 0, 4096)), Some(None));
        assert_eq!(extent(0, &regular(3, 7 << 20, 0, 4096)), None);
        cut(&regular(1, 7 << 20, 0, 4096), 0, |item| extent(0, item));
    }

    #[test]
    fn names_beyond_the_first_item_have_their_directories() {
        let one = |parent: u64, name: &[u8]| {
            let length = u16::try_from(name.len()).unwrap();
            [
                &parent.to_le_bytes()[..],
                &[0; 8],
                &length.to_le_bytes(),
                name,
            ]
            .concat()
        };
        let two = [one(256, b"abc"), one(300, b"d")].concat();
        assert_eq!(extref_parents(&two), Some(vec![256, 300]));
        cut(&two, 22, extref_parents);
    }

    #[test]
    fn a_root_item_says_where_it_comes_from_unless_it_is_of_the_old_form() {
        let mut item = vec![0; 439];
        item[247..263].fill(1);
        item[263..279].fill(2);
        item[303] = 77;
        let want = Origin {
            uuid: [1; 16],
            parent: [2; 16],
            made: 77,
        };
        assert_eq!(origin(&item), Some(want));
        assert_eq!(origin(&item[..239]), None);
    }
}
