//! Reading an archive from end to end: for both passes, the same bytes in the same way.

use std::fs::File;
use std::io::BufRead;
use std::os::unix::fs::FileExt;

use blake2b_simd::State;
use rustix::fs::{Advice, fadvise, fstat};

use super::archive::Archive;
use super::chunks::{ChunkSender, pipe};
use super::error::{Doing, Error, Result};
use super::progress::{Phase, Progress};
use crate::sys::{self, Context};

/// Bytes of one read, and how many reads are under way or waiting.
const CHUNK: usize = 1 << 20;
const CHUNKS: usize = 4;

/// BLAKE2b-512 of the whole file: hashed in this thread while another reads.
///
/// # Errors
/// [`Error::Changed`], [`Error::System`].
pub fn hash(archive: &Archive, progress: &mut dyn FnMut(Progress)) -> Result<[u8; 64]> {
    let total = archive.length();
    let (sender, mut reader) = pipe(CHUNKS, CHUNK);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, move || {
            let read = read_all(archive, &sender, &mut |_| {});
            sender.end(read);
        });
        thread
            .call(|| "clone (a thread that reads)".into())
            .doing(|| format!("reading {}", archive.name()))?;
        let mut state = State::new();
        let mut done = 0;
        loop {
            let chunk = reader
                .fill_buf()
                .map_err(|error| Error::from_stream("tar", error))?;
            let length = chunk.len();
            if length == 0 {
                return Ok(*state.finalize().as_array());
            }
            state.update(chunk);
            reader.consume(length);
            done += length as u64;
            progress(Progress {
                phase: Phase::Verify,
                done,
                total,
                made: 0,
            });
        }
    })
}

/// Reads the file from its start to the length that it had when it was opened, where it must end. It
/// goes on to the end when nobody reads any more: `seen` sees all of it.
///
/// # Errors
/// [`Error::Changed`], [`Error::System`].
pub fn read_all(archive: &Archive, to: &ChunkSender, seen: &mut dyn FnMut(&[u8])) -> Result<()> {
    let (file, length) = (archive.file(), archive.length());
    let doing = || format!("reading {}", archive.name());
    let changed = || Error::Changed {
        name: archive.name().to_owned(),
    };
    // More readahead; a hint, so its failure means nothing.
    let _ = fadvise(file, 0, None, Advice::Sequential);
    let mut at = 0;
    while at < length {
        let mut buffer = to.buffer().unwrap_or_else(|| vec![0; CHUNK]);
        let wanted = usize::try_from(length - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        let read = fill(file, part, at).doing(doing)?;
        if read == 0 {
            return Err(changed());
        }
        seen(part.get(..read).unwrap_or_default());
        to.send(buffer, read);
        at += read as u64;
    }
    let status = fstat(file).call(|| "fstat".into()).doing(doing)?;
    if u64::try_from(status.st_size) != Ok(length) {
        return Err(changed());
    }
    Ok(())
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &File, buffer: &mut [u8], at: u64) -> sys::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let offset = at + filled as u64;
        match file.read_at(rest, offset) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).call(|| format!("pread(offset {offset})")),
        }
    }
    Ok(filled)
}
