//! Disk images of the test machines: what is on them, and how they are made.
//!
//! Everything is built in layers, each cached by what goes into it:
//! 0. [`packages`]: trees of Debian packages, as tarballs;
//! 1. [`base`]: a disk with partitions, a store, a root tree and GRUB, without anything of backstay.

pub mod base;
mod copy;
pub mod inspect;
pub mod packages;

pub use base::{Image, System};
pub use copy::copy;
pub use inspect::{Listing, Tree, inspect};

pub use crate::toolbox::Error;

/// The tiny machine without backstay: boots with the distribution's initramfs.
pub fn tiny_layer1() -> Result<Image, Error> {
    base::layer1(System::Tiny)
}

/// The Debian machine without backstay: boots with the distribution's initramfs.
pub fn debian_layer1() -> Result<Image, Error> {
    base::layer1(System::Debian)
}
