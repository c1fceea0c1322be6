//! `backstay factory build`: the factory snapshot from an archive.
//!
//! A transaction: what is live is not touched, and a power cut leaves the old factory snapshot or the
//! new one, the rest being undone or finished by the next start or command.

use super::cli::{Archived, Build};
use super::error::{Error, Result};
use super::files::{KEY_MAX, read_small};
use super::output::size;
use super::pristine::{Inside, findings};
use super::recovery::Recovery;
use super::request;
use super::trusted::{Trusted, by_recovery_kernel};
use crate::image::fill::fill;
use crate::image::signature::SIGNATURE_MAX;
use crate::image::{Archive, Keys, Meter, Progress, Trust, Verified, verify};
use crate::policy::Health;
use crate::policy::intent::Intent;
use crate::record::layout::Part;
use crate::record::manifest::Manifest;
use crate::store::Store;
use crate::store::btrfs::Btrfs;
use crate::store::place::{Place, Set};
use crate::transaction::plan::{Step, plan};
use crate::transaction::records::Records;
use crate::transaction::{catalogue, execute};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

/// A person hears how far it is this often.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// Refuses where there is a sound factory snapshot, unless it is to be replaced.
pub fn refuse_to_replace(store: &Btrfs, replace: bool) -> Result<()> {
    match catalogue::health(store, Set::Factory)? {
        Health::Sound | Health::WithoutConfig if !replace => Err(Error::FactoryThere),
        _ => Ok(()),
    }
}

/// Makes the factory snapshot from an archive. On disk on return. `say` gets lines for people.
pub fn build(
    store: &mut Btrfs,
    records: &mut Records,
    recovery: &Recovery,
    args: &Build,
    now: u64,
    say: &mut dyn FnMut(&str),
) -> Result<Manifest> {
    request::idle(records)?;
    refuse_to_replace(store, args.replace)?;
    // Asked only where nobody says whom to trust: a damaged one must not be in the way of a good archive.
    let trusted = match args.archive.unsigned || !args.archive.keys.is_empty() {
        true => None,
        false => by_recovery_kernel(recovery)?,
    };
    let (archive, _) = verified(&args.archive, trusted.as_ref(), say)?;
    let needed = archive.room();
    let free = free_for(store, needed)?;
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
        if let Step::SealMade(_) = step {
            say("sealing the factory snapshot");
        }
    };
    execute::execute_with(store, records, &plan, now, &mut fill, &mut step)?;
    catalogue::manifest(store, Set::Factory)?.ok_or(Error::FactoryDamaged)
}

/// What a factory snapshot holds that it should not, as `factory pack` says it; and which declared paths
/// its system lacks, as `init` does.
pub fn warnings<S: Store>(store: &S) -> Result<Vec<String>> {
    let system = Place::Factory(Part::System);
    let found = findings(&Inside(store, system))?;
    let mut warnings: Vec<String> = found.iter().map(ToString::to_string).collect();
    let layout = store.layout();
    if let Some(config) = &layout.config
        && store
            .names(system, config.mount.trim_start_matches('/'))?
            .is_empty()
    {
        for path in &layout.config_paths {
            if store.node(system, path.trim_start_matches('/'))?.is_none() {
                warnings.push(format!(
                    "the system has no {path}, which layout.toml declares"
                ));
            }
        }
    }
    Ok(warnings)
}

/// How often free space is looked at, and how often in vain before that is all there is.
const LOOKS: (Duration, u8) = (Duration::from_millis(500), 4);

/// The free space, once there is as much as needed, or once no more comes back: btrfs gives back that of a
/// deleted subvolume some time after the deletion.
pub(super) fn free_for(store: &mut Btrfs, needed: u64) -> Result<u64> {
    let mut free = store.space()?.available;
    let mut in_vain = 0;
    while free < needed && in_vain < LOOKS.1 {
        std::thread::sleep(LOOKS.0);
        // A commit wakes what gives it back.
        store.sync()?;
        let now = store.space()?.available;
        in_vain = if now > free { 0 } else { in_vain + 1 };
        free = now;
    }
    Ok(free)
}

/// Opens and verifies the archive, by the keys that were named or else those that the recovery kernel trusts;
/// gives the text of its signature, too, where one is asked for.
pub(super) fn verified(
    args: &Archived,
    trusted: Option<&Trusted>,
    say: &mut dyn FnMut(&str),
) -> Result<(Verified, Option<String>)> {
    let archive = Archive::open(&args.archive)?;
    let signature = match args.unsigned {
        true => None,
        false => Some(signature(args)?.ok_or_else(|| Error::Unsigned(signature_path(args)))?),
    };
    let named = keys(&args.keys)?;
    let trusted = trusted.map(|trusted| &trusted.keys);
    let keys = match args.keys.is_empty() {
        true => trusted.filter(|keys| !keys.is_empty()),
        false => Some(&named),
    };
    let trust = match &signature {
        Some(signature) => Trust::Signed {
            keys: keys.ok_or(Error::NoKey)?,
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
    Ok((verified, signature))
}

/// Lines for whoever waits: apart from what the command prints.
pub(super) fn tell(meter: &mut Meter, progress: Progress) {
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
    match read_small(&path, SIGNATURE_MAX) {
        Ok(bytes) => Ok(Some(text(bytes))),
        Err(Error::File { source, .. })
            if source.kind() == ErrorKind::NotFound && args.signature.is_none() =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn keys(named: &[PathBuf]) -> Result<Keys> {
    let mut texts = Vec::new();
    for path in named {
        let bytes = read_small(path, KEY_MAX)?;
        texts.push((path.display().to_string(), text(bytes)));
    }
    Ok(Keys::parse(&texts)?)
}

/// What is not UTF-8 is no key and no signature anyway, which is said then.
pub(super) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::Content;
    use crate::transaction::model::machine;

    #[test]
    fn what_a_factory_snapshot_should_not_hold_and_what_it_lacks_is_said() {
        let (mut store, _) = machine();
        store.edit(|world, _| {
            let factory = world.datasets.get_mut(&Place::Factory(Part::System));
            let shadow = Content::File(b"root::1\n".to_vec());
            factory.unwrap().tree.insert("etc/shadow".into(), shadow);
        });
        let warnings = warnings(&store).unwrap();
        assert!(warnings[0].starts_with("etc/shadow: no password for root"));
        let lacking: Vec<_> = warnings
            .iter()
            .filter(|it| it.contains("declares"))
            .collect();
        let declared = &store.layout().config_paths;
        assert_eq!(lacking.len(), declared.len(), "{warnings:?}");
    }

    #[test]
    fn a_signature_or_a_key_that_never_ends_is_refused_and_a_missing_one_is_none() {
        let here = tempfile::tempdir().unwrap();
        let mut args = Archived {
            archive: here.path().join("a.tar"),
            signature: None,
            keys: vec!["/dev/zero".into()],
            unsigned: false,
        };
        assert_eq!(signature(&args).unwrap(), None);
        assert!(matches!(keys(&args.keys), Err(Error::NotAFile(_))));
        std::fs::write(here.path().join("a.tar.minisig"), [b'x'; 5000]).unwrap();
        assert!(matches!(signature(&args), Err(Error::TooLong(..))));
        args.signature = Some(here.path().join("none"));
        assert!(matches!(signature(&args), Err(Error::File { .. })));
    }
}
