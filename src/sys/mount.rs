//! Mounts: `mount(2)`, bind by descriptor, move, unmount, `pivot_root(2)`, `statfs(2)`.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
pub use rustix::mount::MountFlags;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::{Context, Error, Result};

/// `RAMFS_MAGIC` of `<linux/magic.h>`.
pub const RAMFS_MAGIC: u64 = 0x8584_58f6;
/// `TMPFS_MAGIC` of `<linux/magic.h>`.
pub const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Mounts `source` of type `fs` at `target`. `data` is the file system's own option string, at most
/// one page.
///
/// # Errors
/// What mount(2) says; `EINVAL` too for a NUL in `data`.
pub fn mount(source: &str, target: &Path, fs: &str, flags: MountFlags, data: &str) -> Result<()> {
    let shown = || format!("mount({source:?}, {target:?}, {fs:?}, {flags:?}, {data:?})");
    let text = CString::new(data).map_err(|_| Error::new(shown(), Errno::INVAL))?;
    let data = (!data.is_empty()).then_some(text.as_c_str());
    rustix::mount::mount(source, target, fs, flags, data).call(shown)
}

/// Moves the mount at `from` to the directory `to`.
///
/// # Errors
/// `EINVAL`: `from` is not a mount point, or lies on a shared mount.
pub fn move_to(from: &Path, to: &Path) -> Result<()> {
    rustix::mount::mount_move(from, to).call(|| format!("mount({from:?}, {to:?}, MS_MOVE)"))
}

/// Opens `path` below the directory `root` as O_PATH, with every symlink resolved as if `root` were `/`.
///
/// # Errors
/// What openat2(2) says; `EXDEV` or `ELOOP` where a link tries to leave.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    };
    rustix::fs::openat2(
        root,
        relative,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
    .call(|| format!("openat2(root, {relative:?}, O_PATH, RESOLVE_IN_ROOT)"))
}

/// Binds the object behind `from` over the object behind `to` (both O_PATH descriptors), not recursively.
///
/// By descriptor, so that nothing is resolved twice.
///
/// # Errors
/// `ENOTDIR`: one is a directory and the other is not. `EPERM` without CAP_SYS_ADMIN.
pub fn bind(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let tree = rustix::mount::open_tree(
        from,
        "",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH,
    )
    .call(|| "open_tree(from, OPEN_TREE_CLONE)".into())?;
    rustix::mount::move_mount(
        tree.as_fd(),
        "",
        to,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .call(|| "move_mount(tree, to)".into())
}

/// Binds a directory over another one, with all that is mounted below it.
///
/// # Errors
/// What mount(2) says.
pub fn bind_all(from: &Path, to: &Path) -> Result<()> {
    rustix::mount::mount_bind_recursive(from, to)
        .call(|| format!("mount({from:?}, {to:?}, MS_BIND|MS_REC)"))
}

/// `struct mount_attr` of `<linux/mount.h>`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// `MOUNT_ATTR_RDONLY` of `<linux/mount.h>`.
const MOUNT_ATTR_RDONLY: u64 = 1;

/// Makes the topmost mount at `at` take no writes, or take them again; its other options and other mounts of the same file
/// system stay as they are. mount_setattr(2), since Linux 5.12.
///
/// # Errors
/// `EBUSY`: something in it is open for writing. `EINVAL`: not a mount point. `ENOSYS`.
pub fn set_read_only(at: &Path, read_only: bool) -> Result<()> {
    let shown = || format!("mount_setattr({at:?}, read-only {read_only})");
    let path =
        CString::new(at.as_os_str().as_bytes()).map_err(|_| Error::new(shown(), Errno::INVAL))?;
    let (attr_set, attr_clr) = match read_only {
        true => (MOUNT_ATTR_RDONLY, 0),
        false => (0, MOUNT_ATTR_RDONLY),
    };
    let attributes = MountAttr {
        attr_set,
        attr_clr,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: `path` is NUL-terminated and `attributes` is a mount_attr of the given size; both outlive the call, which only
    // reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            &raw const attributes,
            core::mem::size_of::<MountAttr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(Error::from_io(shown(), &std::io::Error::last_os_error())),
    }
}

/// Unmounts what is at `at`.
///
/// # Errors
/// `EBUSY`: something is open there. `EINVAL`: not a mount point.
pub fn unmount(at: &Path) -> Result<()> {
    rustix::mount::unmount(at, UnmountFlags::NOFOLLOW).call(|| format!("umount2({at:?}, NOFOLLOW)"))
}

/// Takes the mount at `at` out of the tree at once; it ends when its last user does.
///
/// # Errors
/// `EINVAL`: not a mount point.
pub fn detach(at: &Path) -> Result<()> {
    rustix::mount::unmount(at, UnmountFlags::DETACH).call(|| format!("umount2({at:?}, DETACH)"))
}

/// `pivot_root(".", ".")`: the current directory (a mount) becomes the root, the old root lies on top
/// of it and is then detached.
///
/// # Errors
/// `EINVAL` on the initramfs of kernels before 7.0, whose root is mounted on nothing.
pub fn pivot_here() -> Result<()> {
    rustix::process::pivot_root(".", ".").call(|| "pivot_root(\".\", \".\")".into())?;
    detach(Path::new("."))
}

/// `chroot(".")`.
///
/// # Errors
/// `EPERM` without CAP_SYS_CHROOT.
pub fn chroot_here() -> Result<()> {
    rustix::process::chroot(".").call(|| "chroot(\".\")".into())
}

/// `chdir(path)`.
///
/// # Errors
/// What chdir(2) says.
pub fn chdir(path: &Path) -> Result<()> {
    rustix::process::chdir(path).call(|| format!("chdir({path:?})"))
}

/// The magic number of the file system that holds `path` (`<linux/magic.h>`).
///
/// # Errors
/// What statfs(2) says.
pub fn fs_magic(path: &Path) -> Result<u64> {
    let info = rustix::fs::statfs(path).call(|| format!("statfs({path:?})"))?;
    // The kernel's magic numbers are 32 bits wide; the field is signed on some targets.
    Ok((info.f_type as u64) & 0xffff_ffff)
}

/// Opens a directory as O_PATH (following links).
///
/// # Errors
/// What open(2) says.
pub fn open_dir_path(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(
        CWD,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .call(|| format!("open({path:?}, O_PATH|O_DIRECTORY)"))
}
/// A mount namespace of its own: nothing that is mounted or unmounted from here on is seen outside.
///
/// # Errors
/// Those of unshare(2) and mount(2).
pub fn apart() -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(|errno| {
        Error::new(
            "unshare(CLONE_NEWNS)".to_owned(),
            Errno::from_raw_os_error(errno as i32),
        )
    })?;
    let all =
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", all).call(|| "mount(\"/\", MS_PRIVATE|MS_REC)".to_owned())
}
