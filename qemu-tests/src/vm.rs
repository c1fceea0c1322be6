//! Starting QEMU: a small PC with SeaBIOS, one CPU, raw disks on virtio, a serial line on pipes,
//! no network, no display.
//!
//! A machine ends in one of three ways: the guest powers off, [`Vm::pull_plug`], or the value is
//! dropped. QEMU never outlives this process, not even one that was killed (`setpriv --pdeathsig`).

mod config;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tempfile::TempDir;

use crate::emulator;
use crate::grub_menu::GrubMenu;
use crate::guest::{Debian, Tiny, TinyPrompt};
use crate::qmp::{self, Qmp};
use crate::serial::{Line, Serial};
use crate::story::Story;

pub use config::{Drive, Start, UEFI_PORT, VmConfig};

/// The socket of the second console.
const SECOND: &str = "second";
/// The socket at which QEMU takes orders.
const ORDERS: &str = "qmp";
/// QEMU carries an order out at once.
const ANSWERS: Duration = Duration::from_secs(60);

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
