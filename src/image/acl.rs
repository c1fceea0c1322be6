//! POSIX ACLs, from the text in an archive to what the kernel takes as an extended attribute.

/// The attribute of the ACL that is checked.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of the ACL that files in a directory begin with.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

// linux/posix_acl_xattr.h, linux/posix_acl.h
const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const UNDEFINED: u32 = u32::MAX;

/// Reads the short or the long text form: entries `user:NAME:rwx` parted by commas or newlines. star and
/// bsdtar append the owner's number as a fourth field. Names alone mean nothing in an initramfs, whose
/// accounts are not the archive's: they are refused.
///
/// # Errors
/// What is wrong, for people.
pub fn from_text(text: &[u8]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "its ACL is not text".to_owned())?;
    let mut entries = Vec::new();
    for part in text.split([',', '\n']) {
        let part = part.split('#').next().unwrap_or_default();
        // "default:" is said again by some where it is clear from the key.
        let part = part.trim().trim_start_matches("default:");
        if part.is_empty() {
            continue;
        }
        entries.push(entry(part).ok_or_else(|| {
            format!(
                "the entry {part:?} of its ACL cannot be used: only numbers of users and groups can, pack it with --xattrs --xattrs-include='*', where they are, or with bsdtar"
            )
        })?);
    }
    if entries.is_empty() {
        return Err("its ACL is empty".into());
    }
    // The kernel wants them in this order.
    entries.sort_unstable();
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    Ok(bytes)
}

fn entry(part: &str) -> Option<(u16, u32, u16)> {
    let fields: Vec<&str> = part.split(':').map(str::trim).collect();
    let (kind, who, permissions, number) = match fields.as_slice() {
        [kind, who, permissions] => (*kind, *who, *permissions, ""),
        [kind, who, permissions, number] => (*kind, *who, *permissions, *number),
        // Some write the mask and the others with one colon.
        [kind, permissions] => (*kind, "", *permissions, ""),
        _ => return None,
    };
    let named = !who.is_empty() || !number.is_empty();
    let tag = match (kind, named) {
        ("user" | "u", false) => USER_OBJ,
        ("user" | "u", true) => USER,
        ("group" | "g", false) => GROUP_OBJ,
        ("group" | "g", true) => GROUP,
        ("mask" | "m", false) => MASK,
        ("other" | "o", false) => OTHER,
        _ => return None,
    };
    let id = match (named, number.is_empty()) {
        (false, _) => UNDEFINED,
        (true, false) => number.parse().ok().filter(|id| *id != UNDEFINED)?,
        (true, true) => who.parse().ok().filter(|id| *id != UNDEFINED)?,
    };
    Some((tag, id, mode(permissions)?))
}

/// `rwx`, with dashes for what is not allowed.
fn mode(text: &str) -> Option<u16> {
    let mut bits = 0;
    if text.is_empty() || text.len() > 3 {
        return None;
    }
    for letter in text.bytes() {
        bits |= match letter {
            b'r' => 4,
            b'w' => 2,
            b'x' => 1,
            b'-' => 0,
            _ => return None,
        };
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// user::rw-, user:1000:r--, group::r--, mask::rw-, other::---
    const EXPECTED: [u8; 44] = [
        2, 0, 0, 0, //
        1, 0, 6, 0, 255, 255, 255, 255, //
        2, 0, 4, 0, 0xe8, 3, 0, 0, //
        4, 0, 4, 0, 255, 255, 255, 255, //
        16, 0, 6, 0, 255, 255, 255, 255, //
        32, 0, 0, 0, 255, 255, 255, 255,
    ];

    #[test]
    fn each_tools_way_of_writing_an_acl_is_the_same_acl() {
        for text in [
            "user::rw-\nuser:1000:r--\ngroup::r--\nmask::rw-\nother::---\n",
            "user::rw-,user:joe:r--:1000,group::r--,mask::rw-,other::---",
            "u::rw,m::rw,g::r,o::-,u:1000:r #effective:r--",
            "default:user::rw-,default:user:1000:r--,default:group::r--,default:mask::rw-,default:other::---",
            "user::rw-,user:1000:r--,group::r--,mask:rw-,other:---",
        ] {
            assert_eq!(from_text(text.as_bytes()).unwrap(), EXPECTED, "{text}");
        }
    }

    #[test]
    fn a_name_without_a_number_is_refused_with_the_remedy() {
        let error = from_text(b"user::rw-,user:joe:r--,group::r--,other::---").unwrap_err();
        assert!(error.contains("--xattrs-include"), "{error}");
        for wrong in [
            "",
            "user",
            "user:1:2:3:4",
            "user::rwq",
            "mask:1:rwx",
            "user:4294967295:r",
        ] {
            assert!(from_text(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
