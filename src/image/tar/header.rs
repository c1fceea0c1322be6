//! The fields of one header block.

use tar_core::{EntryType, Header};

/// A number: octal digits, or base 256 with a sign (GNU). Where a field holds neither, or more than
/// fits, `None`.
pub fn number(field: &[u8]) -> Option<i64> {
    match field.first()? {
        0x80 | 0xff => base_256(field),
        byte if byte & 0x80 != 0 => None,
        _ => octal(field),
    }
}

fn base_256(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    let negative = *first == 0xff;
    let mut value: i64 = if negative { -1 } else { 0 };
    for byte in rest {
        value = value.checked_mul(256)?.checked_add(i64::from(*byte))?;
    }
    // In two's complement a negative number's top bit is set.
    ((value < 0) == negative).then_some(value)
}

/// Digits between spaces, ended by a space, a NUL or the field's end; nothing is zero.
fn octal(field: &[u8]) -> Option<i64> {
    let mut value: i64 = 0;
    let mut digits = field.iter().skip_while(|byte| **byte == b' ').peekable();
    while let Some(byte) = digits.next_if(|byte| byte.is_ascii_digit()) {
        if *byte > b'7' {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(i64::from(byte - b'0'))?;
    }
    // What follows a NUL is not looked at: old tars left what was there.
    match digits.next() {
        None | Some(0) => Some(value),
        Some(b' ')
            if digits
                .take_while(|byte| **byte != 0)
                .all(|byte| *byte == b' ') =>
        {
            Some(value)
        }
        Some(_) => None,
    }
}

/// The same where nothing below zero can be meant.
pub fn size(field: &[u8]) -> Option<u64> {
    u64::try_from(number(field)?).ok()
}

/// A device's number, an owner: 32 bits.
pub fn small(field: &[u8]) -> Option<u32> {
    u32::try_from(number(field)?).ok()
}

/// The path in a header: the name, in ustar after its prefix.
pub fn path(header: &Header) -> Vec<u8> {
    let name = header.path_bytes();
    match header.prefix() {
        Some(prefix) if !prefix.is_empty() => [prefix, b"/", name].concat(),
        _ => name.to_vec(),
    }
}

/// Whether its sum is right.
pub fn is_whole(header: &Header) -> bool {
    header.verify_checksum().is_ok()
}

/// Whether it is of the POSIX or the GNU form. What was written before POSIX has no magic, and its fields
/// end earlier.
pub fn is_known(header: &Header) -> bool {
    header.is_gnu() || header.is_ustar()
}

/// The type's letter, for messages.
pub fn letter(kind: EntryType) -> char {
    char::from(kind.to_byte())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_signed_base_256_and_nothing_else() {
        let mut negative = [0xff; 12];
        negative[11] = 0xfe;
        let mut large = [0; 12];
        large[0] = 0x80;
        large[4..].copy_from_slice(&(1i64 << 40).to_be_bytes());
        let mut over = [0; 12];
        over[0] = 0x80;
        over[3] = 1;
        let mut sign = [0; 12];
        sign[0] = 0x80;
        sign[4] = 0x80;
        let cases: [(&[u8], Option<i64>); 16] = [
            (b"0000644\0", Some(0o644)),
            (b"    644 ", Some(0o644)),
            (b"0000644", Some(0o644)),
            (b"644 \0\0\0\0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"644\0junk", Some(0o644)),
            (b"0000648\0", None),
            (b"644 5 \0\0", None),
            (b"-000644\0", None),
            (b"+000644\0", None),
            (&negative, Some(-2)),
            (&large, Some(1 << 40)),
            (&over, None),
            (&sign, None),
            (b"\x81\0\0\0\0\0\0\0", None),
        ];
        for (field, value) in cases {
            assert_eq!(number(field), value, "{field:x?}");
        }
        assert_eq!(size(&negative), None);
    }
}
