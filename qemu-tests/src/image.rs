//! Disk images of the test machines: what is on them, and how they are made.
//!
//! Everything is built in layers, each cached by what goes into it:
//! 0. [`packages`]: trees of Debian packages, as tarballs;
//! 1. [`base`]: a disk with partitions, a store, a root tree and GRUB, without anything of backstay;
//! 2. [`layers`]: the same with backstay's programs, set up as a store, with a factory snapshot;
//! 3. fixtures: disks that a script made from layer 2.
//!
//! Between 1 and 2 the tiny disk can get databases (`databases`).
//!
//! Beside them, [`stock`]: disks as a distribution's own tools make them.
//!
//! [`inspect`](mod@inspect) looks at a disk from outside.

pub mod base;
mod copy;
pub mod damage;
mod databases;
pub mod inspect;
pub mod layers;
pub mod packages;
pub mod panicking;
pub mod programs;
pub mod stock;

pub use base::{Image, System};
pub use copy::copy;
pub use inspect::{Listing, Tree, inspect};
pub use layers::{Fixture, alter, layer2};
pub use stock::Stock;

pub use crate::toolbox::Error;

/// The tiny machine without backstay: boots with the distribution's initramfs.
pub fn tiny_layer1() -> Result<Image, Error> {
    base::layer1(System::Tiny)
}

/// The Debian machine without backstay: boots with the distribution's initramfs.
pub fn debian_layer1() -> Result<Image, Error> {
    base::layer1(System::Debian)
}

/// What all disks with databases of a system are made from.
pub fn databases(system: System) -> Result<(), Error> {
    match system {
        System::Tiny => layers::layer2_with_databases().map(drop),
        System::Debian => packages::databases().map(drop),
    }
}

/// The tiny machine with backstay: version 1 is live, and is the factory snapshot.
pub fn tiny_layer2() -> Result<Image, Error> {
    layer2(System::Tiny)
}

/// The Debian machine with backstay: version 1 is live, and is the factory snapshot.
pub fn debian_layer2() -> Result<Image, Error> {
    layer2(System::Debian)
}
