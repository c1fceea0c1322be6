//! Extended attributes of any entry, and ACLs as the text that archives hold.
//!
//! A link or a device cannot be opened to ask it, so they are asked by name, through the descriptor
//! of their directory in /proc; the name itself is never followed.

use crate::sys::{self, Context};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};

/// Names and values.
pub type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// The attribute that holds the ACL of an entry.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute that holds what a directory's new entries get.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

/// The path in /proc of `name` in `directory`.
pub fn by_name(directory: BorrowedFd<'_>, name: &CStr) -> CString {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    CString::new(path).unwrap_or_default()
}

/// All attributes of `name` in `directory`; none where its file system has none.
pub fn read(directory: BorrowedFd<'_>, name: &CStr) -> sys::Result<Attributes> {
    let path = by_name(directory, name);
    let list = match whole(|buffer| rustix::fs::llistxattr(&path, buffer)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Attributes::new()),
        other => other.call(|| format!("llistxattr({name:?})"))?,
    };
    let mut attributes = Attributes::new();
    for attribute in list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let value = match whole(|buffer| rustix::fs::lgetxattr(&path, attribute, buffer)) {
            // Gone meanwhile, or listed without being there, as some file systems do.
            Err(Errno::NODATA) => continue,
            other => other.call(|| {
                format!(
                    "lgetxattr({name:?}, {:?})",
                    String::from_utf8_lossy(attribute)
                )
            })?,
        };
        attributes.insert(attribute.to_vec(), value);
    }
    Ok(attributes)
}

/// Calls until the buffer is large enough.
fn whole(
    mut call: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 512];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            // XATTR_SIZE_MAX and XATTR_LIST_MAX are 64 KiB (xattr(7)).
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(errno) => return Err(errno),
        }
    }
}

/// An ACL as acl(5) writes it, with numbers for names, a line an entry. `None`: it is not one.
///
/// The attribute's value is that of linux/posix_acl_xattr.h: a version, 2, then entries of tag,
/// permissions and id, all little-endian.
pub fn acl_text(value: &[u8]) -> Option<String> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != 2 || !rest.is_empty() {
        return None;
    }
    let mut text = String::new();
    for [tag, tag_high, permissions, _, id @ ..] in entries {
        let id = u32::from_le_bytes(*id);
        let who = match u16::from_le_bytes([*tag, *tag_high]) {
            0x01 => "user:".to_owned(),
            0x02 => format!("user:{id}"),
            0x04 => "group:".to_owned(),
            0x08 => format!("group:{id}"),
            0x10 => "mask:".to_owned(),
            0x20 => "other:".to_owned(),
            _ => return None,
        };
        let bit = |bit: u8, letter| if permissions & bit == 0 { '-' } else { letter };
        let (read, write, execute) = (bit(4, 'r'), bit(2, 'w'), bit(1, 'x'));
        text.push_str(&format!("{who}:{read}{write}{execute}\n"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;

    #[test]
    fn an_acl_is_written_with_numbers() {
        let entry = |tag: u16, permissions: u16, id: u32| {
            let mut bytes = tag.to_le_bytes().to_vec();
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
            bytes
        };
        let none = u32::MAX;
        let acl = [
            2_u32.to_le_bytes().to_vec(),
            entry(0x01, 7, none),
            entry(0x02, 4, 1000),
            entry(0x04, 5, none),
            entry(0x08, 2, 70_000),
            entry(0x10, 7, none),
            entry(0x20, 0, none),
        ]
        .concat();
        assert_eq!(
            acl_text(&acl).unwrap(),
            "user::rwx\nuser:1000:r--\ngroup::r-x\ngroup:70000:-w-\nmask::rwx\nother::---\n"
        );
        for wrong in [&acl[..acl.len() - 1], &acl[4..], b"", &[3, 0, 0, 0]] {
            assert_eq!(acl_text(wrong), None);
        }
    }

    #[test]
    fn a_long_value_is_read_whole_and_a_link_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink("file", root.path().join("link")).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        let value = vec![7; 3000];
        if rustix::fs::setxattr(&file, "user.long", &value, flags).is_err() {
            eprintln!("not run: no user attributes here");
            return;
        }
        let directory = std::fs::File::open(root.path()).unwrap();
        let read = |name| read(directory.as_fd(), name).unwrap();
        assert_eq!(read(c"file")[b"user.long".as_slice()], value);
        assert!(!read(c"link").contains_key(b"user.long".as_slice()));
    }
}
