//! What is to be done, with every name resolved: the input of a plan.

use crate::record::layout::Part;
use crate::record::manifest::Title;
use crate::record::state::Verb;
use crate::store::place::Set;

/// A change of the store that was decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Promote this snapshot, going back in the history.
    Rollback {
        /// The snapshot.
        to: u32,
    },
    /// Promote this snapshot, because what is live did not start; nobody asked for it.
    FallBack {
        /// The snapshot.
        to: u32,
    },
    /// Promote this snapshot, undoing a rollback.
    Forward {
        /// The snapshot.
        to: u32,
    },
    /// Promote a clone of this snapshot for one boot.
    Select {
        /// The snapshot.
        id: u32,
    },
    /// End a boot-once: what was parked becomes live again.
    Return {
        /// The id under which it is parked.
        parked: u32,
    },
    /// Fresh configuration from the live version's defaults, and fresh data if asked.
    ResetConfig {
        /// Whether the data is fresh too.
        data: bool,
    },
    /// Promote the factory snapshot.
    ResetSystem {
        /// Whether the present configuration stays.
        keep_config: bool,
    },
    /// Promote the factory snapshot with fresh data.
    ResetEverything,
    /// Promote the factory snapshot where nothing was ever live.
    FirstBoot,
    /// Convert the live data that the live version does not read; the version stays.
    Convert,
    /// Make the factory snapshot anew from the default tarball; nothing that is live changes.
    MakeFactory,
    /// Seal a copy of what is live.
    Snapshot {
        /// For people.
        title: Title,
        /// Whether of the data, too: it stays aside when the snapshot is gone back to.
        data: bool,
    },
    /// Upgrade a clone of what is live, and seal it, to go forward to; nothing that is live changes.
    Stage {
        /// For people.
        title: Title,
    },
}

impl Intent {
    /// The verb that a person used for it.
    pub fn verb(&self) -> Option<Verb> {
        Some(match self {
            Intent::Rollback { to } => Verb::Rollback(Some(*to)),
            Intent::Forward { .. } => Verb::Forward,
            Intent::Select { id } => Verb::Select(*id),
            Intent::ResetConfig { data } => Verb::ResetConfig { data: *data },
            Intent::ResetSystem { keep_config } => Verb::ResetSystem {
                keep_config: *keep_config,
            },
            Intent::ResetEverything => Verb::ResetEverything,
            Intent::Convert => Verb::Convert,
            Intent::FallBack { .. }
            | Intent::Return { .. }
            | Intent::FirstBoot
            | Intent::MakeFactory
            | Intent::Snapshot { .. }
            | Intent::Stage { .. } => return None,
        })
    }

    /// Whether it puts something else in the live place of a part, without needing what is there.
    pub fn replaces(&self, part: Part) -> bool {
        let set = part != Part::System && !matches!(part, Part::Data(_));
        match self {
            Intent::Rollback { .. } | Intent::FallBack { .. } | Intent::Forward { .. } => {
                set || part == Part::System
            }
            Intent::ResetSystem { keep_config } => {
                part == Part::System || (set && !(*keep_config && part == Part::Config))
            }
            Intent::ResetEverything => true,
            Intent::ResetConfig { data } => {
                part == Part::Config || (*data && matches!(part, Part::Data(_)))
            }
            _ => false,
        }
    }

    /// The sealed set whose clones become live, if there is one.
    pub fn source(&self) -> Option<Set> {
        match self {
            Intent::Rollback { to } | Intent::FallBack { to } | Intent::Forward { to } => {
                Some(Set::Snapshot(*to))
            }
            Intent::Select { id } => Some(Set::Snapshot(*id)),
            Intent::ResetSystem { .. } | Intent::ResetEverything | Intent::FirstBoot => {
                Some(Set::Factory)
            }
            Intent::Return { .. }
            | Intent::ResetConfig { .. }
            | Intent::Convert
            | Intent::MakeFactory
            | Intent::Snapshot { .. }
            | Intent::Stage { .. } => None,
        }
    }
}
