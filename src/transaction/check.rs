//! Whether a root can boot: an init, a kernel with its modules, no pin to another root.

use super::Error;
use crate::record::layout::{Dataset, Layout, Part};
use crate::record::manifest::{Release, title};
use crate::store::place::Place;
use crate::store::{Node, Store};
use crate::sys;

/// Symbolic links followed at the most, as the kernel does (`MAXSYMLINKS`, fs.h).
const MAX_LINKS: usize = 40;

/// The inits that the kernel and every initramfs know, in their order, but the shell: a system that
/// has nothing else is not one.
pub const INITS: [&str; 3] = ["sbin/init", "etc/init", "bin/init"];

/// Follows symbolic links inside a dataset, as if it were the root. `None` when nothing is there.
pub fn resolve<S: Store>(store: &S, root: Place, path: &str) -> Result<Option<String>, Error> {
    let mut left: Vec<String> = components(path);
    let mut done: Vec<String> = Vec::new();
    let mut links = 0;
    while let Some(name) = left.pop() {
        if name == ".." {
            done.pop();
            continue;
        }
        done.push(name);
        let here = done.join("/");
        match store.node(root, &here)? {
            None => return Ok(None),
            Some(Node::Symlink) => {
                links += 1;
                let Some(target) = store.link(root, &here)?.filter(|_| links <= MAX_LINKS) else {
                    return Ok(None);
                };
                done.pop();
                if target.starts_with('/') {
                    done.clear();
                }
                left.extend(components(&target));
            }
            Some(_) => {}
        }
    }
    Ok(Some(done.join("/")))
}

/// The same, where a regular file is there.
fn resolve_file<S: Store>(store: &S, root: Place, path: &str) -> Result<Option<String>, Error> {
    let Some(path) = resolve(store, root, path)? else {
        return Ok(None);
    };
    let is_file = store.node(root, &path)? == Some(Node::File);
    Ok(is_file.then_some(path))
}

/// The names of a path, last first.
fn components(path: &str) -> Vec<String> {
    path.split('/')
        .rev()
        .filter(|name| !matches!(*name, "" | "."))
        .map(str::to_owned)
        .collect()
}

/// Where a root has a copy of its kernel where /boot is a file system of its own, with the names of /boot.
pub const KEPT: &str = "usr/lib/backstay/boot";

/// A root's own kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its image, below the root.
    pub image: String,
    /// Its initramfs, below the root, if there is one.
    pub initrd: Option<String>,
    /// Its release, from the image's name.
    pub release: Release,
}

/// Finds the kernel that GRUB would boot from a root: `boot/vmlinuz`, else `vmlinuz`, else the one in [`KEPT`].
pub fn kernel<S: Store>(store: &S, root: Place) -> Result<Option<Kernel>, Error> {
    for (image, initrd) in [
        ("boot/vmlinuz", "boot/initrd.img"),
        ("vmlinuz", "initrd.img"),
        (
            "usr/lib/backstay/boot/vmlinuz",
            "usr/lib/backstay/boot/initrd.img",
        ),
    ] {
        let Some(image) = resolve_file(store, root, image)? else {
            continue;
        };
        let Some(release) = image
            .rsplit('/')
            .next()
            .and_then(|name| name.strip_prefix("vmlinuz-"))
        else {
            continue;
        };
        let Ok(release) = Release::try_from(release) else {
            continue;
        };
        return Ok(Some(Kernel {
            image,
            initrd: resolve_file(store, root, initrd)?,
            release,
        }));
    }
    Ok(None)
}

/// Whether a root has the modules of this kernel release.
pub fn has_modules<S: Store>(store: &S, root: Place, release: &str) -> Result<bool, Error> {
    let path = format!("lib/modules/{release}/modules.dep");
    Ok(resolve(store, root, &path)?.is_some())
}

/// Checks that a root can boot; an error names what is missing.
pub fn root<S: Store>(store: &S, root: Place) -> Result<(), Error> {
    let mut found = false;
    for init in INITS {
        found = found
            || match resolve(store, root, init)? {
                Some(init) => store.is_executable(root, &init)?,
                None => false,
            };
    }
    if !found {
        return Err(Error::Unbootable(
            "it has no init (/sbin/init, a program)".to_owned(),
        ));
    }
    let Some(kernel) = kernel(store, root)? else {
        return Err(Error::Unbootable(
            "it has no kernel (/boot/vmlinuz or /vmlinuz, a link to the file vmlinuz-RELEASE)"
                .to_owned(),
        ));
    };
    let Some(initrd) = &kernel.initrd else {
        return Err(Error::Unbootable(format!(
            "it has no initramfs beside its kernel {} (boot/initrd.img or initrd.img)",
            kernel.release
        )));
    };
    for path in [&kernel.image, initrd] {
        if store
            .content(root, path)?
            .is_none_or(|bytes| bytes.is_empty())
        {
            return Err(Error::Unbootable(format!("its /{path} is empty")));
        }
    }
    if !has_modules(store, root, &kernel.release)? {
        return Err(Error::Unbootable(format!(
            "it has no modules for its kernel (/lib/modules/{})",
            kernel.release
        )));
    }
    if let Some(dataset) = lacks_mount(store, root)?.first() {
        return Err(Error::Unbootable(format!(
            "it does not mount {} at {}: there is no directory, or no entry in its /etc/fstab",
            dataset.name, dataset.mount
        )));
    }
    pins(&fstab(store, root)?, store.layout())
}

/// Where systemd finds what a target wants, in its own order.
const UNITS: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];

/// Where a system declares its datasets, from its root; the first one counts. Without either, the unit that marks it
/// good does not run.
pub const LAYOUTS: [&str; 2] = ["etc/backstay/layout.toml", "usr/lib/backstay/layout.toml"];

/// Whether a system marks itself good once it is up: it declares its datasets, and backstay's own unit is wanted by one
/// of its targets, and is not masked, which is a link to /dev/null (systemctl(1)).
pub fn marks_itself_good<S: Store>(store: &S, root: Place) -> Result<bool, Error> {
    let own = "etc/systemd/system/backstay-mark-good.service";
    if store.node(root, own)?.is_some() && !is_file(store, root, own)? {
        return Ok(false);
    }
    let mut declares = false;
    for layout in LAYOUTS {
        declares = declares || is_file(store, root, layout)?;
    }
    if !declares {
        return Ok(false);
    }
    for units in UNITS {
        for target in ["multi-user", "graphical", "default", "boot-complete"] {
            let path = format!("{units}/{target}.target.wants/backstay-mark-good.service");
            if resolve(store, root, &path)?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether a path leads to a regular file, by whatever links.
fn is_file<S: Store>(store: &S, root: Place, path: &str) -> Result<bool, Error> {
    Ok(match resolve(store, root, path)? {
        Some(path) => store.node(root, &path)? == Some(Node::File),
        None => false,
    })
}

/// Whether a system's disks are unlocked by a TPM, by what it has measured (crypttab(5)): it must be started as
/// always, with no other kernel before its own.
pub fn is_unlocked_by_measurement<S: Store>(store: &S, root: Place) -> Result<bool, Error> {
    let Some(path) = resolve(store, root, "etc/crypttab")? else {
        return Ok(false);
    };
    let table = store.content(root, &path)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&table).lines().any(|line| {
        let mut options = line.split_whitespace().skip(3).flat_map(|it| it.split(','));
        !line.trim_start().starts_with('#') && options.any(|it| it.starts_with("tpm2-device="))
    }))
}

/// Where a system declares the applications that keep data.
pub const APPS: &str = "usr/lib/backstay/apps.d";

/// Checks that the declarations of a system's applications can be read as TOML; an error names the first
/// one that cannot.
pub fn apps<S: Store>(store: &S, root: Place) -> Result<(), Error> {
    let Some(directory) = resolve(store, root, APPS)? else {
        return Ok(());
    };
    let mut names = store.names(root, &directory)?;
    names.sort_unstable();
    for name in names.iter().filter(|name| name.ends_with(".toml")) {
        let path = format!("{directory}/{name}");
        let text = store.content(root, &path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if let Err(error) = text.parse::<toml::Table>() {
            let why = error.message().lines().next().unwrap_or_default();
            return Err(Error::Unbootable(format!("its /{path} is no TOML: {why}")));
        }
    }
    Ok(())
}

/// The datasets that a root would not mount, since it is older than they are: it has no directory for them, or no entry
/// in its fstab where the live system has one. It would use what lies in itself there.
pub fn lacks_mount<S: Store>(store: &S, root: Place) -> Result<Vec<Dataset>, Error> {
    let layout = store.layout();
    let mut lacking = Vec::new();
    let live = match store.dataset(Place::Live(Part::System))? {
        Some(_) => fstab(store, Place::Live(Part::System))?,
        None => String::new(),
    };
    let own = fstab(store, root)?;
    for dataset in layout.config.iter().chain(&layout.data) {
        let point = dataset.mount.as_str();
        if sys::fstab::has(&live, point) && !sys::fstab::has(&own, point) {
            lacking.push(dataset.clone());
            continue;
        }
        let at = dataset.mount.trim_start_matches('/');
        let node = match resolve(store, root, at)? {
            // One that is a link may lead elsewhere by the time it is mounted on.
            Some(_) if store.node(root, at)? == Some(Node::Symlink) => None,
            Some(path) => store.node(root, &path)?,
            None => None,
        };
        if node != Some(Node::Directory) {
            lacking.push(dataset.clone());
        }
    }
    Ok(lacking)
}

/// A root's fstab; empty where it has none.
fn fstab<S: Store>(store: &S, root: Place) -> Result<String, Error> {
    let Some(path) = resolve(store, root, "etc/fstab")? else {
        return Ok(String::new());
    };
    let fstab = store.content(root, &path)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&fstab).into_owned())
}

/// Looks for an entry in an fstab that mounts another subvolume where one of the live datasets belongs.
fn pins(fstab: &str, layout: &Layout) -> Result<(), Error> {
    for entry in sys::fstab::entries(fstab) {
        let datasets = [&layout.system].into_iter().chain(&layout.config);
        let Some(dataset) = datasets
            .chain(&layout.data)
            .find(|dataset| entry.point == *dataset.mount)
        else {
            continue;
        };
        let live = dataset.live.as_str();
        for option in entry.options.split(',') {
            let pinned = match option.split_once('=') {
                Some(("subvol", name)) => name.trim_matches('/') != live,
                Some(("subvolid", _)) => true,
                _ => false,
            };
            if pinned {
                return Err(Error::Unbootable(format!(
                    "its /etc/fstab pins {} by {option}: write subvol={live} there",
                    dataset.mount
                )));
            }
        }
    }
    Ok(())
}

/// What a root calls itself, from its os-release: the image version, else the pretty name.
pub fn version<S: Store>(store: &S, root: Place) -> Result<Option<String>, Error> {
    for path in ["etc/os-release", "usr/lib/os-release"] {
        let Some(path) = resolve(store, root, path)? else {
            continue;
        };
        let Some(content) = store.content(root, &path)? else {
            continue;
        };
        let text = String::from_utf8_lossy(&content).into_owned();
        let value = |key: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
            Some(
                line.trim()
                    .trim_matches(|c| matches!(c, '"' | '\''))
                    .to_owned(),
            )
        };
        let image = value("IMAGE_VERSION").map(|version| match value("IMAGE_ID") {
            Some(id) => format!("{id} {version}"),
            None => version,
        });
        return Ok(image
            .or_else(|| value("PRETTY_NAME"))
            .map(|text| title(&text).to_string()));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_names_another_subvolume_for_a_live_dataset_is_a_pin() {
        let layout = crate::transaction::model::layout();
        for (line, pinned) in [
            ("UUID=1 / btrfs subvol=@rootfs 0 0", false),
            ("UUID=1 / btrfs subvol=/@rootfs,noatime 0 0", false),
            ("UUID=1 / btrfs subvol=@rootfs/ 0 0", false),
            ("UUID=1 / btrfs subvol=@rootfs/old 0 0", true),
            ("UUID=1 / btrfs defaults 0 0", false),
            ("UUID=1 / btrfs", false),
            ("# UUID=1 / btrfs subvolid=256 0 0", false),
            ("UUID=1 /home btrfs subvolid=256 0 0", false),
            ("UUID=1 /srv/data btrfs subvol=@data 0 0", false),
            ("UUID=1 / btrfs subvol=@old 0 0", true),
            ("UUID=1 / btrfs noatime,subvolid=256 0 0", true),
            ("UUID=1\t/\tbtrfs\tsubvol=@rootfs,subvolid=256", true),
            (
                "UUID=1 / btrfs subvol=@rootfs\n  UUID=1 /srv/data btrfs subvolid=258",
                true,
            ),
            ("UUID=1 /srv/data btrfs subvol=@data-old", true),
            ("UUID=1 /srv/data/ btrfs subvol=@data-old", true),
        ] {
            assert_eq!(pins(line, &layout).is_err(), pinned, "{line}");
        }
    }
}
