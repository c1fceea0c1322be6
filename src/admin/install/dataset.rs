//! A subvolume of the top level that is mounted in the running system, made and named in fstab.

use super::super::error::{Error, Result};
use super::super::fstab;
use super::super::machine::Machine;
use super::steps::Step;
use super::survey::Survey;
use super::tools;
use crate::agent::options;
use crate::sys::btrfs;
use std::path::Path;

/// In a new dataset until fstab names it: nothing has used it yet.
const UNFINISHED: &str = ".backstay-unfinished";

/// Whether a name in the top level is one that an interrupted run left, or free.
pub fn is_free(machine: &Machine, name: &str) -> bool {
    let there = machine.top.join(name);
    let is_empty = || std::fs::read_dir(&there).is_ok_and(|mut it| it.next().is_none());
    !there.exists() || there.join(UNFINISHED).exists() || is_empty()
}

/// Copies a directory, as it is at one instant, into a new subvolume, and mounts that over it. What was there stays
/// below the mount.
pub fn make(machine: &Machine, survey: &Survey, path: &str, live: &str) -> Result<()> {
    let made = machine.top.join(live);
    if !fstab::has(&fstab::read()?, path) {
        if !is_free(machine, live) {
            return Err(Error::Install(format!(
                "{live} is there meanwhile: run 'backstay init' again"
            )));
        }
        tools::discard(&made)?;
        create(machine, live)?;
        let mark = made.join(UNFINISHED);
        std::fs::write(&mark, "").map_err(Error::file("writing", &mark))?;
        tools::sync(&machine.top)?;
        let instant = tools::Instant::of(&machine.top, &survey.live, live)?;
        let copied = tools::copy_tree(&instant.path.join(path.trim_start_matches('/')), &made);
        instant.discard()?;
        copied?;
        tools::sync(&machine.top)?;
    }
    mount(survey, path, live)?;
    remove(&made.join(UNFINISHED))?;
    tools::sync(&machine.top)
}

/// The programs that have files open in a directory that is moved, where they would go on writing to the old ones. In
/// /home and /var/log that is as good as always so, and little is lost: a restart ends it.
pub fn in_use(step: &Step) -> Result<()> {
    let Step::Move { path, .. } = step else {
        return Ok(());
    };
    if ["/home", "/root", "/var/log"].contains(&path.as_str()) {
        return Ok(());
    }
    let users = tools::users_of(path);
    match users.is_empty() {
        true => Ok(()),
        false => Err(Error::Install(format!(
            "{path} is in use by {}, and what they write after the copy would be lost: stop them, then run \
             'backstay init' again and restart the machine, or say --leave {path}",
            users.join(", ")
        ))),
    }
}

/// Names a subvolume in fstab, and mounts it.
pub fn mount(survey: &Survey, path: &str, subvolume: &str) -> Result<()> {
    let line = fstab_line(survey, path, subvolume);
    let text = fstab::read()?;
    if !fstab::has(&text, path) {
        fstab::write(&fstab::with_line(&text, &line))?;
    }
    tools::daemon_reload();
    tools::mount(path)
}

/// The line of fstab for a subvolume. Its number is never named.
fn fstab_line(survey: &Survey, path: &str, subvolume: &str) -> String {
    let root = survey
        .entries()
        .into_iter()
        .find(|entry| entry.point == "/");
    let options = root.map_or(String::new(), |root| as_of_root(&root.options));
    let options = options::join(&[&options, &format!("subvol={subvolume}")]);
    format!("UUID={} {path} btrfs {options} 0 0", survey.uuid)
}

/// Whether a directory is a subvolume of its own.
pub fn is_subvolume(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path)
        .is_ok_and(|it| it.is_dir() && it.ino() == btrfs::SUBVOLUME_INODE)
}

/// Makes a subvolume at this path from the top level.
pub fn create(machine: &Machine, name: &str) -> Result<()> {
    let path = machine.top.join(name);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let directory = std::fs::File::open(parent).map_err(Error::file("opening", parent))?;
    Ok(btrfs::create_subvolume(
        &directory,
        &name.to_string_lossy(),
    )?)
}

/// Removes a file; one that is not there is removed already.
pub fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("removing", file)(error))
        }
        _ => Ok(()),
    }
}

/// How the root is mounted, for what was in it; `noatime` and the like belong to each mount.
fn as_of_root(options: &str) -> String {
    let all = options::without(options, &["subvol", "subvolid", "defaults", "ro", "rw"]);
    let of_units = |option: &&str| !option.starts_with("x-");
    all.split(',')
        .filter(of_units)
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::survey;
    use super::*;

    #[test]
    fn a_dataset_is_mounted_with_the_options_of_the_root() {
        let mut survey = survey("@rootfs");
        let line = fstab_line(&survey, "/home", "@home");
        assert!(line.ends_with(" /home btrfs subvol=@home 0 0"), "{line}");
        survey.fstab =
            "UUID=1 / btrfs ro,noatime,compress=zstd,x-systemd.growfs,subvolid=256 0 1\n".into();
        let line = fstab_line(&survey, "/home", "@home");
        let options = "noatime,compress=zstd,subvol=@home";
        assert!(
            line.ends_with(&format!(" /home btrfs {options} 0 0")),
            "{line}"
        );
    }
}
