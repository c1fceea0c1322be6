//! Subvolumes inside datasets: find them, and destroy a dataset with them.
//!
//! A snapshot does not contain the subvolumes inside its source, only an empty stub directory for
//! each. So after an exchange they lie in the old dataset; `carry.rs` moves them to the new one.

use super::path::{DIRECTORY, if_there, is_absent, is_barred, open, split_bytes};
use super::subvolume::{is_fixed, unfix};
use super::{Btrfs, Doing, Result};
use crate::record::Uuid;
use crate::store::{Nested, StoreError, shown};
use crate::sys::btrfs::{self as ioctl, Info};
use crate::sys::{self, Context};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{fstat, stat};
use rustix::io::Errno;

/// A subvolume inside another one, or the outermost itself.
struct Inner {
    /// Below the outermost, in bytes: people name subvolumes as they like.
    path: Vec<u8>,
    id: u64,
    /// The id of the subvolume that it lies in.
    parent: u64,
    /// `None` where no path leads to it.
    seen: Option<Seen>,
}

/// What an open subvolume says of itself.
struct Seen {
    info: Info,
    /// The device number that files in it have.
    device: u64,
}

impl Inner {
    fn look(fd: impl AsFd, path: Vec<u8>) -> sys::Result<Inner> {
        let info = ioctl::info(&fd)?;
        let device = fstat(fd).call(|| "fstat(subvolume)".to_owned())?.st_dev;
        Ok(Inner {
            path,
            id: info.id,
            parent: info.parent,
            seen: Some(Seen { info, device }),
        })
    }

    fn is_read_only(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.info.read_only)
    }

    fn name(&self, outer: &str) -> String {
        let below = shown(&self.path);
        if below.is_empty() {
            outer.to_owned()
        } else {
            format!("{outer}/{below}")
        }
    }
}

/// The outermost subvolume and all inside it, parents before children. One that vanishes meanwhile
/// is left out; one that cannot be opened is there without its inside. No descriptor is kept, because
/// there may be thousands.
fn tree(outer: BorrowedFd<'_>) -> sys::Result<Vec<Inner>> {
    let mut found = vec![Inner::look(outer, Vec::new())?];
    let mut next = 0;
    while let Some(parent) = found.get(next) {
        next += 1;
        if parent.seen.is_none() {
            continue;
        }
        let Some(fd) = if_there(open(outer, &parent.path, DIRECTORY))? else {
            continue;
        };
        let parent_id = parent.id;
        let mut prefix = parent.path.clone();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        for child in ioctl::children(&fd)? {
            let looked = ioctl::child_path(&fd, child).and_then(|below| {
                let path = [prefix.as_slice(), &below].concat();
                Inner::look(open(&fd, &below, DIRECTORY)?, path)
            });
            match looked {
                Ok(inner) => found.push(inner),
                Err(error) if is_absent(&error) => {}
                Err(error) if is_barred(error.errno) => found.push(Inner {
                    path: format!("{}.../(subvolume {})", shown(&prefix), child.id).into_bytes(),
                    id: child.id,
                    parent: parent_id,
                    seen: None,
                }),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

impl Btrfs {
    pub(super) fn nested_in(&self, path: &str) -> Result<Vec<Nested>> {
        let outer = self.present(path)?;
        let all = tree(outer.as_fd()).doing(|| format!("listing the subvolumes inside {path}"))?;
        let nested = all.into_iter().skip(1).map(|inner| Nested {
            path: inner.path,
            uuid: inner.seen.map(|seen| Uuid(seen.info.uuid)),
        });
        Ok(nested.collect())
    }

    /// The clone's `otransid` is the transaction in whose commit it was made. What the source holds of that and of earlier
    /// ones is in the clone, and no write can join it any more. What lies inside was cloned later, from what nobody writes
    /// to: a write to it in between counts as one after it, which errs on the safe side.
    pub(super) fn written_since_paths(&self, live: &str, clone: &str) -> Result<bool> {
        let doing = || format!("comparing {live} with {clone}");
        let made = ioctl::info(self.present(clone)?).doing(doing)?.otransid;
        let all = tree(self.present(live)?.as_fd()).doing(doing)?;
        let later = |inner: &Inner| {
            let seen = inner.seen.as_ref();
            // Nobody can tell of one that no path leads to.
            seen.is_none_or(|seen| seen.info.ctransid > made)
        };
        Ok(all.iter().any(later))
    }

    pub(super) fn destroy_path(&self, path: &str, uuid: Uuid) -> Result<()> {
        let Some(outer) = self.subvolume(path)? else {
            return Ok(());
        };
        let doing = || format!("destroying {path}");
        let info = ioctl::info(&outer).doing(doing)?;
        let (found, outermost) = (Uuid(info.uuid), info.id);
        if found != uuid {
            return Err(StoreError::Place(format!(
                "{path} is subvolume {found}, not {uuid}: it was left alone"
            )));
        }
        let all = tree(outer.as_fd()).doing(doing)?;
        self.refuse_in_use(path, &all)?;
        for parent in all.iter().filter(|parent| parent.is_read_only()) {
            if all.iter().any(|child| child.parent == parent.id) {
                // A read-only subvolume does not let go of its children. This one is destroyed in
                // this very call, which is why it may become writable here and nowhere else.
                let parent = open(&outer, &parent.path, DIRECTORY).doing(doing)?;
                ioctl::set_read_only(parent, false).doing(doing)?;
            }
        }
        drop(outer);
        for inner in all.iter().rev() {
            // By id: names may have been exchanged meanwhile.
            let destroy = || ioctl::destroy_subvolume(&self.top, inner.id);
            let destroyed = match destroy() {
                Err(error) if error.errno == Errno::PERM => {
                    let released = self.release(path, outermost, inner);
                    match released.doing(|| format!("destroying {}", inner.name(path)))? {
                        true => destroy(),
                        false => Err(error),
                    }
                }
                other => other,
            };
            destroyed.doing(|| format!("destroying {}", inner.name(path)))?;
        }
        Ok(())
    }

    /// Takes flags of chattr from a subvolume that is being destroyed, and from the directory inside
    /// `path` that it lies in, if that is still the outermost one. Says whether there were any.
    fn release(&self, path: &str, outermost: u64, inner: &Inner) -> sys::Result<bool> {
        let Some(seen) = &inner.seen else {
            return Ok(false);
        };
        let outer = open(&self.top, path, DIRECTORY)?;
        let mut released = false;
        let subvolume = open(&outer, &inner.path, DIRECTORY)?;
        // Names may have been exchanged meanwhile: what is another's keeps its flags.
        if ioctl::info(&outer)?.id != outermost || ioctl::info(&subvolume)?.id != inner.id {
            return Ok(false);
        }
        if !inner.path.is_empty() {
            released |= unfix(open(&outer, split_bytes(&inner.path).0, DIRECTORY)?)?.is_some();
        }
        if is_fixed(&subvolume)? {
            if seen.info.read_only {
                ioctl::set_read_only(&subvolume, false)?;
            }
            released |= unfix(subvolume)?.is_some();
        }
        Ok(released)
    }

    /// The kernel would refuse these too, but only after their children were destroyed.
    fn refuse_in_use(&self, path: &str, all: &[Inner]) -> Result<()> {
        let default = self.default_subvolume()?;
        if let Some(inner) = all.iter().find(|inner| inner.id == default) {
            return Err(StoreError::Place(format!(
                "{} is the default subvolume of the file system and was not destroyed: make \
                 another one the default first",
                inner.name(path)
            )));
        }
        let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
        for swap in swaps
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next())
        {
            let Ok(device) = stat(swap).map(|stat| stat.st_dev) else {
                continue;
            };
            if let Some(inner) = all.iter().find(|inner| {
                inner
                    .seen
                    .as_ref()
                    .is_some_and(|seen| seen.device == device)
            }) {
                return Err(StoreError::Place(format!(
                    "{} holds the active swap file {swap} and was not destroyed: swapoff it first",
                    inner.name(path)
                )));
            }
        }
        Ok(())
    }
}
