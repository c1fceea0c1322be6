//! Where a change cannot be made or cannot go on: the person is told, and nothing is mixed or lost.

use std::path::Path;

use anyhow::Result;

use super::fault::{interrupted, two_kernels};
use super::rollback::{TINY_DATA, after_previous, untouched};
use super::steps::{
    MENU_OPENS, agent_begins, agent_says, at_menu, boot_recovery_with, choose_and_confirm, menu,
    three_versions, three_versions_and,
};
use super::store::{Store, same_sealed};
use super::{Context, Scenario};
use crate::image::System;
use crate::toolbox::{Disk, Job};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::tiny(
        "another-root-is-not-changed",
        "the command line names another root than the live one: verbs are refused, that root boots",
        another_root,
    ),
    Scenario::tiny(
        "half-done-change-waits-for-a-person",
        "a committed change that cannot be finished: two versions are never mixed by themselves",
        half_done,
    ),
    Scenario::tiny(
        "parked-system-lost-stays-with-the-snapshot",
        "what a boot-once was to return to is gone: that is said once, and verbs are heard again",
        parked_lost,
    ),
    Scenario::tiny(
        "kexec-forbidden-restarts-through-grub",
        "without kexec another kernel is started by a restart, and a snapshot that needs it refused",
        kexec_forbidden,
    ),
    Scenario::tiny(
        "without-a-console",
        "the only console named on the command line has no hardware: what was asked for is done, unheard",
        without_console,
    ),
];

fn without_console(ctx: &mut Context) -> Result<()> {
    /// Nobody can tell when it is done; a start takes ten seconds.
    const ENOUGH: std::time::Duration = std::time::Duration::from_secs(60);
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    let uuid = System::Tiny.store_uuid();
    vm.grub().type_lines(&[
        &format!(
            "linux /@backstay/kernels/recovery/vmlinuz root=UUID={uuid} rootflags=subvol=@rootfs ro console=ttyS3 \
             backstay.rollback=previous backstay.present backstay.end"
        ),
        "initrd /@backstay/kernels/recovery/initrd.img",
        "boot",
    ])?;
    ctx.step("wait, and pull the plug");
    std::thread::sleep(ENOUGH);
    vm.pull_plug()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

fn another_root(ctx: &mut Context) -> Result<()> {
    let fixture = three_versions_and(
        System::Tiny,
        "another-root",
        "btrfs subvolume snapshot /mnt/@rootfs /mnt/@other
         echo other > /mnt/@other/etc/appliance-release",
    );
    let disk = ctx.take(&fixture)?;
    let with_other = untouched().nested("@other");
    let before = ctx.expect_store(&disk, &with_other)?;
    let mut vm = ctx.boot(&disk)?;
    let line = "rootflags=subvol=@other backstay.rollback=previous backstay.present backstay.end";
    boot_recovery_with(&mut vm, System::Tiny, line)?;
    agent_says(
        &mut vm,
        &[
            "refused: rootflags names @other: write subvol=@rootfs, or the change would not be what boots",
            "nothing was changed; starting the system",
            "rootflags names @other, not @rootfs: a rollback does not change what boots",
        ],
    )?;
    let tiny = vm.tiny()?;
    let up = tiny.said().clone();
    ctx.check(
        up.system == "other" && up.mounts.starts_with("@other,"),
        || format!("the root that was named is not what runs: {up:?}"),
    )?;
    tiny.restart()?;
    ctx.step("a name below @backstay is a snapshot, which is never booted itself");
    let line = "rootflags=subvol=@backstay/snapshots/1/system backstay.end";
    boot_recovery_with(&mut vm, System::Tiny, line)?;
    agent_says(
        &mut vm,
        &[
            "rootflags names @backstay/snapshots/1/system, which is never booted itself: starting \
             @rootfs",
            "to boot a snapshot once, use backstay.select=ID",
        ],
    )?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.restart()?;
    ctx.step("a number is not followed, and nothing is changed under it");
    let line = "rootflags=subvolid=5 backstay.rollback=previous backstay.present backstay.end";
    boot_recovery_with(&mut vm, System::Tiny, line)?;
    agent_says(
        &mut vm,
        &[
            "refused: rootflags=subvolid=5 would name the former system after the change: write \
             subvol=@rootfs instead",
            "nothing was changed; starting the system",
            "rootflags=subvolid=5 is not followed: starting @rootfs; write subvol=@rootfs instead, \
             since after a change the number is a snapshot's",
        ],
    )?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.power_off()?;
    let after = ctx.expect_store(&disk, &with_other)?;
    same_sealed(&before, &after)
}

fn half_done(ctx: &mut Context) -> Result<()> {
    let disk = interrupted(ctx, "exchange-system")?;
    delete(&disk, "@backstay/snapshots/3/system")?;
    let mut vm = ctx.boot(&disk)?;
    agent_begins(&mut vm, "starting the system")?;
    for again in [true, false] {
        agent_says(
            &mut vm,
            &[
                "the change is half done: starting now would mix two versions",
                "'reboot' tries again to finish it; docs/recovery.md says what else helps",
                MENU_OPENS,
            ],
        )?;
        at_menu(ctx, &mut vm, "rollback 1")?;
        vm.serial()
            .expect_text("Nothing can be changed: a change is half done;")?;
        at_menu(ctx, &mut vm, "boot")?;
        vm.serial()
            .expect_text("The system cannot be started as it is;")?;
        if again {
            at_menu(ctx, &mut vm, "reboot")?;
        }
    }
    at_menu(ctx, &mut vm, "poweroff")?;
    vm.wait_off(std::time::Duration::from_secs(60))?;
    let half = Store::live("3", "2", "2")
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"])
        .parked(3, ["3", "3-changed", "3"])
        .without_system(3);
    ctx.expect_store(&disk, &half)?;
    Ok(())
}

fn parked_lost(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    let mut tiny = vm.tiny()?;
    tiny.succeed("backstay select 1")?;
    tiny.restart()?;
    agent_says(&mut vm, &["done: boot a clone of snapshot 1 once"])?;
    let tiny = vm.tiny()?;
    tiny.expect("1", "1", TINY_DATA)?;
    tiny.power_off()?;
    delete(&disk, "@backstay/snapshots/3/system")?;
    let mut vm = ctx.boot(&disk)?;
    agent_says(
        &mut vm,
        &[
            "the system parked as 3 has lost its system: the snapshot that was booted once stays; \
           for the way back see docs/recovery.md, section 9",
        ],
    )?;
    let mut tiny = vm.tiny()?;
    tiny.expect("1", "1", TINY_DATA)?;
    tiny.succeed("backstay rollback 2")?;
    tiny.restart()?;
    agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
    let tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.power_off()
}

fn kexec_forbidden(ctx: &mut Context) -> Result<()> {
    const FORBIDDEN: &str = "sysctl.kernel.kexec_load_disabled=1";
    let disk = ctx.take(&two_kernels())?;
    let mut vm = ctx.boot(&disk)?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
    vm.tiny()?.expect("2", "2", TINY_DATA)?;
    vm.at_prompt().restart()?;
    ctx.step("snapshot 3 has another kernel than the recovery kernel");
    let line = format!("{FORBIDDEN} backstay.select=3 backstay.present backstay.end");
    boot_recovery_with(&mut vm, System::Tiny, &line)?;
    agent_says(
        &mut vm,
        &[
            "refused: snapshot 3 has a kernel of its own, and kexec is not permitted here \
             (kernel.kexec_load_disabled is set): it cannot be booted once; use \
             backstay.rollback=3, which can be undone",
            "nothing was changed; starting the system",
        ],
    )?;
    vm.tiny()?.expect("2", "2", TINY_DATA)?;
    vm.at_prompt().power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    let mut vm = ctx.boot(&disk)?;
    let line = format!("{FORBIDDEN} backstay.forward backstay.present backstay.end");
    boot_recovery_with(&mut vm, System::Tiny, &line)?;
    agent_says(
        &mut vm,
        &[
            "done: roll forward to snapshot 3",
            "restarting, so that the boot menu starts it",
        ],
    )?;
    ctx.step("GRUB starts the kernel of what is live now");
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.power_off()?;
    let wanted = untouched()
        .snapshot(3, ["3", "3-changed", "3"])
        .snapshot(4, ["2", "2", "2"]);
    ctx.expect_store(&disk, &wanted)?;
    Ok(())
}

/// Deletes a subvolume from outside, as a stranger to backstay would.
fn delete(disk: &Path, subvolume: &str) -> Result<()> {
    let script = format!(
        "mount -o noatime /dev/disk0p2 /mnt
         btrfs subvolume delete --commit-after /mnt/{subvolume}
         umount /mnt"
    );
    Job::new("deleting a subvolume", script)
        .disk(Disk::read_write(disk))
        .run()?;
    Ok(())
}
