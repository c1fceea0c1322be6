//! `kexec_file_load(2)`: rustix and nix have no form of it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::io::Errno;

use super::{Error, Result};

/// `KEXEC_FILE_UNLOAD` of `<linux/kexec.h>`: what was loaded is dropped.
const KEXEC_FILE_UNLOAD: libc::c_ulong = 0x1;
/// `KEXEC_FILE_NO_INITRAMFS` of `<linux/kexec.h>`: there is no initrd descriptor.
const KEXEC_FILE_NO_INITRAMFS: libc::c_ulong = 0x4;

/// Loads `kernel` (and `initrd`) with `cmdline`, ready for [`super::power::kexec`].
///
/// The kernel copies both files: the descriptors may be closed and their file systems unmounted after it.
///
/// # Errors
/// `EPERM` (lockdown, `kexec_load_disabled`, no CAP_SYS_BOOT), `ENOSYS` (kernel without the call),
/// `EKEYREJECTED`/`ENODATA`/`ENOKEY` (signature wanted), `ENOEXEC` (not a kernel image), `EINVAL`
/// (a NUL in `cmdline`, or a command line longer than the kernel takes), `ENOMEM`.
pub fn load(kernel: BorrowedFd<'_>, initrd: Option<BorrowedFd<'_>>, cmdline: &str) -> Result<()> {
    let shown = || {
        format!(
            "kexec_file_load(kernel, initrd: {}, {cmdline:?})",
            initrd.is_some()
        )
    };
    let text = CString::new(cmdline).map_err(|_| Error::new(shown(), Errno::INVAL))?;
    let (initrd_fd, flags) = match initrd {
        Some(fd) => (fd.as_raw_fd(), 0),
        None => (-1, KEXEC_FILE_NO_INITRAMFS),
    };
    call(kernel.as_raw_fd(), initrd_fd, Some(&text), flags, shown)
}

/// Drops what was loaded.
///
/// # Errors
/// `EPERM`, `ENOSYS`: nothing could be loaded either.
pub fn unload() -> Result<()> {
    let shown = || "kexec_file_load(KEXEC_FILE_UNLOAD)".to_owned();
    call(-1, -1, None, KEXEC_FILE_UNLOAD, shown)
}

fn call(
    kernel: RawFd,
    initrd: RawFd,
    line: Option<&CStr>,
    flags: libc::c_ulong,
    shown: impl FnOnce() -> String,
) -> Result<()> {
    let length = line.map_or(0, |line| line.to_bytes_with_nul().len());
    // SAFETY: the descriptors are open during the call, or -1; `line` is a NUL-terminated buffer of `length` bytes
    // that outlives it, or null with 0, and the kernel only reads it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel,
            initrd,
            length as libc::c_ulong,
            line.map_or(std::ptr::null(), CStr::as_ptr),
            flags,
        )
    };
    outcome(result, shown)
}

fn outcome(result: libc::c_long, call: impl FnOnce() -> String) -> Result<()> {
    if result == 0 {
        return Ok(());
    }
    Err(Error::from_io(call(), &std::io::Error::last_os_error()))
}
