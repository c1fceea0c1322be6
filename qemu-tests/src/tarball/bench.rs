//! How long it takes from an archive to a root that is on disk: ours beside the programs that others use.
//!
//! Each run begins with an empty page cache and ends when syncfs(2) has returned, in a fresh subvolume
//! of the same btrfs. The tools take turns, so that what else the machine does meets all of them.
//! Memory is the largest resident set of each process that was started, summed over a pipeline.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};

use super::measured::{Measured, Packing, Setup, write_report};
use super::scratch::Scratch;
use super::tools::Key;
use crate::cache::{target_dir, workspace};
use crate::crash::host;
use crate::image::packages::{self, Tarball};
use crate::image::programs::{self, TARGET};
use crate::setup;

/// The first argument of the process between us and one that is measured.
pub const MEASURE: &str = "--measure";

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Runs of each tool.
    pub runs: usize,
    /// The level of zstd that the archive is packed with.
    pub level: u8,
    /// Evict the archive alone: somebody else's work would be slowed down otherwise.
    pub shared: bool,
    /// Measure packing, too.
    pub packing: bool,
}

/// One way to extract: steps one after the other, each a pipeline of commands.
struct Way {
    name: &'static str,
    steps: Vec<Vec<Vec<OsString>>>,
}

/// Measures, and writes `docs/image-performance.md`.
///
/// # Errors
/// Where the host lacks something or a program fails.
pub fn run(options: Options) -> Result<()> {
    host::prepare_for("cargo bench-image")?;
    setup::ensure_archives()?;
    let program = extractor()?;
    let admin = programs::ensure()?.admin;
    let tarball = packages::large()?;
    let scratch = Scratch::new(24 << 30)?;
    let key = Key::make(scratch.outside())?;
    let root = scratch.debian("source", &tarball)?;
    let archive = scratch.outside().join("root.tar.zst");
    setup::say(&format!("packing it with zstd -{}…", options.level));
    let made = pack(&admin, &root, &archive, &key, Some(options.level))?;
    ensure!(
        made.bytes > 300 << 20,
        "the root is only {} bytes: too small",
        made.bytes
    );
    let ways = ways(&program, &archive, &key, &scratch.top().join("extracted"));
    let mut measured: Vec<Measured> = ways.iter().map(|way| Measured::new(way.name)).collect();
    for run in 0..options.runs {
        for (way, measured) in ways.iter().zip(&mut measured) {
            scratch.subvolume("extracted")?;
            scratch.sync()?;
            evict(&archive, options.shared)?;
            let (time, memory) = once(way, &scratch)?;
            println!(
                "{} {}: {:.2} s, {} KiB",
                run + 1,
                way.name,
                time.as_secs_f64(),
                memory
            );
            measured.runs.push((time, memory));
            scratch.delete("extracted")?;
        }
    }
    let packing = match options.packing {
        true => packing(&scratch, &admin, &packages::debian()?, &key)?,
        false => Vec::new(),
    };
    let setup = Setup {
        bytes: made.bytes,
        compressed: made.size,
        entries: made.entries,
        runs: options.runs,
        level: options.level,
        shared: options.shared,
    };
    write_report(&setup, &measured, &packing)
}

/// The release build of our extractor for the agent's target, as a program of its own.
fn extractor() -> Result<PathBuf> {
    setup::say("building our extractor…");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).args([
        "build",
        "--release",
        "--package",
        "backstay",
        "--example",
        "extract-image",
        "--target",
        TARGET,
    ]);
    let log = target_dir().join("build-for-bench.log");
    setup::run_long("building our extractor", &mut cargo, &log)?;
    Ok(target_dir()
        .join(TARGET)
        .join("release/examples/extract-image"))
}

fn ways(program: &Path, archive: &Path, key: &Key, to: &Path) -> Vec<Way> {
    let words = |words: &[&dyn AsRef<std::ffi::OsStr>]| -> Vec<OsString> {
        words.iter().map(|word| word.as_ref().to_owned()).collect()
    };
    let unpack = || words(&[&"zstd", &"-q", &"-d", &"-c", &archive]);
    let tar = words(&[
        &"tar",
        &"-x",
        &"-p",
        &"--numeric-owner",
        &"--xattrs",
        &"--xattrs-include=*",
        &"--acls",
        &"-f",
        &"-",
        &"-C",
        &to,
    ]);
    let bsdtar = words(&[
        &"bsdtar",
        &"-x",
        &"-p",
        &"--numeric-owner",
        &"--xattrs",
        &"--acls",
        &"-f",
        &archive,
        &"-C",
        &to,
    ]);
    let minisign = words(&[
        &"minisign",
        &"-V",
        &"-q",
        &"-p",
        &key.public,
        &"-m",
        &archive,
    ]);
    vec![
        Way {
            name: "backstay, signature verified",
            steps: vec![vec![words(&[&program, &archive, &key.public, &to])]],
        },
        Way {
            name: "minisign -V, then zstd -dc and GNU tar -x",
            steps: vec![vec![minisign], vec![unpack(), tar.clone()]],
        },
        Way {
            name: "zstd -dc and GNU tar -x, unverified",
            steps: vec![vec![unpack(), tar]],
        },
        Way {
            name: "bsdtar -x, unverified",
            steps: vec![vec![bsdtar]],
        },
    ]
}

/// Nothing of the archive or of the file system is in memory afterwards.
fn evict(archive: &Path, shared: bool) -> Result<()> {
    let file = File::open(archive)?;
    file.sync_all()?;
    if shared {
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        return Ok(());
    }
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("drop_caches")
}

/// One run: time until it is on disk, and KiB of memory.
fn once(way: &Way, scratch: &Scratch) -> Result<(Duration, u64)> {
    let begun = Instant::now();
    let mut memory = 0;
    for step in &way.steps {
        let before = memory;
        memory = before.max(pipeline(step, scratch.outside())?);
    }
    scratch.sync()?;
    Ok((begun.elapsed(), memory))
}

/// Runs commands with pipes between them; the sum of their memory in KiB.
fn pipeline(commands: &[Vec<OsString>], place: &Path) -> Result<u64> {
    let ourselves = std::env::current_exe()?;
    let mut children: Vec<(Child, PathBuf)> = Vec::new();
    for (number, words) in commands.iter().enumerate() {
        let result = place.join(format!("memory-{number}"));
        let input = match children.last_mut() {
            Some((child, _)) => child.stdout.take().map_or_else(Stdio::null, Stdio::from),
            None => Stdio::null(),
        };
        let last = number + 1 == commands.len();
        let output = if last { Stdio::null() } else { Stdio::piped() };
        let mut command = Command::new(&ourselves);
        command.arg(MEASURE).arg(&result).args(words);
        children.push((command.stdin(input).stdout(output).spawn()?, result));
    }
    let mut sum = 0;
    for (mut child, result) in children {
        let status = child.wait()?;
        ensure!(status.success(), "{commands:?} ended with {status}");
        sum += fs::read_to_string(&result)?.trim().parse::<u64>()?;
    }
    Ok(sum)
}

/// The process between: runs a program and writes down its largest resident set, in KiB. It is small
/// itself, as the kernel counts what a process was before it became another program.
///
/// # Errors
/// Where the program cannot be run, or fails.
pub fn measure(result: &Path, words: &[OsString]) -> Result<()> {
    let [program, arguments @ ..] = words else {
        bail!("nothing to measure");
    };
    let status = Command::new(program).args(arguments).status()?;
    let memory = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    fs::write(result, memory.to_string())?;
    ensure!(status.success(), "{program:?} ended with {status}");
    Ok(())
}

/// What `backstay factory pack --json` says.
#[derive(serde::Deserialize)]
struct Made {
    bytes: u64,
    size: u64,
    entries: u64,
}

fn pack(admin: &Path, root: &Path, output: &Path, key: &Key, level: Option<u8>) -> Result<Made> {
    let mut command = Command::new(admin);
    command.args(["--json", "factory", "pack"]).arg(root);
    command
        .arg("--output")
        .arg(output)
        .arg("--key")
        .arg(&key.secret);
    if let Some(level) = level {
        command.arg(format!("--zstd-level={level}"));
    }
    let output = command
        .output()
        .with_context(|| format!("run {}", admin.display()))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A smaller root, packed once in each way.
fn packing(scratch: &Scratch, admin: &Path, tarball: &Tarball, key: &Key) -> Result<Vec<Packing>> {
    let root = scratch.debian("small", tarball)?;
    let mut all = Vec::new();
    for (what, name, level) in [
        ("not compressed (.tar)", "a.tar", None),
        ("zstd (.tar.zst)", "a.tar.zst", None),
        ("zstd, --zstd-level 3", "a.tar.zst", Some(3)),
        ("zstd, --zstd-level 19", "a.tar.zst", Some(19)),
        ("gzip (.tar.gz)", "a.tar.gz", None),
        ("xz (.tar.xz)", "a.tar.xz", None),
    ] {
        let output = scratch.outside().join(name);
        let begun = Instant::now();
        let made = pack(admin, &root, &output, key, level)?;
        let time = begun.elapsed();
        println!("{what}: {} bytes in {:.1} s", made.size, time.as_secs_f64());
        all.push(Packing {
            what,
            time,
            bytes: made.bytes,
            size: made.size,
        });
        fs::remove_file(&output)?;
    }
    Ok(all)
}
