//! The distribution's own programs, which know their files better than anybody else.

use super::super::error::{Error, Result};
use super::survey::Survey;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a program to its end. What it prints is shown where it fails.
fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::file("running", program))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    Err(Error::Tool {
        program: program.to_owned(),
        status: output.status.to_string(),
        last: last.unwrap_or("it printed nothing").to_owned(),
    })
}

fn run_words(program: &str, arguments: &[&str]) -> Result<String> {
    let arguments: Vec<&std::ffi::OsStr> = arguments.iter().map(std::ffi::OsStr::new).collect();
    run(program, &arguments)
}

/// Copies what is in a directory, with all attributes, sharing the data where the file system can.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let (from, to) = (for_others(from).join("."), for_others(to));
    let options =
        ["--archive", "--reflink=auto", "--one-file-system", "--"].map(std::ffi::OsStr::new);
    let mut arguments: Vec<&std::ffi::OsStr> = options.to_vec();
    arguments.extend([from.as_os_str(), to.as_os_str()]);
    run("cp", &arguments).map(drop)
}

/// A subvolume of the top level as it is at one instant: a read-only snapshot beside the dataset that is made of it.
#[derive(Debug)]
pub struct Instant {
    /// Where it is.
    pub path: PathBuf,
}

impl Instant {
    /// Takes it; one that an interrupted run left is removed first.
    pub fn of(top: &Path, subvolume: &str, dataset: &str) -> Result<Instant> {
        let name = format!("{dataset}.part");
        let path = top.join(&name);
        discard(&path)?;
        let open = |path: &Path| std::fs::File::open(path).map_err(Error::file("opening", path));
        let (from, to) = (open(&top.join(subvolume))?, open(top)?);
        crate::sys::btrfs::snapshot(&from, &to, &name, true)?;
        Ok(Instant { path })
    }

    /// Removes it.
    pub fn discard(&self) -> Result<()> {
        discard(&self.path)
    }
}

/// The programs that have files open below a directory, by name and number.
pub fn users_of(directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = process
            .file_name()
            .to_str()
            .and_then(|it| it.parse::<u32>().ok())
        else {
            continue;
        };
        let open = std::fs::read_dir(process.path().join("fd"));
        let mut targets = open.into_iter().flatten().flatten();
        let is_below = |fd: std::fs::DirEntry| {
            std::fs::read_link(fd.path()).is_ok_and(|target| target.starts_with(directory))
        };
        if id != std::process::id() && targets.any(is_below) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(format!("{} ({id})", name.trim()));
        }
    }
    found
}

/// A path by a descriptor of ours, as another program finds it.
fn for_others(path: &Path) -> PathBuf {
    match path.strip_prefix("/proc/self") {
        Ok(rest) => Path::new("/proc")
            .join(std::process::id().to_string())
            .join(rest),
        Err(_) => path.to_owned(),
    }
}

/// Whether an initramfs has a file of this name; `None` where no program is there to tell.
pub fn lists(initramfs: &Path, name: &str) -> Option<bool> {
    let listed = ["lsinitramfs", "lsinitrd"]
        .iter()
        .find_map(|program| run(program, &[for_others(initramfs).as_os_str()]).ok());
    listed.map(|listed| listed.lines().any(|line| line.ends_with(name)))
}

/// Removes the subvolume that an interrupted run left half filled.
pub fn discard(subvolume: &Path) -> Result<()> {
    if !subvolume.exists() {
        return Ok(());
    }
    let (Some(parent), Ok(fd)) = (subvolume.parent(), std::fs::File::open(subvolume)) else {
        return Ok(());
    };
    let id = crate::sys::btrfs::subvolume_id(&fd)?;
    drop(fd);
    let parent = std::fs::File::open(parent).map_err(Error::file("opening", parent))?;
    Ok(crate::sys::btrfs::destroy_subvolume(&parent, id)?)
}

/// Puts everything of a file system on disk.
pub fn sync(path: &Path) -> Result<()> {
    use crate::sys::Context;
    let fd = std::fs::File::open(path).map_err(Error::file("opening", path))?;
    Ok(rustix::fs::syncfs(&fd).call(|| "syncfs".to_owned())?)
}

/// systemd makes units of fstab's lines.
pub fn daemon_reload() {
    if Path::new("/run/systemd/system").is_dir() {
        // The next boot reads them anyway.
        let _ = run_words("systemctl", &["daemon-reload"]);
    }
}

/// Mounts what fstab names for a directory, unless it is mounted.
pub fn mount(point: &str) -> Result<()> {
    if run_words("mountpoint", &["--quiet", point]).is_ok() {
        return Ok(());
    }
    run_words("mount", &[point]).map(drop)
}

/// Unmounts a directory.
pub fn unmount(point: &str) -> Result<()> {
    run_words("umount", &[point]).map(drop)
}

/// Installs GRUB's core image as the distribution does, where it was before.
pub fn grub_install(survey: &Survey) -> Result<()> {
    if survey.uefi {
        // Where the installer was told to, as its package does, also as what a machine starts that knows no entry.
        let settings = run_words("debconf-show", &["grub-efi-amd64"]).unwrap_or_default();
        let also = match is_removable_too(&settings) {
            true => &["--force-extra-removable"][..],
            false => &[],
        };
        return run_words("grub-install", also).map(drop);
    }
    for disk in boot_disks(survey)? {
        run("grub-install", &[disk.as_os_str()])?;
    }
    Ok(())
}

/// The disks that the BIOS starts from: those that Debian's package remembers, else those of the root.
fn boot_disks(survey: &Survey) -> Result<Vec<PathBuf>> {
    let remembered = run_words("debconf-show", &["grub-pc"]).unwrap_or_default();
    let disks = remembered_disks(&remembered);
    if !disks.is_empty() {
        return Ok(disks);
    }
    let device =
        std::fs::canonicalize(&survey.device).map_err(Error::file("reading", &survey.device))?;
    let name = device.file_name().unwrap_or_default();
    let class = Path::new("/sys/class/block").join(name);
    let real = std::fs::canonicalize(&class).map_err(Error::file("reading", &class))?;
    // A partition's directory lies in its disk's.
    let disk = match real.join("partition").exists() {
        true => real.parent().and_then(Path::file_name),
        false => real.file_name(),
    };
    Ok(disk
        .map(|disk| Path::new("/dev").join(disk))
        .into_iter()
        .collect())
}

/// `debconf-show` prints `* grub-pc/install_devices: /dev/vda, /dev/vdb`.
fn remembered_disks(text: &str) -> Vec<PathBuf> {
    let line = text.lines().find_map(|line| {
        line.trim_start_matches(['*', ' '])
            .strip_prefix("grub-pc/install_devices:")
    });
    line.unwrap_or_default()
        .split(',')
        .map(|disk| PathBuf::from(disk.trim()))
        .filter(|disk| disk.starts_with("/dev") && disk.exists())
        .collect()
}

/// `debconf-show` prints `* grub2/force_efi_extra_removable: true`.
fn is_removable_too(settings: &str) -> bool {
    settings
        .lines()
        .any(|line| line.ends_with("grub2/force_efi_extra_removable: true"))
}

/// Makes GRUB's menu anew.
pub fn update_grub() -> Result<()> {
    run_words("update-grub", &[]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disks_of_debconf_are_read_and_those_that_are_gone_left_out() {
        let text = "  grub2/linux_cmdline_default: quiet\n\
                    * grub-pc/install_devices: /dev/null, /dev/not-there\n";
        assert_eq!(remembered_disks(text), [PathBuf::from("/dev/null")]);
        assert!(remembered_disks("* grub-pc/install_devices:\n").is_empty());
        assert!(is_removable_too(
            "* grub2/force_efi_extra_removable: true\n"
        ));
        assert!(!is_removable_too(
            "  grub2/force_efi_extra_removable: false\n"
        ));
    }

    #[test]
    fn who_has_a_file_open_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        assert!(users_of(path).is_empty());
        let open = std::fs::File::create(dir.path().join("file")).unwrap();
        let mut child = Command::new("sleep").arg("60").stdin(open).spawn().unwrap();
        let users = users_of(path);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(users, [format!("sleep ({})", child.id())]);
    }

    #[test]
    fn a_program_that_fails_is_named_with_its_last_line() {
        let error = run_words("sh", &["-c", "echo first >&2; echo last >&2; exit 3"]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("sh") && text.contains("last") && !text.contains("first"),
            "{text}"
        );
    }
}
