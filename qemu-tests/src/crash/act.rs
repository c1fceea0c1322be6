//! What is done to a machine: by the agent at a start, by the admin command, by the builder.

use serde::{Deserialize, Serialize};

/// One thing that is done to the disk, from mount to unmount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// The machine starts: the agent's worker, with these parameters of its own on the command line.
    Boot(String),
    /// `backstay --root DIR …` with the words of this line.
    Admin(String),
    /// The builder's steps up to this one.
    Build(Stage),
    /// Takes all room there is, and keeps some that can be given back.
    Fill,
    /// Gives room back.
    GiveBack(Room),
    /// Both slots of the state become garbage.
    GarbleState,
    /// The state says that a fallback to this snapshot was tried, and that the machine did not come through it.
    Tried(u32),
    /// A rollback to this snapshot by an exchange that is two renames: it must be caught.
    TwoRenames(u32),
    /// One that converts the live data itself: the same.
    InPlace(u32),
    /// One that labels what is live before the commit: the same.
    LabelledFirst(u32),
}

impl Act {
    /// A start on which nothing is asked.
    #[must_use]
    pub fn plain_boot() -> Self {
        Act::Boot(String::new())
    }
}

/// How far a machine is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Nothing of backstay's is on it.
    Bare,
    /// `backstay init` was run on it, and nobody has put data there.
    Empty,
    /// The same, and another agent waits to be installed.
    NewAgent,
    /// `backstay init` was run on it.
    SetUp,
    /// Sealed for its first boot.
    FirstBoot,
    /// It has a factory, snapshots 1 and 2, and went on since.
    Used,
    /// The same, and every version marks itself good, as the live one was.
    Good,
    /// As [`Stage::Used`] with an application whose data the older versions cannot read, and converters.
    Books,
    /// The same as [`Stage::Good`].
    GoodBooks,
    /// As [`Stage::Used`] with a default tarball, and somebody has written into its factory.
    Tampered,
    /// Prepared for its first boot, with a default tarball and without a factory.
    FirstBootFromTarball,
}

/// Room on a disk that was filled, in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// For the contents of files.
    pub data: u32,
    /// For everything else.
    pub metadata: u32,
}

/// What the helper is asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// What.
    pub act: Act,
    /// How long it may take, in seconds.
    pub seconds: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Why it did not end as it should; `None`: it did.
    pub failure: Option<String>,
    /// What it wrote on its console.
    pub console: String,
    /// What a start started: what system, configuration and data say that they are.
    pub started: Option<[String; 3]>,
}
