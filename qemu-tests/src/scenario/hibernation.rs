//! A hibernated Debian: whoever asks for a change, the agent leaves the file system as it is, bit for bit.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::steps::{MENU_OPENS, agent_begins, agent_says, at_menu, choose_and_confirm, menu};
use super::stock::{boot_host_with, boot_recovery_with, set_up, start};
use super::{Context, Scenario};
use crate::guest::Debian;
use crate::image::Stock;
use crate::vm::{Vm, VmConfig};

const STOCK: Stock = Stock::DEBIAN;
const VERB: &str = "backstay.rollback=previous backstay.present backstay.end";
const RESUMES: &str = "a hibernated system lies on /dev/vda3: resuming it, nothing is touched";
const GIVE_UP: &str =
    "to give it up, type FORGET in the recovery menu, or start the system once with 'noresume'";
/// The swap partition.
const SWAP: &str = "/dev/vda3";
/// The file system's.
const ROOT: &str = "/dev/vda2";
/// What only the system has that was hibernated, and what a rollback would take away.
const MARKERS: &str = "/etc/changed\n/run/hibernated\n";
const LIMIT: Duration = Duration::from_secs(2400);

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::debian(
        "hibernated-system-untouched",
        "a rollback is chosen while a hibernated system lies on the disk: no byte changes, and that system goes on, by itself or \
         by resume=",
        by_recovery_kernel,
    )
    .usually(900)
    .within(LIMIT),
    Scenario::debian(
        "hibernated-system-untouched-by-host",
        "the same by the distribution's own initramfs, which resumes first, or does not find the image",
        by_host,
    )
    .usually(900)
    .within(LIMIT),
    Scenario::debian(
        "hibernated-in-a-swap-file-untouched",
        "a rollback is chosen while a system is hibernated in a swap file that the firmware alone knows of: no byte changes",
        in_swap_file,
    )
    .usually(900)
    .within(LIMIT),
];

/// A swap file in a subvolume of its own, as systemd hibernates to on UEFI without being told where.
const SWAP_FILE: &str = "mount -o subvolid=5 /dev/vda2 /mnt && btrfs subvolume create /mnt/@swap && umount /mnt && \
     mkdir /swap && echo '/dev/vda2 /swap btrfs subvol=@swap 0 0' >> /etc/fstab && systemctl daemon-reload && mount /swap && \
     btrfs filesystem mkswapfile --size 768m /swap/file && echo '/swap/file none swap defaults 0 0' >> /etc/fstab && \
     swapon /swap/file";

/// A disk on which a Debian is hibernated that has changed since its snapshot, and what `backstay list` said there.
fn hibernated(ctx: &Context) -> Result<(PathBuf, String)> {
    let disk = ctx.copy_disk(&STOCK.installed_with_swap()?, "hibernated.raw")?;
    let mut vm = ctx.boot(&disk)?;
    let mut debian = vm.debian()?;
    debian.run("systemctl is-system-running --wait")?;
    let listed = change(&mut debian)?;
    debian.hibernate("echo disk > /sys/power/state")?;
    Ok((disk, listed))
}

/// Leaves the markers; what `backstay list` says.
fn change(debian: &mut Debian<'_>) -> Result<String> {
    debian.succeed(&format!("touch {}", MARKERS.trim().replace('\n', " ")))?;
    debian.succeed("backstay list")
}

fn by_recovery_kernel(ctx: &mut Context) -> Result<()> {
    let (disk, listed) = hibernated(ctx)?;
    let start = |memory_mib: Option<u32>| -> Result<(Vm, PathBuf)> {
        let copy = ctx.copy_disk(&disk, "disk.raw")?;
        let mut config = VmConfig::disk(ctx.accel(), &copy, ctx.transcript());
        config.memory_mib = memory_mib.unwrap_or(config.memory_mib);
        Ok((ctx.start(config)?, copy))
    };
    let rolled_back = |memory_mib: Option<u32>| -> Result<(Vm, PathBuf)> {
        let (mut vm, copy) = start(memory_mib)?;
        choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
        agent_begins(
            &mut vm,
            "going to roll back to the version before (confirmed)",
        )?;
        hands_over(&mut vm, SWAP)?;
        Ok((vm, copy))
    };
    ctx.step("the plug is pulled when the agent has decided");
    let (vm, copy) = rolled_back(None)?;
    vm.pull_plug()?;
    is_untouched(ctx, &disk, &copy)?;
    ctx.step("the hibernated system goes on, by its own initramfs");
    let (vm, _) = rolled_back(None)?;
    goes_on(ctx, vm, &listed)?;
    ctx.step("a machine with more memory: the kernel refuses the image");
    let (vm, _) = rolled_back(Some(1024))?;
    starts_as_it_is(ctx, vm, &listed)?;
    ctx.step("named by resume=, the recovery kernel resumes it");
    let (mut vm, _) = start(None)?;
    boot_recovery_with(&mut vm, STOCK, &format!("{VERB} resume=/dev/vda3"))?;
    agent_says(&mut vm, &[RESUMES])?;
    goes_on(ctx, vm, &listed)?;
    // The BIOS boot partition holds no image.
    ctx.step("an image that the live system's own initramfs does not know: its own is not there");
    let (mut vm, _) = start(None)?;
    boot_recovery_with(&mut vm, STOCK, &format!("{VERB} resume=/dev/vda1"))?;
    hands_over(&mut vm, SWAP)?;
    leaves_alone(&mut vm, SWAP)?;
    starts_as_it_is(ctx, vm, &listed)?;
    ctx.step("given up in the recovery menu: then a rollback is carried out");
    let (mut vm, _) = start(None)?;
    vm.grub().choose(&[menu::RECOVERY])?;
    may_be_live(&mut vm, SWAP)?;
    agent_says(&mut vm, &[MENU_OPENS])?;
    ctx.step("nothing else is changed beside it");
    at_menu(ctx, &mut vm, "rollback")?;
    vm.serial()
        .expect_text("Nothing can be changed: a hibernated system lies on the disk")?;
    at_menu(ctx, &mut vm, "FORGET")?;
    let gone = "the hibernated system is given up: restarting, so that you can ask again";
    agent_says(&mut vm, &[gone])?;
    is_rolled_back(vm)
}

/// A person chooses a rollback, and it is carried out.
fn is_rolled_back(mut vm: Vm) -> Result<()> {
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    vm.serial()
        .expect_text("backstay: done: roll back to snapshot ")?;
    vm.debian()?.power_off()
}

/// Waits until the recovery kernel has left an image to the system's own initramfs.
fn hands_over(vm: &mut Vm, image_on: &str) -> Result<()> {
    may_be_live(vm, image_on)?;
    vm.serial()
        .expect_text("backstay: starting the system's own kernel ")?;
    vm.serial()
        .expect_text(", whose initramfs knows its image")?;
    Ok(())
}

fn may_be_live(vm: &mut Vm, image_on: &str) -> Result<()> {
    let what = "not this kernel's to resume: nothing is changed";
    let first = format!("a hibernated system lies on {image_on}, {what}");
    agent_says(vm, &[&first, GIVE_UP])
}

fn leaves_alone(vm: &mut Vm, image_on: &str) -> Result<()> {
    let what = "nothing is changed, the system starts as it is";
    agent_says(
        vm,
        &[&format!("a hibernated system lies on {image_on}: {what}")],
    )
}

fn in_swap_file(ctx: &mut Context) -> Result<()> {
    let stock = Stock::UEFI;
    let mut vm = start(ctx, stock)?;
    let mut debian = vm.debian()?;
    set_up(ctx, stock, &mut debian)?;
    debian.succeed(SWAP_FILE)?;
    debian.succeed("backstay snapshot && backstay mark-good")?;
    let listed = change(&mut debian)?;
    debian.hibernate("/usr/lib/systemd/systemd-sleep hibernate")?;
    let (disk, variables) = (
        ctx.directory().join("disk.raw"),
        ctx.directory().join("variables.fd"),
    );
    let rolled_back = |vm: &mut Vm| {
        choose_and_confirm(vm, &[menu::ROLL_BACK])?;
        hands_over(vm, ROOT)
    };
    ctx.step("the plug is pulled when the agent has decided");
    let copy = ctx.copy_disk(&disk, "copy.raw")?;
    let config = VmConfig::disk(ctx.accel(), &copy, ctx.transcript());
    let mut vm = ctx.start(config.with_uefi(&variables))?;
    rolled_back(&mut vm)?;
    vm.pull_plug()?;
    is_untouched(ctx, &disk, &copy)?;
    ctx.step("Debian's initramfs does not look for it there: the system starts as it is");
    let config = VmConfig::disk(ctx.accel(), &disk, ctx.transcript());
    let mut vm = ctx.start(config.with_uefi(&variables))?;
    rolled_back(&mut vm)?;
    leaves_alone(&mut vm, ROOT)?;
    let debian = as_it_was(ctx, &mut vm, &listed)?;
    debian.restart()?;
    is_rolled_back(vm)
}

fn by_host(ctx: &mut Context) -> Result<()> {
    let (disk, listed) = hibernated(ctx)?;
    let started = |parameters: &str| -> Result<(Vm, PathBuf)> {
        let copy = ctx.copy_disk(&disk, "disk.raw")?;
        let mut vm = ctx.boot(&copy)?;
        boot_host_with(&mut vm, STOCK, parameters)?;
        Ok((vm, copy))
    };
    ctx.step("the distribution's initramfs resumes before it runs the agent");
    let (vm, _) = started(VERB)?;
    goes_on(ctx, vm, &listed)?;
    // The BIOS boot partition holds no image, and the host goes on to the agent.
    let elsewhere = format!("{VERB} resume=/dev/vda1");
    ctx.step("told of another device it does not; the plug is pulled when the agent has decided");
    let (mut vm, copy) = started(&elsewhere)?;
    leaves_alone(&mut vm, SWAP)?;
    vm.pull_plug()?;
    is_untouched(ctx, &disk, &copy)?;
    ctx.step("given up: it starts as it is, and then a rollback is carried out");
    let (mut vm, _) = started(&format!("{VERB} noresume"))?;
    leaves_alone(&mut vm, SWAP)?;
    let debian = as_it_was(ctx, &mut vm, &listed)?;
    debian.restart()?;
    is_rolled_back(vm)
}

/// The shell that was hibernated takes a command, and nothing was exchanged below it.
fn goes_on(ctx: &Context, mut vm: Vm, listed: &str) -> Result<()> {
    vm.serial().forbid("backstay: done");
    let mut debian = vm.resumed_debian();
    holds(ctx, &debian.run(LOOK)?.output, MARKERS, listed)?;
    debian.power_off()
}

/// The live system starts anew, and nothing was exchanged.
fn starts_as_it_is(ctx: &Context, mut vm: Vm, listed: &str) -> Result<()> {
    vm.serial().forbid("backstay: done");
    as_it_was(ctx, &mut vm, listed)?.power_off()
}

fn as_it_was<'a>(ctx: &Context, vm: &'a mut Vm, listed: &str) -> Result<Debian<'a>> {
    let mut debian = vm.debian()?;
    holds(ctx, &debian.run(LOOK)?.output, "/etc/changed\n", listed)?;
    Ok(debian)
}

const LOOK: &str = "ls -1 /run/hibernated /etc/changed 2> /dev/null; backstay list";

fn holds(ctx: &Context, looked: &str, markers: &str, listed: &str) -> Result<()> {
    ctx.check(looked == format!("{markers}{listed}"), || {
        format!("there is {looked}, and backstay list said {listed}")
    })
}

/// Compares the file system's partition on two disks, byte for byte.
fn is_untouched(ctx: &Context, before: &Path, after: &Path) -> Result<()> {
    ctx.step("compare the file system before and after");
    let open = |path: &Path| File::open(path).with_context(|| format!("open {}", path.display()));
    let (before, after) = (open(before)?, open(after)?);
    let (mut at, end) = second_partition(&before)?;
    let (mut one, mut other) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    while at < end {
        let size = usize::try_from(end - at).map_or(one.len(), |left| left.min(one.len()));
        let (Some(one), Some(other)) = (one.get_mut(..size), other.get_mut(..size)) else {
            bail!("a piece is larger than its buffer");
        };
        before.read_exact_at(one, at)?;
        after.read_exact_at(other, at)?;
        ctx.check(one == other, || {
            format!("the file system was written to in the MiB at byte {at} of the disk")
        })?;
        at += size as u64;
    }
    Ok(())
}

/// Where the second partition begins and ends, in bytes: the second entry of the GPT at sector 2.
fn second_partition(disk: &File) -> Result<(u64, u64)> {
    let sector = |at: u64| -> Result<u64> {
        let mut number = [0; 8];
        disk.read_exact_at(&mut number, 2 * 512 + 128 + at)?;
        Ok(u64::from_le_bytes(number))
    };
    let (first, last) = (sector(32)?, sector(40)?);
    if first == 0 || first >= last {
        bail!("the disk has no second partition");
    }
    Ok((first * 512, (last + 1) * 512))
}
