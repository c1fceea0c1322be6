//! What a row says of a verb whose power is cut; the rows themselves are in rows.rs.

use super::act::{Act, Stage};
use super::right::Right;
use super::{conversions, rows};

/// One thing that is done, as a row names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A start with these parameters.
    Boot(&'static str),
    /// The admin command with these words.
    Admin(&'static str),
    /// All room on the disk is taken.
    Fill,
    /// Both slots of the state become garbage.
    GarbleState,
    /// The state says that a fallback to this snapshot was tried, and that the machine did not come through it.
    Tried(u32),
    /// A deliberate bug: a rollback to this snapshot by two renames.
    TwoRenames(u32),
    /// Another: one that converts the live data itself.
    InPlace(u32),
    /// Another: one that labels what is live before the commit.
    LabelledFirst(u32),
}

impl Step {
    /// The same as an order.
    #[must_use]
    pub fn act(self) -> Act {
        match self {
            Step::Boot(asked) => Act::Boot(asked.to_owned()),
            Step::Admin(words) => Act::Admin(words.to_owned()),
            Step::Fill => Act::Fill,
            Step::GarbleState => Act::GarbleState,
            Step::Tried(to) => Act::Tried(to),
            Step::TwoRenames(to) => Act::TwoRenames(to),
            Step::InPlace(to) => Act::InPlace(to),
            Step::LabelledFirst(to) => Act::LabelledFirst(to),
        }
    }
}

/// What the file `etc/appliance/version` of each live dataset says; of data also "fresh", and what is said of its books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// The system.
    pub system: &'static str,
    /// The configuration.
    pub config: &'static str,
    /// Its defaults.
    pub defaults: &'static str,
    /// Customer data.
    pub data: &'static str,
}

/// At which point of a verb the power went before the row's own act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// What the start says of it.
    StartSays(&'static str),
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct Verb {
    /// As it is named on the command line.
    pub name: &'static str,
    /// What the machine is built up to.
    pub stage: Stage,
    /// What happens to it before, undisturbed.
    pub before: &'static [Step],
    /// The last step of `before` was interrupted.
    pub interrupted: Option<Interrupted>,
    /// What the power is cut in.
    pub act: Step,
    /// What follows a power cut. A start must succeed; an admin command may find nothing to do.
    pub recovery: &'static [Step],
    /// What an admin command of the recovery may say that refuses: that it is done already, or the machine has
    /// gone on since. Whether that is so the end shows.
    pub done: &'static [&'static str],
    /// What the live datasets say that they are after the act and a recovery.
    pub says: Live,
    /// What is right after the act and a recovery.
    pub new: Right,
    /// What is right after a recovery without the act.
    pub old: Right,
    /// Steps on the machine as it was before the act whose result is right after a cut, too.
    pub or: Option<(&'static [Step], Right)>,
    /// Before the recovery there may be no live system at all.
    pub without_live: bool,
    /// Before the recovery the agent may have to ask: there is nothing that it could start, or no state.
    pub may_wait: bool,
    /// A start of the recovery may open the menu, where the power goes once more.
    pub may_ask: bool,
    /// It may be refused on a full disk.
    pub needs_room: bool,
    /// It is not tried on a full disk: what is refused there is not tried again, so another end is right then.
    pub not_when_full: bool,
}

/// The live set of a machine that is built up to [`Stage::Used`].
pub const LIVE: Live = Live {
    system: "@rootfs live",
    config: "@config live",
    defaults: "@backstay/defaults live",
    data: "@data live",
};

impl Verb {
    /// Whether its disk has no room to begin with.
    #[must_use]
    pub fn on_a_full_disk(&self) -> bool {
        self.before.contains(&Step::Fill)
    }
}

/// All rows.
pub fn all() -> impl Iterator<Item = &'static Verb> {
    rows::VERBS.iter().chain(conversions::VERBS)
}

/// The deliberate bugs, each with what it is.
pub const CONTROLS: [(&Verb, &str); 3] = [
    (&rows::CONTROL, "an exchange that is two renames"),
    (&conversions::IN_PLACE, "a conversion of the live data"),
    (
        &conversions::LABELLED_FIRST,
        "a label that is changed before the commit",
    ),
];

/// The row of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Verb> {
    let controls = CONTROLS.into_iter().map(|(verb, _)| verb);
    all().chain(controls).find(|verb| verb.name == name)
}
