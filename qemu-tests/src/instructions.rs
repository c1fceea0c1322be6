//! How many instructions a machine executes from the reset vector until GRUB has started a kernel.
//!
//! QEMU counts them where it records an execution (`-icount …,rr=record`). A breakpoint at the kernel's entry stops
//! the machine, by gdb's remote protocol; the count is asked for by QMP. A count does not depend on how
//! fast or how busy this machine is.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::accel::Accel;
use crate::qmp::{self, Qmp};
use crate::story::Story;
use crate::toolbox;
use crate::vm::{Vm, VmConfig};

/// A start of the machine may take so long, emulated and counted.
const PATIENCE: Duration = Duration::from_secs(300);

/// Starts the machine of this disk, and counts until its kernel is entered. The disk is not written.
///
/// # Errors
/// When QEMU cannot count, or no kernel is entered.
pub fn until_kernel(disk: &Path, transcript: &Path, story: &Story) -> Result<u64> {
    let directory = tempfile::tempdir().context("make a directory for sockets")?;
    let socket = |name: &str| directory.path().join(name);
    let listens = |name: &str| format!("unix:{},server=on,wait=off", socket(name).display());
    let mut config = VmConfig::disk(Accel::Tcg, disk, transcript);
    let record = socket("record");
    config.extra = [
        "-icount",
        &format!("shift=0,sleep=off,rr=record,rrfile={}", record.display()),
        "-S",
        "-gdb",
        &listens("gdb"),
        "-qmp",
        &listens("qmp"),
    ]
    .map(Into::into)
    .to_vec();
    let _vm = Vm::start(config, story)?;
    let mut qmp = Qmp::connect(&socket("qmp"), PATIENCE)?;
    let mut gdb = Gdb::connect(&socket("gdb"))?;
    let entry = entry()?;
    let set = gdb.ask(&format!("Z1,{entry:x},1"))?;
    ensure!(set == "OK", "QEMU sets no breakpoint: {set}");
    let stopped = gdb.ask("c")?;
    ensure!(
        stopped.starts_with("T05"),
        "the machine stopped otherwise: {stopped}"
    );
    qmp.ask("query-replay", json!({}))?["icount"]
        .as_u64()
        .context("read the count")
}

/// Where GRUB puts the kernel of all test machines, and enters it: `pref_address`
/// (Documentation/arch/x86/boot.rst).
fn entry() -> Result<u64> {
    let path = toolbox::ensure_initramfs()?.kernel;
    let image = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let bytes = image
        .get(0x258..0x260)
        .context("read the kernel's header")?;
    Ok(u64::from_le_bytes(bytes.try_into()?))
}

/// gdb's remote protocol: `$TEXT#SUM`, each acknowledged by a plus.
struct Gdb(UnixStream);

impl Gdb {
    fn connect(path: &Path) -> Result<Self> {
        let stream = qmp::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    fn ask(&mut self, what: &str) -> Result<String> {
        let sum = what.bytes().fold(0_u8, u8::wrapping_add);
        write!(self.0, "${what}#{sum:02x}").context("ask QEMU's stub for gdb")?;
        let mut answer = String::new();
        loop {
            let mut byte = [0];
            self.0
                .read_exact(&mut byte)
                .context("hear QEMU's stub for gdb")?;
            match byte[0] {
                b'#' => break,
                b'+' | b'$' => {}
                other => answer.push(char::from(other)),
            }
        }
        self.0.read_exact(&mut [0; 2])?;
        self.0.write_all(b"+")?;
        Ok(answer)
    }
}
