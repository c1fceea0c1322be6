//! Converters run for real, as before boot and as in the running system: this program is one, too.

use super::Check;
use super::bench::Machine;
use super::conformance::Bench;
use backstay::conversion::Teller;
use backstay::conversion::runner::{self, Site, Top};
use backstay::fence::graph::Step;
use backstay::fence::names::{AppName, AppState, Version};
use backstay::record::layout::Part;
use backstay::store::place::Place;
use backstay::store::{Access, Store};
use backstay::transaction::plan::Conversion;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const LIVE: Place = Place::Live(Part::System);
const DATA: Place = Place::Live(Part::Data(0));
const CLONE: Place = Place::Prepared(Part::Data(0));
pub const PROGRAM: &str = "usr/lib/shop/convert";

/// What the program does when it is called as a converter, and its exit status.
pub fn as_converter() -> u8 {
    let variable = |name: &str| std::env::var(name).unwrap();
    let data = variable("BACKSTAY_DATA");
    let data = Path::new(&data);
    let old = fs::read_to_string(data.join("books")).unwrap();
    println!("converting from {}", variable("BACKSTAY_FROM"));
    match std::env::args().nth(1).as_deref() {
        Some("fail") => {
            fs::write(data.join("half"), b"half").unwrap();
            println!("no paper");
            return 3;
        }
        Some("hang") => std::thread::sleep(std::time::Duration::from_secs(60)),
        _ => {}
    }
    // What it finds, for the check to look at.
    let mut seen = Vec::new();
    let refused = |path: &str| fs::write(path, b"x").is_err();
    seen.push(format!("root {}", refused("/etc/new")));
    seen.push(format!(
        "config {}",
        refused("/var/lib/backstay/config/new")
    ));
    seen.push(format!("shm {}", fs::write("/dev/shm/x", b"x").is_ok()));
    seen.push(format!("tmp {}", fs::write("/tmp/x", b"x").is_ok()));
    seen.push(format!("null {}", fs::write("/dev/null", b"x").is_ok()));
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let processes = processes.filter(|it| it.file_name().to_string_lossy().parse::<u32>().is_ok());
    seen.push(format!("processes {}", processes.count()));
    let interfaces = fs::read_to_string("/proc/net/dev").unwrap();
    seen.push(format!("interfaces {}", interfaces.lines().skip(2).count()));
    let closed = |path: &str| fs::OpenOptions::new().write(true).open(path).is_err();
    seen.push(format!("sysctl {}", closed("/proc/sys/vm/swappiness")));
    seen.push(format!("sysrq {}", closed("/proc/sysrq-trigger")));
    seen.push(format!(
        "declared {}",
        fs::read_to_string("/etc/appliance/name").unwrap()
    ));
    fs::write(data.join("seen"), seen.join("\n")).unwrap();
    fs::write(
        data.join("books"),
        format!("{old} in {}", variable("BACKSTAY_TO")),
    )
    .unwrap();
    0
}

#[derive(Default)]
pub struct Told(pub Vec<String>);

impl Teller for Told {
    fn say(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }
    fn printed(&mut self, line: &str) {
        self.0.push(format!("printed: {line}"));
    }
}

/// Puts this program and what it is linked with into a version.
fn install(machine: &Machine) {
    let copy = |from: &str, to: &str| {
        let to = machine.at(LIVE, to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, &to).unwrap();
        fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
    };
    copy("/proc/self/exe", PROGRAM);
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut libraries: Vec<&str> = maps
        .lines()
        .filter_map(|it| it.split_whitespace().nth(5))
        .collect();
    libraries.dedup();
    for library in libraries.into_iter().filter(|it| it.contains(".so")) {
        copy(library, library);
        if library.contains("/ld-") {
            let name = library.rsplit('/').next().unwrap();
            copy(library, &format!("/lib64/{name}"));
        }
    }
}

/// A machine with a version that ships the converter, and data in state 1.
pub fn machine() -> Machine {
    let mut machine = Machine::new(256);
    for place in [LIVE, Place::Live(Part::Config), DATA] {
        machine.create(place);
    }
    for directory in [
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "var/tmp",
        "etc/appliance",
        "srv/data",
    ] {
        machine.directory(LIVE, directory);
    }
    machine.directory(LIVE, "var/lib/backstay/config");
    machine.write(
        Place::Live(Part::Config),
        "etc/appliance/name",
        b"corner shop",
    );
    machine.write(DATA, "books", b"old");
    install(&machine);
    machine
        .store
        .clone_to(DATA, CLONE, Access::Writable)
        .unwrap();
    machine
}

fn conversion(argument: &str, seconds: u32) -> Conversion {
    let state = |text: &str| AppState::new(text).unwrap();
    let command = [format!("/{PROGRAM}"), argument.to_owned()];
    Conversion {
        dataset: Part::Data(0),
        app: AppName::new("shop").unwrap(),
        step: Step {
            from: state("1"),
            to: state("2"),
            shipped_by: Version::Live,
            command: command.to_vec(),
            lossless: true,
            cost: 1,
            early: true,
            seconds,
        },
    }
}

fn run(machine: &mut Machine, top: Top, argument: &str, seconds: u32) -> (Option<String>, Told) {
    let mut told = Told::default();
    let site = Site {
        room: machine.scratch.path("room"),
        top,
        config: Place::Live(Part::Config),
    };
    let conversion = conversion(argument, seconds);
    let done = runner::run(&mut machine.store, &site, CLONE, &conversion, &mut told);
    (done.err().map(|error| error.to_string()), told)
}

fn in_both_ways(check: fn(&mut Machine, Top)) {
    for mounted in [true, false] {
        let mut machine = machine();
        let top = match mounted {
            true => Top::of(&machine.store).unwrap(),
            false => Top::Device(machine.scratch.device.to_str().unwrap().to_owned()),
        };
        if let Top::Mounted(path) = &top {
            assert_eq!(*path, machine.top);
        }
        check(&mut machine, top);
    }
}

fn converts(machine: &mut Machine, top: Top) {
    let (failed, told) = run(machine, top, "well", 60);
    assert_eq!(failed, None, "{:?}", told.0);
    assert!(
        told.0.contains(&"printed: converting from 1".to_owned()),
        "{:?}",
        told.0
    );
    let read = |place, path| fs::read_to_string(machine.at(place, path)).unwrap();
    assert_eq!(read(CLONE, "books"), "old in 2");
    assert_eq!(read(DATA, "books"), "old");
    // Two processes: the first one of its name space is the runner's.
    assert_eq!(
        read(CLONE, "seen"),
        "root true\nconfig true\nshm true\ntmp true\nnull true\nprocesses 2\ninterfaces 1\nsysctl true\nsysrq true\ndeclared corner shop"
    );
    assert!(!machine.at(LIVE, "tmp/x").exists());
    // Nothing of it is mounted here.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let room = machine.scratch.path("room");
    assert!(!mounts.contains(room.to_str().unwrap()));
}

fn fails(machine: &mut Machine, top: Top) {
    let (failed, _) = run(machine, top, "fail", 60);
    let failed = failed.unwrap();
    assert!(
        failed.contains("exit status 3, its last line: no paper"),
        "{failed}"
    );
}

fn hangs(machine: &mut Machine, top: Top) {
    let (failed, _) = run(machine, top, "hang", 1);
    let failed = failed.unwrap();
    assert!(failed.contains("not done after its 1 seconds"), "{failed}");
}

pub fn checks() -> Vec<Check> {
    let check = |name, run: fn(&mut Machine, Top)| Check {
        suite: "converters",
        name,
        run: Box::new(move || in_both_ways(run)),
    };
    vec![
        check(
            "a_converter_finds_what_it_is_promised_and_changes_the_clone_alone",
            converts,
        ),
        check("one_that_fails_is_told_with_its_last_line", fails),
        check("one_that_takes_too_long_is_ended", hangs),
    ]
}
