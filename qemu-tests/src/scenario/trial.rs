//! A system that does not start is left by itself, once, for the one that was good before.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::rollback::{TINY_DATA, after_previous};
use super::steps::{
    THREE_VERSIONS, agent_begins, agent_says, choose_and_confirm, menu, three_versions,
};
use super::store::Store;
use super::{Context, Scenario};
use crate::image::panicking::PANIC;
use crate::image::{Fixture, System};
use crate::vm::{Vm, VmConfig};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::debian(
        "trial-confirmed-stays",
        "what was promoted comes up, marks itself good, and is started without being counted from then on",
        confirmed,
    ),
    Scenario::debian(
        "trial-userspace-fails-falls-back",
        "a service of what was promoted does not answer to its health check: three starts, then the good system",
        userspace_fails,
    )
    .usually(900)
    .within(Duration::from_secs(2400)),
    Scenario::debian(
        "trial-emergency-mode-restarts",
        "what was promoted has the distribution's initramfs and a disk in its fstab that is gone: counted once, and restarted",
        emergency_mode,
    ),
    Scenario::tiny(
        "trial-kernel-panics-falls-back",
        "the kernel of what was promoted panics before it unpacks an initramfs: three starts, then the good system",
        kernel_panics,
    )
    .usually(240),
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
    Scenario::tiny(
        "trial-hangs-before-agent-falls-back",
        "the kernel of what was promoted stops before it does anything: the watchdog ends each start",
        hangs_early,
    )
    .usually(400)
    .within(Duration::from_secs(900)),
    Scenario::tiny(
        "trial-hangs-in-userspace-falls-back",
        "the init of what was promoted sleeps for ever: the watchdog ends each start",
        hangs_late,
    )
    .usually(400)
    .within(Duration::from_secs(900)),
    Scenario::tiny(
        "trial-init-missing-falls-back",
        "an upgrade in place has lost its init: the snapshot before it at once",
        init_missing,
    ),
];

/// What says that a system marks itself good. Nothing runs it on the small disk.
pub(super) const UNIT: &str = "
units=/mnt/@rootfs/usr/lib/systemd/system
wants=/mnt/@rootfs/etc/systemd/system/multi-user.target.wants
mkdir -p $units $wants
touch $units/backstay-mark-good.service
ln -s /usr/lib/systemd/system/backstay-mark-good.service $wants/
";

/// Version 3 is live and good; `broken` is done to the system of version 2 before it becomes snapshot 2.
pub(super) fn good_and(name: &str, broken: &str) -> Fixture {
    good_with(name, "", broken)
}

/// What makes the three versions, of which the last is good: `broken` is done to version 2, and `mended` to version 3.
fn one_broken(broken: &str, mended: &str) -> String {
    let versions = THREE_VERSIONS
        .replace("upgrade 2\n", &format!("upgrade 2\n{broken}\n"))
        .replace("upgrade 3\n", &format!("upgrade 3\n{mended}\n"));
    format!("{versions}admin mark-good\n")
}

/// The same where all versions have this.
pub(super) fn good_with(name: &str, all: &str, broken: &str) -> Fixture {
    let mended = "cp -a /tmp/boot/. /mnt/@rootfs/boot/
                  [ ! -e /tmp/init ] || { rm /mnt/@rootfs/sbin/init; cp -a /tmp/init /mnt/@rootfs/sbin/init; }";
    let versions = one_broken(broken, mended);
    let script = format!("{UNIT}{all}cp -a /mnt/@rootfs/boot /tmp/boot\n{versions}");
    Fixture::new(System::Tiny, name, script)
}

/// Rolls back to version 2, up to the question whether kexec works.
pub(super) fn roll_back(vm: &mut Vm) -> Result<()> {
    choose_and_confirm(vm, &[menu::ROLL_BACK])?;
    agent_says(
        vm,
        &[
            "done: roll back to snapshot 2",
            "first the recovery kernel starts itself once, to see whether kexec works",
        ],
    )?;
    agent_begins(vm, "starting the system")
}

/// A copy of a disk of its own, in a machine that was switched on and has rolled back to version 2, which is on trial.
pub(super) fn rolled_back(ctx: &Context, fixture: &Fixture) -> Result<(PathBuf, Vm)> {
    let disk = ctx.take(fixture)?;
    let mut vm = ctx.boot(&disk)?;
    roll_back(&mut vm)?;
    Ok((disk, vm))
}

/// One of the three starts that a system on trial has.
pub(super) fn counted(vm: &mut Vm, n: u8) -> Result<()> {
    let counted = format!("this system is on trial: start {n} of 3 before it is marked good");
    agent_says(vm, &[&counted])
}

/// The agent leaves what is live for a snapshot.
pub(super) fn falls_back(vm: &mut Vm, to: u8) -> Result<()> {
    let done = format!("done: fall back to snapshot {to}, the newest good one");
    agent_says(vm, &[&done])
}

/// Version 2, which was rolled back to, is left for version 3, which is marked good and stays.
pub(super) fn falls_back_and_stays(ctx: &Context, vm: &mut Vm, disk: &Path) -> Result<()> {
    falls_back(vm, 3)?;
    good_again(ctx, vm)?;
    ctx.expect_store(disk, &fallen_back())?;
    Ok(())
}

/// The good system comes up, on trial, and is marked good.
pub(super) fn good_again(ctx: &Context, vm: &mut Vm) -> Result<()> {
    counted(vm, 1)?;
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
pub(super) fn fallen_back() -> Store {
    Store::live("3", "3-changed", "3")
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"])
        .snapshot(3, ["3", "3-changed", "3"])
        .snapshot(4, ["2", "2", "2"])
}

fn confirmed(ctx: &mut Context) -> Result<()> {
    let (disk, mut vm) = rolled_back(ctx, &three_versions(System::Debian))?;
    counted(&mut vm, 1)?;
    let mut debian = vm.debian()?;
    debian.succeed("systemctl is-system-running --wait")?;
    debian.succeed("systemctl is-active backstay-mark-good")?;
    let status = read(&debian.succeed("backstay status --json")?)?;
    same(ctx, &status, "/trial", json!(null))?;
    debian.succeed("grep -q 'roll back to snapshot 2' /run/motd.d/backstay")?;
    debian.restart()?;
    ctx.step("GRUB starts it by itself: nothing is counted any more");
    vm.serial().forbid("is on trial");
    let mut debian = vm.debian()?;
    let release = debian.succeed("cat /etc/appliance-release")?;
    ctx.check(release == "2\n", || format!("{release} runs"))?;
    debian.succeed("! grep backstay.attempt /proc/cmdline")?;
    debian.power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

/// A service, and a check that asks for it; `broken` is what it runs.
fn service(runs: &str) -> String {
    format!(
        "root=/mnt/@rootfs
mkdir -p $root/etc/backstay/health.d/required
cat > $root/etc/systemd/system/answers.service <<END
[Unit]
Description=What this machine is for
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={runs}
[Install]
WantedBy=multi-user.target
END
mkdir -p $root/etc/systemd/system/multi-user.target.wants
ln -sf ../answers.service $root/etc/systemd/system/multi-user.target.wants/
cat > $root/etc/backstay/health.d/required/answers <<END
#!/bin/sh
exec systemctl is-active answers.service
END
chmod 755 $root/etc/backstay/health.d/required/answers
"
    )
}

fn userspace_fails(ctx: &mut Context) -> Result<()> {
    let [broken, whole] = ["/bin/false", "/bin/true"].map(service);
    let fixture = Fixture::new(System::Debian, "service-fails", one_broken(&broken, &whole));
    let (disk, mut vm) = rolled_back(ctx, &fixture)?;
    vm.serial().set_patience(Duration::from_secs(480));
    for n in 1..=3 {
        counted(&mut vm, n)?;
        let failed = format!("start {n} of 3 on trial failed: restarting in 60 s");
        vm.serial().expect_text(&failed)?;
        ctx.step("it restarts by itself");
        agent_begins(&mut vm, "starting the system")?;
    }
    falls_back(&mut vm, 3)?;
    let mut debian = vm.debian()?;
    let state = debian.run("systemctl is-system-running --wait")?.output;
    ctx.check(state.trim() == "running", || state.clone())?;
    debian.succeed("systemctl is-active answers backstay-mark-good")?;
    let status = debian.succeed("backstay status")?;
    ctx.check(status.contains("fell back"), || status.clone())?;
    // Its own words, and not those of the boot log below them.
    let status = read(&debian.succeed("backstay status --json")?)?;
    same(ctx, &status, "/trial", json!(null))?;
    debian.power_off()?;
    ctx.expect_store(&disk, &fallen_back())?;
    Ok(())
}

fn emergency_mode(ctx: &mut Context) -> Result<()> {
    let broken = "cp /mnt/@rootfs/etc/fstab /tmp/fstab
        for stock in /mnt/@rootfs/boot/initrd.img-*.stock; do mv ${stock%.stock} /tmp/; cp $stock ${stock%.stock}; done
        echo 'LABEL=gone /srv/gone ext4 x-systemd.device-timeout=3s 0 0' >> /mnt/@rootfs/etc/fstab";
    let mended = "cp /tmp/fstab /mnt/@rootfs/etc/fstab
        cp /tmp/initrd.img-* /mnt/@rootfs/boot/";
    let fixture = Fixture::new(System::Debian, "disk-gone", one_broken(broken, mended));
    let (_, mut vm) = rolled_back(ctx, &fixture)?;
    vm.serial().set_patience(Duration::from_secs(480));
    counted(&mut vm, 1)?;
    ctx.step("no agent is in its initramfs, and the start was counted all the same");
    vm.serial()
        .expect_text("start 1 of 3 on trial failed: restarting in 60 s")?;
    agent_begins(&mut vm, "starting the system")?;
    counted(&mut vm, 2)?;
    vm.pull_plug()
}

fn kernel_panics(ctx: &mut Context) -> Result<()> {
    let broken = "cat /dev/disk1 > $(echo /mnt/@rootfs/boot/vmlinuz-*)";
    let fixture = good_and("kernel-panics", broken).with_panicking_kernel();
    let (disk, mut vm) = rolled_back(ctx, &fixture)?;
    panics_three_times(ctx, &mut vm, PANIC)?;
    falls_back_and_stays(ctx, &mut vm, &disk)
}

/// Each start on trial ends in this panic, which restarts the machine.
fn panics_three_times(ctx: &Context, vm: &mut Vm, panic: &str) -> Result<()> {
    vm.serial().allow("Kernel panic");
    for n in 1..=3 {
        counted(vm, n)?;
        vm.serial().expect_text(panic)?;
        ctx.step("it panics, and restarts by itself");
        agent_begins(vm, "starting the system")?;
    }
    Ok(())
}

fn initrd_corrupt(ctx: &mut Context) -> Result<()> {
    let broken = "truncate -s 300000 /mnt/@rootfs/boot/initrd.img-*";
    let (disk, mut vm) = rolled_back(ctx, &good_and("initrd-corrupt", broken))?;
    panics_three_times(
        ctx,
        &mut vm,
        "Kernel panic - not syncing: No working init found",
    )?;
    falls_back_and_stays(ctx, &mut vm, &disk)
}

fn kernel_missing(ctx: &mut Context) -> Result<()> {
    let (disk, mut vm) = rolled_back(ctx, &good_and("kernel-good", ""))?;
    let mut tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.succeed("rm /boot/vmlinuz*")?;
    tiny.restart()?;
    agent_begins(&mut vm, "starting the system")?;
    falls_back_and_stays(ctx, &mut vm, &disk)
}

/// The watchdog of QEMU, for a system on trial.
pub(super) const WATCHDOG: &str = "
mkdir -p /mnt/@rootfs/etc/backstay
printf '[watchdog]\nseconds = 60\ndriver = \"i6300esb\"\n' > /mnt/@rootfs/etc/backstay/policy.toml
our_initramfs \"$(ls /mnt/@rootfs/usr/lib/modules)\"
admin recovery install
";

/// A machine that has it.
pub(super) fn with_watchdog(ctx: &Context, disk: &Path) -> VmConfig {
    let mut config = VmConfig::disk(ctx.accel(), disk, ctx.transcript());
    config.extra = ["-device", "i6300esb", "-action", "watchdog=reset"]
        .map(Into::into)
        .to_vec();
    config
}

/// Version 2 hangs after `broken`; each of its starts is ended by the watchdog.
fn hangs(ctx: &mut Context, name: &str, broken: &str) -> Result<()> {
    let disk = ctx.take(&good_with(name, WATCHDOG, broken))?;
    let mut vm = ctx.start(with_watchdog(ctx, &disk))?;
    roll_back(&mut vm)?;
    for n in 1..=3 {
        counted(&mut vm, n)?;
        agent_says(
            &mut vm,
            &["the watchdog runs: a reset in 60 s unless the system is up by then"],
        )?;
        ctx.step("it hangs, and is reset");
        vm.grub().wait()?;
        agent_begins(&mut vm, "starting the system")?;
    }
    falls_back_and_stays(ctx, &mut vm, &disk)
}

fn hangs_early(ctx: &mut Context) -> Result<()> {
    let garbage = "dd if=/dev/urandom bs=4096 count=16 seek=1000 conv=notrunc of=$(echo /mnt/@rootfs/boot/vmlinuz-*)";
    hangs(ctx, "hangs-early", garbage)
}

fn hangs_late(ctx: &mut Context) -> Result<()> {
    let sleeps = "cp -a /mnt/@rootfs/sbin/init /tmp/init
                  rm /mnt/@rootfs/sbin/init
                  printf '#!/bin/sh\nexec sleep 1000000\n' > /mnt/@rootfs/sbin/init
                  chmod 755 /mnt/@rootfs/sbin/init";
    hangs(ctx, "hangs-late", sleeps)
}

fn init_missing(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&good_and("kernel-good", ""))?;
    let mut vm = ctx.boot(&disk)?;
    let mut tiny = vm.tiny()?;
    ctx.step("an upgrade in place, which goes wrong");
    tiny.succeed("backstay snapshot")?;
    tiny.succeed("backstay try")?;
    tiny.succeed("rm /sbin/init")?;
    tiny.restart()?;
    agent_begins(&mut vm, "starting the system")?;
    falls_back(&mut vm, 3)?;
    good_again(ctx, &mut vm)
}

/// Starts of what is live, none of which is marked good.
pub(super) fn starts(vm: &mut Vm, version: [&str; 2], from: u8) -> Result<()> {
    for n in from..=3 {
        counted(vm, n)?;
        let tiny = vm.tiny()?;
        tiny.expect(version[0], version[1], TINY_DATA)?;
        tiny.restart()?;
    }
    Ok(())
}

/// What a program prints for programs.
pub(super) fn read(json: &str) -> Result<Value> {
    serde_json::from_str(json).with_context(|| format!("read {json}"))
}

/// Ends the story unless a field has this value.
pub(super) fn same(ctx: &Context, record: &Value, field: &str, wanted: Value) -> Result<()> {
    ctx.check(record.pointer(field) == Some(&wanted), || {
        format!("{field} must be {wanted}: {record}")
    })
}
