//! The blocks before an entry's content: what pax keeps in records of its own, and the ustar header.

use super::content::Content;
use super::{BLOCK, Error};
use crate::image::attributes::{ACCESS, DEFAULT, acl_text};
use crate::image::walk::{Found, lossy};
use rustix::fs::{FileType, Mode};
use std::fmt::Write as _;
use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

/// What a sparse file is called where extractors that know no sparse files look; others look in the records.
const SPARSE_NAME: &[u8] = b"GNUSparseFile.0/content";

/// How the names of attributes begin that btrfs takes; ACLs have their own records.
const SPACES: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"btrfs."];

/// An entry's header, being made.
pub struct Header {
    builder: EntryBuilder,
    name: Vec<u8>,
}

impl Header {
    /// Of an entry with what all kinds have.
    pub fn new(found: &Found<'_>) -> Result<Self, Error> {
        let mut header = Self::bare(found)?;
        let stat = found.stat;
        let kind = match found.kind() {
            FileType::RegularFile => EntryType::Regular,
            FileType::Directory => EntryType::Directory,
            FileType::Symlink => EntryType::Symlink,
            FileType::Fifo => EntryType::Fifo,
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            other => return Err(unfit(found, format!("its type, {other:?}"))),
        };
        header.builder.entry_type(kind);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header
                .builder
                .device(stat.stx_rdev_major, stat.stx_rdev_minor)
                .map_err(|error| unfit(found, error))?;
        }
        Ok(header)
    }

    /// Of one more name of the file that is called `first`.
    pub fn link(found: &Found<'_>, first: &[u8]) -> Result<Self, Error> {
        let mut header = Self::bare(found)?;
        header.builder.entry_type(EntryType::Link);
        header.target(&[b"./", first].concat());
        Ok(header)
    }

    /// Of the directory that stands for what is mounted there. What is mounted there today says nothing
    /// about it.
    pub fn stand_in(found: &Found<'_>) -> Result<Self, Error> {
        let mut header = Self::named(found);
        header.builder.entry_type(EntryType::Directory);
        header
            .builder
            .mode(0o755)
            .and_then(|builder| builder.uid(0))
            .and_then(|builder| builder.gid(0))
            .and_then(|builder| builder.size(0))
            .and_then(|builder| builder.mtime(0))
            .map_err(|error| unfit(found, error))?;
        Ok(header)
    }

    fn named(found: &Found<'_>) -> Self {
        let mut name = [b"./", found.path].concat();
        if found.kind() == FileType::Directory && !found.path.is_empty() {
            name.push(b'/');
        }
        let mut builder = EntryBuilder::new_ustar();
        builder.path(&name);
        if name.len() > 100 && std::str::from_utf8(&name).is_err() {
            binary(&mut builder);
        }
        Self { builder, name }
    }

    fn bare(found: &Found<'_>) -> Result<Self, Error> {
        let mut header = Self::named(found);
        let stat = found.stat;
        let mode = u32::from(stat.stx_mode) & Mode::from_bits_truncate(0o7777).bits();
        let (seconds, nanoseconds) = (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec);
        let whole = u64::try_from(seconds).ok();
        header
            .builder
            .mode(mode)
            .and_then(|builder| builder.uid(stat.stx_uid.into()))
            .and_then(|builder| builder.gid(stat.stx_gid.into()))
            .and_then(|builder| builder.size(0))
            .and_then(|builder| match (whole, nanoseconds) {
                (Some(seconds), 0) => builder.mtime(seconds),
                _ => {
                    builder.mtime(0)?;
                    Ok(builder.add_pax("mtime", time(seconds, nanoseconds)))
                }
            })
            .map_err(|error| unfit(found, error))?;
        Ok(header)
    }

    /// The entry's name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Where a link leads.
    pub fn target(&mut self, target: &[u8]) {
        self.builder.link_name(target);
        let long_name = self.name.len() > 100 && std::str::from_utf8(&self.name).is_err();
        if target.len() > 100 && std::str::from_utf8(target).is_err() && !long_name {
            binary(&mut self.builder);
        }
    }

    /// Adds an extended attribute; false where nothing restores one of its name.
    pub fn attribute(
        &mut self,
        found: &Found<'_>,
        name: &[u8],
        value: &[u8],
    ) -> Result<bool, Error> {
        let acl = match name {
            ACCESS => Some("SCHILY.acl.access"),
            DEFAULT => Some("SCHILY.acl.default"),
            _ => None,
        };
        if let Some(key) = acl {
            let text = acl_text(value).ok_or_else(|| unfit(found, "its ACL is garbled"))?;
            self.builder.add_pax(key, text);
            return Ok(true);
        }
        // '=' ends a record's key, and GNU tar reads '%' as the beginning of an escape. The extractor
        // takes what btrfs takes.
        let taken = SPACES.iter().any(|space| name.starts_with(space));
        match std::str::from_utf8(name) {
            Ok(name) if taken && !name.contains(['=', '%']) => {
                self.builder.add_pax(&format!("SCHILY.xattr.{name}"), value);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Adds what is said of a file's content. Returns what is to be written between header and content.
    pub fn content(&mut self, found: &Found<'_>, content: &Content<'_>) -> Result<Vec<u8>, Error> {
        let map = content.map();
        if map.is_some() {
            self.builder
                .add_pax("GNU.sparse.major", "1")
                .add_pax("GNU.sparse.minor", "0")
                .add_pax("GNU.sparse.name", &self.name)
                .add_pax("GNU.sparse.realsize", content.size().to_string())
                .path(SPARSE_NAME);
        }
        let map = map.unwrap_or_default();
        self.builder
            .size(map.len() as u64 + content.length())
            .map_err(|error| unfit(found, error))?;
        Ok(map)
    }

    /// The blocks.
    pub fn bytes(mut self) -> Vec<u8> {
        let bytes = self.builder.finish_bytes();
        debug_assert_eq!(bytes.len() as u64 % BLOCK, 0);
        bytes
    }
}

fn unfit(found: &Found<'_>, why: impl ToString) -> Error {
    Error::Unfit {
        path: lossy(found.path),
        why: why.to_string(),
    }
}

/// Says that names in the records are bytes and not UTF-8.
fn binary(builder: &mut EntryBuilder) {
    builder.add_pax("hdrcharset", "BINARY");
}

/// A time as pax writes it: the kernel counts nanoseconds up from the second before, a decimal fraction
/// of a negative number goes the other way.
fn time(seconds: i64, nanoseconds: u32) -> String {
    let (sign, whole, fraction) = match (seconds < 0, nanoseconds) {
        (false, fraction) => ("", seconds.unsigned_abs(), fraction),
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (true, rest) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - rest),
    };
    let mut text = format!("{sign}{whole}");
    if fraction != 0 {
        let _ = write!(text, ".{fraction:09}");
    }
    text.trim_end_matches(|digit| digit == '0' && fraction != 0)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_count_backwards() {
        for (seconds, nanoseconds, want) in [
            (0, 0, "0"),
            (1_700_000_000, 0, "1700000000"),
            (1_700_000_000, 120_000_000, "1700000000.12"),
            (5, 1, "5.000000001"),
            (-1, 0, "-1"),
            (-10, 0, "-10"),
            (-1, 500_000_000, "-0.5"),
            (-2, 999_999_999, "-1.000000001"),
            (i64::MIN, 0, "-9223372036854775808"),
        ] {
            assert_eq!(time(seconds, nanoseconds), want);
        }
    }
}
