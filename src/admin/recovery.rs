//! The recovery kernel: `@backstay/kernels/recovery`, outside every dataset.
//!
//! A new one is made whole and durable beside the present one, then the two directories are
//! exchanged, and what was there becomes `recovery-previous`. At every instant GRUB finds a whole
//! recovery kernel under the one name or the other.

use super::error::{Error, Result};
use super::files::{copy, replace};
use super::initramfs::{AGENT, build};
use crate::record::layout::Part;
use crate::record::manifest::Release;
use crate::record::sums::{self, FILES, SUMS};
use crate::store::Store;
use crate::store::place::{Place, STORE};
use crate::sys::Context;
use crate::transaction::check;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::path::{Path, PathBuf};

/// What is missing of the recovery kernel; `None` when it is whole.
pub fn missing(top: &Path) -> Option<&'static str> {
    let directory = directory(top);
    FILES.into_iter().find(|name| {
        let length = std::fs::metadata(directory.join(name)).map(|file| file.len());
        length.unwrap_or(0) == 0
    })
}

/// The release of the recovery kernel where it is the live system's own.
pub fn of_live<S: Store>(store: &S, top: &Path) -> Result<Option<Release>> {
    let Some(kernel) = check::kernel(store, Place::Live(Part::System))? else {
        return Ok(None);
    };
    let live = top.join(store.layout().system.live.as_str());
    let [own, recovery] = [
        live.join(&kernel.image),
        kernels(top).join("recovery/vmlinuz"),
    ]
    .map(|path| std::fs::read(&path).map_err(Error::file("reading", &path)));
    Ok((own? == recovery?).then_some(kernel.release))
}

/// Where the recovery kernel lies.
pub fn directory(top: &Path) -> PathBuf {
    kernels(top).join("recovery")
}

/// The recovery kernel's initramfs.
pub fn initramfs(top: &Path) -> PathBuf {
    directory(top).join("initrd.img")
}

fn kernels(top: &Path) -> PathBuf {
    top.join(STORE).join("kernels")
}

/// What is the recovery kernel now.
#[derive(Debug)]
pub struct Installed {
    /// Its release.
    pub release: Release,
    /// Whether it is another one than before.
    pub is_new: bool,
}

/// Makes the live system's kernel, with an initramfs that holds the agent, the recovery kernel, unless it
/// is that already. On disk on return. `agent` is a program; without it the system's own is taken.
pub fn install<S: Store>(
    store: &mut S,
    top: &Path,
    agent: Option<&Path>,
    progress: &mut dyn FnMut(&str),
) -> Result<Installed> {
    let system = Place::Live(Part::System);
    let live = store.layout().system.live.to_string();
    let Some(kernel) = check::kernel(store, system)? else {
        return Err(Error::NoKernel(live));
    };
    progress(&format!(
        "building the recovery kernel from {}",
        kernel.release
    ));
    let root = top.join(&live);
    let agent = program(&root, &live, agent)?;
    let [made_at, new, present] =
        ["recovery.made", "recovery.new", "recovery"].map(|name| kernels(top).join(name));
    remove(&made_at)?;
    std::fs::create_dir_all(&made_at).map_err(Error::file("making", &made_at))?;
    let made = build(&root, &kernel.release, &agent, &made_at.join("initrd.img"))
        .and_then(|_| copy(&root.join(&kernel.image), &made_at.join("vmlinuz")))
        .and_then(|()| {
            let text = sums::of(&made_at).map_err(Error::file("reading", &made_at))?;
            replace(&made_at.join(SUMS), text.as_bytes())
        });
    if let Err(error) = made {
        remove(&made_at)?;
        return Err(error);
    }
    if is_same(&made_at, &present) {
        remove(&made_at)?;
        // A power cut between the exchange and the last step leaves the one before there.
        match new.exists() && sums::hold(&new).is_ok_and(|hold| hold) && !is_same(&new, &present) {
            true => keep_previous(top)?,
            false => remove(&new)?,
        }
        store.sync()?;
        return Ok(Installed {
            release: kernel.release,
            is_new: false,
        });
    }
    remove(&new)?;
    std::fs::rename(&made_at, &new).map_err(Error::file("renaming", &made_at))?;
    store.sync()?;
    put_in_place(top)?;
    store.sync()?;
    Ok(Installed {
        release: kernel.release,
        is_new: true,
    })
}

/// Whether two recovery kernels are the same, byte for byte.
fn is_same(one: &Path, other: &Path) -> bool {
    FILES.into_iter().chain([SUMS]).all(|name| {
        let bytes = |directory: &Path| std::fs::read(directory.join(name));
        bytes(one).is_ok_and(|new| bytes(other).is_ok_and(|old| old == new))
    })
}

/// The agent's program: the named one, else that of the live system. Where it is missing, its path is
/// told from the store's top level, wherever that is mounted.
fn program(root: &Path, live: &str, named: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let own = root.join(AGENT);
    match own.is_file() {
        true => Ok(own),
        false => Err(Error::NoAgent(Path::new(live).join(AGENT))),
    }
}

fn put_in_place(top: &Path) -> Result<()> {
    let [new, present] = ["recovery.new", "recovery"].map(|name| kernels(top).join(name));
    if !present.exists() {
        return std::fs::rename(&new, &present).map_err(Error::file("renaming", &new));
    }
    renameat_with(CWD, &new, CWD, &present, RenameFlags::EXCHANGE)
        .call(|| format!("renameat2({new:?}, {present:?}, EXCHANGE)"))?;
    // The exchange must be on disk before the one before the last goes.
    let directory =
        std::fs::File::open(kernels(top)).map_err(Error::file("opening", kernels(top)))?;
    rustix::fs::syncfs(&directory).call(|| "syncfs(kernels)".to_owned())?;
    keep_previous(top)
}

/// What was the recovery kernel before the exchange gets its name.
fn keep_previous(top: &Path) -> Result<()> {
    let [new, previous] = ["recovery.new", "recovery-previous"].map(|name| kernels(top).join(name));
    remove(&previous)?;
    std::fs::rename(&new, &previous).map_err(Error::file("renaming", &new))
}

/// Removes a directory with all that is in it; one that is not there is removed already.
pub(super) fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("removing", directory)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(top: &Path, text: &str) {
        let new = kernels(top).join("recovery.new");
        std::fs::create_dir_all(&new).unwrap();
        for name in FILES {
            std::fs::write(new.join(name), text).unwrap();
        }
    }

    #[test]
    fn a_missing_agent_is_named_from_the_top_level() {
        let root = Path::new("/proc/self/fd/3/@rootfs");
        let text = program(root, "@rootfs", None).unwrap_err().to_string();
        assert!(
            text.contains("\"@rootfs/usr/lib/backstay/backstay-init\""),
            "{text}"
        );
        assert!(!text.contains("/proc/"), "{text}");
        let named = Path::new("/tmp/agent");
        assert_eq!(program(root, "@rootfs", Some(named)).unwrap(), named);
    }

    #[test]
    fn the_newest_kernel_is_in_place_and_the_one_before_is_kept() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path();
        assert_eq!(missing(top), Some("vmlinuz"));
        for text in ["1", "2", "3"] {
            staged(top, text);
            put_in_place(top).unwrap();
            assert_eq!(missing(top), None);
        }
        let read = |name: &str| std::fs::read_to_string(kernels(top).join(name)).unwrap();
        assert_eq!(read("recovery/vmlinuz"), "3");
        assert_eq!(read("recovery-previous/initrd.img"), "2");
        assert!(!kernels(top).join("recovery.new").exists());
        std::fs::write(kernels(top).join("recovery/initrd.img"), "").unwrap();
        assert_eq!(missing(top), Some("initrd.img"));
    }
}
