//! Runs a converter: in the version that ships it, on a clone of the data.
//!
//! ```text
//! (the room)          the version's root, read-only: no converter changes a version
//! ├── <config>        its configuration, read-only, and the declared paths that come from it
//! ├── <data>          the clone, writable: the only thing here that is kept
//! ├── dev             null, zero, full, random, urandom, tty; shm: memory
//! ├── proc  sys       read-only; of the converter's own processes
//! └── tmp  run  var/tmp   memory, gone with it
//! ```
//! It has a mount, process, network, IPC and host name space of its own: no network, and whatever it started ends with
//! it. What it prints and how long it goes on is told by a [`Teller`]. Past its time it is killed.
//!
//! ```text
//! this process ──▶ enclosed: the name spaces ──▶ first of them: the room ──▶ the converter, and what it starts
//! ```
//! Each of the first three ends with the one before it, and the kernel ends all that is in a process space with its first
//! process. The converter cannot be that one: it may give up being root, and then does not end with its parent any more.
//!
//! Nothing live is touched here, and nothing has to be tidied up on the disk: the mounts end with the process, and the clone
//! is its maker's, who drops it where this fails or the power goes.

use super::Teller;
use super::output::{LOOK, Output};
use crate::agent::mount::bind_path;
use crate::record::layout::{Dataset, Layout, Part};
use crate::store::Store;
use crate::store::btrfs::Btrfs;
use crate::store::place::Place;
use crate::sys::mount::{self, MountFlags};
use crate::sys::process::{self, Ended};
use crate::sys::{self, Context as _, console};
use crate::transaction::Error;
use crate::transaction::plan::Conversion;
use rustix::fs::{FileType, Mode, OFlags, makedev};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::CapabilitySet;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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

/// How the converter's process gets at the store. A descriptor that was opened before does not do: it belongs to another mount
/// name space, and the kernel binds nothing out of that.
#[derive(Clone, Debug)]
pub enum Top {
    /// Its top level is mounted at this path.
    Mounted(PathBuf),
    /// It is on this device, whose top level is mounted for the converter.
    Device(String),
}

impl Top {
    /// Where the top level of an open store is mounted.
    pub fn of(store: &Btrfs) -> sys::Result<Top> {
        let link = format!("/proc/self/fd/{}", store.top().as_raw_fd());
        let path = std::fs::read_link(&link).call(|| format!("readlink({link:?})"))?;
        Ok(Top::Mounted(path))
    }
}

/// Where converters are run.
#[derive(Clone, Debug)]
pub struct Site {
    /// The directory over which the version's root is mounted, for the converter alone; it is made.
    pub room: PathBuf,
    /// The store.
    pub top: Top,
    /// Where the configuration is that goes with what is about to be live.
    pub config: Place,
}

/// Runs a converter on the clone at `at`. It has a process of its own: this one must have one thread.
pub fn run(
    store: &mut Btrfs,
    site: &Site,
    at: Place,
    conversion: &Conversion,
    teller: &mut dyn Teller,
) -> Result<(), Error> {
    let step = &conversion.step;
    let what = format!("{}: {} to {}", conversion.app, step.from, step.to);
    teller.say(&format!("converting a copy of the data of {what}"));
    let failed = |why: String| Error::NotConverted {
        app: conversion.app.to_string(),
        why,
    };
    let room = Room::of(store, site, at, conversion).map_err(failed)?;
    let limit = Duration::from_secs(step.seconds.into());
    watched(&room, &what, limit, teller).map_err(failed)?;
    teller.say(&format!("converted, {what}"));
    Ok(store.sync()?)
}

/// What the converter is to see, as paths below the store's top level, and what is run.
struct Room {
    top: Top,
    at: PathBuf,
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
    fn of(store: &Btrfs, site: &Site, at: Place, conversion: &Conversion) -> Result<Room, String> {
        let layout = store.layout();
        let path = |place: Place| {
            let path = place.path(layout);
            path.ok_or_else(|| format!("{place:?} is no place on this machine"))
        };
        let its = dataset(layout, conversion.dataset)?;
        let config = match &layout.config {
            Some(config) if conversion.dataset != Part::Config => {
                Some((path(site.config)?, mount_of(config)))
            }
            _ => None,
        };
        Ok(Room {
            top: site.top.clone(),
            at: site.room.clone(),
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
fn watched(
    room: &Room,
    what: &str,
    limit: Duration,
    teller: &mut dyn Teller,
) -> Result<(), String> {
    let failed = |error: &dyn core::fmt::Display| format!("it was not started: {error}");
    let pipe = pipe_with(PipeFlags::CLOEXEC);
    let (reader, writer) = pipe.map_err(|errno| failed(&format!("pipe2(): {errno}")))?;
    // Only this end: a program whose standard output does not block gives up where that is full.
    let unblocked = rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK);
    unblocked.map_err(|errno| failed(&format!("fcntl(F_SETFL): {errno}")))?;
    let parent = rustix::process::getpid();
    let child = process::fork(|| enclosed(room, &writer, parent)).map_err(|it| failed(&it))?;
    teller.forked();
    drop(writer);
    let mut output = Output::new(reader.into());
    let begun = Instant::now();
    let mut said = begun;
    let ended = loop {
        teller.alive();
        output.take(teller);
        match process::has_ended(child) {
            Ok(Some(ended)) => break ended,
            Ok(None) => {}
            Err(error) => return Err(format!("it was lost: {error}")),
        }
        let since = begun.elapsed();
        if since >= limit {
            process::end(child).map_err(|error| format!("it does not end: {error}"))?;
            output.take_to_the_end(GOING, teller);
            let seconds = limit.as_secs();
            let how = format!("not done after its {seconds} seconds, ended");
            return Err(output.ending(&how, teller));
        }
        if said.elapsed() >= EVERY {
            said = Instant::now();
            teller.say(&goes_on(what, since, limit));
        }
        std::thread::sleep(LOOK);
    };
    output.take(teller);
    match ended {
        Ended::Exit(0) => Ok(()),
        other => Err(output.ending(&other.to_string(), teller)),
    }
}

fn goes_on(what: &str, since: Duration, limit: Duration) -> String {
    let (since, limit) = (since.as_secs(), limit.as_secs());
    format!("converting {what}: {since} s of {limit} at the most; do not switch the machine off")
}

/// In the child: name spaces of its own for another child, and that one's end as its own.
fn enclosed(room: &Room, output: &OwnedFd, parent: rustix::process::Pid) -> i32 {
    let apart = || -> sys::Result<()> {
        process::die_with(parent)?;
        process::apart()?;
        mount::apart()
    };
    if let Err(error) = apart() {
        return told(output, &error);
    }
    let child = process::fork(|| first(room, output));
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
fn first(room: &Room, output: &OwnedFd) -> i32 {
    let furnished = process::die_with_any_parent()
        .and_then(|()| furnish(room))
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

fn furnish(room: &Room) -> sys::Result<()> {
    let root = room.at.as_path();
    make(root)?;
    let top = top_level(room)?;
    let top = top.as_fd();
    let version = bound(top, &room.root, root, Path::new(""))?;
    mount::read_only(version.as_fd())?;
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Through a writable one root sets the kernel of the whole machine, and restarts it.
    for (fs, at) in [("proc", "proc"), ("sysfs", "sys")] {
        fresh(fs, root, at, strict | MountFlags::RDONLY, "")?;
    }
    let memory = MountFlags::NOSUID | MountFlags::NODEV;
    for (at, mode) in [("run", "0755"), ("tmp", "1777"), ("var/tmp", "1777")] {
        fresh("tmpfs", root, at, memory, &format!("mode={mode},size=20%"))?;
    }
    devices(root)?;
    if let Some((path, at)) = &room.config {
        let config = bound(top, path, root, at)?;
        mount::read_only(config.as_fd())?;
    }
    let (path, at) = &room.data;
    bound(top, path, root, at)?;
    let Some(from) = &room.paths_from else {
        return Ok(());
    };
    for path in &room.config_paths {
        // As at a start, one that is missing on a side is not mounted.
        if let Err(error) = bind_path(&root.join(from), root, path) {
            log::info!("{error}");
        }
    }
    Ok(())
}

/// The store's top level, opened in this mount name space.
fn top_level(room: &Room) -> sys::Result<OwnedFd> {
    match &room.top {
        Top::Mounted(path) => mount::open_dir_path(path),
        Top::Device(device) => {
            // Under the room, which is mounted over it.
            let flags = MountFlags::NOATIME;
            mount::mount(device, &room.at, "btrfs", flags, "subvolid=5")?;
            mount::open_dir_path(&room.at)
        }
    }
}

fn make(at: &Path) -> sys::Result<()> {
    std::fs::create_dir_all(at).call(|| format!("mkdir -p {at:?}"))
}

/// A subvolume of the store's top level over a directory of the room, or the room itself. Links on the way inside the
/// room are followed as its own. What is mounted there, as a descriptor.
fn bound(top: BorrowedFd<'_>, path: &str, root: &Path, at: &Path) -> sys::Result<OwnedFd> {
    let from = mount::open_in_root(top, Path::new(path))?;
    let room = mount::open_dir_path(root)?;
    let to = mount::open_in_root(room.as_fd(), at)?;
    let tree = mount::detached(from.as_fd())?;
    mount::attach(tree.as_fd(), to.as_fd())?;
    Ok(tree)
}

/// One of the kernel's file systems in the room; where the version has no such directory it has none.
fn fresh(fs: &str, root: &Path, at: &str, flags: MountFlags, data: &str) -> sys::Result<()> {
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
    let data = "mode=0755,size=64k";
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let dev = root.join("dev");
    if !std::fs::symlink_metadata(&dev).is_ok_and(|it| it.is_dir()) {
        return Ok(());
    }
    fresh("tmpfs", root, "dev", flags, data)?;
    for (name, major, minor) in DEVICES {
        let at = dev.join(name);
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &at,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            makedev(major, minor),
        );
        made.call(|| format!("mknod({at:?}, c, {major}, {minor})"))?;
        // Whatever this process's umask is: a converter may give up being root.
        let anybody = rustix::fs::chmod(&at, Mode::from_raw_mode(0o666));
        anybody.call(|| format!("chmod({at:?}, 0666)"))?;
    }
    // For shm_open(3): PostgreSQL, for one, does not start without.
    make(&dev.join("shm"))?;
    let flags = flags | MountFlags::NODEV;
    fresh("tmpfs", root, "dev/shm", flags, "mode=1777,size=20%")
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
