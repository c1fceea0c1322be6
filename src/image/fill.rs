//! From a verified archive into the datasets of a set.
//!
//! The system is the archive's root. The configuration, and its defaults, are what that root has at the
//! declared paths: the version's own. Where the archive has something below the directory on which the
//! config dataset is mounted, that is what the packer had mounted there, and it is taken instead.

use super::{Limits, Progress, Verified, copy, extract};
use crate::record::layout::Part;
use crate::store::btrfs::Btrfs;
use crate::store::place::Place;
use crate::store::{Store, StoreError};
use crate::transaction::Error;
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::path::Path;

/// Fills the empty dataset at `to`; the system of the same set comes first. Not on disk on return.
pub fn fill(
    store: &Btrfs,
    to: Place,
    archive: &Verified,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let dataset = store.directory(to, "")?;
    match to {
        Place::Snapshot(_, Part::System) => {
            let limits = Limits::default();
            extract(archive, dataset.as_fd(), &limits, progress).map_err(of_archive)?;
            Ok(())
        }
        Place::Snapshot(id, _) => {
            configure(store, Place::Snapshot(id, Part::System), dataset.as_fd())
        }
        _ => Err(Error::Image(
            "only a set that is being made is filled".to_owned(),
        )),
    }
}

/// Copies the configuration of a system.
fn configure(store: &Btrfs, system: Place, to: std::os::fd::BorrowedFd<'_>) -> Result<(), Error> {
    let layout = store.layout();
    if let Some(config) = &layout.config {
        let mount = config.mount.trim_start_matches('/');
        let names = store.entries(system, mount)?;
        if !names.is_empty() {
            let from = store.directory(system, mount)?;
            for name in names {
                copy::copy(from.as_fd(), Path::new(&name), to).map_err(of_copy)?;
            }
            return Ok(());
        }
    }
    let from = store.directory(system, "")?;
    for path in &layout.config_paths {
        let path = Path::new(path.as_str());
        if copy::is_there(from.as_fd(), path).map_err(of_copy)? {
            copy::copy(from.as_fd(), path, to).map_err(of_copy)?;
        }
    }
    Ok(())
}

/// An error of the archive as one of the transaction.
pub fn of_archive(error: super::Error) -> Error {
    let errno = match &error {
        super::Error::System { source, .. } => Some(source.errno),
        _ => None,
    };
    as_error(errno, error.to_string())
}

fn of_copy(error: copy::Error) -> Error {
    let errno = match &error {
        copy::Error::System(source) => Some(source.errno),
        _ => None,
    };
    as_error(errno, error.to_string())
}

/// What is the disk's fault, or that of its room, is the store's to say.
fn as_error(errno: Option<Errno>, text: String) -> Error {
    match errno.map(|errno| StoreError::of_call(errno, text.clone())) {
        Some(error @ (StoreError::Full(_) | StoreError::Disk(_))) => error.into(),
        _ => Error::Image(text),
    }
}
