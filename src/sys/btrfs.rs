//! The btrfs ioctls, one function each.
//!
//! Owns: the structures of `<linux/btrfs.h>` that these calls take, under the names of the header
//! without `btrfs_ioctl_` and `_args`. None of the calls but [`snapshot`] is on disk when it
//! returns; `syncfs` makes it so.

pub mod search;

use super::{Context, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// The inode number of every subvolume's root (`BTRFS_FIRST_FREE_OBJECTID`).
pub const SUBVOLUME_INODE: u64 = 256;
/// The last number of an inode or a subvolume (`BTRFS_LAST_FREE_OBJECTID`).
pub const LAST_INODE: u64 = u64::MAX - 255;
/// The inode number of the empty directory that a snapshot has where its source has a subvolume
/// (`BTRFS_EMPTY_SUBVOL_DIR_OBJECTID`).
pub const STUB_INODE: u64 = 2;
/// The id of the top level (`BTRFS_FS_TREE_OBJECTID`).
pub const TOP_LEVEL: u64 = 5;
/// `f_type` of a btrfs (`BTRFS_SUPER_MAGIC` in `<linux/magic.h>`).
pub const SUPER_MAGIC: u64 = 0x9123_683E;

const MAGIC: u8 = 0x94;
const SUBVOL_RDONLY: u64 = 1 << 1;
const SUBVOL_SPEC_BY_ID: u64 = 1 << 4;
/// `BTRFS_ROOT_SUBVOL_RDONLY` of `<linux/btrfs_tree.h>`: the same flag inside a root item.
const ROOT_SUBVOL_RDONLY: u64 = 1 << 0;

/// `BTRFS_IOC_SNAP_CREATE_V2`, `…SUBVOL_CREATE_V2` and `…SNAP_DESTROY_V2`.
#[repr(C)]
struct VolV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    /// A name with its NUL, or the id of a subvolume in the first eight bytes.
    name: [u8; 4040],
}

#[repr(C)]
struct Timespec {
    sec: u64,
    nsec: u32,
}

/// `BTRFS_IOC_GET_SUBVOL_INFO`.
#[repr(C)]
struct SubvolInfo {
    treeid: u64,
    name: [u8; 256],
    parent_id: u64,
    dirid: u64,
    generation: u64,
    flags: u64,
    uuid: [u8; 16],
    parent_uuid: [u8; 16],
    received_uuid: [u8; 16],
    ctransid: u64,
    otransid: u64,
    stransid: u64,
    rtransid: u64,
    times: [Timespec; 4],
    reserved: [u64; 8],
}

/// `BTRFS_IOC_GET_SUBVOL_ROOTREF`.
#[repr(C)]
struct SubvolRootref {
    min_treeid: u64,
    rootref: [Child; 255],
    num_items: u8,
    align: [u8; 7],
}

/// `BTRFS_IOC_INO_LOOKUP`.
#[repr(C)]
struct InoLookup {
    treeid: u64,
    objectid: u64,
    name: [u8; 4080],
}

/// `BTRFS_IOC_INO_LOOKUP_USER`.
#[repr(C)]
struct InoLookupUser {
    dirid: u64,
    treeid: u64,
    name: [u8; 256],
    path: [u8; 3824],
}

/// `BTRFS_IOC_FS_INFO`.
#[repr(C)]
struct FsInfo {
    max_id: u64,
    num_devices: u64,
    fsid: [u8; 16],
    rest: [u8; 992],
}

/// `BTRFS_IOC_TREE_SEARCH`; the results lie in `buf`, each behind a header of 32 bytes.
#[repr(C)]
struct Search {
    tree_id: u64,
    min_objectid: u64,
    max_objectid: u64,
    min_offset: u64,
    max_offset: u64,
    min_transid: u64,
    max_transid: u64,
    min_type: u32,
    max_type: u32,
    nr_items: u32,
    unused: u32,
    reserved: [u64; 4],
    buf: [u8; 3992],
}

const TREE_SEARCH: Opcode = opcode::read_write::<Search>(MAGIC, 17);
const INO_LOOKUP: Opcode = opcode::read_write::<InoLookup>(MAGIC, 18);
const DEFAULT_SUBVOL: Opcode = opcode::write::<u64>(MAGIC, 19);
const SNAP_CREATE_V2: Opcode = opcode::write::<VolV2>(MAGIC, 23);
const SUBVOL_CREATE_V2: Opcode = opcode::write::<VolV2>(MAGIC, 24);
const SUBVOL_GETFLAGS: Opcode = opcode::read::<u64>(MAGIC, 25);
const SUBVOL_SETFLAGS: Opcode = opcode::write::<u64>(MAGIC, 26);
const FS_INFO: Opcode = opcode::read::<FsInfo>(MAGIC, 31);
const GET_SUBVOL_INFO: Opcode = opcode::read::<SubvolInfo>(MAGIC, 60);
const GET_SUBVOL_ROOTREF: Opcode = opcode::read_write::<SubvolRootref>(MAGIC, 61);
const INO_LOOKUP_USER: Opcode = opcode::read_write::<InoLookupUser>(MAGIC, 62);
const SNAP_DESTROY_V2: Opcode = opcode::write::<VolV2>(MAGIC, 63);

/// What a subvolume says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its id, which never changes.
    pub id: u64,
    /// The id of the subvolume that it lies in.
    pub parent: u64,
    /// Its UUID, which never changes.
    pub uuid: [u8; 16],
    /// The UUID of what it is a snapshot of; zeros when it is none.
    pub parent_uuid: [u8; 16],
    /// The transaction that changed its content last; final only after a `syncfs`.
    pub ctransid: u64,
    /// The transaction that made it: what was written to its source up to that one is in it.
    pub otransid: u64,
    /// Whether the read-only flag is set.
    pub read_only: bool,
}

/// A subvolume directly inside another one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its id.
    pub id: u64,
    /// The inode of the directory in the parent that holds it.
    pub directory: u64,
}

/// Makes the call; the kernel reads and writes `value`.
///
/// # Safety
/// `T` must be the structure that the kernel's request `OP` takes.
unsafe fn call<const OP: Opcode, T>(fd: BorrowedFd<'_>, value: &mut T) -> rustix::io::Result<()> {
    // SAFETY: by the caller's promise `OP` takes a `T`, which lives longer than the call.
    unsafe { ioctl(fd, Updater::<OP, T>::new(value)) }
}

/// A name in a field that ends with a NUL. The kernel takes at most 255 bytes.
fn name_field<const N: usize>(name: &[u8]) -> rustix::io::Result<[u8; N]> {
    if name.is_empty() || name.iter().any(|byte| matches!(byte, b'/' | b'\0')) {
        return Err(Errno::INVAL);
    }
    let mut field = [0; N];
    match field.get_mut(..name.len()) {
        Some(start) if name.len() <= 255 => start.copy_from_slice(name),
        _ => return Err(Errno::NAMETOOLONG),
    }
    Ok(field)
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Makes an empty subvolume called `name` in the directory.
///
/// Not on disk on return.
pub fn create_subvolume(directory: impl AsFd, name: &str) -> Result<()> {
    let make = || {
        let mut args = VolV2 {
            fd: 0,
            transid: 0,
            flags: 0,
            unused: [0; 4],
            name: name_field(name.as_bytes())?,
        };
        // SAFETY: SUBVOL_CREATE_V2 takes a btrfs_ioctl_vol_args_v2.
        unsafe { call::<SUBVOL_CREATE_V2, _>(directory.as_fd(), &mut args) }
    };
    make().call(|| format!("BTRFS_IOC_SUBVOL_CREATE_V2(name {name:?})"))
}

/// Makes a snapshot of `source`, a subvolume's root, called `name` in the directory.
///
/// On disk on return, with all that was written to the source before.
pub fn snapshot(
    source: impl AsFd,
    directory: impl AsFd,
    name: impl AsRef<[u8]>,
    read_only: bool,
) -> Result<()> {
    let name = name.as_ref();
    let make = || {
        let mut args = VolV2 {
            fd: source.as_fd().as_raw_fd().into(),
            transid: 0,
            flags: if read_only { SUBVOL_RDONLY } else { 0 },
            unused: [0; 4],
            name: name_field(name)?,
        };
        // SAFETY: SNAP_CREATE_V2 takes a btrfs_ioctl_vol_args_v2.
        unsafe { call::<SNAP_CREATE_V2, _>(directory.as_fd(), &mut args) }
    };
    make().call(|| {
        let name = String::from_utf8_lossy(name);
        format!("BTRFS_IOC_SNAP_CREATE_V2(name {name:?}, read-only {read_only})")
    })
}

/// Destroys the subvolume with this id; `any` is any directory of the file system.
///
/// Not on disk on return; its space comes back in the background. Since Linux 5.7.
pub fn destroy_subvolume(any: impl AsFd, id: u64) -> Result<()> {
    let mut name = [0; 4040];
    for (byte, value) in name.iter_mut().zip(id.to_ne_bytes()) {
        *byte = value;
    }
    let mut args = VolV2 {
        fd: 0,
        transid: 0,
        flags: SUBVOL_SPEC_BY_ID,
        unused: [0; 4],
        name,
    };
    // SAFETY: SNAP_DESTROY_V2 takes a btrfs_ioctl_vol_args_v2.
    unsafe { call::<SNAP_DESTROY_V2, _>(any.as_fd(), &mut args) }
        .call(|| format!("BTRFS_IOC_SNAP_DESTROY_V2(subvolume id {id})"))
}

/// Sets or clears the read-only flag of a subvolume. On disk on return.
///
/// A writer that holds a descriptor already is not stopped by it.
pub fn set_read_only(subvolume: impl AsFd, read_only: bool) -> Result<()> {
    let set = || {
        let mut flags = 0u64;
        // SAFETY: SUBVOL_GETFLAGS takes a u64.
        unsafe { call::<SUBVOL_GETFLAGS, _>(subvolume.as_fd(), &mut flags)? };
        flags = (flags & !SUBVOL_RDONLY) | if read_only { SUBVOL_RDONLY } else { 0 };
        // SAFETY: SUBVOL_SETFLAGS takes a u64.
        unsafe { call::<SUBVOL_SETFLAGS, _>(subvolume.as_fd(), &mut flags) }
    };
    set().call(|| format!("BTRFS_IOC_SUBVOL_SETFLAGS(read-only {read_only})"))
}

/// Reads what a subvolume says of itself. Since Linux 4.18.
pub fn info(subvolume: impl AsFd) -> Result<Info> {
    let mut args = SubvolInfo {
        treeid: 0,
        name: [0; 256],
        parent_id: 0,
        dirid: 0,
        generation: 0,
        flags: 0,
        uuid: [0; 16],
        parent_uuid: [0; 16],
        received_uuid: [0; 16],
        ctransid: 0,
        otransid: 0,
        stransid: 0,
        rtransid: 0,
        times: [const { Timespec { sec: 0, nsec: 0 } }; 4],
        reserved: [0; 8],
    };
    // SAFETY: GET_SUBVOL_INFO takes a btrfs_ioctl_get_subvol_info_args.
    unsafe { call::<GET_SUBVOL_INFO, _>(subvolume.as_fd(), &mut args) }
        .call(|| "BTRFS_IOC_GET_SUBVOL_INFO".to_owned())?;
    Ok(Info {
        id: args.treeid,
        parent: args.parent_id,
        uuid: args.uuid,
        parent_uuid: args.parent_uuid,
        ctransid: args.ctransid,
        otransid: args.otransid,
        read_only: args.flags & ROOT_SUBVOL_RDONLY != 0,
    })
}

/// The subvolumes directly inside this one, by id. Since Linux 4.18.
pub fn children(subvolume: impl AsFd) -> Result<Vec<Child>> {
    let mut args = SubvolRootref {
        min_treeid: 0,
        rootref: [Child {
            id: 0,
            directory: 0,
        }; 255],
        num_items: 0,
        align: [0; 7],
    };
    let mut found = Vec::new();
    loop {
        // SAFETY: GET_SUBVOL_ROOTREF takes a btrfs_ioctl_get_subvol_rootref_args.
        let answer = unsafe { call::<GET_SUBVOL_ROOTREF, _>(subvolume.as_fd(), &mut args) };
        // EOVERFLOW: the buffer is full, and min_treeid says where to go on.
        let more = answer == Err(Errno::OVERFLOW);
        if !more {
            answer.call(|| "BTRFS_IOC_GET_SUBVOL_ROOTREF".to_owned())?;
        }
        found.extend(args.rootref.iter().take(args.num_items.into()));
        if !more {
            return Ok(found);
        }
    }
}

/// The path of a child from the root of the subvolume that it lies in; bytes, as the disk has them.
///
/// Since Linux 4.18. `ENOENT` when the child is not there any more.
pub fn child_path(subvolume: impl AsFd, child: Child) -> Result<Vec<u8>> {
    let mut args = InoLookupUser {
        dirid: child.directory,
        treeid: child.id,
        name: [0; 256],
        path: [0; 3824],
    };
    // SAFETY: INO_LOOKUP_USER takes a btrfs_ioctl_ino_lookup_user_args.
    unsafe { call::<INO_LOOKUP_USER, _>(subvolume.as_fd(), &mut args) }
        .call(|| format!("BTRFS_IOC_INO_LOOKUP_USER({child:?})"))?;
    // The directory's path is empty or ends with a slash.
    Ok([until_nul(&args.path), until_nul(&args.name)].concat())
}

/// The id of the subvolume that a file or directory lies in.
pub fn subvolume_id(file: impl AsFd) -> Result<u64> {
    let mut args = InoLookup {
        treeid: 0,
        objectid: SUBVOLUME_INODE,
        name: [0; 4080],
    };
    // SAFETY: INO_LOOKUP takes a btrfs_ioctl_ino_lookup_args.
    unsafe { call::<INO_LOOKUP, _>(file.as_fd(), &mut args) }
        .call(|| "BTRFS_IOC_INO_LOOKUP(tree 0, object 256)".to_owned())?;
    Ok(args.treeid)
}

/// The UUID of the file system.
pub fn file_system_uuid(any: impl AsFd) -> Result<[u8; 16]> {
    let mut args = FsInfo {
        max_id: 0,
        num_devices: 0,
        fsid: [0; 16],
        rest: [0; 992],
    };
    // SAFETY: FS_INFO takes a btrfs_ioctl_fs_info_args.
    unsafe { call::<FS_INFO, _>(any.as_fd(), &mut args) }
        .call(|| "BTRFS_IOC_FS_INFO".to_owned())?;
    Ok(args.fsid)
}

/// Makes the subvolume with this id the one that is mounted when no `subvol=` is given.
///
/// Not on disk on return.
pub fn set_default_subvolume(any: impl AsFd, id: u64) -> Result<()> {
    let mut id = id;
    // SAFETY: DEFAULT_SUBVOL takes a u64.
    unsafe { call::<DEFAULT_SUBVOL, _>(any.as_fd(), &mut id) }
        .call(|| format!("BTRFS_IOC_DEFAULT_SUBVOL(subvolume id {id})"))
}

/// The id of the subvolume that is mounted when no `subvol=` is given. Needs root.
///
/// The kernel has no call for it: it is the entry `default` in the directory 6 of the root tree.
pub fn default_subvolume(any: impl AsFd) -> Result<u64> {
    const ROOT_TREE: u64 = 1;
    const ROOT_TREE_DIRECTORY: u64 = 6;
    const DIR_ITEM: u32 = 84;
    let mut args = Search {
        tree_id: ROOT_TREE,
        min_objectid: ROOT_TREE_DIRECTORY,
        max_objectid: ROOT_TREE_DIRECTORY,
        min_offset: 0,
        max_offset: u64::MAX,
        min_transid: 0,
        max_transid: u64::MAX,
        min_type: DIR_ITEM,
        max_type: DIR_ITEM,
        nr_items: 64,
        unused: 0,
        reserved: [0; 4],
        buf: [0; 3992],
    };
    let text = || "BTRFS_IOC_TREE_SEARCH(root tree, object 6, DIR_ITEM)".to_owned();
    // SAFETY: TREE_SEARCH takes a btrfs_ioctl_search_args.
    unsafe { call::<TREE_SEARCH, _>(any.as_fd(), &mut args) }.call(text)?;
    default_entry(&args.buf, args.nr_items)
        .ok_or(Errno::NODATA)
        .call(text)
}

/// Finds the entry `default` among the items of a search: header {transid, objectid, offset: u64;
/// type, len: u32}, then `btrfs_dir_item` {id: u64; type: u8; offset, transid: u64; data_len,
/// name_len: u16; type: u8; name}.
fn default_entry(mut items: &[u8], count: u32) -> Option<u64> {
    for _ in 0..count {
        let (header, rest) = items.split_at_checked(32)?;
        let length = u32::from_ne_bytes(header.get(28..32)?.try_into().ok()?);
        let (item, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        if item.get(30..) == Some(b"default") {
            return Some(u64::from_le_bytes(item.get(..8)?.try_into().ok()?));
        }
        items = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the argument is part of the number: these are the header's own.
    #[test]
    fn the_request_numbers_are_those_of_the_kernel_header() {
        for (ours, kernel) in [
            (TREE_SEARCH, 0xd000_9411u32),
            (INO_LOOKUP, 0xd000_9412),
            (DEFAULT_SUBVOL, 0x4008_9413),
            (SNAP_CREATE_V2, 0x5000_9417),
            (SUBVOL_CREATE_V2, 0x5000_9418),
            (SUBVOL_GETFLAGS, 0x8008_9419),
            (SUBVOL_SETFLAGS, 0x4008_941a),
            (FS_INFO, 0x8400_941f),
            (GET_SUBVOL_INFO, 0x81f8_943c),
            (GET_SUBVOL_ROOTREF, 0xd000_943d),
            (INO_LOOKUP_USER, 0xd000_943e),
            (SNAP_DESTROY_V2, 0x5000_943f),
        ] {
            assert_eq!(ours, kernel, "{ours:#x} {kernel:#x}");
        }
    }

    #[test]
    fn a_name_that_the_kernel_would_not_take_is_refused() {
        for name in ["", "a/b", "a\0b", &"x".repeat(256)] {
            assert!(name_field::<4040>(name.as_bytes()).is_err(), "{name:?}");
        }
        assert!(name_field::<4040>("x".repeat(255).as_bytes()).is_ok());
    }

    #[test]
    fn the_default_entry_is_found_among_others_and_garbage_is_not() {
        let item = |name: &[u8], id: u64| {
            let mut bytes = vec![0; 28];
            bytes.extend(u32::try_from(30 + name.len()).unwrap().to_ne_bytes());
            bytes.extend(id.to_le_bytes());
            bytes.extend([0; 22]);
            bytes.extend(name);
            bytes
        };
        let two = [item(b"other", 7), item(b"default", 300)].concat();
        assert_eq!(default_entry(&two, 2), Some(300));
        assert_eq!(default_entry(&two, 1), None);
        assert_eq!(default_entry(&two[..60], 2), None);
    }
}
