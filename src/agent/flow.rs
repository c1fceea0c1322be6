//! One boot, in order; what the worker does.
//!
//! ```text
//! modules → the root's device → hibernation? → superblock → store → finish what is open → decide and act
//!         → mount root, config, data → does the kernel fit? → switch root | kexec | restart
//! ```
//! Whatever fails on the way to a change, the live system is started and the reason said. A power
//! cut anywhere leaves what the transaction's journal describes.

use super::act::{self, Next};
use super::asked::{self, Asked};
use super::block::Places;
use super::device::{self, Found};
use super::hibernation::{self, Initramfs, Met};
use super::kernel::{self, Kernel};
use super::modules::Modules;
use super::pid1::{End, WorkerMode};
use super::prompt::{self, Choice};
use super::session::{self, Session};
use super::{boot_record, mount, plain, root, superblock, watchdog};
use crate::policy::Wish;
use crate::record::layout::Layout;
use crate::record::slots::Slots;
use crate::say;
use crate::store::Store;
use crate::sys::probe::Content;
use crate::transaction::records::read_state;
use kernel_cmdline::Boot;
use std::path::Path;

mod beside_image;

const NOT_STARTED: &str =
    "the system did not start; 'boot' tries it once more, then the machine restarts";

/// The worker: everything between PID 1's first line and the hand-over.
pub fn work(mode: WorkerMode) -> End {
    let line = std::fs::read("/proc/cmdline").unwrap_or_default();
    let asked = asked::read(&line);
    if mode == WorkerMode::Plain {
        return after_a_dead_worker(&line);
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
            return without_root(&line);
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
            match prompt::open(None, Some(prompt::SECONDS)) {
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
        Ok(true) => without_root(line),
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
            without_root(line)
        }
    }
}

/// The root's device never came, or does not mount: somebody has to look. On trial the machine restarts where nobody
/// does: that start was counted, and the next one, or another system, may find it.
fn without_root(line: &[u8]) -> End {
    let on_trial = asked::read(line).attempt.is_some();
    let choice = match on_trial {
        true => prompt::open_or_restart(),
        false => prompt::open(None, None),
    };
    match choice {
        // Trying again is a restart: devices and modules start from nothing.
        Choice::Boot | Choice::Reboot => End::Reboot,
        Choice::PowerOff => End::PowerOff,
    }
}

/// One start, from the root's device on.
#[derive(Clone, Copy)]
struct Start<'a> {
    line: &'a [u8],
    boot: &'a Boot<'a>,
    asked: &'a Asked,
    found: &'a Found,
    /// Another initramfs mounts the root.
    host: bool,
}

impl Start<'_> {
    fn with_store(&self, mode: WorkerMode) -> End {
        let mut session = match Session::open(self.found, self.boot) {
            Ok(session) => session,
            Err(session::Error::NotMounted(error)) => {
                say!("{error}");
                return self.without_root();
            }
            Err(error) => {
                if self.asked.wish != Wish::Boot {
                    say!("refused: {error}");
                } else if matches!(error, session::Error::NoStore) {
                    log::info!("{error}");
                } else {
                    say!("{error}");
                }
                return self.go(None);
            }
        };
        if !session.rung.is_writable() && session.rung != mount::Rung::ReadOnly {
            say!(
                "the file system is damaged: it mounts only {}",
                session.rung
            );
        }
        let next = match mode {
            WorkerMode::Menu => {
                say!("{NOT_STARTED}");
                Next::Prompt(Some(prompt::SECONDS))
            }
            // The agent that handed over has done everything.
            _ if self.is_handed_over(Some(&session)) => Next::Boot,
            _ => act_aloud(&mut session, self.asked),
        };
        match self.ready(session, next) {
            Ok(session) => self.go(Some(session)),
            Err(end) => end,
        }
    }

    /// Turns to what is on the disk, and opens the prompt where that is wanted or must be. `Ok`: what is live
    /// may be started.
    fn ready(&self, mut session: Session, mut next: Next) -> Result<Session, End> {
        loop {
            session = match session.settled() {
                Ok(session) => session,
                // What nobody can look at is not started by itself.
                Err(error) => {
                    say!("{error}");
                    return Err(self.without_root());
                }
            };
            let mixed = mixed_aloud(&session);
            if mixed {
                next = Next::Prompt(None);
            }
            let Next::Prompt(seconds) = next else {
                return Ok(session);
            };
            let seconds = seconds.unwrap_or(prompt::SECONDS);
            // A host's boot goes on, whatever comes of it.
            let silence = (self.host || can_boot(&session)).then_some(seconds);
            match prompt::open(Some(&mut session), silence) {
                // It must not wait for ever, even if what it starts is half of one version.
                Choice::Boot if mixed && self.host => return Err(end(session, End::GoOn)),
                Choice::Boot => next = Next::Boot,
                Choice::Reboot => return Err(end(session, End::Reboot)),
                Choice::PowerOff => return Err(end(session, End::PowerOff)),
            }
        }
    }

    fn without_root(&self) -> End {
        match self.host {
            true => End::GoOn,
            false => without_root(self.line),
        }
    }

    fn is_handed_over(&self, session: Option<&Session>) -> bool {
        handed_over(self.asked, session)
    }

    /// Mounts the system and hands over.
    fn go(&self, session: Option<Session>) -> End {
        let layout = session.as_ref().map(layout_of);
        self.go_on(session, layout)
    }

    fn go_on(&self, mut session: Option<Session>, layout: Option<Layout>) -> End {
        let mut failed = false;
        loop {
            match root::mount_btrfs(self.found, self.boot, layout.as_ref()) {
                Ok(root) => match self.hand_over(&root, session) {
                    Ok(end) => return end,
                    // What is live now is another system, or the same one, not on trial any more.
                    Err(again) => {
                        session = match self.ready(again.0, again.1) {
                            Ok(session) => Some(session),
                            Err(end) => return end,
                        };
                        continue;
                    }
                },
                Err(error) => say!("{error}"),
            }
            if !failed && session.as_ref().is_some_and(is_on_trial) {
                failed = true;
                if let Some(mut left) = session.take() {
                    if self.is_handed_over(Some(&left)) {
                        left.close();
                        return self.without_root();
                    }
                    let next = act::failed_at_once(&mut left);
                    session = match self.ready(left, next) {
                        Ok(session) => Some(session),
                        Err(end) => return end,
                    };
                }
                continue;
            }
            if self.host {
                return End::GoOn;
            }
            match prompt::open(session.as_mut(), None) {
                Choice::Boot => {}
                Choice::Reboot => return End::Reboot,
                Choice::PowerOff => return End::PowerOff,
            }
            // What was done there may have gone wrong.
            session = match session
                .map(|session| self.ready(session, Next::Boot))
                .transpose()
            {
                Ok(session) => session,
                Err(end) => return end,
            };
        }
    }

    fn hand_over(
        &self,
        root: &root::Mounted,
        mut session: Option<Session>,
    ) -> Result<End, Box<(Session, Next)>> {
        let Start {
            line, boot, asked, ..
        } = *self;
        let at = &root.at;
        if let Some(session) = session.as_mut().filter(|_| asked.attempt.is_none()) {
            kernel::note_recovery(session, line);
        }
        let handed_over = self.is_handed_over(session.as_ref());
        if let Some(mut probing) =
            session.take_if(|session| !handed_over && starts_itself(session, line, asked))
        {
            let seq = kernel::sequence(&probing);
            boot_record::carry(&mut probing.store, seq);
            probing.close();
            watchdog::arm(true);
            mount::clear(at);
            return Ok(End::Kexec);
        }
        let flags = root::flags_naming(boot, root.subvolume.as_deref());
        // Counted where the decision to start it falls, and not again in the kernel that is started.
        let counted = match session.as_mut().filter(|_| !handed_over) {
            Some(session) => act::count_start(session).unwrap_or_else(|error| {
                say!("this start is not counted: {error}");
                None
            }),
            None => None,
        };
        let kernel = kernel::settle(
            at,
            line,
            flags.as_deref(),
            handed_over,
            counted,
            session.as_mut(),
        );
        if kernel == Kernel::Failed
            && let Some(mut session) = session.take()
        {
            mount::clear(at);
            let next = act::failed_at_once(&mut session);
            return Err(Box::new((session, next)));
        }
        let own = handed_over || !(kernel::is_recovery(line) || boot_record::has_changed());
        let on_trial =
            session.is_some_and(|session| leave_record(session, handed_over, own, kernel));
        // Also in the kernel that was handed over to: its driver may have stopped it.
        let starts_it = counted.is_some() || (on_trial && handed_over);
        if starts_it && kernel != Kernel::Restart {
            watchdog::arm(kernel == Kernel::Loaded);
        }
        if (counted.is_some() || on_trial) && kernel == Kernel::Stays {
            super::setup::end_what_dies();
        }
        Ok(match kernel {
            // Without the store nothing is on trial.
            Kernel::Stays | Kernel::Failed if self.host => {
                mount::clear(at);
                End::GoOn
            }
            Kernel::Stays | Kernel::Failed => End::SwitchRoot {
                root: at.display().to_string(),
                init: boot.init.map(str::to_owned),
                args: plain::init_args(),
            },
            Kernel::Loaded | Kernel::Restart => {
                mount::clear(at);
                if kernel == Kernel::Loaded {
                    End::Kexec
                } else {
                    End::Reboot
                }
            }
        })
    }
}

fn layout_of(session: &Session) -> Layout {
    session.store.layout().clone()
}

fn act_aloud(session: &mut Session, asked: &Asked) -> Next {
    if let Wish::Change { verb, .. } = asked.wish {
        boot_record::requested(&verb.to_string());
    }
    if let Some(refused) = &asked.refused {
        boot_record::refused(&refused.to_string());
        // Its reason was the first line; say what follows from it.
        say!("nothing was changed; starting the system");
    }
    if let Err(error) = act::finish_open(session) {
        say!("an earlier change could not be finished: {error}");
    }
    if let Err(error) = act::use_up_next_entry(session) {
        log::warn!("grub-reboot's choice stays, and is taken again: {error}");
    }
    act::decide_and_act(session, asked).unwrap_or_else(|error| {
        match &error {
            act::Error::Transaction(crate::transaction::Error::Unfinished(_)) => say!("{error}"),
            _ => say!("not done: {error}"),
        }
        boot_record::refused(&error.to_string());
        // Who asked for the menu gets it above all when something is wrong.
        match asked.wish {
            Wish::Menu(seconds) => Next::Prompt(seconds),
            _ => Next::Boot,
        }
    })
}

/// Whether an agent has decided, and started this kernel by kexec for it; the state is still as it left it.
fn handed_over(asked: &Asked, session: Option<&Session>) -> bool {
    asked.attempt.is_some_and(|attempt| attempt.n > 0)
        && session.is_none_or(|session| as_it_was_left(asked, session))
}

/// Whether the state is still as the agent left it that started this kernel by kexec.
fn as_it_was_left(asked: &Asked, session: &Session) -> bool {
    let seq = kernel::sequence(session);
    asked.attempt.is_some_and(|attempt| attempt.seq == seq)
}

fn is_on_trial(session: &Session) -> bool {
    match read_state(&session.store) {
        Ok(Slots::Valid { value, .. }) => value.live_trial().is_some(),
        _ => false,
    }
}

fn can_boot(session: &Session) -> bool {
    let system = crate::store::place::Place::Live(crate::record::layout::Part::System);
    let there = session.store.dataset(system);
    there.is_ok_and(|dataset| dataset.is_some()) && !act::live_set_is_mixed(session)
}

fn end(session: Session, end: End) -> End {
    session.close();
    end
}

/// Whether the recovery kernel is loaded, to start itself and so to find out whether kexec works here.
fn starts_itself(session: &mut Session, line: &[u8], asked: &Asked) -> bool {
    let probed =
        asked.attempt.is_some_and(|attempt| attempt.n == 0) && as_it_was_left(asked, session);
    if probed {
        watchdog::stop();
        boot_record::take_over(&session.store, kernel::sequence(session));
    }
    kernel::probe(session, line, probed).unwrap_or_else(|error| {
        say!("whether kexec works here was not found out: {error}");
        false
    })
}

/// Writes down what this boot did, for the system or for the kernel that is started now, and closes the store. True:
/// what is live is on trial.
fn leave_record(mut session: Session, handed_over: bool, own: bool, kernel: Kernel) -> bool {
    let state = match read_state(&session.store) {
        Ok(Slots::Valid { value, .. }) => Some(value),
        _ => None,
    };
    let seq = kernel::sequence(&session);
    if handed_over {
        boot_record::take_over(&session.store, seq);
    } else if kernel == Kernel::Loaded && session.rung.is_writable() && !session.is_copied() {
        boot_record::carry(&mut session.store, seq);
    }
    boot_record::write(state.as_ref(), own);
    session.close();
    state.is_some_and(|state| state.live_trial().is_some())
}
