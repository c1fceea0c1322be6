//! Performs what the worker decided: the only ways out of early boot.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use super::handover;
use super::pid1::{End, LAST_RESORT_DELAY};
use crate::say;
use crate::sys::{power, process};

/// A shell that an initramfs may hold; ours holds none unless the builder was told to add one.
const SHELL: &str = "/bin/sh";

/// What became of an [`End`] that was to be performed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The machine is another program's now. Only tests ever see it.
    Gone,
    /// The shell ended: the person is to be asked again.
    Returned,
    /// It could not be done, for this reason (for people); the initramfs is still whole.
    Failed(String),
    /// It failed after the initramfs was left: no worker can run any more.
    Lost(String),
}

/// Performs `end`. For all but a shell it comes back only on failure.
pub fn perform(end: End) -> Outcome {
    match end {
        End::SwitchRoot { root, init, args } => {
            let to = handover::To {
                root: Path::new(&root),
                init: init.as_deref(),
                args: &args,
            };
            let error = handover::switch_root(&to);
            let why = format!("the system in {root} was not started: {error}");
            match error {
                handover::Error::Exec(_) => Outcome::Lost(why),
                _ => Outcome::Failed(why),
            }
        }
        End::Kexec => leave("the loaded kernel was not started", power::kexec),
        End::Reboot => leave("the machine did not restart", power::restart),
        End::PowerOff => leave("the machine did not switch off", power::power_off),
        // Nothing to be done: who runs this goes on.
        End::GoOn => Outcome::Gone,
        End::Shell => shell(),
    }
}

/// The end when nothing helped: says why, waits so that a person can read it, restarts. Where even that
/// fails it waits for ever: leaving PID 1 would be a kernel panic.
pub fn last_resort(why: &str) {
    say!("{why}");
    say!(
        "nothing else can be tried: restarting in {} seconds",
        LAST_RESORT_DELAY.as_secs()
    );
    std::thread::sleep(LAST_RESORT_DELAY);
    rustix::fs::sync();
    if let Err(error) = power::restart() {
        say!("the machine did not restart: {error}; switch it off and on");
    }
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn leave(failed: &str, call: fn() -> crate::sys::Result<()>) -> Outcome {
    // Another initramfs still needs them, should this fail. ESRCH: there was nobody.
    if rustix::process::getpid().is_init() {
        let _ = process::kill_all_others();
    }
    rustix::fs::sync();
    match call() {
        Ok(()) => Outcome::Failed(format!("{failed}: the kernel said it would")),
        Err(error) => Outcome::Failed(format!("{failed}: {error}")),
    }
}

fn shell() -> Outcome {
    if !Path::new(SHELL).exists() {
        say!("this initramfs holds no shell ({SHELL}): back to the menu");
        return Outcome::Returned;
    }
    say!("a shell; leave it with 'exit' to come back to the menu");
    let child = process::fork(|| {
        let terminal = crate::sys::console::consoles()
            .first()
            .map(|console| Path::new("/dev").join(&console.name));
        if let Some(Ok(terminal)) = terminal
            .as_deref()
            .map(crate::sys::console::acquire_terminal)
        {
            let _ = crate::sys::console::as_stdio(terminal.as_fd());
        }
        let error = process::exec(Path::new(SHELL), &[String::from("-sh")]);
        say!("the shell did not start: {error}");
        1
    });
    match child.and_then(process::wait_for) {
        Ok(_) => Outcome::Returned,
        Err(error) => Outcome::Failed(format!("the shell did not start: {error}")),
    }
}
