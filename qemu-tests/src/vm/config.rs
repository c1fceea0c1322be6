//! What a machine is made of, and how QEMU is told.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{ORDERS, SECOND};
use crate::accel::Accel;
use crate::serial::Echo;
use crate::setup::{OVMF_CODE, OVMF_SECURE_CODE};

/// The first serial port, ttyS0.
const FIRST_PORT: u8 = 0;
/// The third one, ttyS2, of machines that start by UEFI: OVMF's own console is on the first two, and would take keys
/// away from GRUB.
pub const UEFI_PORT: u8 = 2;
/// Memory of a guest, in MiB: enough for Debian with systemd and for our initramfs.
const MEMORY_MIB: u32 = 768;

/// What the machine starts from.
#[derive(Debug, Clone)]
pub enum Start {
    /// The first disk's own boot loader, by the BIOS.
    Disk,
    /// This kernel, loaded by QEMU.
    Kernel {
        /// A Linux bzImage.
        kernel: PathBuf,
        /// Its initramfs.
        initrd: Option<PathBuf>,
        /// Its command line; should have `console=ttyS0`.
        cmdline: String,
    },
}

/// A raw disk image given to a machine as /dev/vda, /dev/vdb, … in order.
#[derive(Debug, Clone)]
pub struct Drive {
    /// The image file.
    pub path: PathBuf,
    /// The guest cannot write it.
    pub readonly: bool,
}

impl Drive {
    /// A writable disk.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            readonly: false,
        }
    }

    /// A disk that the guest can only read.
    #[must_use]
    pub fn readonly(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            readonly: true,
        }
    }
}

/// A machine to be started.
pub struct VmConfig {
    /// How it runs.
    pub accel: Accel,
    /// QEMU's name for its chipset, with options.
    pub machine: &'static str,
    /// Which of a PC's four serial ports it has, counted from 0.
    pub port: u8,
    /// What it starts from.
    pub start: Start,
    /// Its disks.
    pub drives: Vec<Drive>,
    /// Its memory in MiB.
    pub memory_mib: u32,
    /// Further arguments of QEMU.
    pub extra: Vec<OsString>,
    /// The file to which the guest's serial output is appended, raw.
    pub transcript: PathBuf,
    /// A second place for the same, live.
    pub echo: Option<Echo>,
    /// Whether a reset of the guest ends the machine instead of starting it again.
    pub no_reboot: bool,
    /// Whether it has a second console, hvc0: see [`Vm::second`].
    pub second_console: bool,
    /// Whether QEMU takes orders while it runs: see [`Vm::send_break`].
    pub takes_orders: bool,
}

impl VmConfig {
    /// A machine that starts from its first disk.
    pub fn disk(accel: Accel, disk: impl Into<PathBuf>, transcript: impl Into<PathBuf>) -> Self {
        Self {
            accel,
            machine: "pc",
            port: FIRST_PORT,
            start: Start::Disk,
            drives: vec![Drive::new(disk)],
            memory_mib: MEMORY_MIB,
            extra: Vec::new(),
            transcript: transcript.into(),
            echo: None,
            no_reboot: false,
            second_console: false,
            takes_orders: false,
        }
    }

    /// The same, started by UEFI; `variables` is the machine's own file of them.
    #[must_use]
    pub fn with_uefi(self, variables: &Path) -> Self {
        self.with_firmware(OVMF_CODE, variables)
    }

    /// The same by a firmware that starts what is signed alone, where the variables have keys. What the guest runs
    /// cannot write them: that needs the management mode of the processor, which this chipset has.
    #[must_use]
    pub fn with_secure_boot(mut self, variables: &Path) -> Self {
        self.machine = "q35,smm=on";
        let guarded = "driver=cfi.pflash01,property=secure,value=on";
        self.extra.extend(["-global".into(), guarded.into()]);
        self.with_firmware(OVMF_SECURE_CODE, variables)
    }

    fn with_firmware(mut self, code: &str, variables: &Path) -> Self {
        let flash = |file: &Path, options: &str| {
            let file = file.display().to_string().replace(',', ",,");
            OsString::from(format!("if=pflash,format=raw,file={file}{options}"))
        };
        self.port = UEFI_PORT;
        self.extra.extend([
            "-drive".into(),
            flash(Path::new(code), ",readonly=on"),
            "-drive".into(),
            flash(variables, ""),
        ]);
        self
    }

    /// A machine that starts this kernel, without a disk so far.
    pub fn kernel(
        accel: Accel,
        kernel: impl Into<PathBuf>,
        initrd: Option<PathBuf>,
        cmdline: impl Into<String>,
        transcript: impl Into<PathBuf>,
    ) -> Self {
        let start = Start::Kernel {
            kernel: kernel.into(),
            initrd,
            cmdline: cmdline.into(),
        };
        let drives = Vec::new();
        Self {
            start,
            drives,
            no_reboot: true,
            ..Self::disk(accel, "", transcript)
        }
    }

    /// One more disk.
    #[must_use]
    pub fn with_drive(mut self, drive: Drive) -> Self {
        self.drives.push(drive);
        self
    }

    /// A second console beside the serial line: virtio, hvc0 in Linux.
    #[must_use]
    pub fn with_second_console(mut self) -> Self {
        self.second_console = true;
        self
    }

    /// A machine whose QEMU takes orders.
    #[must_use]
    pub fn with_orders(mut self) -> Self {
        self.takes_orders = true;
        self
    }

    /// The arguments of QEMU, whose sockets are in `sockets`.
    pub(super) fn arguments(&self, sockets: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
        add(&[
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-machine",
            self.machine,
        ]);
        add(self.accel.arguments());
        add(&[
            "-smp",
            "1",
            "-m",
            &self.memory_mib.to_string(),
            "-chardev",
            "stdio,id=line",
            "-device",
            &format!("isa-serial,chardev=line,index={}", self.port),
        ]);
        if self.no_reboot {
            add(&["-no-reboot"]);
        }
        for (index, drive) in self.drives.iter().enumerate() {
            // A comma in a file name is doubled for QEMU's option parser.
            let file = drive.path.display().to_string().replace(',', ",,");
            let readonly = if drive.readonly { "on" } else { "off" };
            let options = "format=raw,if=none,discard=unmap,detect-zeroes=off";
            add(&[
                "-drive",
                &format!("id=d{index},file={file},{options},readonly={readonly}"),
            ]);
            let boot = if matches!(self.start, Start::Disk) && index == 0 {
                ",bootindex=1"
            } else {
                ""
            };
            add(&["-device", &format!("virtio-blk-pci,drive=d{index}{boot}")]);
        }
        let socket = |name: &str| sockets.join(name).display().to_string().replace(',', ",,");
        if self.second_console {
            let second = socket(SECOND);
            add(&[
                "-device",
                "virtio-serial-pci",
                "-chardev",
                &format!("socket,id=second,path={second},server=on,wait=off"),
                "-device",
                "virtconsole,chardev=second",
            ]);
        }
        if self.takes_orders {
            add(&[
                "-qmp",
                &format!("unix:{},server=on,wait=off", socket(ORDERS)),
            ]);
        }
        if let Start::Kernel {
            kernel,
            initrd,
            cmdline,
        } = &self.start
        {
            arguments.extend([
                "-kernel".into(),
                kernel.into(),
                "-append".into(),
                cmdline.into(),
            ]);
            if let Some(initrd) = initrd {
                arguments.extend(["-initrd".into(), initrd.into()]);
            }
        }
        arguments.extend(self.extra.iter().cloned());
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(config: &VmConfig) -> String {
        let words = config.arguments(Path::new("/s"));
        words
            .iter()
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_machine_has_no_network_and_starts_from_its_first_disk() {
        let config =
            VmConfig::disk(Accel::Tcg, "/d/a,b.raw", "/t").with_drive(Drive::readonly("/c"));
        let text = text(&config);
        assert!(text.contains("-nodefaults"), "{text}");
        assert!(!text.contains("net"), "{text}");
        assert!(text.contains("id=d0,file=/d/a,,b.raw,"), "{text}");
        assert!(
            text.contains("virtio-blk-pci,drive=d0,bootindex=1"),
            "{text}"
        );
        assert!(
            text.contains("id=d1,file=/c,") && text.contains("readonly=on"),
            "{text}"
        );
        assert!(!text.contains("-no-reboot"), "{text}");
        assert!(!text.contains("/s/"), "{text}");
    }

    #[test]
    fn a_second_console_and_orders_are_sockets_and_nobody_is_waited_for() {
        let config = VmConfig::disk(Accel::Tcg, "/d", "/t");
        let text = text(&config.with_second_console().with_orders());
        for part in [
            "socket,id=second,path=/s/second,server=on,wait=off",
            "virtconsole,chardev=second",
            "-qmp unix:/s/qmp,server=on,wait=off",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_kernel_is_started_without_a_disk_and_its_reboot_ends_it() {
        let config = VmConfig::kernel(Accel::Tcg, "/k", Some("/i".into()), "console=ttyS0", "/t");
        let text = text(&config);
        assert!(
            text.contains("-kernel /k -append console=ttyS0 -initrd /i"),
            "{text}"
        );
        assert!(
            text.contains("-no-reboot") && !text.contains("-drive"),
            "{text}"
        );
    }
}
