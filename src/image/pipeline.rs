//! The second pass: read and hash, decompress, write, each in a thread of its own.
//!
//! ```text
//! file → [read, BLAKE2b] → 1 MiB chunks → [decompress] → 1 MiB chunks → [tar, files]
//! ```

use std::io::{BufRead, Read};
use std::os::fd::BorrowedFd;

use blake2b_simd::State;

use super::archive::{Archive, Form};
use super::chunks::{ChunkReader, ChunkSender, pipe};
use super::decompress::Decompress;
use super::error::{Doing, Error, Result};
use super::limits::Limits;
use super::read::read_all;
use super::write::{Written, write_all};
use crate::sys::Context;

/// Bytes of a buffer and how many there are, before the decompressor and after it.
const PACKED: (usize, usize) = (1 << 20, 3);
const PLAIN: (usize, usize) = (1 << 20, 6);

/// Extracts the archive into an empty directory and compares what was read with `digest`. `seen` is told
/// how many bytes of the archive were read, `made` how many entries were extracted.
///
/// # Errors
/// Any of [`Error`].
pub fn run(
    archive: &Archive,
    digest: &[u8],
    root: BorrowedFd<'_>,
    limits: &Limits,
    seen: &(dyn Fn(u64) + Sync),
    made: &mut dyn FnMut(u64),
) -> Result<Written> {
    std::thread::scope(|scope| {
        let (sender, packed) = pipe(PACKED.1, PACKED.0);
        let start = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let failed = || "starting the threads that extract".to_owned();
        let reader = start("read")
            .spawn_scoped(scope, move || read(archive, digest, sender, seen))
            .call(|| "clone".into())
            .doing(failed)?;
        let written = if archive.form() == Form::Plain {
            write_all(packed, root, limits, made)
        } else {
            let (sender, plain) = pipe(PLAIN.1, PLAIN.0);
            let decoder = Decompress::new(packed, archive.form(), limits);
            let started =
                start("decompress").spawn_scoped(scope, move || decompress(decoder, sender));
            started.call(|| "clone".into()).doing(failed)?;
            write_all(plain, root, limits, made)
        };
        // What went wrong downstream may be the consequence of a file that is not what was verified.
        match reader.join() {
            Ok(Ok(())) => written,
            Ok(Err(changed)) => Err(changed),
            Err(_) => Err(Error::Child {
                how: "lost the thread that reads".into(),
            }),
        }
    })
}

/// Reads to the end even if nobody wants the rest, so that a change is noticed whatever else is wrong.
fn read(
    archive: &Archive,
    digest: &[u8],
    sender: ChunkSender,
    seen: &(dyn Fn(u64) + Sync),
) -> Result<()> {
    let mut state = State::new();
    let mut done = 0;
    let read = read_all(archive, &sender, &mut |chunk| {
        state.update(chunk);
        done += chunk.len() as u64;
        seen(done);
    });
    let read = read.and_then(|()| {
        // The comparison's time says nothing to anybody.
        if state.finalize().as_bytes() == digest {
            Ok(())
        } else {
            Err(Error::Changed {
                name: archive.name().to_owned(),
            })
        }
    });
    sender.end(read.clone());
    read
}

fn decompress(mut decoder: Decompress<ChunkReader>, sender: ChunkSender) {
    while let Some(mut buffer) = sender.buffer() {
        match decoder.fill(&mut buffer) {
            Ok(0) => return sender.end(Ok(())),
            Ok(filled) => sender.send(buffer, filled),
            Err(error) => return sender.end(Err(error)),
        }
    }
}

/// The same from bytes in memory, in this thread and unconfined: for tests and for the fuzzer.
///
/// # Errors
/// Any of [`Error`].
pub fn in_one_thread(bytes: &[u8], root: BorrowedFd<'_>, limits: &Limits) -> Result<Written> {
    let Some(form) = Form::recognise(bytes.get(..512).unwrap_or(bytes)) else {
        return Err(Error::Unknown {
            name: "the archive".into(),
        });
    };
    let source = Buffered {
        decoder: Decompress::new(bytes, form, limits),
        buffer: vec![0; 1 << 16],
        filled: 0,
        at: 0,
    };
    write_all(source, root, limits, &mut |_| {})
}

struct Buffered<'a> {
    decoder: Decompress<&'a [u8]>,
    buffer: Vec<u8>,
    filled: usize,
    at: usize,
}

impl BufRead for Buffered<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.at == self.filled {
            self.filled = self
                .decoder
                .fill(&mut self.buffer)
                .map_err(std::io::Error::other)?;
            self.at = 0;
        }
        Ok(self.buffer.get(self.at..self.filled).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.at = self.at.saturating_add(amount).min(self.filled);
    }
}

impl Read for Buffered<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let length = {
            let mut from = self.fill_buf()?;
            from.read(to)?
        };
        self.consume(length);
        Ok(length)
    }
}
