//! `cargo demo`: backstay in a virtual machine, on your own terminal.

fn main() {}
