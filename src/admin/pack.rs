//! `backstay factory pack`: a root directory becomes a signed archive, the default tarball.
//!
//! Archive and signature are written under temporary names, then both are on disk, then they get
//! their names, the signature first. So an interrupted command leaves at most a signature without an
//! archive, or one that an older archive does not match, which the verifier refuses; never half an
//! archive under the name. What is left under a temporary name is replaced by the next one.

mod new;

use super::cli::Pack;
use super::error::{Error, Result};
use super::files::{KEY_MAX, read_small};
use super::output::size;
use super::pristine::{Tree, findings};
use crate::image::Limits;
use crate::image::compress::{Compression, Compressor};
use crate::image::pack::{self, Note, Packed};
use crate::image::sign;
use crate::store::shown;
use crate::sys::Context;
use new::New;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use serde::Serialize;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a person hears how far it is.
const INTERVAL: Duration = Duration::from_secs(1);
/// Entries that cannot be packed as they are, of which each is named; the rest is counted.
const NAMED: usize = 20;

/// What was made.
#[derive(Debug, Serialize)]
pub struct Made {
    /// The archive.
    pub output: PathBuf,
    /// Its signature, where a key was given.
    pub signature: Option<PathBuf>,
    /// Entries in it.
    pub entries: u64,
    /// Bytes before compression.
    pub bytes: u64,
    /// Bytes of the file.
    pub size: u64,
    /// What the root holds that a factory version should not.
    pub warnings: Vec<String>,
    /// What is not in the archive as it is in the root.
    pub different: Vec<String>,
}

/// Packs `args.root`. On disk on return. `say` gets lines for people.
pub fn pack(args: &Pack, say: &mut dyn FnMut(&str)) -> Result<Made> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let compression = compression(args)?;
    new::check(&args.output)?;
    outside(args)?;
    let root = open(&args.root)?;
    let key = match &args.key {
        Some(path) => {
            let bytes = read_small(path, KEY_MAX)?;
            Some(sign::secret_key(path, &bytes, || {
                password(args.password_fd)
            })?)
        }
        None => None,
    };
    let warnings: Vec<String> = findings(&root)?
        .into_iter()
        .map(|finding| finding.to_string())
        .chain(unbootable(&root))
        .collect();
    for warning in &warnings {
        // Names from the root are in it, and a terminal obeys what it is sent.
        say(&format!("warning: {}", shown(warning.as_bytes())));
    }
    if key.is_none() {
        say(
            "warning: not signed: nothing restores from it until 'minisign -S' or --key has signed it",
        );
    }
    let mut lines = Lines::new(pack::estimate(root.as_fd())?);
    let new = New::create(&args.output)?;
    let result = write(args, compression, &root, &mut lines, say, &new).and_then(|packed| {
        let signature = match key {
            Some(key) => {
                say("signing");
                Some(sign::sign(&key, written(args, &new)?, packed)?)
            }
            None => None,
        };
        put(&args.output, &new, signature.as_deref())?;
        Ok((packed, signature.is_some()))
    });
    if result.is_err() {
        new.remove();
    }
    let (packed, signed) = result?;
    let stat = new.file().metadata();
    let stat = stat.map_err(Error::file("reading", &args.output))?;
    Ok(Made {
        output: args.output.clone(),
        signature: signed.then(|| signature_of(&args.output)),
        entries: packed.entries,
        bytes: packed.bytes,
        size: stat.len(),
        warnings,
        different: lines.different,
    })
}

fn compression(args: &Pack) -> Result<Compression> {
    match (Compression::of(&args.output), args.zstd_level) {
        (None, _) => Err(Error::ArchiveName(args.output.clone())),
        (Some(Compression::Zstd(_)), Some(level)) => Ok(Compression::Zstd(level)),
        (Some(_), Some(_)) => Err(Error::ZstdLevel(args.output.clone())),
        (Some(other), None) => Ok(other),
    }
}

fn open(root: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(root, flags, Mode::empty()).call(|| format!("open({root:?})"))?)
}

/// What a system lacks that 'factory build' asks for; the root may be packed for another purpose.
fn unbootable(root: &OwnedFd) -> Vec<String> {
    use crate::transaction::check::INITS;
    let file = |path: &str| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        // Links lead as they will in the running system.
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let found = openat2(root, path, flags, Mode::empty(), resolve).ok()?;
        let found = fstat(found).ok()?;
        (FileType::from_raw_mode(found.st_mode) == FileType::RegularFile).then_some(found)
    };
    let program = |path: &&str| file(path).is_some_and(|it| it.st_mode & 0o111 != 0);
    let content = |path: &&str| file(path).is_some_and(|it| it.st_size > 0);
    let kernel = ["boot/vmlinuz", "vmlinuz"].iter().any(content);
    let initramfs = ["boot/initrd.img", "initrd.img"].iter().any(content);
    [
        ("init (/sbin/init)", INITS.iter().any(program)),
        ("kernel (/boot/vmlinuz or /vmlinuz)", kernel),
        ("initramfs (/boot/initrd.img or /initrd.img)", initramfs),
    ]
    .into_iter()
    .filter(|(_, there)| !there)
    .map(|(what, _)| format!("no {what}: no factory version can be made of it"))
    .collect()
}

/// Refuses to pack the archive into itself.
fn outside(args: &Pack) -> Result<()> {
    let resolved = |path: &Path| std::fs::canonicalize(path).map_err(Error::file("reading", path));
    let device = |path: &Path| std::fs::metadata(path).map_err(Error::file("reading", path));
    let (root, beside) = (resolved(&args.root)?, resolved(directory_of(&args.output))?);
    // What another file system or a subvolume holds is not packed.
    match beside.starts_with(&root) && device(&root)?.dev() == device(&beside)?.dev() {
        true => Err(Error::ArchiveInside(args.output.clone())),
        false => Ok(()),
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// The name of an archive's signature.
fn signature_of(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

fn write(
    args: &Pack,
    compression: Compression,
    root: &OwnedFd,
    lines: &mut Lines,
    say: &mut dyn FnMut(&str),
    new: &New,
) -> Result<Packed> {
    let writing = |error| Error::file("writing", &args.output)(error);
    let file = new.file().try_clone().map_err(writing)?;
    let mut out = Compressor::new(compression, file).map_err(writing)?;
    let limits = Limits::default();
    let packed = pack::pack(root.as_fd(), &mut out, &limits, &mut |note| {
        lines.note(note, say);
    });
    let packed = packed.map_err(|error| match error {
        pack::Error::Output(error) => writing(error),
        other => other.into(),
    })?;
    let file = out.finish().map_err(writing)?;
    file.sync_all().map_err(writing)?;
    lines.end(say);
    Ok(packed)
}

/// The archive, to be signed: what this process wrote, whatever has the name by now.
fn written(args: &Pack, new: &New) -> Result<impl Read> {
    let mut file = new.file();
    file.rewind()
        .map_err(Error::file("reading", &args.output))?;
    Ok(BufReader::new(file))
}

/// Gives the files their names.
fn put(output: &Path, new: &New, signature: Option<&str>) -> Result<()> {
    // Before the signature of what has the name today is replaced.
    new.unchanged()?;
    let path = signature_of(output);
    match signature {
        Some(text) => super::files::replace(&path, text.as_bytes())?,
        None => match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file("removing", path)(error));
            }
            _ => {}
        },
    }
    new.rename(output)
}

/// The key's password: the first line of a descriptor, or what is typed on the terminal.
fn password(descriptor: Option<u32>) -> std::io::Result<String> {
    let Some(number) = descriptor else {
        return super::consent::secret("Password of the secret key: ").map_err(|error| {
            std::io::Error::other(format!(
                "no terminal to ask for it ({error}), use --password-fd"
            ))
        });
    };
    let mut line = String::new();
    let read = File::open(format!("/proc/self/fd/{number}"))
        .and_then(|file| BufReader::new(file).read_line(&mut line));
    read.map_err(|error| {
        std::io::Error::other(format!(
            "--password-fd {number} cannot be read ({error}), give an open descriptor"
        ))
    })?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// What a person hears meanwhile: a line a second at most, and each difference.
struct Lines {
    about: u64,
    begun: Instant,
    said: Instant,
    different: Vec<String>,
}

impl Lines {
    fn new(about: u64) -> Self {
        Self {
            about,
            begun: Instant::now(),
            said: Instant::now(),
            different: Vec::new(),
        }
    }

    fn note(&mut self, note: Note, say: &mut dyn FnMut(&str)) {
        match note {
            Note::Written(bytes) if self.said.elapsed() >= INTERVAL => {
                self.said = Instant::now();
                say(&progress(bytes, self.about, self.begun.elapsed()));
            }
            Note::Written(_) => {}
            Note::Different { .. } => {
                let line = note.to_string();
                if self.different.len() < NAMED {
                    say(&format!("note: {line}"));
                }
                self.different.push(line);
            }
        }
    }

    fn end(&self, say: &mut dyn FnMut(&str)) {
        if self.different.len() > NAMED {
            let more = self.different.len() - NAMED;
            say(&format!("note: {more} more, which --json names"));
        }
    }
}

/// `12 %, 95.0 MiB, 8 s`. The length is an estimate until it is over.
fn progress(bytes: u64, about: u64, since: Duration) -> String {
    let percent = (bytes * 100).checked_div(about).unwrap_or(0).min(99);
    format!("{percent} %, {}, {} s", size(bytes), since.as_secs())
}

impl Tree for OwnedFd {
    fn content(&self, path: &str) -> Result<Option<Vec<u8>>> {
        use crate::store::btrfs::path;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let Some(file) = path::if_there(path::open(self, path, flags))? else {
            return Ok(None);
        };
        let file = File::from(file);
        if !file
            .metadata()
            .call(|| format!("fstat({path:?})"))?
            .is_file()
        {
            return Ok(None);
        }
        let mut content = Vec::new();
        file.take(super::pristine::LOOKED_AT)
            .read_to_end(&mut content)
            .call(|| format!("read({path:?})"))?;
        Ok(Some(content))
    }

    fn names(&self, path: &str) -> Result<Vec<String>> {
        use crate::store::btrfs::path;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let Some(directory) = path::if_there(path::open(self, path, flags))? else {
            return Ok(Vec::new());
        };
        let text = || format!("getdents64({path:?})");
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&directory).call(text)? {
            let entry = entry.call(text)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !matches!(name.as_str(), "." | "..") {
                names.push(name);
            }
        }
        Ok(names)
    }
}

/// What is said at the end.
pub fn summary(made: &Made) -> String {
    format!(
        "{}: {} in {} entries{}{}",
        made.output.display(),
        size(made.bytes),
        made.entries,
        match made.size == made.bytes {
            true => String::new(),
            false => format!(", {} compressed", size(made.size)),
        },
        match &made.signature {
            Some(_) => ", signed",
            None => "",
        }
    )
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
