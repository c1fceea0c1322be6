//! The header of a swap area, and whether a hibernation image lies in it.
//!
//! The signature is the last 10 bytes of the first page: `SWAPSPACE2` for swap (mm/swapfile.c),
//! `S1SUSPEND` once the kernel has written an image (kernel/power/swap.c), others by older or other
//! implementations. UUID and label are `sws_uuid` and `sws_volume` of `union swap_header`
//! (`<linux/swap.h>`), after 1024 bytes for boot blocks and three 32-bit numbers.

use std::io::{Read, Seek, SeekFrom, Write};

use super::{Fields, Uuid, read_at};

/// Page sizes that a kernel may have been built with, in bytes.
const PAGE_SIZES: [usize; 4] = [4096, 8192, 16384, 65536];
const SIGNATURE_SIZE: usize = 10;
const SWAP: &[u8] = b"SWAPSPACE2";
/// Signatures of an image that something would resume: the kernel's, uswsusp's, the in-kernel
/// predecessors', TuxOnIce's.
const HIBERNATED: [&[u8]; 5] = [
    b"S1SUSPEND",
    b"S2SUSPEND",
    b"ULSUSPEND",
    b"LINHIB0001",
    b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c",
];
const AT_UUID: usize = 1024 + 12;
const AT_LABEL: usize = AT_UUID + 16;

/// What the header of a swap area says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// A hibernation image lies in it: nothing that was mounted then may be touched.
    pub hibernated: bool,
    /// The area's UUID; `None` where it is all zero. A hibernated area keeps it.
    pub uuid: Option<Uuid>,
    /// The area's label.
    pub label: String,
}

/// Parses the first bytes of a swap area, which may be of any page size. `None`: no swap.
pub fn parse(start: &[u8]) -> Option<Header> {
    let hibernated = PAGE_SIZES.iter().find_map(|page| {
        let signature = start.get(page - SIGNATURE_SIZE..*page)?;
        let image = HIBERNATED.iter().any(|known| signature.starts_with(known));
        (image || signature == SWAP).then_some(image)
    })?;
    let uuid = Uuid(start.array(AT_UUID)?);
    Some(Header {
        hibernated,
        uuid: (uuid.0 != [0; 16]).then_some(uuid),
        label: start.text(AT_LABEL, 16)?,
    })
}

/// Reads the swap header at `offset` bytes (0 for a partition; `resume_offset` pages for a swap file).
/// `None`: there is none.
///
/// # Errors
/// An I/O error of the device.
pub fn read(device: &mut (impl Read + Seek), offset: u64) -> std::io::Result<Option<Header>> {
    let mut found = None;
    // The largest page first would miss a small area: each size is tried alone.
    for page in PAGE_SIZES {
        if let Some(start) = read_at(device, offset, page)? {
            found = parse(&start);
        }
        if found.is_some() {
            break;
        }
    }
    Ok(found)
}

/// Makes a hibernated area swap again, as swapon(8) does; any other is left as it is. Not on disk on return.
///
/// # Errors
/// An I/O error of the device.
pub fn forget(device: &mut (impl Read + Write + Seek), offset: u64) -> std::io::Result<()> {
    for page in PAGE_SIZES {
        let start = read_at(device, offset, page)?;
        let signature = start
            .as_deref()
            .and_then(|it| it.get(page - SIGNATURE_SIZE..));
        let is_image = |signature: &[u8]| HIBERNATED.iter().any(|it| signature.starts_with(it));
        if signature.is_some_and(is_image) {
            device.seek(SeekFrom::Start(offset + (page - SIGNATURE_SIZE) as u64))?;
            return device.write_all(SWAP);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(page: usize, signature: &[u8]) -> Vec<u8> {
        let mut start = vec![0_u8; page];
        start[page - 10..page - 10 + signature.len()].copy_from_slice(signature);
        start[AT_UUID..AT_UUID + 16].fill(7);
        start
    }

    #[test]
    fn swap_and_hibernated_swap_are_told_apart_at_each_page_size() {
        for page in PAGE_SIZES {
            for (signature, hibernated) in [
                (SWAP, false),
                (b"S1SUSPEND\0", true),
                (b"S2SUSPEND", true),
                (b"LINHIB0001", true),
            ] {
                let mut device = std::io::Cursor::new(area(page, signature));
                let header = read(&mut device, 0).unwrap().unwrap();
                assert_eq!(header.hibernated, hibernated, "{page} {signature:?}");
                assert_eq!(header.uuid, Some(Uuid([7; 16])));
            }
        }
    }

    #[test]
    fn a_hibernated_area_that_is_given_up_is_swap_and_nothing_else_changes() {
        for page in PAGE_SIZES {
            let mut device = std::io::Cursor::new(area(page, b"S1SUSPEND"));
            forget(&mut device, 0).unwrap();
            assert_eq!(device.get_ref(), &area(page, SWAP));
            let other = area(page, b"nothing");
            let mut device = std::io::Cursor::new(other.clone());
            forget(&mut device, 0).unwrap();
            assert_eq!(device.get_ref(), &other);
        }
    }

    #[test]
    fn what_is_no_swap_is_not_taken_for_it() {
        assert_eq!(parse(&area(4096, b"SWAPSPACE1")), None);
        assert_eq!(parse(&[]), None);
    }
}
