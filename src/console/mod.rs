//! The menu on a console, in early boot and in the running system.
//!
//! ```text
//! menu      the dialogue; pager: its pages; screens: its texts; command: what is typed; text: what a terminal bears
//! json      the same for programs; session: what both share
//! terminal  who types; line: a line that is being typed
//! guard     who may: rights, password, delays
//! machine   what it works on; versions: those in a store; look: files of one
//! ```
//! Nothing here mounts, reads a device or knows of PID 1: `agent/menu.rs` and `admin/menu.rs` give it a machine and a
//! terminal.

pub mod command;
pub mod guard;
pub mod inside;
pub mod json;
pub mod line;
pub mod look;
pub mod machine;
pub mod menu;
mod pager;
pub mod password;
pub mod screens;
pub mod session;
pub mod terminal;
pub mod text;
pub mod versions;

#[cfg(test)]
mod tests;
