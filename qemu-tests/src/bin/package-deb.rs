//! `cargo package-deb`: builds the Debian package and says where it is.

use std::process::ExitCode;

fn main() -> ExitCode {
    match qemu_tests::package::ensure() {
        Ok(package) => {
            println!("{}", package.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("package-deb: {error}");
            ExitCode::FAILURE
        }
    }
}
