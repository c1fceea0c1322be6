//! What early boot mounts: the kernel's file systems, the store, the root and what belongs in it.
//!
//! Nothing is written to a disk here beyond what the kernel itself does at a mount: a writable mount of
//! btrfs replays the log tree, and so does a read-only one unless [`Rung::NoReplay`] is asked for.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::options;
use crate::sys::mount::{self as sys_mount, MountFlags};
use crate::sys::{self, Result, mountinfo};

/// A way to mount a btrfs file system, each tried after the one before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// Writable.
    Writable,
    /// Read-only; replays the log tree, so it writes where the superblock's log_root is not 0.
    ReadOnly,
    /// `ro,rescue=nologreplay`: writes nothing at all. Neither a writable mount nor a remount works
    /// while it is held.
    NoReplay,
    /// `ro,rescue=usebackuproot,rescue=nologreplay`: an older root of the tree, for a disk that is damaged. The kernel forgets the first
    /// option once it is mounted, and a writable mount would put the older root in the place of the newest one; the
    /// second one keeps it from that, as long as anything of it is mounted. The log belongs to the newest root anyway.
    BackupRoot,
}

impl Rung {
    /// Everything, best first.
    pub const LADDER: [Rung; 4] = [
        Rung::Writable,
        Rung::ReadOnly,
        Rung::NoReplay,
        Rung::BackupRoot,
    ];

    /// The rungs below the writable one.
    pub const READ_ONLY: [Rung; 3] = [Rung::ReadOnly, Rung::NoReplay, Rung::BackupRoot];

    /// Whether what is mounted this way can be written to.
    pub fn is_writable(self) -> bool {
        self == Rung::Writable
    }

    /// Whether it is an ordinary mount, as the root's is: without `rescue=`.
    pub fn is_plain(self) -> bool {
        self.data().is_empty()
    }

    fn flags(self) -> MountFlags {
        if self.is_writable() {
            MountFlags::empty()
        } else {
            MountFlags::RDONLY
        }
    }

    /// The options of btrfs that it takes.
    pub fn data(self) -> &'static str {
        match self {
            Rung::Writable | Rung::ReadOnly => "",
            Rung::NoReplay => "rescue=nologreplay",
            Rung::BackupRoot => "rescue=usebackuproot,rescue=nologreplay",
        }
    }
}

impl std::fmt::Display for Rung {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Rung::Writable => "writable",
            Rung::ReadOnly => "read-only",
            Rung::NoReplay => "read-only, without log replay",
            Rung::BackupRoot => "read-only, from a backup root",
        })
    }
}

/// Why no rung of the ladder held: each with the kernel's answer, in the order tried.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the file system could not be mounted in any way: {}", self.describe())]
pub struct NotMounted {
    /// What was tried and what the kernel said.
    pub tried: Vec<(Rung, sys::Error)>,
}

impl NotMounted {
    /// The kernel's answers alone.
    pub fn reasons(&self) -> String {
        let reasons: Vec<String> = self
            .tried
            .iter()
            .map(|(_, it)| it.errno.to_string())
            .collect();
        reasons.join("; ")
    }

    /// Whether the disk itself was the reason, every time.
    pub fn is_of_the_disk(&self) -> bool {
        let mut tried = self.tried.iter();
        !self.tried.is_empty() && tried.all(|(_, error)| sys::is_of_the_disk(error.errno))
    }

    fn describe(&self) -> String {
        let lines: Vec<String> = self
            .tried
            .iter()
            .map(|(rung, error)| format!("{rung}: {}", error.errno))
            .collect();
        lines.join("; ")
    }
}

/// Mounts the top level (subvolume id 5) of the btrfs file system on `devices` at `at` by the first of
/// `rungs` that holds.
///
/// All devices are named to the kernel (`device=`): no scan is needed before. A missing one fails the
/// mount unless `degraded` is set, which only a person may ask for.
///
/// # Errors
/// What each rung met.
pub fn top_level(
    devices: &[PathBuf],
    at: &Path,
    rungs: &[Rung],
    degraded: bool,
) -> std::result::Result<Rung, NotMounted> {
    let mut tried = Vec::new();
    for rung in rungs {
        let degraded = if degraded { "degraded" } else { "" };
        let data = options::join(&[
            "subvolid=5",
            rung.data(),
            degraded,
            &device_options(devices),
        ]);
        match btrfs(devices, at, rung.flags(), &data) {
            Ok(()) => return Ok(*rung),
            Err(error) => {
                log::warn!("{error}");
                tried.push((*rung, error));
            }
        }
    }
    Err(NotMounted { tried })
}

/// Mounts the subvolume `subvol` (a path from the top level, `@rootfs`) at `at` with the options that
/// the user gave in `rootflags`; a `subvol=` or `subvolid=` among them is replaced.
///
/// # Errors
/// What mount(2) says; `ENOENT`: there is no such subvolume.
pub fn subvolume(
    devices: &[PathBuf],
    subvol: &str,
    at: &Path,
    rootflags: &str,
    read_only: bool,
) -> Result<()> {
    let (mut flags, data) = options::split(rootflags);
    flags.set(MountFlags::RDONLY, read_only);
    let data = options::without(&data, &["subvol", "subvolid"]);
    let subvol = format!("subvol={subvol}");
    btrfs(
        devices,
        at,
        flags,
        &options::join(&[&subvol, &data, &device_options(devices)]),
    )
}

/// Mounts the subvolume `subvol` at the directory `path` of the root that is mounted at `root`, where
/// every link on the way is resolved as if `root` were `/`: none leads into the initramfs.
///
/// # Errors
/// `ENOENT`: there is no such directory, or no such subvolume.
pub fn subvolume_in_root(
    devices: &[PathBuf],
    subvol: &str,
    root: &Path,
    path: &Path,
    rootflags: &str,
    read_only: bool,
) -> Result<()> {
    let dir = sys_mount::open_dir_path(root)?;
    let target = sys_mount::open_in_root(dir.as_fd(), path)?;
    let at = format!("/proc/self/fd/{}", target.as_raw_fd());
    subvolume(devices, subvol, Path::new(&at), rootflags, read_only).map_err(|error| {
        sys::Error::new(
            format!("at {path:?} of {root:?}: {}", error.call),
            error.errno,
        )
    })
}

/// Mounts the default subvolume at `at`: what a root without `subvol=` is.
///
/// # Errors
/// What mount(2) says.
pub fn default_subvolume(
    devices: &[PathBuf],
    at: &Path,
    rootflags: &str,
    read_only: bool,
) -> Result<()> {
    let (mut flags, data) = options::split(rootflags);
    flags.set(MountFlags::RDONLY, read_only);
    btrfs(
        devices,
        at,
        flags,
        &options::join(&[&data, &device_options(devices)]),
    )
}

/// Mounts a root of any type as `root=`, `rootflags=` and `ro` say; `fs` from `rootfstype=` or a probe.
///
/// # Errors
/// What mount(2) says.
pub fn root(device: &Path, fs: &str, at: &Path, rootflags: &str, read_only: bool) -> Result<()> {
    let (mut flags, data) = options::split(rootflags);
    flags.set(MountFlags::RDONLY, read_only);
    sys_mount::mount(&device.to_string_lossy(), at, fs, flags, &data)
}

fn btrfs(devices: &[PathBuf], at: &Path, flags: MountFlags, data: &str) -> Result<()> {
    let Some(first) = devices.first() else {
        return Err(sys::Error::new(
            format!("mount(no device, {at:?})"),
            Errno::NODEV,
        ));
    };
    sys_mount::mount(&first.to_string_lossy(), at, "btrfs", flags, data)
}

/// `device=` for each member but the one that is mounted by name.
fn device_options(devices: &[PathBuf]) -> String {
    let each: Vec<String> = devices
        .iter()
        .skip(1)
        .map(|path| format!("device={}", path.display()))
        .collect();
    each.join(",")
}

/// Binds `from_root`/`path` over `to_root`/`path`. Links inside each root are resolved as if it were
/// `/`, so none leads outside. A missing target of a directory is an error: a read-only root cannot
/// get one, and a made-up one would hide a wrong layout.
///
/// # Errors
/// `ENOENT`: it is missing on one side; `ENOTDIR`: a file on one side and a directory on the other.
pub fn bind_path(from_root: &Path, to_root: &Path, path: &Path) -> Result<()> {
    let from_dir = sys_mount::open_dir_path(from_root)?;
    let to_dir = sys_mount::open_dir_path(to_root)?;
    let from = sys_mount::open_in_root(from_dir.as_fd(), path)?;
    let to = sys_mount::open_in_root(to_dir.as_fd(), path)?;
    sys_mount::bind(from.as_fd(), to.as_fd()).map_err(|error| {
        sys::Error::new(
            format!(
                "bind {path:?} of {from_root:?} into {to_root:?}: {}",
                error.call
            ),
            error.errno,
        )
    })
}

/// Mounts one of the kernel's own file systems, unless something is mounted there already: a second
/// worker finds what the first one left.
///
/// # Errors
/// What mkdir(2) and mount(2) say.
pub fn api(fs: &str, at: &Path, flags: MountFlags, data: &str) -> Result<()> {
    if let Err(error) = std::fs::create_dir(at)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(sys::Error::from_io(format!("mkdir({at:?})"), &error));
    }
    if is_mount_point(at) {
        return Ok(());
    }
    match sys_mount::mount(fs, at, fs, flags, data) {
        // devtmpfs, proc and sysfs are one file system each: the same again is EBUSY.
        Err(error) if error.errno == Errno::BUSY => Ok(()),
        other => other,
    }
}

/// `/sys` and `/run`, which the worker needs beside what PID 1 mounted; then the record of what was
/// said starts in `/run`.
///
/// # Errors
/// What mount(2) says.
pub fn api_for_worker() -> Result<()> {
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    api("sysfs", Path::new("/sys"), strict, "")?;
    // As systemd mounts it; the booted system takes it over.
    api(
        "tmpfs",
        Path::new("/run"),
        MountFlags::NOSUID | MountFlags::NODEV,
        "mode=0755,size=20%",
    )?;
    super::log::record_in_run();
    Ok(())
}

/// True if `at` is on another device than its parent.
pub fn is_mount_point(at: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    device(at).is_some() && device(at) != device(&at.join(".."))
}

/// Unmounts what is at `at`; where it is busy it is detached, and that is logged.
///
/// # Errors
/// `EINVAL`: nothing is mounted there.
pub fn unmount(at: &Path) -> Result<()> {
    match sys_mount::unmount(at) {
        Err(error) if error.errno == Errno::BUSY => {
            log::warn!("{error}; detaching it");
            sys_mount::detach(at)
        }
        other => other,
    }
}

/// Unmounts all that is mounted at or below `at`, deepest first: a worker begins with it, as the one
/// before may have died anywhere.
pub fn clear(at: &Path) {
    for mounted in mounts()
        .iter()
        .rev()
        .filter(|mounted| mounted.starts_with(at))
    {
        if let Err(error) = unmount(mounted) {
            log::warn!("{error}");
        }
    }
}

/// Detaches every mount of the initramfs but `keep` (names below `/`) and what is below `new_root`:
/// what stays mounted behind the new root can never be unmounted again.
pub(super) fn detach_strays(new_root: &Path, keep: &[&str]) {
    let kept = |mounted: &Path| {
        mounted == Path::new("/")
            || mounted.starts_with(new_root)
            || keep
                .iter()
                .any(|name| mounted.starts_with(Path::new("/").join(name)))
    };
    for mounted in mounts().iter().rev().filter(|mounted| !kept(mounted)) {
        log::info!("detaching {mounted:?}, which was left mounted");
        if let Err(error) = sys_mount::detach(mounted) {
            log::warn!("{error}");
        }
    }
}

/// All mount points in the order they were mounted.
fn mounts() -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = mountinfo::mounts(&text).into_iter();
    mounts.map(|mount| PathBuf::from(mount.point)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_writes_less_and_less_and_only_its_first_rung_is_writable() {
        let shown: Vec<_> = Rung::LADDER
            .iter()
            .map(|r| (r.is_writable(), r.is_plain(), r.data()))
            .collect();
        assert_eq!(
            shown,
            [
                (true, true, ""),
                (false, true, ""),
                (false, false, "rescue=nologreplay"),
                (false, false, "rescue=usebackuproot,rescue=nologreplay")
            ]
        );
        assert!(
            Rung::LADDER
                .iter()
                .skip(1)
                .all(|r| r.flags() == MountFlags::RDONLY)
        );
        // What holds only so is never written to by whoever mounts it next.
        let kept = |r: &Rung| r.is_plain() || r.data().contains("nologreplay");
        assert!(Rung::LADDER.iter().all(kept));
    }

    #[test]
    fn each_further_device_is_named_to_the_kernel() {
        let devices = ["/dev/vda", "/dev/vdb", "/dev/vdc"].map(PathBuf::from);
        assert_eq!(device_options(&devices), "device=/dev/vdb,device=/dev/vdc");
        assert_eq!(device_options(&devices[..1]), "");
    }

    #[test]
    fn a_mount_without_a_device_is_refused_without_a_call() {
        let error = top_level(&[], Path::new("/nowhere"), &Rung::LADDER, false).unwrap_err();
        assert_eq!(error.tried.len(), 4);
        assert!(error.to_string().contains("writable: "), "{error}");
    }
}
