//! The live system's kernel, kept in the system itself where /boot is a file system of its own.
//!
//! A kernel in /boot does not go back with the root, so after a rollback the root would have modules for another one.
//! So a copy of it, with its initramfs, lies in the root, at [`KEPT`]: every snapshot has its own, which costs no room
//! as long as it is the same one, and goes with the snapshot. GRUB's entry for what is live starts it from there, where
//! GRUB reads btrfs; the agent starts it by kexec where GRUB has started another one.
//!
//! The copy is made by the hooks of the kernel's and the initramfs's packages, and again before a snapshot is taken. It
//! is whole and on disk before it takes the place of the one before.

use super::error::{Error, Result};
use super::files::copy;
use super::recovery::remove;
use crate::sys::{Context, mountinfo};
use crate::transaction::check::KEPT;
use rustix::fs::{CWD, RenameFlags, renameat_with, syncfs};
use std::cmp::Ordering;
use std::path::{Path, PathBuf};

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The kernel lies in the root anyway.
    NotNeeded,
    /// It is kept already.
    Already,
    /// It was copied; its release.
    Now(String),
}

/// Keeps the kernel that GRUB starts, if /boot is a file system of its own.
pub fn keep() -> Result<Kept> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(path).map_err(Error::file("reading", path))?;
    match mountinfo::at(&text, "/boot") {
        Some(_) => keep_in(Path::new("/")),
        None => Ok(Kept::NotNeeded),
    }
}

fn keep_in(root: &Path) -> Result<Kept> {
    let kept = root.join(KEPT);
    let known = whole(root, &kept);
    let Some(kernel) = newest(root) else {
        // After a rollback /boot may have only kernels of later versions.
        return known.map_or_else(
            || Err(Error::NoKernel("/boot".to_owned())),
            |_| Ok(Kept::Already),
        );
    };
    if known.is_some_and(|known| by_version(&known, &kernel.release) == Ordering::Greater) {
        return Ok(Kept::Already);
    }
    let is_there = [("vmlinuz", &kernel.image), ("initrd.img", &kernel.initrd)]
        .iter()
        .all(|(name, path)| is_same(&kept.join(name), path));
    if is_there {
        return Ok(Kept::Already);
    }
    let made = kept.with_extension("new");
    remove(&made)?;
    std::fs::create_dir_all(&made).map_err(Error::file("making", &made))?;
    for (name, from) in [("vmlinuz", &kernel.image), ("initrd.img", &kernel.initrd)] {
        let file = format!("{name}-{}", kernel.release);
        copy(from, &made.join(&file))?;
        let link = made.join(name);
        std::os::unix::fs::symlink(&file, &link).map_err(Error::file("making", &link))?;
    }
    sync(&made)?;
    match kept.exists() {
        true => renameat_with(CWD, &made, CWD, &kept, RenameFlags::EXCHANGE)
            .call(|| format!("renameat2({made:?}, {kept:?}, EXCHANGE)"))?,
        false => std::fs::rename(&made, &kept).map_err(Error::file("renaming", &made))?,
    }
    sync(&kept)?;
    remove(&made)?;
    Ok(Kept::Now(kernel.release))
}

/// The release of the kernel that is kept, if the root has modules for it.
fn whole(root: &Path, kept: &Path) -> Option<String> {
    let name = std::fs::read_link(kept.join("vmlinuz")).ok()?;
    let release = name.to_str()?.strip_prefix("vmlinuz-")?;
    let is_there = |file: String| kept.join(file).is_file();
    let whole = is_there(format!("vmlinuz-{release}"))
        && is_there(format!("initrd.img-{release}"))
        && has_modules(root, release);
    whole.then(|| release.to_owned())
}

/// Whether a root has a kernel's modules. Their table alone stays when a package is removed and not purged.
fn has_modules(root: &Path, release: &str) -> bool {
    let modules = root.join("lib/modules").join(release);
    modules.join("modules.dep").is_file() && modules.join("kernel").is_dir()
}

struct Kernel {
    image: PathBuf,
    initrd: PathBuf,
    release: String,
}

/// The kernel that GRUB starts first: the newest that has an initramfs, and modules in the root.
fn newest(root: &Path) -> Option<Kernel> {
    let boot = root.join("boot");
    let release = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_prefix("vmlinuz-")?.to_owned())
    };
    let entries = std::fs::read_dir(&boot).ok()?.flatten();
    let whole = entries.filter_map(release).filter_map(|release| {
        let initrd = boot.join(format!("initrd.img-{release}"));
        (initrd.is_file() && has_modules(root, &release)).then(|| Kernel {
            image: boot.join(format!("vmlinuz-{release}")),
            initrd,
            release,
        })
    });
    whole.max_by(|one, other| by_version(&one.release, &other.release))
}

/// Compares numbers in names as numbers: 6.9 is older than 6.12.
fn by_version(one: &str, other: &str) -> Ordering {
    parts(one).cmp(&parts(other))
}

/// Runs of digits, as numbers, and what is between them.
fn parts(name: &str) -> Vec<(String, u64)> {
    let mut parts = vec![(String::new(), 0_u64)];
    let mut in_number = false;
    for c in name.chars() {
        match c.to_digit(10) {
            Some(digit) => {
                in_number = true;
                if let Some((_, number)) = parts.last_mut() {
                    *number = number.saturating_mul(10).saturating_add(digit.into());
                }
            }
            None => {
                if in_number {
                    in_number = false;
                    parts.push((String::new(), 0));
                }
                if let Some((text, _)) = parts.last_mut() {
                    text.push(c);
                }
            }
        }
    }
    parts
}

fn is_same(one: &Path, other: &Path) -> bool {
    let length = |path: &Path| std::fs::metadata(path).map(|it| it.len()).ok();
    length(one).is_some()
        && length(one) == length(other)
        && std::fs::read(one).is_ok_and(|it| std::fs::read(other).is_ok_and(|that| that == it))
}

fn sync(directory: &Path) -> Result<()> {
    let open = std::fs::File::open(directory).map_err(Error::file("opening", directory))?;
    Ok(syncfs(&open).call(|| format!("syncfs({directory:?})"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(root: &Path, release: &str, text: &str) {
        for name in ["vmlinuz", "initrd.img"] {
            std::fs::write(root.join(format!("boot/{name}-{release}")), text).unwrap();
        }
        let modules = root.join("lib/modules").join(release);
        std::fs::create_dir_all(modules.join("kernel")).unwrap();
        std::fs::write(modules.join("modules.dep"), "").unwrap();
    }

    #[test]
    fn the_newest_whole_kernel_is_kept_once() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        std::fs::create_dir(root.join("boot")).unwrap();
        assert!(matches!(keep_in(root), Err(Error::NoKernel(_))));
        install(root, "6.9.1-amd64", "old");
        assert_eq!(keep_in(root).unwrap(), Kept::Now("6.9.1-amd64".into()));
        assert_eq!(keep_in(root).unwrap(), Kept::Already);
        install(root, "6.12.3-amd64", "new");
        // One without modules in this root is another root's.
        install(root, "6.18.1-amd64", "newest");
        std::fs::remove_dir_all(root.join("lib/modules/6.18.1-amd64")).unwrap();
        assert_eq!(keep_in(root).unwrap(), Kept::Now("6.12.3-amd64".into()));
        let kept = root.join(KEPT);
        assert_eq!(
            std::fs::read_to_string(kept.join("vmlinuz")).unwrap(),
            "new"
        );
        assert_eq!(
            std::fs::read_link(kept.join("vmlinuz")).unwrap(),
            Path::new("vmlinuz-6.12.3-amd64")
        );
        assert!(!kept.with_extension("new").exists());
        assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 4);
        // The same release, made anew.
        install(root, "6.12.3-amd64", "new, with another initramfs");
        assert_eq!(keep_in(root).unwrap(), Kept::Now("6.12.3-amd64".into()));
        // Gone from /boot, and the system still has its modules.
        for name in ["vmlinuz", "initrd.img"] {
            std::fs::remove_file(root.join(format!("boot/{name}-6.12.3-amd64"))).unwrap();
        }
        assert_eq!(keep_in(root).unwrap(), Kept::Already);
        // The package was removed.
        std::fs::remove_dir(root.join("lib/modules/6.12.3-amd64/kernel")).unwrap();
        assert_eq!(keep_in(root).unwrap(), Kept::Now("6.9.1-amd64".into()));
        // As after a rollback: /boot has nothing for this root, and what is kept fits it.
        for name in ["vmlinuz", "initrd.img"] {
            std::fs::remove_file(root.join(format!("boot/{name}-6.9.1-amd64"))).unwrap();
        }
        assert_eq!(keep_in(root).unwrap(), Kept::Already);
    }

    #[test]
    fn numbers_in_names_are_compared_as_numbers() {
        for (older, newer) in [
            ("6.9.1", "6.12.0"),
            ("6.12.9+deb13-amd64", "6.12.10+deb13-amd64"),
            ("5.10.0-9-amd64", "5.10.0-10-amd64"),
        ] {
            assert_eq!(by_version(older, newer), Ordering::Less, "{older} {newer}");
        }
        assert_eq!(by_version("6.1", "6.1"), Ordering::Equal);
    }
}
