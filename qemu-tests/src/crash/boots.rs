//! States that are started for real: the menu script of the image's GRUB, its kernel, the agent as PID 1,
//! the root.
//!
//! The verb runs on the tiny disk's own file system, on this kernel; what is cut there is put into a copy of
//! the whole disk, and a machine starts from it, untouched. States are the last one before and the first one
//! after each change of what lies at a live name, as GRUB would read it, and others.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use backstay::agent::kexec::running_release;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::cut::Cut;
use super::disk::{Disk, PAGE};
use super::machine::{Machine, Mounted};
use super::random::Random;
use super::recording::Recording;
use super::verbs::Step;
use crate::accel::Accel;
use crate::image::{self, Fixture, System};
use crate::scenario::Context;
use crate::scenario::runner;
use crate::scenario::steps::THREE_VERSIONS;

/// Bytes in a sector of the partition table.
const SECTOR: u64 = 512;
/// A start takes 10 to 20 seconds under emulation; more on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// A verb that is started from its cuts.
#[derive(Debug)]
struct Row {
    /// As in [`super::verbs`].
    name: &'static str,
    /// What the disk is made by, upon a fresh one of version 1.
    script: &'static str,
    before: &'static [Step],
    act: Step,
    /// System and configuration that may run, as the tiny system names them, each with its data.
    ends: &'static [Versions],
}

/// System, configuration, data.
type Versions = [&'static str; 3];

const DATA: &str = "made_by_the_customer";
const LIVE: Versions = ["3", "3-changed", DATA];
const TWO: Versions = ["2", "2", DATA];
const ONE: Versions = ["1", "1", DATA];
const ROLLBACK: Step = Step::Boot("backstay.rollback=previous backstay.present");
const SELECT: Step = Step::Boot("backstay.select=1 backstay.present");

/// All of them.
const ROWS: &[Row] = &[
    Row {
        name: "rollback",
        script: THREE_VERSIONS,
        before: &[],
        act: ROLLBACK,
        ends: &[LIVE, TWO],
    },
    Row {
        name: "forward",
        script: THREE_VERSIONS,
        before: &[ROLLBACK],
        act: Step::Boot("backstay.forward backstay.present"),
        ends: &[TWO, LIVE],
    },
    Row {
        // What was booted once returns at the next start: after the cut that is this one.
        name: "select",
        script: THREE_VERSIONS,
        before: &[],
        act: SELECT,
        ends: &[LIVE],
    },
    Row {
        name: "return",
        script: THREE_VERSIONS,
        before: &[SELECT],
        act: Step::Boot(""),
        ends: &[LIVE],
    },
    Row {
        name: "rollback-id",
        script: THREE_VERSIONS,
        before: &[],
        act: Step::Boot("backstay.rollback=1 backstay.present"),
        ends: &[LIVE, ONE],
    },
    Row {
        name: "reset-config",
        script: THREE_VERSIONS,
        before: &[],
        act: Step::Boot("backstay.reset=config backstay.present"),
        ends: &[LIVE, ["3", "3", DATA]],
    },
    Row {
        name: "reset-config-data",
        script: THREE_VERSIONS,
        before: &[],
        act: Step::Boot("backstay.reset=config,data backstay.present"),
        ends: &[LIVE, ["3", "3", "-"]],
    },
    Row {
        name: "reset-system",
        script: THREE_VERSIONS,
        before: &[],
        act: Step::Boot("backstay.reset=system backstay.present"),
        ends: &[LIVE, ONE],
    },
    Row {
        name: "reset-everything",
        script: THREE_VERSIONS,
        before: &[],
        act: Step::Boot("backstay.reset=everything backstay.present"),
        ends: &[LIVE, ["1", "1", "-"]],
    },
    Row {
        name: "reset-system-keep-config",
        script: THREE_VERSIONS,
        before: &[],
        act: Step::Boot("backstay.reset=system backstay.keep=config backstay.present"),
        ends: &[LIVE, ["1", "3-changed", DATA]],
    },
    Row {
        name: "first-boot",
        script: "rm /mnt/@data/content; admin factory seal --first-boot",
        before: &[],
        act: Step::Boot(""),
        ends: &[["1", "1", "-"]],
    },
    Row {
        name: "requested-rollback",
        script: THREE_VERSIONS,
        before: &[Step::Admin("rollback")],
        act: Step::Boot(""),
        ends: &[TWO, LIVE],
    },
];

/// How the starts of a row went, or of all.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Booted {
    /// The row.
    pub row: String,
    /// How many.
    pub tried: usize,
    /// Row and state, and what was wrong.
    pub failures: Vec<(String, String)>,
    /// How long they took.
    pub seconds: f32,
}

impl std::fmt::Display for Booted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (tried, failed) = (self.tried, self.failures.len());
        write!(
            f,
            "started for real: {tried} states, {failed} failed, {:.0} s",
            self.seconds
        )
    }
}

impl Booted {
    /// Adds the book of a row.
    fn add(&mut self, row: &Booted) {
        self.tried += row.tried;
        self.failures.extend(row.failures.iter().cloned());
        self.seconds += row.seconds;
    }
}

/// Which starts.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// About how many.
    pub count: usize,
    /// Of every row both sides of every change of a live name, however many these are.
    pub every_side: bool,
    /// What chooses them.
    pub seed: u64,
    /// How many at a time.
    pub jobs: usize,
}

/// Starts states of the rows that are not among the `known`; `keep` gets the book of each row at its end.
/// `directory` gets what is left of those that failed, `tell` hears of each as it ends.
///
/// # Errors
/// Where the rig itself breaks; those of `keep`.
pub fn play(
    wanted: Wanted,
    known: &[Booted],
    directory: &Path,
    keep: &mut dyn FnMut(&Booted) -> Result<()>,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Booted> {
    let accel = runner::prepare()?;
    let mut rows: Vec<&'static Row> = ROWS.iter().collect();
    Random::new(wanted.seed).shuffle(&mut rows);
    rows.truncate(wanted.count);
    let each = wanted.count.div_ceil(rows.len().max(1));
    let mut all = Booted::default();
    for row in rows {
        if let Some(known) = known.iter().find(|booted| booted.row == row.name) {
            all.add(known);
            continue;
        }
        let boots = Boots::new(row, each, wanted)?;
        let booked = boots.start_all(wanted.jobs, accel, directory, tell);
        keep(&booked)?;
        all.add(&booked);
    }
    Ok(all)
}

/// A row, recorded.
struct Boots {
    row: &'static Row,
    image: PathBuf,
    recording: Recording,
    states: Vec<Cut>,
}

/// The disk that a row starts from. The directory lets the agent, when it runs on this kernel, take the
/// root's kernel for the running one.
fn fixture(row: &Row) -> Fixture {
    let release = running_release();
    let script = row.script;
    let name = match script {
        THREE_VERSIONS => "power-cuts",
        _ => "power-cuts-first-boot",
    };
    Fixture::new(
        System::Tiny,
        name,
        format!(
            "mkdir -p /mnt/@rootfs/usr/lib/modules/{release}
             touch /mnt/@rootfs/usr/lib/modules/{release}/modules.dep
             {script}"
        ),
    )
}

impl Boots {
    /// Records a row and chooses `count` states of it. Where the running kernel is not the root's, the agent
    /// may end otherwise than by starting the root; what it wrote is a recording all the same.
    fn new(row: &'static Row, count: usize, wanted: Wanted) -> Result<Self> {
        let image = fixture(row).image()?.path;
        let mut machine = Machine::with(file_system(&image)?)?;
        for step in row.before {
            machine.must(&step.act())?;
        }
        let base = Disk::over(machine.device.medium.disk().into_base());
        machine.device.medium.insert(base.clone());
        machine.device.medium.record();
        let answer = machine.act(&row.act.act())?;
        let recording = Recording::new(base, &machine.device.medium.recorded());
        ensure!(
            answer.console.contains("backstay: done: "),
            "{}: the verb was not carried out:\n{}",
            row.name,
            answer.console
        );
        let states = choose(&machine, &recording, count, wanted)?;
        Ok(Self {
            row,
            image,
            recording,
            states,
        })
    }

    /// Starts each state.
    fn start_all(
        &self,
        jobs: usize,
        accel: Accel,
        directory: &Path,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Booted {
        let begun = Instant::now();
        let queue = Mutex::new(self.states.iter());
        let booked = Mutex::new(Booted {
            row: self.row.name.to_owned(),
            ..Booted::default()
        });
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let Some(cut) = next else { break };
                        let name = format!("{}-{cut}", self.row.name);
                        let result = self.start(cut, accel, directory.join(&name));
                        let mut booked = booked.lock().unwrap_or_else(PoisonError::into_inner);
                        booked.tried += 1;
                        match result {
                            Ok(()) => tell(&format!("  started  {name}")),
                            Err(error) => {
                                tell(&format!("  FAILED   {name}: {error:#}"));
                                booked.failures.push((name, format!("{error:#}")));
                            }
                        }
                    }
                });
            }
        });
        let mut booked = booked.into_inner().unwrap_or_else(PoisonError::into_inner);
        booked.seconds = begun.elapsed().as_secs_f32();
        booked
    }

    /// Starts a machine from a state. `directory` gets its disk and the transcript; they stay if it fails.
    fn start(&self, cut: &Cut, accel: Accel, directory: PathBuf) -> Result<()> {
        let ctx = Context::new(directory.clone(), accel, LIMIT, false)?;
        let disk = directory.join("disk.raw");
        image::copy(&self.image, &disk)?;
        put(&self.recording.disk(cut)?, &disk)?;
        let mut vm = ctx.boot(&disk)?;
        let mut tiny = vm.tiny()?;
        let up = tiny.said().clone();
        let runs = [up.system.as_str(), up.config.as_str(), up.data.as_str()];
        ensure!(
            self.row.ends.contains(&runs),
            "there runs {runs:?}; right is one of {:?}",
            self.row.ends
        );
        tiny.expect(runs[0], runs[1], runs[2])?;
        let status = tiny.succeed("backstay status")?;
        ensure!(
            !status.contains("open transaction"),
            "an open transaction is left:\n{status}"
        );
        vm.pull_plug()?;
        fs::remove_dir_all(directory)?;
        Ok(())
    }
}

/// Where the file system lies on the disk image, in bytes: the second partition.
fn partition(image: &File) -> Result<Range<u64>> {
    // UEFI specification, 5.3.3: entries of 128 bytes from sector 2 on, the first and last sector at 32 and 40.
    let mut entry = [0; 128];
    image.read_exact_at(&mut entry, 2 * SECTOR + 128)?;
    let number = |at: usize| -> Result<u64> {
        let bytes = entry.get(at..at + 8).context("a short entry")?;
        Ok(u64::from_le_bytes(bytes.try_into()?))
    };
    let (first, last) = (number(32)?, number(40)?);
    ensure!(
        0 < first && first < last,
        "the image has no second partition"
    );
    Ok(first * SECTOR..(last + 1) * SECTOR)
}

/// The file system on the disk image, as a disk.
fn file_system(image: &Path) -> Result<Disk> {
    let file = File::open(image)?;
    let partition = partition(&file)?;
    let mut disk = Disk::empty(partition.end - partition.start);
    let mut page = [0; PAGE];
    let mut at = partition.start;
    while at < partition.end {
        match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(data) => at += (data - at) / PAGE as u64 * PAGE as u64,
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        }
        if at >= partition.end {
            break;
        }
        file.read_exact_at(&mut page, at)?;
        disk.write(at - partition.start, &page);
        at += PAGE as u64;
    }
    Ok(disk)
}

/// Replaces the file system on a disk image.
fn put(disk: &Disk, image: &Path) -> Result<()> {
    let file = File::options().read(true).write(true).open(image)?;
    let partition = partition(&file)?;
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, hole, partition.start, disk.size())?;
    for (number, page) in disk.pages() {
        file.write_all_at(&page[..], partition.start + number * PAGE as u64)?;
    }
    Ok(())
}

/// The cuts on both sides of each change of a live name, and for more than these others; without `every_side`
/// no more than `count`.
fn choose(
    machine: &Machine,
    recording: &Recording,
    count: usize,
    wanted: Wanted,
) -> Result<Vec<Cut>> {
    let mut random = Random::new(wanted.seed);
    let mut all = Vec::new();
    let mut writes = 0;
    let mut last = live(machine, &recording.start())?;
    for epoch in &recording.epochs {
        let before = writes;
        writes += epoch.writes.len();
        let now = live(machine, &recording.disk(&Cut::Prefix(writes))?)?;
        if now != last {
            all.extend([Cut::Prefix(before), Cut::Prefix(writes)]);
            last = now;
        }
    }
    all.dedup();
    random.shuffle(&mut all);
    if !wanted.every_side {
        all.truncate(count);
    }
    while all.len() < count.min(writes) {
        let cut = Cut::Prefix(1 + random.below(writes as u64 - 1) as usize);
        if !all.contains(&cut) {
            all.push(cut);
        }
    }
    Ok(all)
}

/// What lies at each name that is exchanged, by the numbers of the subvolumes.
fn live(machine: &Machine, disk: &Disk) -> Result<BTreeMap<&'static str, u64>> {
    machine.device.medium.insert(disk.clone());
    let at = Mounted::at(&machine.device.node, false, "subvolid=5,rescue=nologreplay")?;
    let mut names = BTreeMap::new();
    for name in ["@rootfs", "@config", "@backstay/defaults", "@data"] {
        // Before a first boot there is none.
        if let Ok(dataset) = File::open(at.path().join(name)) {
            names.insert(name, backstay::sys::btrfs::info(dataset)?.id);
        }
    }
    Ok(names)
}
