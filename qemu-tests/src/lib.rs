//! Virtual machines that try backstay on real disks.
//!
//! From the bottom up: [`vm`] starts QEMU ([`accel`] says how fast), [`console`] is what the guest
//! has written so far, [`serial`] is the line a person types on and waits at, [`grub_menu`] reads
//! and works GRUB's menu there, [`story`] remembers what a scenario is doing, [`scenario`] holds
//! the stories themselves with their table and the runner, [`report`] what is said about them.

pub mod accel;
pub mod console;
pub mod grub_menu;
pub mod report;
pub mod scenario;
pub mod serial;
pub mod story;
pub mod vm;
