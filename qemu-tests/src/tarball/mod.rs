//! Archives of whole systems, on a btrfs that the running kernel mounts from a file.
//!
//! [`scratch`] is that file system; [`plant`] adds an entry of every kind to a real Debian root;
//! [`tools`] are the programs that pack and extract, ours and others; [`check`] packs with each,
//! extracts with each, and says exactly what differs from the root ([`crate::compare`]); [`bench`]
//! measures how long extracting takes.

pub mod bench;
pub mod check;
mod measured;
mod ours;
mod plant;
mod scratch;
mod tools;
