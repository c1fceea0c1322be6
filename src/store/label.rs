//! Labels: a few named bytes on a dataset, which go wherever its content goes.
//!
//! A store keeps them so that clones, snapshots and sends carry them (on btrfs: extended attributes of the dataset's
//! root). What is said of data in a label is therefore never told of other data. What a label means is not the store's
//! business; names and values are bounded, so that a damaged or strange one is refused instead of read.

use super::{Result, StoreError};

/// Bytes of a name at the most.
pub const MAX_NAME: usize = 64;
/// Bytes of a value at the most: some of them fit beside each other in a node of 16 KiB, and one in a node of 4 KiB.
pub const MAX: usize = 2048;

/// Whether it can be the name of a label: letters, digits and `._+~-`.
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+~-".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain)
}

/// Refuses a name that is none.
pub fn check_name(name: &str) -> Result<()> {
    match is_name(name) {
        true => Ok(()),
        false => Err(StoreError::Label(format!(
            "{:?} is no name of a label: it has letters, digits and ._+~- only, {MAX_NAME} at the most",
            super::shown(name.as_bytes())
        ))),
    }
}

/// Refuses a value that is too long.
pub fn check_value(name: &str, value: &[u8]) -> Result<()> {
    match value.len() {
        0..=MAX => Ok(()),
        length => Err(StoreError::Label(format!(
            "{length} bytes are too many for the label {name}: it holds {MAX}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        let longest = "x".repeat(MAX_NAME);
        for name in ["a", "state.shop", "history.g++-12~1", longest.as_str()] {
            assert!(is_name(name), "{name}");
            check_name(name).unwrap();
        }
        let longer = format!("{longest}x");
        for name in ["", "a b", "a/b", "a\0", "a\nb", "ä", longer.as_str()] {
            let text = check_name(name).unwrap_err().to_string();
            assert!(!text.contains(['\n', '\0']), "{text:?}");
        }
    }

    #[test]
    fn values_are_bounded() {
        check_value("a", &[0; MAX]).unwrap();
        let text = check_value("a", &[0; MAX + 1]).unwrap_err().to_string();
        assert!(text.contains("2049") && text.contains("2048"), "{text}");
    }
}
