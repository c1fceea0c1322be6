//! Early boot, in the order it happens.
//!
//! [`pid1`] is the parent that never ends but in a hand-over; all work is done by its child, the worker.

pub mod log;
