//! The file of an archive and its compression.
//!
//! The file is opened once: what was verified is what is extracted, whatever its name means by then.

use std::fs::File;
use std::io::Seek;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};

use super::error::{Error, Result};
use super::tar::is_header;
use crate::sys::{self, Context};

/// A regular file that is open for reading.
#[derive(Debug)]
pub struct Archive {
    file: File,
    name: String,
    length: u64,
    form: Form,
}

/// How it is compressed, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Not at all.
    Plain,
    /// RFC 8878.
    Zstd,
    /// RFC 1952.
    Gzip,
    /// The .xz format.
    Xz,
}

impl Form {
    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Form::Plain => "tar",
            Form::Zstd => "zstd",
            Form::Gzip => "gzip",
            Form::Xz => "xz",
        }
    }

    /// What a file that begins with these 512 bytes (or fewer, if it is shorter) is.
    pub fn recognise(start: &[u8]) -> Option<Form> {
        // A tar header has its magic at offset 257, or is one that the reader names as too old; an archive
        // of nothing is all zeros.
        let tar = start.get(257..262) == Some(b"ustar")
            || is_header(start)
            || (start.len() == 512 && start.iter().all(|byte| *byte == 0));
        match start {
            // Frames, and skippable frames, which may come first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Form::Zstd),
            [0x1f, 0x8b, ..] => Some(Form::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Form::Xz),
            _ if tar => Some(Form::Plain),
            _ => None,
        }
    }
}

impl Archive {
    /// Opens the file at `path`; a symbolic link there is refused.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::NotAFile`], [`Error::Empty`], [`Error::Unknown`].
    pub fn open(path: &Path) -> Result<Archive> {
        let name = path.display().to_string();
        // Without NONBLOCK a FIFO would keep us here before we can see what it is.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = open(path, flags, Mode::empty());
        match opened.call(|| format!("open({name:?}, {flags:?})")) {
            Ok(fd) => Archive::from_file(File::from(fd), name),
            Err(source) => Err(Error::Open { name, source }),
        }
    }

    /// Takes a file that is open already; `name` is for messages.
    ///
    /// # Errors
    /// [`Error::NotAFile`], [`Error::Empty`], [`Error::Unknown`], [`Error::Open`] when it cannot be read.
    pub fn from_file(file: File, name: String) -> Result<Archive> {
        let look = || -> sys::Result<_> {
            let status = fstat(&file).call(|| "fstat".into())?;
            let mut start = Vec::new();
            if FileType::from_raw_mode(status.st_mode) == FileType::RegularFile {
                start.resize(512, 0);
                let read = file
                    .read_at(&mut start, 0)
                    .call(|| format!("pread({name:?}, 512 bytes, 0)"))?;
                start.truncate(read);
            }
            Ok((status, start))
        };
        let (status, start) = match look() {
            Ok(found) => found,
            Err(source) => return Err(Error::Open { name, source }),
        };
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(Error::NotAFile { name });
        }
        if start.is_empty() {
            return Err(Error::Empty { name });
        }
        let Some(form) = Form::recognise(&start) else {
            return Err(Error::Unknown { name });
        };
        let length = u64::try_from(status.st_size).unwrap_or(0);
        Ok(Archive {
            file,
            name,
            length,
            form,
        })
    }

    /// For messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of the file when it was opened.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How it is compressed.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The same archive by another descriptor of its file.
    pub(super) fn with(&self, file: File) -> Archive {
        Archive {
            file,
            name: self.name.clone(),
            ..*self
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Bytes after decompression, as the file itself states them without being decompressed.
    pub(super) fn stated_size(&self) -> Option<u64> {
        match self.form {
            Form::Plain => Some(self.length),
            Form::Zstd => {
                let mut start = [0; 18];
                let read = self.file.read_at(&mut start, 0).ok()?;
                zstd_content_size(start.get(..read)?)
            }
            // Its last four bytes state the size modulo 4 GiB, of the last member only.
            Form::Gzip => None,
            // The position of the file is nobody else's: all others read at an offset.
            Form::Xz => {
                let mut file = &self.file;
                file.rewind().ok()?;
                lzma_rust2::xz_uncompressed_size(file).ok()
            }
        }
    }
}

/// The content size in a frame's header (RFC 8878, 3.1.1.1), of the first frame.
fn zstd_content_size(start: &[u8]) -> Option<u64> {
    if start.get(..4)? != [0x28, 0xb5, 0x2f, 0xfd] {
        return None;
    }
    let descriptor = *start.get(4)?;
    let single = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3))?;
    let at = 5 + usize::from(!single) + dictionary;
    let length = match (descriptor >> 6, single) {
        (0, false) => return None,
        (0, true) => 1,
        (1, _) => 2,
        (2, _) => 4,
        _ => 8,
    };
    let mut bytes = [0; 8];
    bytes
        .get_mut(..length)?
        .copy_from_slice(start.get(at..at + length)?);
    let size = u64::from_le_bytes(bytes);
    Some(if length == 2 { size + 256 } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_recognised_by_its_first_bytes_and_nothing_else_is_taken() {
        let mut tar = [0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        let cases: [(&[u8], Option<Form>); 9] = [
            (&tar, Some(Form::Plain)),
            (&[0; 512], Some(Form::Plain)),
            (&[0; 511], None),
            (b"\x28\xb5\x2f\xfd", Some(Form::Zstd)),
            (b"\x55\x2a\x4d\x18", Some(Form::Zstd)),
            (b"\x1f\x8b\x08", Some(Form::Gzip)),
            (b"\xfd7zXZ\0", Some(Form::Xz)),
            (b"PK\x03\x04", None),
            (b"", None),
        ];
        for (start, form) in cases {
            assert_eq!(Form::recognise(start), form, "{start:?}");
        }
    }

    #[test]
    fn the_size_in_a_zstd_header_is_read_in_each_of_its_widths() {
        let magic = [0x28, 0xb5, 0x2f, 0xfd];
        let cases: [(&[u8], Option<u64>); 6] = [
            (&[0x00, 0x58, 9, 9], None),
            (&[0x20, 7], Some(7)),
            (&[0x40, 0x58, 1, 0], Some(257)),
            (&[0x80, 0x58, 1, 0, 1, 0], Some(65537)),
            (&[0xc0, 0x58, 0, 0, 0, 0, 1, 0, 0, 0], Some(1 << 32)),
            (&[0xc0, 0x58, 0, 0], None),
        ];
        for (rest, size) in cases {
            let header = [&magic[..], rest].concat();
            assert_eq!(zstd_content_size(&header), size, "{rest:x?}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let here = tempfile::tempdir().unwrap();
        let fifo = here.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let empty = here.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        let link = here.path().join("link");
        std::os::unix::fs::symlink(&empty, &link).unwrap();
        assert!(matches!(Archive::open(&fifo), Err(Error::NotAFile { .. })));
        assert!(matches!(
            Archive::open(here.path()),
            Err(Error::NotAFile { .. })
        ));
        assert!(matches!(Archive::open(&empty), Err(Error::Empty { .. })));
        assert!(matches!(Archive::open(&link), Err(Error::Open { .. })));
    }
}
