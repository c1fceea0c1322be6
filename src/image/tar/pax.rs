//! Extended headers (POSIX.1-2001 pax), strictly: every record is understood, or the archive is refused.

use super::super::acl;
use super::super::base64;
use super::Time;

/// What an extended header says of the entry after it. The last of several records with one key
/// counts, as POSIX has it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<Time>,
    /// Extended attributes, as the kernel takes them.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// ACLs as text: an attribute's name, and its value or what is wrong with it. GNU tar writes both
    /// forms, and its text has names where the attribute has numbers; so the attribute counts.
    acls: Vec<AclText>,
    pub sparse: SparseKeys,
}

/// The attribute that an ACL's text is for, and its value.
type AclText = (&'static [u8], Result<Vec<u8>, String>);

/// `GNU.sparse.*`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SparseKeys {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub length: Option<u64>,
    /// Offsets and lengths in turn, of 0.0 and 0.1.
    pub numbers: Option<Vec<u64>>,
    pub count: Option<u64>,
}

/// Why an extended header is not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    /// No program means this.
    Damaged(String),
    /// It may be meant so, and the text says what to do about it.
    Refused(String),
}

impl<T: Into<String>> From<T> for Wrong {
    fn from(why: T) -> Wrong {
        Wrong::Damaged(why.into())
    }
}

/// Keys that say nothing about what is to be made: names of owners (numbers count), other times, notes,
/// what the file was on the disk that it came from. `SCHILY.fflags` are chattr's flags, which GNU tar
/// does not keep either.
const IGNORED: [&str; 18] = [
    "uname",
    "gname",
    "atime",
    "ctime",
    "comment",
    "LIBARCHIVE.creationtime",
    "LIBARCHIVE.symlinktype",
    "SCHILY.dev",
    "SCHILY.devmajor",
    "SCHILY.devminor",
    "SCHILY.fflags",
    "SCHILY.filetype",
    "SCHILY.ino",
    "SCHILY.nlink",
    "SCHILY.realsize",
    "SCHILY.release",
    "SCHILY.volhdr",
    "SCHILY.archtype",
];

/// The records of an extended header.
///
/// # Errors
/// What is wrong, for people.
pub fn parse(data: &[u8], attributes: usize, stretches: usize) -> Result<Pax, Wrong> {
    let mut pax = Pax::default();
    for record in Records(data) {
        let (key, value) = record?;
        let key = std::str::from_utf8(key).map_err(|_| {
            let key = String::from_utf8_lossy(key);
            let key: String = key.chars().take(60).collect();
            Wrong::Refused(format!(
                "its attribute {key:?} has a name that is no UTF-8: pack it without (--xattrs-exclude)"
            ))
        })?;
        pax.take(key, value, stretches)?;
        if pax.attributes.len() > attributes {
            return Err(format!("it has more than {attributes} extended attributes").into());
        }
    }
    for (name, value) in std::mem::take(&mut pax.acls) {
        if !pax.attributes.iter().any(|(there, _)| there == name) {
            pax.attributes.push((name.to_vec(), value?));
        }
    }
    Ok(pax)
}

/// A global header concerns every entry after it; only notes are taken.
///
/// # Errors
/// What is wrong, for people.
pub fn global(data: &[u8]) -> Result<(), String> {
    for record in Records(data) {
        let (key, _) = record?;
        if key == b"GNU.volume.label" {
            return Err("the archive has a label: pack it without --label (-V)".into());
        }
        if key != b"comment" {
            return Err(format!(
                "a global PAX header sets {:?} for all entries: pack it without --pax-option",
                String::from_utf8_lossy(key)
            ));
        }
    }
    Ok(())
}

impl Pax {
    fn take(&mut self, key: &str, value: &[u8], stretches: usize) -> Result<(), Wrong> {
        let number = || decimal(value).ok_or_else(|| format!("PAX {key} is no number"));
        let id = || {
            let value = number()?;
            u32::try_from(value)
                .ok()
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| format!("PAX {key} {value} is no owner"))
        };
        let name = || {
            if value.is_empty() || value.contains(&0) {
                return Err(format!("PAX {key} is empty or holds a NUL"));
            }
            Ok(value.to_vec())
        };
        match key {
            "path" => self.path = Some(name()?),
            "linkpath" => self.link = Some(name()?),
            "size" => self.size = Some(number()?),
            "uid" => self.uid = Some(id()?),
            "gid" => self.gid = Some(id()?),
            "mtime" => {
                self.mtime = Some(time(value).ok_or_else(|| format!("PAX {key} is no time"))?);
            }
            "hdrcharset" | "charset" => {
                if value != b"BINARY" && value != b"ISO-IR 10646 2000 UTF-8" {
                    return Err(format!("PAX {key} is neither BINARY nor UTF-8").into());
                }
            }
            "GNU.sparse.major" => self.sparse.major = Some(number()?),
            "GNU.sparse.minor" => self.sparse.minor = Some(number()?),
            "GNU.sparse.name" => self.sparse.name = Some(name()?),
            "GNU.sparse.realsize" | "GNU.sparse.size" => self.sparse.length = Some(number()?),
            "GNU.sparse.numblocks" => self.sparse.count = Some(number()?),
            "GNU.sparse.offset" | "GNU.sparse.numbytes" => {
                let numbers = self.sparse.numbers.get_or_insert_default();
                // Offset and length in turn.
                if numbers.len() % 2 != usize::from(key == "GNU.sparse.numbytes") {
                    return Err("a PAX sparse map has two offsets or two lengths in a row".into());
                }
                numbers.push(number()?);
                too_many(numbers.len(), stretches)?;
            }
            "GNU.sparse.map" => {
                let mut numbers = Vec::new();
                for part in value.split(|byte| *byte == b',') {
                    numbers.push(decimal(part).ok_or("PAX GNU.sparse.map is no list of numbers")?);
                    too_many(numbers.len(), stretches)?;
                }
                self.sparse.numbers = Some(numbers);
            }
            "SCHILY.acl.access" => {
                self.acl(acl::ACCESS, value);
            }
            "SCHILY.acl.default" => {
                self.acl(acl::DEFAULT, value);
            }
            "RHT.security.selinux" => {
                let mut label = value.to_vec();
                if label.last() != Some(&0) {
                    label.push(0);
                }
                self.attribute(b"security.selinux".to_vec(), label);
            }
            _ => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                    // GNU tar writes '=' and '%' in a name so, because '=' ends the key.
                    let name = name.replace("%3D", "=").replace("%25", "%").into_bytes();
                    self.checked_attribute(name, value.to_vec())?;
                } else if let Some(name) = key.strip_prefix("LIBARCHIVE.xattr.") {
                    let name = percent(name.as_bytes()).ok_or("an attribute's name is garbled")?;
                    let value = base64::decode(value).ok_or("an attribute's value is no base64")?;
                    self.checked_attribute(name, value)?;
                } else if !IGNORED.contains(&key) {
                    let key: String = key.chars().take(60).collect();
                    return Err(Wrong::Refused(format!(
                        "PAX {key:?} is not known here, and what it means would be lost: pack it without"
                    )));
                }
            }
        }
        Ok(())
    }

    fn checked_attribute(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<(), Wrong> {
        const SPACES: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"btrfs."];
        let known = SPACES
            .iter()
            .any(|space| name.len() > space.len() && name.starts_with(space))
            || name == acl::ACCESS
            || name == acl::DEFAULT;
        // XATTR_NAME_MAX and XATTR_SIZE_MAX (linux/limits.h).
        if !known || name.len() > 255 || name.contains(&0) || value.len() > 65536 {
            return Err(Wrong::Refused(format!(
                "its extended attribute {:?} is none that can be set: pack it without (--xattrs-exclude)",
                String::from_utf8_lossy(name.get(..60).unwrap_or(&name))
            )));
        }
        self.attribute(name, value);
        Ok(())
    }

    fn acl(&mut self, name: &'static [u8], text: &[u8]) {
        self.acls.retain(|(there, _)| *there != name);
        self.acls.push((name, acl::from_text(text)));
    }

    fn attribute(&mut self, name: Vec<u8>, value: Vec<u8>) {
        match self.attributes.iter_mut().find(|(there, _)| *there == name) {
            Some((_, there)) => *there = value,
            None => self.attributes.push((name, value)),
        }
    }
}

fn too_many(numbers: usize, stretches: usize) -> Result<(), String> {
    if numbers / 2 > stretches {
        return Err(format!("it is sparse in more than {stretches} stretches"));
    }
    Ok(())
}

/// `LENGTH KEY=VALUE\n`, the length being that of all of it.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = self.record();
        if record.is_none() {
            self.0 = &[];
        }
        Some(record.ok_or_else(|| "a PAX record is garbled".to_owned()))
    }
}

impl<'a> Records<'a> {
    fn record(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let digits = self.0.iter().position(|byte| *byte == b' ')?;
        let length = usize::try_from(decimal(self.0.get(..digits)?)?).ok()?;
        let record = self.0.get(..length)?;
        let text = record.get(digits + 1..)?.strip_suffix(b"\n")?;
        let equals = text.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (text.get(..equals)?, text.get(equals + 1..)?);
        self.0 = self.0.get(length..)?;
        Some((key, value))
    }
}

/// Digits only, at least one: no sign, no space.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `-?DIGITS(.DIGITS)?`. Digits after the ninth are cut off, towards the past.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part): (&[u8], &[u8]) = match digits.iter().position(|byte| *byte == b'.') {
        Some(dot) => (digits.get(..dot)?, digits.get(dot + 1..)?),
        None => (digits, b""),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !part.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanoseconds = 0u32;
    for place in 0..9 {
        let digit = part.get(place).map_or(0, |byte| byte - b'0');
        nanoseconds = nanoseconds * 10 + u32::from(digit);
    }
    let beyond = part.iter().skip(9).any(|byte| *byte != b'0');
    Some(if !negative {
        Time {
            seconds,
            nanoseconds,
        }
    } else {
        // -1.25 is 0.75 after -2.
        let nanoseconds = nanoseconds + u32::from(beyond);
        match nanoseconds {
            0 => Time {
                seconds: -seconds,
                nanoseconds: 0,
            },
            _ => Time {
                seconds: -seconds - 1,
                nanoseconds: 1_000_000_000 - nanoseconds,
            },
        }
    })
}

/// `%XX` in a name.
fn percent(name: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = rest.get(2..)?;
        } else {
            bytes.push(*first);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Vec<u8> {
        let mut length = text.len() + 3;
        while length.to_string().len() + text.len() + 2 != length {
            length += 1;
        }
        format!("{length} {text}\n").into_bytes()
    }

    #[test]
    fn times_before_1970_and_fractions_are_exact() {
        let cases = [
            ("1", Some((1, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("1700000000.123456789", Some((1_700_000_000, 123_456_789))),
            ("0.0000000019", Some((0, 1))),
            ("-1", Some((-1, 0))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-0.000000001", Some((-1, 999_999_999))),
            ("-0.0000000005", Some((-1, 999_999_999))),
            ("-0.9999999995", Some((-1, 0))),
            ("99999999999", Some((99_999_999_999, 0))),
            ("", None),
            ("-", None),
            ("1.x", None),
            ("--1", None),
            ("1e9", None),
            ("99999999999999999999", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(seconds, nanoseconds)| Time {
                seconds,
                nanoseconds,
            });
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_record_to_the_last_byte_is_refused() {
        let good = record("path=a");
        assert!(parse(&good, 9, 9).is_ok());
        let cases: [&[u8]; 8] = [
            b"x",
            b"9 path=a",
            b"10 path=a\nxx",
            b"99 path=a\n",
            b" path=a\n",
            b"+9 path=a\n",
            b"7 path\n",
            b"3 \n",
        ];
        for data in cases {
            assert!(parse(data, 9, 9).is_err(), "{data:?}");
        }
        let after = [&good[..], b"\0\0\0"].concat();
        assert!(parse(&after, 9, 9).is_err());
    }

    #[test]
    fn unknown_keys_signs_and_impossible_owners_are_refused() {
        for text in [
            "VENDOR.secret=1",
            "size=+1",
            "size=-1",
            "size=",
            "uid=4294967295",
            "uid=4294967296",
            "path=",
            "path=a\0b",
            "hdrcharset=EBCDIC",
            "GNU.sparse.map=1,,2",
            "GNU.sparse.numbytes=1",
            "SCHILY.xattr.system.nfs4_acl=x",
            "SCHILY.xattr.user.=x",
            "LIBARCHIVE.xattr.user.a=*",
        ] {
            assert!(parse(&record(text), 9, 9).is_err(), "{text}");
        }
        for text in ["comment=hello", "uname=root", "SCHILY.ino=7"] {
            assert_eq!(parse(&record(text), 9, 9), Ok(Pax::default()), "{text}");
        }
    }

    #[test]
    fn attributes_in_both_dialects_are_one() {
        let data = [
            record("SCHILY.xattr.user.a%3Db%25=one"),
            record("LIBARCHIVE.xattr.user.a%3db%25=dHdv"),
        ]
        .concat();
        let pax = parse(&data, 9, 9).unwrap();
        assert_eq!(pax.attributes, [(b"user.a=b%".to_vec(), b"two".to_vec())]);
    }

    #[test]
    fn an_acl_in_numbers_counts_before_one_in_names() {
        let text =
            record("SCHILY.acl.access=user::rw-,user:joe:r--,group::r--,mask::r--,other::---");
        assert!(parse(&text, 9, 9).is_err());
        let raw = record("SCHILY.xattr.system.posix_acl_access=raw");
        for data in [[&text[..], &raw].concat(), [&raw[..], &text].concat()] {
            let pax = parse(&data, 9, 9).unwrap();
            assert_eq!(pax.attributes, [(acl::ACCESS.to_vec(), b"raw".to_vec())]);
        }
    }

    #[test]
    fn a_global_header_may_hold_a_comment_and_nothing_else() {
        assert!(global(&record("comment=of git archive")).is_ok());
        assert!(global(&record("path=etc/shadow")).is_err());
        assert!(global(b"rubbish").is_err());
    }
}
