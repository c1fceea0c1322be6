//! The toolbox guest: Debian 13's own tools on disks of ours, without being root on the host.
//!
//! Partition tables, btrfs and GRUB are made and looked at by a small guest that is given the disks as
//! virtio drives. Its root is an initramfs made of unpacked Debian packages ([`initramfs`]); it boots
//! Debian's cloud kernel directly, runs one shell script and powers off. It talks by two virtio
//! serial ports that end in files on the host: what the script prints, and its exit status.
//!
//! What a script finds:
//! * `/dev/disk0`, `/dev/disk1`, …: the disks in the order given; `/dev/disk0p1`, …: their partitions;
//! * `/in/NAME`: the files handed in;
//! * `/out`: what is left here is handed back ([`Job::collect`]);
//! * the shell options `-eu`; standard output and error are the output; GNU tools, btrfs-progs, sgdisk,
//!   GRUB 2.12's programs and i386-pc modules, attr, tar, zstd.
//!
//! A disk is whole when the run returned without error: everything is unmounted before the end, and the
//! status is sent after that.

mod initramfs;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::emulator;

pub(crate) use initramfs::Cpio;
pub use initramfs::{build as build_initramfs, ensure as ensure_initramfs};

/// What can go wrong with a run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file on the host cannot be read or written.
    #[error("{call} {path}: {source}")]
    Io {
        /// The operation that failed.
        call: &'static str,
        /// The file it was tried on.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The script ended with an error.
    #[error("toolbox script '{what}' failed with status {status}; its output:\n{output}")]
    Script {
        /// What the script was to do.
        what: String,
        /// Its exit status.
        status: i32,
        /// All that it printed.
        output: String,
    },
    /// The guest ended, or had to be ended, without a status.
    #[error(
        "toolbox guest for '{what}' {how}; script output:\n{output}\nend of its console:\n{console}"
    )]
    Guest {
        /// What the script was to do.
        what: String,
        /// How it ended.
        how: String,
        /// What the script had printed.
        output: String,
        /// The end of the kernel's console.
        console: String,
    },
    /// The script printed something else than its reader expects.
    #[error("{what}: {reason}")]
    Output {
        /// What the script was to do.
        what: String,
        /// What is wrong with its output.
        reason: String,
    },
    /// The unpacked packages lack something that the guest needs.
    #[error("the toolbox packages hold no {0}: Debian may have moved it")]
    Missing(&'static str),
    /// The cache could not be used.
    #[error(transparent)]
    Cache(#[from] crate::cache::Error),
    /// A program on the host is missing, or mmdebstrap failed.
    #[error(transparent)]
    Setup(#[from] crate::setup::Error),
}

pub(crate) fn io_error(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { call, path, source }
}

/// A raw disk image (its size a multiple of 512 bytes) that a run is given.
#[derive(Debug, Clone)]
pub struct Disk {
    path: PathBuf,
    access: Access,
}

/// What the guest's writes do to the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// They are refused.
    ReadOnly,
    /// They are kept.
    ReadWrite,
    /// They go to a temporary file and vanish with the guest.
    Scratch,
}

impl Disk {
    /// A disk that the guest can only read.
    pub fn read_only(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            access: Access::ReadOnly,
        }
    }

    /// A disk that the guest can write, but what it writes vanishes with it.
    pub fn scratch(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            access: Access::Scratch,
        }
    }

    /// A disk that the guest can write.
    pub fn read_write(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            access: Access::ReadWrite,
        }
    }
}

/// One run: disks, files and a script.
#[derive(Debug, Clone)]
pub struct Job {
    what: String,
    disks: Vec<Disk>,
    files: Vec<(String, PathBuf)>,
    texts: Vec<(String, String)>,
    script: String,
    timeout: Duration,
    collect: Option<PathBuf>,
}

impl Job {
    /// A run of `script`. `what` says in a few words what it is for, in errors.
    pub fn new(what: impl Into<String>, script: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            disks: Vec::new(),
            files: Vec::new(),
            texts: Vec::new(),
            script: script.into(),
            timeout: Duration::from_secs(300),
            collect: None,
        }
    }

    /// Adds a disk; the first is `/dev/disk0`.
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// Hands in a file as `/in/NAME`. They are copied into the guest's memory (1 GiB): give anything big as a disk.
    pub fn file(mut self, name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.files.push((name.into(), path.into()));
        self
    }

    /// Hands in a text as `/in/NAME`.
    pub fn text(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.texts.push((name.into(), text.into()));
        self
    }

    /// How long the guest may take until it is ended; 300 s if not said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Unpacks what the script left in `/out` (at most 900 MB) into this directory of the host.
    pub fn collect(mut self, dir: impl Into<PathBuf>) -> Self {
        self.collect = Some(dir.into());
        self
    }

    /// Boots the guest and waits for its end. Returns what the script printed.
    pub fn run(&self) -> Result<String, Error> {
        crate::setup::ensure()?;
        let image = initramfs::ensure()?;
        let dir = tempfile::Builder::new()
            .prefix("backstay-toolbox-")
            .tempdir()
            .map_err(io_error("mkdir", &std::env::temp_dir()))?;
        let run = Run {
            job: self,
            dir: dir.path(),
        };
        let mut guest = run.start(&image)?;
        let end = wait(&mut guest, self.timeout).map_err(io_error("wait for", &image.kernel))?;
        run.result(end)
    }
}

/// Runs `script` on `disks`; see [`Job`] for files and for what a script finds.
pub fn run(disks: &[Disk], script: &str, timeout: Duration) -> Result<String, Error> {
    let what = script
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("an empty script");
    let mut job = Job::new(what.trim(), script).timeout(timeout);
    job.disks = disks.to_vec();
    job.run()
}

/// The size of the disk that `/out` comes back on, in bytes; sparse.
const COLLECT_SIZE: u64 = 1 << 30;

/// The emulated machine. Without cmpxchg16b: see [`crate::accel`]. One processor without AVX boots faster than two with it: bringing up the
/// second, and measuring the wider instructions for RAID, take longer than they save.
const MACHINE: &str = "-nodefaults -no-user-config -display none -no-reboot -machine q35 -accel tcg \
    -cpu Nehalem,-cx16 -smp 1 -m 1024";

/// Without self-tests, security modules and clock calibration: they cost an emulated kernel two seconds
/// of seven.
const KERNEL_PARAMETERS: &str = "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check lsm= \
    cryptomgr.notests random.trust_cpu=on";

/// The files of one run, in a directory that goes away with it.
struct Run<'a> {
    job: &'a Job,
    dir: &'a Path,
}

impl Run<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn start(&self, image: &initramfs::Image) -> Result<Child, Error> {
        let input = self.path("in.tar");
        self.pack(&input)?;
        let mut qemu = emulator::command();
        qemu.args(MACHINE.split_whitespace())
            .arg("-kernel")
            .arg(&image.kernel)
            .arg("-initrd")
            .arg(&image.initramfs)
            .args(["-append", KERNEL_PARAMETERS])
            .arg("-serial")
            .arg(option("file:", &self.path("console")))
            .args(["-device", "virtio-serial-pci"]);
        for port in ["output", "status"] {
            qemu.arg("-chardev")
                .arg(option(&format!("file,id={port},path="), &self.path(port)))
                .arg("-device")
                .arg(format!("virtserialport,chardev={port},name={port}"));
        }
        drive(&mut qemu, "in", &input, Access::ReadOnly);
        for (at, disk) in self.job.disks.iter().enumerate() {
            drive(&mut qemu, &format!("disk{at}"), &disk.path, disk.access);
        }
        if self.job.collect.is_some() {
            let out = self.path("out.tar");
            File::create(&out)
                .and_then(|file| file.set_len(COLLECT_SIZE))
                .map_err(io_error("create", &out))?;
            drive(&mut qemu, "out", &out, Access::ReadWrite);
        }
        let errors = self.path("qemu");
        let errors = File::create(&errors).map_err(io_error("create", &errors))?;
        qemu.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .map_err(io_error("run", Path::new("qemu-system-x86_64")))
    }

    /// The script and the files as a tar archive, which is a multiple of 512 bytes as a disk must be.
    fn pack(&self, path: &Path) -> Result<(), Error> {
        let file = File::create(path).map_err(io_error("create", path))?;
        let mut archive = tar::Builder::new(io::BufWriter::new(file));
        let mut add = |name: &Path, text: &str| {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o755);
            archive
                .append_data(&mut header, name, text.as_bytes())
                .map_err(io_error("write", path))
        };
        add(Path::new("script"), &self.job.script)?;
        for (name, text) in &self.job.texts {
            add(&Path::new("in").join(name), text)?;
        }
        for (name, source) in &self.job.files {
            archive
                .append_path_with_name(source, Path::new("in").join(name))
                .map_err(io_error("hand in", source))?;
        }
        archive
            .into_inner()
            .map_err(io_error("write", path))
            .map(drop)
    }

    fn result(&self, end: Option<ExitStatus>) -> Result<String, Error> {
        let output = lossy(&self.path("output"));
        let status = lossy(&self.path("status"));
        let what = self.job.what.clone();
        match (status.trim().parse::<i32>(), end) {
            (Ok(0), Some(_)) => {
                if let Some(dir) = &self.job.collect {
                    self.unpack(dir)?;
                }
                Ok(output)
            }
            (Ok(status), Some(_)) => Err(Error::Script {
                what,
                status,
                output,
            }),
            (_, end) => {
                let how = match end {
                    None => format!("was ended after {} s", self.job.timeout.as_secs()),
                    Some(end) => format!("stopped early ({end})"),
                };
                let console = format!(
                    "{}{}",
                    lossy(&self.path("qemu")),
                    lossy(&self.path("console"))
                );
                let lines: Vec<&str> = console.lines().collect();
                let tail = lines
                    .get(lines.len().saturating_sub(30)..)
                    .unwrap_or_default();
                Err(Error::Guest {
                    what,
                    how,
                    output,
                    console: tail.join("\n"),
                })
            }
        }
    }

    fn unpack(&self, dir: &Path) -> Result<(), Error> {
        let path = self.path("out.tar");
        let file = File::open(&path).map_err(io_error("open", &path))?;
        let mut archive = tar::Archive::new(io::BufReader::new(file));
        archive.set_preserve_permissions(true);
        archive.unpack(dir).map_err(io_error("unpack into", dir))
    }
}

/// A virtio drive that the guest knows by `serial`. Holes stay holes, freed blocks become holes.
fn drive(qemu: &mut Command, serial: &str, path: &Path, access: Access) {
    let mut value = option("file=", path);
    value.push(format!(
        ",if=none,id={serial},format=raw,discard=unmap,detect-zeroes=unmap,"
    ));
    // The host's page cache keeps the writes if only QEMU ends; a run that a crash cuts short is not used.
    value.push(match access {
        Access::ReadOnly => "readonly=on",
        Access::ReadWrite => "cache=unsafe",
        Access::Scratch => "snapshot=on",
    });
    qemu.arg("-drive").arg(value);
    qemu.arg("-device")
        .arg(format!("virtio-blk-pci,drive={serial},serial={serial}"));
}

/// A path in a QEMU option, where a comma is written twice.
fn option(prefix: &str, path: &Path) -> std::ffi::OsString {
    let mut value = std::ffi::OsString::from(prefix);
    value.push(path.to_string_lossy().replace(',', ",,"));
    value
}

/// Waits until the guest ends; ends it itself when the time is over (None).
fn wait(guest: &mut Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = guest.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > timeout {
            guest.kill()?;
            guest.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_is_doubled_for_qemu() {
        assert_eq!(option("file=", Path::new("/a,b")), "file=/a,,b");
    }
}
