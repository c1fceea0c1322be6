//! Deletes the contents of a directory by descriptor without leaving its file system.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat, unlinkat};

/// Deeper than any initramfs; a bound on the stack.
const DEPTH_MAX: u32 = 64;

/// Deletes all below `dir` that lies on `device`, and returns how many entries could not be deleted.
/// Entries on other devices (mounts) are left alone and not counted. Links are deleted, never followed.
pub fn contents(dir: BorrowedFd<'_>, device: u64) -> usize {
    below(dir, device, DEPTH_MAX)
}

fn below(dir: BorrowedFd<'_>, device: u64, depth: u32) -> usize {
    let Ok(entries) = Dir::read_from(dir) else {
        return 1;
    };
    // All names first: a directory that changes under a reader may be read twice or not at all.
    let names: Vec<_> = entries
        .flatten()
        .map(|entry| entry.file_name().to_owned())
        .filter(|name| name.as_c_str() != c"." && name.as_c_str() != c"..")
        .collect();
    let mut left = 0;
    for name in names {
        let Ok(stat) = statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) else {
            left += 1;
            continue;
        };
        if stat.st_dev != device {
            continue;
        }
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_dir && depth > 0 {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(dir, &name, flags, Mode::empty()) {
                Ok(inner) => left += below(inner.as_fd(), device, depth - 1),
                Err(_) => left += 1,
            }
        }
        let flags = if is_dir {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        if unlinkat(dir, &name, flags).is_err() {
            left += 1;
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, create_dir_all, metadata};
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn all_below_goes_and_what_a_link_points_to_stays() {
        let outside = tempfile::tempdir().unwrap();
        File::create(outside.path().join("kept")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        create_dir_all(dir.path().join("a/b/c")).unwrap();
        File::create(dir.path().join("a/b/file")).unwrap();
        symlink(outside.path(), dir.path().join("a/link")).unwrap();
        let handle = File::open(dir.path()).unwrap();
        let device = metadata(dir.path()).unwrap().dev();
        assert_eq!(contents(handle.as_fd(), device), 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn nothing_on_another_device_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        create_dir_all(dir.path().join("a/b")).unwrap();
        File::create(dir.path().join("a/b/file")).unwrap();
        let handle = File::open(dir.path()).unwrap();
        let other = metadata(dir.path()).unwrap().dev() + 1;
        assert_eq!(contents(handle.as_fd(), other), 0);
        assert!(dir.path().join("a/b/file").exists());
    }
}
