//! `cargo demo`: backstay in a virtual machine, on your own terminal.

use std::process::ExitCode;

use qemu_tests::demo;
use qemu_tests::image::System;

const USAGE: &str = "\
usage: cargo demo             the boot menu of a small appliance, on your own terminal
       cargo demo --debian    the same with a whole Debian 13 (a minute to boot)
       cargo demo --auto      upgrade, roll back, forward and factory reset, unattended";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [] => demo::interactive(System::Tiny),
        ["--debian"] => demo::interactive(System::Debian),
        ["--auto"] => demo::auto(),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
