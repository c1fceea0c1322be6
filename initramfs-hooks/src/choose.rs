//! Which modules an initramfs holds: what may stand between a kernel and the disk with its root.
//!
//! The same list for every machine, so that a disk that moves to another machine still boots. Names that
//! a kernel does not have, or has built in, are simply not there.

use crate::depmod::Index;

/// Names of modules, by what they are for; what these need comes with them.
const WANTED: [(&str, &[&str]); 10] = [
    (
        "file systems",
        &[
            "btrfs",
            "ext4",
            "vfat",
            "nls_cp437",
            "nls_ascii",
            "nls_utf8",
            "nls_iso8859_1",
            // A default tarball on a disc.
            "isofs",
            "sr_mod",
        ],
    ),
    // btrfs asks for its checksums by name when it mounts; the plain implementations are enough.
    (
        "checksums",
        &[
            "crc32c",
            "crypto-crc32c",
            "xxhash64",
            "xxhash_generic",
            "sha256",
            "blake2b-256",
            "libcrc32c",
        ],
    ),
    (
        "virtual machines",
        &[
            "virtio_pci",
            "virtio_mmio",
            "virtio_blk",
            "virtio_scsi",
            "virtio_console",
            "hv_vmbus",
            "hv_storvsc",
            "pci_hyperv",
            "xen_blkfront",
            "xen_scsifront",
            "vmw_pvscsi",
            "mptspi",
            "mptsas",
            "vmd",
        ],
    ),
    // Where systemd notes that it hibernates.
    ("the firmware's variables", &["efivarfs"]),
    ("disks", &["sd_mod", "nvme", "loop"]),
    (
        "SATA and IDE",
        &[
            "ahci",
            "ahci_platform",
            "ata_piix",
            "ata_generic",
            "sata_nv",
            "sata_sil",
            "sata_via",
            "pata_acpi",
        ],
    ),
    (
        "RAID and SAS controllers",
        &[
            "megaraid_sas",
            "mpt3sas",
            "aacraid",
            "hpsa",
            "smartpqi",
            "isci",
        ],
    ),
    (
        "USB storage",
        &[
            "xhci_pci",
            "xhci_plat_hcd",
            "ehci_pci",
            "ohci_pci",
            "uhci_hcd",
            "usb_storage",
            "uas",
        ],
    ),
    (
        "cards",
        &[
            "mmc_block",
            "sdhci_pci",
            "sdhci_acpi",
            "rtsx_pci_sdmmc",
            "rtsx_usb_sdmmc",
        ],
    ),
    (
        "keyboards, for the menu",
        &[
            "usbhid",
            "hid_generic",
            "atkbd",
            "i8042",
            "hid_hyperv",
            "hyperv_keyboard",
        ],
    ),
];

/// The modules to put in, `extra` (modules or aliases) included, in the order of their names, with all
/// that they need.
pub fn choose(index: &Index, extra: &[String]) -> Vec<String> {
    let wanted = WANTED.iter().flat_map(|(_, names)| names.iter().copied());
    let mut order = index.load_order(wanted.chain(extra.iter().map(String::as_str)));
    order.sort();
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::depmod::{module_name, parse_alias, parse_dep, parse_softdep};

    #[test]
    fn what_btrfs_needs_comes_with_it_and_what_no_root_needs_stays_out() {
        let index = Index {
            modules: parse_dep(
                "k/btrfs.ko.xz: k/raid6_pq.ko.xz\nk/raid6_pq.ko.xz:\nk/crc32c_generic.ko.xz:\n\
                 k/e1000.ko.xz:\nk/virtio_blk.ko.xz:\nk/dm-mod.ko.xz:\n",
            ),
            aliases: parse_alias("alias crc32c crc32c_generic\n"),
            soft: parse_softdep("softdep btrfs pre: crc32c\n"),
            builtin: [module_name("k/virtio_pci.ko")].into(),
        };
        assert_eq!(
            choose(&index, &[]),
            ["btrfs", "crc32c_generic", "raid6_pq", "virtio_blk"]
        );
        assert!(choose(&index, &["dm-mod".into()]).contains(&"dm_mod".to_owned()));
    }
}
