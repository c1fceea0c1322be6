//! What GRUB starts while a system is on trial: the recovery kernel, which counts and starts the system's own by
//! kexec; and what becomes of the boot where either cannot.

use std::time::Duration;

use anyhow::Result;

use super::rollback::TINY_DATA;
use super::steps::{
    THREE_VERSIONS, agent_begins, agent_says, change_at_menu, choose_and_confirm, menu,
    three_versions,
};
use super::trial::{
    UNIT, WATCHDOG, counted, falls_back, good_again, good_and, good_with, roll_back, starts,
    with_watchdog,
};
use super::{Context, Scenario};
use crate::image::panicking::PANIC;
use crate::image::{Fixture, System, alter};
use crate::instructions::until_kernel;
use crate::vm::Vm;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::tiny(
        "recovery-kernel-missing-boots-live",
        "a trial without any recovery kernel: GRUB starts the system itself",
        recovery_missing,
    ),
    Scenario::tiny(
        "recovery-initrd-corrupt-does-not-loop",
        "a damaged recovery kernel is passed over: the one before it, then the system's own",
        recovery_corrupt,
    ),
    Scenario::tiny(
        "armed-cfg-garbled-boots-live",
        "what tells GRUB that a trial waits is garbage: the system starts, and is counted",
        armed_garbled,
    ),
    Scenario::tiny(
        "recovery-kernel-panics",
        "a recovery kernel that never ran comes last with nobody there; where one that did run panics, the menu has the other",
        recovery_panics,
    )
    .usually(300),
    Scenario::tiny(
        "trial-kexec-forbidden-falls-back",
        "no kernel may be started by kexec: the recovery kernel starts the system itself, is counted, and falls back",
        kexec_forbidden,
    )
    .usually(240),
    Scenario::tiny(
        "trial-kexec-forbidden-kernels-differ",
        "nor has the system the recovery kernel's modules: GRUB starts it, and its own agent counts and falls back",
        kernels_differ,
    )
    .usually(300),
    Scenario::tiny(
        "trial-kexec-forbidden-kernel-panics",
        "its kernel panics, which nobody can count there: the recovery kernel is still the one that works",
        kernel_panics_uncounted,
    ),
    Scenario::tiny(
        "trial-unlocked-by-tpm-falls-back",
        "a TPM unlocks the disks by what was measured: no other kernel comes before the system's own",
        unlocked_by_tpm,
    )
    .usually(240),
    Scenario::tiny(
        "trial-probe-hangs",
        "the newest recovery kernel hangs when it is started by kexec: the watchdog ends that, and the trial goes on without",
        probe_hangs,
    )
    .usually(400)
    .within(Duration::from_secs(900)),
    Scenario::tiny(
        "trial-watchdog-stops-when-good",
        "the recovery kernel has armed the watchdog, and the system's own policy knows of none: marked good, it is stopped",
        watchdog_stops,
    ),
    Scenario::tiny(
        "armed-cfg-lost-boots-live",
        "the directory of what tells GRUB is gone, or a file: the start is counted, and everything works",
        hint_lost,
    ),
    Scenario::tiny(
        "trial-under-lockdown",
        "the kernel is locked down and knows no key for the other: that is said when the trial begins, and starts are counted",
        locked_down,
    ),
    Scenario::tiny(
        "trial-power-cut-in-the-probe",
        "the power goes while the recovery kernel starts itself: it does so once more, and the trial begins",
        cut_in_the_probe,
    ),
    Scenario::debian(
        "guard-costs-nothing",
        "not armed: instructions from the reset vector to the kernel, against Debian's own GRUB configuration and initramfs",
        costs,
    ),
];

/// The live system is on trial, and `change` is done to the disk.
fn on_trial_and(ctx: &Context, change: &str) -> Result<Vm> {
    let disk = ctx.take(&good_and("kernel-good", "")).and_then(|disk| {
        alter(&disk, &format!("admin try\n{change}"))?;
        Ok(disk)
    })?;
    ctx.boot(&disk)
}

fn live_comes_up(vm: &mut Vm) -> Result<()> {
    let mut tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.succeed("backstay mark-good")?;
    tiny.power_off()
}

fn recovery_missing(ctx: &mut Context) -> Result<()> {
    let mut vm = on_trial_and(ctx, "rm -r /mnt/@backstay/kernels/recovery*")?;
    vm.serial()
        .expect_text("No recovery kernel on this disk loads.")?;
    live_comes_up(&mut vm)
}

/// Cuts the end off an initramfs.
const DAMAGE: &str = "truncate -s -1000000 /mnt/@backstay/kernels/recovery/initrd.img";

fn recovery_corrupt(ctx: &mut Context) -> Result<()> {
    let mut vm = on_trial_and(ctx, DAMAGE)?;
    vm.serial().expect_text("/kernels/recovery is damaged.")?;
    live_comes_up(&mut vm)?;
    ctx.step("with a recovery kernel before it, which is whole");
    let kernels = "/mnt/@backstay/kernels";
    let before = format!("cp -a {kernels}/recovery {kernels}/recovery-previous\n{DAMAGE}");
    let mut vm = on_trial_and(ctx, &before)?;
    vm.serial().expect_text("/kernels/recovery is damaged.")?;
    vm.serial()
        .expect_text("/kernels/recovery-previous/vmlinuz")?;
    counted(&mut vm, 1)?;
    live_comes_up(&mut vm)
}

fn armed_garbled(ctx: &mut Context) -> Result<()> {
    let garble = "head -c 4096 /dev/urandom > /mnt/@backstay/armed/armed.cfg";
    let mut vm = on_trial_and(ctx, garble)?;
    counted(&mut vm, 1)?;
    live_comes_up(&mut vm)
}

/// The kernel that panics becomes the newest recovery kernel.
const PANICKING_RECOVERY: &str = "cp /mnt/panicking recovery/vmlinuz";

/// On trial, with a newest recovery kernel to which this was done; it is what was installed, byte for byte. The one
/// before it is whole and came up once.
fn recovery_where(broken: &str, more: &str) -> String {
    format!(
        "cd /mnt/@backstay/kernels
         rm -rf recovery-previous
         cp -a recovery recovery-previous
         touch recovery-previous/proven
         rm -f recovery/proven
         {broken}
         (cd recovery && sha256sum vmlinuz initrd.img > sums)
         {more}
         admin try"
    )
}

fn recovery_panics(ctx: &mut Context) -> Result<()> {
    let keep = "cat /dev/disk1 > /mnt/panicking";
    let disk = ctx.take(&good_and("recovery-panics", keep).with_panicking_kernel())?;
    alter(&disk, &recovery_where(PANICKING_RECOVERY, ""))?;
    let mut vm = ctx.boot(&disk)?;
    vm.serial().allow("Kernel panic");
    for _ in 0..2 {
        ctx.step("GRUB prefers the one before; by kexec the newest is tried, and panics");
        vm.serial()
            .expect_text("/kernels/recovery-previous/vmlinuz")?;
        agent_says(
            &mut vm,
            &["first the recovery kernel starts itself once, to see whether kexec works"],
        )?;
        vm.serial().expect_text(PANIC)?;
    }
    vm.serial()
        .expect_text("/kernels/recovery-previous/vmlinuz")?;
    agent_says(
        &mut vm,
        &[
            "the recovery kernel did not come up when it started itself by kexec",
            "restarting, so that the boot menu starts it",
            "this system is on trial: start 1 of 3 before it is marked good",
        ],
    )?;
    live_comes_up(&mut vm)?;

    ctx.step("one that came up before, and now panics: it stops, and somebody has to choose");
    let disk = ctx.take(&good_and("recovery-panics", keep).with_panicking_kernel())?;
    alter(
        &disk,
        &recovery_where(PANICKING_RECOVERY, "touch recovery/proven"),
    )?;
    let mut vm = ctx.boot(&disk)?;
    vm.serial().allow("Kernel panic");
    vm.serial().expect_text(PANIC)?;
    vm.pull_plug()?;
    let mut vm = ctx.boot(&disk)?;
    vm.grub().choose(&[menu::RECOVERY_PREVIOUS])?;
    agent_begins(&mut vm, "the recovery menu was asked for")?;
    change_at_menu(ctx, &mut vm, "rollback 2", "ROLLBACK")?;
    agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
    vm.pull_plug()
}

/// GRUB gives every kernel this parameter.
fn with_parameter(parameter: &str) -> String {
    format!(
        "echo 'set backstay_cmdline=\"console=ttyS0,115200 quiet {parameter}\"' >> /mnt/@backstay/grub/backstay.cfg"
    )
}

/// What sysctl(8) sets, from the start.
const NO_KEXEC: &str = "sysctl.kernel.kexec_load_disabled=1";

/// What arming a trial says where that is so.
const NOT_PERMITTED: &str = "is not counted: kexec is not permitted here";

fn kexec_forbidden(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&good_and("kernel-good", ""))?;
    alter(&disk, &with_parameter(NO_KEXEC))?;
    let mut vm = ctx.boot(&disk)?;
    let mut tiny = vm.tiny()?;
    let said = tiny.succeed("backstay try")?;
    ctx.check(said.contains(NOT_PERMITTED), || said.clone())?;
    tiny.succeed("backstay mark-good")?;
    tiny.restart()?;
    unguarded(ctx, &mut vm)
}

/// Version 2 is promoted, and started by GRUB itself: it fails, and the machine falls back.
fn unguarded(ctx: &Context, vm: &mut Vm) -> Result<()> {
    choose_and_confirm(vm, &[menu::ROLL_BACK])?;
    agent_says(
        vm,
        &[
            "done: roll back to snapshot 2",
            "what panics before its own agent runs is not counted",
            "restarting, so that the boot menu starts it",
        ],
    )?;
    ctx.step("GRUB starts it by itself, and its own agent counts");
    starts(vm, ["2", "2"], 1)?;
    falls_back(vm, 3)?;
    good_again(ctx, vm)
}

fn kernel_panics_uncounted(ctx: &mut Context) -> Result<()> {
    let broken = "cat /dev/disk1 > $(echo /mnt/@rootfs/boot/vmlinuz-*)";
    let disk = ctx.take(&good_and("kernel-panics", broken).with_panicking_kernel())?;
    alter(&disk, &with_parameter(NO_KEXEC))?;
    let mut vm = ctx.boot(&disk)?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(&mut vm, &["restarting, so that the boot menu starts it"])?;
    vm.serial().allow("Kernel panic");
    vm.serial().expect_text(PANIC)?;
    vm.pull_plug()?;
    ctx.step("nobody counts that; the recovery kernel is the one that works, for whoever comes");
    let mut vm = ctx.boot(&disk)?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(&mut vm, &["done: roll back to snapshot 1"])?;
    vm.pull_plug()
}

fn unlocked_by_tpm(ctx: &mut Context) -> Result<()> {
    let table = "echo 'root UUID=1 none tpm2-device=auto' > /mnt/@rootfs/etc/crypttab\n";
    let disk = ctx.take(&good_with("unlocked-by-tpm", table, ""))?;
    let mut vm = ctx.boot(&disk)?;
    vm.serial().forbid("the recovery kernel starts itself");
    unguarded(ctx, &mut vm)
}

fn probe_hangs(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&good_with("probe-hangs", WATCHDOG, ""))?;
    let garbage = "dd if=/dev/urandom bs=4096 count=16 seek=1000 conv=notrunc of=recovery/vmlinuz";
    alter(&disk, &recovery_where(garbage, ""))?;
    let mut vm = ctx.start(with_watchdog(ctx, &disk))?;
    for _ in 0..2 {
        agent_says(
            &mut vm,
            &[
                "first the recovery kernel starts itself once, to see whether kexec works",
                "the watchdog runs: a reset in 60 s unless the system is up by then",
            ],
        )?;
        ctx.step("it hangs, and is reset");
        vm.grub().wait()?;
    }
    agent_says(
        &mut vm,
        &[
            "the recovery kernel did not come up when it started itself by kexec",
            "restarting, so that the boot menu starts it",
        ],
    )?;
    live_comes_up(&mut vm)
}

fn watchdog_stops(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&good_with(
        "policy-gone",
        WATCHDOG,
        "rm /mnt/@rootfs/etc/backstay/policy.toml",
    ))?;
    let mut vm = ctx.start(with_watchdog(ctx, &disk))?;
    roll_back(&mut vm)?;
    counted(&mut vm, 1)?;
    let mut tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    let state = "cat /sys/class/watchdog/watchdog0/state; echo";
    let runs = tiny.succeed(state)?;
    ctx.check(runs.trim() == "active", || runs.clone())?;
    tiny.succeed("backstay mark-good")?;
    let stopped = tiny.succeed(state)?;
    ctx.check(stopped.trim() == "inactive", || stopped.clone())?;
    tiny.power_off()
}

fn hint_lost(ctx: &mut Context) -> Result<()> {
    for lost in ["", "echo mine > /mnt/@backstay/armed\n"] {
        let mut vm = on_trial_and(ctx, &format!("rm -r /mnt/@backstay/armed\n{lost}"))?;
        counted(&mut vm, 1)?;
        let mut tiny = vm.tiny()?;
        tiny.succeed("backstay mark-bad")?;
        tiny.succeed("backstay mark-good")?;
        tiny.succeed("backstay rollback 2")?;
        tiny.restart()?;
        agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
        vm.pull_plug()?;
    }
    Ok(())
}

fn kernels_differ(ctx: &mut Context) -> Result<()> {
    let script =
        format!("{UNIT}{THREE_VERSIONS}other_kernel\nadmin recovery install\nadmin mark-good\n");
    let disk = Fixture::new(System::Tiny, "two-good-kernels", script).with_other_kernel();
    let disk = ctx.take(&disk)?;
    alter(&disk, &with_parameter(NO_KEXEC))?;
    let mut vm = ctx.boot(&disk)?;
    unguarded(ctx, &mut vm)
}

fn locked_down(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&good_and("kernel-good", ""))?;
    alter(&disk, &with_parameter("lockdown=integrity"))?;
    let mut vm = ctx.boot(&disk)?;
    let mut tiny = vm.tiny()?;
    tiny.succeed("backstay snapshot")?;
    let said = tiny.succeed("backstay try")?;
    ctx.check(said.contains(NOT_PERMITTED), || said.clone())?;
    tiny.restart()?;
    agent_says(
        &mut vm,
        &[
            "the recovery kernel cannot be started by kexec: that is not permitted here (the kernel is locked down, \
             or refuses)",
        ],
    )?;
    starts(&mut vm, ["3", "3-changed"], 1)?;
    falls_back(&mut vm, 3)?;
    good_again(ctx, &mut vm)
}

fn cut_in_the_probe(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&good_and("kernel-good", ""))?;
    let mut vm = ctx.boot(&disk)?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    let probing = "first the recovery kernel starts itself once, to see whether kexec works";
    agent_says(&mut vm, &["done: roll back to snapshot 2", probing])?;
    vm.pull_plug()?;
    let mut vm = ctx.boot(&disk)?;
    agent_says(
        &mut vm,
        &[
            probing,
            "this system is on trial: start 1 of 3 before it is marked good",
        ],
    )?;
    let mut tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.succeed("backstay mark-good")?;
    tiny.power_off()
}

/// Debian's own configuration of GRUB for this machine, such that it waits for nobody and speaks as ours does.
const DEBIANS_OWN: &str = "
sed -i 's/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=0/' /etc/default/grub &&
printf 'GRUB_TERMINAL=\"serial console\"\nGRUB_SERIAL_COMMAND=\"serial --speed=115200\"\n' >> /etc/default/grub &&
mkdir -p /boot/grub && grub-mkconfig -o /boot/grub/grub.cfg 2> /dev/null && grep -q gnulinux /boot/grub/grub.cfg";

/// Backstay's menu is exchanged for it, and the initramfs for the distribution's.
const REMOVED: &str = "
mv /mnt/@rootfs/boot/grub/grub.cfg /mnt/@backstay/grub/grub.cfg
for stock in /mnt/@rootfs/boot/initrd.img-*.stock; do mv $stock ${stock%.stock}; done
";

fn costs(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Debian))?;
    let mut vm = ctx.boot(&disk)?;
    let mut debian = vm.debian()?;
    debian.succeed(&DEBIANS_OWN.replace('\n', " "))?;
    debian.power_off()?;
    alter(
        &disk,
        "echo 'set backstay_timeout=0' >> /mnt/@backstay/grub/backstay.cfg",
    )?;
    let count = || until_kernel(&disk, &ctx.transcript(), ctx.story());
    ctx.step("count with backstay");
    let ours = count()?;
    alter(&disk, REMOVED)?;
    ctx.step(format!("count without: it was {ours} with"));
    let theirs = count()?;
    ctx.step(format!(
        "{ours} instructions with backstay, {theirs} without"
    ));
    ctx.check(ours * 100 <= theirs * 101, || {
        format!("{ours} instructions with backstay, {theirs} without")
    })?;
    Ok(())
}
