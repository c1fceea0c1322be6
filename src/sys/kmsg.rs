//! `/dev/kmsg`: one write is one record of the kernel's log.

use std::fs::{File, OpenOptions};
use std::path::Path;

use super::{Context, Result};

/// The largest record that the kernel takes, in bytes (`PRINTKRB_RECORD_MAX`, kernel/printk): a longer
/// write is `EINVAL` and the record is lost.
pub const RECORD_MAX: usize = 1024;

/// Opens `/dev/kmsg` for writing.
///
/// # Errors
/// `ENOENT`: no devtmpfs yet. `EPERM`: not permitted here.
pub fn open() -> Result<File> {
    let path = Path::new("/dev/kmsg");
    OpenOptions::new()
        .write(true)
        .open(path)
        .call(|| format!("open({path:?}, O_WRONLY)"))
}
