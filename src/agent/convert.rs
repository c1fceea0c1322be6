//! Runs a converter before boot: in the version that ships it, on a clone of the data.
//!
//! ```text
//! /convert            the version's root, read-only: no converter changes a version
//! ├── <config>        its configuration, read-only, and the declared paths that come from it
//! ├── <data>          the clone, writable: the only thing here that is kept
//! ├── dev             null, zero, full, random, urandom, tty
//! ├── proc  sys       of the converter's own processes; sys read-only
//! └── tmp  run  var/tmp   memory, gone with it
//! ```
//! It has a mount, process, network, IPC and host name space of its own: no network, and whatever it started ends with
//! it. What it prints goes into the log, and the consoles say how long it goes on. Past its time it is killed.
//!
//! ```text
//! this process ──▶ enclosed: the name spaces ──▶ first of them: the room ──▶ the converter, and what it starts
//! ```
//! Each of the first three ends with the one before it, and the kernel ends all that is in a process space with its first
//! process. The converter cannot be that one: it may give up being root, and then does not end with its parent any more.
//!
//! Nothing live is touched here, and nothing has to be tidied up on the disk: the mounts end with the process, and the clone
//! is the transaction's, which drops it where this fails or the power goes.

use super::log as agent_log;
use crate::record::layout::{Dataset, Layout, Part};
use crate::say;
use crate::store::btrfs::Btrfs;
use crate::store::place::Place;
use crate::store::{Store, shown};
use crate::sys::mount::{self, MountFlags};
use crate::sys::process::{self, Ended};
use crate::sys::{self, Context as _, console};
use crate::transaction::Error;
use crate::transaction::plan::Conversion;
use rustix::fs::{FileType, Mode, OFlags, makedev};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::CapabilitySet;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the version's root is seen.
const ROOT: &str = "/convert";
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(200);
/// Between two lines that say that it goes on.
const EVERY: Duration = Duration::from_secs(20);
/// How long what it started may take to be gone once it was killed.
const GOING: Duration = Duration::from_secs(10);
/// What it may not do, although it is root: leave the room, reach the disk or another one's data beside it, change its label,
/// stop or change the machine.
const DENIED: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SYS_RAWIO)
    .union(CapabilitySet::SYS_MODULE)
    .union(CapabilitySet::SYS_BOOT)
    .union(CapabilitySet::SYS_TIME);
/// Letters of a line that it prints which are kept.
const LINE_MAX: usize = 200;
/// Lines of it that are kept in the log.
const LINES_MAX: usize = 500;

/// Runs a converter of the change `id` on the clone at `at`. It has a process of its own: this one must have one thread.
pub fn run(store: &mut Btrfs, id: u32, at: Place, conversion: &Conversion) -> Result<(), Error> {
    let step = &conversion.step;
    let what = format!("{}: {} to {}", conversion.app, step.from, step.to);
    say!("converting a copy of the data of {what}");
    let failed = |why: String| Error::NotConverted {
        app: conversion.app.to_string(),
        why,
    };
    let room = Room::of(store, id, at, conversion).map_err(failed)?;
    let done = watched(&room, &what, Duration::from_secs(step.seconds.into()));
    done.map_err(failed)?;
    say!("converted, {what}");
    Ok(store.sync()?)
}

/// What the converter is to see, as paths below the store's top level, and what is run.
struct Room {
    /// Where it is built.
    at: PathBuf,
    top: OwnedFd,
    root: String,
    data: (String, PathBuf),
    config: Option<(String, PathBuf)>,
    /// Where the configuration is seen, be it to be read or to be converted.
    paths_from: Option<PathBuf>,
    config_paths: Vec<PathBuf>,
    command: Vec<String>,
    environment: Vec<String>,
}

impl Room {
    fn of(store: &Btrfs, id: u32, at: Place, conversion: &Conversion) -> Result<Room, String> {
        let layout = store.layout();
        let path = |place: Place| {
            let path = place.path(layout);
            path.ok_or_else(|| format!("{place:?} is no place on this machine"))
        };
        let its = dataset(layout, conversion.dataset)?;
        // The configuration that goes with what is about to be live; where that stays, it is live already.
        let staged = Place::Snapshot(id, Part::Config);
        let config = match &layout.config {
            Some(config) if conversion.dataset != Part::Config => {
                let there = store.dataset(staged).map_err(|error| error.to_string())?;
                let place = there.map_or(Place::Live(Part::Config), |_| staged);
                Some((path(place)?, mount_of(config)))
            }
            _ => None,
        };
        let top = store.top().try_clone_to_owned();
        Ok(Room {
            at: PathBuf::from(ROOT),
            top: top.map_err(|error| format!("dup(top level): {error}"))?,
            root: path(conversion.step.shipped_by.place())?,
            data: (path(at)?, mount_of(its)),
            config,
            paths_from: layout.config.as_ref().map(mount_of),
            config_paths: layout
                .config_paths
                .iter()
                .map(|path| PathBuf::from(path.as_str()))
                .collect(),
            command: conversion.step.command.clone(),
            environment: environment(conversion, its),
        })
    }
}

fn dataset(layout: &Layout, part: Part) -> Result<&Dataset, String> {
    let dataset = layout.dataset(part);
    dataset.ok_or_else(|| "its dataset is not one of this machine".to_owned())
}

/// Below the version's root.
fn mount_of(dataset: &Dataset) -> PathBuf {
    PathBuf::from(dataset.mount.trim_start_matches('/'))
}

fn environment(conversion: &Conversion, dataset: &Dataset) -> Vec<String> {
    let step = &conversion.step;
    vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        "LC_ALL=C.UTF-8".to_owned(),
        "HOME=/root".to_owned(),
        format!("BACKSTAY_APP={}", conversion.app),
        format!("BACKSTAY_FROM={}", step.from),
        format!("BACKSTAY_TO={}", step.to),
        format!("BACKSTAY_DATA={}", dataset.mount),
    ]
}

/// Runs it to its end, or to the end of its time. An error is for people.
fn watched(room: &Room, what: &str, limit: Duration) -> Result<(), String> {
    let failed = |error: &dyn core::fmt::Display| format!("it was not started: {error}");
    let pipe = pipe_with(PipeFlags::CLOEXEC);
    let (reader, writer) = pipe.map_err(|errno| failed(&format!("pipe2(): {errno}")))?;
    // Only this end: a program whose standard output does not block gives up where that is full.
    let unblocked = rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK);
    unblocked.map_err(|errno| failed(&format!("fcntl(F_SETFL): {errno}")))?;
    let parent = rustix::process::getpid();
    let child = process::fork(|| enclosed(room, &writer, parent)).map_err(|it| failed(&it))?;
    agent_log::forked();
    drop(writer);
    let mut output = Output::new(reader.into());
    let begun = Instant::now();
    let mut said = begun;
    let ended = loop {
        agent_log::alive();
        output.take();
        match process::has_ended(child) {
            Ok(Some(ended)) => break ended,
            Ok(None) => {}
            Err(error) => return Err(format!("it was lost: {error}")),
        }
        let since = begun.elapsed();
        if since >= limit {
            process::end(child).map_err(|error| format!("it does not end: {error}"))?;
            output.take_to_the_end(GOING);
            let seconds = limit.as_secs();
            return Err(output.ending(&format!("not done after its {seconds} seconds, ended")));
        }
        if said.elapsed() >= EVERY {
            said = Instant::now();
            say!("{}", goes_on(what, since, limit));
        }
        std::thread::sleep(LOOK);
    };
    output.take();
    match ended {
        Ended::Exit(0) => Ok(()),
        other => Err(output.ending(&other.to_string())),
    }
}

fn goes_on(what: &str, since: Duration, limit: Duration) -> String {
    let (since, limit) = (since.as_secs(), limit.as_secs());
    format!("converting {what}: {since} s of {limit} at the most; do not switch the machine off")
}

/// What it prints, line by line, into the log.
struct Output {
    from: File,
    line: Vec<u8>,
    lines: usize,
    last: String,
}

impl Output {
    fn new(from: File) -> Output {
        Output {
            from,
            line: Vec::new(),
            lines: 0,
            last: String::new(),
        }
    }

    /// Takes what there is, without waiting.
    fn take(&mut self) {
        let mut bytes = [0; 4096];
        // One who prints without an end must not keep its time from being looked at.
        for _ in 0..64 {
            match self.from.read(&mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(read) => self.lines_of(bytes.get(..read).unwrap_or_default()),
            }
        }
    }

    /// Takes what there is until nobody is left who could print, which is when all that it started are gone.
    fn take_to_the_end(&mut self, patience: Duration) {
        let begun = Instant::now();
        let mut bytes = [0; 4096];
        while begun.elapsed() < patience {
            match self.from.read(&mut bytes) {
                Ok(0) => return,
                Ok(read) => self.lines_of(bytes.get(..read).unwrap_or_default()),
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    }

    fn lines_of(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                byte if self.line.len() < LINE_MAX => self.line.push(*byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        let line = shown(&core::mem::take(&mut self.line));
        if line.trim().is_empty() {
            return;
        }
        self.lines = self.lines.saturating_add(1);
        match self.lines {
            0..=LINES_MAX => log::info!("converter: {line}"),
            _ if self.lines == LINES_MAX + 1 => log::info!("converter: (more is not kept)"),
            _ => {}
        }
        self.last = line;
    }

    /// How it ended, with the last line that it printed.
    fn ending(&mut self, how: &str) -> String {
        self.end_line();
        match self.last.is_empty() {
            true => how.to_owned(),
            false => format!("{how}, its last line: {}", self.last),
        }
    }
}

/// In the child: name spaces of its own for another child, and that one's end as its own.
fn enclosed(room: &Room, output: &OwnedFd, parent: rustix::process::Pid) -> i32 {
    let apart = || -> sys::Result<Trees> {
        process::die_with(parent)?;
        process::apart()?;
        let trees = Trees::of(room)?;
        mount::apart()?;
        Ok(trees)
    };
    let trees = match apart() {
        Ok(trees) => trees,
        Err(error) => return told(output, &error),
    };
    let child = process::fork(|| first(room, &trees, output));
    status(child.and_then(process::wait_for), output)
}

/// Whoever reads the other end tells the last line.
fn told(output: &OwnedFd, error: &dyn core::fmt::Display) -> i32 {
    let line = format!("{error}\n");
    let _ = rustix::io::write(output, line.as_bytes());
    126
}

fn status(ended: sys::Result<Ended>, output: &OwnedFd) -> i32 {
    match ended {
        Ok(Ended::Exit(status)) => status,
        Ok(Ended::Signal(number)) => told(output, &format!("signal {number}")),
        Err(error) => told(output, &error),
    }
}

/// The first process of the process space: the room, the converter as a child in it, and the end of all with that one's.
fn first(room: &Room, trees: &Trees, output: &OwnedFd) -> i32 {
    let furnished = process::die_with_any_parent()
        .and_then(|()| furnish(room, trees))
        .and_then(|()| enter(room, output));
    if let Err(error) = furnished {
        return told(output, &error);
    }
    let child = process::fork(|| match convert(room) {
        Ok(never) => match never {},
        Err(error) => told(output, &error),
    });
    let ended = child.and_then(|child| {
        loop {
            // Whatever it leaves behind is this one's child by then.
            let (ended, how) = process::reap()?;
            if ended == child {
                return Ok(how);
            }
        }
    });
    status(ended, output)
}

/// Goes into the room, and keeps nothing open of what lies outside: the converter sees this process in its /proc, with its
/// root and its descriptors.
fn enter(room: &Room, output: &OwnedFd) -> sys::Result<()> {
    let null = File::open("/dev/null").call(|| "open(/dev/null)".to_owned())?;
    console::as_streams(null.as_fd(), output.as_fd())?;
    drop(null);
    mount::chdir(&room.at)?;
    process::close_all_but(output.as_fd())?;
    mount::chroot_here()?;
    mount::chdir(Path::new("/"))
}

/// Becomes the converter.
fn convert(room: &Room) -> sys::Result<core::convert::Infallible> {
    process::give_up(DENIED)?;
    let program = room.command.first().cloned().unwrap_or_default();
    Err(process::exec_with(
        Path::new(&program),
        &room.command,
        &room.environment,
    ))
}

/// The subvolumes that are seen in the room. Only in the mount name space in which the store is mounted can they be made.
struct Trees {
    root: OwnedFd,
    config: Option<OwnedFd>,
    data: OwnedFd,
}

impl Trees {
    fn of(room: &Room) -> sys::Result<Trees> {
        let tree = |path: &str| {
            let from = mount::open_in_root(room.top.as_fd(), Path::new(path))?;
            mount::detached(from.as_fd())
        };
        let config = room.config.as_ref().map(|(path, _)| tree(path));
        Ok(Trees {
            root: tree(&room.root)?,
            config: config.transpose()?,
            data: tree(&room.data.0)?,
        })
    }
}

fn furnish(room: &Room, trees: &Trees) -> sys::Result<()> {
    let root = room.at.as_path();
    make(root)?;
    attach(room, &trees.root, Path::new(""))?;
    mount::read_only(trees.root.as_fd())?;
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    fresh(root, "proc", "proc", strict, "")?;
    fresh(root, "sysfs", "sys", strict | MountFlags::RDONLY, "")?;
    let memory = MountFlags::NOSUID | MountFlags::NODEV;
    for (at, mode) in [("run", "0755"), ("tmp", "1777"), ("var/tmp", "1777")] {
        fresh(root, "tmpfs", at, memory, &format!("mode={mode},size=20%"))?;
    }
    devices(root)?;
    if let (Some((_, at)), Some(tree)) = (&room.config, &trees.config) {
        attach(room, tree, at)?;
        mount::read_only(tree.as_fd())?;
    }
    attach(room, &trees.data, &room.data.1)?;
    let Some(from) = &room.paths_from else {
        return Ok(());
    };
    for path in &room.config_paths {
        // As at a start, one that is missing on a side is not mounted.
        if let Err(error) = super::mount::bind_path(&root.join(from), root, path) {
            log::info!("{error}");
        }
    }
    Ok(())
}

fn make(at: &Path) -> sys::Result<()> {
    match std::fs::create_dir(at) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(sys::Error::from_io(format!("mkdir({at:?})"), &error))
        }
        _ => Ok(()),
    }
}

/// A tree over a directory of the room, or as the room itself. Links on the way inside the room are followed as its own,
/// and what is mounted in the room later stays in it.
fn attach(room: &Room, tree: &OwnedFd, at: &Path) -> sys::Result<()> {
    let root = mount::open_dir_path(&room.at)?;
    let to = mount::open_in_root(root.as_fd(), at)?;
    mount::attach(tree.as_fd(), to.as_fd())?;
    mount::private(tree.as_fd())
}

/// One of the kernel's file systems in the room; where the version has no such directory it has none.
fn fresh(root: &Path, fs: &str, at: &str, flags: MountFlags, data: &str) -> sys::Result<()> {
    let at = root.join(at);
    let is_directory = std::fs::symlink_metadata(&at).is_ok_and(|it| it.is_dir());
    match is_directory {
        true => mount::mount(fs, &at, fs, flags, data),
        false => Ok(()),
    }
}

/// Numbers of <linux/Documentation/admin-guide/devices.txt>.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

fn devices(root: &Path) -> sys::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    fresh(root, "tmpfs", "dev", flags, "mode=0755,size=64k")?;
    for (name, major, minor) in DEVICES {
        let at = root.join("dev").join(name);
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &at,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            makedev(major, minor),
        );
        made.call(|| format!("mknod({at:?}, c, {major}, {minor})"))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
