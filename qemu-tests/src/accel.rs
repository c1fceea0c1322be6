//! KVM or emulation. /dev/kvm may be there, and even open, on a machine where no guest runs
//! (nested virtualisation that is not passed on): only a Linux kernel that really started is
//! believed. The trial takes some seconds and its result is kept for this boot of the machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::emulator;

/// How guests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// In hardware.
    Kvm,
    /// Emulated: works everywhere, ten times slower.
    Tcg,
}

/// A kernel without any root file system ends with this line, and that it gets there is the proof.
const PROOF: &str = "Kernel panic - not syncing: VFS: Unable to mount root fs";
/// With KVM the proof takes about two seconds.
const TRIAL: Duration = Duration::from_secs(20);

impl Accel {
    /// The arguments of QEMU for it.
    #[must_use]
    pub const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            // rdrand: the kernel's random numbers are ready at once, as on real hardware. Without cmpxchg16b, which
            // leaves garbage in the flags under QEMU 7.2; an interrupt right after it is a double fault.
            Self::Tcg => &["-accel", "tcg", "-cpu", "qemu64,+rdrand,-cx16"],
        }
    }

    /// In words, for a person.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "emulation (TCG)",
        }
    }

    /// Finds out with the kernel that `kernel` returns (a Linux bzImage; asked for only if needed), or
    /// reads in the directory `cache` what was found out since this machine was started. Whatever
    /// fails: emulation.
    #[must_use]
    pub fn detect(kernel: impl FnOnce() -> Result<PathBuf>, cache: &Path) -> Self {
        // Without a device there is nothing to try, and nothing worth remembering.
        if File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_err()
        {
            return Self::Tcg;
        }
        let file = cache.join("accel");
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let known = fs::read_to_string(&file).unwrap_or_default();
        match known.strip_suffix(&boot) {
            Some("kvm ") => return Self::Kvm,
            Some("tcg ") => return Self::Tcg,
            _ => {}
        }
        let found = if kernel()
            .and_then(|kernel| runs_a_guest(&kernel, TRIAL))
            .unwrap_or(false)
        {
            Self::Kvm
        } else {
            Self::Tcg
        };
        let word = if found == Self::Kvm { "kvm" } else { "tcg" };
        // Not kept is only slower next time.
        let _ = fs::create_dir_all(cache).and_then(|()| fs::write(file, format!("{word} {boot}")));
        found
    }
}

/// Starts `kernel` under KVM without a root and sees whether it gets as far as to miss it.
fn runs_a_guest(kernel: &Path, limit: Duration) -> Result<bool> {
    let console = console_file()?;
    let mut child = emulator::command()
        .args(Accel::Kvm.arguments())
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-m",
            "256",
            "-no-reboot",
        ])
        .args(["-append", "console=ttyS0 panic=-1"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start qemu-system-x86_64")?;
    let until = Instant::now() + limit;
    while child.try_wait()?.is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = child.kill();
    child.wait()?;
    let text = fs::read(&console)?;
    let _ = fs::remove_file(&console);
    Ok(String::from_utf8_lossy(&text).contains(PROOF))
}

fn console_file() -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("backstay-kvm-trial-{}", std::process::id()));
    File::create(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}
