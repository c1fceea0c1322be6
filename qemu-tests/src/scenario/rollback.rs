//! Back to an earlier version, forward again, and looking at one once.

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
    Scenario::debian(
        "rollback-previous",
        "the entry in GRUB's menu brings the version before; what was live becomes a snapshot",
        previous,
    )
    .core(),
    Scenario::tiny(
        "rollback-to-id",
        "the running system asks for a snapshot by its number",
        to_id,
    )
    .core(),
    Scenario::tiny(
        "rollback-twice-then-forward-twice",
        "two steps back and two steps forward end where they began",
        twice_and_back,
    )
    .core(),
    Scenario::tiny(
        "select-once-returns",
        "a snapshot booted once; the next boot returns, and the changes made to it are kept",
        select_once,
    )
    .core(),
    Scenario::tiny(
        "cancelled-request-does-nothing",
        "a request that was withdrawn is not carried out",
        cancelled,
    ),
    Scenario::tiny(
        "rollback-entry-stuck-does-not-flip-flop",
        "a rollback entry that GRUB chooses at every boot changes nothing while nobody confirms",
        stuck_entry,
    ),
    Scenario::tiny(
        "full-disk-rollback-succeeds",
        "a rollback on a disk without a free byte, of data or of metadata",
        full_disk,
    ),
];

/// [`CUSTOMER`] as the tiny system says it.
pub(super) const TINY_DATA: &str = "made_by_the_customer";

fn previous(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Debian))?;
    let mut vm = ctx.boot(&disk)?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_begins(
        &mut vm,
        "going to roll back to the version before (confirmed)",
    )?;
    agent_says(
        &mut vm,
        &[
            "roll back to snapshot 2",
            "  configuration: becomes a clone of snapshot 2",
            "  system: becomes a clone of snapshot 2",
            "  data: stays as it is",
            "done: roll back to snapshot 2",
            "it lasts: every boot from now on is this one",
            "to undo it: roll forward (what was live is kept as snapshot 3)",
        ],
    )?;
    let mut debian = vm.debian()?;
    let release = debian.succeed("cat /etc/appliance-release /etc/appliance/version")?;
    ctx.check(release == "2\n2\n", || {
        format!("these versions run: {release}")
    })?;
    let state = debian.run("systemctl is-system-running --wait")?.output;
    ctx.check(state.trim() == "running", || {
        format!("systemd says {state}")
    })?;
    debian.power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

/// [`three_versions`] after one rollback.
pub(super) fn after_previous() -> Store {
    Store::live("2", "2", "2")
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"])
        .snapshot(3, ["3", "3-changed", "3"])
}

fn to_id(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    let mut tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.succeed("backstay rollback 1")?;
    tiny.restart()?;
    agent_begins(&mut vm, "starting the system")?;
    agent_says(&mut vm, &["done: roll back to snapshot 1"])?;
    let tiny = vm.tiny()?;
    tiny.expect("1", "1", TINY_DATA)?;
    tiny.power_off()?;
    let wanted = Store::live("1", "1", "1")
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"])
        .snapshot(3, ["3", "3-changed", "3"]);
    ctx.expect_store(&disk, &wanted)?;
    Ok(())
}

/// Rolls back by GRUB's entry, to where `system` runs with its configuration of the same version.
fn roll_back(vm: &mut Vm, to: u32, system: &str) -> Result<()> {
    choose_and_confirm(vm, &[menu::ROLL_BACK])?;
    agent_says(vm, &[&format!("done: roll back to snapshot {to}")])?;
    vm.tiny()?.expect(system, system, TINY_DATA)
}

/// Asks for `forward` at the prompt, to where `system` runs with this configuration.
fn forward(vm: &mut Vm, to: u32, system: &str, config: &str) -> Result<()> {
    vm.at_prompt().succeed("backstay forward")?;
    vm.at_prompt().restart()?;
    agent_says(vm, &[&format!("done: roll forward to snapshot {to}")])?;
    vm.tiny()?.expect(system, config, TINY_DATA)
}

fn twice_and_back(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    roll_back(&mut vm, 2, "2")?;
    vm.at_prompt().restart()?;
    roll_back(&mut vm, 1, "1")?;
    forward(&mut vm, 4, "2", "2")?;
    forward(&mut vm, 3, "3", "3-changed")?;
    vm.at_prompt().power_off()?;
    let wanted = Store::live("3", "3-changed", "3")
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"])
        .snapshot(3, ["3", "3-changed", "3"])
        .snapshot(4, ["2", "2", "2"])
        .snapshot(5, ["1", "1", "1"])
        .snapshot(6, ["2", "2", "2"]);
    ctx.expect_store(&disk, &wanted)?;
    Ok(())
}

fn select_once(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    choose_and_confirm(&mut vm, &[menu::SNAPSHOTS, "Snapshot 1: tiny 1, version 1"])?;
    agent_begins(&mut vm, "going to boot snapshot 1 once (confirmed)")?;
    agent_says(
        &mut vm,
        &[
            "done: boot a clone of snapshot 1 once",
            "it lasts for one boot: the next boot returns to the present system",
            "to undo it: reboot",
        ],
    )?;
    let mut tiny = vm.tiny()?;
    tiny.expect("1", "1", TINY_DATA)?;
    ctx.step("change the configuration of the clone");
    tiny.succeed("echo 1-tried > /etc/appliance/version")?;
    tiny.restart()?;
    agent_says(
        &mut vm,
        &[
            "done: return from the snapshot that was booted once",
            "what was booted once is kept as snapshot 3: roll back to 3 to use it",
        ],
    )?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.power_off()?;
    let wanted = Store::live("3", "3-changed", "3")
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"])
        .snapshot(3, ["1", "1-tried", "1"]);
    ctx.expect_store(&disk, &wanted)?;
    Ok(())
}

/// [`three_versions`] as it is.
pub(super) fn untouched() -> Store {
    Store::live("3", "3-changed", "3")
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"])
}

fn cancelled(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    let mut tiny = vm.tiny()?;
    tiny.succeed("backstay rollback")?;
    let second = tiny.run("backstay reset config --yes")?;
    let refused = second.status != 0 && second.output.contains("backstay cancel");
    ctx.check(refused, || {
        format!("a second request was not refused: {}", second.output)
    })?;
    tiny.succeed("backstay cancel")?;
    tiny.restart()?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &untouched())?;
    Ok(())
}

fn stuck_entry(ctx: &mut Context) -> Result<()> {
    let stuck = three_versions_and(
        System::Tiny,
        "rollback-entry-stuck",
        "grub-editenv /mnt/@backstay/grub/grubenv create
         grub-editenv /mnt/@backstay/grub/grubenv set saved_entry=backstay-rollback",
    );
    let disk = ctx.take(&stuck)?;
    let mut vm = ctx.boot(&disk)?;
    ctx.step("the first boot: somebody is there and presses ESC");
    asked_and(&mut vm, Answer::Esc)?;
    agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
    vm.tiny()?.expect("2", "2", TINY_DATA)?;
    for answer in [Answer::Nothing, Answer::OtherKey] {
        ctx.step("a later boot: nobody presses ESC");
        vm.at_prompt().restart()?;
        asked_and(&mut vm, answer)?;
        vm.tiny()?.expect("2", "2", TINY_DATA)?;
    }
    vm.at_prompt().power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

fn full_disk(ctx: &mut Context) -> Result<()> {
    // First all space for data, then empty files with long names, which take metadata alone.
    let full = Fixture::new(
        System::Tiny,
        "full",
        format!(
            "{THREE_VERSIONS}
             mkdir /mnt/@data/small
             cd /mnt/@data/small
             sync
             dd if=/dev/zero of=/mnt/@data/fill bs=1M 2>/dev/null || true
             dd if=/dev/zero of=/mnt/@data/fill2 bs=4k 2>/dev/null || true
             sync || true
             seq -f '%0220.0f' 1 60000 | xargs -n 500 sh -c 'touch \"$@\" || exit 255' - 2>/dev/null || true
             sync || true
             if touch one-more 2>/dev/null; then echo 'the disk is not full' >&2; exit 1; fi
             cd /"
        ),
    );
    let disk = ctx.take(&full)?;
    let mut vm = ctx.boot(&disk)?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
    let tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &after_previous().data(Some(CUSTOMER)))?;
    Ok(())
}
