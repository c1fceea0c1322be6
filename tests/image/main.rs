//! Archives extracted as the agent does it: by root, in the confined child.
//!
//! `image [WORD…]` runs the tests whose names hold every word. Needs root, because owners, devices,
//! capabilities and the child's chroot do; `cargo test` does not run it. It writes to temporary
//! directories and nowhere else.
//!
//! `image --extract ARCHIVE DIRECTORY` extracts an archive, unsigned, and says how long that took.
//! `image --seeds DIRECTORY` writes archives for the fuzzer to begin with.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by panicking"
)]
#![allow(missing_docs, reason = "a test program has no users of its items")]

use std::fs::File;
use std::os::fd::AsFd;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use backstay::image::{Archive, Error, Extracted, Limits, Trust, Verified, extract, verify};

mod child;
#[path = "../../src/image/forge.rs"]
mod forge;
mod seeds;
mod tools;

/// A test by its name.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.as_slice() {
        [command, archive, directory] if command == "--extract" => {
            measure(Path::new(archive), Path::new(directory));
            return ExitCode::SUCCESS;
        }
        [command, directory] if command == "--seeds" => {
            seeds::write(Path::new(directory));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "image: owners, devices and chroot need root, so nothing was tried: run it as root"
        );
        return ExitCode::FAILURE;
    }
    let tests: Vec<Test> = [child::TESTS, tools::TESTS].concat();
    let mut failed = Vec::new();
    let mut passed = 0;
    for (name, test) in tests {
        if !words.iter().all(|word| name.contains(word.as_str())) {
            continue;
        }
        let start = Instant::now();
        // The text of a panic goes to standard error by itself.
        let good = catch_unwind(test).is_ok();
        let result = if good { "ok" } else { "FAILED" };
        println!(
            "image {name} … {result} ({:.1} s)",
            start.elapsed().as_secs_f32()
        );
        if good {
            passed += 1;
        } else {
            failed.push(name);
        }
    }
    println!("{passed} passed, {} failed", failed.len());
    if failed.is_empty() && passed != 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A fresh directory with an archive beside a directory to extract it into.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn fresh() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.root()).unwrap();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// The archive of these bytes, verified without a signature.
    pub fn verified(&self, bytes: &[u8]) -> Verified {
        let path = self.path("archive");
        std::fs::write(&path, bytes).unwrap();
        verified(&path)
    }

    pub fn extract(&self, bytes: &[u8], limits: &Limits) -> Result<Extracted, Error> {
        self.extract_verified(&self.verified(bytes), limits)
    }

    pub fn extract_verified(
        &self,
        verified: &Verified,
        limits: &Limits,
    ) -> Result<Extracted, Error> {
        let root = File::open(self.root()).unwrap();
        extract(verified, root.as_fd(), limits, &mut |_| {})
    }
}

pub fn verified(path: &Path) -> Verified {
    verify(Archive::open(path).unwrap(), &Trust::Unsigned, &mut |_| {}).unwrap()
}

/// The largest resident set of any child that has ended, in KiB.
pub fn peak_of_children() -> i64 {
    use nix::sys::resource::{UsageWho, getrusage};
    getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss()
}

/// Times of both passes, to the end of a sync.
fn measure(archive: &Path, directory: &Path) {
    let start = Instant::now();
    let verified = verified(archive);
    let checked = start.elapsed();
    let into = File::open(directory).unwrap();
    let extracted = extract(&verified, into.as_fd(), &Limits::default(), &mut |_| {}).unwrap();
    let written = start.elapsed();
    rustix::fs::syncfs(&into).unwrap();
    let synced = start.elapsed();
    println!(
        "verified {checked:.2?}, written {written:.2?}, synced {synced:.2?}; {extracted:?}, peak {} KiB",
        peak_of_children()
    );
}
