//! A new store on a file system.

use super::path::{DIRECTORY, if_there, make_directories, open, unlink};
use super::slot::Made;
use super::{Btrfs, Doing, Result, ballast, file, slot};
use crate::record::Uuid;
use crate::store::Store;
use crate::store::place::{File, STORE, Set};
use crate::sys::{self, Context};
use rustix::fs::{Mode, fchmod};

/// A slot file that was not as it must be and is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remade {
    /// Which one.
    pub file: File,
    /// There was none; otherwise what it held was kept.
    pub lost: bool,
}

impl Btrfs {
    /// Makes what is missing of the store: its subvolume, the directories, the slot files and the
    /// ballast. What is there stays as it is, but for slot files that cannot be overwritten in place:
    /// those that were made again are returned. On disk on return; a power cut leaves a part, which
    /// the next call completes.
    ///
    /// The layout, the snapshots and GRUB's files are not made here.
    pub fn create_store(&mut self) -> Result<Vec<Remade>> {
        let remade = self.create_skeleton()?;
        self.make_ballast()?;
        Ok(remade)
    }

    /// The same without the ballast.
    pub fn create_skeleton(&mut self) -> Result<Vec<Remade>> {
        if self.subvolume(STORE)?.is_none() {
            self.create_path(STORE)?;
        }
        self.make_skeleton()
            .doing(|| format!("making the directories of {STORE}"))?;
        self.sweep()?;
        self.create_slots()
    }

    /// Removes the store with all that lies in it: every snapshot, the factory snapshot, what was kept of data. What is
    /// live stays. A power cut leaves a part, which the next call removes. On disk on return.
    pub fn remove_store(&mut self) -> Result<()> {
        if let Some(store) = self.subvolume(STORE)? {
            let info = sys::btrfs::info(&store).doing(|| format!("looking at {STORE}"))?;
            drop(store);
            self.destroy_path(STORE, Uuid(info.uuid))?;
        }
        self.sync()
    }

    /// Removes every snapshot, before the store itself goes: what they hold may fill the disk. On disk on return; the
    /// room is free some seconds later.
    pub fn remove_snapshots(&mut self) -> Result<()> {
        self.give_up_ballast()?;
        for nested in self.nested_in(STORE)? {
            let path = String::from_utf8_lossy(&nested.path).into_owned();
            let is_ours = ["snapshots/", "data/"]
                .iter()
                .any(|it| path.starts_with(it));
            // What lies inside another one went with that.
            if let Some(uuid) = nested.uuid.filter(|_| is_ours) {
                self.destroy_path(&format!("{STORE}/{path}"), uuid)?;
            }
        }
        self.sync()
    }

    /// Removes what commands left that were killed while they wrote a file.
    fn sweep(&self) -> Result<()> {
        let sets = self.ids()?.into_iter().map(Set::Snapshot);
        let directories = sets.chain([Set::Factory]).map(Set::directory);
        let others = ["grub", "armed"].map(|name| format!("{STORE}/{name}"));
        for directory in directories.chain([STORE.to_owned()]).chain(others) {
            file::sweep(&self.top, &directory)?;
        }
        Ok(())
    }

    /// The hint is alone in its directory, so whatever somebody made of that is put right.
    pub(super) fn make_directory_of_hint(&self) -> Result<()> {
        const NAME: &str = "armed";
        let doing = || format!("making the directory {STORE}/{NAME}");
        let store = open(&self.top, STORE, DIRECTORY).doing(doing)?;
        if if_there(open(&store, NAME, DIRECTORY))
            .doing(doing)?
            .is_none()
        {
            unlink(&store, NAME)?;
            make_directories(&store, NAME).doing(doing)?;
        }
        Ok(())
    }

    fn make_skeleton(&self) -> sys::Result<()> {
        let store = open(&self.top, STORE, DIRECTORY)?;
        fchmod(&store, Mode::from_raw_mode(0o700)).call(|| format!("fchmod({STORE:?}, 0700)"))?;
        for name in ["snapshots", "factory", "data", "kernels", "grub", "armed"] {
            make_directories(&store, name)?;
        }
        for dataset in &self.layout.data {
            make_directories(&store, &format!("data/{}", dataset.name))?;
        }
        Ok(())
    }

    /// Makes the slot files of state and journal where they are missing, and again where they cannot be
    /// overwritten in place. Says which were there and are new now. On disk on return.
    pub fn create_slots(&mut self) -> Result<Vec<Remade>> {
        let twin = self.read(File::Journal)?.is_some();
        let mut remade = Vec::new();
        for file in [File::State, File::Journal] {
            match slot::create(&self.top, file, twin)? {
                Made::Nothing | Made::New => {}
                made => remade.push(Remade {
                    file,
                    lost: made == Made::Lost,
                }),
            }
        }
        self.sync()?;
        Ok(remade)
    }

    /// Makes what is missing of the ballast (about 16 MiB of metadata). On disk on return.
    pub fn make_ballast(&mut self) -> Result<()> {
        ballast::make(&self.top)?;
        self.sync()
    }
}
