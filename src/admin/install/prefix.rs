//! GRUB's directory, which moves out of the root and back: what GRUB reads must not go back with the system.

use super::super::error::{Error, Result};
use super::super::files::replace;
use super::super::fstab;
use super::super::machine::Machine;
use super::dataset::{create, is_subvolume, mount, remove};
use super::survey::{GRUB, Survey};
use super::tools;
use crate::agent::root::plain_name;
use crate::store::place::STORE;
use std::path::Path;

const FSTAB: &str = fstab::PATH;

/// GRUB's directory in the store, from the top level. Of an installed system it is a subvolume, mounted at [`GRUB`].
pub fn directory() -> String {
    format!("{STORE}/grub")
}

/// A file in it that is there once GRUB was installed to read it.
pub fn mark() -> String {
    format!("{}/backstay-core-image", directory())
}

/// Makes the subvolume that will be mounted at [`GRUB`], before the store is made around it.
pub fn make_room(machine: &Machine) -> Result<()> {
    for name in [STORE.to_owned(), directory()] {
        let there = machine.top.join(&name);
        if there.is_dir() && !is_subvolume(&there) {
            return Err(Error::Install(format!(
                "{name} is a directory, made for an appliance: move it away, then run 'backstay init' again"
            )));
        }
        if !there.exists() {
            create(machine, &name)?;
        }
    }
    Ok(())
}

/// Moves GRUB's directory into the store, mounts it, and installs GRUB so that it is found there. What was done before
/// an interruption is not done again.
pub fn move_out(machine: &Machine, survey: &Survey) -> Result<()> {
    let name = directory();
    let directory = machine.top.join(&name);
    if !survey.grub_is_moved() {
        // Once fstab names it, what is there is newer than what lies below the mount.
        if !fstab::has(&fstab::read()?, GRUB) {
            tools::copy_tree(Path::new(GRUB), &directory)?;
            // One that an uninstall left there.
            remove(&machine.top.join(mark()))?;
            tools::sync(&machine.top)?;
        }
        mount(survey, GRUB, &name)?;
    }
    tools::grub_install(survey)?;
    // Below the mount, for a core image elsewhere that was not made anew: a second disk's, a removable one's.
    let old = machine.top.join(&survey.live).join("boot/grub/grub.cfg");
    if old.exists() {
        replace(&old, forwarding(survey).as_bytes())?;
    }
    tools::sync(&machine.top)?;
    let mark = machine.top.join(mark());
    let text = "GRUB was installed to read this directory.\n";
    replace(&mark, text.as_bytes())
}

/// A menu for a core image that still reads GRUB's old directory: its modules are those that lie beside it.
fn forwarding(survey: &Survey) -> String {
    let Survey { uuid, .. } = survey;
    format!(
        "# GRUB's menu lies in {name}, mounted at {GRUB}; see backstay(8).\n\
         insmod btrfs\nsearch --no-floppy --fs-uuid --set=backstay_moved {uuid}\n\
         configfile ($backstay_moved)/{name}/grub.cfg\n",
        name = directory()
    )
}

/// Undoes [`move_out`], mounted or not: what is in the store's goes back into the root, and GRUB is installed to find
/// it there. Nothing in fstab names the store after that.
pub fn move_back(machine: &Machine, survey: &Survey) -> Result<()> {
    let directory = machine.top.join(directory());
    if is_subvolume(&directory) {
        if survey.grub_is_moved() {
            tools::unmount(GRUB)?;
        }
        // As it was, under the mount, when it was moved; GRUB does not read it until it is installed anew.
        tools::copy_tree(&directory, Path::new(GRUB))?;
        fstab::write(&fstab::without_mount(&fstab::read()?, GRUB))?;
        tools::daemon_reload();
        tools::sync(Path::new("/"))?;
        tools::grub_install(survey)?;
    }
    let text = fstab::read()?;
    let in_store = |entry: &fstab::Entry| {
        let named = entry.option("subvol").map(plain_name);
        named.is_some_and(|it| it == STORE || it.starts_with(&format!("{STORE}/")))
    };
    match fstab::entries(&text).into_iter().find(in_store) {
        Some(entry) => Err(Error::Install(format!(
            "{FSTAB} mounts {} from the store: take that line out, then run 'backstay uninstall' again",
            entry.point
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::survey;
    use super::*;

    #[test]
    fn what_reads_the_old_directory_is_sent_to_the_new_menu() {
        let menu = forwarding(&survey("@rootfs"));
        let there = "configfile ($backstay_moved)/@backstay/grub/grub.cfg\n";
        assert!(menu.ends_with(there), "{menu}");
    }
}
