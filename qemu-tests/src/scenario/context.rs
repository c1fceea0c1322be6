//! What a scenario is given: a directory of its own, disks, machines, and a way to say what it is
//! doing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::accel::Accel;
use crate::image;
use crate::story::Story;
use crate::vm::{Vm, VmConfig};

/// A scenario's hands and eyes.
pub struct Context {
    story: Story,
    directory: PathBuf,
    accel: Accel,
    show: bool,
}

impl Context {
    /// A context with its files in `directory` (made if it is not there). With `show` the guests'
    /// consoles are on standard output too.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(directory: PathBuf, accel: Accel, limit: Duration, show: bool) -> Result<Self> {
        fs::create_dir_all(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let story = Story::new(limit);
        let story = if show { story.narrated() } else { story };
        Ok(Self {
            story,
            directory,
            accel,
            show,
        })
    }

    /// Says what the story does now; a failure names the last step.
    pub fn step(&self, text: impl Into<String>) {
        self.story.step(text);
    }

    /// The story so far.
    #[must_use]
    pub const fn story(&self) -> &Story {
        &self.story
    }

    /// How guests run here.
    #[must_use]
    pub const fn accel(&self) -> Accel {
        self.accel
    }

    /// The directory of this scenario; kept after a failure and with `--keep`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the raw serial output of all machines of this scenario is.
    #[must_use]
    pub fn transcript(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// A writable copy of a raw disk image, holes kept, under `name` in the scenario's directory.
    ///
    /// # Errors
    /// When it cannot be copied (a full disk, above all).
    pub fn copy_disk(&self, image: &Path, name: &str) -> Result<PathBuf> {
        self.step(format!("take a copy of {}", file_name(image)));
        let copy = self.directory.join(name);
        image::copy(image, &copy)?;
        Ok(copy)
    }

    /// Starts a machine from `disk`, as it is when it is switched on.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn boot(&self, disk: &Path) -> Result<Vm> {
        self.start(VmConfig::disk(self.accel, disk, self.transcript()))
    }

    /// Starts any machine, with this scenario's transcript and limit.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn start(&self, mut config: VmConfig) -> Result<Vm> {
        self.step("switch the machine on");
        config.transcript = self.transcript();
        if self.show && config.echo.is_none() {
            config.echo = Some(Box::new(std::io::stdout()));
        }
        Vm::start(config, &self.story)
    }

    /// Ends the story here unless `holds`; `otherwise` says what is wrong.
    ///
    /// # Errors
    /// When it does not hold.
    pub fn check(&self, holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
        if holds { Ok(()) } else { bail!(otherwise()) }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
