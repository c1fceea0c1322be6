//! The commands about the factory snapshot and its archive, from arguments to what is printed.

use super::cli::{Archived, Build, Factory, Pack};
use super::error::{Error, Result};
use super::machine::{Lock, Machine};
use super::output::now;
use super::run::{Ended, Made, Open, Out, note, open};
use super::{build, factory, pack, recovery};
use crate::record::manifest::Manifest;
use serde::Serialize;
use std::path::Path;

/// Does what the arguments say.
pub fn run(root: Option<&Path>, command: &Factory, out: Out) -> Result<Ended> {
    match command {
        Factory::Seal { first_boot } => seal(root, *first_boot, out),
        Factory::Pack(args) => archive(args, out),
        Factory::Build(args) => make(root, args, out),
        Factory::Keep(args) => keep(root, args, out),
    }
}

fn seal(root: Option<&Path>, first_boot: bool, out: Out) -> Result<Ended> {
    if root.is_none() {
        return Err(Error::FactoryNeedsRoot);
    }
    let machine = Machine::open(root, Lock::Try)?;
    machine.refuse_copies()?;
    let mut store = machine.store()?;
    if recovery::missing(&machine.top).is_some() {
        return Err(Error::NotSetUp);
    }
    let manifest = factory::seal(&mut store, first_boot, now(), &mut |line| out.say(line))?;
    note(&mut store, "factory snapshot sealed");
    tell("sealed", &manifest, out);
    if !out.json && first_boot {
        out.say("the first start of this image makes its live datasets from it");
    }
    Ok(Ended::Done)
}

fn archive(args: &Pack, out: Out) -> Result<Ended> {
    let made = pack::pack(args, &mut |line| out.say(line))?;
    if !out.json {
        out.say(&pack::summary(&made));
    }
    out.result(&made);
    Ok(Ended::Done)
}

fn make(root: Option<&Path>, args: &Build, out: Out) -> Result<Ended> {
    let Open {
        mut store,
        mut records,
        ..
    } = open(root, Lock::Try, out)?;
    let manifest = build::build(&mut store, &mut records, args, now(), &mut |line| {
        out.say(line);
    })?;
    let from = args.archive.archive.display();
    note(&mut store, &format!("factory snapshot made from {from}"));
    tell("made", &manifest, out);
    Ok(Ended::Done)
}

fn tell(how: &str, manifest: &Manifest, out: Out) {
    let kernel = manifest.kernel.as_ref();
    let kernel = kernel.map_or("", |kernel| kernel.as_str());
    if !out.json {
        let title = &manifest.title;
        out.say(&format!("factory snapshot {how}: {title}, kernel {kernel}"));
    }
    out.result(&Made {
        id: 0,
        title: manifest.title.to_string(),
    });
}

#[derive(Serialize)]
struct Kept {
    tarball: String,
}

fn keep(root: Option<&Path>, args: &Archived, out: Out) -> Result<Ended> {
    let machine = Machine::open(root, Lock::Try)?;
    machine.refuse_copies()?;
    let mut store = machine.store()?;
    let tarball = build::keep(&mut store, &machine.top, args, &mut |line| out.say(line))?;
    note(&mut store, &format!("default tarball kept: {tarball}"));
    if !out.json {
        out.say(&format!(
            "kept as {tarball}: the factory snapshot is made from it where it is missing or fails its check"
        ));
    }
    out.result(&Kept { tarball });
    Ok(Ended::Done)
}
