//! What is in a file: where its data lies, and the data.

use super::{Counted, Error, stamp};
use crate::image::walk::{Found, lossy};
use crate::sys::Context;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, SeekFrom, Statx, StatxFlags, seek, statx};
use rustix::io::{Errno, pread};

/// Pieces begin and end at multiples of it. File systems have blocks of other sizes, and the archive of a
/// tree is the same from each.
const PIECE: u64 = 4096;
/// Bytes that are read at a time.
const BUFFER: usize = 256 << 10;

/// An open file, as it was when its entry was come to.
pub struct Content<'a> {
    file: &'a OwnedFd,
    path: &'a [u8],
    stat: &'a Statx,
    /// Offset and length of each piece of data, where there are holes.
    pieces: Option<Vec<(u64, u64)>>,
    /// It has more pieces than a map may have.
    dense: bool,
}

impl<'a> Content<'a> {
    /// Finds out where the data of `file` is. Extractors have limits against maps that are attacks: a
    /// file in more than `most` pieces is written with its holes as zeros.
    pub fn of(file: &'a OwnedFd, found: &Found<'a>, most: usize) -> Result<Self, Error> {
        let content = Self {
            file,
            path: found.path,
            stat: found.stat,
            pieces: None,
            dense: false,
        };
        content.unchanged()?;
        let size = found.stat.stx_size;
        let pieces = rounded(pieces(file, found)?, size);
        let sparse = size > 0 && pieces != [(0, size)];
        let dense = sparse && pieces.len() > most;
        Ok(Self {
            pieces: (sparse && !dense).then_some(pieces),
            dense,
            ..content
        })
    }

    /// Whether its holes are written as zeros.
    pub fn dense(&self) -> bool {
        self.dense
    }

    /// Its length, holes included.
    pub fn size(&self) -> u64 {
        self.stat.stx_size
    }

    /// How many bytes of it are written.
    pub fn length(&self) -> u64 {
        match &self.pieces {
            Some(pieces) => pieces.iter().map(|(_, length)| length).sum(),
            None => self.stat.stx_size,
        }
    }

    /// The map of a sparse file, as GNU.sparse 1.0 has it before the data: numbers in lines, filled up
    /// to a block. Holes at the end are an empty piece there.
    pub fn map(&self) -> Option<Vec<u8>> {
        let mut pieces = self.pieces.clone()?;
        let end = pieces.last().map_or(0, |(at, length)| at + length);
        if end < self.stat.stx_size {
            pieces.push((self.stat.stx_size, 0));
        }
        let mut map = format!("{}\n", pieces.len());
        for (at, length) in pieces {
            map.push_str(&format!("{at}\n{length}\n"));
        }
        let mut map = map.into_bytes();
        map.resize(map.len().next_multiple_of(512), 0);
        Some(map)
    }

    /// Writes the data.
    pub fn write(&self, out: &mut Counted<'_>) -> Result<(), Error> {
        let whole = [(0, self.stat.stx_size)];
        let mut buffer = vec![0; BUFFER];
        for (at, length) in self.pieces.as_deref().unwrap_or(&whole) {
            self.piece(*at, *length, &mut buffer, out)?;
        }
        out.pad()?;
        self.unchanged()
    }

    fn piece(
        &self,
        mut at: u64,
        length: u64,
        buffer: &mut [u8],
        out: &mut Counted<'_>,
    ) -> Result<(), Error> {
        let end = at + length;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX);
            let want = want.min(buffer.len());
            let text = || format!("pread({:?}, {want}, {at})", lossy(self.path));
            let read = match pread(
                self.file,
                &mut *buffer.get_mut(..want).unwrap_or_default(),
                at,
            ) {
                Err(Errno::INTR) => continue,
                other => other.call(text)?,
            };
            if read == 0 {
                return Err(Error::Changed(lossy(self.path)));
            }
            out.write(buffer.get(..read).unwrap_or_default())?;
            at += read as u64;
        }
        Ok(())
    }

    fn unchanged(&self) -> Result<(), Error> {
        let text = || format!("statx({:?}, AT_EMPTY_PATH)", lossy(self.path));
        let flags = AtFlags::EMPTY_PATH;
        let now = statx(self.file.as_fd(), c"", flags, StatxFlags::BASIC_STATS).call(text)?;
        let same = stamp(&now) == stamp(self.stat)
            && now.stx_mode == self.stat.stx_mode
            && now.stx_size == self.stat.stx_size;
        match same {
            true => Ok(()),
            false => Err(Error::Changed(lossy(self.path))),
        }
    }
}

/// Offset and length of each piece of data of a file; one piece, where its file system knows no holes.
fn pieces(file: &OwnedFd, found: &Found<'_>) -> Result<Vec<(u64, u64)>, Error> {
    let size = found.stat.stx_size;
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let begin = match seek(file, SeekFrom::Data(at)) {
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(vec![(0, size)]),
            other => other.call(|| format!("lseek({:?}, {at}, SEEK_DATA)", lossy(found.path)))?,
        };
        let end = seek(file, SeekFrom::Hole(begin))
            .call(|| format!("lseek({:?}, {begin}, SEEK_HOLE)", lossy(found.path)))?;
        let end = end.min(size);
        if begin >= end {
            break;
        }
        pieces.push((begin, end - begin));
        at = end;
    }
    Ok(pieces)
}

/// The pieces of a file of `size` bytes, each widened to multiples of [`PIECE`]; those that touch are one.
fn rounded(pieces: Vec<(u64, u64)>, size: u64) -> Vec<(u64, u64)> {
    let mut wide: Vec<(u64, u64)> = Vec::new();
    for (at, length) in pieces {
        let begin = at - at % PIECE;
        let end = (at + length).checked_next_multiple_of(PIECE);
        let end = end.unwrap_or(size).min(size);
        match wide.last_mut() {
            Some((first, long)) if begin <= *first + *long => *long = end - *first,
            _ => wide.push((begin, end - begin)),
        }
    }
    wide
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_same_whatever_the_blocks_of_the_file_system() {
        // The same file on blocks of 1 KiB, of 4 KiB and of 512 bytes; its length is no multiple.
        let size = 30_000;
        let want = [(4096, 8192), (20480, 4096), (28672, 1328)];
        for pieces in [
            vec![
                (5120, 1024),
                (7168, 1024),
                (9216, 1024),
                (20480, 2048),
                (29696, 304),
            ],
            vec![(4096, 8192), (20480, 4096), (28672, 1328)],
            vec![(5632, 512), (8192, 512), (24064, 512), (29696, 304)],
        ] {
            assert_eq!(rounded(pieces, size), want);
        }
        assert_eq!(rounded(vec![(1024, 1024)], 3000), [(0, 3000)]);
        assert_eq!(rounded(Vec::new(), 3000), []);
        let end = u64::MAX >> 1;
        assert_eq!(rounded(vec![(end - 1, 1)], end), [(end - 4095, 4095)]);
    }
}
