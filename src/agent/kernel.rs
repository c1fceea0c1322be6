//! Whether the running kernel fits the root, and the one hand-over when it does not.
//!
//! After a promotion the root usually has another kernel than the one that carried it out. It is
//! started by kexec, with a command line that says so (`backstay.attempt`, with the sequence number
//! of the state): a kernel that was started that way changes nothing and never hands over again.
//! Where kexec is forbidden, the machine restarts through GRUB, once for a live system: a mark in
//! the state is durable before.

use super::act;
use super::handover::find_inits;
use super::kexec::{self, RootKernel};
use super::session::Session;
use super::{asked, boot_record, policy, watchdog};
use crate::policy::trial;
use crate::record::Uuid;
use crate::record::layout::Part;
use crate::record::slots::Slots;
use crate::record::state::Kexec;
use crate::say;
use crate::store::place::Place;
use crate::transaction::check;
use crate::transaction::records::{Records, read_state};
use kernel_cmdline::{Boot, DoesNotFit, Line};
use std::path::Path;

/// How the boot goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// With the running kernel.
    Stays,
    /// The root's kernel is loaded: jump.
    Loaded,
    /// Restart through GRUB, which boots the root's own kernel.
    Restart,
    /// The system is on trial, and GRUB could not start its own kernel either.
    Failed,
}

/// How often the recovery kernel starts itself before it is taken for unable to: one start may end by a power cut.
const PROBES: u8 = 2;
/// Where the recovery kernel lies.
const RECOVERY: &str = "@backstay/kernels/recovery";
/// Where the one lies that was there before.
const RECOVERY_BEFORE: &str = "@backstay/kernels/recovery-previous";
/// What ends a kernel on trial that has died: a panic restarts the machine after so many seconds, long enough
/// to be read; a task that hangs for two minutes (the kernel's own time) is a panic. `mark-good` takes the second
/// back. dracut's initramfs restarts instead of opening a shell (dracut.cmdline(7)), as that of initramfs-tools does
/// by `panic=`.
const DEAD: [(&str, &str); 4] = [
    ("panic", "10"),
    ("hung_task_panic", "1"),
    ("rd.shell", "0"),
    ("rd.emergency", "reboot"),
];

/// Whether GRUB started the kernel in this directory of the store's top level, or one that was started by it.
fn grub_started(line: &[u8], directory: &str) -> bool {
    kernel_cmdline::tokens(line).any(|token| {
        // GRUB itself puts it there.
        let path = token.value.filter(|_| token.is("BOOT_IMAGE"));
        path.is_some_and(|path| path.ends_with(&format!("/{directory}/vmlinuz")))
    })
}

/// Whether the running kernel is one of the store's, and not a system's own.
pub fn is_recovery(line: &[u8]) -> bool {
    let handed_over = asked::read(line)
        .attempt
        .is_some_and(|attempt| attempt.n > 0);
    !handed_over
        && [RECOVERY, RECOVERY_BEFORE]
            .iter()
            .any(|it| grub_started(line, it))
}

/// Notes for GRUB that the newest recovery kernel comes up, where GRUB started it now and the disk is written anyway.
pub fn note_recovery(session: &mut Session, line: &[u8]) {
    let from_grub = grub_started(line, RECOVERY);
    let noted = !session.rung.is_writable() || session.store.is_recovery_proven();
    // GRUB does not see the mark where the recovery kernel lies on /boot.
    let in_store = session.top().join(RECOVERY).is_dir();
    if !from_grub || noted || !in_store || session.is_copied() {
        return;
    }
    if let Err(error) = session.mark_recovery_proven() {
        log::warn!("GRUB goes on to prefer the recovery kernel before this one: {error}");
    }
}

/// Before the first start on trial: whether this machine can start a kernel by kexec, which is known once the
/// newest recovery kernel was started so, by itself or by the one before it. `probed`: it was, just now. True: it
/// is loaded, jump.
///
/// A machine where that fails would otherwise lose a healthy system: no start of it would come up.
pub fn probe(session: &mut Session, line: &[u8], probed: bool) -> Result<bool, super::act::Error> {
    let Slots::Valid { value: state, .. } = read_state(&session.store)? else {
        return Ok(false);
    };
    let guarded = state.live_trial().is_some_and(|trial| trial.guarded);
    if !guarded || session.is_copied() || session.is_encrypted() {
        return Ok(false);
    }
    match state.kexec {
        Kexec::Fails => Ok(false),
        Kexec::Works if session.store.is_recovery_proven() => Ok(false),
        Kexec::Tried(times) if probed || times >= PROBES => {
            let works = probed;
            if !works {
                say!("the recovery kernel did not come up when it started itself by kexec");
            }
            let found = if works { Kexec::Works } else { Kexec::Fails };
            act::remember(session, |state| state.kexec = found)?;
            if works && let Err(error) = session.mark_recovery_proven() {
                log::warn!("GRUB goes on to prefer the recovery kernel before this one: {error}");
            }
            Ok(false)
        }
        _ if kexec::forbidden_here().is_some() => Ok(false),
        Kexec::Unknown | Kexec::Works | Kexec::Tried(_) => {
            let times = match state.kexec {
                Kexec::Tried(times) => times,
                _ => 0,
            };
            act::remember(session, |state| state.kexec = Kexec::Tried(times + 1))?;
            let directory = session.top().join(RECOVERY);
            let loaded = command_line(line, None, sequence(session), Some(0))
                .ok()
                .as_ref()
                .and_then(Line::as_str)
                .map(|line| kexec::load_recovery(&directory, line));
            if let Some(Ok(())) = loaded {
                say!("first the recovery kernel starts itself once, to see whether kexec works");
                return Ok(true);
            }
            let (why, found) = match loaded {
                Some(Err(kexec::Error::Forbidden(why))) => {
                    (format!("that is not permitted here ({why})"), state.kexec)
                }
                Some(Err(error @ kexec::Error::Call(_))) => (error.to_string(), Kexec::Fails),
                // That says nothing about kexec.
                Some(Err(error)) => (error.to_string(), state.kexec),
                _ => ("the command line does not fit".to_owned(), state.kexec),
            };
            say!("the recovery kernel cannot be started by kexec: {why}");
            act::remember(session, |state| state.kexec = found)?;
            Ok(false)
        }
    }
}

/// Loads the root's own kernel with the initramfs beside it, whether or not the running one would do; returns its
/// release. `seq`: see [`sequence`]; `counted`: which start of a trial it is.
///
/// # Errors
/// There is none that can be started, or it may not be here.
pub fn load_own(
    root: &Path,
    line: &[u8],
    rootflags: Option<&str>,
    seq: u32,
    counted: Option<u8>,
) -> Result<String, kexec::Error> {
    let kernel = RootKernel::find(root)?;
    if !kernel.has_initrd {
        return Err(kexec::Error::NoInitrd(kernel.release));
    }
    let line = command_line(line, rootflags, seq, counted)
        .ok()
        .and_then(|line| line.as_str().map(str::to_owned));
    // One that does not fit is longer than any kernel takes.
    kernel.load(&line.ok_or(kexec::Error::CommandLine {
        length: usize::MAX,
        max: kernel_cmdline::LINE_MAX,
    })?)?;
    Ok(kernel.release)
}

/// The own kernel of a system on trial, although the running one would do.
fn on_trial(
    root: &Path,
    line: &[u8],
    rootflags: Option<&str>,
    counted: Option<u8>,
    session: Option<&Session>,
) -> Kernel {
    // A kernel would find out by a panic, and this agent by waiting for a person.
    let init = Boot::read(line).init;
    if let Err(error) = find_inits(root, init) {
        say!("the system cannot be started: {error}");
        return Kernel::Failed;
    }
    // Another kernel would have it unlocked again. It is started where this one does not fit.
    if session.is_some_and(Session::is_encrypted) {
        return Kernel::Stays;
    }
    // It is tried as GRUB will start it: what runs now is another kernel, or the one of what was live before.
    let stays = match is_recovery(line) || boot_record::has_changed() {
        true => Kernel::Restart,
        false => Kernel::Stays,
    };
    if session.is_some_and(|session| !is_guarded(session)) {
        return stays;
    }
    let seq = session.map_or(1, sequence);
    match load_own(root, line, rootflags, seq, counted) {
        Ok(release) => {
            say!("starting the system's own kernel {release}");
            Kernel::Loaded
        }
        Err(kexec::Error::Forbidden(why)) => {
            say!(
                "the system's own kernel is not started from here: kexec is not permitted ({why})"
            );
            stays
        }
        // No fault of the kernel's.
        Err(error) if error.is_of_the_machine() => {
            say!("the system's own kernel is not started from here: {error}");
            stays
        }
        Err(error) => {
            say!("the system's own kernel cannot be started: {error}");
            Kernel::Failed
        }
    }
}

/// Compares the running kernel with the root mounted at `root`, and prepares the hand-over.
/// `rootflags` replace those on the line, where they name another root.
pub fn settle(
    root: &Path,
    line: &[u8],
    rootflags: Option<&str>,
    handed_over: bool,
    counted: Option<u8>,
    session: Option<&mut Session>,
) -> Kernel {
    let fits = kexec::fits_running_kernel(root).unwrap_or(false);
    // What is on trial is tried as GRUB will start it, with its own kernel and initramfs.
    if counted.is_some() {
        match on_trial(root, line, rootflags, counted, session.as_deref()) {
            Kernel::Stays => {}
            Kernel::Restart => return restart_once(session, counted),
            other => return other,
        }
    }
    if fits {
        return Kernel::Stays;
    }
    // A healthy system would be lost where kexec does not work, or where it must not come before its kernel. Of an
    // encrypted one GRUB cannot read the kernel: to restart would not help.
    if counted.is_some()
        && session
            .as_deref()
            .is_some_and(|it| !is_guarded(it) && !it.is_encrypted())
    {
        return restart_once(session, counted);
    }
    let running = kexec::running_release();
    if handed_over {
        say!("this root has no modules for the running kernel {running}, and the hand-over was");
        say!("already used: starting it nevertheless; hardware may be missing");
        return Kernel::Stays;
    }
    let kernel = match RootKernel::find(root) {
        Ok(kernel) => kernel,
        Err(error) => {
            say!("the running kernel {running} has no modules in this root, and {error}");
            say!("starting it nevertheless; hardware may be missing");
            return Kernel::Stays;
        }
    };
    if !kernel.has_initrd {
        say!(
            "the system's own kernel {} has no initramfs beside it",
            kernel.release
        );
        say!("starting it with {running} instead; hardware may be missing");
        return Kernel::Stays;
    }
    let seq = session.as_deref().map_or(1, sequence);
    let error = match command_line(line, rootflags, seq, counted) {
        Ok(line) => match line.as_str().map(|line| kernel.load(line)) {
            Some(Ok(())) => {
                say!("starting the system's own kernel {}", kernel.release);
                return Kernel::Loaded;
            }
            Some(Err(error)) => error.to_string(),
            None => "the command line is not UTF-8".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    say!(
        "the system's own kernel {} was not started: {error}",
        kernel.release
    );
    restart_once(session, counted)
}

/// Why the snapshot `id` cannot be booted once: it has another kernel, and a restart through GRUB would
/// return from it before it ran.
pub fn cannot_boot_once(
    session: &Session,
    id: u32,
) -> Result<Option<String>, crate::transaction::Error> {
    let system = Place::Snapshot(id, Part::System);
    if check::has_modules(&session.store, system, &kexec::running_release())? {
        return Ok(None);
    }
    Ok(kexec::forbidden_here().map(|why| {
        format!(
            "refused: snapshot {id} has a kernel of its own, and kexec is not permitted here ({why}): \
             it cannot be booted once; use backstay.rollback={id}, which can be undone"
        )
    }))
}

/// The present command line without what it asked of us, marked as a hand-over. The initramfs beside
/// the kernel may be the distribution's, which mounts what `rootflags=` names.
fn command_line(
    line: &[u8],
    rootflags: Option<&str>,
    seq: u32,
    counted: Option<u8>,
) -> Result<Line, DoesNotFit> {
    let mut left_out = Vec::new();
    if counted != Some(0) {
        // GRUB gives it to the recovery kernel, which stays itself only when it is tried whether kexec works.
        left_out.push(watchdog::NOT_STOPPED);
    }
    left_out.extend(rootflags.is_some().then_some("rootflags"));
    let mut line = Line::without_backstay_and(line, &left_out)?;
    if let Some(flags) = rootflags {
        line.append("rootflags", Some(flags))?;
    }
    let n = counted.unwrap_or(1);
    line.append("backstay.attempt", Some(&format!("{seq}:{n}")))?;
    if counted.is_some() {
        // It comes back to GRUB, and so to the next start.
        for (name, value) in DEAD {
            line.append(name, Some(value))?;
        }
    }
    if counted.is_some_and(|n| n > 0) && policy::of_initramfs().watchdog.is_some() {
        let (name, value) = watchdog::LEFT_ALONE;
        line.append(name, Some(value))?;
    }
    line.append("backstay.end", None)?;
    Ok(line)
}

/// The number that ties a hand-over to the state as it is now; 1 where there is none.
pub fn sequence(session: &Session) -> u32 {
    let seq = Records::open(&session.store).map_or(1, |records| records.state.seq());
    u32::try_from(seq).unwrap_or(u32::MAX).max(1)
}

/// Whether the own kernel of a system on trial is started by kexec.
fn is_guarded(session: &Session) -> bool {
    match read_state(&session.store) {
        Ok(Slots::Valid { value, .. }) => value.counts_panics(),
        _ => true,
    }
}

/// Restarts through GRUB unless that was done for this live system already.
fn restart_once(session: Option<&mut Session>, counted: Option<u8>) -> Kernel {
    let Some(session) = session.filter(|session| !session.is_copied()) else {
        return Kernel::Stays;
    };
    match mark(session, counted.is_some()) {
        Ok(true) => {
            if counted.is_some() {
                say!("what panics before its own agent runs is not counted");
            }
            say!("restarting, so that the boot menu starts it");
            Kernel::Restart
        }
        Ok(false) => {
            say!(
                "a restart did not help before: starting with this kernel; hardware may be missing"
            );
            Kernel::Stays
        }
        Err(error) => {
            say!("{error}: starting with this kernel; hardware may be missing");
            Kernel::Stays
        }
    }
}

/// Sets the mark, durably; false (and the mark taken away) if it stood there already. GRUB is to start the system
/// itself, so a trial is not guarded any more, and this start is counted in its own kernel.
fn mark(session: &mut Session, counted: bool) -> Result<bool, super::act::Error> {
    let Slots::Valid { value, .. } = read_state(&session.store)? else {
        return Ok(false);
    };
    let live: Uuid = value.live.system;
    let first = value.rebooted_for != Some(live);
    act::remember(session, |state| {
        state.rebooted_for = first.then_some(live);
        if let Some(trial) = &mut state.trial {
            trial.guarded &= !first;
        }
        if first && counted {
            trial::uncount(state);
        }
    })?;
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_on_trial_is_ended_where_it_dies_and_a_probe_stays_what_it_is() {
        let line = b"root=UUID=1 ro watchdog.stop_on_reboot=0 backstay.menu backstay.end\n";
        let made = |counted| command_line(line, None, 7, Some(counted)).unwrap();
        assert_eq!(
            made(2).as_str().unwrap(),
            "root=UUID=1 ro backstay.attempt=7:2 panic=10 hung_task_panic=1 \
             rd.shell=0 rd.emergency=reboot backstay.end"
        );
        let probe = made(0);
        assert!(
            probe
                .as_str()
                .unwrap()
                .contains("stop_on_reboot=0 backstay.attempt=7:0")
        );
    }

    #[test]
    fn a_hand_over_keeps_the_line_but_what_was_asked_of_us() {
        let line = b"root=UUID=1 rootflags=subvol=@rootfs ro quiet \
                     backstay.rollback=previous backstay.present backstay.end\n";
        assert_eq!(
            command_line(line, None, 7, None).unwrap().as_str().unwrap(),
            "root=UUID=1 rootflags=subvol=@rootfs ro quiet backstay.attempt=7:1 backstay.end"
        );
        let line = b"root=UUID=1 rootflags=noatime,subvolid=256 ro backstay.menu -- single\n";
        let flags = Some("subvol=@rootfs,noatime");
        assert_eq!(
            command_line(line, flags, 7, None)
                .unwrap()
                .as_str()
                .unwrap(),
            "root=UUID=1 ro rootflags=subvol=@rootfs,noatime backstay.attempt=7:1 backstay.end \
             -- single"
        );
    }
}
