//! `backstay factory build` and `backstay factory keep`: the factory snapshot from an archive, and the
//! archive as the default tarball of the store.
//!
//! Building is a transaction: what is live is not touched, and a power cut leaves the old factory
//! snapshot or the new one, the rest being undone or finished by the next start or command. Keeping
//! writes the new files of archive and signature, then gives them their names, the signature first: a
//! cut in between leaves an archive that its signature does not fit, which is refused, and the same
//! command once more mends that.

use super::cli::{Archived, Build};
use super::error::{Error, Result};
use super::files::{place_of_new, replace};
use super::output::size;
use super::request;
use crate::image::fill::fill;
use crate::image::{Archive, Form, Keys, Meter, Progress, Trust, Verified, verify};
use crate::policy::Health;
use crate::policy::intent::Intent;
use crate::record::manifest::Manifest;
use crate::store::Store;
use crate::store::btrfs::{Btrfs, TARBALLS};
use crate::store::place::{STORE, Set};
use crate::transaction::plan::{Step, plan};
use crate::transaction::records::Records;
use crate::transaction::{catalogue, execute};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A person hears how far it is this often.
const EVERY: Duration = Duration::from_secs(1);

/// Makes the factory snapshot from an archive. On disk on return. `say` gets lines for people.
pub fn build(
    store: &mut Btrfs,
    records: &mut Records,
    args: &Build,
    now: u64,
    say: &mut dyn FnMut(&str),
) -> Result<Manifest> {
    request::idle(records)?;
    let health = catalogue::health(store, Set::Factory)?;
    if matches!(health, Health::Sound | Health::WithoutConfig) && !args.replace {
        return Err(Error::FactoryThere);
    }
    let archive = verified(&args.archive, say)?;
    let (needed, free) = (archive.room(), store.space()?.available);
    if free < needed {
        return Err(Error::NoRoomForFactory(size(needed), size(free)));
    }
    let state = catalogue::with_free_id(store, &records.state.value)?;
    let plan = plan(&Intent::MakeFactory, &state, store.layout(), None, now);
    let mut meter = Meter::new(EVERY);
    let mut fill = |store: &mut Btrfs, place| {
        fill(store, place, &archive, &mut |progress| {
            tell(&mut meter, progress)
        })
    };
    let mut step = |step: &Step| {
        if let Step::SealFactory(_) = step {
            say("sealing the factory snapshot");
        }
    };
    execute::execute_with(store, records, &plan, now, &mut fill, &mut step)?;
    catalogue::manifest(store, Set::Factory)?.ok_or(Error::FactoryDamaged)
}

/// Puts an archive with its signature into the store as its default tarball. On disk on return.
/// Gives its path below the top level.
pub fn keep(
    store: &mut Btrfs,
    top: &Path,
    args: &Archived,
    say: &mut dyn FnMut(&str),
) -> Result<String> {
    let archive = verified(args, say)?;
    let name = match archive.form() {
        Form::Zstd => "factory.tar.zst",
        Form::Xz => "factory.tar.xz",
        Form::Gzip => "factory.tar.gz",
        Form::Plain => "factory.tar",
    };
    let directory = top.join(STORE);
    let path = directory.join(name);
    let new = place_of_new(&path)?;
    let copied = File::create_new(&new)
        .map_err(Error::file("writing", &path))
        .and_then(|mut file| Ok(archive.copy_to(&mut file)?));
    if let Err(error) = copied {
        std::fs::remove_file(&new).ok();
        return Err(error);
    }
    let beside = directory.join(format!("{name}.minisig"));
    match signature(args)? {
        Some(text) => replace(&beside, text.as_bytes())?,
        None => remove(&beside)?,
    }
    std::fs::rename(&new, &path).map_err(Error::file("renaming", &new))?;
    store.sync()?;
    // Only one is the default tarball.
    for other in TARBALLS.into_iter().filter(|other| *other != name) {
        remove(&directory.join(other))?;
        remove(&directory.join(format!("{other}.minisig")))?;
    }
    store.sync()?;
    Ok(format!("{STORE}/{name}"))
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("removing", path)(error))
        }
        _ => Ok(()),
    }
}

/// Opens and verifies the archive.
fn verified(args: &Archived, say: &mut dyn FnMut(&str)) -> Result<Verified> {
    let archive = Archive::open(&args.archive)?;
    let signature = match args.unsigned {
        true => None,
        false => Some(signature(args)?.ok_or_else(|| Error::Unsigned(signature_path(args)))?),
    };
    let keys = keys(&args.keys)?;
    let trust = match &signature {
        Some(signature) => Trust::Signed {
            keys: &keys,
            signature,
        },
        None => Trust::Unsigned,
    };
    let mut meter = Meter::new(EVERY);
    let verified = verify(archive, &trust, &mut |progress| tell(&mut meter, progress))?;
    match verified.signer() {
        Some(key) => say(&format!("the signature is good: key {key}")),
        None => say("warning: the archive's signature is not checked"),
    }
    Ok(verified)
}

/// Lines for whoever waits: apart from what the command prints.
fn tell(meter: &mut Meter, progress: Progress) {
    if let Some(line) = meter.line(&progress) {
        eprintln!("{line}");
    }
}

fn signature_path(args: &Archived) -> PathBuf {
    args.signature.clone().unwrap_or_else(|| {
        let mut name = args.archive.as_os_str().to_owned();
        name.push(".minisig");
        name.into()
    })
}

/// The text of the signature; `None` where there is none and none was named.
fn signature(args: &Archived) -> Result<Option<String>> {
    let path = signature_path(args);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && args.signature.is_none() => {
            Ok(None)
        }
        Err(error) => Err(Error::file("reading", path)(error)),
    }
}

/// The keys that were named, or else those of this system, which the recovery kernel trusts, too.
fn keys(named: &[PathBuf]) -> Result<Keys> {
    let mut texts = Vec::new();
    for path in named {
        let text = std::fs::read_to_string(path).map_err(Error::file("reading", path))?;
        texts.push((path.display().to_string(), text));
    }
    if texts.is_empty() {
        let own = backstay_initramfs::keys(Path::new("/"));
        let own = own.map_err(|error| Error::Initramfs(error.to_string()))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        texts.extend(own.into_iter().map(|(name, bytes)| (name, text(bytes))));
    }
    Ok(Keys::parse(&texts)?)
}
