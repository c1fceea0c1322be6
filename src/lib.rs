//! backstay keeps a machine bootable: see docs/design.md.

pub mod agent;
pub mod record;
pub mod store;
pub mod sys;
