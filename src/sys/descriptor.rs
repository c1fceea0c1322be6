//! Descriptors: closing those that a child has no business with, and starting writeback.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::io::Errno;

use super::{Context, Error, Result};

/// Closes every descriptor of this process but `kept` and the first three.
///
/// For a child that was just forked and never returns to the frames of its parent: whatever those own
/// is closed below them.
///
/// # Errors
/// What `close_range` says, except that an older kernel than 5.9 has another way taken.
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> Result<()> {
    let mut kept: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    kept.sort_unstable();
    let mut first: RawFd = 3;
    for fd in kept {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, RawFd::MAX)
}

fn close_range(first: RawFd, last: RawFd) -> Result<()> {
    // SAFETY: closing touches no memory. That nothing of this process uses these descriptors any more
    // is what the caller's contract says; one that did would get EBADF.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if closed == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOSYS) {
        // Before Linux 5.9. The default limit is 1024, and no more are open in an initramfs.
        for fd in first..=last.min(65535) {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
        return Ok(());
    }
    Err(error).call(|| format!("close_range({first}, {last})"))
}

/// Starts writing what was written to a file to its disk, and does not wait for it.
///
/// # Errors
/// `EIO`, `ENOSPC`, `ESPIPE` (no regular file).
pub fn start_writeback(file: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: a descriptor that is borrowed is open; the call takes integers only.
    let started =
        unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    if started == 0 {
        return Ok(());
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
    Err(Error::new("sync_file_range(WRITE)", errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process;
    use std::os::fd::AsFd;

    #[test]
    fn a_child_keeps_the_descriptors_that_it_names_and_no_other() {
        let one = tempfile::tempfile().unwrap();
        let two = tempfile::tempfile().unwrap();
        let child = process::fork(|| {
            if close_all_but(&[two.as_fd()]).is_err() {
                return 1;
            }
            let open = |fd: BorrowedFd<'_>| rustix::io::fcntl_getfd(fd).is_ok();
            i32::from(open(one.as_fd())) * 2 + i32::from(!open(two.as_fd())) * 4
        })
        .unwrap();
        assert_eq!(process::wait_for(child).unwrap(), process::Ended::Exit(0));
    }
}
