//! Holds the running system still around the data that is converted, and lets it go again.
//!
//! ```text
//!  hold      services stopped, and not startable; every mount of the data read-only    both until the reboot
//!  convert   `transaction::prepared`
//!  let go    mounts writable, services startable, those that ran started: where any of it failed, and by `backstay cancel`
//! ```
//! What is held is written down first ([`super::held`]), in `/run`: a reboot ends it all by itself. One who is killed in the
//! middle leaves a system that is held for nothing, which `backstay status` says and `backstay cancel` ends.

use super::Teller;
use super::held::{Held, Unit};
use super::mounts::{Failed, Mounts};
use super::services::{Services, State};
use crate::record::state::Prepared;
use crate::store::Store;
use crate::transaction::execute::Convert;
use crate::transaction::plan::Plan;
use crate::transaction::records::Records;
use crate::transaction::{self, prepared};
use std::path::Path;
use thiserror::Error;

/// Why the data could not be held still. Nothing is held then, unless [`NotHeld::NotLetGo`] says so.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotHeld {
    /// There is no systemd.
    #[error(
        "systemd does not run here, so these cannot be stopped and kept so: {0}; boot with it, or use early converters, \
         which are run before boot"
    )]
    NoManager(String),
    /// One of the units.
    #[error(
        "{unit} could not be stopped: {why}; mend that, or take it out of 'services', and ask again"
    )]
    Service {
        /// Its name.
        unit: String,
        /// What was said.
        why: String,
    },
    /// Somebody writes.
    #[error(
        "{point} is written to by {who}: declare these as 'services' of the application, or use an early converter; for now \
         stop them, and ask again"
    )]
    Busy {
        /// Where it is mounted.
        point: String,
        /// Processes.
        who: String,
    },
    /// Anything else.
    #[error("the data cannot be held still: {0}; mend that, and ask again")]
    Other(String),
    /// And it was not let go.
    #[error("{0}; and not everything is as it was: {1}; 'backstay cancel' tries that again")]
    NotLetGo(Box<NotHeld>, String),
}

/// What is needed to hold a system, and where that is written down.
pub struct Hands<'a> {
    /// Units.
    pub services: &'a mut dyn Services,
    /// Mounts.
    pub mounts: &'a mut dyn Mounts,
    /// [`super::held::PATH`], but for tests.
    pub record: &'a Path,
}

impl Hands<'_> {
    /// Stops these units and makes these live datasets, by their names in the top level, read-only wherever they are
    /// mounted: all of it, or nothing.
    pub fn hold(
        &mut self,
        units: &[String],
        live: &[&str],
        teller: &mut dyn Teller,
    ) -> Result<(), NotHeld> {
        // What a command before this one left, which was killed.
        self.let_go(teller).map_err(NotHeld::Other)?;
        let held = self.hold_all(units, live, teller);
        let Err(why) = held else {
            return Ok(());
        };
        Err(match self.let_go(teller) {
            Ok(_) => why,
            Err(other) => NotHeld::NotLetGo(Box::new(why), other),
        })
    }

    fn hold_all(
        &mut self,
        units: &[String],
        live: &[&str],
        teller: &mut dyn Teller,
    ) -> Result<(), NotHeld> {
        let mut held = Held::default();
        self.stop(units, &mut held, teller)?;
        for name in live {
            for mount in self.mounts.of(name).map_err(NotHeld::Other)? {
                if mount.read_only {
                    continue;
                }
                held.mounts.push(mount.point.clone());
                self.write(&held)?;
                self.mounts
                    .make_read_only(&mount)
                    .map_err(|failed| match failed {
                        Failed::Busy(who) => NotHeld::Busy {
                            point: mount.point.clone(),
                            who: match who.is_empty() {
                                true => "a process that is not to be seen from here".to_owned(),
                                false => who.join(", "),
                            },
                        },
                        Failed::Other(why) => NotHeld::Other(why),
                    })?;
            }
        }
        Ok(())
    }

    fn stop(
        &mut self,
        units: &[String],
        held: &mut Held,
        teller: &mut dyn Teller,
    ) -> Result<(), NotHeld> {
        if !units.is_empty() && !self.services.there() {
            return Err(NotHeld::NoManager(units.join(", ")));
        }
        for unit in units {
            let failed = |why| NotHeld::Service {
                unit: unit.clone(),
                why,
            };
            let state = self.services.state(unit).map_err(failed)?;
            if state == State::NotThere {
                continue;
            }
            held.services.push(Unit {
                name: unit.clone(),
                ran: state == State::Runs,
            });
        }
        if held.services.is_empty() {
            return Ok(());
        }
        self.write(held)?;
        // All of them before any is kept so: one may start another one.
        for step in [Step::Stop, Step::Mask, Step::Stop] {
            for unit in &held.services {
                let done = match step {
                    Step::Stop => self.services.stop(&unit.name).map(|()| true),
                    Step::Mask => self.services.mask(&unit.name),
                };
                let kept = done.map_err(|why| NotHeld::Service {
                    unit: unit.name.clone(),
                    why,
                })?;
                if !kept {
                    teller.say(&format!(
                        "{} is stopped, but can be started again (its file is in /etc/systemd/system): leave it",
                        unit.name
                    ));
                }
            }
        }
        let names: Vec<&str> = held.services.iter().map(|it| it.name.as_str()).collect();
        teller.say(&format!("stopped until the reboot: {}", names.join(", ")));
        Ok(())
    }

    fn write(&self, held: &Held) -> Result<(), NotHeld> {
        let path = self.record;
        let written = held.write(path);
        written.map_err(|error| NotHeld::Other(format!("writing {path:?}: {error}")))
    }

    /// Ends what is held. Says whether anything was. Everything is tried; the error says what was not done, and that is
    /// still written down.
    pub fn let_go(&mut self, teller: &mut dyn Teller) -> Result<bool, String> {
        let path = self.record;
        let held = Held::read(path).map_err(|error| format!("reading {path:?}: {error}"))?;
        let Some(held) = held else {
            return Ok(false);
        };
        let mut left = Held::default();
        let mut errors = Vec::new();
        for point in held.mounts.iter().rev() {
            if let Err(why) = self.mounts.make_writable(point) {
                errors.push(why);
                left.mounts.push(point.clone());
            }
        }
        // A service that is started finds data that it can write to.
        for unit in held.services.iter().rev() {
            let unmasked = self.services.unmask(&unit.name);
            let started = unmasked.and_then(|()| match unit.ran {
                true => self.services.start(&unit.name),
                false => Ok(()),
            });
            if let Err(why) = started {
                errors.push(why);
                left.services.push(unit.clone());
            }
        }
        let ended = match left == Held::default() {
            true => Held::forget(path),
            false => left.write(path),
        };
        if let Err(error) = ended {
            errors.push(format!("writing {path:?}: {error}"));
        }
        match errors.is_empty() {
            true => {
                teller.say(&format!("no longer held: {}", held.told()));
                Ok(true)
            }
            false => Err(errors.join("; ")),
        }
    }
}

/// Why nothing was converted. Nothing is held then, or what is held is said.
#[derive(Debug, Error)]
pub enum NotConverted {
    /// Somebody may still write.
    #[error(transparent)]
    NotHeld(#[from] NotHeld),
    /// The clones could not be made, or a converter failed.
    #[error(transparent)]
    Transaction(#[from] transaction::Error),
}

impl NotConverted {
    /// Whether the same conversion might go well before boot, where nobody writes: if its converters can be run there.
    pub fn goes_before_boot(&self) -> bool {
        match self {
            NotConverted::NotHeld(NotHeld::NotLetGo(..)) => false,
            NotConverted::NotHeld(_) => true,
            NotConverted::Transaction(error) => matches!(
                error,
                transaction::Error::WrittenMeanwhile(_) | transaction::Error::NotCloned(_)
            ),
        }
    }
}

/// Holds the system still around the live data that a plan converts, and converts clones of it. On disk on return, and held
/// until the reboot or [`Hands::let_go`].
pub fn prepare<S: Store>(
    store: &mut S,
    records: &Records,
    plan: &Plan,
    hands: &mut Hands<'_>,
    convert: Convert<'_, S>,
    teller: &mut dyn Teller,
) -> Result<Prepared, NotConverted> {
    let layout = store.layout().clone();
    let live = plan.convertible().into_iter();
    let live: Vec<&str> = live
        .filter_map(|part| Some(layout.dataset(part)?.live.as_str()))
        .collect();
    let services = plan
        .fence
        .as_ref()
        .map(|verdict| verdict.services.as_slice());
    hands.hold(services.unwrap_or_default(), &live, teller)?;
    let made = prepared::make(store, records, plan, convert);
    if made.is_err()
        && let Err(why) = hands.let_go(teller)
    {
        teller.say(&format!(
            "not everything is as it was: {why}; 'backstay cancel' tries that again"
        ));
    }
    Ok(made?)
}

#[derive(Clone, Copy)]
enum Step {
    Stop,
    Mask,
}
