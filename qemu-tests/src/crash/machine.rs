//! One machine under test: its disk, and the helper in which its code runs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use backstay::sys::probe::btrfs::{OFFSET as SUPERBLOCK, SIZE as SUPERBLOCK_SIZE, parse};

use super::act::{Act, Answer, Order};
use super::device::{Device, said};
use super::disk::Disk;
use super::helper;

/// The hidden argument that makes this program a helper.
pub const HELPER: &str = "--helper";
/// Bytes on the disk: a mirror of the superblock lies at 64 MiB, and 64 MiB of metadata, which is there twice,
/// can be given back on a full one.
pub const SIZE: u64 = 512 << 20;
/// How often it is tried to unmount what is busy.
const BUSY_TRIES: u32 = 400;
/// How long the kernel usually takes to delete a dataset of ours, and how often it is looked.
const CLEANING: Duration = Duration::from_millis(20);
const CLEANING_TRIES: u32 = 1000;

/// A machine; device and helper go away with it.
#[derive(Debug)]
pub struct Machine {
    // Before the device: it holds it open.
    helper: Helper,
    /// Its disk's device.
    pub device: Device,
}

#[derive(Debug)]
struct Helper {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Machine {
    /// Makes a machine with an empty btrfs of a UUID of its own: the kernel would take two disks with one
    /// UUID for one.
    ///
    /// # Errors
    /// Where the device cannot be made; mkfs's.
    pub fn new() -> Result<Self> {
        let device = Device::new(Disk::empty(SIZE))?;
        // Metadata twice, data once: what mkfs takes for one disk, and an appliance's image has.
        said(
            Command::new("mkfs.btrfs")
                .args([
                    "--quiet",
                    "--force",
                    "--nodiscard",
                    "--metadata",
                    "dup",
                    "--data",
                    "single",
                ])
                .arg(&device.node),
        )?;
        Self::over(device)
    }

    /// Makes a machine of a disk that holds a btrfs.
    ///
    /// # Errors
    /// Where the device cannot be made.
    pub fn with(disk: Disk) -> Result<Self> {
        Self::over(Device::new(disk)?)
    }

    fn over(device: Device) -> Result<Self> {
        let mut block = vec![0; SUPERBLOCK_SIZE];
        device.medium.disk().read(SUPERBLOCK, &mut block);
        let uuid = parse(&block)
            .context("there is no btrfs on the disk")?
            .fsid
            .to_string();
        Ok(Self {
            helper: Helper::start(&device, &uuid)?,
            device,
        })
    }

    /// Does something to the disk; everything is unmounted afterwards.
    ///
    /// # Errors
    /// Where the helper is gone; what the act itself ran into is in the answer.
    pub fn act(&mut self, act: &Act) -> Result<Answer> {
        self.helper.ask(&Order {
            act: act.clone(),
            seconds: helper::limit(act).as_secs(),
        })
    }

    /// The same where nothing may go wrong.
    ///
    /// # Errors
    /// Also what the act ran into, with its console.
    pub fn must(&mut self, act: &Act) -> Result<String> {
        let answer = self.act(act)?;
        match answer.failure {
            None => Ok(answer.console),
            Some(failure) => bail!("{act:?}: {failure}\n{}", answer.console),
        }
    }

    /// Forgets what the kernel holds of the disk, as a restart does: after a failed write of a superblock it would
    /// go on reading what never came to the disk.
    ///
    /// # Errors
    /// Where blockdev(8) is missing.
    pub fn forget_cached(&self) -> Result<()> {
        said(
            Command::new("blockdev")
                .arg("--flushbufs")
                .arg(&self.device.node),
        )
        .map(drop)
    }

    /// Lets the kernel end in the background what it does there: subvolumes that were destroyed.
    ///
    /// # Errors
    /// Where it cannot be mounted.
    pub fn settle(&self) -> Result<()> {
        let at = Mounted::at(&self.device.node, true, "subvolid=5")?;
        // 'btrfs subvolume sync' would do, but sleeps a second where it finds something left.
        for _ in 0..CLEANING_TRIES {
            let btrfs = |words: &[&str]| said(Command::new("btrfs").args(words).arg(at.path()));
            // This wakes the kernel's cleaner; syncfs(2) does not.
            btrfs(&["filesystem", "sync"])?;
            if btrfs(&["subvolume", "list", "-d"])?.is_empty() {
                return Ok(());
            }
            std::thread::sleep(CLEANING);
        }
        bail!("the kernel does not end its deletions")
    }
}

impl Helper {
    fn start(device: &Device, uuid: &str) -> Result<Self> {
        let disk = helper::Disk {
            name: device.name(),
            number: device.number,
            size: device.size,
            uuid: uuid.to_owned(),
        };
        let mut child = Command::new("/proc/self/exe")
            .arg(HELPER)
            .arg(serde_json::to_string(&disk)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // An interrupt from the terminal is this process's: the state is played to its end.
            .process_group(0)
            .spawn()
            .context("start the helper")?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the helper has no pipes");
        };
        let mut helper = Self {
            child,
            orders: Some(orders),
            answers: BufReader::new(answers),
        };
        helper.line().context("the helper did not start")?;
        Ok(helper)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("the helper ended: {}", self.child.wait()?);
        }
        Ok(line)
    }

    fn ask(&mut self, order: &Order) -> Result<Answer> {
        let text = serde_json::to_string(order)?;
        let orders = self.orders.as_mut().context("the helper is gone")?;
        writeln!(orders, "{text}")?;
        Ok(serde_json::from_str(&self.line()?)?)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // No more orders: it ends.
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

/// A mount in a directory of its own, until it is dropped.
#[derive(Debug)]
pub struct Mounted {
    directory: tempfile::TempDir,
}

impl Mounted {
    /// Mounts the btrfs on `node` with these options.
    ///
    /// # Errors
    /// The kernel's.
    pub fn at(node: &Path, writable: bool, options: &str) -> Result<Self> {
        use rustix::mount::{MountFlags, mount};
        let directory = tempfile::tempdir()?;
        let access = if writable {
            MountFlags::empty()
        } else {
            MountFlags::RDONLY
        };
        let options_c = std::ffi::CString::new(options)?;
        mount(
            node,
            directory.path(),
            "btrfs",
            access | MountFlags::NOATIME,
            Some(options_c.as_c_str()),
        )
        .with_context(|| {
            let how = if writable { "rw" } else { "ro" };
            format!("mount -o {how},{options}")
        })?;
        Ok(Self { directory })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        use rustix::mount::{UnmountFlags, unmount};
        let at = self.directory.path();
        for _ in 0..BUSY_TRIES {
            match unmount(at, UnmountFlags::empty()) {
                // A process that another thread just started holds our descriptors until its exec.
                Err(rustix::io::Errno::BUSY) => std::thread::sleep(Duration::from_millis(5)),
                Ok(()) => return,
                Err(error) => return eprintln!("crash: unmount {}: {error}", at.display()),
            }
        }
        eprintln!(
            "crash: {} stays busy: what is said about this state may be wrong",
            at.display()
        );
        let _ = unmount(at, UnmountFlags::DETACH);
    }
}
