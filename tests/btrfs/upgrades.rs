//! An upgrade in place whose new version does not read its data, and whose converter is not early: converted for real, with a
//! mount that is held, between the command and the last record.

use super::Check;
use super::bench::Machine;
use super::conformance::Bench;
use super::converters::{PROGRAM, Told, machine as with_converter};
use backstay::admin::snapshot::snapshot;
use backstay::admin::upgrade::in_place::{Begun, Ended, begin, end};
use backstay::admin::upgrade::{ready, ticket};
use backstay::conversion::mounts::{Failed, Kernel, Mount, Mounts};
use backstay::conversion::runner::{self, Site, Top};
use backstay::conversion::running::{Hands, prepare};
use backstay::conversion::services::{Services, State as Unit};
use backstay::policy::intent::Intent;
use backstay::policy::terms::Terms;
use backstay::record::layout::Part;
use backstay::record::state::{Live, State, Verb};
use backstay::store::Store;
use backstay::store::btrfs::Btrfs;
use backstay::store::place::Place;
use backstay::sys::mountinfo;
use backstay::transaction::execute::{Hands as Doing, execute_by, no_converter, no_image};
use backstay::transaction::plan::{Conversion, Plan};
use backstay::transaction::records::Records;
use backstay::transaction::{catalogue, fenced, prepared};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const LIVE: Place = Place::Live(Part::System);
const DATA: Place = Place::Live(Part::Data(0));
const CLONE: Place = Place::Prepared(Part::Data(0));
const DECLARED: &str = "usr/lib/backstay/apps.d/shop.toml";

/// One service, which runs until it is stopped.
#[derive(Default)]
struct Shop(Vec<String>);

impl Services for Shop {
    fn there(&self) -> bool {
        true
    }
    fn state(&mut self, _: &str) -> Result<Unit, String> {
        Ok(Unit::Runs)
    }
    fn stop(&mut self, unit: &str) -> Result<(), String> {
        self.0.push(format!("stop {unit}"));
        Ok(())
    }
    fn mask(&mut self, _: &str) -> Result<bool, String> {
        Ok(true)
    }
    fn unmask(&mut self, _: &str) -> Result<(), String> {
        Ok(())
    }
    fn start(&mut self, unit: &str) -> Result<(), String> {
        self.0.push(format!("start {unit}"));
        Ok(())
    }
}

/// Where the data is mounted here: the kernel's own looks at the file system of `/`.
struct At(PathBuf);

impl Mounts for At {
    fn of(&mut self, live: &str) -> Result<Vec<Mount>, String> {
        if live != "@data" {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let all = mountinfo::mounts(&text).into_iter();
        Ok(all.filter(|it| Path::new(&it.point) == self.0).collect())
    }
    fn make_read_only(&mut self, mount: &Mount) -> Result<(), Failed> {
        Kernel::default().make_read_only(mount)
    }
    fn make_writable(&mut self, point: &str) -> Result<(), String> {
        Kernel::default().make_writable(point)
    }
}

/// A good machine, whose version writes state 1, and where its data is mounted.
fn machine() -> (Machine, PathBuf) {
    let mut machine = with_converter();
    let clone = machine.store.dataset(CLONE).unwrap().unwrap();
    machine.store.destroy(CLONE, clone.identity.uuid).unwrap();
    for place in [Place::Live(Part::Defaults), Place::Live(Part::Data(1))] {
        machine.create(place);
    }
    for path in [
        "sbin/init",
        "boot/vmlinuz-6.12",
        "boot/initrd.img",
        "lib/modules/6.12/modules.dep",
        "usr/lib/backstay/layout.toml",
        "etc/systemd/system/multi-user.target.wants/backstay-mark-good.service",
    ] {
        assert!(machine.write(LIVE, path, b"text"));
    }
    machine.link(LIVE, "boot/vmlinuz", "vmlinuz-6.12");
    let init = machine.at(LIVE, "sbin/init");
    fs::set_permissions(init, fs::Permissions::from_mode(0o755)).unwrap();
    machine.directory(LIVE, "var/mail");
    machine.write(LIVE, DECLARED, b"dataset = \"data\"\nstate = \"1\"\n");
    machine
        .store
        .set_label(DATA, "state.shop", Some(b"1"))
        .unwrap();
    let system = machine.store.dataset(LIVE).unwrap().unwrap().identity.uuid;
    let state = State {
        good: Some(system),
        ..State::new(Live {
            system,
            clone_of: None,
        })
    };
    let mut records = Records::fresh(&machine.store, state).unwrap();
    records.write_first_state(&mut machine.store).unwrap();
    machine.store.sync().unwrap();
    let at = machine.scratch.try_mount(false, "subvol=@data").unwrap();
    (machine, at)
}

/// Upgrades to a version that writes state 2 and whose converter does this.
fn upgraded(machine: &mut Machine, at: &Path, converter: &str) -> (Ended, Vec<String>) {
    let link = || Err(std::io::ErrorKind::NotFound.into());
    let mut records = Records::open(&machine.store).unwrap();
    ready(&machine.store, &records, 1).unwrap();
    let before = snapshot(&mut machine.store, &mut records, "before", 1, &mut |_| {}).unwrap();
    let begun = Begun {
        before,
        ticket: ticket([7; 16]),
        now: 1,
    };
    begin(&mut machine.store, &mut records, begun, &link).unwrap();
    let declares = format!(
        "dataset = \"data\"\nstate = \"2\"\nservices = [\"shop.service\"]\n[[converter]]\nfrom = [\"1\"]\nto = \"2\"\n\
         command = [\"/{PROGRAM}\", \"{converter}\"]\nlossless = true\n"
    );
    machine.write(LIVE, DECLARED, declares.as_bytes());
    fs::write(at.join("orders"), "came since").unwrap();
    machine.store.sync().unwrap();
    let site = Site {
        room: machine.scratch.path("room"),
        top: Top::Device(machine.scratch.device.to_str().unwrap().to_owned()),
        config: Place::Live(Part::Config),
    };
    let (mut shop, mut mounts) = (Shop::default(), At(at.to_owned()));
    let record = machine.scratch.path("held.json");
    let mut in_running = |store: &mut Btrfs, records: &Records, plan: &Plan| {
        let mut hands = Hands {
            services: &mut shop,
            mounts: &mut mounts,
            record: &record,
        };
        let mut run = |store: &mut Btrfs, clone, it: &Conversion| {
            runner::run(store, &site, clone, it, &mut Told::default())
        };
        let told = &mut Told::default();
        Ok(prepare(store, records, plan, &mut hands, &mut run, told)?)
    };
    let store = &mut machine.store;
    let ended = end(store, &mut records, begun, &link, &mut in_running).unwrap();
    (ended, shop.0)
}

fn read(machine: &Machine, place: Place, path: &str) -> String {
    fs::read_to_string(machine.at(place, path)).unwrap()
}

fn converts() {
    let (mut machine, at) = machine();
    let (ended, shop) = upgraded(&mut machine, &at, "well");
    assert!(matches!(ended, Ended::Converts(..)), "{ended:?}");
    assert_eq!(shop, ["stop shop.service", "stop shop.service"]);
    assert!(
        fs::write(at.join("orders"), "later").is_err(),
        "it is read-only"
    );
    assert_eq!(read(&machine, DATA, "books"), "old");
    assert_eq!(read(&machine, CLONE, "books"), "old in 2");
    // As the agent does it at the next boot.
    let mut records = Records::open(&machine.store).unwrap();
    let request = records.state.value.request.unwrap();
    assert!(request.ends_upgrade() && request.verb == Verb::Convert);
    assert!(records.state.value.live_trial().unwrap().condemned);
    let state = catalogue::with_free_id(&machine.store, &records.state.value).unwrap();
    let intent = Intent::Convert;
    let plan = fenced::plan_for(&machine.store, &intent, &state, Terms::from(request), 2).unwrap();
    assert_eq!(fenced::refusal(&plan), None);
    let mut hands = Doing {
        fill: &mut no_image,
        convert: &mut no_converter,
    };
    let store = &mut machine.store;
    execute_by(store, &mut records, &plan, 2, &mut hands, &mut |_| {}).unwrap();
    prepared::tidied(store, &records);
    let trial = records.state.value.live_trial().unwrap();
    assert_eq!((trial.condemned, trial.begun), (false, 0));
    assert_eq!(read(&machine, DATA, "books"), "old in 2");
    assert_eq!(read(&machine, DATA, "orders"), "came since");
    assert!(!machine.at(CLONE, "").exists());
    // It is never marked good: the data that comes back is that from right before the conversion.
    let state = catalogue::with_free_id(&machine.store, &records.state.value).unwrap();
    let intent = Intent::FallBack { to: 1 };
    let plan = fenced::plan_for(&machine.store, &intent, &state, Terms::default(), 3).unwrap();
    assert_eq!(fenced::refusal(&plan), None);
    let store = &mut machine.store;
    execute_by(store, &mut records, &plan, 3, &mut hands, &mut |_| {}).unwrap();
    assert_eq!(read(&machine, DATA, "books"), "old");
    assert_eq!(read(&machine, DATA, "orders"), "came since");
}

fn fails() {
    let (mut machine, at) = machine();
    let (ended, shop) = upgraded(&mut machine, &at, "fail");
    let Ended::Undone(undone) = ended else {
        panic!("{ended:?}");
    };
    assert!(undone.why.contains("no paper"), "{}", undone.why);
    assert_eq!((undone.back_to, undone.with_data), (Some(1), false));
    assert_eq!(
        shop,
        [
            "stop shop.service",
            "stop shop.service",
            "start shop.service"
        ]
    );
    fs::write(at.join("orders"), "it goes on").unwrap();
    assert_eq!(read(&machine, DATA, "books"), "old");
    assert!(!machine.at(CLONE, "").exists());
    let records = Records::open(&machine.store).unwrap();
    let request = records.state.value.request.unwrap();
    assert_eq!(request.verb, Verb::Rollback(Some(1)));
}

pub fn checks() -> Vec<Check> {
    let check = |name, run: fn()| Check {
        suite: "upgrades",
        name,
        run: Box::new(run),
    };
    vec![
        check(
            "the_new_version_gets_converted_data_and_the_old_one_what_was_there_before",
            converts,
        ),
        check(
            "a_converter_that_fails_undoes_the_upgrade_and_lets_everything_go",
            fails,
        ),
    ]
}
