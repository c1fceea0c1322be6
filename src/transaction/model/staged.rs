//! Upgrades of a clone: sealed whole, or gone, wherever they are cut; what is live stays.

use super::acts::Act;
use super::fence::{booted, converter, done, its, writes};
use super::form::live;
use super::trials::good_machine;
use super::upgrade::{command, state, version};
use crate::admin::error::{Error, Result};
use crate::admin::request::settle;
use crate::admin::status::{Around, status};
use crate::admin::upgrade::ready;
use crate::admin::upgrade::staged::{FORBIDS, Forward, POLICY, forward, stage};
use crate::policy::Health;
use crate::record::journal::Journal;
use crate::record::layout::Part;
use crate::record::manifest::Origin;
use crate::record::state::{Consent, Verb};
use crate::store::memory::{Content, Memory, Tree};
use crate::store::place::{File, Place, Set};
use crate::store::{Result as StoreResult, Store};
use crate::transaction;
use crate::transaction::catalogue::health;
use crate::transaction::records::Records;

fn staged(store: &mut Memory, made: &dyn Fn(&mut Memory, Place) -> StoreResult<()>) -> Result<u32> {
    let mut records = Records::open(store)?;
    ready(store, &records, 1)?;
    let mut fill = |store: &mut Memory, place| Ok(made(store, place)?);
    stage(store, &mut records, None, 1, &mut fill, &mut |_| {})
}

fn new(store: &mut Memory, place: Place) -> StoreResult<()> {
    command(store, place, "new")
}

#[test]
fn what_is_staged_is_a_snapshot_of_its_own_and_comes_next() {
    let mut store = good_machine();
    let before = live(&store);
    let id = staged(&mut store, &new).unwrap();
    assert_eq!(live(&store), before);
    assert_eq!(health(&store, Set::Snapshot(id)).unwrap(), Health::Sound);
    let manifest = its(&store, id);
    assert_eq!((manifest.origin, manifest.good), (Origin::Upgraded, false));
    assert!(manifest.title.contains("upgraded"), "{}", manifest.title);
    let after = state(&store);
    assert_eq!(
        (after.older.as_slice(), after.newer.as_slice()),
        (&[1, 2, 3][..], &[id][..])
    );
    assert_eq!(after.good, Some(after.live.system));
    assert_eq!(store.read(File::Armed).unwrap(), None);
    let said = status(&store, Around::default()).unwrap().to_string();
    assert!(said.contains("upgrade of a clone"), "{said}");
    assert_eq!(
        forward(&store, &after, 1).unwrap(),
        Forward::Goes(Consent::Refuse)
    );
    // It is tried once.
    let mut once = store.clone();
    done(&mut once, Act::Present(Verb::Select(id)));
    assert_eq!(version(&once), "new");
    done(&mut once, Act::Start);
    assert_eq!(version(&once), "live");
    // It is gone to, and left by itself if it is not marked good.
    done(&mut store, Act::Request(Verb::Forward));
    for _ in 0..3 {
        done(&mut store, Act::Start);
        assert_eq!(version(&store), "new");
    }
    done(&mut store, Act::Start);
    assert_eq!(version(&store), "live");
    assert_eq!(state(&store).failed, [id]);
}

#[test]
fn one_that_fails_leaves_nothing() {
    let mut store = good_machine();
    let before = (store.world().datasets.clone(), state(&store));
    let fails = |store: &mut Memory, place| {
        command(store, place, "new")?;
        Err(crate::store::StoreError::System("exit status 100".into()))
    };
    let unmarked = |store: &mut Memory, place| {
        command(store, place, "new")?;
        store.edit(|world, _| {
            let system = world.datasets.get_mut(&place).unwrap();
            system.tree.remove("usr/lib/backstay/layout.toml");
        });
        Ok(())
    };
    let unbootable = |store: &mut Memory, place| {
        store.edit(|world, _| {
            world
                .datasets
                .get_mut(&place)
                .unwrap()
                .tree
                .remove("sbin/init")
        });
        Ok(())
    };
    let forbidding = |store: &mut Memory, place| {
        let directory = |path: &str| (path.to_owned(), Content::Directory);
        let policy = (POLICY.to_owned(), Content::File(FORBIDS.into()));
        store.fill(
            place,
            [directory("usr"), directory("usr/sbin"), policy].into(),
        )
    };
    for (made, says) in [
        (
            &fails as &dyn Fn(&mut Memory, Place) -> StoreResult<()>,
            "exit status 100",
        ),
        (&unmarked, "never be marked good"),
        (&unbootable, "no init"),
        (&forbidding, "forbids services"),
    ] {
        let error = staged(&mut store, made).unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
        assert_eq!((store.world().datasets.clone(), state(&store)), before);
        assert_eq!(
            Records::open(&store).unwrap().journal.value,
            Journal::Closed
        );
        assert_eq!(store.read(File::Armed).unwrap(), None);
    }
}

#[test]
fn wherever_the_power_goes_what_is_staged_is_whole_or_gone_and_what_is_live_stays() {
    for by_command in [true, false] {
        for power in 0.. {
            let mut store = good_machine();
            let before = live(&store);
            store.power = Some(power);
            let whole = staged(&mut store, &new).is_ok();
            for mut left in store.after_power_cut() {
                match by_command {
                    true => {
                        let mut records = Records::open(&left).unwrap();
                        settle(&mut left, &mut records).unwrap();
                    }
                    false => {
                        booted(&mut left, Act::Start);
                    }
                }
                assert_eq!(live(&left), before, "cut at {power}");
                let after = state(&left);
                match after.newer.first() {
                    Some(id) => {
                        let health = health(&left, Set::Snapshot(*id)).unwrap();
                        assert_eq!(health, Health::Sound, "cut at {power}");
                        assert_eq!(its(&left, *id).origin, Origin::Upgraded);
                    }
                    None => {
                        assert!(!whole);
                        let place = Place::Snapshot(after.next_id, Part::System);
                        assert_eq!(left.dataset(place).unwrap(), None, "cut at {power}");
                    }
                }
                assert_eq!(left.read(File::Armed).unwrap(), None, "cut at {power}");
                assert_eq!(after.good, Some(after.live.system));
            }
            if whole {
                assert!(power > 12);
                break;
            }
        }
    }
}

#[test]
fn what_is_staged_is_asked_for_only_where_nothing_is_lost() {
    let declares = |text: String| {
        move |store: &mut Memory, place: Place| {
            command(store, place, "new")?;
            let directories = [
                "usr",
                "usr/lib",
                "usr/lib/backstay",
                "usr/lib/backstay/apps.d",
            ];
            let mut tree: Tree = directories
                .map(|path| (path.to_owned(), Content::Directory))
                .into();
            let file = Content::File(text.clone().into_bytes());
            tree.insert("usr/lib/backstay/apps.d/shop.toml".to_owned(), file);
            store.fill(place, tree)
        }
    };
    for (more, wanted) in [
        (
            converter("2", "3", true, "/usr/bin/up"),
            Some(Consent::Convert),
        ),
        (
            converter("2", "3", true, "/usr/bin/up").replace("early = true\n", ""),
            Some(Consent::Convert),
        ),
        (converter("2", "3", false, "/usr/bin/up"), None),
        ("reads = [\"2\"]\n".to_owned(), Some(Consent::Refuse)),
        (String::new(), None),
    ] {
        let mut store = good_machine();
        staged(&mut store, &declares(writes("3") + &more)).unwrap();
        match (forward(&store, &state(&store), 1).unwrap(), wanted) {
            (Forward::Goes(consent), Some(wanted)) => {
                assert_eq!(consent, wanted);
                done(&mut store, Act::Prepare(Verb::Forward, consent));
                done(&mut store, Act::Start);
                assert_eq!(version(&store), "new");
            }
            (Forward::Refused(lines), None) => {
                assert!(lines.iter().any(|it| it.contains("shop")), "{lines:?}");
            }
            other => panic!("{more}: {other:?}"),
        }
    }
}

#[test]
fn a_second_one_comes_before_the_first() {
    let mut store = good_machine();
    let first = staged(&mut store, &new).unwrap();
    let second = staged(&mut store, &|store, place| command(store, place, "newer")).unwrap();
    assert_eq!(state(&store).newer.as_slice(), [second, first]);
    done(&mut store, Act::Request(Verb::Forward));
    done(&mut store, Act::Start);
    assert_eq!(version(&store), "newer");
}

#[test]
fn an_error_of_the_engine_is_told_apart_from_one_of_the_command() {
    let mut store = good_machine();
    let mut records = Records::open(&store).unwrap();
    let mut fill =
        |_: &mut Memory, _| Err(transaction::Error::NotUpgraded("exit status 100".into()));
    let error = stage(&mut store, &mut records, None, 1, &mut fill, &mut |_| {}).unwrap_err();
    assert!(matches!(
        error,
        Error::Transaction(transaction::Error::NotUpgraded(_))
    ));
}
