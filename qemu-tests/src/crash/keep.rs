//! What is kept under target/crash of a verb that failed, so that its states can be played again exactly:
//! no two runs of a verb write the same bytes (UUIDs and times differ), so a name alone would not do.
//!
//! ```text
//! target/crash/VERB/base        the disk before the verb
//! target/crash/VERB/writes      what the verb wrote
//! target/crash/VERB/STATE       how a failed state's disk differs from the base
//! ```
//! A disk is its length and then pages, each with its number; the writes are offset, length and bytes,
//! a flush has no bytes. Numbers have 8 bytes, little-endian.

use std::collections::HashMap;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::cut::Name;
use super::disk::{Base, Disk, PAGE, Page};
use super::recording::{Event, Recording};

/// The directory.
#[derive(Clone, Debug)]
pub struct Keep(PathBuf);

impl Keep {
    /// Keeps below this directory.
    #[must_use]
    pub fn below(directory: PathBuf) -> Self {
        Self(directory)
    }

    fn verb(&self, verb: &str) -> PathBuf {
        self.0.join(verb)
    }

    fn state(&self, verb: &str, name: &Name) -> PathBuf {
        self.verb(verb).join(name.to_string().replace('/', "_"))
    }

    /// Forgets what is kept of a verb.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn forget(&self, verb: &str) -> Result<()> {
        match fs::remove_dir_all(self.verb(verb)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Keeps what a verb wrote, and the disk before it.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn recording(&self, verb: &str, recording: &Recording) -> Result<()> {
        let directory = self.verb(verb);
        fs::create_dir_all(&directory)?;
        let start = recording.start();
        let base = start.base();
        let mut pages: Vec<_> = base
            .pages
            .iter()
            .map(|(n, page)| (*n, page.clone()))
            .collect();
        pages.sort_unstable_by_key(|(number, _)| *number);
        write_pages(&directory.join("base"), base.size, &pages)?;
        let mut file = BufWriter::new(fs::File::create(directory.join("writes"))?);
        for event in recording.events() {
            let (offset, bytes) = match &event {
                Event::Flush => (0, &[][..]),
                Event::Write { offset, bytes } => (*offset, &bytes[..]),
            };
            file.write_all(&offset.to_le_bytes())?;
            file.write_all(&(bytes.len() as u64).to_le_bytes())?;
            file.write_all(bytes)?;
        }
        Ok(file.flush()?)
    }

    /// Keeps the disk of a state.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn disk(&self, verb: &str, name: &Name, disk: &Disk) -> Result<()> {
        write_pages(&self.state(verb, name), disk.size(), &disk.changes())
    }

    /// What was kept of a verb.
    ///
    /// # Errors
    /// Where nothing was, or it cannot be read.
    pub fn load(&self, verb: &str) -> Result<Recording> {
        let directory = self.verb(verb);
        let (size, pages) = read_pages(&directory.join("base")).with_context(|| {
            format!("nothing is kept of {verb}: only of a verb that failed in its last run is")
        })?;
        let base = Disk::over(Arc::new(Base { size, pages }));
        let bytes = fs::read(directory.join("writes"))?;
        let mut rest = Numbers(&bytes);
        let mut events = Vec::new();
        while !rest.0.is_empty() {
            let (offset, length) = (rest.number()?, rest.number()?);
            events.push(match length {
                0 => Event::Flush,
                length => Event::Write {
                    offset,
                    bytes: rest.bytes(length as usize)?.into(),
                },
            });
        }
        Ok(Recording::new(base, &events))
    }

    /// The disk of a state of this recording: the one that was kept, or the one that the recording gives.
    ///
    /// # Errors
    /// Where there is no such state.
    pub fn load_disk(&self, verb: &str, name: &Name, recording: &Recording) -> Result<Disk> {
        let path = self.state(verb, name);
        match name.0.as_slice() {
            [cut] if !path.exists() => recording.disk(cut),
            _ => {
                let (_, pages) = read_pages(&path).with_context(|| {
                    format!(
                        "{}: of later cuts only those that failed are kept",
                        path.display()
                    )
                })?;
                let mut disk = recording.start();
                for (number, page) in pages {
                    disk.write(number * PAGE as u64, &page[..]);
                }
                Ok(disk)
            }
        }
    }
}

fn write_pages(path: &Path, size: u64, pages: &[(u64, Page)]) -> Result<()> {
    let mut file = BufWriter::new(fs::File::create(path)?);
    file.write_all(&size.to_le_bytes())?;
    for (number, page) in pages {
        file.write_all(&number.to_le_bytes())?;
        file.write_all(&page[..])?;
    }
    Ok(file.flush()?)
}

fn read_pages(path: &Path) -> Result<(u64, HashMap<u64, Page>)> {
    let bytes = fs::read(path)?;
    let mut rest = Numbers(&bytes);
    let size = rest.number()?;
    let mut pages = HashMap::new();
    while !rest.0.is_empty() {
        let number = rest.number()?;
        let page: [u8; PAGE] = rest.bytes(PAGE)?.try_into()?;
        pages.insert(number, Arc::new(page));
    }
    Ok((size, pages))
}

struct Numbers<'a>(&'a [u8]);

impl<'a> Numbers<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        let (first, rest) = self
            .0
            .split_at_checked(length)
            .context("the file is cut short")?;
        self.0 = rest;
        Ok(first)
    }

    fn number(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes(8)?.try_into()?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cut::Cut;
    use super::*;

    #[test]
    fn what_is_kept_gives_the_same_disks_again() {
        let directory = tempfile::tempdir().unwrap();
        let keep = Keep::below(directory.path().to_owned());
        let mut start = Disk::empty(1 << 20);
        start.write(4096, &[1; 4096]);
        let write = |offset| Event::Write {
            offset,
            bytes: vec![2; 512].into(),
        };
        let events = [write(0), Event::Flush, write(4608), write(0)];
        let recording = Recording::new(Disk::over(start.into_base()), &events);
        let name = |text: &str| text.parse::<Name>().unwrap();
        assert!(keep.load("verb").is_err());
        keep.recording("verb", &recording).unwrap();
        let mut other = recording.start();
        other.write(8192, &[3; 10]);
        keep.disk("verb", &name("p1/p2"), &other).unwrap();

        let again = keep.load("verb").unwrap();
        assert_eq!((again.writes(), again.flushes), (3, 1));
        for writes in 0..=3 {
            let disk = |of: &Recording| of.disk(&Cut::Prefix(writes)).unwrap().digest();
            assert_eq!(disk(&again), disk(&recording));
        }
        let disk = |text| keep.load_disk("verb", &name(text), &again);
        assert_eq!(disk("p1/p2").unwrap().digest(), other.digest());
        assert!(disk("p1").is_ok() && disk("p1/p3").is_err() && disk("p9").is_err());
        keep.forget("verb").unwrap();
        assert!(keep.load("verb").is_err());
    }
}
