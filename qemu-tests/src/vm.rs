//! Starting QEMU: a small PC with SeaBIOS, one CPU, raw disks on virtio, a serial line on pipes,
//! no network, no display.
//!
//! A machine ends in one of three ways: the guest powers off, [`Vm::pull_plug`], or the value is
//! dropped. QEMU never outlives this process, not even one that was killed (`setpriv --pdeathsig`).

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tempfile::TempDir;

use crate::accel::Accel;
use crate::emulator;
use crate::grub_menu::GrubMenu;
use crate::guest::{Debian, Tiny, TinyPrompt};
use crate::qmp::{self, Qmp};
use crate::serial::{Echo, Line, Serial};
use crate::setup::{OVMF_CODE, OVMF_SECURE_CODE};
use crate::story::Story;

/// The first serial port, ttyS0.
const FIRST_PORT: u8 = 0;
/// The third one, ttyS2, of machines that start by UEFI: OVMF's own console is on the first two, and would take keys
/// away from GRUB.
pub const UEFI_PORT: u8 = 2;
/// Memory of a guest, in MiB: enough for Debian with systemd and for our initramfs.
const MEMORY_MIB: u32 = 768;

/// The socket of the second console.
const SECOND: &str = "second";
/// The socket at which QEMU takes orders.
const ORDERS: &str = "qmp";
/// QEMU carries an order out at once.
const ANSWERS: Duration = Duration::from_secs(60);

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
    fn arguments(&self, sockets: &Path) -> Vec<OsString> {
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

/// A machine that was started.
pub struct Vm {
    child: Child,
    serial: Serial,
    second: Option<Serial>,
    orders: Option<Qmp>,
    stderr: Option<std::thread::JoinHandle<String>>,
    /// Gone with the machine.
    _sockets: Option<TempDir>,
}

impl Vm {
    /// Starts it; `story` bounds every wait.
    ///
    /// # Errors
    /// When QEMU is not there (the text names the package) or does not start.
    pub fn start(config: VmConfig, story: &Story) -> Result<Self> {
        if let Some(directory) = config.transcript.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("create {}", directory.display()))?;
        }
        let has_sockets = config.second_console || config.takes_orders;
        let sockets = has_sockets.then(tempfile::tempdir).transpose();
        let sockets = sockets.context("make a directory for sockets")?;
        let socket = |name: &str| sockets.as_ref().map(|it| it.path().join(name));
        let mut command = emulator::command();
        command.args(config.arguments(sockets.as_ref().map_or(Path::new(""), TempDir::path)));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context(
            "start qemu-system-x86_64: install it with 'apt-get install qemu-system-x86'",
        )?;
        let (Some(keyboard), Some(output), Some(mut errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            bail!("qemu-system-x86_64 was started without its pipes");
        };
        let line = Line::listen(output, &config.transcript, config.echo)?;
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let serial = Serial::new(line, Box::new(keyboard), story.clone());
        let mut vm = Self {
            child,
            serial,
            second: None,
            orders: None,
            stderr: Some(stderr),
            _sockets: None,
        };
        if let Some(path) = socket(SECOND).filter(|_| config.second_console) {
            let stream = qmp::connect(&path)?;
            let transcript = config.transcript.with_extension("second.log");
            let heard = stream.try_clone().context("listen at the second console")?;
            let line = Line::listen(heard, &transcript, None)?;
            vm.second = Some(Serial::beside(line, Box::new(stream), story.clone()));
        }
        if let Some(path) = socket(ORDERS).filter(|_| config.takes_orders) {
            vm.orders = Some(Qmp::connect(&path, ANSWERS)?);
        }
        vm._sockets = sockets;
        Ok(vm)
    }

    /// Its serial line.
    pub const fn serial(&mut self) -> &mut Serial {
        &mut self.serial
    }

    /// Its second console.
    ///
    /// # Errors
    /// When it has none.
    pub fn second(&mut self) -> Result<&mut Serial> {
        let second = self.second.as_mut();
        second.context("the machine was started without a second console")
    }

    /// A break on the serial line, as somebody sends it who pulls the plug out of the port, or whose terminal has a key
    /// for it.
    ///
    /// # Errors
    /// When QEMU takes no orders, or not this one.
    pub fn send_break(&mut self) -> Result<()> {
        let orders = self.orders.as_mut();
        let orders = orders.context("the machine was started without orders for QEMU")?;
        orders.ask("chardev-send-break", json!({"id": "line"}))?;
        Ok(())
    }

    /// Takes a disk away, as a cable that is pulled: from now on it answers every request with an error.
    ///
    /// # Errors
    /// When QEMU takes no orders, or not this one.
    pub fn pull_disk(&mut self, index: usize) -> Result<()> {
        self.order(&format!("drive_del d{index}"))
    }

    /// Lets a disk do no more than so many operations a second from now on, so that something else can happen meanwhile.
    ///
    /// # Errors
    /// When QEMU takes no orders, or not this one.
    pub fn slow_disk(&mut self, index: usize, operations: u32) -> Result<()> {
        self.order(&format!(
            "block_set_io_throttle d{index} 0 0 0 {operations} 0 0"
        ))
    }

    fn order(&mut self, command: &str) -> Result<()> {
        let orders = self.orders.as_mut();
        let orders = orders.context("the machine was started without orders for QEMU")?;
        let said = orders.ask("human-monitor-command", json!({"command-line": command}))?;
        match said.as_str() {
            Some("") => Ok(()),
            _ => bail!("QEMU answers {command} with {said}"),
        }
    }

    /// Its GRUB, to be worked by the serial line.
    pub const fn grub(&mut self) -> GrubMenu<'_> {
        GrubMenu::new(&mut self.serial)
    }

    /// The tiny system, once it is up.
    ///
    /// # Errors
    /// When it does not say within the line's patience that it is up.
    pub fn tiny(&mut self) -> Result<Tiny<'_>> {
        Tiny::up(self)
    }

    /// The tiny system that is up already and shows, or is about to show, its prompt.
    pub const fn at_prompt(&mut self) -> TinyPrompt<'_> {
        TinyPrompt::new(self)
    }

    /// The Debian system, once it shows its login prompt.
    ///
    /// # Errors
    /// When the prompt does not come.
    pub fn debian(&mut self) -> Result<Debian<'_>> {
        Debian::up(self)
    }

    /// The Debian system that was hibernated at its root shell, once that goes on.
    pub fn resumed_debian(&mut self) -> Debian<'_> {
        Debian::resumed(self)
    }

    /// Whether QEMU still runs.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self
            .child
            .try_wait()
            .context("ask whether QEMU still runs")?
            .is_none())
    }

    /// Waits at most `patience` until the guest has powered itself off.
    ///
    /// # Errors
    /// When it did not, or QEMU failed.
    pub fn wait_off(&mut self, patience: Duration) -> Result<()> {
        let until = (Instant::now() + patience).min(self.serial.story().deadline());
        loop {
            if let Some(status) = self.child.try_wait().context("wait for QEMU")? {
                return self.ended(status);
            }
            if Instant::now() >= until {
                bail!(
                    "the guest did not power off within {} s",
                    patience.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ended(&mut self, status: ExitStatus) -> Result<()> {
        let said = self
            .stderr
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default();
        if !status.success() {
            bail!("QEMU ended with {status}: {}", said.trim());
        }
        Ok(())
    }

    /// Pulls the plug: the guest is gone at once. What it had written to its disk by then is on the
    /// disk, in order and whole, so this is *not* what a power cut can do to a disk; it is for
    /// stories in which a machine is simply switched off.
    ///
    /// # Errors
    /// When QEMU does not end.
    pub fn pull_plug(mut self) -> Result<()> {
        self.terminate()
    }

    /// SIGTERM: QEMU closes its images and leaves.
    fn terminate(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM)
            .context("kill(QEMU, TERM)")?;
        let until = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= until {
                self.child.kill()?;
                self.child.wait()?;
                bail!("QEMU did not leave when it was asked to; it was killed");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // Nobody is left to tell; the disk of a story that ended early is not looked at.
        let _ = self.terminate();
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
