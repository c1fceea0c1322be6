//! Resets, from the configuration alone to everything, and the factory snapshot they start from.

use anyhow::Result;

use super::steps::{
    THREE_VERSIONS, agent_begins, agent_says, asked_and, choose_and_confirm, menu, three_versions,
    three_versions_and,
};
use super::store::{CUSTOMER, Store};
use super::{Context, Scenario};
use crate::grub_menu::Answer;
use crate::image::{Fixture, System};
use crate::vm::Vm;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::tiny(
        "reset-config-keeps-data",
        "the configuration becomes this version's own; system and data stay",
        config,
    )
    .core(),
    Scenario::tiny(
        "reset-config-and-data",
        "configuration and data are fresh, the version stays; a rollback brings both back",
        config_and_data,
    ),
    Scenario::debian(
        "reset-system-keeps-data",
        "system and configuration of the factory, with the customer's data",
        system,
    )
    .core(),
    Scenario::tiny(
        "reset-system-keeps-config",
        "the system of the factory, with the present configuration and data",
        system_keep_config,
    ),
    Scenario::tiny(
        "reset-everything",
        "as from the factory; once that is marked good, the old data and all snapshots are gone",
        everything,
    )
    .core(),
    Scenario::tiny(
        "reset-everything-can-be-undone-before-it-is-good",
        "a rollback before the mark brings back system, configuration and data",
        everything_undone,
    ),
    Scenario::tiny(
        "reset-twice-in-a-row",
        "a second reset right after the first one",
        twice,
    ),
    Scenario::tiny(
        "reset-asked-again-at-the-next-boot-does-nothing",
        "a reset entry that GRUB chooses at every boot resets once, when somebody confirmed it",
        asked_again,
    ),
    Scenario::tiny(
        "factory-tampered-is-refused",
        "a factory snapshot that was written to is not promoted; the system starts as it is",
        tampered,
    )
    .core(),
];

const DATA: &str = "made_by_the_customer";
/// The tiny system's word for content that is not there.
const NONE: &str = "-";

/// The snapshots of [`three_versions`], and as number 3 what was live in it.
fn before_reset(live: Store) -> Store {
    live.snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"])
        .snapshot(3, ["3", "3-changed", "3"])
}

fn reset(vm: &mut Vm, entry: &str, done: &str) -> Result<()> {
    choose_and_confirm(vm, &[menu::RESET, entry])?;
    agent_says(
        vm,
        &[
            &format!("done: {done}"),
            "it lasts: every boot from now on is this one",
        ],
    )
}

const CONFIG_DONE: &str = "reset the configuration to this version's defaults";
const CONFIG_DATA_DONE: &str = "reset configuration and data, keep the system's version";
const SYSTEM_DONE: &str = "reset system and configuration to the factory version, keep data";
const SYSTEM_KEEP_DONE: &str =
    "reset the system to the factory version, keep configuration and data";
const EVERYTHING_DONE: &str = "reset everything to the factory version";

fn config(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    reset(&mut vm, menu::RESET_CONFIG, CONFIG_DONE)?;
    agent_says(
        &mut vm,
        &["to undo it: roll back (what was live is kept as snapshot 3)"],
    )?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3", DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &before_reset(Store::live("3", "3", "3")))?;
    Ok(())
}

fn config_and_data(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    reset(&mut vm, menu::RESET_CONFIG_DATA, CONFIG_DATA_DONE)?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3", NONE)?;
    tiny.restart()?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(&mut vm, &["done: roll back to snapshot 3"])?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", DATA)?;
    tiny.power_off()?;
    let wanted = before_reset(Store::live("3", "3-changed", "3"))
        .kept_data(3, Some(CUSTOMER))
        .snapshot(4, ["3", "3", "3"])
        .kept_data(4, None);
    ctx.expect_store(&disk, &wanted)?;
    Ok(())
}

fn system(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Debian))?;
    let mut vm = ctx.boot(&disk)?;
    choose_and_confirm(&mut vm, &[menu::RESET, menu::RESET_SYSTEM])?;
    agent_begins(&mut vm, "going to reset the system, keep data (confirmed)")?;
    agent_says(
        &mut vm,
        &[
            "  configuration: becomes a clone of the factory snapshot",
            "  system: becomes a clone of the factory snapshot",
            "  data: stays as it is",
            "  data compatibility not checked",
            &format!("done: {SYSTEM_DONE}"),
            "to undo it: roll back (what was live is kept as snapshot 3)",
        ],
    )?;
    let mut debian = vm.debian()?;
    let files = "cat /etc/appliance-release /etc/appliance/version /srv/data/content";
    let found = debian.succeed(files)?;
    ctx.check(found == format!("1\n1\n{CUSTOMER}\n"), || {
        format!("this runs: {found}")
    })?;
    debian.power_off()?;
    ctx.expect_store(&disk, &before_reset(Store::live("1", "1", "1")))?;
    Ok(())
}

fn system_keep_config(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    reset(&mut vm, menu::RESET_SYSTEM_KEEP, SYSTEM_KEEP_DONE)?;
    let tiny = vm.tiny()?;
    tiny.expect("1", "3-changed", DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &before_reset(Store::live("1", "3-changed", "1")))?;
    Ok(())
}

fn everything(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    reset(&mut vm, menu::RESET_EVERYTHING, EVERYTHING_DONE)?;
    agent_says(
        &mut vm,
        &["to undo it before it is marked good: roll back (to snapshot 3)"],
    )?;
    vm.tiny()?.expect("1", "1", NONE)?;
    ctx.step("what the system's own service does once all is up");
    vm.at_prompt().succeed("backstay mark-good")?;
    vm.at_prompt().restart()?;
    let tiny = vm.tiny()?;
    tiny.expect("1", "1", NONE)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &Store::live("1", "1", "1").data(None))?;
    Ok(())
}

fn everything_undone(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    reset(&mut vm, menu::RESET_EVERYTHING, EVERYTHING_DONE)?;
    let tiny = vm.tiny()?;
    tiny.expect("1", "1", NONE)?;
    tiny.restart()?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(&mut vm, &["done: roll back to snapshot 3"])?;
    let mut tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", DATA)?;
    ctx.step("the mark that comes now must destroy nothing");
    tiny.succeed("backstay mark-good")?;
    tiny.power_off()?;
    let wanted = before_reset(Store::live("3", "3-changed", "3"))
        .kept_data(3, Some(CUSTOMER))
        .snapshot(4, ["1", "1", "1"])
        .kept_data(4, None);
    ctx.expect_store(&disk, &wanted)?;
    Ok(())
}

fn twice(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    for id in [3, 4] {
        reset(&mut vm, menu::RESET_SYSTEM, SYSTEM_DONE)?;
        let undo = format!("to undo it: roll back (what was live is kept as snapshot {id})");
        agent_says(&mut vm, &[&undo])?;
        vm.tiny()?.expect("1", "1", DATA)?;
        if id == 3 {
            vm.at_prompt().restart()?;
        }
    }
    vm.at_prompt().power_off()?;
    let wanted = before_reset(Store::live("1", "1", "1")).snapshot(4, ["1", "1", "1"]);
    ctx.expect_store(&disk, &wanted)?;
    Ok(())
}

fn asked_again(ctx: &mut Context) -> Result<()> {
    // The agent uses next_entry up; what was saved as the default stays.
    let stuck = three_versions_and(
        System::Tiny,
        "reset-entry-saved",
        "grub-editenv /mnt/@backstay/grub/grubenv create
         grub-editenv /mnt/@backstay/grub/grubenv set saved_entry=backstay-reset-config",
    );
    let disk = ctx.take(&stuck)?;
    let mut vm = ctx.boot(&disk)?;
    ctx.step("the first boot: somebody is there and presses ESC");
    asked_and(&mut vm, Answer::Esc)?;
    agent_says(&mut vm, &[&format!("done: {CONFIG_DONE}")])?;
    let mut tiny = vm.tiny()?;
    tiny.expect("3", "3", DATA)?;
    ctx.step("somebody configures the machine anew");
    tiny.succeed("echo 3-anew > /etc/appliance/version")?;
    tiny.restart()?;
    ctx.step("the next boot: GRUB chooses the entry again, and nobody is there");
    asked_and(&mut vm, Answer::Nothing)?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-anew", DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &before_reset(Store::live("3", "3-anew", "3")))?;
    Ok(())
}

fn tampered(ctx: &mut Context) -> Result<()> {
    let tampered = Fixture::new(
        System::Tiny,
        "factory-tampered",
        format!(
            "{THREE_VERSIONS}
             factory=/mnt/@backstay/factory/system
             btrfs property set -f $factory ro false
             echo 1 > $factory/etc/appliance-release
             sync
             btrfs property set $factory ro true"
        ),
    );
    let disk = ctx.take(&tampered)?;
    let mut vm = ctx.boot(&disk)?;
    choose_and_confirm(&mut vm, &[menu::RESET, menu::RESET_SYSTEM])?;
    agent_says(
        &mut vm,
        &[
            "refused: the factory snapshot was changed since it was sealed (system); \
             restore it from the vendor's image (docs/recovery.md)",
            "nothing was changed; starting the system",
        ],
    )?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", DATA)?;
    tiny.power_off()?;
    let wanted = Store::live("3", "3-changed", "3")
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"]);
    ctx.expect_store(&disk, &wanted)?;
    Ok(())
}
