//! backstay keeps a machine bootable: see docs/design.md.

pub mod record;
pub mod store;
