//! An archive as a set of the store.

use super::Check;
use super::bench::Machine;
use super::forge::{Block, Forge};
use backstay::image::fill::fill;
use backstay::image::{Archive, Trust, verify};
use backstay::record::layout::Part;
use backstay::store::btrfs::Btrfs;
use backstay::store::place::Place;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

pub fn checks() -> Vec<Check> {
    vec![Check {
        suite: "conformance",
        name: "a_configuration_whose_names_are_no_text_is_filled",
        run: Box::new(a_configuration_whose_names_are_no_text_is_filled),
    }]
}

fn a_configuration_whose_names_are_no_text_is_filled() {
    const NAME: &[u8] = b"caf\xe9.conf";
    let mut machine = Machine::new(256);
    let path = [b"var/lib/backstay/config/", NAME].concat();
    let bytes = Forge::new()
        .push(Block::new(b'0', "").raw(0, &path).size(1), b"1")
        .end();
    let place = machine.scratch.path("archive");
    fs::write(&place, bytes).unwrap();
    let archive = Archive::open(&place).unwrap();
    let archive = verify(archive, &Trust::Unsigned, &mut |_| {}).unwrap();
    let config = Place::Snapshot(13, Part::Config);
    for place in [Place::Snapshot(13, Part::System), config] {
        make(&mut machine.store, place);
        fill(&machine.store, place, &archive, &mut |_| {}).unwrap();
    }
    let name = OsStr::from_bytes(NAME);
    let copied = machine.at(config, "").join(name);
    assert_eq!(fs::read(copied).unwrap(), b"1");
}

fn make(store: &mut Btrfs, place: Place) {
    use backstay::store::Store;
    store.create(place).unwrap();
}
