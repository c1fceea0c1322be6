//! Where a dataset lies: names that code passes around instead of paths.

use crate::record::layout::{Layout, Part};
use serde::{Deserialize, Serialize};

/// The subvolume that holds everything of ours, in the store's top level.
pub const STORE: &str = "@backstay";

/// The directory in [`STORE`] of what was converted for a request.
pub const PREPARED: &str = "prepared";

/// A place for a dataset in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// The constant name under which a part boots.
    Live(Part),
    /// A member of the snapshot with this id; for data, what was kept when it was made.
    Snapshot(u32, Part),
    /// A member of the factory snapshot.
    Factory(Part),
    /// The template that a fresh data dataset is cloned from.
    Template(Part),
    /// A clone of live data that is converted, or was, for the request that waits.
    Prepared(Part),
}

impl Place {
    /// Which part of a set lies here.
    pub fn part(self) -> Part {
        match self {
            Place::Live(part)
            | Place::Snapshot(_, part)
            | Place::Factory(part)
            | Place::Template(part)
            | Place::Prepared(part) => part,
        }
    }

    /// The path below the store's top level, without a leading slash. `None` when the layout has
    /// no such dataset.
    pub fn path(self, layout: &Layout) -> Option<String> {
        let dataset = layout.dataset(self.part());
        Some(match (self, self.part()) {
            (Place::Live(Part::Defaults), _) if layout.config.is_some() => {
                format!("{STORE}/defaults")
            }
            (Place::Live(_), _) => dataset?.live.as_str().to_owned(),
            (Place::Snapshot(id, _), Part::Data(_)) => {
                format!("{STORE}/data/{}/{id}", dataset?.name)
            }
            (Place::Template(_), Part::Data(_)) => {
                format!("{STORE}/data/{}/template", dataset?.name)
            }
            (Place::Snapshot(id, _), part) => format!("{STORE}/snapshots/{id}/{}", member(part)?),
            (Place::Factory(_), part) => format!("{STORE}/factory/{}", member(part)?),
            (Place::Prepared(_), Part::Data(_)) => {
                format!("{STORE}/{PREPARED}/{}", dataset?.name)
            }
            (Place::Template(_) | Place::Prepared(_), _) => return None,
        })
    }
}

fn member(part: Part) -> Option<&'static str> {
    match part {
        Part::System => Some("system"),
        Part::Config => Some("config"),
        Part::Defaults => Some("defaults"),
        Part::Data(_) => None,
    }
}

/// A set that has a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Set {
    /// The snapshot with this id.
    Snapshot(u32),
    /// The factory snapshot.
    Factory,
}

impl Set {
    /// The place of one of its members.
    pub fn place(self, part: Part) -> Place {
        match self {
            Set::Snapshot(id) => Place::Snapshot(id, part),
            Set::Factory => Place::Factory(part),
        }
    }

    /// Its directory below the store's top level.
    pub fn directory(self) -> String {
        match self {
            Set::Snapshot(id) => format!("{STORE}/snapshots/{id}"),
            Set::Factory => format!("{STORE}/factory"),
        }
    }
}

/// A file of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum File {
    /// Two slots: the state.
    State,
    /// Two slots: the journal.
    Journal,
    /// One block: the datasets.
    Layout,
    /// One block beside a set.
    Manifest(Set),
    /// What GRUB sources to show a snapshot.
    MenuCfg(Set),
    /// What makes GRUB boot the recovery kernel; alone in its directory, where GRUB soon sees that it is not there.
    Armed,
    /// GRUB's environment block.
    GrubEnv,
    /// What an agent did, for the one that it starts by kexec.
    Carried,
    /// The image builder's marker: this store may have its first boot.
    FirstBoot,
    /// What was done and why, bounded.
    Log,
}

impl File {
    /// The path below the store's top level.
    pub fn path(self) -> String {
        match self {
            File::State => format!("{STORE}/state"),
            File::Journal => format!("{STORE}/journal"),
            File::Layout => format!("{STORE}/layout"),
            File::Manifest(set) => format!("{}/manifest", set.directory()),
            File::MenuCfg(set) => format!("{}/menu.cfg", set.directory()),
            File::Armed => format!("{STORE}/armed/armed.cfg"),
            File::GrubEnv => format!("{STORE}/grub/grubenv"),
            File::Carried => format!("{STORE}/carried.json"),
            File::FirstBoot => format!("{STORE}/first-boot"),
            File::Log => format!("{STORE}/log"),
        }
    }
}
