//! Every unsafe line, every ioctl and every raw system call of backstay, one file a family of calls.
//!
//! Owns: the border between the kernel's errno and our typed errors. Nothing here decides anything:
//! a function makes one call (or reads one structure) and says what came of it. All other modules
//! are free of `unsafe`.
//!
//! Each error names the call with its arguments ([`Error`]), so that a line on a serial console is
//! enough to know what was tried.
#![allow(unsafe_code)]

pub mod btrfs;
pub mod console;
pub mod descriptor;
pub mod fstab;
pub mod kexec;
pub mod kmsg;
pub mod module;
pub mod mount;
pub mod mountinfo;
pub mod power;
pub mod probe;
pub mod process;
pub mod raw_terminal;
pub mod signals;
pub mod uevent;
pub mod watchdog;

use rustix::io::Errno;

/// A system call that failed: which one, with what arguments, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {errno}")]
pub struct Error {
    /// The call as one would read it in strace, for example `mount("/dev/vda2", "/sysroot", "btrfs")`.
    pub call: String,
    /// What the kernel answered; callers branch on this, never on the text.
    pub errno: Errno,
}

impl Error {
    /// An error of `call` (already formatted with its arguments).
    pub fn new(call: impl Into<String>, errno: Errno) -> Self {
        Self {
            call: call.into(),
            errno,
        }
    }

    /// The same from a standard I/O error; one that carries no errno becomes `EIO`.
    pub fn from_io(call: impl Into<String>, error: &std::io::Error) -> Self {
        Self::new(call, Errno::from_io_error(error).unwrap_or(Errno::IO))
    }
}

/// Whether this is the disk's answer, or that it gave none: it was pulled, fails, or is damaged.
pub fn is_of_the_disk(errno: Errno) -> bool {
    matches!(errno, Errno::IO | Errno::NXIO | Errno::NODEV)
}

/// What the calls of this module return.
pub type Result<T> = std::result::Result<T, Error>;

/// Attaches the call's text to a bare errno.
pub(crate) trait Context<T> {
    /// `text` is evaluated only when there is an error to describe.
    fn call(self, text: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn call(self, text: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::new(text(), errno))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn call(self, text: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::from_io(text(), &error))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn call(self, text: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::new(text(), Errno::from_raw_os_error(errno as i32)))
    }
}
