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
use crate::store::Store;
use crate::store::place::{Place, STORE};
use crate::sys::Context;
use crate::transaction::check;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

const FILES: [&str; 2] = ["vmlinuz", "initrd.img"];

/// What is missing of the recovery kernel; `None` when it is whole.
pub fn missing(top: &Path) -> Option<&'static str> {
    let directory = kernels(top).join("recovery");
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

/// The recovery kernel's initramfs.
pub fn initramfs(top: &Path) -> PathBuf {
    kernels(top).join("recovery/initrd.img")
}

fn kernels(top: &Path) -> PathBuf {
    top.join(STORE).join("kernels")
}

/// Makes the live system's kernel, with an initramfs that holds the agent, the recovery kernel, unless it
/// is that already. On disk on return. `agent` is a program; without it the system's own is taken.
pub fn install<S: Store>(
    store: &mut S,
    top: &Path,
    agent: Option<&Path>,
    progress: &mut dyn FnMut(&str),
) -> Result<Release> {
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
    let new = kernels(top).join("recovery.new");
    remove(&new)?;
    std::fs::create_dir_all(&new).map_err(Error::file("making", &new))?;
    let made = build(&root, &kernel.release, &agent, &new.join("initrd.img"))
        .and_then(|_| copy(&root.join(&kernel.image), &new.join("vmlinuz")))
        .and_then(|()| write_sums(&new));
    if let Err(error) = made {
        remove(&new)?;
        return Err(error);
    }
    if is_same(&new, &kernels(top).join("recovery")) {
        remove(&new)?;
        return Ok(kernel.release);
    }
    store.sync()?;
    put_in_place(top)?;
    store.sync()?;
    Ok(kernel.release)
}

/// Whether two recovery kernels are the same, byte for byte.
fn is_same(one: &Path, other: &Path) -> bool {
    FILES.into_iter().chain(["sums"]).all(|name| {
        let bytes = |directory: &Path| std::fs::read(directory.join(name));
        bytes(one).is_ok_and(|new| bytes(other).is_ok_and(|old| old == new))
    })
}

/// Writes what GRUB compares the files with before it starts them unattended: as sha256sum(1) does.
fn write_sums(directory: &Path) -> Result<()> {
    let mut text = String::new();
    for name in FILES {
        let path = directory.join(name);
        let bytes = std::fs::read(&path).map_err(Error::file("reading", &path))?;
        for byte in Sha256::digest(&bytes) {
            text.push_str(&format!("{byte:02x}"));
        }
        text.push_str(&format!("  {name}\n"));
    }
    replace(&directory.join("sums"), text.as_bytes())
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
    let [new, present, previous] =
        ["recovery.new", "recovery", "recovery-previous"].map(|name| kernels(top).join(name));
    if !present.exists() {
        return std::fs::rename(&new, &present).map_err(Error::file("renaming", &new));
    }
    renameat_with(CWD, &new, CWD, &present, RenameFlags::EXCHANGE)
        .call(|| format!("renameat2({new:?}, {present:?}, EXCHANGE)"))?;
    // The exchange must be on disk before the one before the last goes.
    let directory =
        std::fs::File::open(kernels(top)).map_err(Error::file("opening", kernels(top)))?;
    rustix::fs::syncfs(&directory).call(|| "syncfs(kernels)".to_owned())?;
    remove(&previous)?;
    std::fs::rename(&new, &previous).map_err(Error::file("renaming", &new))
}

fn remove(directory: &Path) -> Result<()> {
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
    fn the_sums_are_those_of_sha256sum() {
        let directory = tempfile::tempdir().unwrap();
        for name in FILES {
            std::fs::write(directory.path().join(name), "abc").unwrap();
        }
        write_sums(directory.path()).unwrap();
        let text = std::fs::read_to_string(directory.path().join("sums")).unwrap();
        // FIPS 180-4's example.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(text, format!("{abc}  vmlinuz\n{abc}  initrd.img\n"));
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
