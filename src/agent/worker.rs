//! A worker as its parent sees it: a child that answers over a pipe, as PID 1's with an
//! [`End`](super::pid1::End).

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::pid1::WorkerMode;
use crate::sys::process;

/// The longest answer, in bytes. A pipe holds 64 KiB, so the worker never blocks on a PID 1 that reads
/// only after the worker has ended.
const ANSWER_MAX: usize = 32 * 1024;
/// How long a worker that was killed may take to be gone. One that waits for a disk that does not answer never is.
const GOING: Duration = Duration::from_secs(10);

/// Runs `work(mode)` in a child to its end, reaping whatever else ends meanwhile.
///
/// # Errors
/// For people: how the child died, or that its answer cannot be read.
pub fn run<Answer: Serialize + DeserializeOwned>(
    mode: WorkerMode,
    work: impl FnOnce(WorkerMode) -> Answer,
) -> Result<Answer, String> {
    let (child, answer) = start(mode, work)?;
    let ended = wait(child).map_err(|error| format!("the worker was lost: {error}"))?;
    read(mode, ended, answer)
}

/// Why a worker that was watched gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// For people.
    pub why: String,
    /// It has ended. One that has not cannot be killed, and may still write.
    pub ended: bool,
}

/// The same by a process that is not PID 1, with a worker that is killed where it gives no sign of life
/// ([`super::log::alive`]) for the time `silence`.
///
/// # Errors
/// [`Lost`].
pub fn run_watched<Answer: Serialize + DeserializeOwned>(
    mode: WorkerMode,
    silence: Duration,
    work: impl FnOnce(WorkerMode) -> Answer,
) -> Result<Answer, Lost> {
    let lost = |why: String| Lost { why, ended: true };
    let (signs, signer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(|errno| lost(format!("the worker could not be started: pipe2(): {errno}")))?;
    let (child, answer) = start(mode, move |mode| {
        super::log::signs_of_life_to(signer.into());
        work(mode)
    })
    .map_err(lost)?;
    match watch(child, &signs, silence) {
        Ok(Some(ended)) => read(mode, ended, answer).map_err(lost),
        Ok(None) => Err(Lost {
            why: format!(
                "the worker ({mode:?}) gave no sign of life for {} seconds, and was ended",
                silence.as_secs()
            ),
            ended: is_gone(child),
        }),
        Err(error) => Err(Lost {
            why: format!("the worker was lost: {error}"),
            ended: false,
        }),
    }
}

fn start<Answer: Serialize>(
    mode: WorkerMode,
    work: impl FnOnce(WorkerMode) -> Answer,
) -> Result<(i32, File), String> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(|errno| format!("the worker could not be started: pipe2(): {errno}"))?;
    let child = process::fork(move || {
        let Ok(answer) = postcard::to_allocvec(&work(mode)) else {
            return 2;
        };
        if answer.len() > ANSWER_MAX {
            return 3;
        }
        match File::from(writer).write_all(&answer) {
            Ok(()) => 0,
            Err(_) => 4,
        }
    })
    .map_err(|error| format!("the worker could not be started: {error}"))?;
    super::log::forked();
    Ok((child, reader.into()))
}

fn read<Answer: DeserializeOwned>(
    mode: WorkerMode,
    ended: process::Ended,
    from: File,
) -> Result<Answer, String> {
    if ended != process::Ended::Exit(0) {
        return Err(format!("the worker ({mode:?}) failed: {ended}"));
    }
    let mut answer = Vec::new();
    // An orphan may hold the writing end: what is there is read, nothing is waited for.
    let _ = from.take(ANSWER_MAX as u64).read_to_end(&mut answer);
    postcard::from_bytes(&answer)
        .map_err(|error| format!("the worker ({mode:?}) gave no answer that can be read: {error}"))
}

/// Waits for the child to end; `None`: it was silent for too long, and was killed.
fn watch(
    child: i32,
    signs: &OwnedFd,
    silence: Duration,
) -> crate::sys::Result<Option<process::Ended>> {
    let ends = pidfd(child)?;
    let mut since = Instant::now();
    let mut listens = true;
    while let Some(left) = silence.checked_sub(since.elapsed()) {
        let mut fds = [
            PollFd::new(&ends, PollFlags::IN),
            PollFd::new(signs, PollFlags::IN),
        ];
        // One that nobody can write to any more is ready for ever.
        let watched = if listens { 2 } else { 1 };
        let _ = poll(
            fds.get_mut(..watched).unwrap_or_default(),
            Some(&time(left)),
        );
        if fds[0].revents().contains(PollFlags::IN) {
            return process::wait_for(child).map(Some);
        }
        let came = fds[1].revents();
        let mut bytes = [0; 256];
        if came.contains(PollFlags::IN) && rustix::io::read(signs, &mut bytes).is_ok_and(|n| n > 0)
        {
            since = Instant::now();
        } else if !came.is_empty() {
            listens = false;
        }
    }
    let _ = rustix::process::pidfd_send_signal(&ends, Signal::KILL);
    Ok(None)
}

/// Whether a child that was killed is gone, after a moment.
fn is_gone(child: i32) -> bool {
    let Ok(ends) = pidfd(child) else { return true };
    let mut fds = [PollFd::new(&ends, PollFlags::IN)];
    let gone = poll(&mut fds, Some(&time(GOING))).is_ok_and(|ready| ready > 0);
    gone && process::wait_for(child).is_ok()
}

fn pidfd(child: i32) -> crate::sys::Result<OwnedFd> {
    use crate::sys::Context;
    let pid = Pid::from_raw(child).unwrap_or(Pid::INIT);
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).call(|| format!("pidfd_open({child}, 0)"))
}

fn time(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// PID 1 inherits every orphan and reaps it here; any other process has only this child.
fn wait(child: i32) -> crate::sys::Result<process::Ended> {
    if !rustix::process::getpid().is_init() {
        return process::wait_for(child);
    }
    loop {
        let (pid, ended) = process::reap()?;
        if pid == child {
            return Ok(ended);
        }
    }
}
