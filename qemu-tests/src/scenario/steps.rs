//! What people do in many stories.

use anyhow::Result;

use super::Context;
use crate::grub_menu::Answer;
use crate::image::{Fixture, System};
use crate::serial::Serial;
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
    /// The agent's menu.
    pub const RECOVERY: &str = "Recovery menu";
    /// The same, by the recovery kernel that was there before.
    pub const RECOVERY_PREVIOUS: &str = "Recovery menu, by the recovery kernel before";
}

/// The last line before GRUB waits for the key.
const KEY_QUESTION: &str = "Any other key, or none: nothing is changed and the system starts.";

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
    vm.grub().answer(KEY_QUESTION, answer)?;
    Ok(())
}

/// Waits for the question of an entry that GRUB has chosen by itself, and answers.
///
/// # Errors
/// When nothing asks.
pub fn asked_and(vm: &mut Vm, answer: Answer) -> Result<()> {
    vm.grub().answer(KEY_QUESTION, answer)?;
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
    type_kernel(vm, uuid, [directory, initrd], SERIAL, parameters)
}

/// The console of every start.
const SERIAL: &str = "console=ttyS0,115200";

/// The same as [`boot_recovery_with`], where the root is on the file system `uuid` and the consoles are these.
///
/// # Errors
/// When GRUB's prompt does not come.
pub fn boot_recovery_on(vm: &mut Vm, uuid: &str, consoles: &str, parameters: &str) -> Result<()> {
    let recovery = ["@backstay/kernels/recovery", "initrd.img"];
    type_kernel(vm, uuid, recovery, consoles, parameters)
}

fn type_kernel(
    vm: &mut Vm,
    uuid: &str,
    [directory, initrd]: [&str; 2],
    consoles: &str,
    parameters: &str,
) -> Result<()> {
    vm.grub().type_lines(&[
        &format!(
            "linux /{directory}/vmlinuz root=UUID={uuid} rootflags=subvol=@rootfs ro \
             {consoles} quiet {parameters}"
        ),
        &format!("initrd /{directory}/{initrd}"),
        "boot",
    ])
}

/// The agent's line when its menu opens.
pub const MENU_OPENS: &str = "the menu opens: Enter shows what can be done";
/// The menu's question for a command. What is typed before it is thrown away.
pub const QUESTION: &str = "menu> ";
/// Its question for the word.
pub const WORD: &str = "word> ";
/// What it says where something else was typed.
pub const NOT_THE_WORD: &str = "That was not the word: nothing was changed.";
/// What it says after a change.
pub const START_IT: &str = "Type 'boot' to start it.";

/// Types a line at the agent's menu, once it asks for one.
///
/// # Errors
/// When it does not ask.
pub fn at_menu(ctx: &Context, vm: &mut Vm, line: &str) -> Result<()> {
    at_question(ctx, vm.serial(), QUESTION, line)
}

/// Types the word without which nothing is changed, or another one, once the menu asks for it.
///
/// # Errors
/// When it does not ask.
pub fn answer_word(ctx: &Context, vm: &mut Vm, word: &str) -> Result<()> {
    at_question(ctx, vm.serial(), WORD, word)
}

/// Types a line at any question of the menu, on any console.
///
/// # Errors
/// When it does not ask.
pub fn at_question(ctx: &Context, serial: &mut Serial, question: &str, line: &str) -> Result<()> {
    serial.expect_text(question)?;
    ctx.step(format!("type: {line}"));
    serial.send_line(line)
}

/// Types a command that changes something, and the word that it asks for.
///
/// # Errors
/// When it asks for another one.
pub fn change_at_menu(ctx: &Context, vm: &mut Vm, command: &str, word: &str) -> Result<()> {
    at_menu(ctx, vm, command)?;
    asks_for(vm, word)?;
    answer_word(ctx, vm, word)
}

/// Waits for what stands after a plan.
///
/// # Errors
/// When another word is asked for.
pub fn asks_for(vm: &mut Vm, word: &str) -> Result<()> {
    let asks = format!("Type {word} and Enter to do this; anything else changes nothing.");
    vm.serial().expect_line(&asks)
}

/// Waits for a version in the menu's list, by the beginning and the end of its row.
///
/// # Errors
/// When it is not there.
pub fn version_row(vm: &mut Vm, beginning: &str, end: &str) -> Result<()> {
    let wanted = format!("the row \"{beginning}...{end}\"");
    let fits = |line: &str| line.starts_with(beginning) && line.trim_end().ends_with(end);
    vm.serial().expect_where(&wanted, fits)?;
    Ok(())
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
