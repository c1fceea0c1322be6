//! The process in which a machine's code runs: a root directory of its own, with one disk.
//!
//! ```text
//! crash (records, checks)   --Order-->   helper: own mount namespace, own root, one thread
//!                           <--Answer--    fork: the agent's worker | the admin command | the builder
//! ```
//! The root directory is a small memory file system that holds what an initramfs has: `/dev` with the
//! disk, `null`, `urandom`, `console` and `kmsg` (files), `/proc` with another command line, and a `/sys` that shows
//! one block device. The helper cannot restart the machine or load a module or a kernel: it has given
//! those capabilities up.
//! How the worker wants to end is only reported. After each order everything is unmounted.

use std::fs::{self, File, OpenOptions};
use std::io::BufRead as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use backstay::agent::menu::OPENS;
use backstay::agent::pid1::{End, WorkerMode};
use backstay::agent::{asked, flow, log as agent_log, worker};
use backstay::say;
use backstay::sys::mount as sys_mount;
use backstay::sys::process::{Ended, fork, wait_for};
use clap::Parser as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, mknodat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal, setpgid};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use serde::{Deserialize, Serialize};

use super::act::{Act, Answer, Order};
use super::builder::{self, CONFIG};
use super::{control, converter, full};

/// Where the top level is mounted for the admin command and the builder.
pub const TOP: &str = "/top";
/// The directory on which the helper builds its root; nobody else sees what is mounted there.
const ROOT: &str = "/mnt";
const CONSOLE: &str = "/dev/console";
const CMDLINE: &str = "/cmdline";
/// What is wrong with a start that ended there.
pub const WAITS: &str = "the agent waits for a person";

/// The disk of the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Disk {
    /// Its name: `loop3`.
    pub name: String,
    /// Its number, as in `st_rdev`.
    pub number: u64,
    /// Its size in bytes.
    pub size: u64,
    /// The UUID of its file system, for `root=`.
    pub uuid: String,
}

impl Disk {
    /// Its node.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }
}

/// The helper's whole life: orders on standard input, a line each, answers on standard output.
///
/// # Errors
/// Where the root directory cannot be built.
pub fn main(disk: &str) -> Result<()> {
    die_with_parent()?;
    let disk: Disk = serde_json::from_str(disk)?;
    enter(&disk).context("build the root directory of the helper")?;
    give_up_power()?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let answer = carry_out(&disk, &order)?;
        println!("{}", serde_json::to_string(&answer)?);
    }
    Ok(())
}

/// Builds the root directory and goes into it; what the host has mounted is out of reach then.
fn enter(disk: &Disk) -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )?;
    let root = Path::new(ROOT);
    memory(root)?;
    for name in ["dev", "proc", "run", "sys", "top"] {
        fs::create_dir(root.join(name))?;
    }
    // What signatures do is not a matter of power cuts.
    fs::create_dir_all(root.join("etc/backstay"))?;
    let policy = "[tarball]\nunsigned = true\n";
    fs::write(root.join("etc/backstay/policy.toml"), policy)?;
    let program = converter::PROGRAM.trim_start_matches('/');
    fs::copy(converter::built(), root.join(program))?;
    mount_bind("/proc", root.join("proc"))?;
    for (name, text) in [("cmdline", "\n"), ("consoles", "")] {
        let own = root.join(name);
        fs::write(&own, text)?;
        mount_bind(&own, root.join("proc").join(name))?;
    }
    let dev = root.join("dev");
    for (name, kind, number) in [
        (disk.name.as_str(), FileType::BlockDevice, disk.number),
        ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        (
            "urandom",
            FileType::CharacterDevice,
            rustix::fs::makedev(1, 9),
        ),
    ] {
        let mode = Mode::from_raw_mode(0o600);
        mknodat(rustix::fs::CWD, dev.join(name), kind, mode, number)?;
    }
    for name in ["console", "kmsg"] {
        fs::write(dev.join(name), "")?;
    }
    // A mount of its own, so that the worker takes it for a mounted sysfs.
    memory(&root.join("sys"))?;
    let class = root.join("sys/class/block").join(&disk.name);
    fs::create_dir_all(&class)?;
    let (major, minor) = (
        rustix::fs::major(disk.number),
        rustix::fs::minor(disk.number),
    );
    fs::write(class.join("dev"), format!("{major}:{minor}\n"))?;
    fs::write(class.join("size"), format!("{}\n", disk.size / 512))?;
    std::env::set_current_dir(root)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(std::env::set_current_dir("/")?)
}

/// Whoever is left over would hold the disk, and with it a loop device.
fn die_with_parent() -> Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

fn memory(at: &Path) -> Result<()> {
    mount(
        "backstay-crash",
        at,
        "tmpfs",
        MountFlags::empty(),
        Some(c"size=64m"),
    )
    .with_context(|| format!("mount a tmpfs at {}", at.display()))
}

/// No restart, no kexec, no module, whatever the code under test does.
fn give_up_power() -> Result<()> {
    let lost = CapabilitySet::SYS_BOOT | CapabilitySet::SYS_MODULE;
    let mut sets = capabilities(None)?;
    sets.effective.remove(lost);
    sets.permitted.remove(lost);
    sets.inheritable.remove(lost);
    Ok(set_capabilities(None, sets)?)
}

fn carry_out(disk: &Disk, order: &Order) -> Result<Answer> {
    for path in [CONSOLE, "/dev/kmsg"] {
        File::create(path)?;
    }
    if let Act::Boot(asked) = &order.act {
        write_command_line(disk, asked)?;
    }
    let end = run(order.seconds, || act(disk, &order.act))?;
    let left = unmount_all();
    let (failure, started) = match end {
        Ok(started) => (None, started),
        Err(why) => (Some(why), None),
    };
    Ok(Answer {
        failure: failure.or(left),
        console: console(),
        started,
    })
}

fn write_command_line(disk: &Disk, asked: &str) -> Result<()> {
    let asked = match asked {
        "" => String::new(),
        asked => format!(" {asked} backstay.end"),
    };
    let line = format!(
        "root=UUID={} rootflags=subvol={} ro quiet{asked}\n",
        disk.uuid,
        builder::SYSTEM
    );
    // In place: the file is bound over /proc/cmdline.
    Ok(fs::write(CMDLINE, line)?)
}

/// The log and the lines for a person, which go to files of their own.
fn console() -> String {
    let mut text = fs::read(CONSOLE).unwrap_or_default();
    text.retain(|byte| *byte != b'\r');
    String::from_utf8_lossy(&text).into_owned()
}

/// What a start started, or why it went wrong.
type Ending = Result<Started, String>;
type Started = Option<[String; 3]>;

/// Runs `body` in a child with a time limit.
fn run(seconds: u64, body: impl FnOnce() -> Result<Started>) -> Result<Ending> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let child = fork(move || {
        let _ = setpgid(None, None);
        let ending: Ending = die_with_parent()
            .and_then(|()| own_stdio())
            .and_then(|()| body())
            .map_err(|error| format!("{error:#}"));
        i32::from(serde_json::to_writer(File::from(writer), &ending).is_err())
    })?;
    let late = late(&reader, seconds)?;
    if late.is_some()
        && let Some(group) = Pid::from_raw(child)
    {
        kill_process_group(group, Signal::KILL)?;
    }
    let ended_as = wait_for(child)?;
    if let Some(late) = late {
        return Ok(Err(late));
    }
    Ok(match ended_as {
        Ended::Exit(0) => serde_json::from_reader(File::from(reader))?,
        other => Err(format!("it died: {other}")),
    })
}

/// Waits until the child has said what it had to say. `Some`: it will not, and why.
fn late(reader: &impl AsFd, seconds: u64) -> Result<Option<String>> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let step = Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    while Instant::now() < until {
        if poll(&mut [PollFd::new(reader, PollFlags::IN)], Some(&step))? > 0 {
            return Ok(None);
        }
        if console().contains(OPENS) {
            return Ok(Some(WAITS.to_owned()));
        }
    }
    Ok(Some(format!("it did not end within {seconds} seconds")))
}

/// Nothing is typed, and what is printed goes to the console's file.
fn own_stdio() -> Result<()> {
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let console = OpenOptions::new().append(true).open(CONSOLE)?;
    rustix::stdio::dup2_stdout(&console)?;
    Ok(rustix::stdio::dup2_stderr(&console)?)
}

fn act(disk: &Disk, act: &Act) -> Result<Started> {
    if let Act::Boot(_) = act {
        return boot(disk).map(Some);
    }
    mount_top(disk)?;
    let top = Path::new(TOP);
    match act {
        Act::Boot(_) => Ok(()),
        Act::Admin(words) => admin(words),
        Act::Build(stage) => builder::build(top, *stage),
        Act::Fill => full::fill(top),
        Act::GiveBack(room) => full::give_back(top, *room),
        Act::GarbleState => builder::garble_state(top),
        Act::Tried(to) => builder::tried(top, *to),
        Act::TwoRenames(to) => control::two_renames(top, *to),
        Act::InPlace(to) => control::in_place(top, *to),
        Act::LabelledFirst(to) => control::labelled_first(top, *to),
    }
    .map(|()| None)
}

/// What PID 1 does until it performs the end. Returns which system, configuration and data it would start. Where kexec does not
/// work, a system on trial is started by GRUB: the machine restarts, once, and nothing is asked of it any more.
fn boot(disk: &Disk) -> Result<[String; 3]> {
    agent_log::init(log::LevelFilter::Debug);
    let mut end = start()?;
    if end == End::Reboot {
        if let Some(left) = unmount_all() {
            bail!(left);
        }
        write_command_line(disk, "")?;
        end = start()?;
    }
    let End::SwitchRoot { root, .. } = end else {
        bail!("the agent does not start the system: {end:?}");
    };
    let root = Path::new(&root);
    // PID 1 needs it to go on; a worker that forgot to mount something would not boot.
    ensure!(
        root.join("sbin/init").exists(),
        "the root that the agent mounted at {} has no init",
        root.display()
    );
    let config = builder::version_of(&root.join(CONFIG));
    let data = builder::data_of(&root.join(builder::DATA_SEEN));
    Ok([builder::version_of_mounted(root), config, data])
}

fn start() -> Result<End> {
    let line = fs::read("/proc/cmdline").unwrap_or_default();
    say!("{}", asked::first_line(&line));
    let work = |mode| {
        let _ = die_with_parent();
        flow::work(mode)
    };
    worker::run(WorkerMode::Full, work).map_err(|why| anyhow!(why))
}

fn mount_top(disk: &Disk) -> Result<()> {
    let node = disk.node();
    sys_mount::mount(
        &node.to_string_lossy(),
        Path::new(TOP),
        "btrfs",
        MountFlags::empty(),
        "subvolid=5",
    )?;
    Ok(())
}

/// The admin command, as an image builder or a rescue system calls it.
///
/// # Errors
/// Its own.
pub fn admin(words: &str) -> Result<()> {
    let words = ["backstay", "--root", TOP]
        .into_iter()
        .chain(words.split_whitespace());
    let cli = backstay::admin::cli::Cli::try_parse_from(words)?;
    match backstay::admin::run::run(&cli) {
        Ok(_) => Ok(()),
        Err(error) => bail!("backstay: {error}"),
    }
}

/// Unmounts what an order left, deepest first, so that the disk is at rest. Says what was busy.
fn unmount_all() -> Option<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = ["/store", "/store-writable", "/sysroot", "/run", TOP];
    let mut busy = None;
    for at in text.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
        if places.iter().any(|place| Path::new(at).starts_with(place))
            && let Err(error) = unmount(at, UnmountFlags::empty())
        {
            busy = Some(format!("{at} could not be unmounted: {error}"));
            let _ = unmount(at, UnmountFlags::DETACH);
        }
    }
    busy
}

/// How long an order may take: more than the ten seconds after which the agent says what it waits for.
#[must_use]
pub fn limit(act: &Act) -> Duration {
    Duration::from_secs(match act {
        Act::Fill => 120,
        _ => 20,
    })
}
