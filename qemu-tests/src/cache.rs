//! Built files that are expensive to make, kept by a hash of what they are made from.
//!
//! Two places: [`Cache::machine`] (`~/.cache/backstay`) for what depends on Debian's packages alone and
//! so serves every clone on the machine, [`Cache::local`] (`target/vm-cache`) for what holds binaries
//! built from this tree. `BACKSTAY_CACHE` moves both to one directory.
//!
//! An entry is made under a temporary name and renamed when it is whole, so a build that was interrupted
//! is never used. A lock file per entry makes two processes at once safe: the second one waits
//! and then finds the entry of the first. Nothing is synced: a cache lost in a crash is built again, and
//! an entry that was torn by one is refused by its users (guests do not boot from it).

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

/// What can go wrong while an entry is looked up or made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the cache, or an input of a key, cannot be read or written.
    #[error("{call} {path}: {source} (the cache can be moved with BACKSTAY_CACHE=DIR)")]
    Io {
        /// The operation that failed.
        call: &'static str,
        /// The file it was tried on.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// No directory is known that the cache could be in.
    #[error(
        "neither HOME nor XDG_CACHE_HOME is set: say where the cache is with BACKSTAY_CACHE=DIR"
    )]
    NoHome,
}

fn io_error(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { call, path, source }
}

/// The identity of an entry: a hash over everything that its content depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Begins a key. `recipe` names the way of making and its version.
    pub fn of(recipe: &str) -> KeyBuilder {
        KeyBuilder(Sha256::new()).text(recipe)
    }

    /// The key as 16 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A key that is being put together.
pub struct KeyBuilder(Sha256);

impl KeyBuilder {
    /// Adds a text. Two texts are not the same as their concatenation.
    pub fn text(mut self, text: &str) -> Self {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
        self
    }

    /// Adds the content of a file.
    pub fn file(mut self, path: &Path) -> Result<Self, Error> {
        let mut file = File::open(path).map_err(io_error("open", path))?;
        let mut digest = Sha256::new();
        let mut block = vec![0; 1 << 16];
        loop {
            let count = file.read(&mut block).map_err(io_error("read", path))?;
            if count == 0 {
                break;
            }
            digest.update(block.get(..count).unwrap_or_default());
        }
        self.0.update(digest.finalize());
        Ok(self)
    }

    /// Adds another key: this entry is built upon that one.
    pub fn key(self, key: &Key) -> Self {
        self.text(key.as_str())
    }

    /// The finished key.
    pub fn finish(self) -> Key {
        let digest = self.0.finalize();
        Key(digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }
}

/// A directory of entries.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
    keep: Duration,
}

/// How long an entry of an earlier key is kept after its last use.
const KEEP_MACHINE: Duration = Duration::from_secs(14 * 24 * 3600);
const KEEP_LOCAL: Duration = Duration::from_secs(15 * 60);

impl Cache {
    /// The cache that all clones on this machine share: `$BACKSTAY_CACHE`, else
    /// `$XDG_CACHE_HOME/backstay`, else `~/.cache/backstay`.
    pub fn machine() -> Result<Self, Error> {
        let variable = |name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let dir = variable("BACKSTAY_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|dir| dir.join("backstay")))
            .or_else(|| variable("HOME").map(|dir| dir.join(".cache/backstay")))
            .ok_or(Error::NoHome)?;
        Self::at(dir, KEEP_MACHINE)
    }

    /// The cache of this working tree: `$BACKSTAY_CACHE`, else `vm-cache` in cargo's target directory.
    pub fn local() -> Result<Self, Error> {
        let dir = match std::env::var_os("BACKSTAY_CACHE").filter(|v| !v.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => target_dir().join("vm-cache"),
        };
        Self::at(dir, KEEP_LOCAL)
    }

    fn at(dir: PathBuf, keep: Duration) -> Result<Self, Error> {
        fs::create_dir_all(&dir).map_err(io_error("mkdir", &dir))?;
        Ok(Self { dir, keep })
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file `NAME-KEY.EXTENSION`; if it is not there, `build` makes it at the path it is given.
    ///
    /// Entries of the same name that were not used for long (14 days, in the working tree 15
    /// minutes: there each build of the programs makes all disks anew) are
    /// deleted after a new one was made.
    pub fn entry<E: From<Error>>(
        &self,
        name: &str,
        extension: &str,
        key: &Key,
        build: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let stem = format!("{name}-{}", key.as_str());
        let path = self.dir.join(format!("{stem}.{extension}"));
        if touch(&path) {
            return Ok(path);
        }
        let lock_path = self.dir.join(format!("{name}.lock"));
        let lock = File::create(&lock_path).map_err(io_error("open", &lock_path))?;
        lock.lock().map_err(io_error("lock", &lock_path))?;
        if touch(&path) {
            return Ok(path);
        }
        let half_made = self.dir.join(format!("{stem}.{extension}.part"));
        discard(&half_made)?;
        build(&half_made)?;
        fs::rename(&half_made, &path).map_err(io_error("rename", &half_made))?;
        self.forget_old(name, extension, &path);
        Ok(path)
    }

    /// Deletes what was made under `name` for other keys and not used for long. Failing is harmless.
    fn forget_old(&self, name: &str, extension: &str, present: &Path) {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let file_name = entry.file_name();
            let key = file_name.to_str().and_then(|file| {
                file.strip_prefix(name)?
                    .strip_prefix('-')?
                    .split_once('.')
                    .filter(|(_, rest)| {
                        *rest == extension || rest.strip_suffix(".part") == Some(extension)
                    })
            });
            let is_key = key.is_some_and(|(key, _)| {
                key.len() == 16 && key.bytes().all(|byte| byte.is_ascii_hexdigit())
            });
            let unused = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
                .and_then(|used| SystemTime::now().duration_since(used).ok())
                .is_some_and(|age| age > self.keep);
            if is_key && unused && path != present {
                let _ = discard(&path);
            }
        }
    }
}

/// Notes that an entry is used. False: there is none.
fn touch(path: &Path) -> bool {
    if !path.exists() {
        return false;
    }
    // A file of somebody else's cannot be touched, but it can be used.
    if let Ok(file) = File::open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
    true
}

fn discard(path: &Path) -> Result<(), Error> {
    let gone = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match gone {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("unlink", path)(error))
        }
        _ => Ok(()),
    }
}

/// Cargo's target directory of this workspace.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => workspace().join("target"),
    }
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().to_owned(), Duration::from_secs(3600)).unwrap();
        (dir, cache)
    }

    #[test]
    fn an_entry_is_made_once_and_found_again() {
        let (_dir, cache) = scratch();
        let key = Key::of("test").text("a").finish();
        for turn in 0..2 {
            let path = cache
                .entry("thing", "txt", &key, |path| -> Result<(), Error> {
                    assert_eq!(turn, 0, "made a second time");
                    fs::write(path, "content").map_err(io_error("write", path))
                })
                .unwrap();
            assert_eq!(fs::read_to_string(path).unwrap(), "content");
        }
    }

    #[test]
    fn a_half_made_entry_is_never_used() {
        let (_dir, cache) = scratch();
        let key = Key::of("test").finish();
        let failed = cache.entry("thing", "txt", &key, |path| {
            fs::write(path, "half").map_err(io_error("write", path))?;
            Err(Error::NoHome)
        });
        assert!(matches!(failed, Err(Error::NoHome)));
        let path = cache
            .entry("thing", "txt", &key, |path| -> Result<(), Error> {
                assert!(!path.exists());
                fs::write(path, "whole").map_err(io_error("write", path))
            })
            .unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "whole");
    }

    #[test]
    fn keys_differ_by_each_input_and_by_where_it_ends() {
        let keys = [
            Key::of("r").finish(),
            Key::of("r").text("ab").finish(),
            Key::of("r").text("a").text("b").finish(),
            Key::of("r").text("").text("ab").finish(),
            Key::of("ra").text("b").finish(),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[at + 1..].contains(key), "{at}");
        }
    }

    #[test]
    fn only_old_entries_of_the_same_name_are_forgotten() {
        let (dir, cache) = scratch();
        let old = SystemTime::now() - Duration::from_secs(7200);
        let file = |name: &str, time| {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_modified(time).unwrap();
        };
        file("thing-0123456789abcdef.txt", old);
        file("thing-fedcba9876543210.txt", SystemTime::now());
        file("thing-more-0123456789abcdef.txt", old);
        file("thing-0123456789abcdef.img", old);
        let key = Key::of("test").finish();
        cache
            .entry("thing", "txt", &key, |path| {
                fs::write(path, "").map_err(io_error("write", path))
            })
            .unwrap();
        let there = |name: &str| dir.path().join(name).exists();
        assert!(!there("thing-0123456789abcdef.txt"));
        assert!(there("thing-fedcba9876543210.txt"));
        assert!(there("thing-more-0123456789abcdef.txt"));
        assert!(there("thing-0123456789abcdef.img"));
    }
}
