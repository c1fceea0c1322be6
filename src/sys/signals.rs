//! Signals that ask a program to end, for one that waits for another program and has something to do after it.
//!
//! A terminal sends its signals to every process of the group that it talks to, so whoever is waited for has them already.
//! One that somebody sent to this process alone is to be handed on: [`Caught::alone`] says which it was.

use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::Pid;

use super::{Context, Result};

/// What a person, a terminal that goes, or systemd sends.
const ENDING: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

/// The last one that came, with this bit if it came to this process alone; 0 for none.
static LAST: AtomicI32 = AtomicI32::new(0);
const ALONE: i32 = 1 << 16;

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caught {
    /// Its number.
    pub number: i32,
    /// A process has sent it to this one, so that nobody else has it.
    pub alone: bool,
}

/// From now on those signals end nothing by themselves: [`taken`] tells them. One that is ignored, as by nohup(1), stays so.
/// A program that is started from here finds them as if this had not been called.
///
/// # Errors
/// What sigaction(2) says.
pub fn catch() -> Result<()> {
    for signal in ENDING {
        // No restart of what was interrupted: whoever sleeps wakes up.
        let action = SigAction::new(
            SigHandler::SigAction(came),
            SaFlags::SA_SIGINFO,
            SigSet::empty(),
        );
        // SAFETY: the handler reads what the kernel gives it and stores a number, no more.
        let before =
            unsafe { sigaction(signal, &action) }.call(|| format!("sigaction({signal})"))?;
        if matches!(before.handler(), SigHandler::SigIgn) {
            // SAFETY: it runs no code of ours.
            unsafe { sigaction(signal, &before) }.call(|| format!("sigaction({signal})"))?;
        }
    }
    Ok(())
}

/// The signal that came since this was asked last.
pub fn taken() -> Option<Caught> {
    let last = LAST.swap(0, Ordering::SeqCst);
    (last != 0).then_some(Caught {
        number: last & !ALONE,
        alone: last & ALONE != 0,
    })
}

/// Sends a signal to a process.
///
/// # Errors
/// `ESRCH`: it is gone. `EINVAL`: there is no such signal.
pub fn send(pid: i32, number: i32) -> Result<()> {
    let signal = Signal::try_from(number).call(|| format!("signal {number}"))?;
    nix::sys::signal::kill(Pid::from_raw(pid), signal).call(|| format!("kill({pid}, {signal})"))
}

extern "C" fn came(number: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel gives a valid pointer, for as long as the handler runs.
    let code = unsafe { info.as_ref() }.map_or(0, |info| info.si_code);
    // `SI_USER` and below of <asm-generic/siginfo.h> come from processes; the terminal's is `SI_KERNEL`.
    let alone = if code <= 0 { ALONE } else { 0 };
    LAST.store(number | alone, Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{Ended, fork, wait_for};

    #[test]
    fn a_signal_from_a_process_is_told_once_and_ends_nothing() {
        let child = fork(|| {
            if catch().is_err() || taken().is_some() {
                return 1;
            }
            let own = rustix::process::getpid().as_raw_nonzero().get();
            if send(own, libc::SIGTERM).is_err() {
                return 2;
            }
            let expected = Caught {
                number: libc::SIGTERM,
                alone: true,
            };
            match (taken(), taken()) {
                (Some(caught), None) if caught == expected => 0,
                _ => 3,
            }
        });
        assert_eq!(wait_for(child.unwrap()).unwrap(), Ended::Exit(0));
    }

    #[test]
    fn one_that_is_ignored_stays_ignored() {
        let child = fork(|| {
            // SAFETY: it runs no code of ours.
            let ignored = unsafe { nix::sys::signal::signal(Signal::SIGHUP, SigHandler::SigIgn) };
            let own = rustix::process::getpid().as_raw_nonzero().get();
            if ignored.is_err() || catch().is_err() || send(own, libc::SIGHUP).is_err() {
                return 1;
            }
            i32::from(taken().is_some()) * 2
        });
        assert_eq!(wait_for(child.unwrap()).unwrap(), Ended::Exit(0));
    }
}
