//! The btrfs store on a real btrfs, and what it relies on in the kernel.
//!
//! `btrfs [conformance|converters|differ|premises|upgrades] [WORD…]` runs the checks whose names hold every word, each on a
//! fresh file system on the block device that `BACKSTAY_BTRFS_DEVICE` names, which is
//! **overwritten**. Needs root and mkfs.btrfs; 700 MB are enough. Fails where there is no device.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by panicking"
)]
#![allow(missing_docs, reason = "a test program has no users of its items")]

use backstay::{record, store};
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::Instant;

mod bench;
mod differ;
mod filling;
#[path = "../../src/image/forge.rs"]
#[expect(dead_code, reason = "most of its blocks are for attacks")]
mod forge;
// Not part of the library, which has no test code; its `crate::` paths are the two above.
#[path = "../../src/store/conformance/mod.rs"]
mod conformance;
mod converters;
mod premises;
mod scratch;
mod upgrades;

/// A check by its name, on a device.
struct Check {
    suite: &'static str,
    name: &'static str,
    run: Box<dyn Fn() + std::panic::RefUnwindSafe>,
}

fn main() -> ExitCode {
    if std::env::var_os("BACKSTAY_APP").is_some() {
        return converters::as_converter().into();
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    if std::env::var_os(scratch::DEVICE).is_none() {
        eprintln!(
            "{} names no device: nothing was tried, so this fails",
            scratch::DEVICE
        );
        return ExitCode::FAILURE;
    }
    let all: Vec<Check> = bench::checks()
        .into_iter()
        .chain(filling::checks())
        .chain(differ::checks())
        .chain(converters::checks())
        .chain(upgrades::checks())
        .chain(premises::checks())
        .collect();
    let wanted = |check: &&Check| {
        let name = format!("{} {}", check.suite, check.name);
        words.iter().all(|word| name.contains(word.as_str()))
    };
    let (mut passed, mut failed) = (0, Vec::new());
    for check in all.iter().filter(wanted) {
        let start = Instant::now();
        // The text of a panic goes to standard error by itself.
        let good = catch_unwind(|| (check.run)()).is_ok();
        let result = if good { "ok" } else { "FAILED" };
        let seconds = start.elapsed().as_secs_f32();
        println!("{} {} … {result} ({seconds:.1} s)", check.suite, check.name);
        if good {
            passed += 1;
        } else {
            failed.push(check.name);
        }
    }
    println!(
        "{passed} passed, {} failed: {}",
        failed.len(),
        failed.join(" ")
    );
    if failed.is_empty() && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
