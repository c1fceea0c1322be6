//! Converters before boot: run by [`runner`], told on the consoles and in the log.

use super::log as agent_log;
use crate::conversion::Teller;
use crate::conversion::runner::{self, Site, Top};
use crate::record::layout::Part;
use crate::say;
use crate::store::Store;
use crate::store::btrfs::Btrfs;
use crate::store::place::Place;
use crate::transaction::Error;
use crate::transaction::plan::Conversion;
use std::path::PathBuf;

/// Where the version's root is seen.
const ROOM: &str = "/convert";

/// Runs a converter of the change `id` on the clone at `at`.
pub fn run(store: &mut Btrfs, id: u32, at: Place, conversion: &Conversion) -> Result<(), Error> {
    // The configuration that goes with what is about to be live; where that stays, it is live already.
    let staged = Place::Snapshot(id, Part::Config);
    let config = match store.dataset(staged)? {
        Some(_) => staged,
        None => Place::Live(Part::Config),
    };
    let top = Top::of(store).map_err(|error| Error::NotConverted {
        app: conversion.app.to_string(),
        why: error.to_string(),
    })?;
    let site = Site {
        room: PathBuf::from(ROOM),
        top,
        config,
    };
    runner::run(store, &site, at, conversion, &mut Consoles)
}

/// The consoles, and the log.
struct Consoles;

impl Teller for Consoles {
    fn say(&mut self, line: &str) {
        say!("{line}");
    }

    fn printed(&mut self, line: &str) {
        log::info!("converter: {line}");
    }

    fn alive(&mut self) {
        agent_log::alive();
    }

    fn forked(&mut self) {
        agent_log::forked();
    }
}
