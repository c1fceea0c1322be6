//! The datasets of this machine: their names in the store and where they are mounted.
//!
//! Written by `backstay init` from `/usr/lib/backstay/layout.toml`, so that the agent knows the
//! names before any root is mounted, and even when the live root is missing.

use super::block::Record;
use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

/// Names of data datasets, and their number, are bounded: an index fits a [`Part`].
pub const MAX_DATA: usize = 8;
/// Declared configuration paths at the most.
pub const MAX_PATHS: usize = 16;

/// A dataset's name in the store's top level, such as `@rootfs`; in bytes.
pub type Name = String<48>;
/// An absolute path in the booted system; in bytes.
pub type MountPath = String<120>;

/// One dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// Its name in messages and below `@backstay/data`, such as `data`.
    pub name: Name,
    /// The name under which it boots, in the store's top level, such as `@data`. Never changes.
    pub live: Name,
    /// Where the booted system sees it.
    pub mount: MountPath,
}

/// All datasets of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The root; mounted at `/`.
    pub system: Dataset,
    /// Configuration kept apart from the root, if the machine has such a dataset.
    pub config: Option<Dataset>,
    /// The paths that are bind-mounted from the config dataset: `/etc/x` from `<config>/etc/x`.
    pub config_paths: Vec<MountPath, MAX_PATHS>,
    /// Customer data, in a fixed order.
    pub data: Vec<Dataset, MAX_DATA>,
}

impl Record for Layout {
    const MAGIC: [u8; 8] = *b"BKSTlayo";
}

/// One member of a set: what a snapshot holds, and what an exchange replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Part {
    /// Configuration.
    Config,
    /// The version's configuration as installed.
    Defaults,
    /// The data dataset with this index in [`Layout::data`].
    Data(u8),
    /// The root. Last, because exchanges happen in this order and the system decides what boots.
    System,
}

/// Some of the data datasets: bit n is that with index n in [`Layout::data`], of which there are [`MAX_DATA`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DataParts(u8);

impl DataParts {
    /// None of them.
    pub const NONE: DataParts = DataParts(0);

    /// Adds one; parts that are no data are none.
    pub fn insert(&mut self, part: Part) {
        self.0 |= bit(part);
    }

    /// Takes one out.
    pub fn remove(&mut self, part: Part) {
        self.0 &= !bit(part);
    }

    /// Whether it is one of them.
    pub fn contains(self, part: Part) -> bool {
        self.0 & bit(part) != 0
    }
}

fn bit(part: Part) -> u8 {
    match part {
        Part::Data(index) => 1u8.checked_shl(index.into()).unwrap_or(0),
        _ => 0,
    }
}

impl Layout {
    /// The parts that a snapshot's set has on this machine, in the order of the exchanges.
    pub fn set(&self) -> impl Iterator<Item = Part> + use<> {
        let config = self.config.is_some();
        [Part::Config, Part::Defaults, Part::System]
            .into_iter()
            .filter(move |part| config || *part == Part::System)
    }

    /// The data datasets as parts.
    pub fn data_parts(&self) -> impl Iterator<Item = Part> + use<> {
        (0..u8::try_from(self.data.len()).unwrap_or(0)).map(Part::Data)
    }

    /// Every part that has a live dataset: the set and the data, in the order of the exchanges.
    pub fn all(&self) -> impl Iterator<Item = Part> + use<> {
        let mut parts: Vec<Part, { MAX_DATA + 3 }> = Vec::new();
        let mut add = |part| parts.push(part).ok();
        self.set().for_each(|part| {
            add(part);
        });
        self.data_parts().for_each(|part| {
            add(part);
        });
        parts.sort_unstable();
        parts.into_iter()
    }

    /// The dataset behind a part; `Defaults` has none of its own, nor has an unknown index.
    pub fn dataset(&self, part: Part) -> Option<&Dataset> {
        match part {
            Part::System => Some(&self.system),
            Part::Config => self.config.as_ref(),
            Part::Data(index) => self.data.get(usize::from(index)),
            Part::Defaults => None,
        }
    }

    /// How a person calls the part.
    pub fn title(&self, part: Part) -> &str {
        match part {
            Part::System => "system",
            Part::Config => "configuration",
            Part::Defaults => "configuration defaults",
            Part::Data(_) => self
                .dataset(part)
                .map_or("data", |dataset| dataset.name.as_str()),
        }
    }
}
