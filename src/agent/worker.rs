//! A worker as its parent sees it: a child that answers over a pipe, as PID 1's with an
//! [`End`](super::pid1::End).

use std::io::{Read, Write};

use rustix::pipe::{PipeFlags, pipe_with};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::pid1::WorkerMode;
use crate::sys::process;

/// The longest answer, in bytes. A pipe holds 64 KiB, so the worker never blocks on a PID 1 that reads
/// only after the worker has ended.
const ANSWER_MAX: usize = 32 * 1024;

/// Runs `work(mode)` in a child to its end, reaping whatever else ends meanwhile.
///
/// # Errors
/// For people: how the child died, or that its answer cannot be read.
pub fn run<Answer: Serialize + DeserializeOwned>(
    mode: WorkerMode,
    work: impl FnOnce(WorkerMode) -> Answer,
) -> Result<Answer, String> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(|errno| format!("the worker could not be started: pipe2(): {errno}"))?;
    let child = process::fork(move || {
        let Ok(answer) = postcard::to_allocvec(&work(mode)) else {
            return 2;
        };
        if answer.len() > ANSWER_MAX {
            return 3;
        }
        let mut writer = std::fs::File::from(writer);
        if writer.write_all(&answer).is_ok() {
            0
        } else {
            4
        }
    })
    .map_err(|error| format!("the worker could not be started: {error}"))?;
    super::log::forked();
    let ended = wait(child).map_err(|error| format!("the worker was lost: {error}"))?;
    if ended != process::Ended::Exit(0) {
        return Err(format!("the worker ({mode:?}) failed: {ended}"));
    }
    let mut answer = Vec::new();
    // An orphan may hold the writing end: what is there is read, nothing is waited for.
    let _ = std::fs::File::from(reader)
        .take(ANSWER_MAX as u64)
        .read_to_end(&mut answer);
    postcard::from_bytes(&answer)
        .map_err(|error| format!("the worker ({mode:?}) gave no answer that can be read: {error}"))
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
