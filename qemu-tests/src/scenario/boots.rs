//! Ordinary boots: of what is live, the very first one, and one at which a request is carried out.

use anyhow::Result;

use super::steps::{agent_begins, agent_says, menu, three_versions};
use super::store::Store;
use super::{Context, Scenario};
use crate::image::{Fixture, System};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::debian(
        "boots-live",
        "nobody touches a key: the live system comes up, and nothing is changed",
        live,
    )
    .core(),
    Scenario::debian(
        "request-from-running-system",
        "an admin asks for a rollback; the machine restarts, the agent carries it out, and it can be undone",
        request,
    ),
    Scenario::tiny(
        "first-boot-is-a-factory-reset",
        "an image without a live system starts the factory version, once and without asking",
        first_boot,
    )
    .core(),
];

fn live(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Debian))?;
    let mut vm = ctx.boot(&disk)?;
    let menu = vm.grub().wait()?;
    ctx.check(menu.current() == menu::START, || {
        format!("GRUB would start {:?}", menu.current())
    })?;
    agent_begins(&mut vm, "starting the system")?;
    let mut debian = vm.debian()?;
    let state = debian.run("systemctl is-system-running --wait")?.output;
    ctx.check(state.trim() == "running", || {
        format!("systemd says {state}")
    })?;
    let files = "cat /etc/appliance-release /etc/appliance/version";
    let found = debian.succeed(files)?;
    ctx.check(found == "3\n3-changed\n", || format!("this runs: {found}"))?;
    let good = debian
        .run("systemctl is-active backstay-mark-good.service")?
        .output;
    ctx.check(good.trim() == "active", || {
        format!("the system was not marked good: {good}")
    })?;
    debian.power_off()?;
    let wanted = Store::live("3", "3-changed", "3")
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"]);
    ctx.expect_store(&disk, &wanted)?;
    Ok(())
}

fn request(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Debian))?;
    let mut vm = ctx.boot(&disk)?;
    let mut debian = vm.debian()?;
    ctx.step("look at the plan first; it changes nothing");
    let plan = debian.succeed("backstay rollback --dry-run")?;
    ctx.check(plan.contains("roll back to snapshot 2"), || {
        format!("the plan is {plan}")
    })?;
    debian.succeed("backstay rollback")?;
    let status = debian.succeed("backstay status")?;
    ctx.check(status.contains("roll back"), || {
        format!("the status is {status}")
    })?;
    debian.restart()?;
    agent_says(
        &mut vm,
        &[
            "done: roll back to snapshot 2",
            "to undo it: roll forward (what was live is kept as snapshot 3)",
        ],
    )?;
    let mut debian = vm.debian()?;
    let release = debian.succeed("cat /etc/appliance-release")?;
    ctx.check(release == "2\n", || format!("version {release} runs"))?;
    ctx.step("the booted system can tell what was done");
    let told = debian.succeed("cat /run/backstay/boot.log")?;
    ctx.check(told.contains("done: roll back to snapshot 2"), || {
        format!("the log is {told}")
    })?;
    debian.power_off()?;
    let wanted = Store::live("2", "2", "2")
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"])
        .snapshot(3, ["3", "3-changed", "3"]);
    ctx.expect_store(&disk, &wanted)?;
    Ok(())
}

fn first_boot(ctx: &mut Context) -> Result<()> {
    let image = Fixture::new(
        System::Tiny,
        "first-boot",
        "rm /mnt/@data/content
         admin factory seal --first-boot",
    );
    let disk = ctx.take(&image)?;
    let mut vm = ctx.boot(&disk)?;
    agent_says(&mut vm, &["done: first boot: start the factory version"])?;
    let tiny = vm.tiny()?;
    tiny.expect("1", "1", "-")?;
    tiny.restart()?;
    ctx.step("the second start is an ordinary one");
    agent_begins(&mut vm, "starting the system")?;
    let tiny = vm.tiny()?;
    tiny.expect("1", "1", "-")?;
    ctx.check(
        vm.serial().lines_with("done: first boot").len() == 1,
        || "the first boot was repeated".to_owned(),
    )?;
    vm.at_prompt().power_off()?;
    ctx.expect_store(&disk, &Store::live("1", "1", "1").data(None))?;
    Ok(())
}
