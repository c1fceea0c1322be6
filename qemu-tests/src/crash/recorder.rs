//! A FUSE file system with one file: a disk in memory that records what is written to it.
//!
//! A loop device lies over the file. Every request that reaches it is one that the block layer sent:
//! the file is opened for direct I/O, so that no page cache holds or joins writes; a flush of the
//! device becomes an fsync of the file; the device has no FUA, which becomes a write and a flush. One
//! thread answers, so the record has one order, and a write is in it before it is acknowledged.
//!
//! Discards are refused: the device says that it has none.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, Session, WriteFlags,
};

use super::disk::{Disk, PAGE};
use super::recording::Event;

/// What the file's name begins with; the number of the process that serves it follows.
pub const PREFIX: &str = "backstay-crash-";

/// The file's name: what `losetup` shows when everything else about a killed run is gone.
#[must_use]
pub fn name() -> String {
    format!("{PREFIX}{}", std::process::id())
}

const FILE: INodeNo = INodeNo(2);
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// The disk that a [`Recorder`] serves; copies are the same one.
#[derive(Clone, Debug)]
pub struct Medium(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    disk: Disk,
    events: Option<Vec<Event>>,
    /// Writes that are still taken; `None`: all.
    writes_left: Option<u64>,
    /// The next one after these is done and said to have failed, and all after it are taken.
    unsure: bool,
}

impl Medium {
    /// Serves this disk.
    #[must_use]
    pub fn new(disk: Disk) -> Self {
        Self(Arc::new(Mutex::new(State {
            disk,
            events: None,
            writes_left: None,
            unsure: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another disk in; nothing may be mounted from the old one.
    pub fn insert(&self, disk: Disk) {
        self.state().disk = disk;
    }

    /// The disk as it is now.
    #[must_use]
    pub fn disk(&self) -> Disk {
        self.state().disk.clone()
    }

    /// Begins a record.
    pub fn record(&self) {
        self.state().events = Some(Vec::new());
    }

    /// Ends the record and returns it.
    #[must_use]
    pub fn recorded(&self) -> Vec<Event> {
        self.state().events.take().unwrap_or_default()
    }

    /// From now on this many writes succeed, and every later one fails with EIO; `None`: none fails.
    pub fn fail_writes_after(&self, writes: Option<u64>) {
        let mut state = self.state();
        (state.writes_left, state.unsure) = (writes, false);
    }

    /// The write after so many is done, and said to have failed.
    pub fn deny_write_after(&self, writes: u64) {
        let mut state = self.state();
        (state.writes_left, state.unsure) = (Some(writes), true);
    }
}

/// The mounted file system; it goes away with this.
#[derive(Debug)]
pub struct Recorder(#[allow(dead_code)] BackgroundSession);

impl Recorder {
    /// Mounts it on the directory `at`.
    ///
    /// # Errors
    /// Where FUSE is missing or not permitted.
    pub fn mount(medium: &Medium, at: &Path) -> std::io::Result<Self> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("backstay-crash".into())];
        let size = medium.state().disk.size();
        let served = Served {
            medium: medium.clone(),
            size,
        };
        Ok(Self(Session::new(served, at, &config)?.spawn()?))
    }
}

struct Served {
    medium: Medium,
    size: u64,
}

impl Served {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let file = inode == FILE;
        FileAttr {
            ino: inode,
            size: if file { self.size } else { 0 },
            blocks: if file { self.size / 512 } else { 0 },
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if file {
                FileType::RegularFile
            } else {
                FileType::Directory
            },
            perm: if file { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: PAGE as u32,
            flags: 0,
        }
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == self::name().as_str() {
            reply.entry(&FOREVER, &self.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let length = u64::from(size).min(self.size.saturating_sub(offset));
        let mut bytes = vec![0; length as usize];
        self.medium.state().disk.read(offset, &mut bytes);
        reply.data(&bytes);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.medium.state();
        match state.writes_left {
            Some(0) if state.unsure => {
                state.disk.write(offset, bytes);
                state.writes_left = None;
                return reply.error(Errno::EIO);
            }
            Some(0) => return reply.error(Errno::EIO),
            Some(left) => state.writes_left = Some(left - 1),
            None => {}
        }
        state.disk.write(offset, bytes);
        if let Some(events) = &mut state.events {
            events.push(Event::Write {
                offset,
                bytes: bytes.into(),
            });
        }
        drop(state);
        reply.written(bytes.len() as u32);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        if let Some(events) = &mut self.medium.state().events {
            events.push(Event::Flush);
        }
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
