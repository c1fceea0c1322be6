//! What every store must do, as one suite of checks. Each check gets a fresh store.
//!
//! The suite knows a store only through [`Store`] and a [`Bench`], which puts in what a store's
//! users would. Checks panic with a sentence, as tests do.

mod datasets;
mod files;
mod labels;
mod nested;
mod written;

use crate::record::Uuid;
use crate::record::layout::{Dataset, Layout, Part};
use crate::store::place::Place;
use crate::store::{Access, Store};

/// A store with a machine around it, which has [`layout`], an empty store and no dataset.
pub trait Bench {
    /// The store to check.
    type Store: Store;

    /// The store.
    fn store(&mut self) -> &mut Self::Store;

    /// Makes an empty writable dataset.
    fn create(&mut self, place: Place);

    /// Writes a file into a dataset, making its directories. Returns whether that was possible.
    fn write(&mut self, place: Place, path: &str, bytes: &[u8]) -> bool;

    /// Makes a directory in a dataset.
    fn directory(&mut self, place: Place, path: &str);

    /// Makes a symbolic link in a dataset.
    fn link(&mut self, place: Place, path: &str, target: &str);

    /// Makes what is missing of the ballast.
    fn ballast(&mut self);

    /// Makes a subvolume inside a dataset, in a directory that exists.
    fn nest(&mut self, place: Place, path: &str) -> Uuid;
}

/// The machine of the suite: a system, configuration and two kinds of data.
pub fn layout() -> Layout {
    let dataset = |name: &str, live: &str, mount: &str| Dataset {
        name: name.try_into().unwrap(),
        live: live.try_into().unwrap(),
        mount: mount.try_into().unwrap(),
    };
    Layout {
        system: dataset("system", "@rootfs", "/"),
        config: Some(dataset("config", "@config", "/var/lib/backstay/config")),
        config_paths: ["/etc/appliance".try_into().unwrap()].into_iter().collect(),
        data: [
            dataset("data", "@data", "/srv/data"),
            dataset("mail", "@mail", "/var/mail"),
        ]
        .into_iter()
        .collect(),
    }
}

const LIVE: Place = Place::Live(Part::System);
const NEXT: Place = Place::Snapshot(13, Part::System);

/// A check: its name, a sentence, and what it does.
pub type Check<B> = (&'static str, fn(&mut B));

/// All checks.
pub fn checks<B: Bench>() -> Vec<Check<B>> {
    [
        datasets::checks(),
        nested::checks(),
        files::checks(),
        labels::checks(),
        written::checks(),
    ]
    .concat()
}

fn uuid_at<B: Bench>(bench: &mut B, place: Place) -> Option<Uuid> {
    let dataset = bench.store().dataset(place).unwrap();
    dataset.map(|dataset| dataset.identity.uuid)
}

fn content<B: Bench>(bench: &mut B, place: Place, path: &str) -> Option<String> {
    let bytes = bench.store().content(place, path).unwrap();
    bytes.map(|bytes| String::from_utf8(bytes).unwrap())
}

/// A live system with a file, and a writable clone of it in the next snapshot's place.
fn two<B: Bench>(bench: &mut B) -> (Uuid, Uuid) {
    bench.create(LIVE);
    bench.write(LIVE, "etc/version", b"old");
    bench.directory(LIVE, "var/lib");
    let clone = bench
        .store()
        .clone_to(LIVE, NEXT, Access::Writable)
        .unwrap();
    bench.write(NEXT, "etc/version", b"new");
    bench.store().sync().unwrap();
    (uuid_at(bench, LIVE).unwrap(), clone.identity.uuid)
}
