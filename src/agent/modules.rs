//! Loading kernel modules from the initramfs, in an order that depends on nothing but what is there.
//!
//! The initramfs holds `lib/modules/RELEASE` with the reduced tables of depmod. A module that is
//! missing or does not load is a line in the log, never a failure: the device may not need it, and
//! whether the root is found is what counts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use backstay_initramfs::depmod::Index;

use crate::sys::module::Loaded;
use crate::sys::{self, module};

/// Always loaded: the store's file system has no device that would ask for it.
pub const ALWAYS: [&str; 1] = ["btrfs"];
/// A driver brings new devices, whose drivers bring more; deeper than any bus.
const PASSES_MAX: usize = 8;

/// What loads a module file; the kernel, or a table in tests.
pub trait Loader {
    /// Loads the file at `path` with these parameters.
    ///
    /// # Errors
    /// The kernel's.
    fn load(&mut self, path: &Path, parameters: &str) -> sys::Result<Loaded>;
}

/// The running kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kernel;

impl Loader for Kernel {
    fn load(&mut self, path: &Path, parameters: &str) -> sys::Result<Loaded> {
        module::load(path, parameters)
    }
}

/// The modules of this initramfs and which of them were tried.
#[derive(Debug)]
pub struct Modules<L = Kernel> {
    dir: PathBuf,
    index: Index,
    tried: BTreeSet<String>,
    asked: BTreeSet<String>,
    /// The kernel command line, which has parameters for modules, too.
    line: Vec<u8>,
    loader: L,
}

impl Modules<Kernel> {
    /// The modules for the running kernel. Where there are none, that is logged, and nothing will load:
    /// the kernel may have all built in.
    pub fn of_running_kernel() -> Self {
        let release = super::kexec::running_release();
        let line = std::fs::read("/proc/cmdline").unwrap_or_default();
        Self::open(&Path::new("/lib/modules").join(release), line, Kernel)
    }
}

impl<L: Loader> Modules<L> {
    /// The modules in `dir`, usually `/lib/modules/RELEASE`, with the parameters that `line` has for them.
    pub fn open(dir: &Path, line: Vec<u8>, loader: L) -> Self {
        let index = Index::read(dir).unwrap_or_else(|error| {
            log::warn!(
                "no modules for this kernel in the initramfs: {:?}: {error}",
                dir.join("modules.dep")
            );
            Index::default()
        });
        let (tried, asked) = (BTreeSet::new(), BTreeSet::new());
        Self {
            dir: dir.to_owned(),
            index,
            tried,
            asked,
            line,
            loader,
        }
    }

    /// Loads `name` (a module or an alias) and what it needs; returns how many were loaded by this call.
    pub fn load(&mut self, name: &str) -> usize {
        if !self.asked.insert(name.to_owned()) {
            return 0;
        }
        let order = self.index.load_order([name]);
        order.iter().filter(|module| self.load_one(module)).count()
    }

    fn load_one(&mut self, name: &str) -> bool {
        if !self.tried.insert(name.to_owned()) {
            return false;
        }
        let Some(module) = self.index.modules.get(name) else {
            return false;
        };
        let parameters = parameters(&self.line, name);
        match self.loader.load(&self.dir.join(&module.path), &parameters) {
            Ok(loaded) => {
                log::debug!("module {name}: {loaded:?}");
                loaded == Loaded::Now
            }
            // A driver or an implementation for hardware that is not here.
            Err(error) if error.errno == rustix::io::Errno::NODEV => {
                log::debug!("module {name}: nothing to drive");
                false
            }
            Err(error) => {
                log::warn!("module {name} is not loaded: {error}");
                false
            }
        }
    }

    /// Loads [`ALWAYS`] and the drivers of all devices that are there, and of those that appear with
    /// them; returns how many modules were loaded. `bus` is `/sys/bus`: every device with a modalias is
    /// listed there, which is far less to read than all of `/sys/devices`.
    pub fn cold_plug(&mut self, bus: &Path) -> usize {
        let mut total: usize = ALWAYS.iter().map(|name| self.load(name)).sum();
        for _ in 0..PASSES_MAX {
            let loaded: usize = modaliases(bus).iter().map(|alias| self.load(alias)).sum();
            if loaded == 0 {
                break;
            }
            total += loaded;
        }
        total
    }
}

/// What a command line has for a module: `MODULE.NAME=VALUE`, as modprobe(8) takes it from there. The kernel does so
/// for what is built in alone.
fn parameters(line: &[u8], module: &str) -> String {
    let same = |name: &str| name.replace('-', "_") == module.replace('-', "_");
    let own = kernel_cmdline::tokens(line).filter_map(|token| {
        let (name, key) = token.key.split_once('.')?;
        let quote = match token.value.is_some_and(|value| value.contains(' ')) {
            true => "\"",
            false => "",
        };
        same(name).then(|| match token.value {
            Some(value) => format!("{key}={quote}{value}{quote}"),
            None => key.to_owned(),
        })
    });
    own.collect::<Vec<_>>().join(" ")
}

/// The modaliases of all devices, sorted, each once: the order of loading does not depend on that of
/// the directory.
fn modaliases(bus: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for bus in entries(bus) {
        for device in entries(&bus.join("devices")) {
            if let Ok(alias) = std::fs::read_to_string(device.join("modalias")) {
                found.insert(alias.trim_end().to_owned());
            }
        }
    }
    found.remove("");
    found
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    entries.flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;
    use std::fs::{create_dir_all, write};

    /// Records what is loaded; a driver makes its devices appear, as in the kernel.
    struct Fake {
        bus: PathBuf,
        loaded: Vec<String>,
    }

    impl Loader for Fake {
        fn load(&mut self, path: &Path, _: &str) -> sys::Result<Loaded> {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match name.as_str() {
                "broken.ko.xz" => return Err(sys::Error::new("finit_module", Errno::NOEXEC)),
                "virtio_pci.ko.xz" => device(&self.bus, "virtio", "virtio0", "virtio:d2v1"),
                _ => {}
            }
            self.loaded.push(name);
            Ok(Loaded::Now)
        }
    }

    fn device(bus: &Path, kind: &str, name: &str, alias: &str) {
        let dir = bus.join(kind).join("devices").join(name);
        create_dir_all(&dir).unwrap();
        write(dir.join("modalias"), format!("{alias}\n")).unwrap();
    }

    fn modules(dir: &Path) -> Modules<Fake> {
        let dep = "k/btrfs.ko.xz: k/xor.ko.xz\nk/xor.ko.xz:\nk/virtio_pci.ko.xz:\n\
                   k/virtio_blk.ko.xz:\nk/broken.ko.xz:\n";
        write(dir.join("modules.dep"), dep).unwrap();
        let alias = "alias pci:v1AF4* virtio_pci\nalias pci:v1AF4d9* broken\nalias virtio:d2v* virtio_blk\n";
        write(dir.join("modules.alias"), alias).unwrap();
        Modules::open(
            dir,
            Vec::new(),
            Fake {
                bus: dir.join("bus"),
                loaded: Vec::new(),
            },
        )
    }

    #[test]
    fn drivers_of_devices_that_come_with_a_driver_are_loaded_too() {
        let dir = tempfile::tempdir().unwrap();
        device(
            &dir.path().join("bus"),
            "pci",
            "0000:00:01.0",
            "pci:v1AF4d9001",
        );
        let mut modules = modules(dir.path());
        assert_eq!(modules.cold_plug(&dir.path().join("bus")), 4);
        assert_eq!(
            modules.loader.loaded,
            [
                "xor.ko.xz",
                "btrfs.ko.xz",
                "virtio_pci.ko.xz",
                "virtio_blk.ko.xz"
            ]
        );
        assert_eq!(modules.cold_plug(&dir.path().join("bus")), 0);
    }

    #[test]
    fn a_module_gets_what_the_command_line_has_for_it() {
        let line = b"ro watchdog.stop_on_reboot=0 usb-storage.quirks=\"a b\" nvme.debug watchdogs.x=1 -- watchdog.y=2";
        assert_eq!(parameters(line, "watchdog"), "stop_on_reboot=0");
        assert_eq!(parameters(line, "usb_storage"), "quirks=\"a b\"");
        assert_eq!(parameters(line, "nvme"), "debug");
        assert_eq!(parameters(line, "btrfs"), "");
    }

    #[test]
    fn an_initramfs_without_modules_loads_nothing_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake {
            bus: dir.path().to_owned(),
            loaded: Vec::new(),
        };
        let mut modules = Modules::open(dir.path(), Vec::new(), fake);
        assert_eq!(modules.cold_plug(dir.path()), 0);
        assert_eq!(modules.load("btrfs"), 0);
    }
}
