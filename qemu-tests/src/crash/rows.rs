//! The verbs whose power is cut, one row each; those that convert data are in conversions.rs.

use super::act::Stage;
use super::ends::{
    BUILT, DELETED, FACTORY, FACTORY_SET, FALLEN_BACK, FIRST, FIRST_FROM_TARBALL, FROM_TARBALL,
    KEPT_MACHINES, KEPT_VAULT, MACHINES, OF_FACTORY, OF_TWO, PLAINLY, REBUILT, RESET_FROM_TARBALL,
    RETURNED, SET_1, SET_2, SET_3, SET_3_AND_DATA, SET_UP, SHIPPED, STAYS, TEMPLATE, TWO, VAULT,
    WAS_LIVE, WITH_FACTORY,
};
use super::right::{NAMES, Paths, Right};
use super::verbs::{Interrupted, LIVE, Live, Step, Verb};

const PLAIN: &[Step] = &[Step::Boot("")];

pub(super) const USUAL: Verb = Verb {
    name: "",
    stage: Stage::Used,
    before: &[],
    interrupted: None,
    act: Step::Boot(""),
    recovery: PLAIN,
    done: &[],
    says: LIVE,
    new: STAYS,
    old: STAYS,
    or: None,
    without_live: false,
    may_wait: false,
    may_ask: false,
    needs_room: false,
    not_when_full: false,
};

/// A start on trial is counted; once the system is marked good, a start writes nothing.
pub(super) const CONFIRMED: &[Step] = &[Step::Boot(""), Step::Admin("mark-good")];

const ROLLBACK: Step = Step::Boot("backstay.rollback=previous backstay.present");
const EVERYTHING: Step = Step::Boot("backstay.reset=everything backstay.present");
const SELECT: Step = Step::Boot("backstay.select=1 backstay.present");

const BUILD: &[Step] = &[Step::Admin(
    "factory build --from /top/@backstay/factory.tar.zst --unsigned",
)];

const KEEP: &[Step] = &[Step::Admin(
    "factory keep --from /top/@backstay/factory.tar.zst --unsigned",
)];

/// Somebody wants to go back and cannot.
const FUTILE: Step = Step::Boot("backstay.rollback=77 backstay.present");
/// What 'factory seal' says the second time.
const SEALED: &str = "the factory snapshot exists already";
/// What it says after a first start was cut, or came to its end.
const STARTED: &str = "refused to prepare a first boot";

/// All of them.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "rollback",
        act: ROLLBACK,
        says: TWO,
        new: OF_TWO,
        ..USUAL
    },
    Verb {
        name: "rollback-id",
        act: Step::Boot("backstay.rollback=1 backstay.present"),
        says: Live {
            system: "@rootfs 1",
            config: "@config 1",
            defaults: "@backstay/defaults 1",
            ..LIVE
        },
        new: Right {
            live: SET_1,
            made: &[("3", WAS_LIVE)],
            ..STAYS
        },
        ..USUAL
    },
    Verb {
        name: "forward",
        before: &[ROLLBACK],
        act: Step::Boot("backstay.forward backstay.present"),
        new: Right {
            live: SET_3,
            made: &[("4", WAS_LIVE)],
            ..STAYS
        },
        ..USUAL
    },
    Verb {
        // The start after it returns, so both ends have the same live set.
        name: "select",
        act: SELECT,
        new: Right {
            made: &[("3", Paths { data: "", ..SET_1 })],
            ..STAYS
        },
        ..USUAL
    },
    Verb {
        name: "return",
        before: &[SELECT],
        new: RETURNED,
        old: RETURNED,
        ..USUAL
    },
    Verb {
        name: "reset-config",
        act: Step::Boot("backstay.reset=config backstay.present"),
        says: Live {
            config: LIVE.defaults,
            ..LIVE
        },
        new: Right {
            live: Paths {
                config: NAMES.defaults,
                ..NAMES
            },
            made: &[("3", WAS_LIVE)],
            ..STAYS
        },
        ..USUAL
    },
    Verb {
        name: "reset-config-data",
        act: Step::Boot("backstay.reset=config,data backstay.present"),
        says: Live {
            config: LIVE.defaults,
            data: "fresh",
            ..LIVE
        },
        new: Right {
            live: Paths {
                config: NAMES.defaults,
                data: TEMPLATE,
                ..NAMES
            },
            made: &[("3", NAMES)],
            nested: &[MACHINES, (VAULT.0, KEPT_VAULT)],
            ..STAYS
        },
        ..USUAL
    },
    Verb {
        name: "reset-system",
        act: Step::Boot("backstay.reset=system backstay.present"),
        says: Live {
            data: LIVE.data,
            ..FACTORY
        },
        new: Right {
            live: FACTORY_SET,
            made: &[("3", WAS_LIVE)],
            ..STAYS
        },
        ..USUAL
    },
    Verb {
        name: "reset-system-keep-config",
        act: Step::Boot("backstay.reset=system backstay.keep=config backstay.present"),
        says: Live {
            config: LIVE.config,
            data: LIVE.data,
            ..FACTORY
        },
        new: Right {
            live: Paths {
                config: NAMES.config,
                ..FACTORY_SET
            },
            made: &[("3", WAS_LIVE)],
            ..STAYS
        },
        ..USUAL
    },
    Verb {
        name: "reset-everything",
        act: EVERYTHING,
        says: FACTORY,
        new: OF_FACTORY,
        ..USUAL
    },
    Verb {
        // Its second phase; the running system calls it again after every start.
        name: "mark-good",
        before: &[EVERYTHING],
        act: Step::Admin("mark-good"),
        recovery: &[Step::Boot(""), Step::Admin("mark-good")],
        says: FACTORY,
        new: DELETED,
        old: DELETED,
        ..USUAL
    },
    Verb {
        name: "first-boot",
        stage: Stage::FirstBoot,
        says: FACTORY,
        without_live: true,
        new: FIRST,
        old: FIRST,
        may_wait: true,
        ..USUAL
    },
    Verb {
        // The factory snapshot is made first; after a cut it may be there, and what asked is gone.
        name: "reset-system-from-tarball",
        stage: Stage::Tampered,
        act: Step::Boot("backstay.reset=system backstay.present"),
        says: FROM_TARBALL,
        new: RESET_FROM_TARBALL,
        or: Some((BUILD, REBUILT)),
        needs_room: true,
        ..USUAL
    },
    Verb {
        name: "first-boot-from-tarball",
        stage: Stage::FirstBootFromTarball,
        says: Live {
            data: "fresh",
            ..FROM_TARBALL
        },
        new: FIRST_FROM_TARBALL,
        old: FIRST_FROM_TARBALL,
        without_live: true,
        may_wait: true,
        needs_room: true,
        ..USUAL
    },
    Verb {
        name: "factory-build",
        stage: Stage::Tampered,
        act: BUILD[0],
        new: REBUILT,
        needs_room: true,
        ..USUAL
    },
    Verb {
        // A whole factory snapshot is made and taken back. What a cut leaves of the file goes with the
        // same command again.
        name: "factory-keep",
        stage: Stage::Tampered,
        act: KEEP[0],
        recovery: &[Step::Boot(""), KEEP[0]],
        needs_room: true,
        ..USUAL
    },
    Verb {
        name: "snapshot",
        act: Step::Admin("snapshot"),
        needs_room: true,
        new: Right {
            made: &[("3", WAS_LIVE)],
            ..STAYS
        },
        ..USUAL
    },
    Verb {
        // The image builder's: the same command again makes up for a cut.
        name: "factory-seal",
        stage: Stage::SetUp,
        act: Step::Admin("factory seal"),
        recovery: &[Step::Boot(""), Step::Admin("factory seal")],
        says: BUILT,
        needs_room: true,
        done: &[SEALED],
        new: WITH_FACTORY,
        old: WITH_FACTORY,
        ..USUAL
    },
    Verb {
        name: "request",
        act: Step::Admin("rollback"),
        says: TWO,
        new: OF_TWO,
        ..USUAL
    },
    Verb {
        // A request that is carried out: used up first, so after a cut it may be gone.
        name: "requested-rollback",
        before: &[Step::Admin("rollback")],
        says: TWO,
        or: Some((&[Step::Admin("cancel")], STAYS)),
        new: OF_TWO,
        old: OF_TWO,
        ..USUAL
    },
    Verb {
        // What it withdraws is carried out by the next start if the cut came first.
        name: "cancel",
        before: &[Step::Admin("rollback")],
        act: Step::Admin("cancel"),
        old: OF_TWO,
        ..USUAL
    },
    Verb {
        name: "try",
        stage: Stage::Good,
        act: Step::Admin("try"),
        recovery: CONFIRMED,
        ..USUAL
    },
    Verb {
        name: "mark-bad",
        stage: Stage::Good,
        before: &[ROLLBACK],
        act: Step::Admin("mark-bad"),
        recovery: CONFIRMED,
        new: FALLEN_BACK,
        // Where the disk takes no writes, the menu opens for a minute.
        may_wait: true,
        ..USUAL
    },
    Verb {
        // The start falls back by itself, and so does the one after a cut.
        name: "fall-back",
        stage: Stage::Good,
        before: &[ROLLBACK, Step::Admin("mark-bad")],
        recovery: CONFIRMED,
        new: FALLEN_BACK,
        old: FALLEN_BACK,
        // Where the disk takes no writes, the menu opens for a minute.
        may_wait: true,
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
        says: TWO,
        new: OF_TWO,
        old: OF_TWO,
        ..USUAL
    },
    Verb {
        // It gives the ballast up first, and so does a recovery.
        name: "rollback-full",
        before: &[Step::Fill],
        act: ROLLBACK,
        says: TWO,
        new: OF_TWO,
        ..USUAL
    },
    Verb {
        name: "reset-everything-full",
        before: &[Step::Fill],
        act: EVERYTHING,
        says: FACTORY,
        new: OF_FACTORY,
        ..USUAL
    },
    Verb {
        // The snapshot kept data, and a subvolume inside it.
        name: "rollback-brings-data",
        before: &[Step::Boot("backstay.reset=config,data backstay.present")],
        act: ROLLBACK,
        new: Right {
            live: SET_3_AND_DATA,
            made: &[("4", NAMES)],
            nested: &[MACHINES, (KEPT_VAULT, VAULT.1)],
            deletes: false,
            former: None,
        },
        old: Right {
            nested: &[MACHINES],
            ..STAYS
        },
        ..USUAL
    },
    Verb {
        // It withdraws a deletion; once it was tried, that does not go on by itself.
        name: "undo-everything",
        before: &[EVERYTHING],
        act: ROLLBACK,
        new: Right {
            live: SET_3_AND_DATA,
            made: &[("4", NAMES)],
            nested: &[(KEPT_MACHINES, MACHINES.1), (KEPT_VAULT, VAULT.1)],
            deletes: false,
            former: None,
        },
        old: PLAINLY,
        or: Some((&[FUTILE], PLAINLY)),
        ..USUAL
    },
    Verb {
        // Two changes by one start: the return, and what is asked.
        name: "return-and-rollback",
        before: &[SELECT],
        act: ROLLBACK,
        says: TWO,
        new: Right {
            live: SET_2,
            made: &[("3", WAS_LIVE), ("4", Paths { data: "", ..SET_3 })],
            ..STAYS
        },
        old: RETURNED,
        ..USUAL
    },
    Verb {
        name: "mark-good-delete",
        before: &[EVERYTHING, FUTILE],
        act: Step::Admin("mark-good --delete"),
        recovery: &[Step::Boot(""), Step::Admin("mark-good --delete")],
        says: FACTORY,
        new: DELETED,
        old: DELETED,
        ..USUAL
    },
    Verb {
        name: "mark-good-full",
        before: &[EVERYTHING, Step::Fill],
        act: Step::Admin("mark-good"),
        recovery: &[Step::Boot(""), Step::Admin("mark-good")],
        says: FACTORY,
        new: DELETED,
        old: DELETED,
        ..USUAL
    },
    Verb {
        // Afterwards nothing is live: the first start makes it, of the factory.
        name: "factory-seal-first-boot",
        stage: Stage::Empty,
        act: Step::Admin("factory seal --first-boot"),
        recovery: &[Step::Admin("factory seal --first-boot"), Step::Boot("")],
        done: &[SEALED, STARTED],
        says: FACTORY,
        new: SHIPPED,
        old: SHIPPED,
        without_live: true,
        may_wait: true,
        needs_room: true,
        ..USUAL
    },
    Verb {
        name: "init",
        stage: Stage::Bare,
        act: Step::Admin("init --agent /top/agent"),
        recovery: &[Step::Boot(""), Step::Admin("init --agent /top/agent")],
        says: BUILT,
        new: SET_UP,
        old: SET_UP,
        needs_room: true,
        ..USUAL
    },
    Verb {
        name: "init-repair",
        before: &[Step::GarbleState],
        act: Step::Admin("init --repair"),
        recovery: &[Step::Admin("init --repair"), Step::Boot("")],
        done: &["nothing to repair"],
        may_wait: true,
        needs_room: true,
        ..USUAL
    },
    Verb {
        name: "recovery-install",
        stage: Stage::NewAgent,
        act: Step::Admin("recovery install --agent /top/agent"),
        recovery: &[
            Step::Boot(""),
            Step::Admin("recovery install --agent /top/agent"),
        ],
        says: BUILT,
        new: PLAINLY,
        old: PLAINLY,
        needs_room: true,
        ..USUAL
    },
];

/// The deliberate bug.
pub const CONTROL: Verb = Verb {
    name: "control",
    act: Step::TwoRenames(2),
    says: TWO,
    new: OF_TWO,
    ..USUAL
};
