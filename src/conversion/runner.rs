//! Runs a converter: in the version that ships it, on a clone of the data.
//!
//! ```text
//! (the room)          the version's root, read-only: no converter changes a version
//! ├── <config>        its configuration, read-only, and the declared paths that come from it
//! ├── <data>          the clone, writable: the only thing here that is kept
//! ├── dev             null, zero, full, random, urandom, tty; shm: memory
//! ├── proc  sys       of the converter's own processes; sys read-only
//! └── tmp  run  var/tmp   memory, gone with it
//! ```
//! It has a mount, process, network, IPC and host name space of its own: no network, and whatever it started ends with
//! it. What it prints and how long it goes on is told by a [`Teller`]. Past its time it is killed.
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
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two lines that say that it goes on.
const EVERY: Duration = Duration::from_secs(20);
/// How long what it started may take to be gone once it was killed.
const GOING: Duration = Duration::from_secs(10);

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

/// In the child: a room of its own for another child, and that one's end as its own.
fn enclosed(room: &Room, output: &OwnedFd, parent: rustix::process::Pid) -> i32 {
    let told = |error: &dyn core::fmt::Display| {
        let line = format!("{error}\n");
        // Whoever reads the other end tells the last line.
        let _ = rustix::io::write(output, line.as_bytes());
        126
    };
    let apart = || -> sys::Result<()> {
        process::die_with(parent)?;
        process::apart()?;
        mount::apart()
    };
    if let Err(error) = apart() {
        return told(&error);
    }
    // The first process of the process space: whatever it starts ends with it.
    let child = process::fork(|| match inside(room, output) {
        Ok(never) => match never {},
        Err(error) => told(&error),
    });
    match child.and_then(process::wait_for) {
        Ok(Ended::Exit(status)) => status,
        Ok(Ended::Signal(number)) => told(&format!("signal {number}")),
        Err(error) => told(&error),
    }
}

/// Builds the room and becomes the converter.
fn inside(room: &Room, output: &OwnedFd) -> sys::Result<core::convert::Infallible> {
    process::die_with_any_parent()?;
    furnish(room)?;
    let null = File::open("/dev/null").call(|| "open(/dev/null)".to_owned())?;
    console::as_streams(null.as_fd(), output.as_fd())?;
    mount::chdir(&room.at)?;
    mount::chroot_here()?;
    mount::chdir(Path::new("/"))?;
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
    bound(top, &room.root, root, root)?;
    read_only(root)?;
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    fresh("proc", root, "proc", strict, "")?;
    fresh("sysfs", root, "sys", strict | MountFlags::RDONLY, "")?;
    let memory = MountFlags::NOSUID | MountFlags::NODEV;
    for (at, mode) in [("run", "0755"), ("tmp", "1777"), ("var/tmp", "1777")] {
        fresh("tmpfs", root, at, memory, &format!("mode={mode},size=20%"))?;
    }
    devices(root)?;
    if let Some((path, at)) = &room.config {
        bound(top, path, root, &root.join(at))?;
        read_only(&root.join(at))?;
    }
    let (path, at) = &room.data;
    bound(top, path, root, &root.join(at))?;
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
/// room are followed as its own.
fn bound(top: BorrowedFd<'_>, path: &str, root: &Path, at: &Path) -> sys::Result<()> {
    let from = mount::open_in_root(top, Path::new(path))?;
    let room = mount::open_dir_path(root)?;
    let inside = at.strip_prefix(root).unwrap_or(at);
    let to = mount::open_in_root(room.as_fd(), inside)?;
    mount::bind(from.as_fd(), to.as_fd())
}

fn read_only(at: &Path) -> sys::Result<()> {
    let flags = MountFlags::BIND | MountFlags::RDONLY;
    let remounted = rustix::mount::mount_remount(at, flags, "");
    remounted.call(|| format!("mount({at:?}, MS_REMOUNT|{flags:?})"))
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
    }
    // For shm_open(3): PostgreSQL, for one, does not start without.
    make(&dev.join("shm"))?;
    let flags = flags | MountFlags::NODEV;
    fresh("tmpfs", root, "dev/shm", flags, "mode=1777,size=20%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::graph;
    use crate::fence::tests::{app, state};
    use crate::transaction::model::layout;

    #[test]
    fn what_is_said_meanwhile_fits_a_terminal() {
        let line = goes_on(
            "postgresql: 15 to 14",
            Duration::from_secs(86_399),
            Duration::from_secs(86_400),
        );
        assert!(line.len() < 100, "{line}");
        assert!(line.contains("86399 s of 86400"), "{line}");
    }

    #[test]
    fn a_converter_is_told_what_it_is_to_do() {
        let conversion = Conversion {
            dataset: Part::Data(0),
            app: app("shop"),
            step: graph::Step {
                from: state("2"),
                to: state("1"),
                shipped_by: crate::fence::names::Version::Live,
                command: vec!["/usr/bin/down".to_owned()],
                lossless: true,
                cost: 1,
                early: true,
                seconds: 600,
            },
        };
        let layout = layout();
        let its = dataset(&layout, conversion.dataset).unwrap();
        assert_eq!(mount_of(its), Path::new("srv/data"));
        let environment = environment(&conversion, its);
        for line in [
            "BACKSTAY_APP=shop",
            "BACKSTAY_FROM=2",
            "BACKSTAY_TO=1",
            "BACKSTAY_DATA=/srv/data",
        ] {
            assert!(environment.iter().any(|it| it == line), "{line}");
        }
        assert!(dataset(&layout, Part::Data(5)).is_err());
    }
}
