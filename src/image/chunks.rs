//! Bytes from one thread to the next: a few buffers that go round.
//!
//! What is in flight is bounded, so a slow writer holds up the reader and not the memory. A stream
//! ends with an explicit end: a thread that dies leaves an error behind, never a short stream.

use std::io::{BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::error::{Error, Result};

/// The sending end.
pub struct ChunkSender {
    full: SyncSender<Result<Vec<u8>>>,
    empty: Receiver<Vec<u8>>,
}

/// The receiving end, as a buffered reader.
pub struct ChunkReader {
    full: Receiver<Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    ended: bool,
}

/// A pipe of `count` buffers of `size` bytes each.
pub fn pipe(count: usize, size: usize) -> (ChunkSender, ChunkReader) {
    let (full, from_full) = sync_channel(count + 1);
    let (empty, from_empty) = sync_channel(count + 1);
    for _ in 0..count {
        // There is room for all of them.
        let _ = empty.try_send(vec![0; size]);
    }
    let reader = ChunkReader {
        full: from_full,
        empty,
        chunk: Vec::new(),
        at: 0,
        ended: false,
    };
    let sender = ChunkSender {
        full,
        empty: from_empty,
    };
    (sender, reader)
}

impl ChunkSender {
    /// A buffer to fill, when one is free; `None` when nobody reads any more.
    pub fn buffer(&self) -> Option<Vec<u8>> {
        self.empty.recv().ok()
    }

    /// Sends the first `filled` bytes of a buffer. Whether anybody reads is learnt from [`Self::buffer`].
    pub fn send(&self, mut buffer: Vec<u8>, filled: usize) {
        buffer.truncate(filled);
        if filled != 0 {
            let _ = self.full.send(Ok(buffer));
        }
    }

    /// Ends the stream, well or with an error.
    pub fn end(self, how: Result<()>) {
        let _ = self.full.send(how.map(|()| Vec::new()));
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.at == self.chunk.len() && !self.ended {
            let mut used = std::mem::take(&mut self.chunk);
            self.at = 0;
            if used.capacity() != 0 {
                used.resize(used.capacity(), 0);
                let _ = self.empty.try_send(used);
            }
            self.chunk = match self.full.recv() {
                Ok(Ok(chunk)) => chunk,
                Ok(Err(error)) => return Err(std::io::Error::other(error)),
                Err(_) => {
                    return Err(std::io::Error::other(Error::Child {
                        how: "lost one of its threads".into(),
                    }));
                }
            };
            self.ended = self.chunk.is_empty();
        }
        Ok(self.chunk.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.at = self.at.saturating_add(amount).min(self.chunk.len());
    }
}

impl Read for ChunkReader {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let from = self.fill_buf()?;
        let length = from.len().min(to.len());
        if let (Some(to), Some(from)) = (to.get_mut(..length), from.get(..length)) {
            to.copy_from_slice(from);
        }
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_arrives_in_order_over_few_buffers() {
        let (sender, mut reader) = pipe(2, 7);
        let text: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let sent = text.clone();
        let thread = std::thread::spawn(move || {
            for part in sent.chunks(5) {
                let mut buffer = sender.buffer().unwrap();
                assert_eq!(buffer.len(), 7);
                buffer[..part.len()].copy_from_slice(part);
                sender.send(buffer, part.len());
            }
            sender.end(Ok(()));
        });
        let mut arrived = Vec::new();
        reader.read_to_end(&mut arrived).unwrap();
        thread.join().unwrap();
        assert_eq!(arrived, text);
    }

    #[test]
    fn a_sender_that_goes_away_without_an_end_is_an_error() {
        let (sender, mut reader) = pipe(1, 4);
        let buffer = sender.buffer().unwrap();
        sender.send(buffer, 4);
        drop(sender);
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert!(matches!(
            Error::from_stream("zstd", error),
            Error::Child { .. }
        ));
    }

    #[test]
    fn an_error_arrives_as_itself() {
        let (sender, mut reader) = pipe(1, 4);
        sender.end(Err(Error::NotEmpty));
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(Error::from_stream("zstd", error), Error::NotEmpty);
    }
}
