//! What a snapshot is: written once, after its datasets were sealed.

use super::block::Record;
use super::layout::{MAX_DATA, Part};
use super::{Identity, Uuid};
use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

/// A title for people; printable ASCII without quotes, `$` and backslash, because GRUB shows it.
pub type Title = String<64>;
/// A kernel release as `uname -r` prints it, bounded by the kernel's own `__NEW_UTS_LEN`.
pub type Release = String<64>;

/// What kind of set this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A sealed set, made from what was live.
    Snapshot,
    /// The pristine set that nothing was ever booted from.
    Factory,
    /// What was live before a snapshot was booted once; not sealed, waits for its return.
    Parked,
    /// What was the factory snapshot until another one took its place; nothing goes back to it.
    FormerFactory,
}

/// Why a set was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Somebody asked for a snapshot.
    Asked,
    /// It was live when another one was promoted by rolling back or forward.
    Replaced,
    /// It was live when the system was reset.
    BeforeReset,
    /// It is what remained of a snapshot that was booted once.
    BootedOnce,
    /// The image builder sealed it.
    Built,
    /// It was made from the default tarball.
    Extracted,
    /// It failed the check of the factory snapshot, and another one took its place.
    Failed,
    /// Somebody put another factory snapshot in its place.
    Superseded,
    /// It did not start often enough, and the machine fell back.
    DidNotStart,
    /// A used system, cleaned: in the factory's place, and no factory version.
    Baseline,
}

/// One sealed member of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which one.
    pub part: Part,
    /// How to recognise it, as read after it was sealed.
    pub identity: Identity,
}

/// The record beside a snapshot's datasets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its number; 0 for the factory snapshot.
    pub id: u32,
    /// What kind of set it is.
    pub kind: Kind,
    /// Why it was made.
    pub origin: Origin,
    /// For people.
    pub title: Title,
    /// Seconds since 1970 by the machine's clock, which may be wrong: shown, never compared.
    pub created: u64,
    /// The kernel that the system boots, if one was found in it.
    pub kernel: Option<Release>,
    /// The snapshot it is a changed clone of; 0 is the factory.
    pub clone_of: Option<u32>,
    /// It had been marked good when it was sealed.
    pub good: bool,
    /// Its members in the order of the exchanges. Of a parked set only the UUIDs count: it is not
    /// sealed, and what was written to it since is what returns.
    pub members: Vec<Member, { MAX_DATA + 3 }>,
}

impl Record for Manifest {
    const MAGIC: [u8; 8] = *b"BKSTmani";
}

impl Manifest {
    /// The recorded identity of a member.
    pub fn identity(&self, part: Part) -> Option<Identity> {
        self.members
            .iter()
            .find(|member| member.part == part)
            .map(|member| member.identity)
    }

    /// The recorded UUID of a member.
    pub fn uuid(&self, part: Part) -> Option<Uuid> {
        self.identity(part).map(|identity| identity.uuid)
    }
}

/// Characters of a title that GRUB's menu shows (grub-entries/menu.cfg).
const SHOWN: usize = 60;

/// Makes a title of anything: what GRUB's menu would not show becomes `_`, or is cut off.
pub fn title(text: &str) -> Title {
    let mut title = Title::new();
    for c in text.chars().take(SHOWN) {
        let safe = c.is_ascii_alphanumeric() || " ._:,+()/-".contains(c);
        if title.push(if safe { c } else { '_' }).is_err() {
            break;
        }
    }
    title
}
