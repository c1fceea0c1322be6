//! What a machine knows of a start that failed, and does about it, when it has gone back or has nowhere to go.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::rollback::TINY_DATA;
use super::steps::{MENU_OPENS, agent_says, asked_and, menu};
use super::store::Store;
use super::trial::{
    falls_back, falls_back_and_stays, good_and, read, roll_back, rolled_back, same, starts,
};
use super::{Context, Scenario};
use crate::grub_menu::Answer;
use crate::guest::Tiny;
use crate::image::alter;
use crate::random::Random;
use crate::vm::VmConfig;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::tiny(
        "all-candidates-fail-ends-in-menu-then-boots",
        "what failed and what the machine fell back to: the menu, once, and then on with the boot",
        all_fail,
    )
    .usually(300),
    Scenario::tiny(
        "fallback-recorded",
        "the booted system finds in /run/backstay/boot.json what happened, and its status says it",
        recorded,
    ),
    Scenario::tiny(
        "failed-version-not-offered-again",
        "a version that failed is no target a second time, although it was good once",
        not_again,
    )
    .usually(300),
    Scenario::tiny(
        "clock-in-the-past",
        "the clock is in 2001 while the machine falls back: the newest good snapshot all the same",
        past,
    ),
    Scenario::tiny(
        "stale-next-entry-does-not-repeat",
        "what grub-reboot chose is chosen once, although GRUB cannot write that down",
        stale_next_entry,
    ),
    Scenario::tiny(
        "power-cut-thirty-times-stays-put",
        "a confirmed system whose start is cut thirty times is the same afterwards",
        thirty_cuts,
    )
    .usually(400)
    .within(Duration::from_secs(1200)),
];

fn all_fail(ctx: &mut Context) -> Result<()> {
    let (_, mut vm) = rolled_back(ctx, &good_and("kernel-good", ""))?;
    starts(&mut vm, ["2", "2"], 1)?;
    falls_back(&mut vm, 3)?;
    starts(&mut vm, ["3", "3-changed"], 1)?;
    ctx.step("nothing is left: the menu, with nobody there");
    agent_says(
        &mut vm,
        &[
            "neither the system nor the one before it came up: choose a snapshot, or wait",
            MENU_OPENS,
        ],
    )?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.restart()?;
    ctx.step("from then on it starts without being counted");
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.power_off()
}

fn recorded(ctx: &mut Context) -> Result<()> {
    let (_, mut vm) = rolled_back(ctx, &good_and("kernel-good", ""))?;
    let mut tiny = vm.tiny()?;
    let record = boot_record(&mut tiny)?;
    ctx.step("the start that was promoted, in a kernel that was started by kexec");
    same(ctx, &record, "/attempt", json!({"n": 1, "of": 3}))?;
    same(ctx, &record, "/fell_back", json!(null))?;
    same(ctx, &record, "/schema", json!(1))?;
    same(ctx, &record, "/done", json!(["roll back to snapshot 2"]))?;
    let asked = json!("roll back to the version before");
    same(ctx, &record, "/requested", asked)?;
    tiny.succeed("backstay mark-bad")?;
    tiny.restart()?;
    falls_back(&mut vm, 3)?;
    let mut tiny = vm.tiny()?;
    let record = boot_record(&mut tiny)?;
    for (field, value) in [
        ("/version", json!(env!("CARGO_PKG_VERSION"))),
        ("/kernel", json!(tiny.said().kernel)),
        ("/attempt", json!({"n": 1, "of": 3})),
        ("/fell_back/from", json!(4)),
        ("/fell_back/to", json!(3)),
        ("/fell_back/starts", json!(1)),
        (
            "/done",
            json!(["fall back to snapshot 3, the newest good one"]),
        ),
        ("/requested", json!(null)),
        ("/refused", json!(null)),
        ("/reset_reason", json!(null)),
        ("/own_kernel", json!(true)),
    ] {
        same(ctx, &record, field, value)?;
    }
    let status = tiny.succeed("backstay status")?;
    ctx.check(status.contains("fell back"), || status.clone())?;
    tiny.power_off()
}

fn boot_record(tiny: &mut Tiny<'_>) -> Result<Value> {
    read(&tiny.succeed("cat /run/backstay/boot.json; echo")?)
}

fn not_again(ctx: &mut Context) -> Result<()> {
    let (_, mut vm) = rolled_back(ctx, &good_and("kernel-good", ""))?;
    let mut tiny = vm.tiny()?;
    ctx.step("version 2 is good, and kept as a snapshot; then an upgrade in place fails");
    tiny.succeed("backstay mark-good")?;
    tiny.succeed("backstay snapshot")?;
    tiny.succeed("backstay try")?;
    tiny.succeed("backstay mark-bad")?;
    tiny.restart()?;
    falls_back(&mut vm, 4)?;
    let mut tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.succeed("backstay mark-good")?;
    ctx.step(
        "a person goes forward to it, and it fails again: neither it nor its clone is a target",
    );
    tiny.succeed("backstay rollback 4")?;
    tiny.restart()?;
    let mut tiny = vm.tiny()?;
    tiny.succeed("backstay mark-bad")?;
    tiny.restart()?;
    vm.serial().expect_text("done: fall back to snapshot ")?;
    let mut tiny = vm.tiny()?;
    let status = read(&tiny.succeed("backstay status --json")?)?;
    let to = status.pointer("/fell_back/to").and_then(Value::as_u64);
    ctx.check(to.is_some_and(|to| to != 4), || status.to_string())?;
    tiny.power_off()
}

fn past(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&good_and("kernel-good", ""))?;
    let mut config = VmConfig::disk(ctx.accel(), &disk, ctx.transcript());
    config.extra = vec!["-rtc".into(), "base=2001-01-01T00:00:00".into()];
    let mut vm = ctx.start(config)?;
    roll_back(&mut vm)?;
    let mut tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.succeed("backstay mark-bad")?;
    tiny.restart()?;
    falls_back_and_stays(ctx, &mut vm, &disk)
}

fn stale_next_entry(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&good_and("kernel-good", ""))?;
    let choose = "grub-editenv /mnt/@backstay/grub/grubenv create
                  grub-editenv /mnt/@backstay/grub/grubenv set next_entry=backstay-rollback";
    for answer in [Answer::Nothing, Answer::Esc] {
        alter(&disk, choose)?;
        let mut vm = ctx.boot(&disk)?;
        asked_and(&mut vm, answer)?;
        let mut tiny = vm.tiny()?;
        // The agent was there only if something was to be done.
        tiny.succeed("backstay mark-good")?;
        tiny.restart()?;
        ctx.step("the next start asks nothing");
        let current = vm.grub().wait()?.current().to_owned();
        ctx.check(current == menu::START, || {
            format!("GRUB would start {current:?}")
        })?;
        vm.tiny()?.power_off()?;
    }
    Ok(())
}

fn thirty_cuts(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&good_and("kernel-good", ""))?;
    let mut random = Random::new(30);
    for n in 1..=30 {
        let wait = Duration::from_millis(500 + random.below(9500));
        ctx.step(format!("start {n}, and the power goes after {wait:?}"));
        let vm = ctx.boot(&disk)?;
        std::thread::sleep(wait);
        vm.pull_plug()?;
    }
    let mut vm = ctx.boot(&disk)?;
    let mut tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    let status = read(&tiny.succeed("backstay status --json")?)?;
    same(ctx, &status, "/fell_back", json!(null))?;
    tiny.power_off()?;
    let untouched = Store::live("3", "3-changed", "3")
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"]);
    ctx.expect_store(&disk, &untouched)?;
    Ok(())
}
