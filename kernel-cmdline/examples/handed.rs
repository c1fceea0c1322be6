//! An /init that prints, in hexadecimal, what the kernel handed to it of its command line.
//!
//! One line for each argument after the first (`handed: argument=6162`), one for each variable of the
//! environment in its order (`handed: variable=613d62`), and `handed: that is all`. It never ends: the end
//! of PID 1 is a kernel panic.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn main() {
    for argument in std::env::args_os().skip(1) {
        println!("handed: argument={}", hexadecimal(argument.as_bytes()));
    }
    for (name, value) in std::env::vars_os() {
        let whole = [name, OsString::from("="), value]
            .map(OsString::into_vec)
            .concat();
        println!("handed: variable={}", hexadecimal(&whole));
    }
    println!("handed: that is all");
    loop {
        std::thread::park();
    }
}
