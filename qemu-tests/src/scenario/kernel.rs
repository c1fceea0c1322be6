//! What the design takes for granted about the kernel, asked of Debian 13's.
//!
//! The guests have no disk: an initramfs with one static program as /init.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::BufWriter;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kernel_cmdline::premise::{AWKWARD_LINES, Handed, handed_to_init};

use super::{Context, Scenario};
use crate::toolbox::{self, Cpio};
use crate::vm::VmConfig;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario::plain(
    "kernel-reads-the-line-as-we-do",
    "awkward command lines: init gets from the kernel what our tokens say",
    reads_the_line_as_we_do,
)
.usually(100)
.within(Duration::from_secs(900))];

/// What each line begins with; the kernel keeps these to itself.
const CONSOLE: &[u8] = b"console=ttyS0 quiet panic=-1 ";

const TARGET: &str = "x86_64-unknown-linux-musl";

fn reads_the_line_as_we_do(ctx: &mut Context) -> Result<()> {
    let kernel = toolbox::ensure_initramfs()?.kernel;
    ctx.step("build the /init that prints what it gets");
    let initrd = ctx.directory().join("handed.cpio");
    pack(&build_init()?, &initrd).with_context(|| format!("write {}", initrd.display()))?;
    for (index, line) in AWKWARD_LINES.iter().enumerate() {
        let line = [CONSOLE, line].concat();
        ctx.step(format!("line {index}: {}", line.escape_ascii()));
        let kernels = kernel_hands(ctx, &kernel, &initrd, &line)?;
        let ours = we_say(&line);
        same("argv", &ours.arguments, &kernels.arguments)?;
        same("the environment", &ours.variables, &kernels.variables)?;
    }
    Ok(())
}

/// What an init finds when it starts.
struct Found {
    /// Its arguments after the first.
    arguments: Vec<Vec<u8>>,
    /// Its environment, `k=v` each, in order.
    variables: Vec<Vec<u8>>,
}

/// Boots with `line` and returns what init found.
fn kernel_hands(ctx: &Context, kernel: &Path, initrd: &Path, line: &[u8]) -> Result<Found> {
    let mut config = VmConfig::kernel(
        ctx.accel(),
        kernel,
        Some(initrd.to_owned()),
        "",
        ctx.transcript(),
    );
    // The last one counts, and this one need not be UTF-8.
    config.extra = vec!["-append".into(), OsString::from_vec(line.to_vec())];
    config.memory_mib = 256;
    let mut vm = ctx.start(config)?;
    vm.serial().expect_line("handed: that is all")?;
    let handed = |vm: &mut crate::vm::Vm, what: &str| -> Result<Vec<Vec<u8>>> {
        let lines = vm.serial().lines_with(what);
        lines
            .iter()
            .map(|line| unhex(line.strip_prefix(what).unwrap_or(line)))
            .collect()
    };
    let arguments = handed(&mut vm, "handed: argument=")?;
    let variables = handed(&mut vm, "handed: variable=")?;
    vm.pull_plug()?;
    Ok(Found {
        arguments,
        variables,
    })
}

/// What init is to find by our tokens.
fn we_say(line: &[u8]) -> Found {
    let mut arguments = Vec::new();
    // The two that the kernel starts with (`envp_init` in init/main.c).
    let mut variables: Vec<(&[u8], &[u8])> = vec![(b"HOME", b"/"), (b"TERM", b"linux")];
    let known = handed_to_init(CONSOLE).count();
    for handed in handed_to_init(line).skip(known) {
        match handed {
            Handed::Argument(word, None) => arguments.push(word.to_vec()),
            Handed::Argument(key, Some(value)) => arguments.push([key, value].join(&b'=')),
            Handed::Variable(key, value) => {
                match variables.iter_mut().find(|(name, _)| *name == key) {
                    Some(variable) => variable.1 = value,
                    None => variables.push((key, value)),
                }
            }
        }
    }
    let joined = |(key, value): &(&[u8], &[u8])| [*key, *value].join(&b'=');
    Found {
        arguments,
        variables: variables.iter().map(joined).collect(),
    }
}

fn same(what: &str, ours: &[Vec<u8>], kernels: &[Vec<u8>]) -> Result<()> {
    let shown = |list: &[Vec<u8>]| -> Vec<String> {
        list.iter()
            .map(|text| text.escape_ascii().to_string())
            .collect()
    };
    if ours != kernels {
        bail!(
            "the kernel handed {what} {:?}, our tokens say {:?}",
            shown(kernels),
            shown(ours)
        );
    }
    Ok(())
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| -> Result<u8> {
        let pair = std::str::from_utf8(pair)?;
        u8::from_str_radix(pair, 16).with_context(|| format!("{text:?} is not hexadecimal"))
    };
    digits.map(byte).collect()
}

/// Builds the example `handed` of kernel-cmdline, as the agent is built: static, for musl.
fn build_init() -> Result<PathBuf> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--target", TARGET])
        .args(["--package", "kernel-cmdline", "--example", "handed"])
        .current_dir(root)
        .output()
        .context("run cargo")?;
    if !output.status.success() {
        bail!(
            "cargo did not build the example: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(target.join(TARGET).join("debug/examples/handed"))
}

/// Writes an initramfs with `init` alone.
fn pack(init: &Path, archive: &Path) -> std::io::Result<()> {
    let mut cpio = Cpio::new(BufWriter::new(File::create(archive)?));
    cpio.directory("dev")?;
    // Without it, the kernel closes descriptors 0 to 2 of PID 1.
    cpio.device("dev/console", 0o600, 5, 1)?;
    cpio.file("init", 0o755, &fs::read(init)?)?;
    cpio.end()
}
