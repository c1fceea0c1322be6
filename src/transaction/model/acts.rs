//! Everything that changes a store, as somebody asks for it.

use super::super::prepared;
use super::super::records::Records;
use super::boot::{Booted, boot, convert};
use crate::admin::error::Error;
use crate::admin::factory;
use crate::admin::good::mark_good;
use crate::admin::prune::{Asked, prune};
use crate::admin::request::{cancel, no_spare, planned, shown, submit, submit_request};
use crate::admin::snapshot::{snapshot, snapshot_with_data};
use crate::policy::Wish;
use crate::policy::retention::Retention;
use crate::policy::terms::{Conversions, Terms};
use crate::record::state::{Consent, Prepared, Verb};
use crate::store::memory::Memory;

/// One thing that is asked of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A start without a wish: a first boot, a return, a request that waits.
    Start,
    /// A start at which a person confirms this verb.
    Present(Verb),
    /// The same, and agrees to something about the data.
    Agreed(Verb, Consent),
    /// A start at which nobody confirms this verb.
    Unconfirmed(Verb),
    /// The running system asks for this verb.
    Request(Verb),
    /// The same, and agrees to something about the data.
    RequestAgreed(Verb, Consent),
    /// The same, and the running system converts what it can.
    Prepare(Verb, Consent),
    /// The running system withdraws what it asked for.
    Cancel,
    /// The running system takes a snapshot.
    Snapshot,
    /// The same, with the data.
    SnapshotWithData,
    /// The running system deletes all data that snapshots keep.
    PruneData,
    /// The running system is marked good.
    MarkGood,
    /// An image builder seals the factory.
    Seal {
        /// And prepares the first boot.
        first_boot: bool,
    },
}

/// How an act ended.
#[derive(Debug)]
pub enum Ended {
    /// A start of the agent.
    Booted(Booted),
    /// A command of the running system.
    Command(Result<(), Error>),
}

impl Ended {
    /// Whether it did what was asked.
    pub fn is_ok(&self) -> bool {
        match self {
            Ended::Booted(booted) => booted.is_quiet(),
            Ended::Command(result) => result.is_ok(),
        }
    }
}

impl Act {
    /// Does it. `after` sees the store after each transaction.
    pub fn run(self, store: &mut Memory, after: &mut dyn FnMut(&Memory)) -> Ended {
        let wish = match self {
            Act::Start => Wish::Boot,
            Act::Present(verb) => Wish::Change {
                verb,
                consent: Consent::Refuse,
                loss: true,
                present: true,
            },
            Act::Agreed(verb, consent) => Wish::Change {
                verb,
                consent,
                loss: true,
                present: true,
            },
            Act::Unconfirmed(verb) => Wish::Change {
                verb,
                consent: Consent::Refuse,
                loss: true,
                present: false,
            },
            _ => return Ended::Command(self.command(store)),
        };
        Ended::Booted(boot(store, wish, after))
    }

    /// It is not one transaction: what a cut leaves is made up for by the same command.
    pub fn is_repeated(self) -> bool {
        matches!(self, Act::MarkGood | Act::PruneData | Act::Seal { .. })
    }

    fn command(self, store: &mut Memory) -> Result<(), Error> {
        if let Act::Seal { first_boot } = self {
            return factory::seal(store, first_boot, 9, &mut |_| {}).map(|_| ());
        }
        let mut records = Records::open(store)?;
        let records = &mut records;
        match self {
            Act::Request(verb) => ask(store, records, verb, Consent::Refuse),
            Act::RequestAgreed(verb, consent) => ask(store, records, verb, consent),
            Act::Prepare(verb, consent) => prepare(store, records, verb, consent),
            Act::Cancel => cancel(store, records).map(|_| ()),
            Act::Snapshot => snapshot(store, records, "by hand", 1000, &mut |_| {}).map(|_| ()),
            Act::SnapshotWithData => {
                snapshot_with_data(store, records, "by hand", 1000, &mut |_| {}).map(|_| ())
            }
            Act::PruneData => {
                let retention = Retention {
                    keep: 0,
                    keep_days: None,
                };
                let asked = Asked {
                    retention,
                    ..Asked::default()
                };
                let pruned = prune(store, records, asked, 1000)?;
                match pruned.failed().first() {
                    Some(why) => Err(Error::Destroy(why.clone())),
                    None => Ok(()),
                }
            }
            _ => mark_good(store, records, None, false, &mut |_| {}).map(|_| ()),
        }
    }
}

/// As `backstay rollback` writes it down, be it refused or not.
fn ask(
    store: &mut Memory,
    records: &mut Records,
    verb: Verb,
    consent: Consent,
) -> Result<(), Error> {
    let (ticket, none) = ([7; 16], Prepared::NONE);
    let Ok((plan, _)) = planned(store, records, verb, consent, 1) else {
        return submit(store, records, verb, consent, ticket, 1, &no_spare);
    };
    let request = shown(&plan, verb, consent, none, ticket, 1);
    submit_request(store, records, request, &no_spare)
}

/// As `backstay rollback --fence convert` does it.
fn prepare(
    store: &mut Memory,
    records: &mut Records,
    verb: Verb,
    consent: Consent,
) -> Result<(), Error> {
    let terms = Terms {
        conversions: Conversions::Running,
        ..Terms::from(consent)
    };
    let (plan, _) = planned(store, records, verb, terms, 1)?;
    let prepared = prepared::make(store, records, &plan, &mut convert)?;
    let request = shown(&plan, verb, consent, prepared, [7; 16], 1);
    submit_request(store, records, request, &no_spare)
}

/// Every verb in both forms, as a person confirms it; snapshots 1 and 2 exist.
pub fn verbs() -> Vec<Verb> {
    let mut verbs = vec![
        Verb::Rollback(None),
        Verb::Rollback(Some(1)),
        Verb::Rollback(Some(2)),
        Verb::Forward,
        Verb::Select(1),
    ];
    for both in [false, true] {
        verbs.push(Verb::ResetConfig { data: both });
        verbs.push(Verb::ResetSystem { keep_config: both });
    }
    verbs.push(Verb::ResetEverything);
    verbs
}

/// Every act that a machine in use can see.
pub fn acts() -> Vec<Act> {
    let mut acts: Vec<Act> = verbs().into_iter().map(Act::Present).collect();
    acts.extend([
        Act::Start,
        Act::Unconfirmed(Verb::Rollback(None)),
        Act::Request(Verb::Rollback(None)),
        Act::Request(Verb::ResetEverything),
        Act::Cancel,
        Act::Snapshot,
        Act::MarkGood,
    ]);
    acts
}
