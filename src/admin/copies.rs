//! Two disks that carry the same file system: a copied disk that is still there.
//!
//! Which of the two the next boot finds is chance, and a request, a snapshot or a mark would be on one
//! of them only. So every verb that changes something is refused, as the agent refuses.

use super::error::{Error, Result};
use crate::agent::block::Places;
use crate::agent::device;
use crate::policy::refusal::Refusal;
use crate::record::Uuid;
use kernel_cmdline::Device;

/// Whether a second disk carries this file system. Reads the superblocks of all disks, writes nothing.
///
/// Not seen: a disk that cannot be opened here, and a copy that is mounted under a UUID of its own
/// (`temp_fsid`, Linux 6.7), when it is that copy which is looked at.
pub fn copied(uuid: Uuid, places: &Places) -> bool {
    let name = uuid.to_string();
    matches!(device::find(Device::Uuid(&name), places), Ok(Some(found)) if found.is_copied())
}

/// Refuses where one does.
pub fn refuse(uuid: Uuid, places: &Places) -> Result<()> {
    match copied(uuid, places) {
        true => Err(Error::Refused(Refusal::CopiedDisk)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::probe::btrfs::tests::sample;
    use std::fs::{create_dir_all, write};

    /// A machine with these devices: number of the file system, of the member, of the device.
    fn machine(devices: &[(u8, u64, u8)]) -> (tempfile::TempDir, Places) {
        let directory = tempfile::tempdir().unwrap();
        let places = Places {
            class: directory.path().join("class"),
            dev: directory.path().join("dev"),
            drives: false,
        };
        create_dir_all(&places.dev).unwrap();
        for (i, (fs, member, device)) in devices.iter().enumerate() {
            let sys = places.class.join(format!("vd{i}"));
            create_dir_all(&sys).unwrap();
            write(sys.join("dev"), format!("254:{i}\n")).unwrap();
            write(sys.join("size"), "2048\n").unwrap();
            let mut bytes = vec![0; 64 * 1024];
            bytes.extend(sample(*fs, *member, *device, 2));
            write(places.dev.join(format!("vd{i}")), bytes).unwrap();
        }
        (directory, places)
    }

    #[test]
    fn a_copied_disk_is_refused_and_a_second_member_or_another_disk_is_not() {
        let ours = Uuid([0xaa; 16]);
        for (devices, copied) in [
            (&[(0xaa, 1, 1)][..], false),
            (&[(0xaa, 1, 1), (0xaa, 2, 2)], false),
            (&[(0xaa, 1, 1), (0xbb, 1, 1), (0xbb, 1, 1)], false),
            (&[(0xaa, 1, 1), (0xaa, 1, 1)], true),
            (
                &[(0xaa, 1, 1), (0xbb, 1, 1), (0xaa, 2, 2), (0xaa, 2, 2)],
                true,
            ),
            (&[], false),
        ] {
            let (_directory, places) = machine(devices);
            let refused = refuse(ours, &places);
            assert_eq!(refused.is_err(), copied, "{devices:?}");
            if let Err(error) = refused {
                assert!(error.to_string().contains("btrfstune -u"), "{error}");
            }
        }
    }
}
