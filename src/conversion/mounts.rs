//! Mounts of live data that take no writes while it is converted, and until the reboot.
//!
//! Each mount in this mount name space by itself: the file system stays writable, and so do mounts of it in other name
//! spaces, such as a service has that was not stopped. What is written there shows in the data itself, and then what was
//! converted is not used.

use crate::sys::{self, mount, mountinfo};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use crate::sys::mountinfo::Mount;

/// Processes that are named at the most.
const NAMED: usize = 5;

/// Why a mount still takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// These have something open there for writing.
    Busy(Vec<String>),
    /// Something else, for people.
    Other(String),
}

/// What mounts there are, and what becomes of them.
pub trait Mounts {
    /// All mounts of the subvolume at this path below the top level of the root's file system, and of what lies in it.
    fn of(&mut self, live: &str) -> Result<Vec<Mount>, String>;
    /// Makes one take no writes.
    fn make_read_only(&mut self, mount: &Mount) -> Result<(), Failed>;
    /// Makes what is mounted at a path take writes again.
    fn make_writable(&mut self, point: &str) -> Result<(), String>;
}

/// The kernel's.
#[derive(Debug)]
pub struct Kernel {
    proc: PathBuf,
}

impl Default for Kernel {
    fn default() -> Kernel {
        Kernel {
            proc: PathBuf::from("/proc"),
        }
    }
}

impl Kernel {
    fn mountinfo(&self) -> Result<String, String> {
        let path = self.proc.join("self/mountinfo");
        std::fs::read_to_string(&path).map_err(|error| format!("reading {path:?}: {error}"))
    }
}

impl Mounts for Kernel {
    fn of(&mut self, live: &str) -> Result<Vec<Mount>, String> {
        Ok(of_subvolume(&self.mountinfo()?, live))
    }

    fn make_read_only(&mut self, mount: &Mount) -> Result<(), Failed> {
        match mount::set_read_only(Path::new(&mount.point), true) {
            Err(error) if error.errno == Errno::BUSY => {
                return Err(Failed::Busy(writers(&self.proc, mount)));
            }
            other => other.map_err(|error| Failed::Other(error.to_string()))?,
        }
        // By its path, which leads to the topmost one.
        let all = mountinfo::mounts(&self.mountinfo().map_err(Failed::Other)?);
        match all.iter().find(|it| it.id == mount.id) {
            Some(it) if !it.read_only => Err(Failed::Other(format!(
                "{} lies under another mount, so it cannot be made read-only: unmount one of them",
                mount.point
            ))),
            _ => Ok(()),
        }
    }

    fn make_writable(&mut self, point: &str) -> Result<(), String> {
        let done = mount::set_read_only(Path::new(point), false);
        match done {
            // It was unmounted since.
            Err(sys::Error {
                errno: Errno::INVAL | Errno::NOENT,
                ..
            }) => Ok(()),
            other => other.map_err(|error| error.to_string()),
        }
    }
}

/// The mounts of a subvolume of the file system that the root lies on.
fn of_subvolume(mountinfo: &str, live: &str) -> Vec<Mount> {
    let Some(root) = mountinfo::at(mountinfo, "/") else {
        return Vec::new();
    };
    let top = format!("/{live}");
    let inside = |directory: &str| {
        let rest = directory.strip_prefix(top.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let all = mountinfo::mounts(mountinfo).into_iter();
    all.filter(|it| it.number == root.number && inside(&it.directory))
        .collect()
}

/// The processes that have something in a mount open for writing, or mapped so; a few of them, by name and number.
fn writers(proc: &Path, mount: &Mount) -> Vec<String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(proc).into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().parse::<u32>();
        if let Ok(pid) = pid
            && (has_open(&entry.path(), mount) || has_mapped(&entry.path(), mount))
        {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.insert(pid, crate::store::shown(name.trim().as_bytes()));
        }
    }
    let more = found.len().saturating_sub(NAMED);
    let named = found.iter().take(NAMED);
    let mut lines: Vec<String> = named.map(|(pid, name)| format!("{name} ({pid})")).collect();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

/// By the number of the mount in fdinfo: see proc_pid_fdinfo(5).
fn has_open(process: &Path, mount: &Mount) -> bool {
    let all = std::fs::read_dir(process.join("fdinfo"));
    all.into_iter().flatten().flatten().any(|entry| {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let field = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
        };
        let id = field("mnt_id:").and_then(|id| id.parse::<u64>().ok());
        let flags = field("flags:").and_then(|flags| u32::from_str_radix(&flags, 8).ok());
        // O_WRONLY and O_RDWR of <fcntl.h>; O_PATH opens nothing.
        let writes = |flags: u32| flags & 0o3 != 0 && flags & 0o10_000_000 == 0;
        id == Some(mount.id) && flags.is_some_and(writes)
    })
}

/// A shared mapping that can be written to outlives the descriptor that it was made by.
fn has_mapped(process: &Path, mount: &Mount) -> bool {
    let text = std::fs::read_to_string(process.join("maps")).unwrap_or_default();
    let below = format!("{}/", mount.point.trim_end_matches('/'));
    text.lines().any(|line| {
        let mut fields = line.splitn(6, ' ');
        let shared = fields
            .nth(1)
            .is_some_and(|it| it.contains('w') && it.ends_with('s'));
        let path = fields.nth(3).unwrap_or_default().trim_start();
        shared && path.starts_with(&below)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
        22 1 0:29 /@rootfs / rw - btrfs /dev/vda2 rw\n\
        23 22 0:29 /@data /srv/data rw,noatime - btrfs /dev/vda2 rw\n\
        24 22 0:29 /@database /srv/other rw - btrfs /dev/vda2 rw\n\
        25 22 0:29 /@data/www /var/www ro - btrfs /dev/disk/by-uuid/x rw\n\
        26 22 0:31 /@data /mnt/stick rw - btrfs /dev/sdb1 rw\n\
        27 22 0:29 / /mnt/top rw - btrfs /dev/vda2 rw\n";

    #[test]
    fn every_mount_of_the_data_counts_and_no_other() {
        let found = of_subvolume(TEXT, "@data");
        let points: Vec<(&str, bool)> = found
            .iter()
            .map(|it| (it.point.as_str(), it.read_only))
            .collect();
        assert_eq!(points, [("/srv/data", false), ("/var/www", true)]);
        assert_eq!(of_subvolume("", "@data"), []);
    }

    fn process(proc: &Path, pid: &str, fdinfo: &str, maps: &str) {
        let own = proc.join(pid);
        std::fs::create_dir_all(own.join("fdinfo")).unwrap();
        std::fs::write(own.join("fdinfo/3"), fdinfo).unwrap();
        std::fs::write(own.join("maps"), maps).unwrap();
        std::fs::write(own.join("comm"), format!("program{pid}\n")).unwrap();
    }

    #[test]
    fn whoever_writes_there_is_named_and_whoever_reads_is_not() {
        let proc = tempfile::tempdir().unwrap();
        let fdinfo =
            |flags: &str, id: u32| format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t{id}\nino:\t7\n");
        let mapped = |perms: &str, path: &str| {
            format!(
                "7f00-7f01 r--p 00000000 00:1d 7    /usr/lib/x.so\n7f02-7f03 {perms} 00000000 00:1d 8                  {path}\n"
            )
        };
        process(proc.path(), "11", &fdinfo("0100002", 23), "");
        process(proc.path(), "12", &fdinfo("0100001", 24), "");
        process(proc.path(), "13", &fdinfo("0100000", 23), "");
        process(proc.path(), "14", &fdinfo("012000002", 23), "");
        process(proc.path(), "15", "", &mapped("rw-s", "/srv/data/a b"));
        process(proc.path(), "16", "", &mapped("rw-p", "/srv/data/a"));
        process(proc.path(), "17", "", &mapped("rw-s", "/srv/database"));
        std::fs::create_dir(proc.path().join("self")).unwrap();
        let mount = of_subvolume(TEXT, "@data").remove(0);
        assert_eq!(
            writers(proc.path(), &mount),
            ["program11 (11)", "program15 (15)"]
        );
        for pid in 20..26 {
            process(proc.path(), &pid.to_string(), &fdinfo("02", 23), "");
        }
        let named = writers(proc.path(), &mount);
        assert_eq!((named.len(), named[5].as_str()), (6, "and 3 more"));
    }
}
