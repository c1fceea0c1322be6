//! A person's own terminal as the terminal of a guest: every key goes to the guest, all that the
//! guest writes comes to the screen, until the key that leaves. However this ends (a signal, a panic,
//! the guest's own end), the terminal is as it was before.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::vm::Vm;

/// Ctrl-], as telnet has it: neither GRUB nor a shell uses it.
pub const LEAVE: u8 = 0x1d;

/// How long a signal or the guest's end may go unnoticed.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// Why the guest's terminal was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The person pressed [`LEAVE`], or closed the terminal.
    Asked,
    /// The guest is off.
    Off,
    /// A signal asked this process to end.
    Signal,
}

/// The terminal in raw mode for as long as this lives.
struct Raw {
    before: Termios,
}

impl Raw {
    fn begin() -> Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin).context("tcgetattr(stdin)")?;
        let mut raw = before.clone();
        raw.make_raw();
        // What was typed ahead was not meant for the guest.
        tcsetattr(&stdin, OptionalActions::Flush, &raw).context("tcsetattr(stdin, raw)")?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Colours, the cursor, its keys, bracketed paste, the scroll region: what a guest may have left.
        let mut stdout = io::stdout();
        let _ = stdout.write_all(b"\x1b[0m\x1b[?25h\x1b[?1l\x1b>\x1b[?2004l\x1b[r\r\n");
        let _ = stdout.flush();
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// Whether there is a person at a terminal at all.
#[must_use]
pub fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Connects the terminal with the guest until somebody leaves. The guest's output must already go to
/// standard output ([`crate::vm::VmConfig::echo`]).
///
/// # Errors
/// When standard input is no terminal, or cannot be read.
pub fn connect(vm: &mut Vm) -> Result<Left> {
    if !is_there() {
        bail!("standard input and output must be a terminal; 'cargo demo --auto' needs none");
    }
    let asked_to_end = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP, SIGINT, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::clone(&asked_to_end)).context("sigaction")?;
    }
    let mut keyboard = vm
        .serial()
        .give_keyboard()
        .context("the guest has no keyboard")?;
    let raw = Raw::begin()?;
    let left = loop {
        if asked_to_end.load(Ordering::Relaxed) {
            break Left::Signal;
        }
        if !vm.is_running()? {
            break Left::Off;
        }
        let Some(keys) = typed()? else { continue };
        let (keys, leave) = until_leave(&keys);
        // A guest that no longer listens is about to be off: the next turn sees it.
        let _ = keyboard.write_all(keys).and_then(|()| keyboard.flush());
        if leave {
            break Left::Asked;
        }
    };
    drop(raw);
    Ok(left)
}

/// What was typed within a tick; None: nothing. A terminal that is gone counts as leaving.
fn typed() -> Result<Option<Vec<u8>>> {
    let stdin = io::stdin();
    let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
    match poll(&mut ready, Some(&TICK)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(error).context("poll(stdin)"),
    }
    let mut buffer = [0; 256];
    match rustix::io::read(&stdin, &mut buffer) {
        Ok(0) | Err(rustix::io::Errno::IO) => Ok(Some(vec![LEAVE])),
        Ok(count) => Ok(buffer.get(..count).map(<[u8]>::to_vec)),
        Err(rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error).context("read(stdin)"),
    }
}

/// The keys before the one that leaves, and whether that was pressed.
fn until_leave(keys: &[u8]) -> (&[u8], bool) {
    match keys.iter().position(|key| *key == LEAVE) {
        Some(at) => (keys.get(..at).unwrap_or_default(), true),
        None => (keys, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_to_the_guest_up_to_the_one_that_leaves() {
        assert_eq!(until_leave(b"\x1b[B\r"), (&b"\x1b[B\r"[..], false));
        assert_eq!(until_leave(b"ab\x1dcd"), (&b"ab"[..], true));
    }
}
