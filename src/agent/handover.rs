//! Switching root: the initramfs is left behind and the real init becomes PID 1.
//!
//! Order, and what is left when a step fails:
//! 1. [`check`]: nothing was touched; the menu can still run.
//! 2. stray mounts are detached, `/dev /proc /sys /run` move into the new root.
//! 3. the new root becomes `/` (`pivot_root` from Linux 7.0 on, else `MS_MOVE` and `chroot`).
//! 4. the initramfs' contents are deleted, by descriptor, never leaving its file system.
//! 5. descriptors 0 to 2 are opened again, init is executed; if it cannot be, the next candidate.
//!
//! Deleting a real root would be the worst of all faults: step 4 runs only with a [`Checked`], which
//! only [`check`] makes, and looks at each entry's device again. A power cut at any point loses nothing:
//! all that is deleted is memory.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::erase;
use crate::say;
use crate::sys::mount as sys_mount;
use crate::sys::{self, console, process};

/// Where an init may be, after the one that was asked for; the kernel's own list (init/main.c) but the shell:
/// a system that lost its init would hand root to whoever sits at the console.
pub const INITS: [&str; 3] = ["/sbin/init", "/etc/init", "/bin/init"];
/// What moves into the new root.
const MOVED: [&str; 4] = ["dev", "proc", "sys", "run"];

/// Where to go.
#[derive(Debug, Clone, Copy)]
pub struct To<'a> {
    /// The mounted new root.
    pub root: &'a Path,
    /// `init=`, a path inside it; where it does not fit, that is said and [`INITS`] are tried.
    pub init: Option<&'a str>,
    /// What follows `argv[0]`.
    pub args: &'a [String],
}

/// For testing without booting: other answers to the questions that [`check`] asks.
#[doc(hidden)]
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Instead of getpid.
    pub pid: Option<i32>,
    /// Instead of `/`.
    pub old_root: Option<PathBuf>,
    /// Instead of statfs of the old root.
    pub old_magic: Option<u64>,
    /// Instead of the old root's device number.
    pub old_device: Option<u64>,
}

/// Why the root was not switched. All but `Call` leave the initramfs as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A copy that was started by hand.
    #[error("this is process {0}, not PID 1: only the init of an initramfs may leave it")]
    NotPid1(i32),
    /// The root that would be deleted is not an initramfs of ours.
    #[error("the present root has no regular file /init: it is no initramfs, nothing is deleted")]
    NoInitFile,
    /// The root that would be deleted is not in memory.
    #[error(
        "the present root is on a file system of type {0:#x}, not ramfs or tmpfs: nothing is deleted"
    )]
    NotInMemory(u64),
    /// Nothing is mounted there.
    #[error("nothing is mounted at {0:?}: it is on the same device as the initramfs")]
    NotMounted(PathBuf),
    /// No directory.
    #[error("{0:?} is not a directory")]
    NotDirectory(PathBuf),
    /// A root that cannot start.
    #[error("there is no init in {0:?} ({1}): give one with init=")]
    NoInit(PathBuf, String),
    /// None of the inits could be executed, after the initramfs was left.
    #[error("no init could be executed: {0}")]
    Exec(sys::Error),
    /// A system call failed.
    #[error(transparent)]
    Call(#[from] sys::Error),
}

/// Proof that the present root is an initramfs in memory and the new one is not on it.
#[derive(Debug)]
pub struct Checked {
    old_root: std::os::fd::OwnedFd,
    old_device: u64,
    inits: Vec<String>,
}

/// Looks at everything that must hold before an initramfs may be left and deleted; changes nothing.
///
/// # Errors
/// The first thing that does not hold.
pub fn check(to: &To<'_>, overrides: &Overrides) -> Result<Checked, Error> {
    let pid = overrides
        .pid
        .unwrap_or_else(|| rustix::process::getpid().as_raw_nonzero().get());
    if pid != 1 {
        return Err(Error::NotPid1(pid));
    }
    let old = overrides.old_root.as_deref().unwrap_or(Path::new("/"));
    let init = std::fs::symlink_metadata(old.join("init"));
    if !init.is_ok_and(|metadata| metadata.is_file()) {
        return Err(Error::NoInitFile);
    }
    let magic = overrides
        .old_magic
        .map_or_else(|| sys_mount::fs_magic(old), Ok)?;
    if magic != sys_mount::RAMFS_MAGIC && magic != sys_mount::TMPFS_MAGIC {
        return Err(Error::NotInMemory(magic));
    }
    let old_root = rustix::fs::open(old, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| sys::Error::new(format!("open({old:?}, O_DIRECTORY)"), errno))?;
    let old_device = overrides.old_device.map_or_else(|| device(old), Ok)?;
    let new = std::fs::metadata(to.root)
        .map_err(|error| sys::Error::from_io(format!("stat({:?})", to.root), &error))?;
    if !new.is_dir() {
        return Err(Error::NotDirectory(to.root.to_owned()));
    }
    if device(to.root)? == old_device {
        return Err(Error::NotMounted(to.root.to_owned()));
    }
    Ok(Checked {
        old_root,
        old_device,
        inits: find_inits(to.root, to.init)?,
    })
}

/// The inits of `root` that can be executed, the asked-for first; says aloud that one cannot be.
///
/// # Errors
/// [`Error::NoInit`]: there is none.
pub fn find_inits(root: &Path, asked: Option<&str>) -> Result<Vec<String>, Error> {
    let dir = sys_mount::open_dir_path(root)?;
    let mut tried = String::new();
    let mut found = Vec::new();
    for (path, is_asked) in asked
        .iter()
        .map(|path| (*path, true))
        .chain(INITS.iter().map(|path| (*path, false)))
    {
        match executable(dir.as_fd(), Path::new(path)) {
            Ok(()) => found.push(path.to_owned()),
            Err(why) => {
                if is_asked {
                    say!("init={path} is not used: {why}");
                }
                tried = format!(
                    "{tried}{}{path}: {why}",
                    if tried.is_empty() { "" } else { ", " }
                );
            }
        }
    }
    if found.is_empty() {
        Err(Error::NoInit(root.to_owned(), tried))
    } else {
        Ok(found)
    }
}

/// Whether `path`, resolved as if the new root were `/`, is a file that can be executed.
fn executable(root: std::os::fd::BorrowedFd<'_>, path: &Path) -> Result<(), String> {
    let file = sys_mount::open_in_root(root, path).map_err(|error| match error.errno {
        Errno::NOENT => "it does not exist".to_owned(),
        _ => error.to_string(),
    })?;
    let stat = rustix::fs::statat(file.as_fd(), "", AtFlags::EMPTY_PATH)
        .map_err(|errno| format!("stat: {errno}"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("it is not a regular file".into());
    }
    if stat.st_mode & 0o111 == 0 {
        return Err("it is not executable".into());
    }
    Ok(())
}

fn device(path: &Path) -> Result<u64, sys::Error> {
    std::fs::metadata(path)
        .map(|metadata| std::os::unix::fs::MetadataExt::dev(&metadata))
        .map_err(|error| sys::Error::from_io(format!("stat({path:?})"), &error))
}

/// Leaves the initramfs and executes the new root's init. Comes back only with an error: before the
/// new root became `/` the initramfs is whole, after it ([`Error::Exec`]) it is gone.
pub fn switch_root(to: &To<'_>) -> Error {
    // No overrides here: a test must never be able to come past the checks.
    match check(to, &Overrides::default()).and_then(|checked| enter(to, checked)) {
        Ok(checked) => start(to, &checked),
        Err(error) => error,
    }
}

fn enter(to: &To<'_>, checked: Checked) -> Result<Checked, Error> {
    super::mount::detach_strays(to.root, &MOVED);
    for name in MOVED {
        move_mount(&Path::new("/").join(name), &to.root.join(name));
    }
    sys_mount::chdir(to.root)?;
    // The initramfs of kernels before 7.0 is mounted on nothing: pivot_root answers EINVAL.
    if sys_mount::pivot_here().is_err() {
        sys_mount::move_to(Path::new("."), Path::new("/"))?;
        sys_mount::chroot_here()?;
    }
    sys_mount::chdir(Path::new("/"))?;
    let left = erase::contents(checked.old_root.as_fd(), checked.old_device);
    if left > 0 {
        log::warn!("{left} entries of the initramfs could not be deleted: their memory stays used");
    }
    Ok(checked)
}

/// A mount that cannot move is taken away: the new root's init then mounts its own.
fn move_mount(from: &Path, to: &Path) {
    match sys_mount::move_to(from, to) {
        Ok(()) => {}
        // Nothing is mounted at `from`.
        Err(error) if error.errno == Errno::INVAL => {}
        Err(error) => {
            log::warn!("{error}; detaching {from:?}");
            let _ = sys_mount::detach(from);
        }
    }
}

fn start(to: &To<'_>, checked: &Checked) -> Error {
    super::setup::restore_settings();
    if let Err(error) = console::open_stdio(Path::new("/dev/console")) {
        log::warn!("descriptors 0 to 2 still point into the initramfs: {error}");
    }
    let mut last = sys::Error::new("execv", Errno::NOENT);
    for init in &checked.inits {
        let mut argv = vec![init.clone()];
        argv.extend_from_slice(to.args);
        last = process::exec(Path::new(init), &argv);
        say!("{last}");
    }
    Error::Exec(last)
}

#[cfg(test)]
#[path = "handover_tests.rs"]
mod tests;
