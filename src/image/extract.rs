//! The second pass, seen from the parent: a child that is confined, extracts, and answers over a pipe.
//!
//! Whatever an archive does to the code that reads it, it does it in the child (confine.rs). The parent
//! reads short messages, whose lengths it bounds, and how the child ended.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use super::confine::{Kept, above_standard};
use super::error::{Doing, Error, Result};
use super::limits::Limits;
use super::pipeline;
use super::progress::{Phase, Progress};
use super::signature::Verified;
use crate::sys::{Context, process};

/// The longest message, in bytes. Names in errors are cut to a line.
const MESSAGE_MAX: usize = 16 * 1024;

/// Whoever waits hears at least this often that it goes on.
const TICK: Duration = Duration::from_secs(1);

/// What was extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extracted {
    /// Entries of the archive, the root directory among them.
    pub entries: u64,
    /// Bytes of the archive after decompression.
    pub bytes: u64,
    /// Whether the kernel filtered the child's system calls. `false`: this kernel is built without
    /// seccomp, and the rest of the confinement had to do.
    pub filtered: bool,
}

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// Bytes of the archive that were read.
    Read(u64),
    /// Entries that were extracted.
    Made(u64),
    Done(Extracted),
    Failed(Error),
    /// Where a panic happened.
    Panicked(String),
}

/// Extracts a verified archive into an empty directory, whose own owner, mode and times become those of
/// the archive's root. Nothing is synced to the disk here.
///
/// Must be called as root, and while this process has one thread.
///
/// # Errors
/// Any of [`Error`]. Whatever of it is in the directory then is to be thrown away.
pub fn extract(
    verified: &Verified,
    into: BorrowedFd<'_>,
    limits: &Limits,
    progress: &mut dyn FnMut(Progress),
) -> Result<Extracted> {
    let starting = || "starting the process that extracts".to_owned();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)
        .call(|| "pipe2(O_CLOEXEC)".into())
        .doing(starting)?;
    let parent = rustix::process::getpid();
    let child = process::fork(|| {
        // What nobody waits for must not go on writing.
        match process::die_with(parent) {
            Ok(()) => child(verified, into, writer.as_fd(), limits),
            Err(_) => 4,
        }
    })
    .doing(starting)?;
    drop(writer);
    let total = verified.archive().length();
    let mut pipe = File::from(reader);
    let answer = listen(&mut pipe, total, TICK, progress);
    // A child that closed its pipe has ended or is about to; one that wrote rubbish must not linger.
    drop(pipe);
    let ended =
        process::wait_for(child).doing(|| "waiting for the process that extracts".into())?;
    let died = |how: String| Err(Error::Child { how });
    match (answer, ended) {
        (Some(Message::Failed(error)), _) => Err(error),
        (Some(Message::Panicked(place)), _) => died(format!("has a fault ({place})")),
        (_, process::Ended::Signal(signal)) => died(format!(
            "was ended by signal {signal}{}",
            match signal {
                libc::SIGSYS => ", for a system call that it may not make",
                libc::SIGKILL => ", perhaps for want of memory",
                _ => "",
            }
        )),
        (Some(Message::Done(extracted)), process::Ended::Exit(0)) => Ok(extracted),
        (_, process::Ended::Exit(status)) => {
            died(format!("ended with status {status} and said nothing"))
        }
    }
}

/// What the child says at its end. Meanwhile `progress` hears how far it is, with each of its messages
/// and whenever a tick passes without one.
fn listen(
    pipe: &mut File,
    total: u64,
    tick: Duration,
    progress: &mut dyn FnMut(Progress),
) -> Option<Message> {
    let mut answer = None;
    let mut now = Progress {
        phase: Phase::Extract,
        done: 0,
        total,
        made: 0,
    };
    loop {
        if is_quiet(pipe, tick) {
            progress(now);
            continue;
        }
        match receive(pipe) {
            None => return answer,
            Some(Message::Read(done)) => now.done = done,
            Some(Message::Made(made)) => now.made = made,
            Some(other) => {
                answer = answer.or(Some(other));
                continue;
            }
        }
        progress(now);
    }
}

/// Whether the child says nothing for so long. An error of the call shows when the pipe is read.
fn is_quiet(pipe: &File, tick: Duration) -> bool {
    let Ok(tick) = Timespec::try_from(tick) else {
        return false;
    };
    let mut pipes = [PollFd::new(pipe, PollFlags::IN)];
    matches!(poll(&mut pipes, Some(&tick)), Ok(0) | Err(Errno::INTR))
}

/// Runs in the child, to its end; the status it exits with.
fn child(verified: &Verified, into: BorrowedFd<'_>, pipe: BorrowedFd<'_>, limits: &Limits) -> i32 {
    let archive = verified.archive();
    let kept = || {
        Ok::<_, Error>(Kept {
            archive: above_standard(archive.file().as_fd())?,
            directory: above_standard(into)?,
            pipe: above_standard(pipe)?,
        })
    };
    let kept = match kept() {
        Ok(kept) => kept,
        Err(error) => return i32::from(!tell(pipe, &Message::Failed(error))),
    };
    let confined = kept.confine(limits);
    let Ok(hook) = kept.pipe.try_clone() else {
        return 3;
    };
    let hook = Mutex::new(hook);
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string);
        let pipe = hook.lock().unwrap_or_else(PoisonError::into_inner);
        tell(pipe.as_fd(), &Message::Panicked(place.unwrap_or_default()));
    }));
    let Kept {
        archive: file,
        directory,
        pipe,
    } = kept;
    let archive = archive.with(File::from(file));
    let extracted = confined.and_then(|filtered| {
        let seen = |read| {
            tell(pipe.as_fd(), &Message::Read(read));
        };
        let mut told = Instant::now();
        let mut made = |entries| {
            if told.elapsed() >= TICK {
                told = Instant::now();
                tell(pipe.as_fd(), &Message::Made(entries));
            }
        };
        let digest = verified.digest();
        let root = directory.as_fd();
        let written = pipeline::run(&archive, digest, root, limits, &seen, &mut made)?;
        Ok(Extracted {
            entries: written.entries,
            bytes: written.bytes,
            filtered,
        })
    });
    let answer = extracted.map_or_else(Message::Failed, Message::Done);
    i32::from(!tell(pipe.as_fd(), &answer))
}

/// Writes a message as its length and itself, in one call: short ones of several threads do not mix
/// (`PIPE_BUF`).
fn tell(pipe: BorrowedFd<'_>, message: &Message) -> bool {
    let Ok(body) = postcard::to_allocvec(message) else {
        return false;
    };
    let Ok(length) = u32::try_from(body.len()) else {
        return false;
    };
    let whole = [&length.to_le_bytes(), body.as_slice()].concat();
    let mut rest = whole.as_slice();
    while !rest.is_empty() {
        match rustix::io::write(pipe, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

/// The next message; `None` at the end, and for anything that is no message.
fn receive(pipe: &mut File) -> Option<Message> {
    let mut length = [0; 4];
    pipe.read_exact(&mut length).ok()?;
    let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
    if length > MESSAGE_MAX {
        return None;
    }
    let mut body = vec![0; length];
    pipe.read_exact(&mut body).ok()?;
    postcard::from_bytes(&body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_says_nothing_for_long_is_told_of_all_the_same() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let child = std::thread::spawn(move || {
            tell(writer.as_fd(), &Message::Read(7));
            tell(writer.as_fd(), &Message::Made(3));
            std::thread::sleep(Duration::from_millis(300));
            tell(writer.as_fd(), &Message::Panicked("here".into()));
        });
        let mut told = Vec::new();
        let tick = Duration::from_millis(20);
        let answer = listen(&mut File::from(reader), 9, tick, &mut |now| told.push(now));
        child.join().unwrap();
        assert!(matches!(answer, Some(Message::Panicked(_))));
        assert!(told.len() > 5, "{told:?}");
        let last = told.last().unwrap();
        assert_eq!((last.done, last.total, last.made), (7, 9, 3));
    }
}
