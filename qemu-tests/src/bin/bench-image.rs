//! `cargo bench-image [--runs N] [--shared] [--no-packing]`: how long it takes from an archive to a root.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use qemu_tests::tarball::bench::{self, MEASURE, Options};

/// Measures extracting, ours beside others', and writes docs/image-performance.md.
#[derive(Debug, Parser)]
#[command(name = "bench-image")]
struct Cli {
    /// Runs of each tool
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// The level of zstd that the archive is packed with; 19 is what is shipped
    #[arg(long, default_value_t = 19)]
    level: u8,
    /// Evict the archive alone from the page cache, on a machine that somebody else works on
    #[arg(long)]
    shared: bool,
    /// Leave out how long packing takes
    #[arg(long)]
    no_packing: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let result = match arguments.as_slice() {
        [_, flag, result, words @ ..] if flag == MEASURE => {
            bench::measure(&PathBuf::from(result), words)
        }
        _ => {
            let cli = Cli::parse();
            bench::run(Options {
                runs: cli.runs,
                level: cli.level,
                shared: cli.shared,
                packing: !cli.no_packing,
            })
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}
