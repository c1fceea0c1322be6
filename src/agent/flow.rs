//! One boot, in order; what the worker does.
//!
//! ```text
//! modules → the root's device → hibernation? → superblock → store → finish what is open → decide and act
//!         → mount root, config, data → does the kernel fit? → switch root | kexec | restart
//! ```
//! Whatever fails on the way to a change, the live system is started and the reason said. A power
//! cut anywhere leaves what the transaction's journal describes.

use super::act;
use super::asked::{self, Asked};
use super::block::Places;
use super::device::{self, Found};
use super::hibernation::{self, Initramfs, Met};
use super::kernel;
use super::menu::{self, Choice, Early};
use super::modules::Modules;
use super::pid1::{End, WorkerMode};
use super::session::Session;
use super::{boot_record, log as agent_log, mount, plain, superblock, watchdog};
use crate::policy::Wish;
use crate::say;
use crate::sys::probe::Content;
use kernel_cmdline::Boot;
use std::path::Path;

mod beside_image;
mod hand_over;
mod start;

use start::Start;

const NOT_STARTED: &str =
    "the system did not start; 'boot' tries it once more, then the machine restarts";
/// What a person is told while the system is on its way.
const KEY: &str = "m opens the menu until the system starts";

/// The worker: everything between PID 1's first line and the hand-over.
pub fn work(mode: WorkerMode) -> End {
    let line = std::fs::read("/proc/cmdline").unwrap_or_default();
    let asked = asked::read(&line);
    if asked.json {
        agent_log::speak_json();
    }
    if mode == WorkerMode::Plain {
        return after_a_dead_worker(&line);
    }
    if mode == WorkerMode::Full && asked.wish == Wish::Boot && asked.attempt.is_none() {
        say!("{KEY}");
    }
    let boot = Boot::read(&line);
    let mut modules = Modules::of_running_kernel();
    let host = mode == WorkerMode::Host;
    let mut found = match find(&boot, &mut modules, host) {
        Ok(found) => found,
        // The host waits for it, too, and says so.
        Err(error) if host => {
            log::info!("{error}");
            return End::GoOn;
        }
        Err(error) => {
            say!("{error}");
            return without_root(&line, error.to_string());
        }
    };
    if !is_btrfs(&found) {
        if asked.wish != Wish::Boot {
            say!("refused: the root is not on btrfs, which backstay needs; nothing is changed");
        }
        if host {
            return End::GoOn;
        }
        if mode == WorkerMode::Menu {
            say!("{NOT_STARTED}");
            let early = Early {
                starts_without: true,
                why: vec![NOT_STARTED.to_owned()],
                ..without_disk(&boot, &asked)
            };
            match menu::open(early, Some(menu::SECONDS), Choice::Boot).0 {
                Choice::Boot => {}
                Choice::Reboot => return End::Reboot,
                Choice::PowerOff => return End::PowerOff,
            }
        }
        return plain(&line);
    }
    let start = |found| Start {
        line: &line,
        boot: &boot,
        asked: &asked,
        found,
        host,
    };
    match hibernation::meet(&boot, runs(&line, host), &mut modules) {
        None => {}
        Some(Met::StartsUnchanged(_)) if host => return End::GoOn,
        Some(met) => return start(&found).start_beside(&met, mode),
    }
    let reason = watchdog::reset_reason();
    if let Some(reason) = reason {
        say!("{reason}");
    }
    boot_record::reset(reason);
    superblock::mend(&mut found);
    start(&found).with_store(mode)
}

/// Loads drivers, unless the host has done that, and waits for the root's device.
fn find(boot: &Boot<'_>, modules: &mut Modules, host: bool) -> Result<Found, plain::Error> {
    if let Err(error) = mount::api_for_worker() {
        say!("{error}");
    }
    match host {
        true => drop(modules.load("btrfs")),
        false => drop(modules.cold_plug(Path::new("/sys/bus"))),
    }
    let name = boot.root_device().ok_or(plain::Error::NoRoot)?;
    let limit = device::limit(boot);
    Ok(device::wait(name, limit, &Places::default(), modules)?)
}

fn runs(line: &[u8], host: bool) -> Initramfs {
    match host {
        true => Initramfs::Host,
        false if kernel::is_recovery(line) => Initramfs::Recovery,
        false => Initramfs::Own,
    }
}

fn is_btrfs(found: &Found) -> bool {
    let mut devices = found.devices.iter();
    devices.all(|device| matches!(device.content, Content::Btrfs(_)))
}

/// The first worker died, perhaps between two exchanges. A child of this one finishes what is open;
/// should it die of the same fault, the root is mounted all the same.
fn after_a_dead_worker(line: &[u8]) -> End {
    match super::worker::run(WorkerMode::Plain, |_| leaves_unsafe(line, false)) {
        Ok(false) => plain(line),
        Ok(true) => without_root(line, "the system must not be started as it is".to_owned()),
        Err(error) => {
            say!("{error}");
            plain(line)
        }
    }
}

/// Inside another initramfs: finishes or undoes what is open, and does nothing else. The worker before it died.
pub fn finish_alone() {
    let line = std::fs::read("/proc/cmdline").unwrap_or_default();
    leaves_unsafe(&line, true);
}

/// Finishes or undoes what is open, and does nothing else. True if what is live must not be started: a set of two
/// versions, or one that may be hibernated; said aloud. What cannot be read is left to the plain boot.
fn leaves_unsafe(line: &[u8], host: bool) -> bool {
    let boot = Boot::read(line);
    let mut modules = Modules::of_running_kernel();
    let Ok(found) = find(&boot, &mut modules, host) else {
        return false;
    };
    if !is_btrfs(&found) {
        return false;
    }
    match hibernation::meet(&boot, runs(line, host), &mut modules) {
        None => {}
        Some(Met::StartsUnchanged(_)) => return false,
        Some(Met::MayBeLive(_)) => return true,
    }
    let Ok(mut session) = Session::open(&found, &boot) else {
        return false;
    };
    if let Err(error) = act::finish_open(&mut session) {
        say!("an earlier change could not be finished: {error}");
    }
    let Ok(session) = session.settled() else {
        return false;
    };
    let mixed = mixed_aloud(&session);
    session.close();
    mixed
}

fn mixed_aloud(session: &Session) -> bool {
    let mixed = act::live_set_is_mixed(session);
    if mixed {
        say!("the change is half done: starting now would mix two versions");
        say!("'reboot' tries again to finish it; docs/recovery.md says what else helps");
    }
    mixed
}

/// Mounts what the command line names and goes on, without the store.
fn plain(line: &[u8]) -> End {
    match plain::boot(line) {
        Ok(end) => end,
        Err(error) => {
            say!("{error}");
            without_root(line, error.to_string())
        }
    }
}

/// The root's device never came, or must not be touched: somebody has to look. On trial the machine restarts where nobody
/// does: that start was counted, and the next one, or another system, may find it.
fn without_root(line: &[u8], why: String) -> End {
    let (boot, asked) = (Boot::read(line), asked::read(line));
    let early = Early {
        why: vec![why.clone()],
        disk: Some(why),
        ..without_disk(&boot, &asked)
    };
    let (seconds, silent) = match asked.attempt.is_some() {
        true => (Some(menu::SECONDS), Choice::Reboot),
        false => (None, Choice::Reboot),
    };
    match menu::open(early, seconds, silent).0 {
        // Trying again is a restart: devices and modules start from nothing.
        Choice::Boot | Choice::Reboot => End::Reboot,
        Choice::PowerOff => End::PowerOff,
    }
}

/// The menu where no disk can be looked at.
fn without_disk<'a>(boot: &'a Boot<'a>, asked: &'a Asked) -> Early<'a> {
    Early {
        found: None,
        boot,
        tarball: asked.tarball.as_deref(),
        session: None,
        image: None,
        starts_without: false,
        why: Vec::new(),
        disk: None,
        host: false,
        json: asked.json,
    }
}
