//! Copies of disk images that leave holes as holes.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::toolbox::{Error, io_error};

/// Copies a raw image to `to` (which is replaced): only what is not a hole is read and written, and
/// nothing at all where the file system can share blocks.
pub fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let source = File::open(from).map_err(io_error("open", from))?;
    let _ = fs::remove_file(to);
    let target = File::create(to).map_err(io_error("create", to))?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        return Ok(());
    }
    copy_extents(&source, &target).map_err(io_error("copy to", to))
}

fn copy_extents(source: &File, target: &File) -> io::Result<()> {
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut at = 0;
    while at < size {
        let begin = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(begin) => begin,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let end = rustix::fs::seek(source, SeekFrom::Hole(begin))?;
        copy_range(source, target, begin, end)?;
        at = end;
    }
    Ok(())
}

fn copy_range(source: &File, target: &File, begin: u64, end: u64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (begin, begin);
    while read_at < end {
        let length = usize::try_from(end - read_at).unwrap_or(usize::MAX);
        let (read, write) = (Some(&mut read_at), Some(&mut write_at));
        if rustix::fs::copy_file_range(source, read, target, write, length)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_copy_is_equal_and_as_sparse() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let mut file = File::create(&from).unwrap();
        for (at, text) in [(0, "begin"), (5 << 20, "middle")] {
            file.seek(io::SeekFrom::Start(at)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
        file.set_len(64 << 20).unwrap();
        fs::write(&to, "something else").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read(&from).unwrap(), fs::read(&to).unwrap());
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20);
    }
}
