//! Databases for the test machines: PostgreSQL 15 and 17, and SQLite, with an application on each.
//!
//! `images/databases` holds them: `ledger` keeps books in PostgreSQL, `notes` notes in SQLite, each in two versions with
//! converters between the formats of their data. The tiny disk with both is made before backstay is put on it, and kept for
//! the whole machine: making the data, and converting it once, takes longer than all else.

use std::path::Path;
use std::time::{Duration, Instant};

use super::base::{self, FUNCTIONS as STORE_FUNCTIONS, Image, System};
use super::{copy, packages};
use crate::cache::{Cache, Key};
use crate::setup;
use crate::toolbox::{Disk, Error, Job};

/// Shell functions of the scripts that use databases.
pub(super) const FUNCTIONS: &str = include_str!("../../images/databases/functions.sh");
const LAYER1: &str = include_str!("../../images/databases/layer1.sh");

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../images/databases/", $name)))),+]
    };
}

/// What scripts find as /in/databases/NAME.
const FILES: &[(&str, &str)] = files![
    "books.sql",
    "ledger",
    "ledger-1.toml",
    "ledger-2.toml",
    "ledger-down",
    "ledger-up",
    "notes",
    "notes-1.toml",
    "notes-2.toml",
    "notes-convert",
    "notes-down.sql",
    "notes-schema-1.sql",
    "notes-schema-2.sql",
    "notes-up.sql",
    "show.sql",
];

/// The texts that decide what a script makes of them.
pub(super) fn texts() -> String {
    let files = FILES.iter().flat_map(|(name, text)| [*name, *text]);
    files.chain([FUNCTIONS]).collect::<Vec<_>>().join("\n")
}

/// Hands in the files.
pub(super) fn hand_in(job: Job) -> Job {
    FILES.iter().fold(job, |job, (name, text)| {
        job.text(format!("databases/{name}"), *text)
    })
}

/// The tiny disk with databases and without backstay: version 1 of both applications is live, with its data.
pub(super) fn layer1() -> Result<Image, Error> {
    let system = System::Tiny;
    let base = base::layer1(system)?;
    let tarball = packages::databases()?;
    let script = format!("{STORE_FUNCTIONS}\n{FUNCTIONS}\n{LAYER1}");
    let key = Key::of("databases, version 1")
        .key(&base.key)
        .key(&tarball.key)
        .text(&script)
        .text(&texts())
        .finish();
    let path = Cache::machine()?.entry("tiny-databases", "img", &key, |path| {
        build(&base, &tarball.path, script, path)
    })?;
    Ok(Image { path, key, system })
}

fn build(base: &Image, tarball: &Path, script: String, path: &Path) -> Result<(), Error> {
    let what = "putting databases on the tiny disk";
    setup::say(&format!("{what}, some minutes…"));
    let start = Instant::now();
    copy(&base.path, path)?;
    let job = Job::new(what, script)
        .disk(Disk::read_write(path))
        .disk(Disk::read_only(tarball))
        .timeout(Duration::from_secs(1200));
    hand_in(job).run()?;
    let seconds = start.elapsed().as_secs();
    setup::say(&format!("put databases on the tiny disk in {seconds} s"));
    Ok(())
}
