//! `cargo image-check`: whether a Debian root with every kind of entry is the same after it was packed
//! and extracted.

use std::process::ExitCode;

fn main() -> ExitCode {
    match qemu_tests::tarball::check::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image-check: {error:#}");
            ExitCode::FAILURE
        }
    }
}
