//! Virtual machines that try backstay on real disks.
//!
//! From the bottom up: [`setup`] brings what the host lacks, [`toolbox`] is a guest of Debian's tools
//! that works on disks without root, [`image`] makes the disks ([`cache`] keeps them), [`vm`] starts
//! QEMU ([`accel`] says how fast), [`console`] is what the guest
//! has written so far, [`serial`] is the line a person types on and waits at, [`grub_menu`] reads
//! and works GRUB's menu there, [`story`] remembers what a scenario is doing, [`scenario`] holds
//! the stories themselves with their table and the runner, [`random`] the numbers that a seed makes,
//! [`report`] what is said about the stories, [`instructions`] what a start costs, [`package`] the Debian package,
//! [`qmp`] what QEMU itself is told. [`tarball`] tries archives of whole systems on a btrfs of
//! the host's own kernel, and [`compare`] says how two trees differ.

pub mod accel;
pub mod cache;
pub mod check;
pub mod compare;
pub mod console;
pub mod crash;
pub mod demo;
pub mod emulator;
pub mod grub_menu;
pub mod guest;
pub mod image;
pub mod instructions;
pub mod package;
pub mod qmp;
pub mod random;
pub mod report;
pub mod scenario;
pub mod serial;
pub mod setup;
pub mod story;
pub mod tarball;
pub mod toolbox;
pub mod toolchain;
pub mod vm;
