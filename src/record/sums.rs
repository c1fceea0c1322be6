//! What a recovery kernel's files were when they were installed: GRUB and the agent compare, before they start one
//! with nobody there.

use std::fs::File;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

/// The files of a recovery kernel.
pub const FILES: [&str; 2] = ["vmlinuz", "initrd.img"];
/// The file beside them, with a line for each as sha256sum(1) writes it.
pub const SUMS: &str = "sums";

/// The text of [`SUMS`] for the files as they are.
///
/// # Errors
/// One cannot be read.
pub fn of(directory: &Path) -> io::Result<String> {
    let mut text = String::new();
    for name in FILES {
        let mut digest = Sha256::new();
        let mut file = File::open(directory.join(name))?;
        let mut bytes = [0; 1 << 16];
        loop {
            match io::Read::read(&mut file, &mut bytes)? {
                0 => break,
                read => digest.update(bytes.get(..read).unwrap_or_default()),
            }
        }
        for byte in digest.finalize() {
            text.push_str(&format!("{byte:02x}"));
        }
        text.push_str(&format!("  {name}\n"));
    }
    Ok(text)
}

/// Whether the files are what was installed. True where nobody wrote down what that was.
///
/// # Errors
/// One cannot be read.
pub fn hold(directory: &Path) -> io::Result<bool> {
    match std::fs::read_to_string(directory.join(SUMS)) {
        Ok(text) => Ok(text == of(directory)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_are_those_of_sha256sum_and_tell_a_change() {
        let here = tempfile::tempdir().unwrap();
        for name in FILES {
            std::fs::write(here.path().join(name), "abc").unwrap();
        }
        assert!(hold(here.path()).unwrap());
        let text = of(here.path()).unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(text, format!("{abc}  vmlinuz\n{abc}  initrd.img\n"));
        std::fs::write(here.path().join(SUMS), text).unwrap();
        assert!(hold(here.path()).unwrap());
        std::fs::write(here.path().join("initrd.img"), "ab").unwrap();
        assert!(!hold(here.path()).unwrap());
    }
}
