//! The commands about the factory snapshot and its archive, from arguments to what is printed.

use super::cli::{Archived, Build, Factory, Install, Pack};
use super::error::{Error, Result};
use super::machine::{Lock, Machine};
use super::output::now;
use super::run::{Ended, Made, Open, Out, note, open, open_with};
use super::{anew, baseline, build, factory, pack, tarball};
use crate::record::manifest::Manifest;
use crate::transaction::records::Records;
use serde::Serialize;
use std::path::Path;

/// Does what the arguments say.
pub fn run(root: Option<&Path>, command: &Factory, out: Out) -> Result<Ended> {
    match command {
        Factory::Seal { first_boot } => seal(root, *first_boot, out),
        Factory::Pack(args) => archive(args, out),
        Factory::Build(args) => make(root, args, out),
        Factory::Install(args) => install(root, args, out),
        Factory::Baseline { replace } => keep_baseline(root, *replace, out),
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
    if machine.recovery.missing().is_some() {
        return Err(Error::NotSetUp);
    }
    let manifest = factory::seal(&mut store, first_boot, now(), &mut |line| out.say(line))?;
    note(&mut store, "factory snapshot sealed");
    tell("sealed", &manifest, out);
    out.result(&Made {
        id: 0,
        title: manifest.title.to_string(),
    });
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
        machine,
        mut store,
        mut records,
    } = open(root, Lock::Try, out)?;
    let manifest = build::build(
        &mut store,
        &mut records,
        &machine.recovery,
        args,
        now(),
        &mut |line| out.say(line),
    )?;
    let from = args.archive.archive.display();
    note(&mut store, &format!("factory snapshot made from {from}"));
    // It is made, whatever the look at it says.
    let warnings = build::warnings(&store).unwrap_or_else(|error| vec![error.to_string()]);
    for warning in &warnings {
        out.say(&format!("warning: {warning}"));
    }
    tell("made", &manifest, out);
    out.result(&Built {
        id: 0,
        title: manifest.title.to_string(),
        warnings,
    });
    Ok(Ended::Done)
}

/// Without the lock while packages are installed.
fn install(root: Option<&Path>, args: &Install, out: Out) -> Result<Ended> {
    if root.is_some() {
        return Err(Error::Anew(
            "what is installed anew is the running system, which is not the one that --root names"
                .to_owned(),
        ));
    }
    let store = Machine::open(None, Lock::None)?.store()?;
    build::refuse_to_replace(&store, args.replace)?;
    let installed = anew::install(args, &mut |line| out.say(line))?;
    let archive = Archived {
        archive: installed.archive.clone(),
        signature: None,
        keys: Vec::new(),
        unsigned: true,
    };
    let build = Build {
        archive,
        replace: args.replace,
    };
    make(None, &build, out)
}

fn keep_baseline(root: Option<&Path>, replace: bool, out: Out) -> Result<Ended> {
    let Open {
        machine,
        mut store,
        mut records,
    } = open(root, Lock::Try, out)?;
    let made = baseline::baseline(
        &mut store,
        &mut records,
        &machine.top,
        replace,
        now(),
        &mut |line| out.say(line),
    )?;
    note(&mut store, "baseline made of the live system");
    for account in &made.kept {
        out.say(&format!("kept: {account}"));
    }
    let title = made.manifest.title.to_string();
    if !out.json {
        out.say(&format!(
            "kept in the factory's place: {title}; it is a baseline, not factory"
        ));
    }
    out.result(&Built {
        id: 0,
        title,
        warnings: made.kept,
    });
    Ok(Ended::Done)
}

#[derive(Serialize)]
struct Built {
    id: u32,
    title: String,
    warnings: Vec<String>,
}

fn tell(how: &str, manifest: &Manifest, out: Out) {
    let kernel = manifest.kernel.as_ref();
    let kernel = kernel.map_or("", |kernel| kernel.as_str());
    if !out.json {
        let title = &manifest.title;
        out.say(&format!("factory snapshot {how}: {title}, kernel {kernel}"));
    }
}

fn keep(root: Option<&Path>, args: &Archived, out: Out) -> Result<Ended> {
    // An image that waits for its first boot has no state yet.
    let Open {
        machine,
        mut store,
        mut records,
    } = open_with(root, Lock::Try, out, Records::open_or_begin)?;
    let kept = tarball::keep(
        &mut store,
        &mut records,
        &machine.top,
        &machine.recovery,
        args,
        now(),
        &mut |line| out.say(line),
    )?;
    note(
        &mut store,
        &format!("default tarball kept: {}", kept.tarball),
    );
    if !out.json {
        let used = match kept.warnings.is_empty() {
            true => ": the factory snapshot is made from it where it is missing or fails its check",
            false => "",
        };
        out.say(&format!("kept as {}{used}", kept.tarball));
    }
    out.result(&kept);
    Ok(Ended::Done)
}
