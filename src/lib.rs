//! backstay keeps a machine bootable: see docs/design.md.

pub mod admin;
pub mod agent;
pub mod console;
pub mod conversion;
pub mod fence;
pub mod image;
pub mod policy;
pub mod record;
pub mod store;
pub mod sys;
pub mod transaction;
