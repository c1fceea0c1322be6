//! Finding the file system that `root=` names, and waiting for it.
//!
//! A btrfs file system may lie on several devices: they share its UUID and differ in their own. Two
//! devices that are equal in both are a copied disk. Which of the two the kernel would mount is chance,
//! so the caller is told ([`Found::copies`]) and must refuse whatever changes or destroys.

use std::path::Path;
use std::time::{Duration, Instant};

use kernel_cmdline::{Boot, Device as Name};

use super::block::{self, Device, Places};
use super::modules::{Loader, Modules};
use crate::say;
use crate::sys::probe::{Content, Uuid};
use crate::sys::uevent::{Event, Socket};

/// How long a device is waited for where the command line says nothing, as in initramfs-tools.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// How often the person at the console is told what is waited for.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What was found under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The devices to mount from, one for each member of the file system, sorted by path.
    pub devices: Vec<Device>,
    /// Further devices that claim to be one of `devices`: a copied disk. Destructive work is refused
    /// while there are any. As of this look: a slow disk may still come, so look again ([`find`]) right
    /// before such work.
    pub copies: Vec<Device>,
    /// How many members are missing.
    pub missing: u64,
}

impl Found {
    /// True where the same file system was found twice.
    pub fn is_copied(&self) -> bool {
        !self.copies.is_empty()
    }

    /// True where a member of the file system is not there.
    pub fn lacks_a_device(&self) -> bool {
        self.missing > 0
    }

    /// The paths of the devices, as mounting wants them.
    pub fn paths(&self) -> Vec<std::path::PathBuf> {
        self.devices
            .iter()
            .map(|device| device.path.clone())
            .collect()
    }

    /// The file system's UUID.
    pub fn uuid(&self) -> Option<Uuid> {
        self.devices.first()?.content.uuid()
    }

    /// True if the btrfs superblock of any member has something to replay: any mount but one without
    /// log replay would write.
    pub fn has_log(&self) -> bool {
        self.devices
            .iter()
            .any(|device| matches!(&device.content, Content::Btrfs(sb) if sb.log_root != 0))
    }
}

/// Why no file system was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It never came.
    #[error("{name} did not appear within {seconds} seconds; there are: {present}")]
    NotFound {
        /// As the command line has it.
        name: String,
        /// How long it was waited for.
        seconds: u64,
        /// The devices that are there, for the person who has to find out.
        present: String,
    },
    /// Several different file systems answer to it.
    #[error("{name} fits several file systems: {which}; name one by UUID=")]
    Ambiguous {
        /// As the command line has it.
        name: String,
        /// Their devices.
        which: String,
    },
    /// Not a name that is known here.
    #[error(
        "{0} is not a device that is known here: use UUID=, LABEL=, PARTUUID=, PARTLABEL= or /dev/..."
    )]
    Unknown(String),
}

/// How long to wait: `rootwait` for ever, `rootwait=N` N seconds, else `rootdelay=N` but at least
/// [`WAIT_DEFAULT`]. `None`: for ever.
pub fn limit(boot: &Boot<'_>) -> Option<Duration> {
    match (boot.rootwait, boot.rootwait_seconds, boot.rootdelay) {
        (_, Some(seconds), _) => Some(Duration::from_secs(seconds.into())),
        (true, None, _) => None,
        (false, None, Some(seconds)) => Some(WAIT_DEFAULT.max(Duration::from_secs(seconds.into()))),
        (false, None, None) => Some(WAIT_DEFAULT),
    }
}

/// Looks once. `Ok(None)`: nothing answers to the name, or not all its members are there.
///
/// # Errors
/// [`Error::Ambiguous`], [`Error::Unknown`].
pub fn find(name: Name<'_>, places: &Places) -> Result<Option<Found>, Error> {
    select(name, &block::list(places))
}

/// Waits until all members of the named file system are there, loading the drivers of devices that
/// appear meanwhile. On the console it is said every ten seconds what is waited for. When time is up,
/// what is there of an incomplete file system is returned with [`Found::missing`] above 0.
///
/// # Errors
/// All of [`Error`].
pub fn wait<L: Loader>(
    name: Name<'_>,
    limit: Option<Duration>,
    places: &Places,
    modules: &mut Modules<L>,
) -> Result<Found, Error> {
    // Subscribed before the first look: what comes in between is not missed.
    let socket = Socket::open()
        .map_err(|error| log::warn!("{error}; looking again each second"))
        .ok();
    let start = Instant::now();
    let mut told = start;
    loop {
        let found = find(name, places)?;
        if let Some(found) = found.as_ref().filter(|found| found.missing == 0) {
            return Ok(found.clone());
        }
        let spent = start.elapsed();
        if let Some(limit) = limit.filter(|limit| spent >= *limit) {
            if let Some(found) = &found {
                say!(
                    "{} of the devices of {} did not appear",
                    found.missing,
                    shown(name)
                );
            }
            return found.ok_or_else(|| not_found(name, limit, places));
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tell(name, found.as_ref(), spent, limit);
        }
        let left = limit.map_or(TELL_EVERY, |limit| limit.saturating_sub(spent));
        pause(socket.as_ref(), left, modules);
    }
}

/// Waits for a block device, or for one second: drivers also bring devices without an event that is
/// seen here, and a full socket drops some.
fn pause<L: Loader>(socket: Option<&Socket>, left: Duration, modules: &mut Modules<L>) {
    let step = left.min(Duration::from_secs(1));
    let Some(socket) = socket else {
        std::thread::sleep(step);
        return;
    };
    let until = Instant::now() + step;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let event = match socket.next(left) {
            Ok(Some(Event::Device(device))) => device,
            Ok(Some(Event::Lost) | None) => return,
            Err(error) => {
                log::warn!("{error}");
                std::thread::sleep(left);
                return;
            }
        };
        if let Some(alias) = event.env.get("MODALIAS") {
            modules.load(alias);
        }
        if event
            .env
            .get("SUBSYSTEM")
            .is_some_and(|subsystem| subsystem == "block")
        {
            return;
        }
    }
}

fn tell(name: Name<'_>, found: Option<&Found>, spent: Duration, limit: Option<Duration>) {
    let more = found.map_or(String::new(), |found| {
        format!("{} more of the devices of ", found.missing)
    });
    let limit = limit.map_or("without a limit".to_owned(), |limit| {
        format!("at most {}", limit.as_secs())
    });
    say!(
        "waiting for {more}{} since {} seconds, {limit}",
        shown(name),
        spent.as_secs()
    );
}

fn not_found(name: Name<'_>, limit: Duration, places: &Places) -> Error {
    let present: Vec<String> = block::list(places).iter().map(with_names).collect();
    let present = if present.is_empty() {
        "no block devices at all".into()
    } else {
        present.join(", ")
    };
    Error::NotFound {
        name: shown(name),
        seconds: limit.as_secs(),
        present,
    }
}

/// A device with the names of its file system that a command line could have.
fn with_names(device: &Device) -> String {
    let uuid = device.content.id().map(|id| format!("UUID={id}"));
    let label = device.content.label().map(|label| format!("LABEL={label}"));
    let names: Vec<String> = uuid.into_iter().chain(label).collect();
    let path = device.path.display();
    match names.is_empty() {
        true => path.to_string(),
        false => format!("{path} ({})", names.join(", ")),
    }
}

/// A name as the command line has it.
pub fn shown(name: Name<'_>) -> String {
    match name {
        Name::Uuid(value) => format!("UUID={value}"),
        Name::Label(value) => format!("LABEL={value}"),
        Name::PartUuid(value) => format!("PARTUUID={value}"),
        Name::PartLabel(value) => format!("PARTLABEL={value}"),
        Name::Path(value) | Name::Other(value) => value.to_owned(),
    }
}

fn select(name: Name<'_>, all: &[Device]) -> Result<Option<Found>, Error> {
    if matches!(name, Name::Other(_)) {
        return Err(Error::Unknown(shown(name)));
    }
    let named: Vec<&Device> = all.iter().filter(|device| answers(name, device)).collect();
    let Some(first) = named.first() else {
        return Ok(None);
    };
    let Some(uuid) = first.content.uuid() else {
        // Nothing to tell members by: one device is itself, several are a question.
        if named.len() > 1 {
            return Err(ambiguous(name, &named));
        }
        return Ok(Some(Found {
            devices: vec![(*first).clone()],
            copies: Vec::new(),
            missing: 0,
        }));
    };
    if named
        .iter()
        .any(|device| device.content.uuid() != Some(uuid))
    {
        return Err(ambiguous(name, &named));
    }
    // All members of the file system, also those that the name does not fit (a path names only one).
    let members = all
        .iter()
        .filter(|device| device.content.uuid() == Some(uuid));
    Ok(Some(group(first, members)))
}

/// Sorts members and copies of members apart; `first` (which was named) is always a member.
fn group<'a>(first: &Device, members: impl Iterator<Item = &'a Device>) -> Found {
    let mut devices = vec![first.clone()];
    let mut copies = Vec::new();
    for device in members.filter(|device| device.path != first.path) {
        if devices.iter().any(|known| is_copy(known, device)) {
            copies.push(device.clone());
        } else {
            devices.push(device.clone());
        }
    }
    let wanted = match &first.content {
        Content::Btrfs(sb) => sb.num_devices,
        _ => 1,
    };
    let missing = wanted.saturating_sub(devices.len() as u64);
    devices.sort_by(|a, b| a.path.cmp(&b.path));
    Found {
        devices,
        copies,
        missing,
    }
}

/// Two members of one btrfs have neither number nor UUID in common; other file systems have one member.
fn is_copy(a: &Device, b: &Device) -> bool {
    match (&a.content, &b.content) {
        (Content::Btrfs(a), Content::Btrfs(b)) => {
            a.devid == b.devid || a.device_uuid == b.device_uuid
        }
        _ => true,
    }
}

pub(super) fn answers(name: Name<'_>, device: &Device) -> bool {
    let same = |value: Option<&str>, wanted: &str| {
        value.is_some_and(|value| value.eq_ignore_ascii_case(wanted))
    };
    match name {
        Name::Uuid(wanted) => same(device.content.id().as_deref(), wanted),
        Name::Label(wanted) => device.content.label() == Some(wanted),
        Name::PartUuid(wanted) => same(device.partition.uuid.as_deref(), wanted),
        Name::PartLabel(wanted) => device.partition.label.as_deref() == Some(wanted),
        // Where udev runs, a path may be a link of its: /dev/mapper/NAME, /dev/disk/by-uuid/UUID.
        Name::Path(wanted) => {
            let real = std::fs::canonicalize(wanted);
            device.path == Path::new(wanted) || real.is_ok_and(|real| real == device.path)
        }
        Name::Other(_) => false,
    }
}

fn ambiguous(name: Name<'_>, devices: &[&Device]) -> Error {
    let which: Vec<String> = devices
        .iter()
        .map(|d| d.path.display().to_string())
        .collect();
    Error::Ambiguous {
        name: shown(name),
        which: which.join(", "),
    }
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
