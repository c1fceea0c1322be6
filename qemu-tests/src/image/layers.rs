//! Layer 2, a disk with backstay on it, and the fixtures that are made from it.
//!
//! They hold programs built from this working tree, so they are kept with it. Layer 2 is version 1 of the system,
//! live and as the factory snapshot. A [`Fixture`] is a script upon that, mostly of the admin command:
//! older versions, a tampered factory, another kernel.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::base::{self, FUNCTIONS, Image, System};
use super::{copy, databases, packages, panicking, programs};
use crate::cache::{Cache, Key};
use crate::setup;
use crate::toolbox::{Disk, Error, Job};

const UNITS: [(&str, &str); 2] = [
    (
        "backstay-mark-good.service",
        include_str!("../../../systemd/backstay-mark-good.service"),
    ),
    (
        "backstay-start-failed.service",
        include_str!("../../../systemd/backstay-start-failed.service"),
    ),
];
const LAYER2: &str = include_str!("../../images/store/layer2.sh");

/// What the kernel is told at every boot of a test machine. All but the first save time under emulation
/// (self-tests, clock calibration), spare escape sequences on the serial line, or leave systemd time where an
/// emulated machine on a busy host takes minutes for what takes others seconds.
pub const CMDLINE: &str = "console=ttyS0,115200 quiet tsc=reliable no_timer_check cryptomgr.notests \
    random.trust_cpu=on systemd.tty.term.ttyS0=dumb \
    systemd.default_device_timeout_sec=900 systemd.default_timeout_start_sec=900";

/// The disk with backstay on it, from the cache or newly made.
pub fn layer2(system: System) -> Result<Image, Error> {
    layer2_on(&base::layer1(system)?, system.name())
}

/// The tiny disk with databases and backstay.
pub(super) fn layer2_with_databases() -> Result<Image, Error> {
    layer2_on(&databases::layer1()?, "tiny-databases")
}

/// The same on any disk of layer 1; `called` is its name in the cache and in messages.
fn layer2_on(base: &Image, called: &str) -> Result<Image, Error> {
    let system = base.system;
    let programs = programs::ensure()?;
    let script = format!("CMDLINE='{CMDLINE}'\n{FUNCTIONS}\n{LAYER2}");
    let key = Key::of("layer 2, version 1")
        .key(&base.key)
        .text(&script)
        .file(&programs.admin)?
        .file(&programs.agent)?
        .text(&UNITS.map(|(_, text)| text).concat())
        .finish();
    let what = format!("putting backstay on the {called} disk");
    let path = Cache::local()?.entry(&format!("{called}-layer2"), "img", &key, |path| {
        setup::say(&format!("{what}…"));
        copy(&base.path, path)?;
        job(&what, script, path)?.run().map(drop)
    })?;
    Ok(Image { path, key, system })
}

/// A disk made from layer 2 by a script, which finds the store's top level mounted on /mnt and the
/// functions of `images/store/functions.sh`: `admin …`, `set_version V`, `other_kernel` …
#[derive(Debug, Clone)]
pub struct Fixture {
    system: System,
    name: String,
    script: String,
    beside: Option<Beside>,
    on_databases: bool,
}

/// What the script finds as /dev/disk1.
#[derive(Debug, Clone, Copy)]
enum Beside {
    OtherKernel,
    PanickingKernel,
    Databases,
}

impl Beside {
    fn ensure(self) -> Result<(PathBuf, Key), Error> {
        Ok(match self {
            Self::OtherKernel => {
                let tarball = packages::other_kernel()?;
                (tarball.path, tarball.key)
            }
            Self::PanickingKernel => {
                let kernel = panicking::ensure()?;
                (kernel.path, kernel.key)
            }
            Self::Databases => {
                let tarball = packages::databases()?;
                (tarball.path, tarball.key)
            }
        })
    }
}

impl Fixture {
    /// A fixture called `name` (in the cache and in messages).
    pub fn new(system: System, name: impl Into<String>, script: impl Into<String>) -> Self {
        Self {
            system,
            name: name.into(),
            script: script.into(),
            beside: None,
            on_databases: false,
        }
    }

    /// The tiny disk on which version 1 of both applications with databases is live, and in the factory version. The script has
    /// the functions of `images/databases/functions.sh`.
    pub fn with_databases(name: impl Into<String>, script: impl Into<String>) -> Self {
        let mut fixture = Self::new(System::Tiny, name, script);
        fixture.on_databases = true;
        fixture
    }

    /// The same functions, and the databases' programs as /dev/disk1.
    pub fn with_database_programs(mut self) -> Self {
        self.beside = Some(Beside::Databases);
        self
    }

    /// Makes `other_kernel` possible in the script: Debian 12's kernel is at hand as /dev/disk1.
    pub fn with_other_kernel(mut self) -> Self {
        self.beside = Some(Beside::OtherKernel);
        self
    }

    /// The system's own kernel is at hand as /dev/disk1, such that it panics before it unpacks an initramfs.
    pub fn with_panicking_kernel(mut self) -> Self {
        self.beside = Some(Beside::PanickingKernel);
        self
    }

    /// The disk, from the cache or newly made.
    pub fn image(&self) -> Result<Image, Error> {
        let base = match self.on_databases {
            true => layer2_with_databases()?,
            false => layer2(self.system)?,
        };
        let uses_databases = self.on_databases || matches!(self.beside, Some(Beside::Databases));
        let script = match uses_databases {
            true => in_store(&format!("{}\n{}", databases::FUNCTIONS, self.script)),
            false => in_store(&self.script),
        };
        let mut key = Key::of("fixture, version 1").key(&base.key).text(&script);
        if uses_databases {
            key = key.text(&databases::texts());
        }
        let beside = self.beside.map(Beside::ensure).transpose()?;
        if let Some((_, made)) = &beside {
            key = key.key(made);
        }
        let key = key.finish();
        let name = format!("{}-{}", self.system.name(), self.name);
        let path = Cache::local()?.entry(&name, "img", &key, |path| {
            setup::say(&format!("making the disk '{}'…", self.name));
            copy(&base.path, path)?;
            let mut job = job(&format!("making the disk '{}'", self.name), script, path)?;
            if let Some((file, _)) = &beside {
                job = job.disk(Disk::read_only(file));
            }
            if uses_databases {
                job = databases::hand_in(job);
            }
            job.run().map(drop)
        })?;
        Ok(Image {
            path,
            key,
            system: self.system,
        })
    }
}

/// Runs a script of the same kind on a disk of the caller's own, as a rescue system would; returns what it
/// printed.
pub fn alter(disk: &Path, script: &str) -> Result<String, Error> {
    job("altering a disk", in_store(script), disk)?.run()
}

fn in_store(script: &str) -> String {
    format!("{FUNCTIONS}\nmount -o noatime /dev/disk0p2 /mnt\n{script}\ncd /\numount /mnt\n")
}

fn job(what: &str, script: String, disk: &Path) -> Result<Job, Error> {
    let programs = programs::ensure()?;
    let job = Job::new(what, script)
        .disk(Disk::read_write(disk))
        .file("backstay", &programs.admin)
        .file("backstay-init", &programs.agent)
        .timeout(Duration::from_secs(900));
    Ok(UNITS
        .iter()
        .fold(job, |job, (name, text)| job.text(*name, *text)))
}
