//! The menu on the console, as a person works it.

use std::time::Duration;

use anyhow::Result;

use super::rollback::{TINY_DATA, after_previous, untouched};
use super::steps::{
    MENU_OPENS, NOT_THE_WORD, QUESTION, START_IT, WORD, agent_begins, agent_says, answer_word,
    asks_for, at_menu, at_question, boot_recovery_with, change_at_menu, menu, three_versions,
    version_row,
};
use super::store::{Store, digest};
use super::{Context, Scenario};
use crate::image::System;
use crate::vm::Vm;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::tiny(
        "menu-rollback",
        "somebody looks around in the menu, and goes back to a version that he chose there",
        rollback,
    )
    .core(),
    Scenario::tiny(
        "menu-boot-once",
        "a snapshot is started once from the menu; the next start returns",
        boot_once,
    ),
    Scenario::tiny(
        "menu-reset-system-typed-word",
        "the factory's system by the menu, and the word that it wants",
        reset_system,
    ),
    Scenario::tiny(
        "menu-wrong-word-does-nothing",
        "the word in small letters, another change's, none, control-C, or typed ahead: not a byte of the disk changes",
        wrong_word,
    ),
    Scenario::tiny(
        "menu-times-out-and-boots",
        "nobody types, or somebody leaves in the middle of a line: the system starts",
        times_out,
    )
    .core(),
    Scenario::tiny(
        "menu-in-the-running-system",
        "the same menu as a command: what is asked for there is done by the next start",
        running,
    ),
    Scenario::tiny(
        "menu-by-key",
        "an ordinary start by the system's own initramfs: the key opens the menu",
        by_key,
    ),
];

/// Chooses the menu in GRUB's, up to its announcement.
pub(super) fn open(vm: &mut Vm) -> Result<()> {
    vm.grub().choose(&[menu::RECOVERY])?;
    opens(vm)
}

/// Waits for the announcement of a menu that was asked for.
pub(super) fn opens(vm: &mut Vm) -> Result<()> {
    agent_begins(vm, "the recovery menu was asked for")?;
    agent_says(vm, &[MENU_OPENS])
}

/// A rollback to snapshot 2, and version 2 runs.
pub(super) fn roll_back(ctx: &Context, vm: &mut Vm) -> Result<()> {
    change_at_menu(ctx, vm, "rollback 2", "ROLLBACK")?;
    agent_says(vm, &["done: roll back to snapshot 2"])?;
    start(ctx, vm, ["2", "2"])
}

/// What is live now starts, after a change.
pub(super) fn start(ctx: &Context, vm: &mut Vm, [system, config]: [&str; 2]) -> Result<()> {
    vm.serial().expect_line(START_IT)?;
    at_menu(ctx, vm, "boot")?;
    agent_says(vm, &["starting the system"])?;
    vm.tiny()?.expect(system, config, TINY_DATA)
}

/// Switches it off at the menu.
pub(super) fn switch_off(ctx: &Context, vm: &mut Vm) -> Result<()> {
    at_menu(ctx, vm, "poweroff")?;
    agent_says(vm, &["switching the machine off"])?;
    vm.wait_off(Duration::from_secs(60))
}

/// The rows of the snapshots of [`three_versions`].
pub(super) fn lists(ctx: &Context, vm: &mut Vm) -> Result<()> {
    at_menu(ctx, vm, "list")?;
    version_row(vm, "< 2 ", "version 2")?;
    version_row(vm, "  1 ", "version 1")?;
    version_row(vm, "  factory ", "")
}

fn rollback(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    open(&mut vm)?;
    ctx.step("the first screen");
    vm.serial().expect_lines(&[
        &format!("backstay {} - menu", env!("CARGO_PKG_VERSION")),
        "Somebody asked for this menu.",
    ])?;
    vm.serial().expect_text("Live: ")?;
    vm.serial()
        .expect_text("go back to snapshot 2; asks first")?;
    vm.serial()
        .expect_line("Without a command for 60 seconds the system starts.")?;
    ctx.step("look around");
    at_menu(ctx, &mut vm, "help")?;
    vm.serial().expect_text("restart the machine")?;
    lists(ctx, &mut vm)?;
    at_menu(ctx, &mut vm, "show 2")?;
    vm.serial().expect_text("Snapshot 2: ")?;
    vm.serial().expect_text("go back to it, for good")?;
    at_menu(ctx, &mut vm, "look 2 /etc/appliance-release")?;
    vm.serial().expect_line("2")?;
    at_menu(ctx, &mut vm, "look live /etc/appliance-release")?;
    vm.serial().expect_line("3")?;
    at_menu(ctx, &mut vm, "diff 2 /etc")?;
    vm.serial().expect_text("* /etc/appliance-release")?;
    vm.serial().expect_text(" added, ")?;
    at_menu(ctx, &mut vm, "show 9")?;
    vm.serial().expect_text("There is no snapshot 9;")?;
    at_menu(ctx, &mut vm, "rm -rf /")?;
    vm.serial()
        .expect_line("'rm' is no command here; 'help' lists them.")?;
    at_menu(ctx, &mut vm, "rollback 2")?;
    vm.serial().expect_lines(&[
        "roll back to snapshot 2",
        "  configuration: becomes a clone of snapshot 2",
        "  system: becomes a clone of snapshot 2",
        "  data: stays as it is",
    ])?;
    asks_for(&mut vm, "ROLLBACK")?;
    answer_word(ctx, &mut vm, "ROLLBACK")?;
    agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
    start(ctx, &mut vm, ["2", "2"])?;
    vm.at_prompt().power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

fn boot_once(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    open(&mut vm)?;
    change_at_menu(ctx, &mut vm, "once 1", "ONCE")?;
    agent_says(
        &mut vm,
        &[
            "done: boot a clone of snapshot 1 once",
            "it lasts for one boot: the next boot returns to the present system",
        ],
    )?;
    vm.serial().expect_line(START_IT)?;
    ctx.step("nothing more is changed before that start");
    at_menu(ctx, &mut vm, "rollback 2")?;
    vm.serial()
        .expect_text("Nothing can be changed: a snapshot is started once:")?;
    at_menu(ctx, &mut vm, "boot")?;
    let tiny = vm.tiny()?;
    tiny.expect("1", "1", TINY_DATA)?;
    tiny.restart()?;
    agent_says(
        &mut vm,
        &["done: return from the snapshot that was booted once"],
    )?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &untouched().snapshot(3, ["1", "1", "1"]))?;
    Ok(())
}

fn reset_system(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    open(&mut vm)?;
    at_menu(ctx, &mut vm, "reset")?;
    vm.serial().expect_text("It is written: reset config | ")?;
    at_menu(ctx, &mut vm, "reset system")?;
    vm.serial().expect_lines(&[
        "  configuration: becomes a clone of the factory snapshot",
        "  system: becomes a clone of the factory snapshot",
        "  data: stays as it is",
    ])?;
    asks_for(&mut vm, "RESET")?;
    answer_word(ctx, &mut vm, "RESET")?;
    agent_says(
        &mut vm,
        &["done: reset system and configuration to the factory version, keep data"],
    )?;
    start(ctx, &mut vm, ["1", "1"])?;
    vm.at_prompt().power_off()?;
    let wanted = Store::live("1", "1", "1")
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"])
        .snapshot(3, ["3", "3-changed", "3"]);
    ctx.expect_store(&disk, &wanted)?;
    Ok(())
}

fn wrong_word(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let before = digest(&disk)?;
    let mut vm = ctx.boot(&disk)?;
    open(&mut vm)?;
    for (command, word, others) in [
        (
            "rollback 2",
            "ROLLBACK",
            &["rollback", "FORWARD", "ROLLBACK 2", "yes", ""][..],
        ),
        ("once 1", "ONCE", &["ROLLBACK"]),
        (
            "reset everything",
            "RESET EVERYTHING",
            &["RESET", "reset everything"],
        ),
    ] {
        for other in others {
            change_as(ctx, &mut vm, command, word, other)?;
        }
    }
    ctx.step("control-C at the word");
    at_menu(ctx, &mut vm, "rollback 2")?;
    vm.serial().expect_text(WORD)?;
    vm.serial().send(b"\x03")?;
    vm.serial().expect_line(NOT_THE_WORD)?;
    ctx.step("the word typed before it is asked for");
    at_menu(ctx, &mut vm, "rollback 2\rROLLBACK")?;
    answer_word(ctx, &mut vm, "")?;
    vm.serial().expect_line(NOT_THE_WORD)?;
    switch_off(ctx, &mut vm)?;
    let after = digest(&disk)?;
    ctx.check(before == after, || {
        "the disk is not byte for byte what it was before the menu".to_owned()
    })?;
    let mut vm = ctx.boot(&disk)?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &untouched())?;
    Ok(())
}

/// A command, and another word than the one that it asks for.
fn change_as(ctx: &Context, vm: &mut Vm, command: &str, word: &str, other: &str) -> Result<()> {
    at_menu(ctx, vm, command)?;
    asks_for(vm, word)?;
    answer_word(ctx, vm, other)?;
    vm.serial().expect_line(NOT_THE_WORD)
}

fn times_out(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    for half in ["", "rollback 2", "\x1b["] {
        ctx.step(format!("somebody types {half:?}, and no Enter"));
        boot_recovery_with(&mut vm, System::Tiny, "backstay.menu=5 backstay.end")?;
        opens(&mut vm)?;
        vm.serial()
            .expect_line("Without a command for 5 seconds the system starts.")?;
        vm.serial().expect_text(QUESTION)?;
        vm.serial().send(half.as_bytes())?;
        vm.serial().expect_line("Nothing was typed.")?;
        agent_says(&mut vm, &["starting the system"])?;
        vm.tiny()?.expect("3", "3-changed", TINY_DATA)?;
        match half {
            "\x1b[" => vm.at_prompt().power_off()?,
            _ => vm.at_prompt().restart()?,
        }
    }
    ctx.expect_store(&disk, &untouched())?;
    Ok(())
}

fn running(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    vm.tiny()?.expect("3", "3-changed", TINY_DATA)?;
    at_question(ctx, vm.serial(), "tiny# ", "backstay menu")?;
    lists(ctx, &mut vm)?;
    at_menu(ctx, &mut vm, "diff 2 /etc")?;
    vm.serial().expect_text("* /etc/appliance-release")?;
    at_menu(ctx, &mut vm, "rollback 2")?;
    vm.serial().expect_line("roll back to snapshot 2")?;
    answer_word(ctx, &mut vm, "no")?;
    vm.serial().expect_line(NOT_THE_WORD)?;
    at_menu(ctx, &mut vm, "rollback 2")?;
    answer_word(ctx, &mut vm, "ROLLBACK")?;
    vm.serial()
        .expect_text("It is asked for: the next start does it.")?;
    ctx.step("one request at a time");
    at_menu(ctx, &mut vm, "once 1")?;
    vm.serial().expect_text("'backstay cancel'")?;
    at_menu(ctx, &mut vm, "exit")?;
    vm.serial().expect_line("[0]")?;
    ctx.step("the terminal is as it was");
    let echoed = vm.at_prompt().succeed("echo $((40 + 2))")?;
    ctx.check(echoed == "42\n", || format!("the shell says {echoed}"))?;
    vm.at_prompt().restart()?;
    agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
    let tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

fn by_key(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    for key in [&b"m"[..], b"xyzM"] {
        agent_begins(&mut vm, "starting the system")?;
        agent_says(&mut vm, &["m opens the menu until the system starts"])?;
        vm.serial().send(key)?;
        agent_says(&mut vm, &[MENU_OPENS])?;
        vm.serial().expect_line("Somebody pressed m.")?;
        lists(ctx, &mut vm)?;
        at_menu(ctx, &mut vm, "boot")?;
        let tiny = vm.tiny()?;
        tiny.expect("3", "3-changed", TINY_DATA)?;
        tiny.restart()?;
    }
    ctx.step("another key opens nothing");
    agent_says(&mut vm, &["m opens the menu until the system starts"])?;
    vm.serial().forbid(MENU_OPENS);
    vm.serial().send(b"x")?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    vm.at_prompt().restart()?;
    vm.serial().allow(MENU_OPENS);
    ctx.step("and a change can be made there");
    agent_says(&mut vm, &["m opens the menu until the system starts"])?;
    vm.serial().send(b"m")?;
    roll_back(ctx, &mut vm)?;
    vm.at_prompt().power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}
