//! Early boot, in the order it happens.
//!
//! ```text
//! flow      one boot, in order: asked → session → act → root → kernel; beside_image: that of a hibernated system
//! setup     PID 1: /dev, /proc, console, the first line on it
//! pid1      supervises; worker: the child that does the work and answers with an End; end: performs it
//! host      the agent inside another initramfs
//! modules   drivers from the initramfs
//! device    waits for what root= names; block: the devices that are there
//! superblock  mends one that a power cut tore
//! mount     the store, the root and what belongs in it; options: rootflags=
//! tarball   the default tarball: found, verified; policy: what the machine's owner allows
//! kexec     another root's own kernel
//! handover  switch root; erase: the initramfs goes
//! plain     the boot without any verb, after a worker died
//! menu      a person decides: the menu (crate::console) on every console (consoles); pulse: that it is not dead
//! kernel_keys  those of SysRq, off while the menu is open
//! log       lines for a person, and the log; kmsg: the writer below it; again: when a lost console is tried anew
//! ```

pub mod act;
mod again;
pub mod asked;
pub mod block;
pub mod boot_record;
pub mod consoles;
pub mod convert;
pub mod device;
pub mod end;
pub mod erase;
pub mod flow;
pub mod handover;
pub mod hibernation;
pub mod host;
pub mod kernel;
mod kernel_keys;
pub mod kexec;
pub mod kmsg;
pub mod log;
pub mod menu;
pub mod modules;
pub mod mount;
pub mod options;
pub mod pid1;
pub mod plain;
pub mod policy;
pub mod pulse;
pub mod root;
pub mod session;
pub mod setup;
pub mod superblock;
pub mod tarball;
pub mod watchdog;
pub mod worker;
