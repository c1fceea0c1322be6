//! Reads an initramfs that [`build`](crate::build) wrote.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::build::{Error, SETTING_MAX, SETTINGS};

/// The settings in an initramfs, by their paths below etc/backstay: `policy.toml`, `keys/NAME.pub`.
///
/// # Errors
/// [`Error::Io`]: it cannot be read, or is no archive of that form.
pub fn settings(image: &Path) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    read(image).map_err(|source| Error::Io {
        what: format!("read({image:?})"),
        source,
    })
}

fn read(image: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut rest = BufReader::new(File::open(image)?);
    let mut found = BTreeMap::new();
    loop {
        let mut entry = cpio::newc::Reader::new(rest)?;
        if entry.entry().is_trailer() {
            return Ok(found);
        }
        let is_file = entry.entry().mode() & 0o170_000 == 0o100_000;
        if let Some(name) = entry
            .entry()
            .name()
            .strip_prefix(SETTINGS)
            .filter(|_| is_file)
        {
            let name = name.to_owned();
            let mut bytes = Vec::new();
            (&mut entry).take(SETTING_MAX).read_to_end(&mut bytes)?;
            found.insert(name, bytes);
        }
        rest = entry.finish()?;
    }
}
