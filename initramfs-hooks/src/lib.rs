//! Builds the standalone initramfs that holds the agent, and reads depmod's tables for it and in it.

pub mod depmod;
pub mod glob;
