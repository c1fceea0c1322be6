//! Runs COMMAND in a clone of the system.
//!
//! ```text
//! /                    the clone, writable
//! ├── <config>         the clone of the configuration, and the declared paths that come from it
//! ├── <data>           nothing, read-only: the data is the live system's
//! ├── <subvolume>      nothing: a subvolume inside the live system is no part of a clone of that
//! ├── dev              as live; an initramfs is made for the disks that there are
//! ├── proc  sys        of COMMAND's own processes; sys read-only
//! ├── tmp              memory
//! └── run              memory: resolv.conf where /etc names it here, and backstay/staged, bin, apt.conf
//! ```
//! It has mounts and processes of its own, and the network of the live system. Services do not start, as policy-rc.d says, which
//! is taken away afterwards. GRUB's programs do nothing: what GRUB reads is not the clone's. Whatever COMMAND leaves running
//! ends with it, and the mounts end with that, before anything is sealed. What is done here on disk is done to the clone,
//! which the transaction drops where this fails.

use super::command::{Commands, Ran, Runner, attend};
use super::staged::{FORBIDS, POLICY};
use crate::agent::mount::bind_path;
use crate::record::layout::Part;
use crate::store::Store;
use crate::store::btrfs::Btrfs;
use crate::store::place::Place;
use crate::sys;
use crate::sys::mount::{self, MountFlags};
use crate::sys::process::{self, Ended};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io::{ErrorKind, Read as _, Result as IoResult};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where the clone is seen, until it is the root.
const ROOT: &str = "/run/backstay/upgrade";
/// In the room, this says that it is one: the data is not here, and nothing is asked for from here.
pub const MARK: &str = "/run/backstay/staged";
/// Programs that are found before those of the same name, and do nothing.
const BIN: &str = "/run/backstay/bin";
/// GRUB's, which write what GRUB reads, or the boot sector.
const STOOD_IN: [&str; 3] = ["grub-install", "grub-mkconfig", "update-grub"];
const STANDS_IN: &str =
    "#!/bin/sh\necho \"backstay: ${0##*/} is left to the system that runs\" >&2\n";
/// What apt reads first; it gives dpkg a search path of its own.
const APT: &str = "/run/backstay/apt.conf";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What lay at [`POLICY`] before.
const POLICY_BEFORE: &str = "usr/sbin/policy-rc.d.before-upgrade";
/// What the room answers when there was nothing to do.
const NOTHING: &str = "nothing";

/// What COMMAND is to see.
pub struct Room {
    device: String,
    /// Subvolumes, by their paths below the top level.
    root: String,
    config: Option<(String, PathBuf)>,
    config_paths: Vec<PathBuf>,
    /// Where data is mounted.
    data: Vec<PathBuf>,
    /// Where a subvolume lies in the live system.
    nested: Vec<PathBuf>,
    resolver: Option<Vec<u8>>,
}

impl Room {
    /// Of the clone under this number; `device` is what the file system is mounted from.
    ///
    /// # Errors
    /// For people.
    pub fn of(store: &Btrfs, id: u32, device: &str) -> Result<Room, String> {
        let layout = store.layout();
        let path = |part| {
            let path = Place::Snapshot(id, part).path(layout);
            path.ok_or_else(|| format!("{part:?} is no dataset of this machine"))
        };
        let nested = store.nested(Place::Live(Part::System));
        let nested = nested.map_err(|error| error.to_string())?;
        let below_root = |path: &str| PathBuf::from(path.trim_start_matches('/'));
        Ok(Room {
            device: device.to_owned(),
            root: path(Part::System)?,
            config: match &layout.config {
                Some(config) => Some((path(Part::Config)?, below_root(&config.mount))),
                None => None,
            },
            config_paths: layout
                .config_paths
                .iter()
                .map(|path| PathBuf::from(path.as_str()))
                .collect(),
            data: layout.data.iter().map(|it| below_root(&it.mount)).collect(),
            nested: nested
                .iter()
                .map(|it| PathBuf::from(std::ffi::OsStr::from_bytes(&it.path)))
                .collect(),
            resolver: std::fs::read("/etc/resolv.conf").ok(),
        })
    }
}

/// Runs the commands in a room. This process must have one thread, and have its signals caught ([`sys::signals::catch`]).
pub fn run(room: &Room, commands: &Commands, quiet: bool) -> Ran {
    let failed = |error: &dyn core::fmt::Display| Ran::Failed(format!("it was not begun: {error}"));
    let (reader, writer) = match pipe_with(PipeFlags::CLOEXEC) {
        Ok(ends) => ends,
        Err(errno) => return failed(&format!("pipe2(): {errno}")),
    };
    let parent = rustix::process::getpid();
    let child = match process::fork(|| enclosed(room, commands, quiet, &writer, parent)) {
        Ok(child) => child,
        Err(error) => return failed(&error),
    };
    drop(writer);
    let ended = attend(child, &mut super::command::alone);
    let mut answer = String::new();
    // All who could write are gone.
    std::fs::File::from(reader).read_to_string(&mut answer).ok();
    match ended {
        Ok((Ended::Exit(0), None)) if answer == NOTHING => Ran::Nothing,
        Ok((Ended::Exit(0), None)) => Ran::Done,
        Ok((Ended::Exit(0), Some(signal))) => {
            Ran::Failed(format!("it was interrupted (signal {signal})"))
        }
        Ok((ended, _)) if answer.is_empty() => Ran::Failed(ended.to_string()),
        Ok(_) => Ran::Failed(answer),
        Err(error) => Ran::Failed(format!("nobody knows how it ended: {error}")),
    }
}

/// Tells whoever waits outside; the exit status of a failure.
fn told(answer: &OwnedFd, why: &str) -> i32 {
    // Less than a pipe holds, so nobody has to read meanwhile.
    let why: String = why.chars().take(1000).collect();
    let _ = rustix::io::write(answer, why.as_bytes());
    1
}

/// In the child: name spaces of its own for another child, and that one's end as its own.
fn enclosed(
    room: &Room,
    commands: &Commands,
    quiet: bool,
    answer: &OwnedFd,
    parent: rustix::process::Pid,
) -> i32 {
    let apart = || -> sys::Result<()> {
        process::die_with(parent)?;
        process::apart_processes()?;
        mount::apart()
    };
    if let Err(error) = apart() {
        return told(answer, &error.to_string());
    }
    // The first process of the process space: whatever is left there ends with it.
    let first = process::fork(|| inside(room, commands, quiet, answer));
    let ended = first.and_then(|first| attend(first, &mut super::command::alone));
    match ended {
        Ok((Ended::Exit(status), _)) => status,
        Ok((ended, _)) => told(answer, &ended.to_string()),
        Err(error) => told(answer, &error.to_string()),
    }
}

/// Builds the room, and runs the commands there as the first process does: orphans are its own.
fn inside(room: &Room, commands: &Commands, quiet: bool, answer: &OwnedFd) -> i32 {
    let ready = process::die_with_any_parent()
        .and_then(|()| furnish(room))
        .map_err(|error| error.to_string())
        .and_then(|()| {
            let root = Path::new("/");
            let made = in_memory(room.resolver.as_deref()).and_then(|()| forbid(root));
            made.map_err(|error| format!("preparing the clone: {error}"))
        });
    if let Err(why) = ready {
        return told(answer, &why);
    }
    let mut runner = Runner {
        look: &mut reaped,
        quiet,
        mode: "staged",
        environment: &[
            ("APT_CONFIG", APT.to_owned()),
            ("PATH", format!("{BIN}:{PATH}")),
        ],
    };
    let ran = match commands.prepare(&mut runner) {
        Ran::Done => commands.run(&mut runner),
        other => other,
    };
    if let Err(error) = permit(Path::new("/")) {
        return told(answer, &format!("allowing services again: {error}"));
    }
    match ran {
        Ran::Done => 0,
        Ran::Nothing => {
            told(answer, NOTHING);
            0
        }
        Ran::Failed(why) => told(answer, &why),
    }
}

/// For [`Runner::look`]: everybody who ended, and whether this one did.
fn reaped(child: i32) -> sys::Result<Option<Ended>> {
    while let Some((pid, ended)) = process::reap_one()? {
        if pid == child {
            return Ok(Some(ended));
        }
    }
    Ok(None)
}

/// Mounts everything, and makes it the root.
fn furnish(room: &Room) -> sys::Result<()> {
    let root = Path::new(ROOT);
    make(root).map_err(|error| sys::Error::from_io(format!("mkdir({ROOT:?})"), &error))?;
    subvolume(room, &room.root, root)?;
    if let Some((path, at)) = &room.config {
        subvolume(room, path, &root.join(at))?;
    }
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    fresh("proc", Path::new("proc"), strict, "")?;
    fresh("sysfs", Path::new("sys"), strict | MountFlags::RDONLY, "")?;
    let memory = MountFlags::NOSUID | MountFlags::NODEV;
    fresh("tmpfs", Path::new("run"), memory, "mode=0755")?;
    fresh("tmpfs", Path::new("tmp"), memory, "mode=1777")?;
    for at in &room.data {
        fresh(
            "tmpfs",
            at,
            strict | MountFlags::RDONLY,
            "mode=0755,size=4k",
        )?;
    }
    for at in &room.nested {
        fresh("tmpfs", at, memory, "mode=0755")?;
    }
    mount::bind_all(Path::new("/dev"), &root.join("dev"))?;
    if let Some((_, from)) = &room.config {
        for path in &room.config_paths {
            // As at a start, one that is missing on a side is not mounted.
            if let Err(error) = bind_path(&root.join(from), root, path) {
                log::info!("{error}");
            }
        }
    }
    mount::chdir(root)?;
    mount::pivot_here()?;
    mount::chdir(Path::new("/"))
}

/// Mounts a subvolume of the store, writable and with programs that can be run, unlike the store's own mount.
fn subvolume(room: &Room, path: &str, at: &Path) -> sys::Result<()> {
    let at = in_root(at)?;
    let options = format!("subvol=/{path}");
    mount::mount(
        &room.device,
        &reached(&at),
        "btrfs",
        MountFlags::empty(),
        &options,
    )
}

/// Mounts a file system of the kernel's at a directory of the clone; where it has none, nothing.
fn fresh(fs: &str, at: &Path, flags: MountFlags, data: &str) -> sys::Result<()> {
    let at = match in_root(&Path::new(ROOT).join(at)) {
        Err(error) if error.errno == rustix::io::Errno::NOENT => return Ok(()),
        other => other?,
    };
    mount::mount(fs, &reached(&at), fs, flags, data)
}

/// Opens a directory of the room; links on the way to it are followed as its own.
fn in_root(at: &Path) -> sys::Result<OwnedFd> {
    let root = mount::open_dir_path(Path::new(ROOT))?;
    mount::open_in_root(root.as_fd(), at.strip_prefix(ROOT).unwrap_or(at))
}

/// As mount(2) takes it.
fn reached(at: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", at.as_raw_fd()))
}

fn make(at: &Path) -> IoResult<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(at)
}

/// What lies in the room's /run: the mark, GRUB's programs that do nothing, apt's path to them, and what resolves names.
fn in_memory(resolver: Option<&[u8]>) -> IoResult<()> {
    make(Path::new("/run/lock"))?;
    make(Path::new(BIN))?;
    write(Path::new(MARK), b"", 0o644)?;
    for name in STOOD_IN {
        write(&Path::new(BIN).join(name), STANDS_IN.as_bytes(), 0o755)?;
    }
    write(
        Path::new(APT),
        format!("DPkg::Path \"{BIN}:{PATH}\";\n").as_bytes(),
        0o644,
    )?;
    if let (Some(text), Ok(link)) = (resolver, std::fs::read_link("/etc/resolv.conf"))
        && let Some(at) = in_run(&link)
    {
        if let Some(directory) = at.parent() {
            make(directory)?;
        }
        write(&at, text, 0o644)?;
    }
    Ok(())
}

/// Where a link in /etc leads to, if that is below /run.
fn in_run(link: &Path) -> Option<PathBuf> {
    let mut at = PathBuf::from("/etc");
    for part in link.components() {
        match part {
            std::path::Component::ParentDir => {
                at.pop();
            }
            std::path::Component::CurDir => {}
            other => at.push(other),
        }
    }
    at.starts_with("/run").then_some(at)
}

/// Makes a file that is not there.
fn write(at: &Path, bytes: &[u8], mode: u32) -> IoResult<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(at)?;
    std::io::Write::write_all(&mut file, bytes)
}

/// Forbids services to start. What forbade or allowed them before is kept beside.
fn forbid(root: &Path) -> IoResult<()> {
    let policy = root.join(POLICY);
    match std::fs::rename(&policy, root.join(POLICY_BEFORE)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match policy.parent() {
        // A system without packages that start services has no such directory, and needs none.
        Some(directory) if !directory.is_dir() => Ok(()),
        _ => write(&policy, FORBIDS.as_bytes(), 0o755),
    }
}

/// Takes it back. What a package has put there meanwhile stays.
fn permit(root: &Path) -> IoResult<()> {
    let (policy, before) = (root.join(POLICY), root.join(POLICY_BEFORE));
    let others = match std::fs::read(&policy) {
        Ok(text) => text != FORBIDS.as_bytes(),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    let done = match (others, before.symlink_metadata().is_ok()) {
        (true, true) => std::fs::remove_file(&before),
        (true, false) => Ok(()),
        (false, true) => std::fs::rename(&before, &policy),
        (false, false) => std::fs::remove_file(&policy),
    };
    match done {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_with(policy: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("usr/sbin")).unwrap();
        if let Some(text) = policy {
            std::fs::write(root.path().join(POLICY), text).unwrap();
        }
        root
    }

    fn names(root: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(root.join("usr/sbin")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn services_are_forbidden_by_a_program_that_says_101() {
        let root = root_with(None);
        forbid(root.path()).unwrap();
        let status = std::process::Command::new(root.path().join(POLICY)).status();
        assert_eq!(status.unwrap().code(), Some(101));
        permit(root.path()).unwrap();
        assert_eq!(names(root.path()), [""; 0]);
    }

    #[test]
    fn what_forbade_services_before_is_there_again_afterwards() {
        let root = root_with(Some("its own"));
        forbid(root.path()).unwrap();
        permit(root.path()).unwrap();
        assert_eq!(names(root.path()), ["policy-rc.d"]);
        let text = std::fs::read_to_string(root.path().join(POLICY)).unwrap();
        assert_eq!(text, "its own");
    }

    #[test]
    fn what_a_package_has_put_there_meanwhile_stays() {
        for before in [None, Some("its own")] {
            let root = root_with(before);
            forbid(root.path()).unwrap();
            let policy = root.path().join(POLICY);
            std::fs::remove_file(&policy).unwrap();
            std::fs::write(&policy, "the package's").unwrap();
            permit(root.path()).unwrap();
            assert_eq!(names(root.path()), ["policy-rc.d"]);
            assert_eq!(std::fs::read_to_string(policy).unwrap(), "the package's");
        }
        // One that took ours away.
        let root = root_with(None);
        forbid(root.path()).unwrap();
        std::fs::remove_file(root.path().join(POLICY)).unwrap();
        permit(root.path()).unwrap();
    }

    #[test]
    fn what_resolves_names_is_found_where_a_link_leads_into_run() {
        for (link, at) in [
            (
                "../run/systemd/resolve/stub-resolv.conf",
                Some("/run/systemd/resolve/stub-resolv.conf"),
            ),
            (
                "/run/resolvconf/resolv.conf",
                Some("/run/resolvconf/resolv.conf"),
            ),
            ("resolv.conf.static", None),
            ("../running", None),
        ] {
            assert_eq!(in_run(Path::new(link)), at.map(PathBuf::from), "{link}");
        }
    }
}
