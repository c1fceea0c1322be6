//! What people do in many stories.

use anyhow::Result;

use super::Context;
use crate::grub_menu::Answer;
use crate::image::{Fixture, System};
use crate::vm::Vm;

/// Titles of GRUB's menu (grub-entries/menu.cfg).
pub mod menu {
    /// The live system.
    pub const START: &str = "Start the system";
    /// The submenu of the snapshots.
    pub const SNAPSHOTS: &str = "Snapshots (boot once)";
    /// The version before.
    pub const ROLL_BACK: &str = "Roll back to the version before";
    /// The submenu of the resets.
    pub const RESET: &str = "Factory reset";
    /// In it.
    pub const RESET_CONFIG: &str = "Reset the configuration";
    /// In it.
    pub const RESET_CONFIG_DATA: &str = "Reset the configuration and the data";
    /// In it.
    pub const RESET_SYSTEM: &str = "Reset the system (data is kept)";
    /// In it.
    pub const RESET_SYSTEM_KEEP: &str = "Reset the system (data and configuration are kept)";
    /// In it.
    pub const RESET_EVERYTHING: &str = "Reset everything (all data and all snapshots are lost)";
    /// The agent's prompt.
    pub const RECOVERY: &str = "Recovery menu";
    /// The same, by the recovery kernel that was there before.
    pub const RECOVERY_PREVIOUS: &str = "Recovery menu, by the recovery kernel before";
}

/// The last line before GRUB waits for the key.
const QUESTION: &str = "Any other key, or none: nothing is changed and the system starts.";

/// The script of [`three_versions`], on which others build.
pub const THREE_VERSIONS: &str = "
upgrade() {
    set_version $1
    for config in /mnt/@config /mnt/@backstay/defaults; do
        echo $1 > $config/etc/appliance/version
    done
}
admin snapshot --title 'version 1'
upgrade 2
admin snapshot --title 'version 2'
upgrade 3
echo 3-changed > /mnt/@config/etc/appliance/version
";

/// Version 3 is live, its configuration was changed; snapshots 1 and 2 hold the versions of their numbers.
#[must_use]
pub fn three_versions(system: System) -> Fixture {
    Fixture::new(system, "three-versions", THREE_VERSIONS)
}

/// A fixture made by `more` upon [`three_versions`].
#[must_use]
pub fn three_versions_and(system: System, name: &str, more: &str) -> Fixture {
    Fixture::new(system, name, format!("{THREE_VERSIONS}\n{more}"))
}

/// Chooses an entry that asks, and presses ESC.
///
/// # Errors
/// When it is not there, or does not ask.
pub fn choose_and_confirm(vm: &mut Vm, path: &[&str]) -> Result<()> {
    choose_and(vm, path, Answer::Esc)
}

/// Chooses an entry that asks, and answers.
///
/// # Errors
/// When it is not there, or does not ask.
pub fn choose_and(vm: &mut Vm, path: &[&str], answer: Answer) -> Result<()> {
    vm.grub().choose(path)?;
    vm.grub().answer(QUESTION, answer)?;
    Ok(())
}

/// Waits for the question of an entry that GRUB has chosen by itself, and answers.
///
/// # Errors
/// When nothing asks.
pub fn asked_and(vm: &mut Vm, answer: Answer) -> Result<()> {
    vm.grub().answer(QUESTION, answer)?;
    Ok(())
}

/// Waits for the agent's first line, which says what it is about.
///
/// # Errors
/// When it says something else.
pub fn agent_begins(vm: &mut Vm, what: &str) -> Result<()> {
    let line = format!("backstay: version {}: {what}", env!("CARGO_PKG_VERSION"));
    vm.serial().expect_line(&line)
}

/// Waits for these lines of the agent, in order.
///
/// # Errors
/// When one does not come.
pub fn agent_says(vm: &mut Vm, lines: &[&str]) -> Result<()> {
    lines
        .iter()
        .try_for_each(|line| vm.serial().expect_line(&format!("backstay: {line}")))
}

/// Types a command line for the kernel at GRUB's own prompt, as somebody at the console can, and boots
/// the recovery kernel with it: `root=` and what else every boot has, then `parameters`.
///
/// # Errors
/// When GRUB's prompt does not come.
pub fn boot_recovery_with(vm: &mut Vm, system: System, parameters: &str) -> Result<()> {
    boot_with(
        vm,
        system,
        "@backstay/kernels/recovery",
        "initrd.img",
        parameters,
    )
}

/// The same with the kernel in any directory of the store, and any of its initramfs images.
///
/// # Errors
/// When GRUB's prompt does not come.
pub fn boot_with(
    vm: &mut Vm,
    system: System,
    directory: &str,
    initrd: &str,
    parameters: &str,
) -> Result<()> {
    let uuid = system.store_uuid();
    vm.grub().type_lines(&[
        &format!(
            "linux /{directory}/vmlinuz root=UUID={uuid} rootflags=subvol=@rootfs ro \
             console=ttyS0,115200 quiet {parameters}"
        ),
        &format!("initrd /{directory}/{initrd}"),
        "boot",
    ])
}

/// Types a line at the agent's prompt.
///
/// # Errors
/// When nobody takes it.
pub fn type_at_prompt(ctx: &Context, vm: &mut Vm, line: &str) -> Result<()> {
    ctx.step(format!("type: {line}"));
    vm.serial().send_line(line)
}

impl Context {
    /// A copy of a fixture's disk of its own.
    ///
    /// # Errors
    /// When it cannot be made or copied.
    pub fn take(&self, fixture: &Fixture) -> Result<std::path::PathBuf> {
        self.copy_disk(&fixture.image()?.path, "disk.raw")
    }
}
