//! What GRUB starts while a system is on trial: the recovery kernel, which counts and starts the system's own by
//! kexec; and what becomes of the boot where either cannot.

use anyhow::Result;

use super::rollback::TINY_DATA;
use super::steps::{
    THREE_VERSIONS, agent_begins, agent_says, choose_and_confirm, menu, three_versions,
    type_at_prompt,
};
use super::trial::{UNIT, good_again, good_and, roll_back, starts};
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
        "trial-under-lockdown",
        "the kernel is locked down: Debian's own kernel is signed, and is started by kexec all the same",
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
    agent_says(
        &mut vm,
        &["this system is on trial: start 1 of 3 before it is marked good"],
    )?;
    live_comes_up(&mut vm)
}

fn armed_garbled(ctx: &mut Context) -> Result<()> {
    let garble = "head -c 4096 /dev/urandom > /mnt/@backstay/armed/armed.cfg";
    let mut vm = on_trial_and(ctx, garble)?;
    agent_says(
        &mut vm,
        &["this system is on trial: start 1 of 3 before it is marked good"],
    )?;
    live_comes_up(&mut vm)
}

/// On trial, with the kernel that panics as the newest recovery kernel; it is what was installed, byte for byte.
const PANICKING_RECOVERY: &str = "
cd /mnt/@backstay/kernels
rm -rf recovery-previous
cp -a recovery recovery-previous
touch recovery-previous/proven
cp /mnt/panicking recovery/vmlinuz
(cd recovery && sha256sum vmlinuz initrd.img > sums)
";

fn recovery_panics(ctx: &mut Context) -> Result<()> {
    let keep = "cat /dev/disk1 > /mnt/panicking";
    let disk = ctx.take(&good_and("recovery-panics", keep).with_panicking_kernel())?;
    let never_ran = format!("{PANICKING_RECOVERY}rm -f recovery/proven\nadmin try");
    alter(&disk, &never_ran)?;
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
            "the recovery kernel did not come up when it started itself by kexec:",
            "this system is on trial: start 1 of 3 before it is marked good",
        ],
    )?;
    live_comes_up(&mut vm)?;

    ctx.step("one that came up before, and now panics: it stops, and somebody has to choose");
    let disk = ctx.take(&good_and("recovery-panics", keep).with_panicking_kernel())?;
    alter(
        &disk,
        &format!("{PANICKING_RECOVERY}touch recovery/proven\nadmin try"),
    )?;
    let mut vm = ctx.boot(&disk)?;
    vm.serial().allow("Kernel panic");
    vm.serial().expect_text(PANIC)?;
    vm.pull_plug()?;
    let mut vm = ctx.boot(&disk)?;
    vm.grub().choose(&[menu::RECOVERY_PREVIOUS])?;
    agent_begins(&mut vm, "the recovery menu was asked for")?;
    agent_says(&mut vm, &["command?"])?;
    type_at_prompt(ctx, &mut vm, "rollback 2")?;
    agent_says(
        &mut vm,
        &["type ROLLBACK and Enter to do this; anything else changes nothing"],
    )?;
    type_at_prompt(ctx, &mut vm, "ROLLBACK")?;
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

fn kexec_forbidden(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&good_and("kernel-good", ""))?;
    alter(&disk, &with_parameter(NO_KEXEC))?;
    let mut vm = ctx.boot(&disk)?;
    let mut tiny = vm.tiny()?;
    let said = tiny.succeed("backstay try")?;
    let why = "is not counted: kexec is not permitted here";
    ctx.check(said.contains(why), || said.clone())?;
    tiny.succeed("backstay mark-good")?;
    tiny.restart()?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
    starts(&mut vm, ["2", "2"], 1)?;
    agent_says(
        &mut vm,
        &["done: fall back to snapshot 3, the newest good one"],
    )?;
    good_again(ctx, &mut vm)
}

fn kernels_differ(ctx: &mut Context) -> Result<()> {
    let script = format!("{UNIT}{THREE_VERSIONS}other_kernel\nadmin mark-good\n");
    let disk = Fixture::new(System::Tiny, "two-good-kernels", script).with_other_kernel();
    let disk = ctx.take(&disk)?;
    alter(&disk, &with_parameter(NO_KEXEC))?;
    let mut vm = ctx.boot(&disk)?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(
        &mut vm,
        &[
            "done: roll back to snapshot 2",
            "restarting, so that the boot menu starts it",
        ],
    )?;
    ctx.step("GRUB starts it by itself, and its own agent counts");
    starts(&mut vm, ["2", "2"], 1)?;
    agent_says(
        &mut vm,
        &["done: fall back to snapshot 3, the newest good one"],
    )?;
    good_again(ctx, &mut vm)
}

fn locked_down(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&good_and("kernel-good", ""))?;
    alter(&disk, &with_parameter("lockdown=integrity"))?;
    let mut vm = ctx.boot(&disk)?;
    roll_back(&mut vm)?;
    agent_says(
        &mut vm,
        &["this system is on trial: start 1 of 3 before it is marked good"],
    )?;
    vm.serial()
        .expect_text("starting the system's own kernel")?;
    let mut tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    let parameters = tiny.succeed("cat /proc/cmdline")?;
    let told = parameters.contains("lockdown=integrity backstay.attempt=");
    ctx.check(told, || parameters.clone())?;
    tiny.power_off()
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
