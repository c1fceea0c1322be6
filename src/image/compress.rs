//! Compression of an archive, chosen by its name and by nothing else.
//!
//! zstd is written by ruzstd in frames of [`FRAME`] bytes each (RFC 8878 lets frames follow each
//! other): its encoder takes a reader and panics where reading or writing fails, so it is given memory,
//! which does neither. For a smaller file the `zstd` program compresses, with fixed arguments; its
//! bytes are the same for the same version of it.

use flate2::write::GzEncoder;
use lzma_rust2::{XzOptions, XzWriter};
use ruzstd::encoding::{CompressionLevel, FrameCompressor};
use std::fs::File;
use std::io::{Error, Result, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Bytes that are one zstd frame. Larger ones compress hardly better.
const FRAME: usize = 8 << 20;
/// zlib's levels go to 9; the last steps take long and gain little.
const GZIP_LEVEL: u32 = 6;
/// xz's own default.
const XZ_PRESET: u32 = 6;

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: `.tar`.
    None,
    /// RFC 8878: `.tar.zst`. With a level, by the `zstd` program.
    Zstd(Option<u8>),
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
            (".tar.zst", Self::Zstd(None)),
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
pub struct Compressor(Kind);

enum Kind {
    None(File),
    Frames { file: File, pending: Vec<u8> },
    Program { file: File, program: Program },
    Gzip(GzEncoder<File>),
    Xz(Box<XzWriter<File>>),
}

impl Compressor {
    /// Begins at the end of `file`, which is empty.
    pub fn new(compression: Compression, file: File) -> Result<Self> {
        Ok(Self(match compression {
            Compression::None => Kind::None(file),
            Compression::Zstd(None) => Kind::Frames {
                file,
                pending: Vec::with_capacity(FRAME),
            },
            Compression::Zstd(Some(level)) => {
                let program = Program::start(level, &file)?;
                Kind::Program { file, program }
            }
            Compression::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                // Without a name and a time in the header.
                Kind::Gzip(GzEncoder::new(file, level))
            }
            Compression::Xz => {
                let options = XzOptions::with_preset(XZ_PRESET);
                Kind::Xz(Box::new(XzWriter::new(file, options)?))
            }
        }))
    }

    /// Writes what is left, and returns the file.
    pub fn finish(self) -> Result<File> {
        match self.0 {
            Kind::None(file) => Ok(file),
            Kind::Frames { mut file, pending } => {
                frame(&mut file, &pending)?;
                Ok(file)
            }
            Kind::Program { file, mut program } => program.end().map(|()| file),
            Kind::Gzip(encoder) => encoder.finish(),
            Kind::Xz(writer) => writer.finish(),
        }
    }
}

impl Write for Compressor {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match &mut self.0 {
            Kind::None(file) => file.write(bytes),
            Kind::Frames { file, pending } => {
                let room = FRAME - pending.len();
                let now = bytes.get(..room).unwrap_or(bytes);
                pending.extend_from_slice(now);
                if pending.len() == FRAME {
                    frame(file, pending)?;
                    pending.clear();
                }
                Ok(now.len())
            }
            Kind::Program { program, .. } => program.write(bytes),
            Kind::Gzip(encoder) => encoder.write(bytes),
            Kind::Xz(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

fn frame(file: &mut File, bytes: &[u8]) -> Result<()> {
    let mut compressed = Vec::with_capacity(bytes.len() / 2);
    let mut encoder = FrameCompressor::new(CompressionLevel::Fastest);
    encoder.set_source(bytes);
    encoder.set_drain(&mut compressed);
    encoder.compress();
    drop(encoder);
    file.write_all(&compressed)
}

/// The `zstd` program, which writes to the file by itself.
struct Program {
    child: Child,
    level: u8,
}

impl Program {
    /// One thread: what it writes does not depend on the number of processors.
    fn start(level: u8, file: &File) -> Result<Self> {
        let child = Command::new("zstd")
            .args(["--quiet", "--single-thread", "--stdout"])
            .arg(format!("-{level}"))
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .spawn()
            .map_err(|error| {
                let text =
                    format!("running 'zstd': {error}; install zstd, or leave --zstd-level out");
                Error::new(error.kind(), text)
            })?;
        Ok(Self { child, level })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let level = self.level;
        match &mut self.child.stdin {
            Some(input) => input
                .write(bytes)
                .map_err(|error| Error::other(format!("to 'zstd -{level}': {error}"))),
            None => Err(Error::other("'zstd' has no standard input")),
        }
    }

    fn end(&mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        match status.success() {
            true => Ok(()),
            false => Err(Error::other(format!(
                "'zstd -{}' ended with {status}",
                self.level
            ))),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It ended already, or what it writes is not wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

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
        while text.len() < FRAME + 70_000 {
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
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        let mut frame = ruzstd::decoding::StreamingDecoder::new(&mut rest).unwrap();
                        frame.read_to_end(&mut back).unwrap();
                    }
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
}
