//! Compression of an archive, chosen by its name and by nothing else.
//!
//! In this process and in one thread: the same bytes for the same input, whatever is installed and
//! however many processors there are.

use flate2::write::GzEncoder;
use lzma_rust2::{XzOptions, XzWriter};
use std::cell::Cell;
use std::fs::File;
use std::io::{Error, ErrorKind, Result, Write};
use std::path::Path;
use std::rc::Rc;
use structured_zstd::encoding::{CompressionLevel, StreamingEncoder};

/// zstd's level where none is asked for: smaller than its own default of 3 by a twentieth, and still
/// quicker than gzip. 19 is smaller again by a twentieth and takes fifteen times as long.
pub const ZSTD_LEVEL: u8 = 9;
/// zlib's levels go to 9; the last steps take long and gain little.
const GZIP_LEVEL: u32 = 6;
/// xz's own default.
const XZ_PRESET: u32 = 6;

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: `.tar`.
    None,
    /// RFC 8878, at a level from 1 to 19: `.tar.zst`.
    Zstd(u8),
    /// RFC 1952: `.tar.gz`, `.tgz`.
    Gzip,
    /// `.tar.xz`, `.txz`.
    Xz,
}

impl Compression {
    /// What a file's name asks for; `None` where it asks for nothing that is known.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        [
            (".tar", Self::None),
            (".tar.zst", Self::Zstd(ZSTD_LEVEL)),
            (".tar.gz", Self::Gzip),
            (".tgz", Self::Gzip),
            (".tar.xz", Self::Xz),
            (".txz", Self::Xz),
        ]
        .into_iter()
        .find_map(|(suffix, compression)| {
            let stem = name.strip_suffix(suffix)?;
            (!stem.is_empty()).then_some(compression)
        })
    }
}

/// Writes compressed to a file.
pub struct Compressor {
    kind: Kind,
    failed: Failed,
}

enum Kind {
    None(Sink),
    Zstd(Box<StreamingEncoder<Sink>>),
    Gzip(Box<GzEncoder<Sink>>),
    Xz(Box<XzWriter<Sink>>),
}

/// The first thing that went wrong with the file: encoders say that they failed before, or nothing.
type Failed = Rc<Cell<Option<Error>>>;

/// The file, which keeps what went wrong with it.
struct Sink {
    file: File,
    failed: Failed,
}

impl Sink {
    fn kept<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            if kind != ErrorKind::Interrupted {
                let first = self.failed.take().unwrap_or(error);
                self.failed.set(Some(first));
            }
            kind.into()
        })
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let written = self.file.write(bytes);
        self.kept(written)
    }

    fn flush(&mut self) -> Result<()> {
        let flushed = self.file.flush();
        self.kept(flushed)
    }
}

impl Compressor {
    /// Begins at the end of `file`, which is empty.
    pub fn new(compression: Compression, file: File) -> Result<Self> {
        let failed = Failed::default();
        let sink = Sink {
            file,
            failed: failed.clone(),
        };
        let kind = match compression {
            Compression::None => Kind::None(sink),
            Compression::Zstd(level) => {
                let level = CompressionLevel::from_level(level.into());
                let mut encoder = StreamingEncoder::new(sink, level);
                // Four bytes by which a reader notices that its own decoder is wrong.
                encoder.set_content_checksum(true)?;
                Kind::Zstd(Box::new(encoder))
            }
            Compression::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                // Without a name and a time in the header.
                Kind::Gzip(Box::new(GzEncoder::new(sink, level)))
            }
            Compression::Xz => {
                let options = XzOptions::with_preset(XZ_PRESET);
                Kind::Xz(Box::new(XzWriter::new(sink, options)?))
            }
        };
        Ok(Self { kind, failed })
    }

    /// Writes what is left, and returns the file.
    pub fn finish(self) -> Result<File> {
        let sink = match self.kind {
            Kind::None(sink) => Ok(sink),
            Kind::Zstd(encoder) => encoder.finish(),
            Kind::Gzip(encoder) => encoder.finish(),
            Kind::Xz(writer) => writer.finish(),
        };
        sink.map(|sink| sink.file)
            .map_err(|error| self.failed.take().unwrap_or(error))
    }
}

impl Write for Compressor {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let written = match &mut self.kind {
            Kind::None(sink) => sink.write(bytes),
            Kind::Zstd(encoder) => encoder.write(bytes),
            Kind::Gzip(encoder) => encoder.write(bytes),
            Kind::Xz(writer) => writer.write(bytes),
        };
        written.map_err(|error| self.failed.take().unwrap_or(error))
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};
    use structured_zstd::decoding::StreamingDecoder;

    fn compressed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        let file = tempfile::tempfile().unwrap();
        let mut compressor = Compressor::new(compression, file).unwrap();
        // Pieces that divide nothing.
        for piece in bytes.chunks(100_003) {
            compressor.write_all(piece).unwrap();
        }
        let mut file = compressor.finish().unwrap();
        file.rewind().unwrap();
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        read
    }

    fn text() -> Vec<u8> {
        let mut text = Vec::new();
        let mut number = 1_u32;
        while text.len() < (9 << 20) {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.extend_from_slice(format!("{} is a number\n", number >> 12).as_bytes());
        }
        text
    }

    #[test]
    fn what_was_compressed_is_read_again_and_is_the_same_each_time() {
        let text = text();
        let names = ["a.tar", "a.tar.zst", "a.tar.gz", "a.txz"];
        for name in names {
            let compression = Compression::of(Path::new(name)).unwrap();
            let bytes = compressed(compression, &text);
            assert_eq!(compressed(compression, &text), bytes, "{name}");
            let mut back = Vec::new();
            match compression {
                Compression::None => back = bytes,
                Compression::Zstd(_) => {
                    let mut reader = StreamingDecoder::new(bytes.as_slice());
                    reader.read_to_end(&mut back).unwrap();
                }
                Compression::Gzip => {
                    let mut reader = flate2::read::GzDecoder::new(bytes.as_slice());
                    reader.read_to_end(&mut back).unwrap();
                }
                Compression::Xz => {
                    let mut reader = lzma_rust2::XzReader::new(bytes.as_slice(), false);
                    reader.read_to_end(&mut back).unwrap();
                }
            }
            assert!(back == text, "{name}");
        }
    }

    #[test]
    fn a_name_that_says_nothing_known_is_refused() {
        for name in ["a", "a.zst", "a.tar.bz2", ".tar.zst", "a.tar.zst.part", "/"] {
            assert_eq!(Compression::of(Path::new(name)), None, "{name}");
        }
    }

    #[test]
    fn a_full_disk_is_called_that_and_nothing_else() {
        let text = text();
        for name in ["a.tar", "a.tar.zst", "a.tar.gz", "a.txz"] {
            let compression = Compression::of(Path::new(name)).unwrap();
            let full = File::options().write(true).open("/dev/full").unwrap();
            let mut compressor = Compressor::new(compression, full).unwrap();
            let error = compressor
                .write_all(&text)
                .and_then(|()| compressor.finish().map(drop))
                .unwrap_err();
            // ENOSPC.
            assert_eq!(error.raw_os_error(), Some(28), "{name}: {error}");
            assert!(!error.to_string().contains("encoder"), "{name}: {error}");
        }
    }
}
