//! Blocks → entries and their data.

use std::io::BufRead;

use tar_core::{EntryType, Header};

use super::super::error::{Error, Result, shown};
use super::super::limits::Limits;
use super::{Entry, Kind, Sparse, Time, header, pax, sparse};

const BLOCK: usize = 512;

/// Reads a tar archive that is not compressed (any more).
pub struct Reader<R> {
    source: R,
    limits: Limits,
    /// Bytes that were read.
    at: u64,
    /// Bytes of the present entry's data, and of their padding, that were not yet read.
    data: u64,
    padding: u64,
    /// The present entry, for messages.
    name: Vec<u8>,
}

/// What the headers before an entry's own said.
#[derive(Default)]
struct Before {
    pax: Option<pax::Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Before {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.name.is_none() && self.link.is_none()
    }
}

impl<R: BufRead> Reader<R> {
    /// A reader from the start of an archive.
    pub fn new(source: R, limits: &Limits) -> Reader<R> {
        Reader {
            source,
            limits: *limits,
            at: 0,
            data: 0,
            padding: 0,
            name: Vec::new(),
        }
    }

    /// Bytes that were read.
    pub fn read_bytes(&self) -> u64 {
        self.at
    }

    /// The next entry, past what is left of the one before; `None` at the end of the archive, after
    /// which nothing but zeros came.
    ///
    /// # Errors
    /// [`Error::Short`], [`Error::Damaged`], [`Error::Refused`], [`Error::Limit`],
    /// [`Error::Trailing`], and what the source says.
    pub fn next(&mut self) -> Result<Option<Entry>> {
        while !self.chunk()?.is_empty() {
            let all = usize::try_from(self.data).unwrap_or(usize::MAX);
            self.consume(all);
        }
        let mut padding = [0; BLOCK];
        let padded = padding.get_mut(..usize::try_from(self.padding).unwrap_or(0));
        self.exact(padded.unwrap_or_default())?;
        self.padding = 0;
        self.name.clear();
        let mut before = Before::default();
        loop {
            let block = self.block()?;
            if block == [0; BLOCK] {
                if !before.is_empty() {
                    return Err(self.damaged("an extended header belongs to nothing"));
                }
                self.end()?;
                return Ok(None);
            }
            let header = Header::from_bytes(&block);
            if !header::is_whole(header) {
                return Err(self.damaged("the checksum of a header does not match"));
            }
            // GNU tar writes no magic into it.
            if header.entry_type().to_byte() == b'V' {
                return Err(Error::refused(
                    &header::path(header),
                    "it is the archive's label: pack it without --label (-V)",
                ));
            }
            if !header::is_known(header) {
                return Err(Error::OldForm);
            }
            let size = header::size(&header.as_ustar().size)
                .ok_or_else(|| self.damaged("a header's size is no number"))?;
            let twice = || self.damaged("two extended headers of one kind are in a row");
            match header.entry_type() {
                EntryType::XHeader if before.pax.is_some() => return Err(twice()),
                EntryType::GnuLongName if before.name.is_some() => return Err(twice()),
                EntryType::GnuLongLink if before.link.is_some() => return Err(twice()),
                EntryType::XHeader => {
                    let data = self.extension(size)?;
                    let limits = self.limits;
                    let parsed = pax::parse(&data, limits.attributes, limits.stretches);
                    before.pax = Some(match parsed {
                        Ok(parsed) => parsed,
                        Err(pax::Wrong::Damaged(why)) => return Err(self.damaged(why)),
                        Err(pax::Wrong::Refused(why)) => return Err(self.refused_next(&why)),
                    });
                }
                EntryType::XGlobalHeader => {
                    if !before.is_empty() {
                        return Err(self.damaged("a global header parts an entry"));
                    }
                    let data = self.extension(size)?;
                    pax::global(&data).map_err(|why| self.damaged(why))?;
                }
                EntryType::GnuLongName => before.name = Some(self.long(size)?),
                EntryType::GnuLongLink => before.link = Some(self.long(size)?),
                _ => return self.entry(&block, header, size, before).map(Some),
            }
        }
    }

    /// Data of the present entry that lies ready, at least one byte; empty when there is no more.
    ///
    /// # Errors
    /// [`Error::Short`], and what the source says.
    pub fn chunk(&mut self) -> Result<&[u8]> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let bytes = self
            .source
            .fill_buf()
            .map_err(|error| Error::from_stream("tar", error))?;
        if bytes.is_empty() {
            return Err(Error::Short {
                entry: shown(&self.name),
            });
        }
        let length = usize::try_from(self.data)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        Ok(bytes.get(..length).unwrap_or_default())
    }

    /// Goes on by as much of the present entry's data, not beyond what [`Self::chunk`] gave.
    pub fn consume(&mut self, amount: usize) {
        let left = usize::try_from(self.data).unwrap_or(usize::MAX);
        let ready = self.source.fill_buf().map_or(0, <[u8]>::len);
        let amount = amount.min(left).min(ready);
        self.source.consume(amount);
        self.data -= amount as u64;
        self.at += amount as u64;
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        header: &Header,
        stated: u64,
        before: Before,
    ) -> Result<Entry> {
        let fields = header.as_ustar();
        let pax = before.pax.unwrap_or_default();
        let from_header = header::path(header);
        self.name = (pax.sparse.name.clone())
            .or_else(|| pax.path.clone())
            .or_else(|| before.name.clone())
            .unwrap_or(from_header);
        let name = self.name.clone();
        let refused = |why: &str| Error::refused(&name, why);
        if (pax.path.is_some() && before.name.is_some())
            || (pax.link.is_some() && before.link.is_some())
        {
            return Err(refused("it has a long name of both kinds, PAX and GNU"));
        }
        let mut size = match pax.size {
            // Written where the field is too small, or the same in both: else two programs would see
            // two different archives.
            Some(size) if stated != 0 && stated != size && size < 1 << 33 => {
                return Err(refused("its size is stated twice, differently"));
            }
            Some(size) => size,
            None => stated,
        };
        let link = || {
            let from_header = header.link_name_bytes().to_vec();
            let link = pax.link.clone().or(before.link.clone());
            link.unwrap_or(from_header)
        };
        let device = || {
            let number =
                |field| header::small(field).ok_or_else(|| refused("its device is no number"));
            Ok::<_, Error>((number(&fields.dev_major)?, number(&fields.dev_minor)?))
        };
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse => Kind::File,
            EntryType::Link => Kind::HardLink(link()),
            EntryType::Symlink => Kind::Symlink(link()),
            EntryType::Char => device().map(|(major, minor)| Kind::Character(major, minor))?,
            EntryType::Block => device().map(|(major, minor)| Kind::Block(major, minor))?,
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Fifo,
            other => {
                return Err(refused(&format!(
                    "its type {:?} is not known here: pack it with 'backstay factory pack' or \
                     'tar --format=posix'",
                    header::letter(other)
                )));
            }
        };
        if kind != Kind::File && size != 0 {
            return Err(refused("it is no regular file and is said to have data"));
        }
        if size > self.limits.bytes.saturating_sub(self.at) {
            return Err(Error::limit(&name, "bytes", self.limits.bytes));
        }
        self.data = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        let sparse = self.sparse(block, header, &pax.sparse, &mut size)?;
        if sparse.is_some() && kind != Kind::File {
            return Err(refused("it is sparse and no regular file"));
        }
        let length = sparse.as_ref().map_or(size, |sparse| sparse.length);
        if length > self.limits.file_length {
            return Err(Error::limit(
                &name,
                "bytes of one file",
                self.limits.file_length,
            ));
        }
        let owner = |pax: Option<u32>, field: &[u8]| {
            let id = pax.or_else(|| header::small(field));
            id.filter(|id| *id != u32::MAX)
                .ok_or_else(|| refused("its owner is no number of 32 bits"))
        };
        let seconds =
            header::number(&fields.mtime).ok_or_else(|| refused("its time is no number"))?;
        let mode = header::small(&fields.mode).ok_or_else(|| refused("its mode is no number"))?;
        Ok(Entry {
            kind,
            // The type of the file is in the upper bits of some.
            mode: mode & 0o7777,
            uid: owner(pax.uid, &fields.uid)?,
            gid: owner(pax.gid, &fields.gid)?,
            mtime: pax.mtime.unwrap_or(Time {
                seconds,
                nanoseconds: 0,
            }),
            size,
            sparse,
            attributes: pax.attributes,
            path: name,
        })
    }

    /// The map of the file, if it is sparse in any of the forms; what it takes of the data is read.
    fn sparse(
        &mut self,
        block: &[u8; BLOCK],
        header: &Header,
        keys: &pax::SparseKeys,
        size: &mut u64,
    ) -> Result<Option<Sparse>> {
        let name = self.name.clone();
        let refused = |why: String| Error::refused(&name, why);
        if header.entry_type() == EntryType::GnuSparse {
            if *keys != pax::SparseKeys::default() || !header.is_gnu() {
                return Err(refused("it is sparse in two ways".into()));
            }
            // Blocks of more descriptors come before the data and are no part of it.
            let (data, padding) = (self.data, self.padding);
            (self.data, self.padding) = (0, 0);
            let mut map = Vec::new();
            let mut more = sparse::old_header(block, &mut map).map_err(refused)?;
            while more {
                let extension = self.block()?;
                more = sparse::old_extension(&extension, &mut map).map_err(refused)?;
                if map.len() > self.limits.stretches {
                    let limit = self.limits.stretches as u64;
                    return Err(Error::limit(&name, "stretches of data", limit));
                }
            }
            (self.data, self.padding) = (data, padding);
            let length = sparse::old_length(block)
                .ok_or_else(|| refused("its length is no number".into()))?;
            return sparse::checked(map, length, *size)
                .map(Some)
                .map_err(refused);
        }
        match (keys.major, keys.minor) {
            (Some(1), Some(0)) => {
                let length = keys
                    .length
                    .filter(|_| keys.numbers.is_none())
                    .ok_or_else(|| refused("its GNU.sparse records are incomplete".into()))?;
                let mut map = sparse::Map10::default();
                loop {
                    let mut text = [0; BLOCK];
                    if self.data < BLOCK as u64 {
                        return Err(refused("its sparse map is longer than its data".into()));
                    }
                    self.exact(&mut text)?;
                    self.data -= BLOCK as u64;
                    *size -= BLOCK as u64;
                    if map.block(&text, self.limits.stretches).map_err(refused)? {
                        break;
                    }
                }
                let map = map.pairs().map_err(refused)?;
                sparse::checked(map, length, *size)
                    .map(Some)
                    .map_err(refused)
            }
            (None | Some(0), None | Some(0 | 1)) => sparse::from_pax(keys, *size).map_err(refused),
            _ => Err(refused(
                "it is sparse in a form that is not known here".into(),
            )),
        }
    }

    /// The data of an extended header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > self.limits.pax {
            return Err(Error::limit(
                b"",
                "bytes of an extended header",
                self.limits.pax,
            ));
        }
        let padded = usize::try_from(size.next_multiple_of(BLOCK as u64)).unwrap_or(0);
        let mut data = vec![0; padded];
        self.exact(&mut data)?;
        data.truncate(usize::try_from(size).unwrap_or(0));
        Ok(data)
    }

    /// A GNU long name: text and one NUL.
    fn long(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut data = self.extension(size)?;
        if data.last() == Some(&0) {
            data.pop();
        }
        if data.is_empty() || data.contains(&0) {
            return Err(self.damaged("a long name is empty or holds a NUL"));
        }
        Ok(data)
    }

    fn block(&mut self) -> Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.exact(&mut block)?;
        Ok(block)
    }

    fn exact(&mut self, to: &mut [u8]) -> Result<()> {
        if to.is_empty() {
            return Ok(());
        }
        if self.limits.bytes.saturating_sub(self.at) < to.len() as u64 {
            return Err(Error::limit(&self.name, "bytes", self.limits.bytes));
        }
        self.source.read_exact(to).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                Error::Short {
                    entry: shown(&self.name),
                }
            } else {
                Error::from_stream("tar", error)
            }
        })?;
        self.at += to.len() as u64;
        Ok(())
    }

    /// After the first of the two blocks of zeros that end an archive: the other, and any number more.
    fn end(&mut self) -> Result<()> {
        if self.block()? != [0; BLOCK] {
            return Err(Error::Trailing {
                what: "after one block of zeros".into(),
            });
        }
        loop {
            let rest = self
                .source
                .fill_buf()
                .map_err(|error| Error::from_stream("tar", error))?;
            if rest.is_empty() {
                return Ok(());
            }
            if rest.iter().any(|byte| *byte != 0) {
                return Err(Error::Trailing {
                    what: "after its two blocks of zeros".into(),
                });
            }
            let length = rest.len();
            self.source.consume(length);
            self.at += length as u64;
            if self.at > self.limits.bytes {
                return Err(Error::limit(b"", "bytes", self.limits.bytes));
            }
        }
    }

    /// What the extended header that was just read says of the entry after it is not taken: the error names
    /// that entry.
    fn refused_next(&mut self, why: &str) -> Error {
        match self.block() {
            Ok(block) => Error::refused(&header::path(Header::from_bytes(&block)), why),
            Err(error) => error,
        }
    }

    fn damaged(&self, why: impl Into<String>) -> Error {
        Error::Damaged {
            bytes: self.at,
            why: why.into(),
        }
    }
}
