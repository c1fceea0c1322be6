//! An installed system: what it is like, what stands in the way of going back, and how it is set up.
//!
//! ```text
//! survey   looks at the running system, writes nothing
//! judge    what was found, each in a line with its remedy: `backstay doctor`
//! steps    what `backstay init` proposes and does
//! tools    the distribution's programs
//! ```

pub mod judge;
pub mod steps;
pub mod survey;
pub(super) mod tools;

use super::cli::Init;
use super::consent;
use super::error::{Error, Result};
use super::init;
use super::machine::Machine;
use super::output::out;
use super::own_kernel;
use crate::store::Store;
use crate::store::btrfs::Btrfs;
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
    let taken = |name: &str| machine.top.join(name).exists();
    let proposal = steps::propose(&survey, &choices, taken)?;
    for finding in judge::findings(&survey) {
        say(&finding.to_string());
    }
    tell(&survey, &proposal, say);
    if args.dry_run {
        return Ok(None);
    }
    if !args.yes {
        consent::yes("Do this now?")?;
    }
    let mut store = None;
    for step in &proposal.steps {
        say(&format!("doing: {}", step.describe(&survey.live)));
        match step {
            Step::Store => {
                if proposal.steps.contains(&Step::Prefix) {
                    steps::make_room_for_grub(machine)?;
                }
                own_kernel::keep()?;
                store = Some(init::init(machine, args, say)?);
            }
            Step::Prefix => steps::move_prefix(machine, &survey)?,
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
             writing to the old ones, which lie below the mount",
        );
    }
    Ok(store)
}

fn tell(survey: &Survey, proposal: &Proposal, say: &mut dyn FnMut(&str)) {
    say(&format!(
        "goes back with the system: {}",
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

/// `backstay uninstall`: says what goes, asks, and does it.
pub fn take_down(
    machine: &Machine,
    store: &mut Btrfs,
    yes: bool,
    say: &mut dyn FnMut(&str),
) -> Result<()> {
    let snapshots = store.ids()?.len();
    say(&format!(
        "will move GRUB's files back into the root, and delete the store with {snapshots} snapshots"
    ));
    say("stays: what is live, and every dataset that /etc/fstab mounts");
    if !yes {
        consent::yes("Delete all snapshots?")?;
    }
    // GRUB no longer needs the store before it goes.
    steps::move_prefix_back(machine, &Survey::of(machine)?)?;
    let layout = std::path::Path::new(steps::LAYOUT);
    if layout.exists() {
        std::fs::remove_file(layout).map_err(Error::file("removing", layout))?;
    }
    tools::sync(std::path::Path::new("/"))?;
    store.remove_store()?;
    // Its entries go with the store.
    tools::update_grub()?;
    say("the store is gone; 'apt-get purge backstay' removes the programs");
    Ok(())
}

/// `backstay doctor`: everything that was found, one line each. True if nothing is wrong.
pub fn doctor(machine: &Machine, as_json: bool) -> Result<bool> {
    let survey = Survey::of(machine)?;
    let found = judge::findings(&survey);
    match as_json {
        true => super::output::json(&found),
        false => found
            .iter()
            .for_each(|finding| out(format_args!("{finding}\n"))),
    }
    Ok(found
        .iter()
        .all(|finding| finding.weight == judge::Weight::Note))
}
