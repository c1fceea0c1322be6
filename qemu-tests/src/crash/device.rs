//! The block device that a recorded disk is: a loop device over the recorder's file.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::disk::Disk;
use super::recorder::{Medium, PREFIX, Recorder, name};

/// A block device; it goes away with this.
#[derive(Debug)]
pub struct Device {
    /// What lies on it.
    pub medium: Medium,
    /// Its node: `/dev/loop3`.
    pub node: PathBuf,
    /// Its device number, as in `st_rdev`.
    pub number: u64,
    /// Its size in bytes.
    pub size: u64,
    file: PathBuf,
    recorder: Option<Recorder>,
    place: tempfile::TempDir,
}

impl Device {
    /// Makes one that holds `disk`.
    ///
    /// # Errors
    /// Where FUSE or loop devices are missing.
    pub fn new(disk: Disk) -> Result<Self> {
        let place = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
        let (size, medium) = (disk.size(), Medium::new(disk));
        let recorder =
            Recorder::mount(&medium, place.path()).context("mount a FUSE file system")?;
        let file = place.path().join(name());
        let node = PathBuf::from(said(
            Command::new("losetup")
                .args(["--find", "--show", "--direct-io=on"])
                .arg(&file),
        )?);
        // From here on Drop detaches it.
        let device = Self {
            number: std::fs::metadata(&node)?.rdev(),
            medium,
            node,
            size,
            file,
            recorder: Some(recorder),
            place,
        };
        let name = device.name();
        let queue = Path::new("/sys/block").join(&name);
        let direct = std::fs::read_to_string(queue.join("loop/dio"))?;
        ensure!(
            direct.trim() == "1",
            "{name} does not do direct I/O: what the page cache holds would not be recorded"
        );
        // A discard would be an operation that the record does not have.
        std::fs::write(queue.join("queue/discard_max_bytes"), "0").context("discard_max_bytes")?;
        Ok(device)
    }

    /// Its name: `loop3`.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.node.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Err(error) = detach(&self.node) {
            eprintln!("crash: {}: {error:#}", self.file.display());
        }
        drop(self.recorder.take());
        let _ = &self.place;
    }
}

fn detach(node: &Path) -> Result<()> {
    said(Command::new("losetup").arg("--detach").arg(node)).map(drop)
}

/// Detaches the loop devices of runs that were killed: their server is gone, so they can only fail. Where a
/// thread of such a run still waits for it, in the kernel and for ever, that wait is ended first.
///
/// # Errors
/// Where losetup is missing.
pub fn detach_leftovers() -> Result<()> {
    let columns = "NAME,BACK-MAJ:MIN,BACK-FILE";
    let listed = said(Command::new("losetup").args(["--list", "--noheadings", "-O", columns]))?;
    for line in listed.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [node, number, file] = fields.as_slice() else {
            continue;
        };
        let process = file.rsplit_once(PREFIX);
        let process = process.and_then(|(_, number)| number.parse::<u32>().ok());
        if !process.is_some_and(is_dead) {
            continue;
        }
        let connection = number.split(':').nth(1).unwrap_or_default();
        end_connection(connection).with_context(|| format!("{node}, left by a killed run"))?;
        detach(Path::new(node))?;
    }
    Ok(())
}

fn is_dead(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The state follows the name in brackets, which may hold anything.
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

/// Lets every request of a FUSE connection fail.
fn end_connection(number: &str) -> Result<()> {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let place = tempfile::tempdir()?;
    mount(
        "fusectl",
        place.path(),
        "fusectl",
        MountFlags::empty(),
        None,
    )?;
    let abort = place.path().join(number).join("abort");
    let ended = match std::fs::write(abort, "1") {
        // It is gone by itself.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    unmount(place.path(), UnmountFlags::DETACH)?;
    Ok(ended?)
}

/// Runs a program and returns what it printed.
///
/// # Errors
/// Where it is missing or fails; the text has its messages.
pub fn said(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        bail!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
