//! The conformance suite over the btrfs store.

use super::Check;
use super::conformance::{self, Bench, layout};
use super::scratch::Scratch;
use backstay::record::Uuid;
use backstay::store::Store;
use backstay::store::btrfs::Btrfs;
use backstay::store::place::Place;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A machine on a scratch device.
pub struct Machine {
    pub store: Btrfs,
    pub top: PathBuf,
    // Last, so that the store's descriptor is closed before the unmount.
    pub scratch: Scratch,
}

impl Machine {
    /// One with an empty store. Without the ballast, which takes longer to make than most checks
    /// take: those that need it make it.
    pub fn new(mib: u64) -> Machine {
        let mut scratch = Scratch::new(mib);
        let (mut store, top) = scratch.open(layout());
        store.create_skeleton().unwrap();
        Machine {
            store,
            top,
            scratch,
        }
    }

    /// The same machine after the power went and came back: what is not on disk is gone.
    pub fn after_power_cut(self) -> Machine {
        let Machine {
            store, mut scratch, ..
        } = self;
        let image = scratch.image();
        drop(store);
        scratch.restore(&image);
        let (store, top) = scratch.open(layout());
        Machine {
            store,
            top,
            scratch,
        }
    }

    /// The path of something in a dataset.
    pub fn at(&self, place: Place, path: &str) -> PathBuf {
        self.top.join(place.path(&layout()).unwrap()).join(path)
    }
}

impl Bench for Machine {
    type Store = Btrfs;

    fn store(&mut self) -> &mut Btrfs {
        &mut self.store
    }

    fn create(&mut self, place: Place) {
        self.store.create(place).unwrap();
    }

    fn write(&mut self, place: Place, path: &str, bytes: &[u8]) -> bool {
        let path = self.at(place, path);
        fs::create_dir_all(path.parent().unwrap()).is_ok() && fs::write(path, bytes).is_ok()
    }

    fn directory(&mut self, place: Place, path: &str) {
        fs::create_dir_all(self.at(place, path)).unwrap();
    }

    fn link(&mut self, place: Place, path: &str, target: &str) {
        symlink(target, self.at(place, path)).unwrap();
    }

    fn ballast(&mut self) {
        self.store.make_ballast().unwrap();
    }

    fn nest(&mut self, place: Place, path: &str) -> Uuid {
        let path = Path::new(&place.path(&layout()).unwrap()).join(path);
        let made = self.store.create_path(path.to_str().unwrap()).unwrap();
        self.store.sync().unwrap();
        made.identity.uuid
    }
}

pub fn checks() -> Vec<Check> {
    let check = |(name, run): conformance::Check<Machine>| Check {
        suite: "conformance",
        name,
        run: Box::new(move || run(&mut Machine::new(256))),
    };
    conformance::checks().into_iter().map(check).collect()
}
