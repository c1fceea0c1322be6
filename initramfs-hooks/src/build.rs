//! Puts the standalone initramfs together and writes it.
//!
//! ```text
//! init                          the agent
//! dev/ dev/console              the node, so that descriptors 0 to 2 are open from the start
//! proc/ sys/ run/ sysroot/      what the agent mounts on
//! bin/sh                        only if a shell was given
//! etc/backstay/policy.toml      what the agent may do, from the root's etc/backstay
//! etc/backstay/keys/NAME.pub    the keys whose signatures on default tarballs count: the root's, from
//!                               usr/lib/backstay/keys and etc/backstay/keys; the latter replaces a name
//! lib/modules/RELEASE/          chosen modules as they are in the root, depmod's tables reduced to them
//! ```
//! The archive is not compressed: the modules, most of it, are compressed already, every kernel takes
//! it, and nothing has to be unpacked twice on a slow machine. It is the same, byte for byte, for the
//! same input: sorted, no times, no owners.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use libc::{O_NOCTTY, O_NONBLOCK};

use crate::choose::choose;
use crate::cpio::Archive;
use crate::depmod::{Index, module_name};
use crate::elf;

/// Where a root may keep its modules; the first is what the others link to where they are merged.
const MODULE_PLACES: [&str; 2] = ["usr/lib/modules", "lib/modules"];
/// Where a root may keep public keys; a later one replaces the same name of an earlier one.
const KEY_PLACES: [&str; 2] = ["usr/lib/backstay/keys", "etc/backstay/keys"];
/// Where the settings lie, in a root and in an archive.
pub(crate) const SETTINGS: &str = "etc/backstay/";
/// What a root lets the agent do.
const POLICY: &str = "policy.toml";
/// Bytes of a key or of the policy at the most.
pub(crate) const SETTING_MAX: u64 = 64 << 10;
const DIRECTORIES: [&str; 5] = ["dev", "proc", "run", "sys", "sysroot"];

/// What to build, from what.
#[derive(Debug, Clone)]
pub struct Options {
    /// The root whose modules are taken; `/` for the running system.
    pub root: PathBuf,
    /// The kernel's release.
    pub release: String,
    /// The agent: a static program.
    pub agent: PathBuf,
    /// The archive to write; an older one is replaced whole.
    pub output: PathBuf,
    /// Further modules (names or aliases) for hardware that the list does not know.
    pub extra_modules: Vec<String>,
    /// A static shell for whoever sits at the console, as `/bin/sh`; none by default.
    pub shell: Option<PathBuf>,
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Names of the modules in it, sorted.
    pub modules: Vec<String>,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Why nothing was built. The old archive, if there was one, is still there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel is not installed there, or depmod did not run.
    #[error(
        "{root:?} has no modules of kernel {release} (lib/modules/{release}/modules.dep): install that kernel, or run depmod"
    )]
    NoModules {
        /// The root.
        root: PathBuf,
        /// The release.
        release: String,
    },
    /// Without it no store can be mounted.
    #[error("kernel {0} has no btrfs, neither built in nor as a module")]
    NoBtrfs(String),
    /// A module that was asked for does not exist.
    #[error(
        "kernel {release} has no module {name:?}, and no module has such an alias: name one of \
         'find /lib/modules/{release} -name \"*.ko*\"', or leave it out"
    )]
    NoModule {
        /// The name or alias.
        name: String,
        /// The kernel's release.
        release: String,
    },
    /// It would not start.
    #[error(
        "{0:?} is not a static program for this machine: an initramfs has no libraries; build it for the musl target"
    )]
    NotStatic(PathBuf),
    /// A name that would lead out of the archive's tree.
    #[error("{0:?} is not a kernel release")]
    BadRelease(String),
    /// A file could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// The call and the file.
        what: String,
        /// What it said.
        source: std::io::Error,
    },
}

trait Context<T> {
    fn of(self, call: &str, path: &Path) -> Result<T, Error>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn of(self, call: &str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            what: format!("{call}({path:?})"),
            source,
        })
    }
}

/// Builds the archive. When this returns it is on disk under its name: written beside it, synced,
/// renamed, and the directory synced. A power cut leaves the old archive or the new one, and perhaps
/// a file `OUTPUT.new`, which the next run removes. Nobody but its owner can read an archive whose policy
/// holds a password's hash, nor could while it was written.
///
/// # Errors
/// [`Error`]; the old archive then stays.
pub fn build(options: &Options) -> Result<Built, Error> {
    let release = &options.release;
    if release.is_empty() || release.starts_with('.') || release.contains('/') {
        return Err(Error::BadRelease(release.clone()));
    }
    let no_modules = || Error::NoModules {
        root: options.root.clone(),
        release: release.clone(),
    };
    let dir = MODULE_PLACES
        .iter()
        .map(|place| options.root.join(place).join(release))
        .find(|dir| dir.join("modules.dep").is_file())
        .ok_or_else(no_modules)?;
    let index = Index::read(&dir).of("read", &dir.join("modules.dep"))?;
    if let Some(name) = options.extra_modules.iter().find(|name| !index.knows(name)) {
        return Err(Error::NoModule {
            name: name.clone(),
            release: release.clone(),
        });
    }
    let modules = choose(&index, &options.extra_modules);
    if !modules.iter().any(|name| name == "btrfs") && !index.builtin.contains("btrfs") {
        return Err(Error::NoBtrfs(release.clone()));
    }
    let files = contents(options, &dir, &index, &modules)?;
    let is_secret = files.iter().any(|(name, (_, data))| match data {
        Data::Here(bytes) => name.ends_with(POLICY) && may_hold_secret(bytes),
        Data::From(_) => false,
    });
    let bytes = replace(&options.output, is_secret, |file| {
        write_archive(file, &files)
    })?;
    Ok(Built { modules, bytes })
}

/// Where the data of an archive's file comes from.
enum Data {
    Here(Vec<u8>),
    From(PathBuf),
}

/// All regular files: name in the archive, mode, data.
fn contents(
    options: &Options,
    dir: &Path,
    index: &Index,
    modules: &[String],
) -> Result<BTreeMap<String, (u32, Data)>, Error> {
    let mut files = BTreeMap::new();
    let programs = [
        (Some(&options.agent), "init"),
        (options.shell.as_ref(), "bin/sh"),
    ];
    for (path, name) in programs {
        let Some(path) = path else { continue };
        let program = std::fs::read(path).of("read", path)?;
        if !elf::is_static(&program) {
            return Err(Error::NotStatic(path.clone()));
        }
        files.insert(name.to_owned(), (0o755, Data::Here(program)));
    }
    settings(&options.root, &mut files)?;
    let base = format!("lib/modules/{}", options.release);
    for module in modules.iter().filter_map(|name| index.modules.get(name)) {
        let name = format!("{base}/{}", module.path.display());
        files.insert(name, (0o644, Data::From(dir.join(&module.path))));
    }
    for (name, text) in tables(dir, modules)? {
        files.insert(
            format!("{base}/{name}"),
            (0o644, Data::Here(text.into_bytes())),
        );
    }
    Ok(files)
}

/// The public keys that a root trusts, by name: a name in etc/backstay/keys replaces the one of the vendor.
///
/// # Errors
/// A directory or a key that is there and cannot be read.
pub fn keys(root: &Path) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut keys = BTreeMap::new();
    for place in KEY_PLACES {
        let directory = root.join(place);
        let entries = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.of("readdir", &directory)?,
        };
        for entry in entries {
            let path = entry.of("readdir", &directory)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(name) = name.filter(|name| name.ends_with(".pub")) else {
                continue;
            };
            keys.insert(name.to_owned(), setting(&path).of("read", &path)?);
        }
    }
    Ok(keys)
}

/// The settings of a root as an initramfs of it would have them, by their paths below etc/backstay.
///
/// # Errors
/// One that is there and cannot be read.
pub fn settings_of_root(root: &Path) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let keys = keys(root)?.into_iter();
    let mut found: BTreeMap<String, Vec<u8>> = keys
        .map(|(name, bytes)| (format!("keys/{name}"), bytes))
        .collect();
    let policy = root.join(SETTINGS).join(POLICY);
    match setting(&policy) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        other => drop(found.insert(POLICY.to_owned(), other.of("read", &policy)?)),
    }
    Ok(found)
}

/// Whether a policy may hold the hash of a password: it has the word, which is the key's name. The hook for
/// initramfs-tools asks the same.
pub fn may_hold_secret(policy: &[u8]) -> bool {
    const WORD: &[u8] = b"password";
    policy.windows(WORD.len()).any(|at| at == WORD)
}

/// Reads a small regular file, perhaps through a link. A FIFO or a device might keep us for ever.
fn setting(path: &Path) -> std::io::Result<Vec<u8>> {
    let refused = |why| std::io::Error::new(std::io::ErrorKind::InvalidInput, why);
    let file = File::options()
        .read(true)
        .custom_flags(O_NONBLOCK | O_NOCTTY)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(refused("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(SETTING_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        ..=SETTING_MAX => Ok(bytes),
        _ => Err(refused("it is longer than 64 KiB")),
    }
}

/// The keys and the policy of a root, as regular files, whatever they are there.
fn settings(root: &Path, files: &mut BTreeMap<String, (u32, Data)>) -> Result<(), Error> {
    for (name, bytes) in settings_of_root(root)? {
        files.insert(format!("{SETTINGS}{name}"), (0o644, Data::Here(bytes)));
    }
    Ok(())
}

/// depmod's tables with only the lines of `modules`; the list of built-in modules as it is.
fn tables(dir: &Path, modules: &[String]) -> Result<Vec<(&'static str, String)>, Error> {
    let inside: BTreeSet<&str> = modules.iter().map(String::as_str).collect();
    let keep =
        |name: Option<&str>| name.is_some_and(|name| inside.contains(module_name(name).as_str()));
    type Keep<'a> = &'a dyn Fn(&str) -> bool;
    let rules: [(&str, Keep<'_>); 4] = [
        ("modules.dep", &|line| keep(line.split(':').next())),
        ("modules.alias", &|line| {
            line.starts_with("alias ") && keep(line.split_whitespace().last())
        }),
        ("modules.softdep", &|line| {
            line.starts_with("softdep ") && keep(line.split_whitespace().nth(1))
        }),
        ("modules.builtin", &|_| true),
    ];
    let mut tables = Vec::new();
    for (name, rule) in rules {
        let path = dir.join(name);
        if !path.exists() {
            continue;
        }
        let text = std::fs::read_to_string(&path).of("read", &path)?;
        let mut lines: Vec<&str> = text.lines().filter(|line| rule(line)).collect();
        // depmod's order of these follows the directory's; of the others the order means something.
        if name == "modules.dep" || name == "modules.builtin" {
            lines.sort_unstable();
        }
        let mut reduced = lines.join("\n");
        reduced.push('\n');
        tables.push((name, reduced));
    }
    Ok(tables)
}

fn write_archive(file: File, files: &BTreeMap<String, (u32, Data)>) -> Result<(File, u64), Error> {
    let wrote = |result: std::io::Result<()>| result.of("write", Path::new("the archive"));
    let mut archive = Archive::new(BufWriter::new(file));
    let mut directories: BTreeSet<String> = DIRECTORIES.iter().map(|d| (*d).to_owned()).collect();
    for name in files.keys() {
        let parents = Path::new(name).ancestors().skip(1);
        directories.extend(
            parents
                .map(|p| p.display().to_string())
                .filter(|p| !p.is_empty()),
        );
    }
    // Sorted, so that a directory comes before what is in it.
    for name in &directories {
        wrote(archive.directory(name, 0o755))?;
    }
    // Major and minor: Documentation/admin-guide/devices.txt. Where no console has a driver, the kernel starts /init with
    // descriptors 0 to 2 closed, and Rust's runtime opens /dev/null for them, or aborts before main.
    wrote(archive.character_device("dev/console", 0o600, (5, 1)))?;
    wrote(archive.character_device("dev/null", 0o666, (1, 3)))?;
    for (name, (mode, data)) in files {
        match data {
            Data::Here(bytes) => wrote(archive.file(name, *mode, bytes))?,
            Data::From(path) => {
                let bytes = std::fs::read(path).of("read", path)?;
                wrote(archive.file(name, *mode, &bytes))?;
            }
        }
    }
    let (writer, bytes) = archive.finish().of("write", Path::new("the archive"))?;
    let file = writer.into_inner().map_err(|error| error.into_error());
    Ok((file.of("write", Path::new("the archive"))?, bytes))
}

/// Writes `OUTPUT.new`, syncs it, renames it, syncs the directory.
fn replace(
    output: &Path,
    is_secret: bool,
    write: impl FnOnce(File) -> Result<(File, u64), Error>,
) -> Result<u64, Error> {
    let mut name = output.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // One that was left there has a mode of its own, and may be open elsewhere.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).of("unlink", &new)?;
        }
        _ => {}
    }
    let mut create = File::options();
    create.write(true).create_new(true);
    if is_secret {
        create.mode(0o600);
    }
    let result = create.open(&new).of("create", &new).and_then(|file| {
        let (mut file, bytes) = write(file)?;
        file.flush()
            .and_then(|()| file.sync_all())
            .of("fsync", &new)?;
        std::fs::rename(&new, output).of("rename", output)?;
        Ok(bytes)
    });
    if result.is_err() {
        // What is half written helps nobody; that it may not go changes nothing.
        let _ = std::fs::remove_file(&new);
    }
    let bytes = result?;
    let parent = output
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .of("fsync", parent)?;
    Ok(bytes)
}
