//! `backstay factory keep`: an archive as the default tarball of the store.
//!
//! It replaces one that may be good, and nobody looks at it again until it is needed. So it is tried out
//! first: a factory snapshot is made from it as the agent would, in a transaction that is taken back.
//! Then the new files of archive and signature are written and get their names, so that at every instant
//! the archive under the name, old or new, has its signature beside it.

use super::build::{EVERY, free_for, tell, text, verified};
use super::cli::Archived;
use super::error::{Error, Result};
use super::files::{place_of_new, read_small, replace};
use super::output::size;
use super::recovery::Recovery;
use super::request;
use super::trusted::by_recovery_kernel;
use crate::image::fill::fill;
use crate::image::signature::{SIGNATURE_MAX, is_signature};
use crate::image::{Form, Meter, Verified};
use crate::policy::intent::Intent;
use crate::store::Store;
use crate::store::btrfs::{Btrfs, TARBALLS};
use crate::store::place::STORE;
use crate::transaction::execute::{Fill, try_out};
use crate::transaction::plan::plan;
use crate::transaction::records::Records;
use crate::transaction::{self, catalogue};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What was kept. Field names are stable.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    /// Its path below the top level.
    pub tarball: String,
    /// Why it will not be used as things are.
    pub warnings: Vec<String>,
}

/// The default tarball as `status` shows it. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tarball {
    /// Its name in the store's directory.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// What lies beside it: `present`, which is all that is known, `missing`, `empty`, `garbled` or
    /// `unreadable`.
    pub signature: &'static str,
}

impl core::fmt::Display for Tarball {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}, {}, ", self.name, size(self.size))?;
        match self.signature {
            "present" => f.write_str("with a signature"),
            "missing" => f.write_str(
                "NOT signed: it is used only where /etc/backstay/policy.toml allows that",
            ),
            word => write!(
                f,
                "its signature is {word}, so it is refused: run 'backstay factory keep' again"
            ),
        }
    }
}

/// The default tarball, if there is one. Verifies nothing, which takes seconds.
pub fn present(store: &Btrfs, top: &Path) -> Result<Option<Tarball>> {
    Ok(store
        .tarball_name()?
        .map(|name| described(&top.join(STORE), name)))
}

fn described(directory: &Path, name: &str) -> Tarball {
    let beside = directory.join(format!("{name}.minisig"));
    let signature = match read_small(&beside, SIGNATURE_MAX) {
        Ok(bytes) if bytes.is_empty() => "empty",
        Ok(bytes) if is_signature(&text(bytes.clone())) => "present",
        Ok(_) => "garbled",
        Err(Error::File { source, .. }) if source.kind() == ErrorKind::NotFound => "missing",
        Err(_) => "unreadable",
    };
    let file = std::fs::symlink_metadata(directory.join(name));
    Tarball {
        name: name.to_owned(),
        size: file.map_or(0, |file| file.len()),
        signature,
    }
}

/// Puts an archive with its signature into the store as its default tarball, once a trial has shown that
/// a factory snapshot can be made from it. On disk on return. `say` gets lines for people.
pub fn keep(
    store: &mut Btrfs,
    records: &mut Records,
    top: &Path,
    recovery: &Recovery,
    args: &Archived,
    now: u64,
    say: &mut dyn FnMut(&str),
) -> Result<Kept> {
    request::idle(records)?;
    let directory = top.join(STORE);
    tidy(&directory);
    let trusted = by_recovery_kernel(recovery)?;
    let (archive, signature) = verified(args, trusted.as_ref(), say)?;
    let mut warnings = Vec::new();
    match trusted.map(|trusted| trusted.refusal(&archive, signature.as_deref())) {
        Some(None) => {}
        // What is there may be one that it takes.
        Some(Some(why)) => return Err(Error::WouldBeRefused(why)),
        None => {
            let warning = "there is no recovery kernel, which would use it: run 'backstay init'";
            say(&format!("warning: {warning}"));
            warnings.push(warning.to_owned());
        }
    }
    let needed = archive.room().saturating_add(archive.length());
    let free = free_for(store, needed)?;
    if free < needed {
        return Err(Error::NoRoomForTarball(size(needed), size(free)));
    }
    say("trying it out: making a factory snapshot from it, which is removed again");
    let mut meter = Meter::new(EVERY);
    trial(store, records, now, &mut |store, place| {
        fill(store, place, &archive, &mut |progress| {
            tell(&mut meter, progress)
        })
    })?;
    let mut sync = || Ok(store.sync()?);
    let name = put(&directory, &archive, signature.as_deref(), &mut sync)?;
    store.sync()?;
    // Only one is the default tarball.
    for other in TARBALLS.into_iter().filter(|other| *other != name) {
        remove(&directory.join(other))?;
        remove(&directory.join(format!("{other}.minisig")))?;
    }
    store.sync()?;
    Ok(Kept {
        tarball: format!("{STORE}/{name}"),
        warnings,
    })
}

/// Removes what was being written when an earlier `keep` was killed, of whatever form. What cannot be
/// removed, such as a directory, is in the way of one form at most, which says so when it is written.
fn tidy(directory: &Path) {
    for name in TARBALLS {
        place_of_new(&directory.join(name)).ok();
        place_of_new(&directory.join(format!("{name}.minisig"))).ok();
    }
}

/// Makes a factory snapshot by `fill`, as the agent would, and removes it again.
fn trial<S: Store>(
    store: &mut S,
    records: &mut Records,
    now: u64,
    fill: Fill<'_, S>,
) -> Result<()> {
    let state = catalogue::with_free_id(store, &records.state.value)?;
    let plan = plan(&Intent::MakeFactory, &state, store.layout(), None, now);
    match try_out(store, records, &plan, now, fill) {
        Err(error @ (transaction::Error::Image(_) | transaction::Error::Unbootable(_))) => {
            Err(Error::Trial(error))
        }
        other => Ok(other?),
    }
}

/// Puts the files in their places; gives the archive's name. On disk after the next sync.
///
/// Two names cannot change at once. So the signature of the archive that lies there stays behind the new one
/// until the new archive has its name: whichever lies there, its signature does, too.
fn put(
    directory: &Path,
    archive: &Verified,
    signature: Option<&str>,
    sync: &mut dyn FnMut() -> Result<()>,
) -> Result<&'static str> {
    let name = match archive.form() {
        Form::Zstd => "factory.tar.zst",
        Form::Xz => "factory.tar.xz",
        Form::Gzip => "factory.tar.gz",
        Form::Plain => "factory.tar",
    };
    let path = directory.join(name);
    let new = place_of_new(&path)?;
    let copied = create(&new)
        .map_err(Error::file("writing", &path))
        .and_then(|mut file| Ok(archive.copy_to(&mut file)?));
    if let Err(error) = copied {
        std::fs::remove_file(&new).ok();
        return Err(error);
    }
    let beside = directory.join(format!("{name}.minisig"));
    let Some(signature) = signature else {
        // Nothing asks for one here, but one of another archive would be looked at.
        remove(&beside)?;
        std::fs::rename(&new, &path).map_err(Error::file("renaming", &new))?;
        return Ok(name);
    };
    let before = read_small(&beside, SIGNATURE_MAX).map_or_else(|_| String::new(), text);
    // One that is taken without a signature would not be with another's.
    if !before.is_empty() || !path.exists() {
        replace(&beside, both(signature, &before).as_bytes())?;
        sync()?;
    }
    std::fs::rename(&new, &path).map_err(Error::file("renaming", &new))?;
    sync()?;
    replace(&beside, signature.as_bytes())?;
    Ok(name)
}

/// A signature, and behind it as many of those before as are read: more than one where an earlier replacement
/// was cut.
fn both(signature: &str, before: &str) -> String {
    let whole =
        |lines: &[&str]| -> String { lines.iter().flat_map(|line| [*line, "\n"]).collect() };
    let new: Vec<&str> = signature.lines().take(4).collect();
    let mut all = whole(&new);
    for old in before.lines().collect::<Vec<_>>().chunks(4) {
        let old = whole(old);
        if (all.len() + old.len()) as u64 <= SIGNATURE_MAX {
            all.push_str(&old);
        }
    }
    all
}

/// For root alone, as the system in it holds what is for root alone.
fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::file("removing", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Archive, Keys, Trust, verify};
    use crate::record::journal::Journal;
    use crate::record::layout::Part;
    use crate::store::memory::Memory;
    use crate::store::place::{File as Record, Place};
    use crate::transaction::model::{image, machine, root};
    use minisign::KeyPair;
    use std::os::unix::fs::PermissionsExt;

    fn fill_with(
        init: bool,
    ) -> impl FnMut(&mut Memory, Place) -> core::result::Result<(), transaction::Error> {
        move |store, place| {
            let mut tree = match place.part() {
                Part::System => root("tried"),
                _ => Default::default(),
            };
            if !init {
                tree.retain(|path, _| !path.ends_with("/init"));
            }
            Ok(store.fill(place, tree)?)
        }
    }

    fn nothing_left(store: &Memory) {
        let records = Records::open_or_begin(store).unwrap();
        assert_eq!(records.journal.value, Journal::Closed);
        assert_eq!(store.read(Record::Armed).unwrap(), None);
        assert_eq!(
            store.dataset(Place::Snapshot(3, Part::System)).unwrap(),
            None
        );
        assert!(store.ids().unwrap().iter().all(|id| *id < 3));
    }

    #[test]
    fn a_trial_leaves_nothing_and_tells_a_system_that_cannot_boot() {
        for good in [true, false] {
            let (mut store, mut records) = machine();
            let before = records.state.value.clone();
            let tried = trial(&mut store, &mut records, 9, &mut fill_with(good));
            match tried {
                Ok(()) => assert!(good),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!good && text.contains("nothing was kept"), "{text}");
                    assert!(text.contains("no init") && !text.contains('\n'), "{text}");
                }
            }
            nothing_left(&store);
            assert_eq!(Records::open(&store).unwrap().state.value, before);
        }
    }

    #[test]
    fn a_trial_that_is_cut_anywhere_is_taken_back_by_the_next_command() {
        for power in 0.. {
            let (mut store, mut records) = machine();
            store.power = Some(power);
            let ended = trial(&mut store, &mut records, 9, &mut fill_with(true)).is_ok();
            for mut left in store.after_power_cut() {
                let mut records = Records::open(&left).unwrap();
                request::settle(&mut left, &mut records).unwrap();
                nothing_left(&left);
            }
            if ended {
                break;
            }
        }
    }

    #[test]
    fn an_image_that_waits_for_its_first_boot_waits_for_it_after_a_trial() {
        let mut store = image();
        crate::admin::factory::seal(&mut store, true, 9, &mut |_| {}).unwrap();
        let mut records = Records::open_or_begin(&store).unwrap();
        trial(&mut store, &mut records, 9, &mut fill_with(true)).unwrap();
        nothing_left(&store);
        let status = crate::admin::status::status(&store, Default::default()).unwrap();
        assert!(status.first_boot, "{status:?}");
    }

    fn archive(here: &Path, key: Option<&KeyPair>) -> (Verified, Option<String>) {
        archive_of(here, key, 4)
    }

    fn archive_of(here: &Path, key: Option<&KeyPair>, blocks: usize) -> (Verified, Option<String>) {
        let bytes = vec![0; blocks * 512];
        let path = here.join("a.tar");
        std::fs::write(&path, &bytes).unwrap();
        let signature = key.map(|key| {
            let signed = minisign::sign(Some(&key.pk), &key.sk, &bytes[..], None, None);
            signed.unwrap().to_string()
        });
        let open = Archive::open(&path).unwrap();
        let keys = key.map(|key| vec![("k".into(), key.pk.to_box().unwrap().to_string())]);
        let keys = Keys::parse(&keys.unwrap_or_default()).unwrap();
        let trust = match &signature {
            Some(signature) => Trust::Signed {
                keys: &keys,
                signature,
            },
            None => Trust::Unsigned,
        };
        (verify(open, &trust, &mut |_| {}).unwrap(), signature)
    }

    /// Whatever instant the replacement is cut, and the next one after it, too: the archive under the name has
    /// its signature beside it.
    #[test]
    fn an_archive_lies_with_its_signature_while_another_takes_its_place() {
        let here = tempfile::tempdir().unwrap();
        let key = KeyPair::generate_unencrypted_keypair().unwrap();
        let text = key.pk.to_box().unwrap().to_string();
        let keys = Keys::parse(&[("k".into(), text)]).unwrap();
        let holds = || {
            let archive = Archive::open(&here.path().join("factory.tar")).unwrap();
            let signature = std::fs::read_to_string(here.path().join("factory.tar.minisig"));
            let trust = Trust::Signed {
                keys: &keys,
                signature: &signature.unwrap(),
            };
            verify(archive, &trust, &mut |_| {}).map(|it| it.length())
        };
        let put_cut = |length: usize, cut: usize| {
            let (archive, signature) = archive_of(here.path(), Some(&key), length);
            tidy(here.path());
            let mut left = cut;
            put(here.path(), &archive, signature.as_deref(), &mut || {
                if here.path().join("factory.tar").exists() {
                    holds().unwrap();
                }
                left -= 1;
                match left {
                    0 => Err(Error::NotSetUp),
                    _ => Ok(()),
                }
            })
        };
        put_cut(1, 9).unwrap();
        assert_eq!(holds().unwrap(), 512);
        for (length, cut) in [(2, 1), (3, 1), (4, 2), (5, 1), (6, 2), (7, 2)] {
            put_cut(length, cut).unwrap_err();
            holds().unwrap();
        }
        put_cut(8, 9).unwrap();
        assert_eq!(holds().unwrap(), 8 * 512);
        let beside = std::fs::read_to_string(here.path().join("factory.tar.minisig")).unwrap();
        assert_eq!(beside.lines().count(), 4);
    }

    #[test]
    fn no_signature_of_another_archive_stays_and_nothing_of_a_killed_keep() {
        let here = tempfile::tempdir().unwrap();
        let at = |name: &str| here.path().join(name);
        for name in [
            "factory.tar.minisig",
            ".factory.tar.xz.new",
            ".factory.tar.gz.minisig.new",
        ] {
            std::fs::write(at(name), "stale").unwrap();
        }
        // A signature beside the archive is not looked at either.
        std::fs::write(at("a.tar.minisig"), "stale").unwrap();
        let (unsigned, none) = archive(here.path(), None);
        let args = Archived {
            archive: at("a.tar"),
            signature: None,
            keys: Vec::new(),
            unsigned: true,
        };
        assert_eq!(verified(&args, None, &mut |_| {}).unwrap().1, None);
        // What somebody else has under such a name stays, and is in nobody's way.
        std::fs::create_dir(at(".factory.tar.zst.new")).unwrap();
        tidy(here.path());
        std::fs::remove_dir(at(".factory.tar.zst.new")).unwrap();
        assert_eq!(
            put(here.path(), &unsigned, none.as_deref(), &mut || Ok(())).unwrap(),
            "factory.tar"
        );
        let mut left: Vec<_> = std::fs::read_dir(here.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["a.tar", "a.tar.minisig", "factory.tar"]);
        let mode = std::fs::metadata(at("factory.tar"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_default_tarball_is_shown_with_what_lies_beside_it() {
        let here = tempfile::tempdir().unwrap();
        let key = KeyPair::generate_unencrypted_keypair().unwrap();
        let (_, good) = archive(here.path(), Some(&key));
        let good = good.unwrap();
        let beside = here.path().join("a.tar.minisig");
        let shown = || described(here.path(), "a.tar");
        assert_eq!(shown().signature, "missing");
        assert!(shown().to_string().contains("NOT signed"));
        for (text, word) in [
            ("", "empty"),
            (good.get(..good.len() / 2).unwrap(), "garbled"),
            (&*"x".repeat(5000), "unreadable"),
            (&*good, "present"),
        ] {
            std::fs::write(&beside, text).unwrap();
            assert_eq!(shown().signature, word);
        }
        assert_eq!(shown().to_string(), "a.tar, 2.0 KiB, with a signature");
    }
}
