//! The primary volume descriptor of ISO 9660: only its label.
//!
//! Source: ECMA-119, 8.4: in sector 16 of 2048 bytes, type 1, `CD001` at 1, the volume identifier of 32
//! bytes at 40.

use std::io::{Read, Seek};

use super::{Fields, read_at};

const OFFSET: u64 = 16 * 2048;
const SIZE: usize = 2048;

/// Reads the label of `device`. `None`: it holds no ISO 9660.
///
/// # Errors
/// An I/O error of the device.
pub fn read(device: &mut (impl Read + Seek)) -> std::io::Result<Option<String>> {
    Ok(read_at(device, OFFSET, SIZE)?.and_then(|block| parse(&block)))
}

fn parse(block: &[u8]) -> Option<String> {
    if block.get(..6)? != b"\x01CD001" {
        return None;
    }
    Some(block.text(40, 32)?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_is_read_without_its_padding() {
        let mut block = vec![b' '; SIZE];
        assert_eq!(parse(&block), None);
        block[..6].copy_from_slice(b"\x01CD001");
        block[40..48].copy_from_slice(b"RECOVERY");
        assert_eq!(parse(&block).unwrap(), "RECOVERY");
    }
}
