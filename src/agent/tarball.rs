//! The default tarball: in the store, or on another file system that the command line names.
//!
//! Another file system is mounted read-only, without replaying its journal, and only as long as it is
//! read from. The tarball is opened once: what was verified is what is extracted.

use super::block::Places;
use super::device;
use super::modules::Modules;
use super::mount;
use super::policy;
use super::session::Session;
use crate::image::signature::SIGNATURE_MAX;
use crate::image::{Archive, Keys, Meter, Progress, Trust, Verified, verify};
use crate::say;
use crate::store::btrfs::Btrfs;
use crate::store::btrfs::path::{DIRECTORY, names, open, split};
use crate::store::place::STORE;
use crate::sys::mount::{self as sys_mount, MountFlags};
use crate::sys::{self, Context};
use kernel_cmdline::Device;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use thiserror::Error;

/// Where another file system is mounted.
const AT: &str = "/tarball";
/// How long its device is waited for: a person plugged it in before.
const WAIT: Duration = Duration::from_secs(30);
/// A progress line in this time: at 9600 baud a line takes a twentieth of a second.
const EVERY: Duration = Duration::from_secs(5);

/// It is not used.
#[derive(Debug, Error)]
pub enum Unusable {
    /// There is none.
    #[error(
        "there is no default tarball: put one into {STORE}/factory.tar.zst with its .minisig, or name \
         one by backstay.tarball=LABEL=NAME:/PATH"
    )]
    None,
    /// The device never came, or its name fits several.
    #[error("the default tarball's device: {0}")]
    Device(#[from] device::Error),
    /// Two disks answer to the name.
    #[error("two disks answer to {0}: detach one, or name the device by its path")]
    Copied(String),
    /// Nothing is known there that could be mounted.
    #[error("{0} holds no file system that is read here: use FAT, ext4, ISO 9660 or btrfs")]
    FileSystem(String),
    /// The kernel cannot mount it.
    #[error(
        "this kernel has no driver for {0}: use FAT, ext4 or btrfs, or another recovery kernel"
    )]
    NoDriver(&'static str),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] sys::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// It has no signature, and the policy wants one.
    #[error(
        "{0} has no signature ({0}.minisig): sign it with minisign, or allow unsigned tarballs in \
         /etc/backstay/policy.toml and rebuild the recovery kernel"
    )]
    Unsigned(String),
    /// Nobody could say whose a signature is.
    #[error(
        "no public key is in this recovery kernel, so no signature can be checked: put the vendor's .pub file \
         into {keys} of the system and run 'backstay recovery install'", keys = policy::KEYS
    )]
    NoKeys,
    /// The other file system has no such file.
    #[error("{device} has no {path}: correct the name in backstay.tarball={there}")]
    Missing {
        /// The device as the command line names it.
        device: String,
        /// The path on it.
        path: String,
        /// What lies in the same directory.
        there: String,
    },
    /// A link that cannot be followed.
    #[error("{path} on {device} is a link that {leads}: name the file itself in backstay.tarball=")]
    Link {
        /// The device as the command line names it.
        device: String,
        /// The path on it.
        path: String,
        /// Where to.
        leads: &'static str,
    },
    /// Something that is read otherwise.
    #[error("{path} on {device} is {kind} and not a file: {remedy}")]
    Kind {
        /// The device as the command line names it.
        device: String,
        /// The path on it.
        path: String,
        /// What it is.
        kind: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// It, or its signature, is not what it must be.
    #[error(transparent)]
    Image(crate::image::Error),
    /// It would not fit.
    #[error(
        "the system in {name} needs {needed} MB and {free} MB are free: remove something from the \
         running system, and ask again"
    )]
    NoRoom {
        /// The tarball.
        name: String,
        /// Megabytes that it needs.
        needed: u64,
        /// Megabytes that there are.
        free: u64,
    },
}

impl From<crate::image::Error> for Unusable {
    fn from(error: crate::image::Error) -> Unusable {
        match error {
            crate::image::Error::NoKeys => Unusable::NoKeys,
            other => Unusable::Image(other),
        }
    }
}

/// An opened tarball, with the text of its signature.
struct Found {
    archive: Archive,
    signature: Option<String>,
}

/// Finds the tarball and verifies it; `named` is the value of `backstay.tarball=`. Writes nothing.
pub fn verified(session: &Session, named: Option<&str>) -> Result<Verified, Unusable> {
    let found = match named {
        Some(named) => elsewhere(session, named),
        None => in_store(&session.store),
    };
    // What is mounted for it stays until [`release`].
    let found = found?;
    let name = found.archive.name().to_owned();
    say!("verifying {name}");
    let keys = Keys::read(Path::new(policy::KEYS), &mut |error| {
        say!("{error}: it is left out");
    })?;
    let unsigned = policy::of_initramfs().tarball.unsigned;
    let Some(trust) = Trust::of(&keys, found.signature.as_deref(), unsigned) else {
        return Err(Unusable::Unsigned(name));
    };
    let mut meter = Meter::new(EVERY);
    let verified = verify(found.archive, &trust, &mut |progress| {
        tell(&mut meter, progress)
    })?;
    match verified.signer() {
        Some(key) => say!("its signature is good: key {key}"),
        None => say!("it is NOT signed; the policy of this machine allows that"),
    }
    room(session, &verified)?;
    Ok(verified)
}

/// Says how far it is, now and then.
pub fn teller() -> impl FnMut(Progress) {
    let mut meter = Meter::new(EVERY);
    move |progress| tell(&mut meter, progress)
}

fn tell(meter: &mut Meter, progress: Progress) {
    if let Some(line) = meter.line(&progress) {
        say!("{line}");
    }
}

/// Unmounts where it came from.
pub fn release() {
    mount::clear(Path::new(AT));
}

fn room(session: &Session, verified: &Verified) -> Result<(), Unusable> {
    let (needed, free) = (verified.room(), session.store.space()?.available);
    if free < needed {
        return Err(Unusable::NoRoom {
            name: verified.name().to_owned(),
            needed: needed / 1_000_000,
            free: free / 1_000_000,
        });
    }
    Ok(())
}

fn in_store(store: &Btrfs) -> Result<Found, Unusable> {
    let name = store.tarball_name()?.ok_or(Unusable::None)?;
    let file = File::from(store.open_in_store(name)?);
    let archive = Archive::from_file(file, format!("{STORE}/{name}"))?;
    let signature = store.read_in_store(&format!("{name}.minisig"))?;
    Ok(Found { archive, signature })
}

/// From another file system: `SOURCE:/PATH`.
fn elsewhere(session: &Session, named: &str) -> Result<Found, Unusable> {
    let (source, path) = named.split_once(":/").ok_or(Unusable::None)?;
    let places = Places {
        drives: true,
        ..Places::default()
    };
    let mut modules = Modules::of_running_kernel();
    say!("looking for the default tarball on {source}");
    let found = device::wait(Device::new(source), Some(WAIT), &places, &mut modules)?;
    if found.is_copied() {
        return Err(Unusable::Copied(source.to_owned()));
    }
    let Some(device) = found.devices.first() else {
        return Err(Unusable::FileSystem(source.to_owned()));
    };
    let fs = device.content.fs_type();
    let fs = fs.ok_or_else(|| Unusable::FileSystem(device.path.display().to_string()))?;
    for module in needed_modules(fs) {
        modules.load(module);
    }
    let at = Path::new(AT);
    mount::clear(at);
    match std::fs::create_dir(at) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(sys::Error::from_io(format!("mkdir({AT:?})"), &error).into());
        }
        _ => {}
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let source = device.path.display().to_string();
    let own = session.is_on(&found);
    match sys_mount::mount(&source, at, fs, flags, options(fs, own)) {
        Err(error) if error.errno == Errno::NODEV => return Err(Unusable::NoDriver(fs)),
        mounted => mounted?,
    }
    let top = rustix::fs::open(at, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let top = top.call(|| format!("open({AT:?})"))?;
    let other = Other {
        top,
        name: named.split_once(":/").map_or(named, |(name, _)| name),
    };
    let archive = other.open(path, "name the tarball in backstay.tarball=")?;
    let archive = Archive::from_file(archive, named.to_owned())?;
    let beside = format!("{path}.minisig");
    let signature = match other.open(&beside, "replace it by the .minisig file of the tarball") {
        Ok(file) => Some(text(file)?),
        Err(Unusable::Missing { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(Found { archive, signature })
}

/// The other file system, mounted.
struct Other<'a> {
    top: OwnedFd,
    /// As the command line has it.
    name: &'a str,
}

impl Other<'_> {
    /// Opens a regular file. Links lead to something on the same file system, or nowhere.
    fn open(&self, path: &str, remedy: &'static str) -> Result<File, Unusable> {
        let look = sys_mount::open_in_root(self.top.as_fd(), Path::new(path));
        let look = look.map_err(|error| self.not_there(path, error))?;
        let status = rustix::fs::fstat(&look).call(|| format!("fstat({path:?})"))?;
        let kind = match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => None,
            FileType::Directory => Some("a directory"),
            FileType::Fifo => Some("a FIFO"),
            FileType::Socket => Some("a socket"),
            _ => Some("a device"),
        };
        if let Some(kind) = kind {
            return Err(Unusable::Kind {
                device: self.name.to_owned(),
                path: shown(path),
                kind,
                remedy,
            });
        }
        // What was looked at is what is opened.
        let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&look));
        let file = rustix::fs::open(&again, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        Ok(File::from(file.call(|| format!("open({path:?})"))?))
    }

    fn not_there(&self, path: &str, error: sys::Error) -> Unusable {
        let (device, shown) = (self.name.to_owned(), shown(path));
        let link = |leads| Unusable::Link {
            device: self.name.to_owned(),
            path: shown.clone(),
            leads,
        };
        match error.errno {
            Errno::LOOP => link("leads back to itself"),
            Errno::NOENT | Errno::NOTDIR if self.is_link(path) => link("leads nowhere"),
            Errno::NOENT | Errno::NOTDIR => Unusable::Missing {
                there: self.beside(path),
                device,
                path: shown,
            },
            _ => error.into(),
        }
    }

    fn directory_of<'p>(&self, path: &'p str) -> sys::Result<(OwnedFd, &'p str)> {
        let (directory, name) = split(path);
        let directory = sys_mount::open_in_root(self.top.as_fd(), Path::new(directory))?;
        Ok((directory, name))
    }

    fn is_link(&self, path: &str) -> bool {
        self.directory_of(path).is_ok_and(|(directory, name)| {
            let status = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
            status.is_ok_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::Symlink)
        })
    }

    /// What lies where a file was looked for, as the end of a message; nothing where that is not known.
    fn beside(&self, path: &str) -> String {
        const MOST: usize = 8;
        let list = || names(open(self.directory_of(path)?.0, "", DIRECTORY)?);
        match list() {
            Ok(names) if names.is_empty() => "; that directory is empty".to_owned(),
            Ok(names) => {
                let more = if names.len() > MOST { ", ..." } else { "" };
                let names: Vec<String> = names.into_iter().take(MOST).collect();
                format!("; there are: {}{more}", names.join(", "))
            }
            Err(_) => String::new(),
        }
    }
}

/// A path as the command line has it.
fn shown(path: &str) -> String {
    format!("/{}", path.trim_start_matches('/'))
}

/// What is longer than a signature is cut, and then is none.
fn text(file: File) -> sys::Result<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = file.take(SIGNATURE_MAX).read_to_end(&mut bytes);
    read.call(|| "read(signature)".to_owned())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The modules of a file system; what is built in is not there.
fn needed_modules(fs: &str) -> &'static [&'static str] {
    match fs {
        "vfat" => &[
            "vfat",
            "nls_cp437",
            "nls_ascii",
            "nls_iso8859_1",
            "nls_utf8",
        ],
        "iso9660" => &["isofs"],
        "ext4" => &["ext4"],
        _ => &["btrfs"],
    }
}

/// Options under which a read-only mount writes nothing. The store's own file system is mounted
/// already, and could not be made writable while it is mounted in another way.
fn options(fs: &str, own: bool) -> &'static str {
    match fs {
        "ext4" => "noload",
        "btrfs" if own => "subvolid=5",
        "btrfs" => "rescue=nologreplay,subvolid=5",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn keys_that_are_missing_are_told_where_they_belong() {
        let text = Unusable::from(crate::image::Error::NoKeys).to_string();
        assert!(text.contains("into /etc/backstay/keys"), "{text}");
        assert!(text.ends_with("run 'backstay recovery install'"), "{text}");
    }

    #[test]
    fn what_is_no_file_on_another_file_system_is_named_with_the_way_out() {
        let here = tempfile::tempdir().unwrap();
        let at = |name: &str| here.path().join(name);
        std::fs::create_dir_all(at("images/factory.tar.minisig")).unwrap();
        std::fs::write(at("images/factory.tar"), "x").unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("/images/factory.tar", at("good")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let top = rustix::fs::open(here.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
        let other = Other {
            top,
            name: "LABEL=RECOVERY",
        };
        assert!(other.open("good", "").is_ok());
        for (path, words) in [
            (
                "images/up",
                "LABEL=RECOVERY has no /images/up: correct the name in backstay.tarball=; there are: \
                 factory.tar, factory.tar.minisig",
            ),
            ("up/up", "LABEL=RECOVERY has no /up/up: correct"),
            ("images/factory.tar/up", "LABEL=RECOVERY has no"),
            (
                "dangling",
                "/dangling on LABEL=RECOVERY is a link that leads nowhere",
            ),
            ("loop", "is a link that leads back to itself: name the file"),
            ("fifo", "is a FIFO and not a file: name another"),
            (
                "images",
                "/images on LABEL=RECOVERY is a directory and not a file",
            ),
            (
                "images/factory.tar.minisig",
                "is a directory and not a file: name another",
            ),
        ] {
            let error = other.open(path, "name another").unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("/proc") && !error.contains('\n'), "{error}");
        }
    }
}
