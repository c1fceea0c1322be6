//! backstay keeps a machine bootable: see docs/design.md.
