//! The console of the agent: what a person at the machine sees and may do before any root is mounted.
//!
//! ```text
//! guard     who may do what: the policy's [console], wrong passwords and how long they cost
//! password  the hash of the password, and what is typed
//! ```

pub mod guard;
pub mod password;
