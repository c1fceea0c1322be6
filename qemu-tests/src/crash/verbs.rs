//! The verbs whose power is cut, one row each.

use super::act::{Act, Stage};

/// One thing that is done, as a row names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A start with these parameters.
    Boot(&'static str),
    /// The admin command with these words.
    Admin(&'static str),
    /// All room on the disk is taken.
    Fill,
    /// The deliberate bug: a rollback to this snapshot by two renames.
    TwoRenames(u32),
}

impl Step {
    /// The same as an order.
    #[must_use]
    pub fn act(self) -> Act {
        match self {
            Step::Boot(asked) => Act::Boot(asked.to_owned()),
            Step::Admin(words) => Act::Admin(words.to_owned()),
            Step::Fill => Act::Fill,
            Step::TwoRenames(to) => Act::TwoRenames(to),
        }
    }
}

/// What the file `etc/appliance/version` of each live dataset says; of data also "fresh".
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
    /// The live datasets after the act and a recovery.
    pub new: Live,
    /// Steps on the machine as it was before the act whose result is right after a cut, too.
    pub or: Option<&'static [Step]>,
    /// Before the recovery there may be no live system at all.
    pub without_live: bool,
    /// It may be refused on a full disk.
    pub needs_room: bool,
}

const PLAIN: &[Step] = &[Step::Boot("")];

/// The live set of a machine that is built up to [`Stage::Used`].
pub const LIVE: Live = Live {
    system: "@rootfs live",
    config: "@config live",
    defaults: "@backstay/defaults live",
    data: "@data live",
};
const TWO: Live = Live {
    system: "@rootfs 2",
    config: "@config 2",
    defaults: "@backstay/defaults 2",
    data: LIVE.data,
};
const FACTORY: Live = Live {
    system: "@rootfs factory",
    config: "@config factory",
    defaults: "@config factory",
    data: "fresh",
};

const USUAL: Verb = Verb {
    name: "",
    stage: Stage::Used,
    before: &[],
    interrupted: None,
    act: Step::Boot(""),
    recovery: PLAIN,
    new: LIVE,
    or: None,
    without_live: false,
    needs_room: false,
};

const ROLLBACK: Step = Step::Boot("backstay.rollback=previous backstay.present");
const EVERYTHING: Step = Step::Boot("backstay.reset=everything backstay.present");
const SELECT: Step = Step::Boot("backstay.select=1 backstay.present");

/// All of them.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "rollback",
        act: ROLLBACK,
        new: TWO,
        ..USUAL
    },
    Verb {
        name: "rollback-id",
        act: Step::Boot("backstay.rollback=1 backstay.present"),
        new: Live {
            system: "@rootfs 1",
            config: "@config 1",
            defaults: "@backstay/defaults 1",
            ..LIVE
        },
        ..USUAL
    },
    Verb {
        name: "forward",
        before: &[ROLLBACK],
        act: Step::Boot("backstay.forward backstay.present"),
        ..USUAL
    },
    Verb {
        // The start after it returns, so both ends have the same live set.
        name: "select",
        act: SELECT,
        ..USUAL
    },
    Verb {
        name: "return",
        before: &[SELECT],
        ..USUAL
    },
    Verb {
        name: "reset-config",
        act: Step::Boot("backstay.reset=config backstay.present"),
        new: Live {
            config: LIVE.defaults,
            ..LIVE
        },
        ..USUAL
    },
    Verb {
        name: "reset-config-data",
        act: Step::Boot("backstay.reset=config,data backstay.present"),
        new: Live {
            config: LIVE.defaults,
            data: "fresh",
            ..LIVE
        },
        ..USUAL
    },
    Verb {
        name: "reset-system",
        act: Step::Boot("backstay.reset=system backstay.present"),
        new: Live {
            data: LIVE.data,
            ..FACTORY
        },
        ..USUAL
    },
    Verb {
        name: "reset-system-keep-config",
        act: Step::Boot("backstay.reset=system backstay.keep=config backstay.present"),
        new: Live {
            config: LIVE.config,
            data: LIVE.data,
            ..FACTORY
        },
        ..USUAL
    },
    Verb {
        name: "reset-everything",
        act: EVERYTHING,
        new: FACTORY,
        ..USUAL
    },
    Verb {
        // Its second phase; the running system calls it again after every start.
        name: "mark-good",
        before: &[EVERYTHING],
        act: Step::Admin("mark-good"),
        recovery: &[Step::Boot(""), Step::Admin("mark-good")],
        new: FACTORY,
        ..USUAL
    },
    Verb {
        name: "first-boot",
        stage: Stage::FirstBoot,
        new: FACTORY,
        without_live: true,
        ..USUAL
    },
    Verb {
        name: "snapshot",
        act: Step::Admin("snapshot"),
        needs_room: true,
        ..USUAL
    },
    Verb {
        // The image builder's: the same command again makes up for a cut.
        name: "factory-seal",
        stage: Stage::SetUp,
        act: Step::Admin("factory seal"),
        recovery: &[Step::Boot(""), Step::Admin("factory seal")],
        new: Live {
            system: "@rootfs factory",
            config: "@config factory",
            defaults: "@config factory",
            data: LIVE.data,
        },
        needs_room: true,
        ..USUAL
    },
    Verb {
        name: "request",
        act: Step::Admin("rollback"),
        new: TWO,
        ..USUAL
    },
    Verb {
        // A request that is carried out: used up first, so after a cut it may be gone.
        name: "requested-rollback",
        before: &[Step::Admin("rollback")],
        new: TWO,
        or: Some(&[Step::Admin("cancel")]),
        ..USUAL
    },
    Verb {
        // What it withdraws is carried out by the next start if the cut came first.
        name: "cancel",
        before: &[Step::Admin("rollback")],
        act: Step::Admin("cancel"),
        ..USUAL
    },
    Verb {
        name: "recovery-undoes",
        before: &[ROLLBACK],
        interrupted: Some(Interrupted::StartSays("undone")),
        ..USUAL
    },
    Verb {
        name: "recovery-finishes",
        before: &[ROLLBACK],
        interrupted: Some(Interrupted::StartSays("finished now")),
        new: TWO,
        ..USUAL
    },
    Verb {
        // It gives the ballast up first, and so does a recovery.
        name: "rollback-full",
        before: &[Step::Fill],
        act: ROLLBACK,
        new: TWO,
        ..USUAL
    },
    Verb {
        name: "reset-everything-full",
        before: &[Step::Fill],
        act: EVERYTHING,
        new: FACTORY,
        ..USUAL
    },
];

impl Verb {
    /// Whether its disk has no room to begin with.
    #[must_use]
    pub fn on_a_full_disk(&self) -> bool {
        self.before.contains(&Step::Fill)
    }
}

/// The deliberate bug.
pub const CONTROL: Verb = Verb {
    name: "control",
    act: Step::TwoRenames(2),
    new: TWO,
    ..USUAL
};

/// The row of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Verb> {
    if name == CONTROL.name {
        return Some(&CONTROL);
    }
    VERBS.iter().find(|verb| verb.name == name)
}
