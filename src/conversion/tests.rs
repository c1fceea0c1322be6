//! What is held and let go, over a machine that only writes down what is done to it.

use super::Teller;
use super::held::{Held, Unit};
use super::mounts::{Failed, Mount, Mounts};
use super::running::{Hands, NotConverted, NotHeld, prepare};
use super::services::{Services, State};
use crate::record::layout::Part;
use crate::record::state::Prepared;
use crate::store::Store;
use crate::store::memory::Memory;
use crate::store::place::Place;
use crate::transaction;
use crate::transaction::model::machine_to_convert;
use crate::transaction::plan::Conversion;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

/// What was done, in order, by both halves.
type Done = Rc<RefCell<Vec<String>>>;

struct FakeServices {
    there: bool,
    done: Done,
    /// The call that fails, such as `mask shop.timer`.
    fails: Option<&'static str>,
}

impl FakeServices {
    fn call(&mut self, what: &str, unit: &str) -> Result<(), String> {
        let line = format!("{what} {unit}");
        self.done.borrow_mut().push(line.clone());
        match self.fails == Some(line.as_str()) {
            true => Err("it did not".to_owned()),
            false => Ok(()),
        }
    }
}

impl Services for FakeServices {
    fn there(&self) -> bool {
        self.there
    }
    fn state(&mut self, unit: &str) -> Result<State, String> {
        Ok(match unit {
            "none.service" => State::NotThere,
            "shop.timer" => State::Stopped,
            _ => State::Runs,
        })
    }
    fn stop(&mut self, unit: &str) -> Result<(), String> {
        self.call("stop", unit)
    }
    fn mask(&mut self, unit: &str) -> Result<bool, String> {
        self.call("mask", unit)?;
        Ok(unit != "etc.service")
    }
    fn unmask(&mut self, unit: &str) -> Result<(), String> {
        self.call("unmask", unit)
    }
    fn start(&mut self, unit: &str) -> Result<(), String> {
        self.call("start", unit)
    }
}

struct FakeMounts {
    done: Done,
    busy: Option<&'static str>,
    stuck: Option<&'static str>,
}

impl Mounts for FakeMounts {
    fn of(&mut self, live: &str) -> Result<Vec<Mount>, String> {
        let mount = |point: &str, read_only| Mount {
            point: point.to_owned(),
            read_only,
            ..Mount::default()
        };
        Ok(match live {
            "@data" => vec![
                mount("/srv/data", false),
                mount("/mnt/look", true),
                mount("/var/www", false),
            ],
            _ => Vec::new(),
        })
    }
    fn make_read_only(&mut self, mount: &Mount) -> Result<(), Failed> {
        if self.busy == Some(mount.point.as_str()) {
            return Err(Failed::Busy(vec!["postgres (77)".to_owned()]));
        }
        self.done.borrow_mut().push(format!("ro {}", mount.point));
        Ok(())
    }
    fn make_writable(&mut self, point: &str) -> Result<(), String> {
        self.done.borrow_mut().push(format!("rw {point}"));
        match self.stuck == Some(point) {
            true => Err("it is stuck".to_owned()),
            false => Ok(()),
        }
    }
}

#[derive(Default)]
struct Said(Vec<String>);

impl Teller for Said {
    fn say(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }
    fn printed(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }
}

struct Machine {
    services: FakeServices,
    mounts: FakeMounts,
    run: tempfile::TempDir,
    said: Said,
}

impl Machine {
    fn new() -> Machine {
        let done = Done::default();
        Machine {
            services: FakeServices {
                there: true,
                done: done.clone(),
                fails: None,
            },
            mounts: FakeMounts {
                done,
                busy: None,
                stuck: None,
            },
            run: tempfile::tempdir().unwrap(),
            said: Said::default(),
        }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Hands<'_>, &mut Said) -> T) -> T {
        let record = self.run.path().join("held.json");
        let mut hands = Hands {
            services: &mut self.services,
            mounts: &mut self.mounts,
            record: &record,
        };
        act(&mut hands, &mut self.said)
    }

    fn hold(&mut self, units: &[&str]) -> Result<(), NotHeld> {
        let units: Vec<String> = units.iter().map(|it| (*it).to_owned()).collect();
        self.with(|hands, said| hands.hold(&units, &["@data", "@mail"], said))
    }

    fn let_go(&mut self) -> Result<bool, String> {
        self.with(|hands, said| hands.let_go(said))
    }

    fn held(&self) -> Option<Held> {
        Held::read(&self.run.path().join("held.json")).unwrap()
    }

    /// What was done since the last look.
    fn done(&self) -> Vec<String> {
        self.services.done.take()
    }
}

const UNITS: [&str; 3] = ["shop.service", "shop.timer", "none.service"];

#[test]
fn services_stop_before_anything_becomes_read_only_and_start_after_it_is_writable() {
    let mut machine = Machine::new();
    machine.hold(&UNITS).unwrap();
    assert_eq!(
        machine.done(),
        [
            "stop shop.service",
            "stop shop.timer",
            "mask shop.service",
            "mask shop.timer",
            // Something may have started one in between.
            "stop shop.service",
            "stop shop.timer",
            "ro /srv/data",
            "ro /var/www",
        ]
    );
    let held = machine.held().unwrap();
    let unit = |name: &str, ran| Unit {
        name: name.to_owned(),
        ran,
    };
    assert_eq!(
        held.services,
        [unit("shop.service", true), unit("shop.timer", false)]
    );
    assert_eq!(held.mounts, ["/srv/data", "/var/www"]);
    assert!(machine.let_go().unwrap());
    assert_eq!(
        machine.done(),
        [
            "rw /var/www",
            "rw /srv/data",
            // It did not run.
            "unmask shop.timer",
            "unmask shop.service",
            "start shop.service",
        ]
    );
    assert_eq!(machine.held(), None);
    assert!(!machine.let_go().unwrap());
    assert_eq!(machine.done(), [""; 0]);
}

#[test]
fn where_somebody_still_writes_everything_is_as_before_and_they_are_named() {
    let mut machine = Machine::new();
    machine.mounts.busy = Some("/var/www");
    let text = machine.hold(&UNITS).unwrap_err().to_string();
    assert!(
        text.contains("/var/www is written to by postgres (77)"),
        "{text}"
    );
    assert!(text.contains("declare these as 'services'"), "{text}");
    let done = machine.done();
    assert!(done.ends_with(&[
        "ro /srv/data".to_owned(),
        "rw /var/www".to_owned(),
        "rw /srv/data".to_owned(),
        "unmask shop.timer".to_owned(),
        "unmask shop.service".to_owned(),
        "start shop.service".to_owned(),
    ]));
    assert_eq!(machine.held(), None);
}

#[test]
fn a_service_that_cannot_be_stopped_or_kept_so_leaves_everything_as_before() {
    for fails in ["stop shop.timer", "mask shop.timer"] {
        let mut machine = Machine::new();
        machine.services.fails = Some(fails);
        let text = machine.hold(&UNITS).unwrap_err().to_string();
        assert!(text.contains("shop.timer could not be stopped: it did not"));
        let done = machine.done();
        assert!(done.contains(&"start shop.service".to_owned()), "{done:?}");
        assert!(!done.iter().any(|it| it.starts_with("ro")), "{done:?}");
        assert_eq!(machine.held(), None);
    }
}

#[test]
fn what_is_not_let_go_is_said_and_can_be_let_go_later() {
    let mut machine = Machine::new();
    machine.mounts.busy = Some("/var/www");
    machine.mounts.stuck = Some("/srv/data");
    machine.services.fails = Some("start shop.service");
    let text = machine.hold(&UNITS).unwrap_err().to_string();
    for says in ["written to", "it is stuck", "it did not", "backstay cancel"] {
        assert!(text.contains(says), "{says}: {text}");
    }
    let held = machine.held().unwrap();
    assert_eq!(held.mounts, ["/srv/data"]);
    assert_eq!(held.services.len(), 1);
    machine.mounts.stuck = None;
    machine.services.fails = None;
    assert!(machine.let_go().unwrap());
    assert_eq!(machine.held(), None);
}

#[test]
fn without_systemd_only_data_that_no_service_uses_is_held() {
    let mut machine = Machine::new();
    machine.services.there = false;
    let refused = machine.hold(&UNITS);
    assert!(matches!(refused, Err(NotHeld::NoManager(_))), "{refused:?}");
    assert_eq!(machine.done(), [""; 0]);
    machine.hold(&[]).unwrap();
    assert_eq!(machine.done(), ["ro /srv/data", "ro /var/www"]);
}

#[test]
fn what_a_killed_command_left_is_let_go_before_anything_is_held_anew() {
    let mut machine = Machine::new();
    machine.hold(&["old.service"]).unwrap();
    machine.done();
    machine.hold(&["shop.service"]).unwrap();
    let done = machine.done();
    assert!(done.contains(&"start old.service".to_owned()), "{done:?}");
    let held = machine.held().unwrap();
    assert_eq!(held.services.len(), 1);
    assert_eq!(held.services[0].name, "shop.service");
}

#[test]
fn a_unit_that_can_be_started_nevertheless_is_named() {
    let mut machine = Machine::new();
    machine.hold(&["etc.service"]).unwrap();
    let said = machine.said.0.join("\n");
    assert!(said.contains("etc.service is stopped, but"), "{said}");
}

#[test]
fn what_cannot_be_written_down_is_not_done() {
    let mut machine = Machine::new();
    let path = machine.run.path().to_owned();
    drop(std::mem::replace(
        &mut machine.run,
        tempfile::tempdir().unwrap(),
    ));
    let record = path.join("file/held.json");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("file"), b"").unwrap();
    let mut hands = Hands {
        services: &mut machine.services,
        mounts: &mut machine.mounts,
        record: Path::new(&record),
    };
    let units = ["shop.service".to_owned()];
    let refused = hands.hold(&units, &["@data"], &mut machine.said);
    assert!(matches!(
        refused,
        Err(NotHeld::Other(_) | NotHeld::NotLetGo(..))
    ));
    assert_eq!(machine.services.done.take(), [""; 0]);
    std::fs::remove_dir_all(path).unwrap();
}

/// What comes of it, and the store afterwards.
fn prepared(
    machine: &mut Machine,
    convert: &mut dyn FnMut(&mut Memory, Place, &Conversion) -> Result<(), transaction::Error>,
) -> (Result<Prepared, NotConverted>, Memory) {
    let (mut store, records, mut plan) = machine_to_convert();
    if let Some(verdict) = &mut plan.fence {
        verdict.services = vec!["shop.service".to_owned()];
    }
    let prepared =
        machine.with(|hands, said| prepare(&mut store, &records, &plan, hands, convert, said));
    (prepared, store)
}

fn fails(conversion: &Conversion) -> transaction::Error {
    transaction::Error::NotConverted {
        app: conversion.app.to_string(),
        why: "exit status 1".to_owned(),
    }
}

#[test]
fn data_is_converted_while_its_system_is_held_and_that_stays_so() {
    let mut machine = Machine::new();
    let done = machine.services.done.clone();
    let (prepared, store) = prepared(&mut machine, &mut |_, at, conversion| {
        let line = format!("convert {} at {at:?}", conversion.app);
        done.borrow_mut().push(line);
        Ok(())
    });
    let prepared = prepared.unwrap();
    let parts: Vec<Part> = prepared.parts().collect();
    assert_eq!(parts, [Part::Data(0)]);
    let done = machine.done();
    let at = |line: &str| done.iter().position(|it| it == line).unwrap();
    assert!(at("stop shop.service") < at("ro /srv/data"));
    assert!(at("ro /var/www") < at("convert shop at Prepared(Data(0))"));
    assert!(!done.iter().any(|it| it.starts_with("rw")), "{done:?}");
    assert!(machine.held().is_some());
    let clone = store.dataset(Place::Prepared(Part::Data(0))).unwrap();
    assert_eq!(clone.map(|it| it.identity), prepared.get(Part::Data(0)));
}

#[test]
fn where_a_converter_fails_or_somebody_writes_everything_is_as_before() {
    let mut machine = Machine::new();
    let (failed, store) = prepared(&mut machine, &mut |_, _, it| Err(fails(it)));
    let failed = failed.unwrap_err();
    assert!(!failed.goes_before_boot(), "{failed}");
    assert!(machine.done().contains(&"start shop.service".to_owned()));
    assert_eq!(machine.held(), None);
    assert_eq!(store.dataset(Place::Prepared(Part::Data(0))).unwrap(), None);

    let (written, store) = prepared(&mut machine, &mut |store, _, _| {
        store.set_label(Place::Live(Part::Data(0)), "state.other", Some(b"1"))?;
        Ok(())
    });
    // Before boot nobody does.
    assert!(written.unwrap_err().goes_before_boot());
    assert_eq!(machine.held(), None);
    assert_eq!(store.dataset(Place::Prepared(Part::Data(0))).unwrap(), None);

    machine.mounts.busy = Some("/srv/data");
    let (busy, store) = prepared(&mut machine, &mut |_, _, _| panic!("not held"));
    assert!(busy.unwrap_err().goes_before_boot());
    assert_eq!(store.operations, machine_to_convert().0.operations);
    // What is not let go is nothing to go on with.
    machine.mounts.stuck = Some("/srv/data");
    let (busy, _) = prepared(&mut machine, &mut |_, _, _| panic!("not held"));
    assert!(!busy.unwrap_err().goes_before_boot());
}
