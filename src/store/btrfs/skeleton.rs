//! A new store on a file system.

use super::path::{DIRECTORY, make_directories, open};
use super::{Btrfs, Doing, Result, ballast, slot};
use crate::store::Store;
use crate::store::place::{File, STORE};
use crate::sys::{self, Context};
use rustix::fs::{Mode, fchmod};

impl Btrfs {
    /// Makes what is missing of the store: its subvolume, the directories, the slot files and the
    /// ballast. What is there stays as it is. On disk on return; a power cut leaves a part, which
    /// the next call completes.
    ///
    /// The layout, the snapshots and GRUB's files are not made here.
    pub fn create_store(&mut self) -> Result<()> {
        self.create_skeleton()?;
        self.make_ballast()
    }

    /// The same without the ballast.
    pub fn create_skeleton(&mut self) -> Result<()> {
        if self.subvolume(STORE)?.is_none() {
            self.create_path(STORE)?;
        }
        self.make_skeleton()
            .doing(|| format!("making the directories of {STORE}"))?;
        self.create_slots()
    }

    fn make_skeleton(&self) -> sys::Result<()> {
        let store = open(&self.top, STORE, DIRECTORY)?;
        fchmod(&store, Mode::from_raw_mode(0o700)).call(|| format!("fchmod({STORE:?}, 0700)"))?;
        for name in ["snapshots", "factory", "data", "kernels", "grub"] {
            make_directories(&store, name)?;
        }
        for dataset in &self.layout.data {
            make_directories(&store, &format!("data/{}", dataset.name))?;
        }
        Ok(())
    }

    /// Makes the slot files of state and journal, all zeros, unless they are there. On disk on
    /// return.
    pub fn create_slots(&mut self) -> Result<()> {
        slot::create(&self.top, File::State)?;
        slot::create(&self.top, File::Journal)?;
        self.sync()
    }

    /// Makes what is missing of the ballast (about 16 MiB of metadata). On disk on return.
    pub fn make_ballast(&mut self) -> Result<()> {
        ballast::make(&self.top)?;
        self.sync()
    }
}
