//! Kernel modules: `finit_module(2)`.

use std::ffi::CString;
use std::fs::File;
use std::path::Path;

use rustix::io::Errno;

use super::{Context, Result};

/// `MODULE_INIT_COMPRESSED_FILE` of `<linux/module.h>` (since 5.17): the file is compressed the way
/// the kernel was configured for, and the kernel decompresses it.
pub const MODULE_INIT_COMPRESSED_FILE: i32 = 4;

/// What became of a module that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// It was loaded by this call.
    Now,
    /// It was there already.
    Already,
}

/// True if `path` names a compressed module (`.ko.xz`, `.ko.zst`, `.ko.gz`).
pub fn is_compressed(path: &Path) -> bool {
    path.extension()
        .is_some_and(|e| e == "xz" || e == "zst" || e == "gz")
}

/// Loads the module file at `path` with these parameters, `name=value` with blanks between them.
///
/// The kernel decompresses a compressed file itself. That the module is loaded already is no error.
///
/// # Errors
/// `ENOENT` from opening; from `finit_module`: `ENOEXEC` (not a module for this kernel), `EOPNOTSUPP`
/// (the kernel cannot decompress it), `EPERM` (lockdown, or modules disabled), `ENODEV` (the module
/// found nothing to drive), `ENOENT` (a symbol of a module that is not loaded).
pub fn load(path: &Path, parameters: &str) -> Result<Loaded> {
    let file = File::open(path).call(|| format!("open({path:?})"))?;
    let flags = if is_compressed(path) {
        MODULE_INIT_COMPRESSED_FILE
    } else {
        0
    };
    // A zero byte cannot come from a command line.
    let text = CString::new(parameters).unwrap_or_default();
    match rustix::system::finit_module(&file, &text, flags) {
        Ok(()) => Ok(Loaded::Now),
        Err(Errno::EXIST) => Ok(Loaded::Already),
        Err(errno) => Err(errno).call(|| format!("finit_module({path:?}, {text:?}, {flags})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_module_is_told_by_its_suffix() {
        for (name, compressed) in [
            ("btrfs.ko", false),
            ("btrfs.ko.xz", true),
            ("btrfs.ko.zst", true),
            ("btrfs.ko.gz", true),
            ("xz", false),
        ] {
            assert_eq!(is_compressed(Path::new(name)), compressed, "{name}");
        }
    }

    #[test]
    fn a_missing_module_names_the_call_and_the_file() {
        let error = load(Path::new("/no/such/module.ko"), "").unwrap_err();
        assert_eq!(error.errno, Errno::NOENT);
        assert!(error.to_string().contains("/no/such/module.ko"), "{error}");
    }
}
