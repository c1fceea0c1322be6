//! Processes: fork with a closure, reap, exec, kill.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use rustix::io::Errno;

use super::{Context, Error, Result};

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It called exit with this status.
    Exit(i32),
    /// A signal of this number ended it.
    Signal(i32),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Exit(status) => write!(f, "exit status {status}"),
            Ended::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

/// Forks; the child runs `body` and exits with the status that it returns. The child never returns
/// from this function: neither destructors nor exit handlers of the parent's frames run in it.
///
/// A panic in `body` ends the child with SIGABRT, however panics are built.
///
/// Must be called while this process has one thread: the child is a copy of that thread only, and
/// `body` allocates.
///
/// # Errors
/// `EAGAIN`, `ENOMEM`.
pub fn fork(body: impl FnOnce() -> i32) -> Result<i32> {
    // SAFETY: the callers (PID 1 and tests that only exit) have one thread that could hold a lock,
    // the calling one, so that the child finds every lock free.
    match unsafe { nix::unistd::fork() }.call(|| "fork()".into())? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            let body = std::panic::AssertUnwindSafe(body);
            let status = std::panic::catch_unwind(body).unwrap_or_else(|_| std::process::abort());
            // SAFETY: _exit takes an integer and does not return.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Has this process killed when its parent, the process `parent`, ends. In a child of one that ended
/// already, it does not return.
///
/// # Errors
/// What prctl(2) says.
pub fn die_with(parent: rustix::process::Pid) -> Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))
        .call(|| "prctl(PR_SET_PDEATHSIG, SIGKILL)".into())?;
    // One that ended before the call sends nothing.
    if getppid() != Some(parent) {
        std::process::abort();
    }
    Ok(())
}

/// Has this process killed when whoever started it ends, in a process name space whose first process it is: that one cannot
/// be named here.
///
/// # Errors
/// What prctl(2) says.
pub fn die_with_any_parent() -> Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))
        .call(|| "prctl(PR_SET_PDEATHSIG, SIGKILL)".into())
}

/// Name spaces of its own: no network but a loopback that is down, and no IPC and host name of others. The next child is the
/// first process of a process name space, which ends with it.
///
/// # Errors
/// Those of unshare(2): `EINVAL` where the kernel lacks one of them.
pub fn apart() -> Result<()> {
    use nix::sched::CloneFlags;
    let spaces = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWPID;
    nix::sched::unshare(spaces)
        .call(|| "unshare(CLONE_NEWNET|CLONE_NEWIPC|CLONE_NEWUTS|CLONE_NEWPID)".into())
}

/// A process name space of its own for the next child and all that it starts: that child is its first process, and what is
/// left in it ends when that one does. The other name spaces stay.
///
/// # Errors
/// Those of unshare(2): `EINVAL` where the kernel has none.
pub fn apart_processes() -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWPID)
        .call(|| "unshare(CLONE_NEWPID)".into())
}

/// Waits for any child, orphans included, and returns its id and end.
///
/// # Errors
/// `ECHILD`: there are none.
pub fn reap() -> Result<(i32, Ended)> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, status)) => return Ok((pid.as_raw(), Ended::Exit(status))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                return Ok((pid.as_raw(), Ended::Signal(signal as i32)));
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).call(|| "waitpid(-1)".into()),
        }
    }
}

/// Waits for the child `pid` only.
///
/// # Errors
/// `ECHILD`: it is no child of this process.
pub fn wait_for(pid: i32) -> Result<Ended> {
    loop {
        match waitpid(Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, status)) => return Ok(Ended::Exit(status)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Ended::Signal(signal as i32)),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).call(|| format!("waitpid({pid})")),
        }
    }
}

/// Whether the child `pid` has ended, and how; does not wait.
///
/// # Errors
/// `ECHILD`: it is no child of this process.
pub fn has_ended(pid: i32) -> Result<Option<Ended>> {
    match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, status)) => Ok(Some(Ended::Exit(status))),
        Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(Ended::Signal(signal as i32))),
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(None),
        Err(errno) => Err(errno).call(|| format!("waitpid({pid}, WNOHANG)")),
    }
}

/// Any child that has ended, orphans included, and how; `None` where all go on. Does not wait.
///
/// # Errors
/// `ECHILD`: there are none.
pub fn reap_one() -> Result<Option<(i32, Ended)>> {
    match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(pid, status)) => Ok(Some((pid.as_raw(), Ended::Exit(status)))),
        Ok(WaitStatus::Signaled(pid, signal, _)) => {
            Ok(Some((pid.as_raw(), Ended::Signal(signal as i32))))
        }
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(None),
        Err(errno) => Err(errno).call(|| "waitpid(-1, WNOHANG)".into()),
    }
}

/// Ends the child `pid` at once, and waits for it.
///
/// # Errors
/// `ESRCH`, `ECHILD`: it is no child of this process.
pub fn end(pid: i32) -> Result<()> {
    nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .call(|| format!("kill({pid}, SIGKILL)"))?;
    wait_for(pid).map(drop)
}

/// Ends every process but this one (and kernel threads), as PID 1 may before it gives the machine away.
///
/// # Errors
/// `ESRCH`: there was none, `EPERM`.
pub fn kill_all_others() -> Result<()> {
    nix::sys::signal::kill(Pid::from_raw(-1), nix::sys::signal::Signal::SIGKILL)
        .call(|| "kill(-1, SIGKILL)".into())
}

/// Replaces this program by `path` with `argv` (argv\[0\] included), keeping the environment.
/// Returns only the error.
pub fn exec(path: &Path, argv: &[String]) -> Error {
    replaced(path, argv, None)
}

/// The same with another environment, lines of `NAME=value`.
pub fn exec_with(path: &Path, argv: &[String], environment: &[String]) -> Error {
    replaced(path, argv, Some(environment))
}

fn c_strings(all: &[String]) -> Option<Vec<CString>> {
    let all = all.iter().map(|text| CString::new(text.as_bytes()).ok());
    all.collect()
}

fn replaced(path: &Path, argv: &[String], environment: Option<&[String]>) -> Error {
    let shown = || format!("execv({path:?}, {argv:?})");
    let c_path = CString::new(path.as_os_str().as_bytes()).ok();
    let c_environment = c_strings(environment.unwrap_or_default());
    let (Some(c_path), Some(c_argv), Some(c_environment)) =
        (c_path, c_strings(argv), c_environment)
    else {
        return Error::new(shown(), Errno::INVAL);
    };
    // SAFETY: SIG_DFL is no handler of ours: nothing of this program can run from it.
    let _ = unsafe {
        // Rust's start-up ignores SIGPIPE, and what is ignored stays so across exec.
        nix::sys::signal::signal(
            nix::sys::signal::SIGPIPE,
            nix::sys::signal::SigHandler::SigDfl,
        )
    };
    let replaced = match environment {
        Some(_) => nix::unistd::execve(&c_path, &c_argv, &c_environment),
        None => nix::unistd::execv(&c_path, &c_argv),
    };
    match replaced {
        Ok(never) => match never {},
        Err(errno) => Error::new(shown(), Errno::from_raw_os_error(errno as i32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_reaped_with_its_exit_status_or_its_signal() {
        let exits = fork(|| 7).unwrap();
        assert_eq!(wait_for(exits).unwrap(), Ended::Exit(7));
        let aborts = fork(|| std::process::abort()).unwrap();
        assert_eq!(wait_for(aborts).unwrap(), Ended::Signal(libc::SIGABRT));
    }

    #[test]
    fn a_program_gets_the_environment_that_it_is_given() {
        let sh = |test: &str| {
            let argv = ["sh", "-c", test].map(str::to_owned);
            let environment = ["GIVEN=x".to_owned()];
            let child = fork(|| {
                exec_with(Path::new("/bin/sh"), &argv, &environment);
                99
            });
            wait_for(child.unwrap()).unwrap()
        };
        assert_eq!(sh("test \"$GIVEN\" = x"), Ended::Exit(0));
        assert_eq!(sh("test -z \"$HOME\""), Ended::Exit(0));
    }

    #[test]
    fn exec_of_nothing_returns_the_call() {
        let error = exec(Path::new("/no/such"), &["x".into()]);
        assert_eq!(error.errno, Errno::NOENT);
    }
}
