//! Builds the standalone initramfs that holds the agent, and reads depmod's tables for it and in it.
//!
//! [`build`] needs no privilege and starts no program. The agent uses [`depmod`] to load what was put in.

mod build;
mod choose;
mod cpio;
pub mod depmod;
mod elf;
pub mod glob;
mod read;

pub use build::{Built, Error, Options, build, keys, may_hold_secret, settings_of_root};
pub use read::settings;
