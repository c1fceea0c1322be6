//! Why something is not done, and what to do instead: one line each.

use super::Health;
use crate::fence::names::Version;
use crate::record::layout::Part;
use crate::record::state::Verb;
use crate::store::place::Set;
use thiserror::Error;

/// A refusal. Its text is what the operator reads; it names the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A change was asked for without presence, ticket or typed word.
    #[error(
        "refused to {0}: nobody confirmed it; choose the entry again and press ESC when it asks"
    )]
    NoConsent(Verb),
    /// A request waits, and what lies in the store says that it was carried out or withdrawn.
    #[error("refused to {0}: that was asked before and is over; ask again if you still want it")]
    OldRequest(Verb),
    /// The history has nothing before the live set.
    #[error("refused to roll back: no snapshot lies before the present system")]
    NothingOlder,
    /// The history has nothing after the live set.
    #[error("refused to roll forward: the last change was not a rollback")]
    NothingNewer,
    /// The set that would be promoted is not what it was.
    #[error("refused: {}", unsound(.0, .1))]
    Unsound(Set, Health),
    /// There is no configuration dataset.
    #[error(
        "refused: this machine has no config dataset; declare one in \
         /usr/lib/backstay/layout.toml and run 'backstay init'"
    )]
    NoConfigDataset,
    /// There is no data dataset.
    #[error(
        "refused: this machine has no data dataset; use backstay.reset=config, or declare one in \
         /usr/lib/backstay/layout.toml and run 'backstay init'"
    )]
    NoDataDataset,
    /// Two disks carry the same file system.
    #[error(
        "refused to change anything: two disks carry the same file system; detach the copy, or \
         give it a new UUID with 'btrfstune -u'"
    )]
    CopiedDisk,
    /// The records are of a newer format.
    #[error(
        "refused to change anything: the records have format {0}, which a newer backstay wrote; \
         boot that version's entry"
    )]
    NewerFormat(u16),
    /// Recovery stopped at something it does not know.
    #[error("refused: an earlier change could not be finished; see the lines above")]
    TransactionStuck,
    /// Neither slot of the state is whole.
    #[error(
        "the state is damaged in both slots, nothing is changed; repair it with \
         'backstay init --repair' in the running system"
    )]
    StateDamaged,
    /// No state was ever written, although there is a live system.
    #[error("refused: backstay was not set up on this machine; run 'backstay init' in it")]
    NoState,
    /// The live root is missing, and this is not a first boot.
    #[error("the live system is missing and this is not a first boot: choose what to promote")]
    NoLiveSystem,
    /// A live dataset other than the root is missing.
    #[error(
        "the live {} dataset is missing; a roll back or a reset that replaces it brings one back",
        part(.0)
    )]
    LiveMissing(Part),
    /// A snapshot was booted once, and what was parked is gone.
    #[error(
        "the system parked as {0} {what}: the snapshot that was booted once stays; for the way back see \
         docs/recovery.md, section 9",
        what = lost(.1)
    )]
    ParkedLost(u32, Health),
    /// The version's applications cannot run on the data.
    #[error("refused: {0} cannot run on the data as it is; {1}")]
    Fenced(Version, Ways),
    /// What is live runs on its data as it is.
    #[error("nothing is to be converted: the present version runs on the data as it is")]
    NothingToConvert,
    /// Its data cannot be converted for the live version; whether it could if something may be lost.
    #[error("refused to convert the data: {}", not_converted(.0))]
    NotConvertible(bool),
    /// What was converted for a request does not fit any more.
    #[error(
        "the data was changed after it was converted, or is not there: nothing is done; ask again"
    )]
    Outdated,
    /// What is to be converted for this version would lose something, and the plan that was agreed to did not.
    #[error(
        "refused: the conversion for {0} would lose something that was not shown; ask again with 'backstay' in the running \
         system and see what it loses"
    )]
    Unseen(Version),
    /// A snapshot was booted once, and what was parked cannot run on the data as it is by now.
    #[error(
        "the system parked as {0} cannot run on the data, which was changed since: what was booted once stays; for the way \
         back see docs/recovery.md, section 9"
    )]
    ParkedFenced(u32),
    /// What is live does not read its data as it is: it would not return from a boot once.
    #[error(
        "refused to boot it once: the present version does not read its data ('backstay fence explain live'), so it could \
         not return; 'backstay convert', or roll back"
    )]
    NoReturn,
    /// The machine fell back, and what it fell back to did not start either.
    #[error("neither the system nor the one before it came up: choose a snapshot, or wait")]
    FallbackFailed,
    /// Nothing was ever marked good.
    #[error(
        "the system did not come up, and no good snapshot is left to fall back to: choose one, or wait"
    )]
    NothingGood,
    /// Destruction has begun.
    #[error("refused: 'reset everything' is being finished; run 'backstay mark-good' again")]
    Destroying,
}

/// What somebody could agree to so that the fence lets a version, beside nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// Conversions.
    pub convert: bool,
    /// Going back to kept data.
    pub restore: bool,
}

impl core::fmt::Display for Ways {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match (self.convert, self.restore) {
            (true, true) => {
                "fence=convert (of a copy) or fence=restore (loses what came since) goes there"
            }
            (true, false) => "fence=convert, of a copy of it, goes there",
            (false, true) => "fence=restore, which loses what came since, goes there",
            (false, false) => "choose another version ('backstay fence explain' says why)",
        })
    }
}

fn not_converted(lossy: &bool) -> &'static str {
    match lossy {
        true => "something would be lost; 'backstay convert --fence convert' agrees to that",
        false => {
            "no way leads to what the present version says that it reads; 'backstay fence explain live' says why"
        }
    }
}

fn lost(health: &Health) -> String {
    match health {
        Health::Missing(it) => format!("has lost its {}", part(it)),
        Health::Changed(it) => format!("has something else in place of its {}", part(it)),
        _ => "is missing".to_owned(),
    }
}

fn unsound(set: &Set, health: &Health) -> String {
    let name = match set {
        Set::Factory => "the factory snapshot".to_owned(),
        Set::Snapshot(id) => format!("snapshot {id}"),
    };
    let remedy = match set {
        Set::Factory => "restore it from the vendor's image (docs/recovery.md)",
        Set::Snapshot(_) => "choose another one ('backstay list', or the Snapshots menu)",
    };
    match health {
        Health::Sound => format!("{name} is sound"),
        Health::WithoutConfig => format!(
            "{name} was sealed before there was a config dataset; {}",
            match set {
                Set::Factory => "make the image anew",
                Set::Snapshot(_) => remedy,
            }
        ),
        Health::Absent if *set == Set::Factory => format!(
            "{name} does not exist; 'backstay factory build' makes one from a tarball, 'backstay factory \
             install' by installing the distribution anew, and 'backstay factory baseline' keeps a cleaned copy \
             of this system in its place"
        ),
        Health::Absent => format!("{name} does not exist; {remedy}"),
        Health::NoManifest => format!("{name} has no readable manifest; {remedy}"),
        Health::Parked => format!("{name} is parked, not sealed; reboot to return to it"),
        Health::FormerFactory => {
            format!("{name} is a factory snapshot that was replaced; {remedy}")
        }
        Health::Missing(it) => format!("{name} has lost its {}; {remedy}", part(it)),
        Health::Changed(it) => {
            format!(
                "{name} was changed since it was sealed ({}); {remedy}",
                part(it)
            )
        }
    }
}

fn part(part: &Part) -> &'static str {
    match part {
        Part::System => "system",
        Part::Config => "configuration",
        Part::Defaults => "configuration defaults",
        Part::Data(_) => "data",
    }
}
