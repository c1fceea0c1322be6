//! Writes a cpio archive in the kernel's `newc` format.
//!
//! Deterministic: inode numbers are counted, times are 0, everything belongs to root. A device node is
//! only an entry, so no privilege is needed. Format:
//! Documentation/driver-api/early-userspace/buffer-format.rst: a header of 110 ASCII bytes, the name
//! with its NUL, the data, each padded to 4 bytes; `TRAILER!!!` ends the archive.

use std::io::{Error, ErrorKind, Result, Write};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;
/// As cpio(1) pads an archive; the kernel needs 4.
const BLOCK: u64 = 512;

/// An archive that is being written.
#[derive(Debug)]
pub struct Archive<W> {
    to: W,
    inode: u32,
    written: u64,
}

struct Header<'a> {
    name: &'a str,
    mode: u32,
    links: u32,
    size: u32,
    device: (u32, u32),
}

impl<W: Write> Archive<W> {
    /// An empty archive.
    pub fn new(to: W) -> Self {
        Self {
            to,
            inode: 0,
            written: 0,
        }
    }

    /// A directory; its parents must have been added before.
    ///
    /// # Errors
    /// What writing says.
    pub fn directory(&mut self, name: &str, mode: u32) -> Result<()> {
        let mode = DIRECTORY | mode;
        self.header(&Header {
            name,
            mode,
            links: 2,
            size: 0,
            device: (0, 0),
        })
    }

    /// A regular file.
    ///
    /// # Errors
    /// What writing says; `FileTooLarge` from 4 GiB on, which the format cannot hold.
    pub fn file(&mut self, name: &str, mode: u32, data: &[u8]) -> Result<()> {
        let size = u32::try_from(data.len()).map_err(|_| Error::from(ErrorKind::FileTooLarge))?;
        self.header(&Header {
            name,
            mode: REGULAR | mode,
            links: 1,
            size,
            device: (0, 0),
        })?;
        self.write(data)?;
        self.pad(4)
    }

    /// A character device node.
    ///
    /// # Errors
    /// What writing says.
    pub fn character_device(&mut self, name: &str, mode: u32, device: (u32, u32)) -> Result<()> {
        self.header(&Header {
            name,
            mode: CHARACTER | mode,
            links: 1,
            size: 0,
            device,
        })
    }

    /// Ends the archive; returns the writer and the archive's length in bytes.
    ///
    /// # Errors
    /// What writing says.
    pub fn finish(mut self) -> Result<(W, u64)> {
        self.inode = u32::MAX;
        self.header(&Header {
            name: "TRAILER!!!",
            mode: 0,
            links: 1,
            size: 0,
            device: (0, 0),
        })?;
        self.pad(BLOCK)?;
        Ok((self.to, self.written))
    }

    fn header(&mut self, h: &Header<'_>) -> Result<()> {
        self.inode = self.inode.wrapping_add(1);
        let name_size = h.name.len() + 1;
        let (major, minor) = h.device;
        // magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdev, namesize, check
        let text = format!(
            "070701{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{major:08x}{minor:08x}{name_size:08x}{:08x}{}\0",
            self.inode, h.mode, 0, 0, h.links, 0, h.size, 0, 0, 0, h.name
        );
        self.write(text.as_bytes())?;
        self.pad(4)
    }

    fn pad(&mut self, to: u64) -> Result<()> {
        let missing = (to - self.written % to) % to;
        let zeros = vec![0; usize::try_from(missing).unwrap_or_default()];
        self.write(&zeros)
    }

    fn write(&mut self, data: &[u8]) -> Result<()> {
        self.to.write_all(data)?;
        self.written += data.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_reader_finds_what_was_written() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("dev", 0o755).unwrap();
        archive
            .character_device("dev/console", 0o600, (5, 1))
            .unwrap();
        archive.file("init", 0o755, b"hello").unwrap();
        archive.file("empty", 0o644, b"").unwrap();
        let (bytes, length) = archive.finish().unwrap();
        assert_eq!((bytes.len() as u64, length % BLOCK), (length, 0));

        let mut rest: &[u8] = &bytes;
        let mut seen = Vec::new();
        loop {
            let mut reader = cpio::newc::Reader::new(rest).unwrap();
            let entry = reader.entry().clone();
            if entry.is_trailer() {
                break;
            }
            let mut data = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut data).unwrap();
            let node = (entry.rdev_major(), entry.rdev_minor());
            seen.push((
                entry.name().to_owned(),
                entry.mode(),
                entry.mtime(),
                node,
                data,
            ));
            rest = reader.finish().unwrap();
        }
        let expected = [
            ("dev", 0o040_755, (0, 0), &b""[..]),
            ("dev/console", 0o020_600, (5, 1), b""),
            ("init", 0o100_755, (0, 0), b"hello"),
            ("empty", 0o100_644, (0, 0), b""),
        ]
        .map(|(name, mode, node, data)| (name.to_owned(), mode, 0, node, data.to_vec()));
        assert_eq!(seen, expected);
    }
}
