//! Whether a root is the same after it was packed and extracted, by whom ever.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use backstay::image::copy::copy;

use super::plant;
use super::scratch::Scratch;
use super::tools::{Extractor, Key, PACKERS, Packer, filter};
use crate::compare::{Aspect, Difference, Entry, Tree, differences};
use crate::crash::host;
use crate::image::packages;
use crate::setup;

/// A difference without its text: path, aspect, attribute.
type Place = (String, Aspect, String);

/// Packs, extracts, compares.
///
/// # Errors
/// Where something differs that a format could hold, and where the host lacks something.
pub fn run() -> Result<()> {
    host::prepare_for("cargo image-check")?;
    setup::ensure_archives()?;
    let tarball = packages::debian()?;
    let scratch = Scratch::new(8 << 30)?;
    let key = Key::make(scratch.outside())?;
    let root = scratch.debian("source", &tarball)?;
    plant::plant(&root)?;
    scratch.sync()?;
    let source = Tree::read(&root)?;
    println!("{} entries", source.entries.len());
    copied(&scratch, &root)?;
    let mut failures = 0;
    for packer in PACKERS {
        let archive = scratch.outside().join("archive.tar");
        packer.pack(&root, &archive, &key)?;
        key.verify(&archive)?;
        for extractor in [Extractor::Gnu, Extractor::Bsd, Extractor::Ours] {
            // What bsdtar makes of others' archives is not ours to check.
            if extractor == Extractor::Bsd && packer != Packer::Ours {
                continue;
            }
            let begun = Instant::now();
            let to = scratch.subvolume("extracted")?;
            let extracted = extractor.extract(packer, &archive, &to, &key);
            if let Err(error) = extracted {
                let (packer, extractor) = (packer.name(), extractor.name());
                println!("packed by {packer}, extracted by {extractor}: FAILED: {error:#}");
                failures += 1;
                scratch.delete("extracted")?;
                continue;
            }
            scratch.sync()?;
            let found = differences(&source, &Tree::read(&to)?);
            if !report(packer, extractor, &source, &found, begun) {
                failures += 1;
            }
            if (packer, extractor) == (Packer::Ours, Extractor::Ours) {
                again(&archive, &to, &key)?;
            }
            scratch.delete("extracted")?;
        }
        std::fs::remove_file(&archive)?;
    }
    compressed(&scratch, &root, &source, &key)?;
    ensure!(
        failures == 0,
        "{failures} combinations differ in what they should hold"
    );
    Ok(())
}

/// One path is copied into another root, as config datasets are filled.
fn copied(scratch: &Scratch, root: &Path) -> Result<()> {
    let to = scratch.subvolume("copied")?;
    let (from, into) = (File::open(root)?, File::open(&to)?);
    copy(from.as_fd(), Path::new(plant::GARDEN), into.as_fd())?;
    scratch.sync()?;
    let tree = |root: &Path| Tree::read(&root.join(plant::GARDEN));
    let found = differences(&tree(root)?, &tree(&to)?);
    ensure!(found.is_empty(), "a copy of one path differs: {found:?}");
    println!("one path copied into another root: no difference");
    drop(into);
    scratch.delete("copied")
}

/// What we extracted is packed to the same bytes again.
fn again(archive: &Path, extracted: &Path, key: &Key) -> Result<()> {
    let second = archive.with_file_name("again.tar");
    Packer::Ours.pack(extracted, &second, key)?;
    let same = std::fs::read(archive)? == std::fs::read(&second)?;
    std::fs::remove_file(&second)?;
    ensure!(same, "what was extracted does not pack to the same bytes");
    println!("  packed again: the same bytes");
    Ok(())
}

/// Each compression, by us and by the programs, extracted by us.
fn compressed(scratch: &Scratch, root: &Path, source: &Tree, key: &Key) -> Result<()> {
    const WHOLE: [(&str, Option<[&str; 3]>); 4] = [
        ("a.tar.zst", None),
        ("a.tar.gz", None),
        ("b.tar.zst", Some(["zstd", "-q", "-3"])),
        ("b.tar.gz", Some(["gzip", "-n", "-6"])),
    ];
    // Minutes, for the whole.
    const SLOW: [(&str, Option<[&str; 3]>); 2] =
        [("a.tar.xz", None), ("b.tar.xz", Some(["xz", "-T0", "-1"]))];
    let garden = root.join(plant::GARDEN);
    forms(scratch, root, source, key, &WHOLE)?;
    forms(scratch, &garden, &Tree::read(&garden)?, key, &SLOW)
}

fn forms(
    scratch: &Scratch,
    root: &Path,
    source: &Tree,
    key: &Key,
    forms: &[(&str, Option<[&str; 3]>)],
) -> Result<()> {
    let plain = scratch.outside().join("plain.tar");
    Packer::Ours.pack(root, &plain, key)?;
    for (name, program) in forms {
        let archive = scratch.outside().join(name);
        let begun = Instant::now();
        match program {
            None => Packer::Ours.pack(root, &archive, key)?,
            Some([program, options @ ..]) => {
                filter(Command::new(program).args(options), &plain, &archive)?;
                key.sign(&archive)?;
            }
        }
        let by = program.map_or("backstay", |words| words[0]);
        let size = std::fs::metadata(&archive)?.len();
        println!(
            "{name} by {by}: {} bytes in {:.1} s",
            size,
            begun.elapsed().as_secs_f32()
        );
        for extractor in [Extractor::Ours, Extractor::Gnu] {
            let to = scratch.subvolume("extracted")?;
            extractor.extract(Packer::Ours, &archive, &to, key)?;
            scratch.sync()?;
            let found = unexpected(
                Packer::Ours,
                extractor,
                source,
                &differences(source, &Tree::read(&to)?),
            );
            scratch.delete("extracted")?;
            if !found.is_empty() {
                bail!(
                    "{name} by {by}, extracted by {}: {found:?}",
                    extractor.name()
                );
            }
        }
        std::fs::remove_file(&archive)?;
    }
    Ok(())
}

/// Says how it went; whether it is as it should be.
fn report(
    packer: Packer,
    extractor: Extractor,
    source: &Tree,
    found: &[Difference],
    begun: Instant,
) -> bool {
    let mut counts: BTreeMap<Aspect, usize> = BTreeMap::new();
    for difference in found {
        *counts.entry(difference.aspect).or_default() += 1;
    }
    let lines = unexpected(packer, extractor, source, found);
    let verdict = match (found.is_empty(), lines.is_empty()) {
        (true, true) => "no difference".to_owned(),
        (false, true) => format!("only what is stated: {counts:?}"),
        (_, false) => format!("FAILED: {} not as stated, of {counts:?}", lines.len()),
    };
    println!(
        "packed by {}, extracted by {} ({:.0} s): {verdict}",
        packer.name(),
        extractor.name(),
        begun.elapsed().as_secs_f32()
    );
    for line in lines.iter().take(40) {
        println!("  {line}");
    }
    lines.is_empty()
}

/// What differs and should not, and what should and does not.
fn unexpected(
    packer: Packer,
    extractor: Extractor,
    source: &Tree,
    found: &[Difference],
) -> Vec<String> {
    let stated = stated(packer, extractor, source);
    let place = |difference: &Difference| -> Place {
        let Difference {
            path, aspect, name, ..
        } = difference.clone();
        (path, aspect, name)
    };
    let places: BTreeSet<Place> = found.iter().map(place).collect();
    let mut lines: Vec<String> = found
        .iter()
        .filter(|difference| !stated.contains(&place(difference)))
        .map(ToString::to_string)
        .collect();
    lines.extend(stated.difference(&places).map(|(path, aspect, name)| {
        format!("{path}: {aspect:?} {name}: stated to be lost, and is not")
    }));
    lines
}

/// What a combination loses of a tree, entry by entry.
fn stated(packer: Packer, extractor: Extractor, source: &Tree) -> BTreeSet<Place> {
    let mut all = BTreeSet::new();
    for (path, entry) in &source.entries {
        let path = match std::str::from_utf8(path) {
            Ok("") => ".".to_owned(),
            Ok(text) => text.to_owned(),
            Err(_) => path.escape_ascii().to_string(),
        };
        for (aspect, name) in lost(packer, extractor, &path, entry) {
            all.insert((path.clone(), aspect, name));
        }
    }
    all
}

/// The rules. Everything that is not here must be the same.
fn lost(packer: Packer, extractor: Extractor, path: &str, entry: &Entry) -> Vec<(Aspect, String)> {
    let mut lost = Vec::new();
    let fraction = entry.time.1 != 0;
    if packer == Packer::GnuOld {
        // Whole seconds, and no place for attributes and ACLs.
        if fraction {
            lost.push((Aspect::Time, String::new()));
        }
        let names = entry.attributes.keys();
        lost.extend(names.map(|name| (Aspect::Attribute, text(name))));
    }
    let bsd = packer == Packer::Bsd || extractor == Extractor::Bsd;
    // libarchive 3.6 writes half a second before 1970 as -1.5, and reads -0.5 as 0.5. It leaves the time
    // of the directory that it extracts into.
    if (bsd && entry.time.0 < 0 && fraction) || (extractor == Extractor::Bsd && path == ".") {
        lost.push((Aspect::Time, String::new()));
    }
    // It knows no user beyond 2^31 in an ACL.
    let acls = entry.attributes.iter().filter(|(name, value)| {
        bsd && name.starts_with(b"system.posix_acl_") && has_huge_id(value)
    });
    lost.extend(acls.map(|(name, _)| (Aspect::Attribute, text(name))));
    lost
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Whether an ACL (linux/posix_acl_xattr.h) names a user or group beyond 2^31.
fn has_huge_id(acl: &[u8]) -> bool {
    let entries = acl.get(4..).unwrap_or_default().as_chunks::<8>().0;
    entries.iter().any(|[.., a, b, c, d]| {
        let id = u32::from_le_bytes([*a, *b, *c, *d]);
        id > i32::MAX.unsigned_abs() && id != u32::MAX
    })
}
