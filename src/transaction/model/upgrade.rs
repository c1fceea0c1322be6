//! Upgrades in place: whole, or undone as a whole, wherever they are cut.

use super::acts::Act;
use super::boot::convert;
use super::fence::{booted, converter, done, its, now, writes};
use super::form::live;
use super::trials::good_machine;
use crate::admin::error::{Error, Result};
use crate::admin::request::no_spare;
use crate::admin::snapshot::{snapshot, snapshot_with_data};
use crate::admin::status::{Around, status};
use crate::admin::upgrade::in_place::{Begun, Ended, begin, end, failed, unchanged};
use crate::admin::upgrade::{ready, ticket};
use crate::fence::names::Version;
use crate::fence::tests::{declare, label};
use crate::policy::refusal::Refusal;
use crate::record::layout::Part;
use crate::record::manifest::Origin;
use crate::record::state::{Consent, Prepared, State, Verb};
use crate::store::memory::{Content, Memory, Tree};
use crate::store::place::{File, Place};
use crate::store::{Result as StoreResult, Store};
use crate::transaction::plan::{Plan, Step};
use crate::transaction::prepared::make;
use crate::transaction::records::Records;

const SYSTEM: Place = Place::Live(Part::System);
const DATA: Place = Place::Live(Part::Data(0));

/// Two files, of which a cut may leave the first one alone.
pub(super) fn command(store: &mut Memory, at: Place, version: &str) -> StoreResult<()> {
    let file = || Content::File(version.as_bytes().to_vec());
    let names = ["etc/release", "etc/version"];
    let tree: Tree = names.map(|name| (name.to_owned(), file())).into();
    store.fill(at, tree)
}

pub(super) fn state(store: &Memory) -> State {
    Records::open(store).unwrap().state.value.clone()
}

/// What the live system calls itself; half upgraded it has another release than version.
pub(super) fn version(store: &Memory) -> String {
    let tree = &live(store)[&Part::System];
    let text = |name: &str| match tree.get(name) {
        Some(Content::File(text)) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    };
    let version = text("etc/version").unwrap();
    match text("etc/release") {
        Some(release) if release != version => "half".to_owned(),
        _ => version,
    }
}

pub(super) fn begun(store: &mut Memory) -> Result<Begun> {
    begun_with(store, snapshot)
}

pub(super) type Take =
    fn(&mut Memory, &mut Records, &str, u64, &mut dyn FnMut(&Step)) -> Result<u32>;

pub(super) fn begun_with(store: &mut Memory, take: Take) -> Result<Begun> {
    let mut records = Records::open(store)?;
    ready(store, &records, 1)?;
    let before = take(store, &mut records, "before upgrade", 1, &mut |_| {})?;
    let begun = Begun {
        before,
        ticket: ticket([7; 16]),
        now: 1,
    };
    begin(store, &mut records, begun, &no_spare)?;
    Ok(begun)
}

fn ended(store: &mut Memory, begun: Begun, succeeds: bool) -> Result<Ended> {
    let mut records = Records::open(store)?;
    if !succeeds {
        return failed(store, &mut records, begun, "exit status 100", &no_spare).map(Ended::Undone);
    }
    store.sync()?;
    end(store, &mut records, begun, &no_spare, &mut prepares)
}

/// As `backstay upgrade` does it.
pub(super) fn prepares(store: &mut Memory, records: &Records, plan: &Plan) -> Result<Prepared> {
    Ok(make(store, records, plan, &mut convert)?)
}

fn in_place(store: &mut Memory, succeeds: bool) -> Result<Ended> {
    let begun = begun(store)?;
    command(store, SYSTEM, "new")?;
    ended(store, begun, succeeds)
}

#[test]
fn an_upgrade_that_succeeds_is_on_trial_and_falls_back_to_the_snapshot_before_it() {
    let mut store = good_machine();
    let Ended::OnTrial(tried) = in_place(&mut store, true).unwrap() else {
        panic!("it needs nothing");
    };
    assert_eq!(tried.fall_back_to, Some(4));
    let after = state(&store);
    assert_eq!((after.request, after.good), (None, None));
    assert!(!after.live_trial().unwrap().condemned);
    for _ in 0..3 {
        done(&mut store, Act::Start);
        assert_eq!(version(&store), "new");
    }
    done(&mut store, Act::Start);
    assert_eq!(version(&store), "live");
    assert_eq!(state(&store).fell_back.unwrap().to, 4);
}

#[test]
fn one_that_proves_itself_is_good() {
    let mut store = good_machine();
    in_place(&mut store, true).unwrap();
    done(&mut store, Act::Start);
    done(&mut store, Act::MarkGood);
    let after = state(&store);
    assert_eq!((after.good, after.trial), (Some(after.live.system), None));
    assert_eq!(store.read(File::Armed).unwrap(), None);
    assert_eq!(version(&store), "new");
}

#[test]
fn one_that_fails_is_undone_by_the_next_start_and_is_nothing_to_fall_back_to() {
    let mut store = good_machine();
    let Ended::Undone(undone) = in_place(&mut store, false).unwrap() else {
        panic!("it failed");
    };
    assert_eq!((undone.back_to, undone.with_data), (Some(4), false));
    assert!(undone.refused.is_empty());
    let said = status(&store, Around::default()).unwrap();
    assert_eq!(said.upgrade_undone_by, Some(4));
    assert!(said.to_string().contains("FAILED"), "{said}");
    let refused = ready(&store, &Records::open(&store).unwrap(), 1);
    assert!(matches!(refused, Err(Error::UpgradeUnfinished(4))));
    done(&mut store, Act::Start);
    assert_eq!(version(&store), "live");
    // The half upgraded system is kept, and the machine never falls back to it.
    let kept = its(&store, 5);
    assert!(!kept.good && kept.origin == Origin::Replaced);
    done(&mut store, Act::MarkGood);
    assert_eq!(
        status(&store, Around::default()).unwrap().upgrade_undone_by,
        None
    );
}

#[test]
fn one_that_fails_before_it_has_changed_anything_leaves_what_is_live_good() {
    for power in 0.. {
        let mut store = good_machine();
        let before = state(&store);
        let begun = begun(&mut store).unwrap();
        let mut records = Records::open(&store).unwrap();
        store.power = Some(power);
        let whole = unchanged(&mut store, &mut records, begun).is_ok();
        for mut left in store.after_power_cut() {
            if whole {
                let after = state(&left);
                assert_eq!((after.good, after.trial), (before.good, None));
                assert_eq!(after.request, None);
                assert_eq!(left.read(File::Armed).unwrap(), None);
                assert!(ready(&left, &Records::open(&left).unwrap(), 1).is_ok());
            }
            done(&mut left, Act::Start);
            assert_eq!(version(&left), "live", "cut at {power}");
        }
        if whole {
            assert!(power > 0);
            break;
        }
    }
}

#[test]
fn wherever_the_power_goes_the_next_start_is_the_old_system_or_the_new_one() {
    for succeeds in [true, false] {
        for power in 0.. {
            let mut store = good_machine();
            store.power = Some(power);
            let whole = in_place(&mut store, succeeds).is_ok();
            for mut left in store.after_power_cut() {
                booted(&mut left, Act::Start);
                let version = version(&left);
                match (whole, succeeds) {
                    (true, true) => assert_eq!(version, "new"),
                    (true, false) => assert_eq!(version, "live"),
                    (false, _) => assert!(
                        version == "live" || (version == "new" && succeeds),
                        "{version}, cut at {power}"
                    ),
                }
                // What is new is on trial, and what is old is good or was promoted anew.
                let after = state(&left);
                let trial = after.live_trial();
                assert!(trial.is_none_or(|it| !it.condemned), "cut at {power}");
                assert!(version == "live" || trial.is_some(), "cut at {power}");
            }
            if whole {
                assert!(power > 15);
                break;
            }
        }
    }
}

#[test]
fn a_script_that_restarts_the_machine_has_the_upgrade_undone() {
    let mut store = good_machine();
    begun(&mut store).unwrap();
    command(&mut store, SYSTEM, "new").unwrap();
    done(&mut store, Act::Start);
    assert_eq!(version(&store), "live");
}

#[test]
fn what_somebody_takes_back_meanwhile_is_made_good() {
    for acts in [
        &[Act::Cancel][..],
        &[Act::MarkGood],
        &[Act::Cancel, Act::MarkGood],
    ] {
        let mut store = good_machine();
        let begun = begun(&mut store).unwrap();
        command(&mut store, SYSTEM, "new").unwrap();
        for act in acts {
            done(&mut store, *act);
        }
        let mut left = store.clone();
        ended(&mut store, begun, false).unwrap();
        done(&mut store, Act::Start);
        assert_eq!(version(&store), "live", "{acts:?}");
        // Should the command never end: one of the two was enough.
        if acts.len() == 1 {
            done(&mut left, Act::Start);
            assert_eq!(version(&left), "live", "{acts:?}");
        }
    }
}

#[test]
fn what_somebody_asks_for_meanwhile_is_not_lost() {
    for succeeds in [true, false] {
        let mut store = good_machine();
        let begun = begun(&mut store).unwrap();
        done(&mut store, Act::Cancel);
        done(&mut store, Act::Request(Verb::Rollback(Some(1))));
        match ended(&mut store, begun, succeeds).unwrap() {
            Ended::Undone(undone) => assert_eq!(undone.back_to, None),
            other => assert!(succeeds, "{other:?}"),
        }
        assert_eq!(state(&store).request.unwrap().verb, Verb::Rollback(Some(1)));
        done(&mut store, Act::Start);
        assert_eq!(version(&store), "1");
    }
}

#[test]
fn what_could_not_be_undone_or_proved_is_not_upgraded() {
    let refused = |change: &dyn Fn(&mut Memory)| {
        let mut store = good_machine();
        change(&mut store);
        let records = Records::open(&store).unwrap();
        let error = ready(&store, &records, 1).unwrap_err();
        // It would have been refused before anything was written.
        assert!(begun(&mut store).is_err());
        error.to_string()
    };
    let act = |act: Act| move |store: &mut Memory| done(store, act);
    let forgotten = |store: &mut Memory| {
        let mut records = Records::open(store).unwrap();
        let mut state = records.state.value.clone();
        state.good = None;
        records.state.write(store, state).unwrap();
    };
    let converting = |store: &mut Memory| {
        store.edit(|world, _| {
            let labels = &mut world.datasets.get_mut(&DATA).unwrap().labels;
            labels.insert("converting.shop".into(), b"2 3".to_vec());
        });
    };
    let unread = |store: &mut Memory| declare(store, Version::Live, &writes("7"));
    let unmarked = |store: &mut Memory| {
        store.edit(|world, _| {
            let system = world.datasets.get_mut(&SYSTEM).unwrap();
            system.tree.remove("usr/lib/backstay/layout.toml");
        });
    };
    for (change, says) in [
        (
            &act(Act::Request(Verb::Rollback(None))) as &dyn Fn(&mut Memory),
            "backstay cancel",
        ),
        (&act(Act::Present(Verb::Select(1))), "reboot first"),
        (&act(Act::Present(Verb::Rollback(Some(1)))), "on trial"),
        (&forgotten, "backstay mark-good"),
        (&converting, "backstay state"),
        (&unread, "backstay fence explain live"),
        (&unmarked, "backstay doctor"),
    ] {
        let said = refused(change);
        assert!(said.contains(says), "{says}: {said}");
    }
}

/// The new version writes state 3, and the data is in 2.
fn upgraded_to(more: &str) -> (Memory, Result<Ended>) {
    let mut store = good_machine();
    declare(&mut store, Version::Live, &writes("2"));
    let begun = begun(&mut store).unwrap();
    command(&mut store, SYSTEM, "new").unwrap();
    declare(&mut store, Version::Live, &(writes("3") + more));
    let ended = ended(&mut store, begun, true);
    (store, ended)
}

#[test]
fn data_that_the_new_version_does_not_read_is_converted_at_the_next_start() {
    let (mut store, ended) = upgraded_to(&converter("2", "3", true, "/usr/bin/up"));
    assert!(matches!(ended, Ok(Ended::Converts(..))), "{ended:?}");
    let request = state(&store).request.unwrap();
    assert_eq!(
        (request.verb, request.consent),
        (Verb::Convert, Consent::Refuse)
    );
    done(&mut store, Act::Start);
    let (version, data, converted) = now(&store);
    assert_eq!((version.as_str(), data.as_str()), ("new", "3"));
    assert_eq!(converted.as_deref(), Some("shop of 3"));
    assert!(
        state(&store)
            .live_trial()
            .is_some_and(|trial| trial.begun == 1)
    );
}

#[test]
fn a_new_version_that_needs_a_loss_is_undone() {
    for more in [String::new(), converter("2", "3", false, "/usr/bin/up")] {
        let (mut store, ended) = upgraded_to(&more);
        let Ok(Ended::Undone(undone)) = ended else {
            panic!("{ended:?}");
        };
        assert!(undone.why.contains("state 2"), "{}", undone.why);
        assert_eq!((undone.back_to, undone.with_data), (Some(4), false));
        done(&mut store, Act::Start);
        assert_eq!(version(&store), "live");
        assert_eq!(now(&store).1, "2");
    }
}

#[test]
fn a_new_version_that_could_not_boot_is_undone() {
    let mut store = good_machine();
    let begun = begun(&mut store).unwrap();
    store.edit(|world, _| {
        let system = world.datasets.get_mut(&SYSTEM).unwrap();
        system.tree.remove("boot/initrd.img");
    });
    let Ended::Undone(undone) = ended(&mut store, begun, true).unwrap() else {
        panic!("it has no initramfs");
    };
    assert!(undone.why.contains("initramfs"), "{}", undone.why);
    done(&mut store, Act::Start);
    assert_eq!(version(&store), "live");
}

/// A package's script has converted the data, and the upgrade failed afterwards. The version before has a way back, or not.
fn failed_after_conversion(down: Option<bool>) -> (Memory, Ended) {
    let mut store = good_machine();
    for version in [Version::Live, Version::Snapshot(3)] {
        declare(&mut store, version, &writes("2"));
    }
    let begun = begun(&mut store).unwrap();
    command(&mut store, SYSTEM, "new").unwrap();
    let down = down.map(|lossless| converter("3", "2", lossless, "/usr/bin/down"));
    declare(
        &mut store,
        Version::Live,
        &(writes("3") + &down.unwrap_or_default()),
    );
    label(&mut store, DATA, "3");
    let ended = ended(&mut store, begun, false).unwrap();
    (store, ended)
}

#[test]
fn data_that_was_converted_before_the_failure_is_converted_back_if_nothing_is_lost() {
    let (mut store, _) = failed_after_conversion(Some(true));
    assert_eq!(state(&store).request.unwrap().consent, Consent::Convert);
    done(&mut store, Act::Start);
    let (version, data, converted) = now(&store);
    assert_eq!((version.as_str(), data.as_str()), ("live", "2"));
    assert_eq!(converted.as_deref(), Some("shop of 2"));
}

#[test]
fn where_no_way_back_is_without_a_loss_that_is_said_and_nothing_is_marked_good() {
    for down in [None, Some(false)] {
        let (mut store, ended) = failed_after_conversion(down);
        let Ended::Undone(undone) = ended else {
            panic!("it failed");
        };
        assert!(!undone.refused.is_empty());
        assert_eq!(state(&store).request.unwrap().consent, Consent::Refuse);
        let refusals = booted(&mut store, Act::Start).refusals;
        assert!(
            matches!(refusals[..], [Refusal::Fenced(..)]),
            "{refusals:?}"
        );
        assert!(state(&store).live_trial().unwrap().condemned);
        // Snapshots 3 and 4 were good, and do not read it either.
        let next = booted(&mut store, Act::Start);
        assert!(next.prompt);
        assert_eq!(next.refusals, [Refusal::NothingGood]);
    }
}

/// The data is kept with the snapshot. Something comes to it after that, and the upgrade leaves it in this state.
fn with_data(data: &str, declares: &str, succeeds: bool) -> (Memory, Ended) {
    let mut store = good_machine();
    declare(&mut store, Version::Live, &writes("2"));
    let begun = begun_with(&mut store, snapshot_with_data).unwrap();
    command(&mut store, SYSTEM, "new").unwrap();
    declare(&mut store, Version::Live, declares);
    store.edit(|world, _| {
        let data = world.datasets.get_mut(&DATA).unwrap();
        let file = Content::File(b"text".to_vec());
        data.tree.insert("came since".to_owned(), file);
    });
    label(&mut store, DATA, data);
    let ended = ended(&mut store, begun, succeeds).unwrap();
    (store, ended)
}

fn has_what_came_since(store: &Memory) -> bool {
    live(store)[&Part::Data(0)].contains_key("came since")
}

#[test]
fn data_that_is_kept_goes_back_only_where_it_has_to() {
    for (data, goes_back) in [("2", false), ("3", true)] {
        let (mut store, ended) = with_data(data, &writes("3"), false);
        let Ended::Undone(undone) = ended else {
            panic!("it failed");
        };
        assert_eq!((undone.back_to, undone.with_data), (Some(4), goes_back));
        assert!(undone.refused.is_empty(), "{undone:?}");
        done(&mut store, Act::Start);
        let (version, state, _) = now(&store);
        assert_eq!((version.as_str(), state.as_str()), ("live", "2"));
        assert_eq!(has_what_came_since(&store), !goes_back);
        // What came since lies with what was left.
        let kept = &store
            .world()
            .datasets
            .get(&Place::Snapshot(5, Part::Data(0)));
        assert_eq!(
            kept.is_some_and(|it| it.tree.contains_key("came since")),
            goes_back
        );
    }
}

#[test]
fn the_power_may_go_after_the_data_was_converted() {
    let mut store = good_machine();
    declare(&mut store, Version::Live, &writes("2"));
    begun_with(&mut store, snapshot_with_data).unwrap();
    command(&mut store, SYSTEM, "new").unwrap();
    label(&mut store, DATA, "3");
    done(&mut store, Act::Start);
    let (version, state, _) = now(&store);
    assert_eq!((version.as_str(), state.as_str()), ("live", "2"));
}

#[test]
fn a_new_version_that_is_never_marked_good_is_left_with_its_data() {
    let up = writes("3") + &converter("2", "3", true, "/usr/bin/up");
    // Converted by a script, or by backstay at the next start.
    for (data, converts) in [("3", false), ("2", true)] {
        let (mut store, ended) = with_data(data, &up, true);
        assert_eq!(matches!(ended, Ended::Converts(..)), converts);
        for _ in 0..3 {
            done(&mut store, Act::Start);
            let (version, state, _) = now(&store);
            assert_eq!((version.as_str(), state.as_str()), ("new", "3"));
        }
        done(&mut store, Act::Start);
        let (version, state, _) = now(&store);
        assert_eq!((version.as_str(), state.as_str()), ("live", "2"));
        // A conversion has the data aside as it was right before it, which is later than the snapshot.
        assert_eq!(has_what_came_since(&store), converts);
    }
    // Not at all.
    let reads = writes("3") + "reads = [\"2\"]\n";
    let (mut store, _) = with_data("2", &reads, true);
    for _ in 0..4 {
        done(&mut store, Act::Start);
    }
    let (version, state, _) = now(&store);
    assert_eq!((version.as_str(), state.as_str()), ("live", "2"));
    assert!(has_what_came_since(&store));
}
