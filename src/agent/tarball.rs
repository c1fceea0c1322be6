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
use crate::store::place::STORE;
use crate::sys::mount::{self as sys_mount, MountFlags};
use crate::sys::{self, Context};
use kernel_cmdline::Device;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsFd;
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
    /// It, or its signature, is not what it must be.
    #[error(transparent)]
    Image(#[from] crate::image::Error),
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
    let open = |path: &str| -> sys::Result<File> {
        // Links on it lead to something on it, or nowhere; a FIFO must not stop us.
        let look = sys_mount::open_in_root(top.as_fd(), Path::new(path))?;
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&look));
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = rustix::fs::open(&path, flags, Mode::empty());
        Ok(File::from(file.call(|| format!("open({path:?})"))?))
    };
    let archive = Archive::from_file(open(path)?, named.to_owned())?;
    let signature = match open(&format!("{path}.minisig")) {
        Ok(file) => Some(text(file)?),
        Err(error) if error.errno == Errno::NOENT => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Found { archive, signature })
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
