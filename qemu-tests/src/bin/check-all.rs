//! `cargo check-all`: everything that must hold, in one command.

fn main() {}
