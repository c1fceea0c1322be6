//! The verbs that convert data, or bring back what was kept before a conversion, whose power is cut: rows as in rows.rs.
//!
//! Whatever instant the power goes, data and system belong together: the old system with the old data, or the new one with
//! all of what the converter made, each with the label that fits. What is kept aside is whole. Both are in what every
//! row says: of the data by its files and its label, of what is kept by the paths where it lay.

use super::act::Stage;
use super::converter::{CONVERTED, CONVERTED_BACK};
use super::ends::{
    KEPT_VAULT, MACHINES, SET_2, SET_3, SET_3_AND_DATA, SET_4_AND_DATA, STAYS, TWO, VAULT, WAS_LIVE,
};
use super::right::{NAMES, Paths, Right};
use super::rows::{CONFIRMED, USUAL};
use super::verbs::{LIVE, Live, Step, Verb};

const CONVERT: Step =
    Step::Boot("backstay.rollback=previous backstay.fence=convert backstay.present");
const RESTORE: Step = Step::Boot("backstay.forward backstay.fence=restore backstay.present");
const REQUEST: Step = Step::Admin("rollback --fence convert");
const BAD: Step = Step::Admin("mark-bad");

const IN_3: Live = Live {
    data: "@data live, books in state 3, labelled 3",
    ..LIVE
};
const IN_2: Live = Live {
    data: "@data live, books in state 2, labelled 2",
    ..TWO
};

/// Where what lies in the data is kept with it, by the number of the set.
const KEPT_VAULT_4: &str = "@backstay/data/data/4/vault";
const KEPT_VAULT_5: &str = "@backstay/data/data/5/vault";

/// The live data is converted on the way to 2. What lies in it is cloned, and stays with the data as it was.
const TO_2: Right = Right {
    live: Paths {
        data: CONVERTED,
        ..SET_2
    },
    made: &[("3", NAMES)],
    nested: &[MACHINES, VAULT, (VAULT.0, KEPT_VAULT)],
    ..STAYS
};

/// What was converted is converted back, and is kept in its turn.
const BACK_BY_CONVERSION: Right = Right {
    live: Paths {
        data: CONVERTED_BACK,
        ..SET_3
    },
    made: &[("4", NAMES)],
    nested: &[MACHINES, VAULT, (VAULT.0, KEPT_VAULT_4)],
    ..STAYS
};

/// The data comes back as it was before the conversion.
const BACK_AS_IT_WAS: Right = Right {
    live: SET_3_AND_DATA,
    made: &[("4", NAMES)],
    nested: &[MACHINES, (VAULT.0, KEPT_VAULT_4), (KEPT_VAULT, VAULT.1)],
    ..STAYS
};

const BOOKS: Verb = Verb {
    stage: Stage::Books,
    says: IN_3,
    ..USUAL
};

/// All of them.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "rollback-converts",
        act: CONVERT,
        says: IN_2,
        new: TO_2,
        needs_room: true,
        ..BOOKS
    },
    Verb {
        name: "requested-conversion",
        before: &[REQUEST],
        says: IN_2,
        new: TO_2,
        old: TO_2,
        // It is used up first, so after a cut it may be gone.
        or: Some((&[Step::Admin("cancel")], STAYS)),
        needs_room: true,
        ..BOOKS
    },
    Verb {
        // It finds the data aside, and leaves it there.
        name: "forward-converts",
        before: &[CONVERT],
        act: Step::Boot("backstay.forward backstay.fence=convert backstay.present"),
        new: BACK_BY_CONVERSION,
        needs_room: true,
        ..BOOKS
    },
    Verb {
        // It finds the data aside, and returns to it.
        name: "forward-restores",
        before: &[CONVERT],
        act: RESTORE,
        new: BACK_AS_IT_WAS,
        ..BOOKS
    },
    Verb {
        name: "rollback-restores",
        before: &[CONVERT, RESTORE],
        act: Step::Boot("backstay.rollback=previous backstay.fence=restore backstay.present"),
        says: IN_2,
        new: Right {
            live: SET_4_AND_DATA,
            made: &[("5", NAMES)],
            nested: &[MACHINES, (VAULT.0, KEPT_VAULT_5), (KEPT_VAULT_4, VAULT.1)],
            ..STAYS
        },
        ..BOOKS
    },
    Verb {
        // What was never good gives the data back that it began without.
        name: "fall-back-restores",
        stage: Stage::GoodBooks,
        before: &[CONVERT, BAD],
        recovery: CONFIRMED,
        new: BACK_AS_IT_WAS,
        old: BACK_AS_IT_WAS,
        // Where the disk takes no writes, the menu opens for a minute.
        may_wait: true,
        ..BOOKS
    },
    Verb {
        // What was good for a while does not, and the machine converts by itself what loses nothing. It cannot tell a power
        // cut in the converter from a converter that takes it down, so after one it asks, and goes on with what is live.
        name: "fall-back-converts",
        stage: Stage::GoodBooks,
        before: &[CONVERT, Step::Admin("mark-good"), Step::Admin("try"), BAD],
        recovery: CONFIRMED,
        new: BACK_BY_CONVERSION,
        old: BACK_BY_CONVERSION,
        or: Some((&[Step::Tried(3)], STAYS)),
        may_wait: true,
        may_ask: true,
        not_when_full: true,
        ..BOOKS
    },
];

/// A deliberate bug: the live data itself is converted, before the commit.
pub const IN_PLACE: Verb = Verb {
    name: "control-in-place",
    act: Step::InPlace(2),
    says: IN_2,
    new: Right {
        live: Paths {
            data: CONVERTED,
            ..SET_2
        },
        made: &[("3", WAS_LIVE)],
        ..STAYS
    },
    needs_room: true,
    not_when_full: true,
    ..BOOKS
};

/// Another: what is live is labelled before the commit, as what is not live yet.
pub const LABELLED_FIRST: Verb = Verb {
    name: "control-labelled-first",
    act: Step::LabelledFirst(2),
    says: IN_2,
    new: TO_2,
    needs_room: true,
    not_when_full: true,
    ..BOOKS
};
