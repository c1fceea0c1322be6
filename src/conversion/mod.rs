//! Converters, run apart from everything: by the agent before boot, and by the admin command in the running system.
//!
//! ```text
//! runner     one converter in a room of its own, on a clone of the data; output: what it prints
//! running    the running system: who is held still, what is converted, and how all that is taken back
//!   services   units that are stopped, and are not started again until the reboot
//!   mounts     mounts of the data that become read-only, and who writes there
//!   held       what is held, in /run, so that it can be let go
//! ```

pub mod held;
pub mod mounts;
pub mod output;
pub mod runner;
pub mod running;
pub mod services;
#[cfg(test)]
mod tests;

/// Who is told what a converter does. The lines are for people, each without its end.
pub trait Teller {
    /// Said aloud.
    fn say(&mut self, line: &str);
    /// What it printed, already made fit to be shown.
    fn printed(&mut self, line: &str);
    /// Called some times a second while it goes on.
    fn alive(&mut self) {}
    /// Called by the parent when a process was forked.
    fn forked(&mut self) {}
}
