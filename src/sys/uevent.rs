//! The kernel's device events: a `NETLINK_KOBJECT_UEVENT` socket.
//!
//! Only messages from the kernel are listened to (group 1; udev's own are group 2). A lost event
//! (`ENOBUFS`) is reported as [`Event::Lost`]: the caller scans again.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use super::{Context, Result};

/// The kernel's multicast group (`1`, see lib/kobject_uevent.c); udev's re-sent events are group 2.
const GROUP_KERNEL: u32 = 1;
/// Larger than any event: UEVENT_BUFFER_SIZE is 2048 bytes, the header one path.
const BUFFER: usize = 16 * 1024;

/// One message from the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A device came, went or changed.
    Device(Device),
    /// Events were dropped because the socket's buffer was full.
    Lost,
}

/// The contents of a device event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// `add`, `change`, `remove`, `bind`, …
    pub action: String,
    /// The path below `/sys`.
    pub devpath: String,
    /// All `KEY=value` pairs: `SUBSYSTEM`, `MODALIAS`, `DEVNAME`, `MAJOR`, …
    pub env: BTreeMap<String, String>,
}

/// Parses one message: `action@devpath`, then `KEY=value`, separated by NUL. `None`: not a kernel event.
pub fn parse(message: &[u8]) -> Option<Device> {
    let mut fields = message.split(|b| *b == 0);
    let header = std::str::from_utf8(fields.next()?).ok()?;
    let (action, devpath) = header.split_once('@')?;
    let env = fields
        .filter_map(|field| std::str::from_utf8(field).ok()?.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    Some(Device {
        action: action.to_owned(),
        devpath: devpath.to_owned(),
        env,
    })
}

/// A subscription to the kernel's device events, from the moment it was made.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Subscribes.
    ///
    /// # Errors
    /// `EPERM` in a user namespace that is not the first; `EMFILE`, `ENOBUFS`.
    pub fn open() -> Result<Self> {
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(KOBJECT_UEVENT),
        )
        .call(|| "socket(AF_NETLINK, NETLINK_KOBJECT_UEVENT)".into())?;
        bind(&fd, &SocketAddrNetlink::new(0, GROUP_KERNEL))
            .call(|| "bind(AF_NETLINK, group 1)".into())?;
        Ok(Self { fd })
    }

    /// The next event, waiting at most `limit`. `None`: none came in that time.
    ///
    /// # Errors
    /// What poll(2) and recv(2) say, but `EINTR` and `ENOBUFS`.
    pub fn next(&self, limit: Duration) -> Result<Option<Event>> {
        let until = std::time::Instant::now() + limit;
        let mut buffer = vec![0_u8; BUFFER];
        loop {
            match recv(&self.fd, &mut buffer[..], RecvFlags::empty()) {
                Ok((bytes, _)) => {
                    if let Some(device) = buffer.get(..bytes).and_then(parse) {
                        return Ok(Some(Event::Device(device)));
                    }
                    continue;
                }
                Err(Errno::NOBUFS) => return Ok(Some(Event::Lost)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno).call(|| "recv(uevent socket)".into()),
            }
            let left = until.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut fds = [PollFd::from_borrowed_fd(self.fd.as_fd(), PollFlags::IN)];
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).call(|| "poll(uevent socket)".into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_header_and_its_pairs() {
        let message = b"add@/devices/virtio1/block/vda\0ACTION=add\0SUBSYSTEM=block\0DEVNAME=vda\0";
        let device = parse(message).unwrap();
        assert_eq!(
            (device.action.as_str(), device.devpath.as_str()),
            ("add", "/devices/virtio1/block/vda")
        );
        assert_eq!(
            device.env.get("SUBSYSTEM").map(String::as_str),
            Some("block")
        );
        assert_eq!(device.env.len(), 3);
    }

    #[test]
    fn what_is_no_kernel_event_is_not_taken_for_one() {
        for message in [&b"libudev\0\xfe\xed\xca\xfe"[..], b"", b"\0\0", b"\xff@x\0"] {
            assert_eq!(parse(message), None, "{message:?}");
        }
    }
}
