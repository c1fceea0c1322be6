//! What is refused, and how: one clear line on the console, the live system boots as it was, and the
//! disk is what it was.

use anyhow::Result;

use super::rollback::{TINY_DATA, after_previous, untouched};
use super::steps::{
    MENU_OPENS, agent_begins, agent_says, answer_word, at_menu, boot_recovery_with,
    choose_and_confirm, menu, three_versions, three_versions_and, version_row,
};
use super::store::same_sealed;
use super::{Context, Scenario};
use crate::image::System;
use crate::vm::Vm;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::tiny(
        "refuses-unknown-verb",
        "a parameter or a value that no version knows is named, and nothing is done",
        unknown_verb,
    ),
    Scenario::tiny(
        "refuses-without-sentinel",
        "a command line that may have been cut short changes nothing",
        without_sentinel,
    ),
    Scenario::tiny(
        "refuses-without-presence-or-ticket",
        "a verb that nobody confirmed, as a command line that repeats would bring it",
        without_consent,
    )
    .core(),
    Scenario::tiny("refuses-two-verbs", "of two verbs none is done", two_verbs),
    Scenario::tiny(
        "refuses-torn-state-and-boots",
        "a state garbled in both slots refuses verbs and boots; torn in one slot, verbs work",
        torn_state,
    )
    .within(std::time::Duration::from_secs(900)),
    Scenario::tiny(
        "missing-live-root-is-not-first-boot",
        "without its root the machine asks a person, even where the image builder's marker lies",
        missing_root,
    ),
    Scenario::debian(
        "uninstall-refused-on-an-appliance",
        "where GRUB starts from the store, uninstall leaves it, whatever layout.toml lies where",
        uninstall,
    ),
];

/// Boots the recovery kernel with each command line; the agent must begin with the line's own words,
/// say the rest, and start the system unchanged.
fn refuses(ctx: &mut Context, lines: &[(&str, &str, &[&str])]) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let before = ctx.expect_store(&disk, &untouched())?;
    let mut vm = ctx.boot(&disk)?;
    for (index, (line, begins, says)) in lines.iter().enumerate() {
        if index > 0 {
            vm.at_prompt().restart()?;
        }
        boot_recovery_with(&mut vm, System::Tiny, line)?;
        agent_begins(&mut vm, begins)?;
        agent_says(&mut vm, says)?;
        agent_says(&mut vm, &["nothing was changed; starting the system"])?;
        vm.tiny()?.expect("3", "3-changed", TINY_DATA)?;
    }
    vm.at_prompt().power_off()?;
    let after = ctx.expect_store(&disk, &untouched())?;
    same_sealed(&before, &after)
}

fn unknown_verb(ctx: &mut Context) -> Result<()> {
    refuses(
        ctx,
        &[
            (
                "backstay.restore=2 backstay.present backstay.end",
                "refused: backstay.restore is no parameter of this version: correct it or take it \
                 out; there are rollback, forward, select, reset, menu, keep, fence, tarball, \
                 console, present, attempt, end",
                &[],
            ),
            (
                "backstay.reset=all backstay.present backstay.end",
                "refused: backstay.reset=all is not understood: it takes config; config,data; \
                 system or everything",
                &[],
            ),
        ],
    )
}

fn without_sentinel(ctx: &mut Context) -> Result<()> {
    refuses(
        ctx,
        &[
            (
                "backstay.rollback=previous backstay.present",
                "refused: backstay.rollback without the closing backstay.end: the line may have \
                 been cut short; put backstay.end after all backstay parameters, or shorten the \
                 line",
                &[],
            ),
            (
                "backstay.reset=everything backstay.end backstay.present",
                "refused: backstay.present stands after backstay.end, which does not cover it: put \
                 backstay.end last",
                &[],
            ),
        ],
    )
}

fn without_consent(ctx: &mut Context) -> Result<()> {
    refuses(
        ctx,
        &[
            (
                "backstay.rollback=previous backstay.end",
                "asked to roll back to the version before, unconfirmed",
                &[
                    "refused to roll back to the version before: nobody confirmed it; choose the \
                     entry again and press ESC when it asks",
                ],
            ),
            (
                "backstay.reset=everything backstay.end",
                "asked to reset everything, unconfirmed",
                &[
                    "refused to reset everything: nobody confirmed it; choose the entry again and \
                     press ESC when it asks",
                ],
            ),
        ],
    )
}

fn two_verbs(ctx: &mut Context) -> Result<()> {
    refuses(
        ctx,
        &[
            (
                "backstay.rollback=previous backstay.reset=everything backstay.present backstay.end",
                "refused: backstay.rollback and backstay.reset cannot both be meant: leave one of \
                 them",
                &[],
            ),
            (
                "backstay.rollback=1 backstay.rollback=2 backstay.present backstay.end",
                "refused: backstay.rollback stands there more than once: leave one of them",
                &[],
            ),
        ],
    )
}

/// A shell function that overwrites some bytes of a slot of the state; `older` says which slot the next
/// write would have gone to.
const TEAR: &str = "
sequence() { od -An -tu8 -j $(($1 * 4096 + 12)) -N 8 /mnt/@backstay/state; }
tear() { printf 'torn!' | dd of=/mnt/@backstay/state bs=1 seek=$(($1 * 4096 + 700)) conv=notrunc; }
older=0
if [ $(sequence 0) -gt $(sequence 1) ]; then older=1; fi
";

fn torn_state(ctx: &mut Context) -> Result<()> {
    let garbled = three_versions_and(
        System::Tiny,
        "state-garbled",
        &format!("{TEAR}\ntear 0\ntear 1"),
    );
    let disk = ctx.take(&garbled)?;
    let before = ctx.expect_store(&disk, &untouched())?;
    let mut vm = ctx.boot(&disk)?;
    ctx.step("both slots are garbled: a verb is refused");
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(
        &mut vm,
        &[
            "the state is damaged in both slots, nothing is changed; repair it with 'backstay init \
             --repair' in the running system",
            "nothing was changed; starting the system",
        ],
    )?;
    let mut tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    ctx.step("repair it as the line says");
    tiny.succeed("backstay init --repair")?;
    tiny.power_off()?;
    let after = ctx.expect_store(&disk, &untouched())?;
    same_sealed(&before, &after)?;
    let mut vm = ctx.boot(&disk)?;
    rolls_back(&mut vm)?;
    ctx.expect_store(&disk, &after_previous())?;

    ctx.step("another disk: the power went while the state was written, one slot is torn");
    let torn = three_versions_and(System::Tiny, "state-torn", &format!("{TEAR}\ntear $older"));
    let disk = ctx.take(&torn)?;
    let mut vm = ctx.boot(&disk)?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(
        &mut vm,
        &[
            "one of the two copies of the state is damaged: the other one is used",
            "done: roll back to snapshot 2",
        ],
    )?;
    let tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

fn rolls_back(vm: &mut Vm) -> Result<()> {
    choose_and_confirm(vm, &[menu::ROLL_BACK])?;
    agent_says(vm, &["done: roll back to snapshot 2"])?;
    let tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.power_off()
}

fn missing_root(ctx: &mut Context) -> Result<()> {
    let rootless = three_versions_and(
        System::Tiny,
        "rootless",
        "btrfs subvolume delete --commit-after /mnt/@rootfs
         touch /mnt/@backstay/first-boot",
    );
    let disk = ctx.take(&rootless)?;
    let mut vm = ctx.boot(&disk)?;
    agent_begins(&mut vm, "starting the system")?;
    agent_says(
        &mut vm,
        &[
            "the live system is missing and this is not a first boot: choose what to promote",
            MENU_OPENS,
        ],
    )?;
    at_menu(ctx, &mut vm, "list")?;
    version_row(&mut vm, "< 2 ", "version 2")?;
    version_row(&mut vm, "  1 ", "version 1")?;
    version_row(&mut vm, "  factory ", "")?;
    for (word, end) in [
        ("yes", "That was not the word: nothing was changed."),
        ("ROLLBACK", "Type 'boot' to start it."),
    ] {
        at_menu(ctx, &mut vm, "rollback 2")?;
        vm.serial().expect_lines(&[
            "roll back to snapshot 2",
            "  configuration: becomes a clone of snapshot 2",
            "  configuration defaults: becomes a clone of snapshot 2",
            "  system: becomes a clone of snapshot 2",
            "  data: stays as it is",
            "Type ROLLBACK and Enter to do this; anything else changes nothing.",
        ])?;
        answer_word(ctx, &mut vm, word)?;
        if word == "ROLLBACK" {
            agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
        }
        vm.serial().expect_line(end)?;
    }
    at_menu(ctx, &mut vm, "boot")?;
    vm.tiny()?.expect("2", "2", TINY_DATA)?;
    vm.at_prompt().restart()?;
    ctx.step("it lasts: an ordinary boot");
    let tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &after_previous().without_system(3))?;
    Ok(())
}

fn uninstall(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Debian))?;
    let before = ctx.expect_store(&disk, &untouched())?;
    let mut vm = ctx.boot(&disk)?;
    let mut debian = vm.debian()?;
    for (first, why) in [
        (
            "true",
            "/etc/backstay/layout.toml is missing, which 'backstay init' on a running system makes and would make again",
        ),
        (
            "mkdir -p /etc/backstay && cp /usr/lib/backstay/layout.toml /etc/backstay/",
            "@backstay/grub is a directory, made for an appliance, and /boot/grub lies in the root",
        ),
    ] {
        debian.succeed(first)?;
        let ran = debian.run("backstay uninstall --yes 2>&1")?;
        ctx.check(
            ran.status != 0
                && ran.output
                    == format!("backstay: {why}: the store stays, since GRUB may start from it\n"),
            || format!("uninstall ended with {}: {}", ran.status, ran.output),
        )?;
    }
    debian.succeed("rm /etc/backstay/layout.toml")?;
    debian.restart()?;
    vm.debian()?.power_off()?;
    let after = ctx.expect_store(&disk, &untouched())?;
    same_sealed(&before, &after)
}
