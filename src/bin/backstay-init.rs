//! backstay-init
fn main() {}
