//! `backstay status`: one screen about this machine.

use super::error::Result;
use super::list::{Live, clone_of, health, live};
use super::output::{size, utc};
use super::tarball::Tarball;
use super::upgrade;
use crate::conversion::held::Held;
use crate::policy;
use crate::policy::refusal::Refusal;
use crate::record::journal::Journal;
use crate::record::layout::Part;
use crate::record::slots::Slots;
use crate::record::state::{Consent, Phase, Prepared, State};
use crate::store::place::{File, Place, STORE, Set};
use crate::store::{Store, StoreError};
use crate::transaction::catalogue;
use crate::transaction::records::{read_journal, read_state};
use serde::Serialize;

/// The newest state was lost, and the older one does not know what came since.
const BEHIND: &str = "older than the store";

/// What is known outside the store's records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Around {
    /// In the running system, the dataset that it was booted from.
    pub booted: Option<String>,
    /// Bytes that new data can take.
    pub free: u64,
    /// Bytes of the whole file system.
    pub size: u64,
    /// Whether the space that is kept for a full disk is there.
    pub ballast: bool,
    /// Whether a second disk carries the same file system; nothing is changed while it is there.
    pub copied_disk: bool,
    /// Whether 'backstay upgrade' is at work.
    pub upgrading: bool,
    /// The default tarball of the store.
    pub tarball: Option<Tarball>,
    /// What is wrong with GRUB's files, with the remedies.
    pub grub: Vec<String>,
    /// What is missing of the recovery kernel.
    pub recovery_missing: Option<String>,
    /// Whether its initramfs is the distribution's; then no kernel counts a start before it asks for a passphrase.
    pub recovery_is_hosts: bool,
    /// What is stopped and read-only in the running system for data that was converted.
    pub held: Option<Held>,
    /// The last lines that the agent said at this boot.
    pub boot_log: Vec<String>,
}

/// A change that was asked for or done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What, in words.
    pub what: String,
    /// When, by a clock that may have been wrong.
    pub at: String,
    /// The id under which the former live set lies; absent for a request.
    pub id: Option<u32>,
    /// Of a request: what is agreed to about the data, as `backstay.fence=` has it.
    pub consent: Option<&'static str>,
}

/// A trial of the live system. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OnTrial {
    /// Starts that were begun.
    pub begun: u8,
    /// Starts that it gets.
    pub tries: u8,
    /// Whether a kernel that panics before the agent starts is counted.
    pub guarded: bool,
    /// Whether the machine fell back to it by itself, which it does once.
    pub fallback: bool,
    /// No start is left to it, however many were begun: it was marked bad, or its upgrade has not ended.
    pub condemned: bool,
    /// It was upgraded in place, and gets its starts when the next boot has converted its data.
    pub awaits_conversion: bool,
    /// The snapshot that the machine falls back to if it is not marked good.
    pub fall_back_to: Option<u32>,
}

/// The machine fell back by itself. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FellBack {
    /// The number under which what failed lies.
    pub from: u32,
    /// The snapshot that it fell back to.
    pub to: u32,
    /// Starts of what failed.
    pub begun: u8,
    /// When, by a clock that may have been wrong.
    pub at: String,
}

/// Everything that `status` shows. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// `ok`, `empty`, `damaged`, `older than the store`, or `newer format N`.
    pub state: String,
    /// What boots.
    pub live: Option<Live>,
    /// Live datasets of the layout that are missing, but for the system, with the remedies.
    pub missing: Vec<String>,
    /// Whether the next start is the first one of an image.
    pub first_boot: bool,
    /// The snapshots that `rollback` and `forward` would go to.
    pub older: Option<u32>,
    /// See `older`.
    pub newer: Option<u32>,
    /// The health of the snapshot in `older`, as in `list`.
    pub older_health: Option<String>,
    /// The health of the snapshot in `newer`.
    pub newer_health: Option<String>,
    /// The factory snapshot's health.
    pub factory: String,
    /// What the last transaction did.
    pub last: Option<Change>,
    /// What waits for the next boot.
    pub request: Option<Change>,
    /// The datasets of which clones were converted for it already.
    pub converted: Vec<String>,
    /// Whether one of them was written to since, so that the next boot will do nothing.
    pub outdated: bool,
    /// The snapshot to which the next boot goes back, because an upgrade in place has not ended, or has failed.
    pub upgrade_undone_by: Option<u32>,
    /// A snapshot is booted once; the next boot returns to what is parked under this id.
    pub parked: Option<u32>,
    /// The live system's trial.
    pub trial: Option<OnTrial>,
    /// The last time that the machine fell back by itself, until somebody changes what is live.
    pub fell_back: Option<FellBack>,
    /// After `reset everything`: snapshots up to this id are deleted by `mark-good`.
    pub destroys_up_to: Option<u32>,
    /// Whether that deletion is suspended, because somebody tried to go back.
    pub destruction_suspended: bool,
    /// The snapshots that keep data, oldest first.
    pub kept_data: Vec<u32>,
    /// Numbers that were never given out and under which something lies.
    pub strays: Vec<u32>,
    /// Whether a transaction is open, which the next boot finishes or undoes.
    pub open: bool,
    /// Whether GRUB boots the recovery kernel next.
    pub armed: bool,
    /// The recovery kernel's release.
    pub recovery_kernel: Option<String>,
    /// What is known outside the records.
    #[serde(flatten)]
    pub around: Around,
}

/// Gathers it. Writes nothing.
pub fn status<S: Store>(store: &S, around: Around) -> Result<Status> {
    let (state, word_of_state) = match read_state(store)? {
        Slots::Valid { value, torn, .. } => (
            Some(value),
            match torn {
                true => "ok, one slot was torn".to_owned(),
                false => "ok".to_owned(),
            },
        ),
        Slots::Empty => (None, "empty".to_owned()),
        Slots::Damaged => (None, "damaged".to_owned()),
        Slots::Newer(version) => (None, format!("newer format {version}")),
    };
    let open = match read_journal(store)? {
        Slots::Valid { value, .. } => value != Journal::Closed,
        _ => false,
    };
    let of = state.as_ref();
    let word_of_state = match of {
        Some(state)
            if !open
                && catalogue::facts(store, None, false)
                    .is_ok_and(|facts| policy::is_behind(state, &facts)) =>
        {
            BEHIND.to_owned()
        }
        _ => word_of_state,
    };
    let live = live(store, of)?;
    let marker = store.read(File::FirstBoot)?.is_some();
    let first_boot = marker && live.is_none() && word_of_state == "empty";
    Ok(Status {
        missing: match first_boot {
            true => Vec::new(),
            false => missing(store)?,
        },
        first_boot,
        live,
        older: of.and_then(|state| state.older.last().copied()),
        newer: of.and_then(|state| state.newer.first().copied()),
        older_health: of.and_then(|state| health_of(store, state.older.last())),
        newer_health: of.and_then(|state| health_of(store, state.newer.first())),
        factory: health(store, Set::Factory)?,
        last: of.and_then(last),
        request: of.and_then(|state| state.request).map(|request| Change {
            what: request.verb.to_string(),
            at: utc(request.created),
            id: None,
            consent: Some(request.consent.word()),
        }),
        converted: of.map_or_else(Vec::new, |state| converted(store, state)),
        outdated: of.is_some_and(|state| outdated(store, state)),
        upgrade_undone_by: of
            .and_then(|state| state.request)
            .and_then(|request| upgrade::undoes(&request)),
        parked: of.and_then(|state| state.parked),
        trial: match of {
            Some(state) => on_trial(store, state, &around)?,
            None => None,
        },
        fell_back: of.and_then(|state| state.fell_back).map(|it| FellBack {
            from: it.from,
            to: it.to,
            begun: it.begun,
            at: utc(it.at),
        }),
        destroys_up_to: of
            .and_then(|state| state.destroy)
            .map(|destroy| destroy.up_to),
        destruction_suspended: of
            .and_then(|state| state.destroy)
            .is_some_and(|destroy| destroy.phase == Phase::Suspended),
        kept_data: kept_data(store)?,
        strays: match of {
            Some(state) if !open && word_of_state != BEHIND => strays(store, state)?,
            _ => Vec::new(),
        },
        state: word_of_state,
        open,
        armed: store.read(File::Armed)?.is_some(),
        recovery_kernel: of.and_then(|state| Some(state.recovery_kernel.as_ref()?.to_string())),
        around,
    })
}

/// What the layout declares and is not there: one line each.
fn missing<S: Store>(store: &S) -> Result<Vec<String>> {
    let layout = store.layout();
    let mut missing = Vec::new();
    for part in layout.all().filter(|part| *part != Part::System) {
        let place = Place::Live(part);
        let what = match store.dataset(place) {
            Ok(Some(_)) => continue,
            Ok(None) => "is missing",
            Err(StoreError::Place(_)) => "is no subvolume: move what lies there away",
            Err(error) => return Err(error.into()),
        };
        let path = place.path(layout).unwrap_or_default();
        let remedy = match part {
            // As `init` makes them: from the configuration, which must not be the broken one.
            Part::Defaults => "'backstay init' takes the present configuration for it",
            Part::Config => "'backstay rollback', or 'backstay reset config', brings one back",
            _ if layout.config.is_some() => "'backstay reset config,data' brings an empty one back",
            _ => "clone one from its template (docs/recovery.md, section 10)",
        };
        missing.push(format!("{} ({path}) {what}; {remedy}", layout.title(part)));
    }
    Ok(missing)
}

fn kept_data<S: Store>(store: &S) -> Result<Vec<u32>> {
    let mut ids = catalogue::ids(store)?;
    ids.retain(|id| {
        let manifest = catalogue::manifest(store, Set::Snapshot(*id))
            .ok()
            .flatten();
        manifest.is_some_and(|it| it.data().next().is_some())
    });
    Ok(ids)
}

/// One that cannot be looked at hides nothing else.
fn health_of<S: Store>(store: &S, id: Option<&u32>) -> Option<String> {
    let set = Set::Snapshot(*id?);
    Some(health(store, set).unwrap_or_else(|_| "unknown".to_owned()))
}

/// Where a change goes; one that nothing can go to is said with what to do.
fn to(id: Option<u32>, health: Option<&str>) -> String {
    match (id, health) {
        (None, _) => "nothing".to_owned(),
        (Some(id), None | Some("sound" | "sound, no config")) => format!("snapshot {id}"),
        (Some(id), Some(health)) => {
            format!("snapshot {id} ({health}): name another one of 'backstay list'")
        }
    }
}

fn strays<S: Store>(store: &S, state: &State) -> Result<Vec<u32>> {
    let mut ids = catalogue::ids(store)?;
    ids.retain(|id| *id >= state.next_id);
    Ok(ids)
}

fn prepared(state: &State) -> Prepared {
    let request = state.request;
    request.map_or(Prepared::NONE, |request| request.prepared)
}

fn converted<S: Store>(store: &S, state: &State) -> Vec<String> {
    let prepared = prepared(state);
    let name = |part| store.layout().title(part).to_owned();
    prepared.parts().map(name).collect()
}

/// Of what cannot be looked at, too.
fn outdated<S: Store>(store: &S, state: &State) -> bool {
    let prepared = prepared(state);
    let written = |part| store.written_since(Place::Live(part), Place::Prepared(part));
    prepared.parts().any(|part| written(part).unwrap_or(true))
}

fn on_trial<S: Store>(store: &S, state: &State, around: &Around) -> Result<Option<OnTrial>> {
    let Some(trial) = state.live_trial() else {
        return Ok(None);
    };
    Ok(Some(OnTrial {
        begun: trial.begun,
        tries: trial.tries,
        guarded: state.counts_panics() && !around.recovery_is_hosts,
        fallback: trial.fallback,
        condemned: trial.condemned,
        awaits_conversion: state.request.is_some_and(|it| it.ends_upgrade()),
        fall_back_to: super::trial::fall_back_to(store, state)?,
    }))
}

fn last(state: &State) -> Option<Change> {
    let last = state.last?;
    let what = match last.verb {
        Some(verb) => verb.to_string(),
        None if state.fell_back.is_some_and(|it| it.from == last.id) => {
            "fell back by itself".to_owned()
        }
        None if state.older.last() == Some(&last.id) => "snapshot".to_owned(),
        None if state.newer.first() == Some(&last.id) => "upgrade of a clone".to_owned(),
        None => "return from a snapshot that was booted once".to_owned(),
    };
    Some(Change {
        what,
        at: utc(last.at),
        id: Some(last.id),
        consent: None,
    })
}

impl core::fmt::Display for Status {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut line = |name: &str, text: &str| writeln!(f, "{name:<16} {text}");
        match &self.live {
            Some(live) => {
                let title = live
                    .title
                    .as_deref()
                    .unwrap_or("a system without os-release");
                let kernel = live.kernel.as_deref().unwrap_or("none found");
                line("live", title)?;
                line("kernel", kernel)?;
                line("clone of", &clone_of(live.clone_of))?;
                line("marked good", if live.good { "yes" } else { "not yet" })?;
                if let Some(trial) = &self.trial {
                    let OnTrial { begun, tries, .. } = trial;
                    let then = match trial.fall_back_to {
                        Some(id) => format!("the machine falls back to snapshot {id}"),
                        None if trial.fallback => {
                            "the menu opens: the machine fell back once already".to_owned()
                        }
                        None => "the menu opens: nothing good is there to fall back to".to_owned(),
                    };
                    let left = match (trial.awaits_conversion, trial.condemned) {
                        (true, _) => "once the next boot has its data converted; else".to_owned(),
                        (false, true) => {
                            "marked bad; unless 'backstay mark-good' keeps it,".to_owned()
                        }
                        (false, false) => format!("start {begun} of {tries}; else"),
                    };
                    line("on trial", &format!("{left} {then}"))?;
                }
            }
            None if self.first_boot => {
                line(
                    "live",
                    "none yet: the first start makes it from the factory snapshot",
                )?;
            }
            None if self.request.is_some() => {
                line(
                    "live",
                    "missing: the next boot does what was asked for, if that brings one back",
                )?;
            }
            None => line("live", "missing: the next boot opens the recovery menu")?,
        }
        for text in &self.missing {
            line("MISSING", text)?;
        }
        if self.state != "ok" && !self.first_boot {
            let remedy = match self.state.as_str() {
                "damaged" | BEHIND => "; run 'backstay init --repair'",
                "empty" => "; run 'backstay init'",
                _ => "",
            };
            line("state", &format!("{}{remedy}", self.state))?;
        }
        line(
            "roll back to",
            &to(self.older, self.older_health.as_deref()),
        )?;
        line("forward to", &to(self.newer, self.newer_health.as_deref()))?;
        line("factory", &self.factory)?;
        if let Some(tarball) = &self.around.tarball {
            line("default tarball", &tarball.to_string())?;
        }
        if let Some(FellBack {
            from,
            to,
            begun,
            at,
        }) = &self.fell_back
        {
            line(
                "FELL BACK",
                &format!(
                    "to snapshot {to} at {at}: what is kept as {from} was not marked good, after {begun} starts; \
                     'backstay rollback {from}' tries it again"
                ),
            )?;
        }
        if let Some(last) = &self.last {
            let id = last.id.unwrap_or_default();
            line(
                "last change",
                &format!("{} at {}, number {id}", last.what, last.at),
            )?;
        }
        let upgrade = match (self.around.upgrading, self.upgrade_undone_by) {
            (true, Some(id)) => Some(format!(
                "in place, goes on; were it to fail or to be interrupted, the next boot goes back to snapshot {id}"
            )),
            (true, None) => Some("goes on".to_owned()),
            (false, Some(id)) => Some(format!(
                "FAILED, or was interrupted: the next boot goes back to snapshot {id}"
            )),
            (false, None) => None,
        };
        if let Some(text) = upgrade {
            line("upgrade", &text)?;
        }
        match &self.request {
            Some(_) if self.around.upgrading && self.upgrade_undone_by.is_some() => {}
            Some(request) => line(
                "next boot",
                &format!(
                    "{}{}, asked for at {}; 'backstay cancel' withdraws it",
                    request.what,
                    match request.consent {
                        Some(word) if word != Consent::Refuse.word() => {
                            format!(" with fence={word}")
                        }
                        _ => String::new(),
                    },
                    request.at
                ),
            )?,
            None if self.open => line("next boot", "finishes or undoes an open transaction")?,
            None => {}
        }
        if !self.converted.is_empty() {
            let remedy = match self.outdated {
                true => "; WRITTEN TO SINCE: the next boot does nothing; cancel and ask again",
                false => "",
            };
            let converted = self.converted.join(", ");
            line("converted", &format!("a clone of {converted}{remedy}"))?;
        }
        if let Some(held) = &self.around.held {
            let then = match self.request {
                Some(_) => "until the reboot, or 'backstay cancel'",
                None => "for nothing, a command was interrupted: 'backstay cancel' lets go",
            };
            line("held", &format!("{}; {then}", held.told()))?;
        }
        if let Some(parked) = self.parked {
            line(
                "booted once",
                &format!("the next boot returns to what is parked as {parked}"),
            )?;
        }
        match self.destroys_up_to {
            Some(id) if self.destruction_suspended => line(
                "suspended",
                &format!(
                    "going back was tried: 'rollback' again, or 'mark-good --delete' deletes up to {id}"
                ),
            )?,
            Some(id) => line(
                "waits for good",
                &format!("'mark-good' deletes every snapshot up to {id} for good"),
            )?,
            None => {}
        }
        if !self.kept_data.is_empty() {
            let ids: Vec<String> = self.kept_data.iter().map(ToString::to_string).collect();
            line(
                "kept data",
                &format!(
                    "with snapshots {}; 'backstay prune --data' deletes what is old",
                    ids.join(", ")
                ),
            )?;
        }
        for id in &self.strays {
            line(
                "STRAY",
                &format!(
                    "{STORE}/snapshots/{id} or a data dataset of that number is no snapshot: if it is \
                     a stranger's, move it out of {STORE}"
                ),
            )?;
        }
        let idle = self.request.is_none() && self.parked.is_none() && !self.open;
        if self.armed && idle && self.trial.is_none() {
            line("armed", "left over; 'backstay cancel' removes it")?;
        }
        if !self.armed && !idle {
            line(
                "armed",
                "NO: GRUB does not start the agent; cancel and ask again",
            )?;
        }
        if self.around.copied_disk {
            line("copied disk", &Refusal::CopiedDisk.to_string())?;
        }
        let kernel = self.recovery_kernel.as_deref().unwrap_or("there");
        match &self.around.recovery_missing {
            None => line("recovery kernel", kernel)?,
            Some(what) => line(
                "recovery kernel",
                &format!("{what} is missing: run 'backstay recovery install'"),
            )?,
        }
        for text in &self.around.grub {
            line("GRUB", text)?;
        }
        let around = &self.around;
        let ballast = match around.ballast {
            true => "kept in reserve for a full disk",
            false => "GIVEN UP: 'mark-good' makes it again once there is room",
        };
        line(
            "free space",
            &format!(
                "{} of {}; ballast {ballast}",
                size(around.free),
                size(around.size)
            ),
        )?;
        for (i, text) in around.boot_log.iter().enumerate() {
            line(if i == 0 { "at this boot" } else { "" }, text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
