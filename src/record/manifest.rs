//! What a snapshot is: written once, after its datasets were sealed; and again where its data is deleted.

use super::block::Record;
use super::layout::{DataParts, MAX_DATA, Part};
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
    /// It was live when another one was promoted by rolling back or forward, or when its data was converted.
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
    /// A clone of what was live, upgraded; nothing was booted from it yet.
    Upgraded,
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
#[serde(from = "Stored", into = "Stored")]
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
    /// Data among the members that stays here when the set is gone back to: what took its place was made of it, or chosen
    /// instead of it, with somebody's consent, and has what came since. Data that a reset replaced is not among these.
    pub aside: DataParts,
    /// Data that was among the members and was deleted. Written before the deletion, so it may still be there.
    pub gone: Vec<Member, MAX_DATA>,
}

/// A manifest on disk. Without data that stays aside or is gone it is what it was before there was such, byte for byte; with
/// it the kind is one that an older backstay does not know: it would bring data aside back, and so it takes nothing of the
/// set.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: u32,
    kind: StoredKind,
    origin: Origin,
    title: Title,
    created: u64,
    kernel: Option<Release>,
    clone_of: Option<u32>,
    good: bool,
    members: Vec<Member, { MAX_DATA + 3 }>,
}

/// The first four are [`Kind`]'s.
#[derive(Serialize, Deserialize)]
enum StoredKind {
    Snapshot,
    Factory,
    Parked,
    FormerFactory,
    /// A snapshot with data that stays aside.
    Aside(DataParts),
    /// A snapshot of which data was deleted, and data that stays aside.
    Gone(DataParts, Box<Vec<Member, MAX_DATA>>),
}

impl From<Stored> for Manifest {
    fn from(it: Stored) -> Manifest {
        let plain = |kind| (kind, DataParts::NONE, Vec::new());
        let (kind, aside, gone) = match it.kind {
            StoredKind::Snapshot => plain(Kind::Snapshot),
            StoredKind::Factory => plain(Kind::Factory),
            StoredKind::Parked => plain(Kind::Parked),
            StoredKind::FormerFactory => plain(Kind::FormerFactory),
            StoredKind::Aside(aside) => (Kind::Snapshot, aside, Vec::new()),
            StoredKind::Gone(aside, gone) => (Kind::Snapshot, aside, *gone),
        };
        Manifest {
            id: it.id,
            kind,
            origin: it.origin,
            title: it.title,
            created: it.created,
            kernel: it.kernel,
            clone_of: it.clone_of,
            good: it.good,
            members: it.members,
            aside,
            gone,
        }
    }
}

impl From<Manifest> for Stored {
    fn from(it: Manifest) -> Stored {
        let kind = match it.kind {
            Kind::Snapshot if !it.gone.is_empty() => StoredKind::Gone(it.aside, Box::new(it.gone)),
            Kind::Snapshot if it.aside != DataParts::NONE => StoredKind::Aside(it.aside),
            Kind::Snapshot => StoredKind::Snapshot,
            // Data is aside, or gone, in nothing else.
            Kind::Factory => StoredKind::Factory,
            Kind::Parked => StoredKind::Parked,
            Kind::FormerFactory => StoredKind::FormerFactory,
        };
        Stored {
            id: it.id,
            kind,
            origin: it.origin,
            title: it.title,
            created: it.created,
            kernel: it.kernel,
            clone_of: it.clone_of,
            good: it.good,
            members: it.members,
        }
    }
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

    /// Whether going back to this set brings that data back.
    pub fn brings(&self, part: Part) -> bool {
        self.identity(part).is_some() && !self.aside.contains(part)
    }

    /// The data among its members.
    pub fn data(&self) -> impl Iterator<Item = &Member> {
        let members = self.members.iter();
        members.filter(|member| matches!(member.part, Part::Data(_)))
    }

    /// Says of data among the members that it is gone; it is no member any more.
    pub fn let_go(&mut self, part: Part) {
        let Some(member) = self.data().find(|it| it.part == part).copied() else {
            return;
        };
        self.members.retain(|other| other.part != part);
        self.aside.remove(part);
        self.gone.retain(|other| other.part != part);
        self.gone.push(member).ok();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::block::{Block, decode, encode};

    /// As it was before data could stay aside.
    #[derive(Debug, Serialize, Deserialize)]
    struct Before {
        id: u32,
        kind: Kind,
        origin: Origin,
        title: Title,
        created: u64,
        kernel: Option<Release>,
        clone_of: Option<u32>,
        good: bool,
        members: Vec<Member, { MAX_DATA + 3 }>,
    }

    impl Record for Before {
        const MAGIC: [u8; 8] = Manifest::MAGIC;
    }

    fn manifest(kind: Kind, aside: DataParts) -> Manifest {
        let identity = Identity {
            uuid: Uuid([7; 16]),
            ctransid: 300,
        };
        let parts = [Part::Data(0), Part::Data(7), Part::System].into_iter();
        Manifest {
            id: 300,
            kind,
            origin: Origin::Replaced,
            title: title("x"),
            created: 1_790_000_000,
            kernel: None,
            clone_of: Some(12),
            good: true,
            members: parts.map(|part| Member { part, identity }).collect(),
            aside,
            gone: Vec::new(),
        }
    }

    #[test]
    fn without_data_aside_it_is_on_disk_what_it_was_before_there_was_such() {
        for kind in [
            Kind::Snapshot,
            Kind::Factory,
            Kind::Parked,
            Kind::FormerFactory,
        ] {
            let now = manifest(kind, DataParts::NONE);
            let before = Before {
                id: now.id,
                kind,
                origin: now.origin,
                title: now.title.clone(),
                created: now.created,
                kernel: None,
                clone_of: now.clone_of,
                good: now.good,
                members: now.members.clone(),
            };
            assert_eq!(encode(1, &now), encode(1, &before));
            let read = decode::<Manifest>(&encode(1, &before).unwrap());
            assert_eq!(read, Block::Valid { seq: 1, value: now });
        }
    }

    #[test]
    fn an_older_backstay_takes_nothing_of_a_set_with_data_aside() {
        let mut aside = DataParts::NONE;
        aside.insert(Part::Data(7));
        aside.insert(Part::System);
        let now = manifest(Kind::Snapshot, aside);
        assert!(now.brings(Part::Data(0)) && !now.brings(Part::Data(7)));
        assert!(now.brings(Part::System) && !now.brings(Part::Data(1)));
        let bytes = encode(1, &now).unwrap();
        assert_eq!(
            decode::<Manifest>(&bytes),
            Block::Valid { seq: 1, value: now }
        );
        assert!(matches!(decode::<Before>(&bytes), Block::Newer(1)));
    }

    #[test]
    fn data_that_is_gone_is_no_member_and_is_remembered() {
        let mut aside = DataParts::NONE;
        aside.insert(Part::Data(7));
        let mut now = manifest(Kind::Snapshot, aside);
        let was = now.members[1];
        for part in [Part::Data(7), Part::Data(7), Part::Data(1), Part::System] {
            now.let_go(part);
        }
        assert_eq!(now.gone.as_slice(), &[was]);
        assert_eq!((now.members.len(), now.aside), (2, DataParts::NONE));
        assert!(now.identity(Part::Data(7)).is_none() && now.brings(Part::Data(0)));
        now.let_go(Part::Data(0));
        let bytes = encode(1, &now).unwrap();
        assert_eq!(
            decode::<Manifest>(&bytes),
            Block::Valid { seq: 1, value: now }
        );
        // One that does not know of it takes nothing of the set.
        assert!(matches!(decode::<Before>(&bytes), Block::Newer(1)));
        // The largest there can be fits.
        let identity = Identity {
            uuid: Uuid([255; 16]),
            ctransid: u64::MAX,
        };
        let member = |part| Member { part, identity };
        let all = (0..8).map(Part::Data);
        let rest = [Part::Config, Part::Defaults, Part::System].into_iter();
        let full = Manifest {
            members: all.clone().chain(rest).map(member).collect(),
            gone: all.map(member).collect(),
            ..manifest(Kind::Snapshot, aside)
        };
        encode(1, &full).unwrap();
    }
}
