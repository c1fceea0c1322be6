//! An installed system: what it is like, what stands in the way of going back, and how it is set up.
//!
//! ```text
//! survey   looks at the running system, writes nothing
//! judge    what was found, each in a line with its remedy: `backstay doctor`
//! steps    what `backstay init` proposes, and does
//! secrets  who can read the console's password
//! dataset  a directory of the root becomes a dataset
//! prefix   GRUB's directory moves out of the root, and back
//! tools    the distribution's programs
//! ```

pub mod dataset;
pub mod judge;
pub mod prefix;
pub mod secrets;
pub mod steps;
pub mod survey;
pub(super) mod tools;

use super::cli::{Init, Uninstall};
use super::consent;
use super::error::{Error, Result};
use super::machine::Machine;
use super::output::out;
use super::own_kernel;
use super::{grub, init, layout_file};
use crate::agent::kexec::forbidden_by_trial;
use crate::record::layout::Part;
use crate::store::Store;
use crate::store::btrfs::Btrfs;
use crate::store::place::{Place, Set};
use crate::transaction::{catalogue, check};
use judge::{Finding, Weight};
use steps::{Choices, Proposal, Step};
use survey::Survey;

/// Whether the running system is one that is set up here: it has no layout, or the one that was written here.
pub fn is_wanted(machine: &Machine, args: &Init) -> bool {
    let declared = init::declared(std::path::Path::new("/"));
    let ours = declared.is_none_or(|path| path == std::path::Path::new(steps::LAYOUT));
    machine.booted.is_some() && args.layout.is_none() && !args.repair && ours
}

/// Proposes, asks, and does it; gives the store. `None`: only the proposal was wanted.
pub fn set_up(machine: &Machine, args: &Init, say: &mut dyn FnMut(&str)) -> Result<Option<Btrfs>> {
    let survey = Survey::of(machine)?;
    let choices = Choices {
        moved: args.moved.clone(),
        left: args.left.clone(),
        layout: std::fs::read_to_string(steps::LAYOUT).ok(),
    };
    let taken = |name: &str| !dataset::is_free(machine, name);
    let proposal = steps::propose(&survey, &choices, taken)?;
    for finding in judge::findings(&survey) {
        say(&finding.to_string());
    }
    tell(&survey, &proposal, say);
    if args.dry_run {
        return Ok(None);
    }
    proposal.steps.iter().try_for_each(dataset::in_use)?;
    if !args.yes {
        consent::yes("Do this now?")?;
    }
    let mut store = None;
    for step in &proposal.steps {
        say(&format!("doing: {}", step.describe(&survey.live)));
        match step {
            Step::Store { .. } => {
                if proposal.steps.contains(&Step::Prefix) {
                    prefix::make_room(machine)?;
                }
                own_kernel::keep()?;
                store = Some(init::init(machine, args, say)?);
            }
            Step::Prefix => prefix::move_out(machine, &survey)?,
            Step::Menu => tools::update_grub()?,
            other => steps::prepare(machine, &survey, other)?,
        }
    }
    if proposal
        .steps
        .iter()
        .any(|it| matches!(it, Step::Move { .. }))
    {
        say(
            "restart the machine soon: a program that has files open in a directory that was moved goes on \
             writing to the old ones, which lie below the mount and are not seen after the restart",
        );
    }
    if let Some(store) = &store
        && catalogue::manifest(store, Set::Factory)?.is_none()
    {
        say(&format!("for a factory reset: {FACTORY}"));
    }
    Ok(store)
}

fn tell(survey: &Survey, proposal: &Proposal, say: &mut dyn FnMut(&str)) {
    say(&format!(
        "a rollback covers: {}",
        proposal.covered.join(", ")
    ));
    say(&match proposal.stays.is_empty() {
        true => "stays: nothing".to_owned(),
        false => format!("stays: {}", proposal.stays.join(", ")),
    });
    for step in &proposal.steps {
        say(&format!("will {}", step.describe(&survey.live)));
    }
}

/// How there comes to be a factory version.
const FACTORY: &str = "'backstay factory install' installs the distribution anew for it, 'factory build' takes a \
                       tarball, 'factory baseline' keeps a cleaned copy of this system";

/// What is wrong with the store, where there is one.
fn of_store(machine: &Machine, survey: &Survey) -> Result<Vec<Finding>> {
    let finding = |weight, id, what: &str, remedy: &str| Finding {
        weight,
        id,
        what: what.to_owned(),
        remedy: remedy.to_owned(),
    };
    let store = match machine.store() {
        Ok(store) => store,
        Err(Error::NotSetUp) => {
            let what = "there is no store on this file system yet";
            return Ok(vec![finding(
                Weight::Note,
                "no-store",
                what,
                "'backstay init' makes it",
            )]);
        }
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    if let Some(file) = machine.recovery.missing() {
        let what = format!("the recovery kernel lacks its {file}, and it carries everything out");
        let remedy = "run 'backstay recovery install'";
        found.push(finding(
            Weight::Problem,
            "no-recovery-kernel",
            &what,
            remedy,
        ));
    }
    // Elsewhere GRUB does not read what lies in the store.
    if !survey.boot_is_apart() {
        for problem in grub::problems(&machine.top, survey.uuid, &survey.live)? {
            found.push(finding(Weight::Problem, "grub-files", &problem, ""));
        }
    }
    let root = std::path::Path::new("/");
    let declared = init::declared(root);
    let fault = declared.as_deref().and_then(unreadable);
    if let Some(what) = fault {
        let remedy =
            "put it right, or, where 'backstay init' made it, delete it and run that again";
        found.push(finding(Weight::Problem, "layout-unreadable", &what, remedy));
    }
    if declared.is_none() {
        let what = "there is no layout.toml, so nothing marks this system good, and no start of it is on trial";
        let remedy = "where 'backstay init' made the store, it writes one again";
        found.push(finding(Weight::Problem, "no-layout", what, remedy));
    } else if !check::marks_itself_good(&store, Place::Live(Part::System))? {
        let what = "nothing marks this system good once it is up, so no start of it is on trial";
        let remedy =
            "run 'systemctl unmask backstay-mark-good' and 'systemctl enable backstay-mark-good'";
        found.push(finding(Weight::Problem, "never-marked-good", what, remedy));
    }
    let why = forbidden_by_trial(&machine.recovery.directory());
    found.extend(why.map(|why| judge::kexec(survey, &why)));
    if catalogue::manifest(&store, Set::Factory)?.is_none() {
        let what = "there is no factory version, so 'reset system' is refused";
        found.push(finding(Weight::Note, "no-factory", what, FACTORY));
    }
    Ok(found)
}

/// Whether others than root can read the hash of the console's password.
fn given_away(machine: &Machine, survey: &Survey) -> Vec<Finding> {
    let is_fat = |path: &std::path::Path| {
        let mount = survey.holding(&path.to_string_lossy());
        mount.is_some_and(|mount| mount.fs == "vfat")
    };
    let holds = |path: &std::path::Path| tools::lists(path, "etc/backstay/policy.toml");
    let initramfs = machine.recovery.initramfs();
    secrets::findings(std::path::Path::new("/"), &initramfs, &is_fat, &holds)
}

/// What is wrong with a layout.toml.
fn unreadable(path: &std::path::Path) -> Option<String> {
    let wrong = match std::fs::read_to_string(path) {
        Ok(text) => layout_file::parse(&text).err()?.to_string(),
        Err(error) => error.to_string(),
    };
    Some(format!("{}: {wrong}", path.display()))
}

/// `backstay uninstall`: says what goes, asks, and does it.
pub fn take_down(
    machine: &Machine,
    store: &mut Btrfs,
    args: &Uninstall,
    say: &mut dyn FnMut(&str),
) -> Result<()> {
    let survey = Survey::of(machine)?;
    may_go(machine, &survey)?;
    let snapshots = store.ids()?.len();
    say(&format!(
        "will move GRUB's files back into the root, and delete the store with {snapshots} snapshots"
    ));
    say("stays: what is live, and every dataset that /etc/fstab mounts");
    if args.dry_run {
        return Ok(());
    }
    if !args.yes {
        consent::yes("Delete all snapshots?")?;
    }
    // Room for GRUB's files, on a disk that the snapshots may have filled.
    store.remove_snapshots()?;
    // GRUB no longer needs the store before it goes.
    prefix::move_back(machine, &survey)?;
    tools::sync(std::path::Path::new("/"))?;
    store.remove_store()?;
    machine.recovery.remove_from_boot()?;
    // Last, so that what was interrupted can be done again.
    let layout = std::path::Path::new(steps::LAYOUT);
    std::fs::remove_file(layout).map_err(Error::file("removing", layout))?;
    // Its entries go with the store.
    tools::update_grub()?;
    say("the store is gone; 'apt-get purge backstay' removes the programs");
    Ok(())
}

/// Whether GRUB starts without the store. That of an appliance has its prefix there, and would go with it.
fn may_go(machine: &Machine, survey: &Survey) -> Result<()> {
    let kept = |why: &str| {
        Error::Install(format!(
            "{why}: the store stays, since GRUB may start from it"
        ))
    };
    if !std::path::Path::new(steps::LAYOUT).exists() {
        return Err(kept(&format!(
            "{} is missing, which 'backstay init' on a running system makes and would make again",
            steps::LAYOUT
        )));
    }
    let name = prefix::directory();
    let directory = machine.top.join(&name);
    if directory.is_dir() && !dataset::is_subvolume(&directory) && survey.is_in_root(survey::GRUB) {
        return Err(kept(&format!(
            "{name} is a directory, made for an appliance, and {} lies in the root",
            survey::GRUB
        )));
    }
    Ok(())
}

/// `backstay doctor`: everything that was found, one line each. True if nothing is wrong.
pub fn doctor(machine: &Machine, as_json: bool) -> Result<bool> {
    let survey = Survey::of(machine)?;
    let mut found = judge::findings(&survey);
    found.extend(of_store(machine, &survey)?);
    found.extend(given_away(machine, &survey));
    found.sort_by_key(|finding| finding.weight);
    match as_json {
        true => super::output::json(&found),
        false => found
            .iter()
            .for_each(|finding| out(format_args!("{finding}\n"))),
    }
    Ok(found.iter().all(|finding| finding.weight == Weight::Note))
}
