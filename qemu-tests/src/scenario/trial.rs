//! A system that does not start is left by itself, once, for the one that was good before.

use anyhow::Result;

use super::rollback::TINY_DATA;
use super::steps::{THREE_VERSIONS, agent_begins, agent_says, choose_and_confirm, menu};
use super::store::Store;
use super::{Context, Scenario};
use crate::image::{Fixture, System};
use crate::vm::Vm;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::tiny(
        "trial-initrd-corrupt-falls-back",
        "the kernel of what was promoted panics, as its initramfs is cut short: three starts, then the good system",
        initrd_corrupt,
    )
    .usually(240),
    Scenario::tiny(
        "trial-kernel-missing-falls-back",
        "the kernel of what was promoted is gone: the good system at once",
        kernel_missing,
    ),
];

/// What says that a system marks itself good. Nothing runs it on the small disk.
const UNIT: &str = "
units=/mnt/@rootfs/usr/lib/systemd/system
wants=/mnt/@rootfs/etc/systemd/system/multi-user.target.wants
mkdir -p $units $wants
touch $units/backstay-mark-good.service
ln -s /usr/lib/systemd/system/backstay-mark-good.service $wants/
";

/// Version 3 is live and good; `broken` is done to the system of version 2 before it becomes snapshot 2.
fn good_and(name: &str, broken: &str) -> Fixture {
    let versions = THREE_VERSIONS.replace("upgrade 2\n", &format!("upgrade 2\n{broken}\n"));
    let mended = "cp -a /tmp/boot/. /mnt/@rootfs/boot/";
    let versions = versions.replace("upgrade 3\n", &format!("upgrade 3\n{mended}\n"));
    let script = format!("{UNIT}cp -a /mnt/@rootfs/boot /tmp/boot\n{versions}admin mark-good\n");
    Fixture::new(System::Tiny, name, script)
}

/// Rolls back to version 2, up to the question whether kexec works.
fn roll_back(vm: &mut Vm) -> Result<()> {
    choose_and_confirm(vm, &[menu::ROLL_BACK])?;
    agent_says(
        vm,
        &[
            "done: roll back to snapshot 2",
            "before the first start on trial, the recovery kernel starts itself once,",
        ],
    )?;
    agent_begins(vm, "starting the system")
}

/// The good system comes up, on trial, and is marked good.
fn good_again(ctx: &Context, vm: &mut Vm) -> Result<()> {
    agent_says(
        vm,
        &["this system is on trial: start 1 of 3 before it is marked good"],
    )?;
    let mut tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    let status = tiny.succeed("backstay status")?;
    ctx.check(status.contains("fell back"), || status.clone())?;
    tiny.succeed("backstay mark-good")?;
    tiny.restart()?;
    ctx.step("nothing is counted any more");
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.power_off()
}

/// After version 2 failed and was kept as 4.
fn fallen_back() -> Store {
    Store::live("3", "3-changed", "3")
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"])
        .snapshot(3, ["3", "3-changed", "3"])
        .snapshot(4, ["2", "2", "2"])
}

fn initrd_corrupt(ctx: &mut Context) -> Result<()> {
    let broken = "truncate -s 300000 /mnt/@rootfs/boot/initrd.img-*";
    let disk = ctx.take(&good_and("initrd-corrupt", broken))?;
    let mut vm = ctx.boot(&disk)?;
    roll_back(&mut vm)?;
    for n in 1..=3 {
        let counted = format!("this system is on trial: start {n} of 3 before it is marked good");
        agent_says(&mut vm, &[&counted])?;
        vm.serial().expect_text("Kernel panic - not syncing")?;
        ctx.step("it panics, and restarts by itself");
        agent_begins(&mut vm, "starting the system")?;
    }
    agent_says(
        &mut vm,
        &["done: fall back to snapshot 3, the newest good one"],
    )?;
    good_again(ctx, &mut vm)?;
    ctx.expect_store(&disk, &fallen_back())?;
    Ok(())
}

fn kernel_missing(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&good_and("kernel-good", ""))?;
    let mut vm = ctx.boot(&disk)?;
    roll_back(&mut vm)?;
    let mut tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.succeed("rm /boot/vmlinuz*")?;
    tiny.restart()?;
    agent_begins(&mut vm, "starting the system")?;
    agent_says(
        &mut vm,
        &["done: fall back to snapshot 3, the newest good one"],
    )?;
    good_again(ctx, &mut vm)?;
    ctx.expect_store(&disk, &fallen_back())?;
    Ok(())
}
