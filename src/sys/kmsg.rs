//! `/dev/kmsg`: one write is one record of the kernel's log.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{Context, Result};

/// The largest record that the kernel takes, in bytes (`PRINTKRB_RECORD_MAX`, kernel/printk): a longer
/// write is `EINVAL` and the record is lost.
pub const RECORD_MAX: usize = 1024;

/// The records of the kernel's log that are still there, oldest first, as dmesg(1) prints them: `[    1.234567] text`.
/// Only the first line of a record is shown.
///
/// # Errors
/// `ENOENT`: no devtmpfs yet. `EPERM`: not permitted here.
pub fn records() -> Result<Vec<String>> {
    let path = Path::new("/dev/kmsg");
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .call(|| format!("open({path:?}, O_RDONLY|O_NONBLOCK)"))?;
    let mut lines = Vec::new();
    let mut record = [0; 8192];
    loop {
        match file.read(&mut record) {
            Ok(0) => return Ok(lines),
            Ok(read) => {
                let text = String::from_utf8_lossy(record.get(..read).unwrap_or_default());
                lines.extend(shown(&text));
            }
            // What was overwritten meanwhile: the next one is read.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(lines),
            Err(error) => return Err(super::Error::from_io("read(/dev/kmsg)".to_owned(), &error)),
        }
    }
}

/// `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];TEXT` (Documentation/ABI/testing/dev-kmsg).
fn shown(record: &str) -> Option<String> {
    let (head, text) = record.split_once(';')?;
    let micros: u64 = head.split(',').nth(2)?.parse().ok()?;
    let text = text.lines().next().unwrap_or_default();
    Some(format!(
        "[{:5}.{:06}] {text}",
        micros / 1_000_000,
        micros % 1_000_000
    ))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_shown_as_dmesg_does() {
        assert_eq!(
            shown("6,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n").as_deref(),
            Some("[    5.140900] NET: Registered")
        );
        for garbage in ["", "6,339", "6,339,x,-;text", ";"] {
            assert_eq!(shown(garbage), None);
        }
    }
}
