//! The numbers that a seed makes.

pub use crate::random::*;
