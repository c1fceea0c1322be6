//! What the rows say of their ends: what is live then, and where it lay before.

use super::builder::{TARBALL, TARBALL_CONFIG};
use super::right::{NAMES, Paths, Right};
use super::verbs::{LIVE, Live};

pub(super) const TWO: Live = Live {
    system: "@rootfs 2",
    config: "@config 2",
    defaults: "@backstay/defaults 2",
    data: LIVE.data,
};
pub(super) const FACTORY: Live = Live {
    system: "@rootfs factory",
    config: "@config factory",
    defaults: "@config factory",
    data: "fresh",
};

/// What an image builder made, with some data in it.
pub(super) const BUILT: Live = Live {
    data: LIVE.data,
    ..FACTORY
};

/// Nothing changes: what is live stays, and so does what lies inside.
pub(super) const STAYS: Right = Right {
    live: NAMES,
    made: &[],
    nested: &[MACHINES, VAULT],
    deletes: false,
    former: None,
};
/// The same where no subvolume lies inside another.
pub(super) const PLAINLY: Right = Right {
    nested: &[],
    ..STAYS
};
pub(super) const MACHINES: (&str, &str) = ("@rootfs/var/lib/machines", "@rootfs/var/lib/machines");
pub(super) const VAULT: (&str, &str) = ("@data/vault", "@data/vault");
/// Where these lie after a reset of what they lie in.
pub(super) const KEPT_MACHINES: &str = "@backstay/snapshots/3/system/var/lib/machines";
pub(super) const KEPT_VAULT: &str = "@backstay/data/data/3/vault";
pub(super) const TEMPLATE: &str = "@backstay/data/data/template";
/// What was live, without data, which stays.
pub(super) const WAS_LIVE: Paths = Paths { data: "", ..NAMES };
/// The paths of a snapshot's set, with what is live of data.
macro_rules! set {
    ($name:literal) => {
        Paths {
            system: concat!("@backstay/", $name, "/system"),
            config: concat!("@backstay/", $name, "/config"),
            defaults: concat!("@backstay/", $name, "/defaults"),
            data: NAMES.data,
        }
    };
}
/// Snapshots that there may be, with the data that is live.
pub(super) const SET_1: Paths = set!("snapshots/1");
pub(super) const SET_2: Paths = set!("snapshots/2");
pub(super) const SET_3: Paths = set!("snapshots/3");
const SET_4: Paths = set!("snapshots/4");
/// The same with the data that was kept.
pub(super) const SET_3_AND_DATA: Paths = Paths {
    data: "@backstay/data/data/3",
    ..SET_3
};
pub(super) const SET_4_AND_DATA: Paths = Paths {
    data: "@backstay/data/data/4",
    ..SET_4
};
pub(super) const FACTORY_SET: Paths = set!("factory");
pub(super) const OF_TWO: Right = Right {
    live: SET_2,
    made: &[("3", WAS_LIVE)],
    ..STAYS
};
/// What the default tarball has, with what is live of data.
const OF_TARBALL: Paths = Paths {
    system: TARBALL,
    config: TARBALL_CONFIG,
    defaults: TARBALL_CONFIG,
    data: NAMES.data,
};
const TARBALL_SET: Paths = Paths {
    data: "",
    ..OF_TARBALL
};
pub(super) const FROM_TARBALL: Live = Live {
    system: "@rootfs tarball",
    config: "@rootfs tarball",
    defaults: "@rootfs tarball",
    data: LIVE.data,
};
/// The factory is made from the tarball, and what it was is put aside.
pub(super) const REBUILT: Right = Right {
    made: &[("factory", TARBALL_SET)],
    former: Some("3"),
    ..STAYS
};
pub(super) const RESET_FROM_TARBALL: Right = Right {
    live: OF_TARBALL,
    made: &[("factory", TARBALL_SET), ("4", WAS_LIVE)],
    former: Some("3"),
    ..STAYS
};
pub(super) const FIRST_FROM_TARBALL: Right = Right {
    live: Paths {
        data: TEMPLATE,
        ..OF_TARBALL
    },
    made: &[("factory", TARBALL_SET)],
    ..PLAINLY
};
/// A factory's configuration is its defaults.
pub(super) const PRISTINE: Paths = Paths {
    config: "@backstay/factory/defaults",
    data: TEMPLATE,
    ..FACTORY_SET
};
pub(super) const OF_FACTORY: Right = Right {
    live: PRISTINE,
    made: &[("3", NAMES)],
    // They do not outlive a reset of everything: they stay in what it seals.
    nested: &[(MACHINES.0, KEPT_MACHINES), (VAULT.0, KEPT_VAULT)],
    ..STAYS
};

pub(super) const DELETED: Right = Right {
    deletes: true,
    ..PLAINLY
};
/// The machine fell back from a clone of 2 to what was live before it.
pub(super) const FALLEN_BACK: Right = Right {
    live: SET_3,
    made: &[("4", WAS_LIVE)],
    ..STAYS
};
/// What was booted once is sealed under the number of what was parked.
pub(super) const RETURNED: Right = Right {
    live: SET_3,
    made: &[("3", WAS_LIVE)],
    ..STAYS
};
pub(super) const FIRST: Right = Right {
    live: PRISTINE,
    ..PLAINLY
};
pub(super) const WITH_FACTORY: Right = Right {
    made: &[("factory", WAS_LIVE)],
    ..PLAINLY
};
/// The same, after the first start.
pub(super) const SHIPPED: Right = Right {
    live: Paths {
        config: NAMES.defaults,
        data: TEMPLATE,
        ..NAMES
    },
    ..WITH_FACTORY
};
/// A store is made; its defaults are the configuration as it is.
pub(super) const SET_UP: Right = Right {
    live: Paths {
        defaults: NAMES.config,
        ..NAMES
    },
    ..PLAINLY
};
