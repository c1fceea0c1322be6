//! The converter that a version of `cargo crash` ships: a program of its own, static, made of one file and the standard
//! library. It finds what it is to do where every converter finds it (docs/fencing.md).

#[path = "../src/crash/books.rs"]
#[allow(dead_code, reason = "it makes no books, and is asked for no state")]
mod books;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let [data, from, to] = ["BACKSTAY_DATA", "BACKSTAY_FROM", "BACKSTAY_TO"]
        .map(|name| env::var(name).unwrap_or_default());
    match books::convert(&PathBuf::from(data), &from, &to) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
