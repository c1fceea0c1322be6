//! Files outside the records: GRUB's and the recovery kernel's. Each is whole old or whole new.

use super::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces a file whose directory exists. On disk after the next sync.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    let write = || -> std::io::Result<()> {
        let mut file = create(new)?;
        file.write_all(bytes)?;
        // Without it a commit may hold the new name and not yet the new bytes.
        file.sync_all()?;
        std::fs::rename(new, path)
    };
    write().map_err(Error::file("writing", path))
}

/// Copies a file's content; what was at `to` is overwritten. On disk on return.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut source = File::open(from).map_err(Error::file("reading", from))?;
    let mut write = || -> std::io::Result<()> {
        let mut target = create(to)?;
        std::io::copy(&mut source, &mut target)?;
        target.sync_all()
    };
    write().map_err(Error::file("writing", to))
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        for text in ["first and longer", "second"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let to = directory.path().join("b");
        copy(&path, &to).unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "second");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
        let missing = replace(&directory.path().join("x/y"), b"").unwrap_err();
        assert!(missing.to_string().contains("x/y"), "{missing}");
    }
}
