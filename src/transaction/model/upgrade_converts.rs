//! Upgrades in place whose new version does not read the data: converted in the running system or by the next boot, and the
//! old version on its own data wherever that fails, is refused, withdrawn or cut.
//!
//! The new version writes state 3, and the data is in 2.

use super::acts::Act;
use super::boot::{FAILS, convert};
use super::fence::{DATA, LIVE, booted, converter, done, now, writes};
use super::form::live;
use super::trials::good_machine;
use super::upgrade::{begun, begun_with, command, prepares, state, version};
use crate::admin::error::Result;
use crate::admin::request::no_spare;
use crate::admin::snapshot::{snapshot, snapshot_with_data};
use crate::admin::status::{Around, status};
use crate::admin::upgrade::in_place::{Convert, Ended, end};
use crate::fence::names::Version;
use crate::fence::tests::{declare, label};
use crate::policy::refusal::Refusal;
use crate::record::layout::Part;
use crate::record::state::{Prepared, Verb};
use crate::store::Store;
use crate::store::memory::{Content, Memory};
use crate::store::place::{File, Place};
use crate::transaction::Error;
use crate::transaction::plan::{Conversion, Plan};
use crate::transaction::prepared::make;
use crate::transaction::records::Records;

const SYSTEM: Place = Place::Live(Part::System);
const CLONE: Place = Place::Prepared(DATA);
const UP: &str = "/usr/bin/up";

/// A converter that does not run before boot.
fn late(command: &str) -> String {
    format!(
        "[[converter]]\nfrom = [\"2\"]\nto = \"3\"\ncommand = [\"{command}\"]\nlossless = true\n"
    )
}

fn early(command: &str) -> String {
    converter("2", "3", true, command)
}

/// The system is busy, so that the next boot is to do it.
fn cannot_hold(_: &mut Memory, _: &Records, _: &Plan) -> Result<Prepared> {
    Ok(Prepared::NONE)
}

fn upgraded(store: &mut Memory, ships: &str, with: Convert<'_, Memory>) -> Result<Ended> {
    declare(store, Version::Live, &writes("2"));
    store.sync()?;
    let begun = begun(store)?;
    ends(store, begun, ships, with)
}

fn ends(
    store: &mut Memory,
    begun: crate::admin::upgrade::in_place::Begun,
    ships: &str,
    with: Convert<'_, Memory>,
) -> Result<Ended> {
    command(store, SYSTEM, "new")?;
    declare(store, Version::Live, &(writes("3") + ships));
    store.fill(
        LIVE,
        [("came since".to_owned(), Content::File(b"text".to_vec()))].into(),
    )?;
    store.sync()?;
    let mut records = Records::open(store)?;
    end(store, &mut records, begun, &no_spare, with)
}

/// Upgraded, and to be converted at the next boot.
fn waits(ships: &str, with: Convert<'_, Memory>) -> Memory {
    let mut store = good_machine();
    let ended = upgraded(&mut store, ships, with).unwrap();
    assert!(matches!(ended, Ended::Converts(..)), "{ended:?}");
    store
}

fn early_waits(command: &str) -> Memory {
    waits(&early(command), &mut cannot_hold)
}

fn late_waits() -> Memory {
    waits(&late(UP), &mut prepares)
}

fn has_what_came_since(store: &Memory) -> bool {
    live(store)[&DATA].contains_key("came since")
}

fn is_new(store: &Memory) -> bool {
    let (version, data, converted) = now(store);
    let trial = state(store).live_trial();
    (version.as_str(), data.as_str()) == ("new", "3")
        && converted.as_deref() == Some("shop of 3")
        && trial.is_some_and(|it| !it.condemned)
}

/// On its own data, with all that came to it.
fn is_old(store: &Memory) -> bool {
    let (version, data, converted) = now(store);
    (version.as_str(), data.as_str(), converted) == ("live", "2", None)
}

/// The machine has gone back in this very boot, with nothing lost, and tells of it.
fn expect_back(store: &Memory) {
    assert!(
        is_old(store) && has_what_came_since(store),
        "{:?}",
        now(store)
    );
    let after = state(store);
    assert_eq!(after.fell_back.unwrap().to, 4);
    assert_eq!(after.request, None);
    assert!(after.live_trial().unwrap().fallback);
    assert!(!store.world().datasets.contains_key(&CLONE));
}

#[test]
fn what_is_not_early_is_converted_in_the_running_system_before_the_last_record() {
    let mut store = good_machine();
    let ended = upgraded(&mut store, &late(UP), &mut prepares).unwrap();
    let Ended::Converts(tried, prepared) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(tried.fall_back_to, Some(4));
    let request = state(&store).request.unwrap();
    assert_eq!((request.verb, request.prepared), (Verb::Convert, *prepared));
    assert!(request.ends_upgrade() && !prepared.is_none());
    // Until then no unit marks it good, and what is live is as it was.
    assert!(state(&store).live_trial().unwrap().condemned);
    assert_eq!(store.world().datasets[&LIVE].labels["state.shop"], b"2");
    let said = status(&store, Around::default()).unwrap();
    assert_eq!((said.converted.len(), said.upgrade_undone_by), (1, None));
    assert!(said.trial.as_ref().unwrap().awaits_conversion);
    assert!(
        said.to_string()
            .contains("once the next boot has its data converted"),
        "{said}"
    );
    for n in 1..=3 {
        done(&mut store, Act::Start);
        assert!(is_new(&store) && has_what_came_since(&store));
        assert_eq!(state(&store).live_trial().unwrap().begun, n);
    }
    assert!(!store.world().datasets.contains_key(&CLONE));
    // It never proves itself: back, with the data as it was right before the conversion.
    done(&mut store, Act::Start);
    assert!(is_old(&store) && has_what_came_since(&store));
}

#[test]
fn one_that_proves_itself_after_its_conversion_is_good() {
    for mut store in [late_waits(), early_waits(UP)] {
        done(&mut store, Act::Start);
        done(&mut store, Act::MarkGood);
        assert_eq!(store.read(File::Armed).unwrap(), None);
        done(&mut store, Act::Start);
        let after = state(&store);
        assert_eq!((after.good, after.trial), (Some(after.live.system), None));
        assert_eq!(now(&store).1, "3");
    }
}

#[test]
fn a_converter_that_fails_in_the_running_system_undoes_the_upgrade() {
    for (ships, take) in [
        (late(FAILS), snapshot as super::upgrade::Take),
        (late(FAILS), snapshot_with_data),
        (early(FAILS), snapshot),
    ] {
        let mut store = good_machine();
        declare(&mut store, Version::Live, &writes("2"));
        let begun = begun_with(&mut store, take).unwrap();
        let ended = ends(&mut store, begun, &ships, &mut prepares).unwrap();
        let Ended::Undone(undone) = ended else {
            panic!("{ended:?}");
        };
        assert!(undone.why.contains("exit status 1"), "{}", undone.why);
        assert_eq!((undone.back_to, undone.with_data), (Some(4), false));
        assert!(!store.world().datasets.contains_key(&CLONE));
        assert_eq!(
            status(&store, Around::default()).unwrap().upgrade_undone_by,
            Some(4)
        );
        done(&mut store, Act::Start);
        assert!(is_old(&store) && has_what_came_since(&store));
    }
}

#[test]
fn data_that_is_written_to_meanwhile_undoes_the_upgrade() {
    let mut store = good_machine();
    let mut writes = |store: &mut Memory, records: &Records, plan: &Plan| {
        let mut meanwhile = |store: &mut Memory, at: Place, it: &Conversion| {
            convert(store, at, it)?;
            let file = Content::File(b"text".to_vec());
            Ok::<_, Error>(store.fill(LIVE, [("meanwhile".to_owned(), file)].into())?)
        };
        Ok(make(store, records, plan, &mut meanwhile)?)
    };
    let ended = upgraded(&mut store, &late(UP), &mut writes).unwrap();
    assert!(matches!(ended, Ended::Undone(_)), "{ended:?}");
    done(&mut store, Act::Start);
    assert!(is_old(&store) && live(&store)[&DATA].contains_key("meanwhile"));
}

#[test]
fn nothing_is_converted_where_something_else_was_asked_for_meanwhile() {
    let mut store = good_machine();
    declare(&mut store, Version::Live, &writes("2"));
    let begun = begun(&mut store).unwrap();
    done(&mut store, Act::Cancel);
    done(&mut store, Act::Request(Verb::Rollback(Some(1))));
    let ended = ends(&mut store, begun, &late(UP), &mut prepares).unwrap();
    let Ended::Undone(undone) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(undone.back_to, None);
    assert!(!store.world().datasets.contains_key(&CLONE));
    done(&mut store, Act::Start);
    assert_eq!(version(&store), "1");
}

#[test]
fn an_early_converter_that_fails_before_boot_has_the_machine_back_in_the_same_boot() {
    let mut store = early_waits(FAILS);
    let booted = booted(&mut store, Act::Start);
    assert!(
        matches!(booted.errors[..], [Error::NotConverted { .. }]),
        "{booted:?}"
    );
    assert!(!booted.prompt);
    assert_eq!(booted.passes, 1);
    expect_back(&store);
    // What was left is kept, is not good, and the old version goes on from there.
    done(&mut store, Act::MarkGood);
    done(&mut store, Act::Start);
    assert!(is_old(&store));
}

#[test]
fn where_nothing_good_is_left_the_menu_opens_once_and_nothing_loops() {
    let mut store = early_waits(FAILS);
    // The snapshot from before it is damaged, and no other one was good.
    for id in [3, 4] {
        store.edit(|world, _| {
            let system = Place::Snapshot(id, Part::System);
            world.datasets.get_mut(&system).unwrap().dataset.read_only = false;
        });
    }
    let first = booted(&mut store, Act::Start);
    assert!(first.prompt);
    assert_eq!(
        (&first.refusals[..], first.passes),
        (&[Refusal::NothingGood][..], 1)
    );
    assert_eq!(state(&store).trial, None);
    done(&mut store, Act::Start);
}

#[test]
fn converted_data_that_is_out_of_date_has_the_machine_back_in_the_same_boot() {
    for act in [Act::Start, Act::Unconfirmed(Verb::Rollback(Some(1)))] {
        let mut store = late_waits();
        let file = Content::File(b"text".to_vec());
        store
            .fill(LIVE, [("later".to_owned(), file)].into())
            .unwrap();
        store.sync().unwrap();
        assert!(status(&store, Around::default()).unwrap().outdated);
        let booted = booted(&mut store, act);
        assert!(booted.refusals.contains(&Refusal::Outdated), "{booted:?}");
        assert_eq!(booted.passes, 1);
        expect_back(&store);
        assert!(live(&store)[&DATA].contains_key("later"));
    }
}

#[test]
fn what_a_person_asks_for_in_vain_at_that_boot_does_not_start_the_new_version_as_it_is() {
    for (mut store, fails) in [(early_waits(UP), false), (early_waits(FAILS), true)] {
        let booted = booted(&mut store, Act::Present(Verb::Rollback(Some(77))));
        assert!(!booted.refusals.is_empty());
        match fails {
            true => expect_back(&store),
            false => assert!(is_new(&store)),
        }
    }
}

#[test]
fn data_that_the_new_version_reads_by_then_ends_the_upgrade_all_the_same() {
    let mut store = early_waits(UP);
    label(&mut store, LIVE, "3");
    let booted = booted(&mut store, Act::Start);
    assert_eq!(
        (&booted.refusals[..], booted.passes),
        (&[Refusal::NothingToConvert][..], 0)
    );
    assert_eq!(version(&store), "new");
    let trial = state(&store).live_trial().unwrap();
    assert_eq!((trial.condemned, trial.begun), (false, 1));
}

#[test]
fn one_whose_conversion_is_withdrawn_is_left_at_the_next_start() {
    for mut store in [late_waits(), early_waits(UP)] {
        done(&mut store, Act::Cancel);
        done(&mut store, Act::Start);
        expect_back(&store);
    }
}

#[test]
fn wherever_the_power_goes_it_is_the_old_version_on_its_data_or_the_new_one_on_converted_data() {
    for (ships, with) in [
        (late(UP), &mut prepares as Convert<'_, Memory>),
        (late(FAILS), &mut prepares),
        (early(UP), &mut cannot_hold),
    ] {
        for power in 0.. {
            let mut store = good_machine();
            declare(&mut store, Version::Live, &writes("2"));
            store.power = Some(power);
            let whole =
                begun(&mut store).and_then(|begun| ends(&mut store, begun, &ships, &mut *with));
            for mut left in store.after_power_cut() {
                booted(&mut left, Act::Start);
                assert!(
                    is_old(&left) || is_new(&left),
                    "cut at {power}: {:?}",
                    now(&left)
                );
                let trial = state(&left).live_trial();
                assert!(trial.is_none_or(|it| !it.condemned), "cut at {power}");
                assert!(
                    !left.world().datasets.contains_key(&CLONE),
                    "cut at {power}"
                );
            }
            if whole.is_ok() {
                assert!(power > 15);
                break;
            }
        }
    }
}

#[test]
fn wherever_the_power_goes_in_the_boot_that_converts_no_version_starts_on_data_that_it_does_not_read()
 {
    for before in [late_waits(), early_waits(UP), early_waits(FAILS)] {
        for power in 0.. {
            let mut store = before.clone();
            store.power = Some(power);
            booted(&mut store, Act::Start);
            let cuts = store.after_power_cut();
            let whole = store.power.is_some_and(|left| left > 0);
            for mut left in cuts {
                // Cut once more, or not.
                for _ in 0..2 {
                    let booted = booted(&mut left, Act::Start);
                    assert!(
                        !booted.prompt && !booted.mixed,
                        "cut at {power}: {booted:?}"
                    );
                    assert!(
                        is_old(&left) || is_new(&left),
                        "cut at {power}: {:?}",
                        now(&left)
                    );
                }
                assert!(has_what_came_since(&left));
            }
            if whole {
                assert!(power > 10);
                break;
            }
        }
    }
}
