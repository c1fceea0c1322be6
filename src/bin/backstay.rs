//! backstay
fn main() {}
