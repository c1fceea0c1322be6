//! Conversions in the running system, between the confirmation of a change and its request.
//!
//! A power cut leaves clones that no request names, which the next start or command removes; what is held is gone with it.

use super::error::{Error, Result};
use super::run::{Open, Out, note};
use crate::conversion::Teller;
use crate::conversion::held::PATH;
use crate::conversion::mounts::Kernel;
use crate::conversion::runner::{self, Site, Top};
use crate::conversion::running::{self, Hands};
use crate::conversion::services::Systemctl;
use crate::record::layout::Part;
use crate::record::state::Prepared;
use crate::store::btrfs::Btrfs;
use crate::store::place::Place;
use crate::transaction::plan::{Conversion, Plan};
use crate::transaction::prepared;
use crate::transaction::records::Records;
use std::path::{Path, PathBuf};

/// Over what the version's root is mounted, for the converter alone.
const ROOM: &str = "/run/backstay/convert";

/// Where people and programs are told.
struct Terminal(Out);

impl Teller for Terminal {
    fn say(&mut self, line: &str) {
        self.0.say(line);
    }

    fn printed(&mut self, line: &str) {
        self.0.say(&format!("  {line}"));
    }
}

/// Converts what a plan converts of the live data, and holds it still until the reboot. Nothing where there is no such data,
/// and where the running system cannot be held still and the same can be done before boot, which is said.
pub fn prepare(open: &mut Open, plan: &Plan, out: Out) -> Result<Prepared> {
    let device = open.machine.device.as_deref();
    prepare_on(device, &mut open.store, &open.records, plan, out)
}

/// The same on this device; without one, of a system that does not run.
pub fn prepare_on(
    device: Option<&str>,
    store: &mut Btrfs,
    records: &Records,
    plan: &Plan,
    out: Out,
) -> Result<Prepared> {
    // With --root nothing of that system runs.
    let (Some(device), false) = (device, plan.convertible().is_empty()) else {
        return Ok(Prepared::NONE);
    };
    let config = plan.replaced().find(|(part, _)| *part == Part::Config);
    let site = Site {
        room: PathBuf::from(ROOM),
        top: Top::Device(device.to_owned()),
        config: config
            .and_then(|(_, from)| from)
            .unwrap_or(Place::Live(Part::Config)),
    };
    let teller = &mut Terminal(out);
    let mut convert = |store: &mut Btrfs, at, it: &Conversion| {
        runner::run(store, &site, at, it, &mut Terminal(out))
    };
    let (mut services, mut mounts) = (Systemctl::default(), Kernel::default());
    let mut hands = hands(&mut services, &mut mounts);
    match running::prepare(store, records, plan, &mut hands, &mut convert, teller) {
        Ok(prepared) => {
            note(store, "converted clones of the live data");
            Ok(prepared)
        }
        Err(why) if why.goes_before_boot() && plan.conversions.iter().all(|it| it.step.early) => {
            out.say(&format!("not converted now: {why}"));
            out.say("all of its converters can be run before boot, and the next boot does that");
            Ok(Prepared::NONE)
        }
        Err(why) => {
            note(store, &format!("not asked for: {why}"));
            Err(why.into())
        }
    }
}

/// The request could not be written: nothing needs what was converted, and nothing is held for it.
pub fn give_up(store: &mut Btrfs, records: &Records, out: Out) {
    prepared::tidied(store, records);
    if let Err(error) = let_go(out) {
        out.say(&error.to_string());
    }
}

/// Lets go what is held in this system. Says whether anything was.
pub fn let_go(out: Out) -> Result<bool> {
    let (mut services, mut mounts) = (Systemctl::default(), Kernel::default());
    let let_go = hands(&mut services, &mut mounts).let_go(&mut Terminal(out));
    let_go.map_err(Error::StillHeld)
}

fn hands<'a>(services: &'a mut Systemctl, mounts: &'a mut Kernel) -> Hands<'a> {
    Hands {
        services,
        mounts,
        record: Path::new(PATH),
    }
}
