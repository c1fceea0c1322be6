//! Moves a nested subvolume from one dataset to the same path in another.
//!
//! It stays where it is when it is read-only itself (the kernel lets no read-only subvolume change
//! its directory), when a dataset is sealed, when the new dataset has no such directory, when
//! anything but an empty directory lies there, or when the kernel refuses this one
//! ([`is_barred`](super::path::is_barred)): a flag of `chattr`, a path too long, a mount. A power cut leaves it in either dataset; the stub in
//! the new one may be gone already. Carrying again finishes.

use super::path::{DIRECTORY, LOOK, if_there, open, split_bytes, unless_barred};
use super::{Btrfs, Doing, Result};
use crate::record::Uuid;
use crate::store::{Carried, Nested, shown};
use crate::sys::btrfs::{self as ioctl, Info, SUBVOLUME_INODE};
use crate::sys::{self, Context};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, RenameFlags, Stat, chmodat, chownat, fstat, mkdirat, renameat_with,
    unlinkat,
};
use rustix::process::{Gid, Uid};

impl Btrfs {
    pub(super) fn carry_path(&self, nested: &Nested, from: &str, to: &str) -> Result<Carried> {
        let (old, new) = (self.present(from)?, self.present(to)?);
        // Whatever it is that bars the way: a change that was committed goes on without it.
        let carried = unless_barred(carry(nested, &old, &new))
            .doing(|| format!("moving {} from {from} to {to}", nested.name()))?;
        Ok(carried.unwrap_or(Carried::Stayed))
    }
}

/// What lies at the nested subvolume's path in the new dataset.
enum There {
    Nothing,
    Directory(Stat),
    Subvolume(OwnedFd),
    Other,
}

fn there(directory: &OwnedFd, name: &[u8]) -> sys::Result<There> {
    let Some(entry) = if_there(open(directory, name, LOOK))? else {
        return Ok(There::Nothing);
    };
    let stat = look(entry)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory if stat.st_ino == SUBVOLUME_INODE => {
            There::Subvolume(open(directory, name, DIRECTORY)?)
        }
        FileType::Directory => There::Directory(stat),
        _ => There::Other,
    })
}

fn look(fd: impl AsFd) -> sys::Result<Stat> {
    fstat(fd).call(|| "fstat".to_owned())
}

fn with_uuid(subvolume: impl AsFd, uuid: Uuid) -> sys::Result<Option<Info>> {
    Ok(Some(ioctl::info(subvolume)?).filter(|info| info.uuid == uuid.0))
}

fn carry(nested: &Nested, old: &OwnedFd, new: &OwnedFd) -> sys::Result<Carried> {
    let Some(uuid) = nested.uuid else {
        return Ok(Carried::Stayed);
    };
    let (parent, name) = split_bytes(&nested.path);
    let Some(to) = if_there(open(new, parent, DIRECTORY))? else {
        return Ok(Carried::Stayed);
    };
    let stub = match there(&to, name)? {
        There::Nothing => None,
        There::Directory(stat) => Some(stat),
        There::Other => return Ok(Carried::Stayed),
        // There already: moved before a power cut, or together with the subvolume around it.
        There::Subvolume(fd) => {
            let moved = with_uuid(fd, uuid)?.is_some();
            return Ok(if moved {
                Carried::Moved
            } else {
                Carried::Stayed
            });
        }
    };
    let Some(from) = if_there(open(old, parent, DIRECTORY))? else {
        return Ok(Carried::Stayed);
    };
    let There::Subvolume(source) = there(&from, name)? else {
        return Ok(Carried::Stayed);
    };
    let movable = with_uuid(source, uuid)?.is_some_and(|info| !info.read_only);
    if !movable || ioctl::info(&from)?.read_only || ioctl::info(&to)?.read_only {
        return Ok(Carried::Stayed);
    }
    if stub.is_some() {
        unlinkat(&to, name, AtFlags::REMOVEDIR)
            .call(|| format!("unlinkat({:?}, REMOVEDIR)", shown(name)))?;
    }
    let moved = renameat_with(&from, name, &to, name, RenameFlags::NOREPLACE);
    if let (Err(_), Some(stub)) = (&moved, &stub) {
        // As it was before; the error of the rename is the one to report.
        put_back(&to, name, stub).ok();
    }
    moved.call(|| format!("renameat2({:?}, NOREPLACE)", nested.name()))?;
    Ok(Carried::Moved)
}

/// Makes the stub again that was removed.
pub fn put_back(directory: &OwnedFd, name: &[u8], stub: &Stat) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(stub.st_mode);
    mkdirat(directory, name, mode)?;
    let (uid, gid) = (Uid::from_raw(stub.st_uid), Gid::from_raw(stub.st_gid));
    chownat(directory, name, Some(uid), Some(gid), AtFlags::empty())?;
    chmodat(directory, name, mode, AtFlags::empty())
}
