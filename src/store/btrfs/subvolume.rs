//! Subvolumes as datasets: look, clone, exchange, rename, seal.

use super::path::{DIRECTORY, if_there, is_absent, make_directories, open, split};
use super::{Btrfs, Doing, Result};
use crate::record::{Identity, Uuid};
use crate::store::place::{Place, STORE};
use crate::store::{Access, Dataset, Store, StoreError};
use crate::sys::btrfs::{self as ioctl, Info, SUBVOLUME_INODE};
use crate::sys::{self, Context};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, IFlags, RenameFlags, StatxAttributes, StatxFlags, fstat, fstatfs, ioctl_getflags,
    ioctl_setflags, renameat_with, statx,
};
use rustix::io::Errno;

/// Room on the file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What new data can take, as the kernel estimates it.
    pub available: u64,
}

/// What a subvolume says of itself, as a dataset.
fn identify(fd: impl AsFd, path: &str) -> Result<(Info, Dataset)> {
    let info = ioctl::info(fd).doing(|| format!("reading the identity of {path}"))?;
    let dataset = Dataset {
        identity: Identity {
            uuid: Uuid(info.uuid),
            ctransid: info.ctransid,
        },
        parent: Some(Uuid(info.parent_uuid)).filter(|uuid| uuid.0 != [0; 16]),
        read_only: info.read_only,
    };
    Ok((info, dataset))
}

/// Takes away the flags of chattr that would keep a directory where it is, from what is ours. Gives
/// the flags before, if there were such.
pub fn unfix(directory: impl AsFd) -> sys::Result<Option<IFlags>> {
    if !is_fixed(&directory)? {
        return Ok(None);
    }
    let flags = ioctl_getflags(&directory).call(|| "FS_IOC_GETFLAGS".to_owned())?;
    let rest = flags - (IFlags::IMMUTABLE | IFlags::APPEND);
    set_flags(directory, rest)?;
    Ok(Some(flags))
}

/// Sets the flags of chattr.
pub fn set_flags(directory: impl AsFd, flags: IFlags) -> sys::Result<()> {
    ioctl_setflags(directory, flags).call(|| format!("FS_IOC_SETFLAGS({flags:?})"))
}

/// Whether it has one of the flags of chattr that keep a directory, and its name, as they are.
pub fn is_fixed(fd: impl AsFd) -> sys::Result<bool> {
    let stat = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::empty());
    let fixed = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
    let stat = stat.call(|| "statx".to_owned())?;
    Ok(stat.stx_attributes.intersects(fixed))
}

impl Btrfs {
    /// Opens the subvolume at a path; `None` when nothing lies there.
    pub(super) fn subvolume(&self, path: &str) -> Result<Option<OwnedFd>> {
        // In the store it is a stranger's, and whoever meets it says so; a live name is the owner's.
        let remedy = match path.starts_with(STORE) {
            true => "",
            false => ": make one of it (docs/recovery.md, section 10)",
        };
        let other = |what| {
            Err(StoreError::Place(format!(
                "{path} is not a subvolume but {what}{remedy}"
            )))
        };
        let fd = match open(&self.top, path, DIRECTORY) {
            Ok(fd) => fd,
            Err(error) if error.errno == Errno::NOENT => return Ok(None),
            Err(error) if is_absent(&error) => return other("a file or a symbolic link"),
            Err(error) => return Err(error).doing(|| format!("opening {path}")),
        };
        let stat = fstat(&fd).call(|| "fstat".to_owned());
        if stat.doing(|| format!("looking at {path}"))?.st_ino == SUBVOLUME_INODE {
            Ok(Some(fd))
        } else {
            other("an ordinary directory")
        }
    }

    /// The same where one must be.
    pub(super) fn present(&self, path: &str) -> Result<OwnedFd> {
        let missing = || StoreError::Place(format!("{path} does not exist"));
        self.subvolume(path)?.ok_or_else(missing)
    }

    pub(super) fn dataset_at(&self, path: &str) -> Result<Option<Dataset>> {
        let fd = self.subvolume(path)?;
        fd.map(|fd| Ok(identify(fd, path)?.1)).transpose()
    }

    /// Opens the directory for a new entry, making it, and gives the entry's name.
    fn room_for<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a str)> {
        let (parent, name) = split(path);
        let directory = make_directories(&self.top, parent);
        Ok((
            directory.doing(|| format!("making the directory of {path}"))?,
            name,
        ))
    }

    pub(super) fn clone_path(&self, from: &str, to: &str, access: Access) -> Result<Dataset> {
        let source = self.present(from)?;
        let (directory, name) = self.room_for(to)?;
        let read_only = access == Access::ReadOnly;
        let cloned = ioctl::snapshot(&source, directory, name, read_only);
        if matches!(&cloned, Err(error) if error.errno == Errno::TXTBSY) {
            return Err(StoreError::System(format!(
                "{from} cannot be cloned while a swap file in it is active: swapoff it, and put \
                 swap files into a subvolume of their own"
            )));
        }
        let cloned = match cloned {
            Err(error)
                if error.errno == Errno::EXIST && self.is_half_made(to, &source, access)? =>
            {
                Ok(())
            }
            other => other,
        };
        made(cloned, to, || format!("cloning {from} to {to}"))?;
        let clone = self.present(to)?;
        if access == Access::Writable {
            // It has the flags of its source, and could neither become live nor be destroyed.
            unfix(&clone).doing(|| format!("making {to} movable"))?;
        }
        Ok(identify(clone, to)?.1)
    }

    /// Whether a clone of this source lies there that an attempt before this one made, and then had
    /// no room to make movable: a finished one has no such flag.
    fn is_half_made(&self, path: &str, source: &OwnedFd, access: Access) -> Result<bool> {
        let looking = || format!("looking at {path}");
        let (Access::Writable, Ok(Some(clone))) = (access, self.subvolume(path)) else {
            return Ok(false);
        };
        let (info, source) = (ioctl::info(&clone), ioctl::info(source));
        let (info, source) = (info.doing(looking)?, source.doing(looking)?);
        let ours = info.parent_uuid == source.uuid && !info.read_only;
        Ok(ours && is_fixed(clone).doing(looking)?)
    }

    /// Makes an empty subvolume at a path below the top level. On disk after the next sync.
    pub fn create_path(&mut self, path: &str) -> Result<Dataset> {
        let (directory, name) = self.room_for(path)?;
        made(ioctl::create_subvolume(directory, name), path, || {
            format!("creating {path}")
        })?;
        Ok(identify(self.present(path)?, path)?.1)
    }

    /// Why the subvolume at a path cannot change its directory, or its directory what lies in it.
    pub(super) fn held_at(&self, path: &str) -> Result<Option<&'static str>> {
        let looking = || format!("looking at {path}");
        let directory = if_there(open(&self.top, split(path).0, DIRECTORY)).doing(looking)?;
        if let Some(directory) = directory
            && is_fixed(directory).doing(looking)?
        {
            return Ok(Some("in an immutable directory"));
        }
        let Some(fd) = self.subvolume(path)? else {
            return Ok(None);
        };
        if identify(&fd, path)?.1.read_only {
            return Ok(Some("read-only"));
        }
        Ok(is_fixed(fd).doing(looking)?.then_some("immutable"))
    }

    pub(super) fn exchange_paths(&self, one: &str, other: &str) -> Result<()> {
        // Before Linux 5.14 an exchange of a subvolume with an ordinary directory corrupted the
        // file system: both are looked at first.
        for path in [one, other] {
            self.present(path)?;
        }
        self.move_entry(one, other, RenameFlags::EXCHANGE)
            .doing(|| format!("exchanging {one} with {other}"))
    }

    pub(super) fn rename_path(&self, from: &str, to: &str) -> Result<()> {
        self.present(from)?;
        self.room_for(to)?;
        made(
            self.move_entry(from, to, RenameFlags::NOREPLACE),
            to,
            || format!("moving {from} to {to}"),
        )
    }

    fn move_entry(&self, from: &str, to: &str, flags: RenameFlags) -> sys::Result<()> {
        let ((from_parent, from_name), (to_parent, to_name)) = (split(from), split(to));
        let from_directory = open(&self.top, from_parent, DIRECTORY)?;
        let to_directory = open(&self.top, to_parent, DIRECTORY)?;
        renameat_with(from_directory, from_name, to_directory, to_name, flags)
            .call(|| format!("renameat2({from:?}, {to:?}, {flags:?})"))
    }

    /// Only for a dataset that nobody has open: a writer that holds a descriptor is not stopped.
    pub(super) fn seal_path(&mut self, path: &str) -> Result<Identity> {
        let fd = self.present(path)?;
        if !identify(&fd, path)?.0.read_only {
            ioctl::set_read_only(&fd, true).doing(|| format!("sealing {path}"))?;
        }
        // The last change has its final number only now.
        self.sync()?;
        let (_, dataset) = identify(fd, path)?;
        if !dataset.read_only {
            return Err(StoreError::System(format!(
                "{path} was sealed, and somebody made it writable at once"
            )));
        }
        Ok(dataset.identity)
    }

    /// The id of the subvolume that is mounted where no `subvol=` is given; 5 is the top level.
    pub fn default_subvolume(&self) -> Result<u64> {
        ioctl::default_subvolume(&self.top).doing(|| "reading the default subvolume")
    }

    /// Makes the dataset at this place the default subvolume. On disk after the next sync.
    pub fn set_default_subvolume(&mut self, place: Place) -> Result<()> {
        let id = self.subvolume_id(place)?;
        ioctl::set_default_subvolume(&self.top, id)
            .doing(|| format!("making {place:?} the default subvolume"))
    }

    /// The subvolume id of the dataset at this place, to compare with the default subvolume.
    pub fn subvolume_id(&self, place: Place) -> Result<u64> {
        let path = self.path(place)?;
        Ok(identify(self.present(&path)?, &path)?.0.id)
    }

    /// The UUID of the file system.
    pub fn file_system_uuid(&self) -> Result<Uuid> {
        let uuid = ioctl::file_system_uuid(&self.top);
        Ok(Uuid(uuid.doing(|| "reading the file system's UUID")?))
    }

    /// How much room there is.
    pub fn space(&self) -> Result<Space> {
        let fs = fstatfs(&self.top).call(|| "fstatfs(top level)".to_owned());
        let fs = fs.doing(|| "asking for free space")?;
        let block = u64::try_from(fs.f_bsize).unwrap_or(0);
        Ok(Space {
            total: fs.f_blocks.saturating_mul(block),
            available: fs.f_bavail.saturating_mul(block),
        })
    }
}

/// An entry was to be made at `to`: names what is in the way.
fn made(result: sys::Result<()>, to: &str, doing: impl FnOnce() -> String) -> Result<()> {
    match result {
        Err(error) if matches!(error.errno, Errno::EXIST | Errno::NOTEMPTY) => {
            Err(StoreError::Place(format!("{to} exists already")))
        }
        other => other.doing(doing),
    }
}
