//! A terminal that gives every byte as it is typed, and is given back however the process that uses it ends or stops.
//!
//! ```text
//! TERM, HUP, INT, QUIT   its modes are put back, then the signal does what it does otherwise: the status is that of it
//! TSTP                   the same; the process stops
//! CONT                   by the byte again, and [`was_continued`]
//! KILL, STOP             nobody hears of these: the modes stay as they are
//! ```
//! What a handler does here is system calls alone, on what was prepared before. A signal that is ignored (nohup) stays so.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::{Context, Result, console};

const LEAVING: [Signal; 5] = [
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
];

/// What the handlers know; null where no terminal is by the byte.
static MODES: AtomicPtr<Modes> = AtomicPtr::new(std::ptr::null_mut());
static CONTINUED: AtomicBool = AtomicBool::new(false);

struct Modes {
    terminal: RawFd,
    before: Termios,
    raw: Termios,
}

/// By the byte for as long as this is kept. There is one at a time.
#[derive(Debug)]
pub struct RawTerminal<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> RawTerminal<'a> {
    /// From now on.
    ///
    /// # Errors
    /// `ENOTTY`: it is no terminal.
    pub fn begin(terminal: BorrowedFd<'a>) -> Result<RawTerminal<'a>> {
        let before = tcgetattr(terminal).call(|| "tcgetattr(terminal)".into())?;
        let raw = console::all_bytes(&before);
        let modes = Modes {
            terminal: terminal.as_raw_fd(),
            before: before.clone(),
            raw: raw.clone(),
        };
        // Never freed: a handler may be looking at it.
        MODES.store(Box::leak(Box::new(modes)), Ordering::SeqCst);
        let begun = RawTerminal { terminal, before };
        for signal in LEAVING {
            listen(signal).call(|| format!("sigaction({signal})"))?;
        }
        listen(Signal::SIGCONT).call(|| "sigaction(SIGCONT)".into())?;
        console::set_modes(terminal, &raw)?;
        Ok(begun)
    }
}

impl Drop for RawTerminal<'_> {
    fn drop(&mut self) {
        MODES.store(std::ptr::null_mut(), Ordering::SeqCst);
        // One that is gone has no modes.
        let _ = console::set_modes(self.terminal, &self.before);
    }
}

/// Whether the process was stopped and continued since this was asked last: what the screen showed may be gone.
pub fn was_continued() -> bool {
    CONTINUED.swap(false, Ordering::SeqCst)
}

fn listen(signal: Signal) -> nix::Result<()> {
    let (handler, flags): (extern "C" fn(i32), _) = match signal {
        Signal::SIGCONT => (goes_on, SaFlags::SA_RESTART),
        // Once: raised again by the handler, it does what it does otherwise.
        _ => (
            leaves,
            SaFlags::SA_RESETHAND | SaFlags::SA_NODEFER | SaFlags::SA_RESTART,
        ),
    };
    let action = SigAction::new(SigHandler::Handler(handler), flags, SigSet::empty());
    // SAFETY: both handlers make system calls and read atomics, no more, and put errno back.
    let before = unsafe { sigaction(signal, &action) }?;
    if matches!(before.handler(), SigHandler::SigIgn) {
        // SAFETY: it runs no code of ours.
        unsafe { sigaction(signal, &before) }?;
    }
    Ok(())
}

fn set(choose: impl Fn(&Modes) -> &Termios) {
    let modes = MODES.load(Ordering::SeqCst);
    // SAFETY: null, or a box that is never freed and that nobody writes to.
    let Some(modes) = (unsafe { modes.as_ref() }) else {
        return;
    };
    // SAFETY: `RawTerminal` borrows the descriptor for as long as the pointer is not null.
    let terminal = unsafe { BorrowedFd::borrow_raw(modes.terminal) };
    let _ = tcsetattr(terminal, OptionalActions::Now, choose(modes));
}

extern "C" fn leaves(signal: i32) {
    let errno = Errno::last_raw();
    set(|modes| &modes.before);
    if let Ok(signal) = Signal::try_from(signal) {
        let _ = raise(signal);
        // After a stop, or where the kernel stops nobody because nobody could continue it.
        let _ = listen(signal);
        if signal == Signal::SIGTSTP {
            goes_on(0);
        }
    }
    Errno::set_raw(errno);
}

extern "C" fn goes_on(_: i32) {
    let errno = Errno::last_raw();
    // In the background the kernel stops it here, until it is in the foreground.
    set(|modes| &modes.raw);
    CONTINUED.store(true, Ordering::SeqCst);
    Errno::set_raw(errno);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    fn signals() -> SigSet {
        LEAVING.into_iter().chain([Signal::SIGCONT]).collect()
    }

    /// In the process that [`at_terminal`] has started: this thread hears the signals.
    pub(crate) fn heard_here() {
        signals().thread_unblock().unwrap();
    }

    /// A test of this program, alone and in a process of its own, at a new pseudo-terminal whose other end is given. It
    /// finds `BACKSTAY_TEST_AT_TERMINAL` set.
    pub(crate) fn at_terminal(test: &str) -> (Child, OwnedFd) {
        let (ours, theirs) = console::tests::ends();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env("BACKSTAY_TEST_AT_TERMINAL", "yes")
            .stdin(Stdio::from(theirs.try_clone().unwrap()))
            .stdout(Stdio::from(theirs))
            // A group that nobody could continue is never stopped.
            .process_group(0);
        // SAFETY: between fork and exec only system calls are made. Under nohup, or in the background of a script, it would
        // ignore signals; and those that it hears are for the thread of the test, where [`heard_here`] lets them in.
        unsafe {
            command.pre_exec(|| {
                for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
                    if libc::signal(signal, libc::SIG_DFL) == libc::SIG_ERR {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(signals().thread_block()?)
            });
        }
        (command.spawn().unwrap(), ours)
    }
}
