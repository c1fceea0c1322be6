//! The conformance suite over the store in memory: what tests of the layers above rely on.

use super::conformance::{self, Bench, layout};
use super::memory::{Content, Memory, Subvolume, Tree};
use super::place::Place;
use crate::record::Uuid;

struct Machine(Memory);

impl Machine {
    fn put(&mut self, place: Place, path: &str, content: Content) -> bool {
        self.0.edit(|world, _| {
            let Some(Subvolume { dataset, tree, .. }) = world.datasets.get_mut(&place) else {
                return false;
            };
            if dataset.read_only {
                return false;
            }
            for (slash, _) in path.match_indices('/') {
                tree.insert(path[..slash].to_owned(), Content::Directory);
            }
            dataset.identity.ctransid += 1;
            tree.insert(path.to_owned(), content);
            true
        })
    }
}

impl Bench for Machine {
    type Store = Memory;

    fn store(&mut self) -> &mut Memory {
        &mut self.0
    }

    fn create(&mut self, place: Place) {
        self.0.put(place, Tree::new());
    }

    fn write(&mut self, place: Place, path: &str, bytes: &[u8]) -> bool {
        self.put(place, path, Content::File(bytes.to_vec()))
    }

    fn directory(&mut self, place: Place, path: &str) {
        assert!(self.put(place, path, Content::Directory));
    }

    fn link(&mut self, place: Place, path: &str, target: &str) {
        assert!(self.put(place, path, Content::Link(target.to_owned())));
    }

    fn ballast(&mut self) {
        self.0.edit(|world, _| world.ballast = true);
    }

    fn nest(&mut self, place: Place, path: &str) -> Uuid {
        // The suite nests at different paths; their sum is enough to tell them apart.
        let sum: u128 = path.bytes().map(u128::from).sum();
        let uuid = Uuid(((1 << 127) | sum).to_be_bytes());
        assert!(self.put(place, path, Content::Nested(uuid)));
        uuid
    }
}

#[test]
fn the_store_in_memory_does_what_every_store_must() {
    let mut failed = Vec::new();
    for (name, check) in conformance::checks::<Machine>() {
        let run = || check(&mut Machine(Memory::new(layout())));
        if std::panic::catch_unwind(run).is_err() {
            failed.push(name);
        }
    }
    assert_eq!(failed, [""; 0]);
}
