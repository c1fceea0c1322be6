//! What is live, how it came about, and what waits for the next boot.

use super::block::Record;
use super::request::stored;
use super::{Uuid, manifest::Release};
use heapless::Vec;
use serde::{Deserialize, Serialize};

pub use super::request::{Consent, Prepared, Request, Ticket};

/// Entries of the history on each side of the live set; older ones drop out, their snapshots stay.
pub const MAX_HISTORY: usize = 120;

/// Ids of snapshots in an order that says what going back and forward mean.
pub type Ids = Vec<u32, MAX_HISTORY>;

/// A change of the live set that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    /// To the snapshot before the present one, or to this one.
    Rollback(Option<u32>),
    /// Undo the last rollback.
    Forward,
    /// Boot a clone of this snapshot once.
    Select(u32),
    /// Fresh configuration from the live version's own defaults; with `data`, fresh data too.
    ResetConfig {
        /// Whether each data dataset is exchanged with a fresh one.
        data: bool,
    },
    /// Promote the factory snapshot; customer data stays.
    ResetSystem {
        /// Whether the present configuration stays.
        keep_config: bool,
    },
    /// Factory system and configuration, fresh data; the rest is destroyed once it was marked good.
    ResetEverything,
    /// The version stays, and the data that it does not read is converted for it.
    Convert,
}

impl Verb {
    /// Whether it exchanges customer data with fresh one.
    pub fn resets_data(self) -> bool {
        matches!(
            self,
            Verb::ResetConfig { data: true } | Verb::ResetEverything
        )
    }
}

impl core::fmt::Display for Verb {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Verb::Rollback(None) => f.write_str("roll back to the version before"),
            Verb::Rollback(Some(id)) => write!(f, "roll back to snapshot {id}"),
            Verb::Forward => f.write_str("roll forward"),
            Verb::Select(id) => write!(f, "boot snapshot {id} once"),
            Verb::ResetConfig { data: false } => f.write_str("reset the configuration"),
            Verb::ResetConfig { data: true } => f.write_str("reset configuration and data"),
            Verb::ResetSystem { keep_config: false } => f.write_str("reset the system, keep data"),
            Verb::ResetSystem { keep_config: true } => f.write_str("reset only the system"),
            Verb::ResetEverything => f.write_str("reset everything"),
            Verb::Convert => f.write_str("convert the data for the present version"),
        }
    }
}

/// The datasets that boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// UUID of the system dataset.
    pub system: Uuid,
    /// The snapshot it was cloned from; 0 is the factory, `None` when it was installed in place.
    pub clone_of: Option<u32>,
}

/// `reset everything` has exchanged the sets; what it replaced waits to be destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destroy {
    /// Only while this system dataset is live: going back withdraws the destruction.
    pub live: Uuid,
    /// Every snapshot and every kept data dataset up to this id goes.
    pub up_to: u32,
    /// How far it has come.
    pub phase: Phase,
}

/// How far a destruction has come. On disk the first two are the false and true of a flag that was
/// here before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It begins when the live set is marked good.
    Waits,
    /// The live set was marked good and it has begun: it is finished, never undone.
    Begun,
    /// Somebody tried to go back, and that did not come to pass: a person decides.
    Suspended,
}

/// The live system has to be marked good within some starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Only while this system dataset is live: a trial that names another one is inert.
    pub system: Uuid,
    /// Starts that it gets.
    pub tries: u8,
    /// Starts that were begun: each is counted durably before it.
    pub begun: u8,
    /// No start is left to it, however many were begun: it was marked bad, or it cannot be started at all.
    pub condemned: bool,
    /// The machine fell back to it by itself, and does not fall back a second time.
    pub fallback: bool,
    /// The snapshot with the same system: it is a clone of that, or was sealed there before its data was converted. A clone of it
    /// would fail, too. `None` after an upgrade in place.
    pub clone_of: Option<u32>,
    /// The snapshot with the data that a reset, or the fence's answer, exchanged, if it was not marked good since: falling
    /// back to that one brings the data back.
    pub data_of: Option<u32>,
    /// GRUB starts the recovery kernel first, which counts. Not where that would keep the system from its
    /// own kernel.
    pub guarded: bool,
}

impl Trial {
    /// No start is left to it.
    pub fn is_spent(&self) -> bool {
        self.condemned || self.begun >= self.tries
    }
}

/// Whether a kernel can start another one by kexec on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kexec {
    /// Not tried yet.
    #[default]
    Unknown,
    /// The recovery kernel started itself so many times, and has not come up yet.
    Tried(u8),
    /// It came up.
    Works,
    /// It never came up, or could not be loaded.
    Fails,
}

/// The machine fell back by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FellBack {
    /// The number under which the system that failed lies.
    pub from: u32,
    /// The snapshot that it fell back to.
    pub to: u32,
    /// Starts of what failed.
    pub begun: u8,
    /// Seconds since 1970; shown only.
    pub at: u64,
}

/// Snapshots whose clones failed.
pub type Failed = Vec<u32, 16>;

/// What the last transaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// The verb that was carried out; `None` for a first boot, a return or a snapshot.
    pub verb: Option<Verb>,
    /// The id under which the former live set lies.
    pub id: u32,
    /// Seconds since 1970; shown only.
    pub at: u64,
}

/// The state of the machine's versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The next id to give; ids grow and are never used again.
    pub next_id: u32,
    /// What boots.
    pub live: Live,
    /// Snapshots before the live set, oldest first: the last one is where a rollback goes.
    pub older: Ids,
    /// Snapshots after the live set, nearest first: the first one is where forward goes.
    pub newer: Ids,
    /// Waits for the next boot.
    #[serde(with = "stored")]
    pub request: Option<Request>,
    /// A snapshot is booted once; what was live lies parked under this id and returns.
    pub parked: Option<u32>,
    /// The second phase of `reset everything`.
    pub destroy: Option<Destroy>,
    /// A reboot through GRUB was tried for this live system because its kernel did not match.
    pub rebooted_for: Option<Uuid>,
    /// This live system dataset was marked good.
    pub good: Option<Uuid>,
    /// The kernel of the recovery image, as recorded when it was installed.
    pub recovery_kernel: Option<Release>,
    /// What the last transaction did.
    pub last: Option<Last>,
    /// The live system is on trial.
    pub trial: Option<Trial>,
    /// Snapshots that the machine does not fall back to by itself: their clones failed. The oldest drops
    /// out.
    pub failed: Failed,
    /// The last time that the machine fell back, until a person changes what is live.
    pub fell_back: Option<FellBack>,
    /// Whether kexec is to be relied on.
    pub kexec: Kexec,
}

impl Record for State {
    const MAGIC: [u8; 8] = *b"BKSTstat";
}

impl State {
    /// The state of a machine on which nothing happened yet.
    pub fn new(live: Live) -> State {
        State {
            next_id: 1,
            live,
            older: Ids::new(),
            newer: Ids::new(),
            request: None,
            parked: None,
            destroy: None,
            rebooted_for: None,
            good: None,
            recovery_kernel: None,
            last: None,
            trial: None,
            failed: Failed::new(),
            fell_back: None,
            kexec: Kexec::Unknown,
        }
    }

    /// Takes the request out, because it is carried out or refused.
    pub fn use_up_request(&mut self) {
        if let Some(request) = self.request.take() {
            self.attempted(request.verb);
        }
    }

    /// Whether something waits for the agent, for which GRUB starts the recovery kernel: a request, the
    /// return from a boot once, a trial.
    pub fn waits(&self) -> bool {
        self.request.is_some() || self.parked.is_some() || self.guarded()
    }

    /// Whether a trial waits for the agent: to be counted, or to be left for another system.
    pub fn guarded(&self) -> bool {
        self.live_trial()
            .is_some_and(|trial| trial.guarded || trial.is_spent())
    }

    /// Whether the agent starts the own kernel of a system on trial by kexec, so that a kernel that panics is counted.
    pub fn counts_panics(&self) -> bool {
        self.live_trial().is_some_and(|trial| trial.guarded) && self.kexec != Kexec::Fails
    }

    /// The trial of what is live, if it is on trial.
    pub fn live_trial(&self) -> Option<Trial> {
        // What is booted once is another system, which returns by itself.
        self.trial
            .filter(|trial| trial.system == self.live.system && self.parked.is_none())
    }

    /// A clone of this snapshot failed: it is no automatic target any more.
    pub fn remember_failed(&mut self, id: u32) {
        if self.failed.contains(&id) {
            return;
        }
        if self.failed.is_full() {
            self.failed.remove(0);
        }
        self.failed.push(id).ok();
    }

    /// This verb is tried. If it would withdraw the destruction when it succeeds, a person wants what
    /// would be destroyed: should it fail, the destruction does not go on by itself.
    pub fn attempted(&mut self, verb: Verb) {
        let withdraws = match verb {
            Verb::Rollback(_) | Verb::Forward | Verb::ResetSystem { .. } => true,
            Verb::Select(_) | Verb::ResetConfig { .. } | Verb::ResetEverything | Verb::Convert => {
                false
            }
        };
        if let Some(destroy) = &mut self.destroy
            && destroy.phase == Phase::Waits
            && withdraws
        {
            destroy.phase = Phase::Suspended;
        }
    }
}

/// Puts an id at the end; when the list is full its first entry drops out.
pub fn append(ids: &mut Ids, id: u32) {
    if ids.is_full() {
        ids.remove(0);
    }
    ids.push(id).ok();
}

/// Puts an id at the front; when the list is full its last entry drops out.
pub fn prepend(ids: &mut Ids, id: u32) {
    if ids.is_full() {
        ids.pop();
    }
    ids.insert(0, id).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;

    #[test]
    fn a_destruction_that_was_recorded_with_a_flag_is_read() {
        #[derive(Serialize)]
        struct Flagged {
            live: Uuid,
            up_to: u32,
            begun: bool,
        }
        for (begun, phase) in [(false, Phase::Waits), (true, Phase::Begun)] {
            let (live, up_to) = (Uuid([5; 16]), 300);
            let bytes = postcard::to_allocvec(&Flagged { live, up_to, begun }).unwrap();
            let read: Destroy = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(read, Destroy { live, up_to, phase });
            assert_eq!(postcard::to_allocvec(&read).unwrap(), bytes);
        }
    }
}
