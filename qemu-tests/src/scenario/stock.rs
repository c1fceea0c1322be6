//! Machines as a distribution's own tools install them: the package, one command, and it is there.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::secure_boot::is_enforced;
use super::steps::{agent_says, choose_and_confirm, menu};
use super::{Context, Scenario};
use crate::guest::Debian;
use crate::image::Stock;
use crate::image::stock::Firmware;
use crate::setup::{self, OVMF_SIGNERS, OVMF_VARIABLES};
use crate::vm::{Vm, VmConfig};

/// A dozen starts of the real Debian, and initramfs images that it makes itself.
pub(super) const LONG: Duration = Duration::from_secs(3000);

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::debian(
        "stock-debian-initramfs-tools",
        "Debian with initramfs-tools and BIOS: package, 'backstay init', rollback from GRUB's menu, forward by its own initramfs",
        |ctx| whole_story(ctx, Stock::DEBIAN),
    )
    .usually(900)
    .within(LONG),
    Scenario::debian(
        "stock-debian-dracut",
        "the same with dracut and systemd in the initramfs",
        |ctx| whole_story(ctx, Stock::DRACUT),
    )
    .usually(900)
    .within(LONG),
    Scenario::debian(
        "stock-debian-dracut-nosystemd",
        "the same with dracut and no systemd in the initramfs",
        |ctx| whole_story(ctx, Stock::DRACUT_ALONE),
    )
    .usually(900)
    .within(LONG),
    Scenario::debian(
        "stock-debian-uefi",
        "the same by UEFI, with GRUB in the EFI system partition",
        |ctx| whole_story(ctx, Stock::UEFI),
    )
    .usually(900)
    .within(LONG),
    Scenario::debian(
        "stock-debian-luks",
        "the same with an encrypted root: the distribution's own initramfs unlocks it and is the recovery kernel's, too",
        |ctx| whole_story(ctx, Stock::LUKS),
    )
    .usually(900)
    .within(LONG),
    Scenario::debian(
        "kernel-package-upgrade-then-rollback",
        "apt installs another kernel and update-grub runs; then a rollback brings the old one back with its modules",
        |ctx| kernel_upgrade(ctx, Stock::OLD_KERNEL),
    )
    .usually(900)
    .within(LONG),
    Scenario::debian(
        "stock-debian-separate-boot",
        "the same with /boot on an ext4 of its own, where the new kernel stays: the system's own copy is started",
        |ctx| kernel_upgrade(ctx, Stock::BOOT_APART),
    )
    .usually(900)
    .within(LONG),
    Scenario::debian(
        "layout-ubuntu",
        "the same on the subvolumes of Ubuntu's installer, @ and @home",
        |ctx| whole_story(ctx, Stock::AS_UBUNTU),
    )
    .usually(900)
    .within(LONG),
    Scenario::debian(
        "layout-arch",
        "the same on those of Arch's, with logs and packages on subvolumes of their own",
        |ctx| whole_story(ctx, Stock::AS_ARCH),
    )
    .usually(900)
    .within(LONG),
    Scenario::debian(
        "layout-fedora",
        "the same on those of Fedora's, root and home",
        |ctx| whole_story(ctx, Stock::AS_FEDORA),
    )
    .usually(900)
    .within(LONG),
];

const README: &str = include_str!("../../../README.md");

/// What README tells a newcomer to type as root, where the package lies in the present directory.
pub(super) fn as_readme_says() -> Result<[String; 2]> {
    let (_, section) = README
        .split_once("\n## Install on your Debian\n")
        .context("README has no section 'Install on your Debian'")?;
    let (section, _) = section.split_once("\n## ").unwrap_or((section, ""));
    let commands = section
        .lines()
        .filter_map(|line| line.strip_prefix("    sudo "));
    let commands: Vec<String> = commands.map(str::to_owned).collect();
    let count = commands.len();
    let commands = commands.try_into().ok();
    commands.with_context(|| format!("README has {count} commands as root, and two are played"))
}

/// Installs the package and sets the machine up, as README says.
pub(super) fn set_up(ctx: &Context, stock: Stock, debian: &mut Debian<'_>) -> Result<()> {
    let [install, init] = as_readme_says()?;
    if stock.firmware == Firmware::SecureBoot {
        is_enforced(ctx, debian)?;
    }
    ctx.step("install the package");
    debian.succeed("cd /root")?;
    debian.succeed(&install)?;
    let found = debian.run("backstay doctor")?;
    let in_root = "GRUB's modules and menu lie in the root";
    let is_found = found.status == 1 && found.output.contains(in_root);
    ctx.check(is_found != stock.boot_apart, || {
        format!("doctor says {found:?}")
    })?;
    let plan = debian.run("backstay init --dry-run")?.output;
    let home = match stock.root.starts_with('@') {
        true => "/home (@home)",
        false => "/home (home)",
    };
    let mut staying = plan.lines().filter_map(|line| line.strip_prefix("stays: "));
    ctx.check(staying.any(|line| line.contains(home)), || {
        format!("the proposal is {plan}")
    })?;
    debian.answer(&init, "Do this now? [y/N] ", "y")?;
    let found = debian.run("backstay doctor")?;
    ctx.check(found.status == 0, || format!("doctor says {found:?}"))
}

/// A machine with the package in /root, switched on.
pub(super) fn start(ctx: &Context, stock: Stock) -> Result<Vm> {
    let disk = ctx.copy_disk(&stock.with_package()?, "disk.raw")?;
    let config = VmConfig::disk(ctx.accel(), &disk, ctx.transcript());
    let template = match stock.firmware {
        Firmware::Bios => return ctx.start(config),
        Firmware::Uefi => OVMF_VARIABLES,
        Firmware::SecureBoot => OVMF_SIGNERS,
    };
    setup::ensure_ovmf()?;
    let variables = ctx.copy_disk(Path::new(template), "variables.fd")?;
    ctx.start(match stock.firmware {
        Firmware::SecureBoot => config.with_secure_boot(&variables),
        _ => config.with_uefi(&variables),
    })
}

/// A person at the console types the passphrase that the initramfs asks for.
fn unlock(ctx: &Context, stock: Stock, vm: &mut Vm) -> Result<()> {
    if stock.encrypted {
        ctx.step("type the passphrase");
        vm.serial().expect_text("Please unlock disk")?;
        vm.serial().send_line(Stock::PASSPHRASE)?;
    }
    Ok(())
}

pub(super) fn whole_story(ctx: &Context, stock: Stock) -> Result<()> {
    let mut vm = start(ctx, stock)?;
    unlock(ctx, stock, &mut vm)?;
    let mut debian = vm.debian()?;
    set_up(ctx, stock, &mut debian)?;
    debian.succeed("backstay snapshot --title 'as installed'")?;
    debian.succeed("touch /etc/changed /home/kept")?;
    debian.restart()?;
    ctx.step("GRUB starts what is live, by the entry that stands first");
    let shown = vm.grub().wait()?;
    ctx.check(shown.current().contains("what is live"), || {
        format!("GRUB would start {:?}", shown.current())
    })?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    unlock(ctx, stock, &mut vm)?;
    agent_says(&mut vm, &["done: roll back to snapshot 1"])?;
    if !stock.encrypted {
        agent_says(
            &mut vm,
            &["first the recovery kernel starts itself once, to see whether kexec works"],
        )?;
        vm.serial()
            .expect_text("backstay: starting the system's own kernel ")?;
    }
    is_rolled_back(ctx, &mut vm, stock, true)?.restart()?;
    ctx.step("the distribution's own initramfs carries a change out");
    boot_host_with(
        &mut vm,
        stock,
        "backstay.forward backstay.present backstay.end",
    )?;
    unlock(ctx, stock, &mut vm)?;
    agent_says(&mut vm, &["done: roll forward to snapshot 2"])?;
    let mut debian = is_rolled_back(ctx, &mut vm, stock, false)?;
    debian.succeed("backstay factory baseline")?;
    debian.succeed("touch /etc/changed-again; backstay reset system --yes")?;
    debian.restart()?;
    unlock(ctx, stock, &mut vm)?;
    agent_says(&mut vm, &[RESET])?;
    let mut debian = vm.debian()?;
    let state = debian.run("systemctl is-system-running --wait; ls -1 /etc/changed* /home/kept")?;
    ctx.check(
        state.output == "running\n/etc/changed\n/home/kept\n",
        || format!("after the reset: {state:?}"),
    )?;
    debian.power_off()
}

/// What the agent says of a reset where a baseline stands for the factory.
pub(super) const RESET: &str =
    "done: reset system and configuration to the baseline, not factory, keep data";

fn kernel_upgrade(ctx: &Context, stock: Stock) -> Result<()> {
    let mut vm = start(ctx, stock)?;
    let mut debian = vm.debian()?;
    set_up(ctx, stock, &mut debian)?;
    let old = debian.succeed("uname -r")?;
    debian.succeed("backstay snapshot --title 'before the upgrade'")?;
    debian.succeed("apt-get install -y /root/kernel/*.deb 2>&1 | tail -n 5")?;
    debian.succeed("backstay try; touch /etc/changed /home/kept")?;
    debian.restart()?;
    let mut debian = is_rolled_back(ctx, &mut vm, stock, false)?;
    let new = kernel_runs(&mut debian)?;
    ctx.check(new != old, || format!("{old} runs after the upgrade"))?;
    debian.restart()?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(&mut vm, &["done: roll back to snapshot 1"])?;
    let mut debian = is_rolled_back(ctx, &mut vm, stock, true)?;
    let back = kernel_runs(&mut debian)?;
    ctx.check(back == old, || format!("{back} runs after the rollback"))?;
    // The system was marked good, so GRUB alone starts it now.
    debian.restart()?;
    let mut debian = vm.debian()?;
    let back = kernel_runs(&mut debian)?;
    ctx.check(back == old, || format!("{back} runs at the next start"))?;
    debian.restart()?;
    boot_host_with(
        &mut vm,
        stock,
        "backstay.forward backstay.present backstay.end",
    )?;
    agent_says(&mut vm, &["done: roll forward to snapshot 2"])?;
    let mut debian = is_rolled_back(ctx, &mut vm, stock, false)?;
    let forward = kernel_runs(&mut debian)?;
    ctx.check(forward == new, || format!("{forward} runs after 'forward'"))?;
    debian.succeed("backstay factory baseline && backstay reset system --yes")?;
    debian.restart()?;
    agent_says(&mut vm, &[RESET])?;
    let mut debian = vm.debian()?;
    let reset = kernel_runs(&mut debian)?;
    ctx.check(reset == new, || format!("{reset} runs after the reset"))?;
    debian.power_off()
}

/// The release that runs, whose modules the system has.
fn kernel_runs(debian: &mut Debian<'_>) -> Result<String> {
    debian.succeed("modprobe dummy && uname -r")
}

/// Looks at what runs, which has marked itself good.
fn is_rolled_back<'a>(
    ctx: &Context,
    vm: &'a mut Vm,
    stock: Stock,
    back: bool,
) -> Result<Debian<'a>> {
    let mut debian = vm.debian()?;
    let state = debian.run("systemctl is-system-running --wait")?.output;
    let files = debian
        .run("ls -1 /etc/changed /home/kept 2> /dev/null")?
        .output;
    let wanted = if back {
        "/home/kept\n"
    } else {
        "/etc/changed\n/home/kept\n"
    };
    ctx.check(files == wanted && state.trim() == "running", || {
        format!("systemd says {state}, and there are {files}")
    })?;
    let trial = debian.run("backstay status --json | grep '\"trial\": null'")?;
    ctx.check(trial.status == 0, || {
        "the system was not marked good".to_owned()
    })?;
    if stock.firmware == Firmware::SecureBoot {
        is_enforced(ctx, &mut debian)?;
    }
    Ok(debian)
}

/// Starts the live system's own kernel and initramfs with parameters typed at GRUB's prompt.
pub(super) fn boot_host_with(vm: &mut Vm, stock: Stock, parameters: &str) -> Result<()> {
    let root = stock.root;
    let (device, directory) = match (stock.encrypted, stock.boot_apart) {
        // GRUB reads nothing else; this has the distribution's initramfs, too.
        (true, _) => (Stock::BOOT_UUID, "@backstay/kernels/recovery".to_owned()),
        (false, true) => (Stock::UUID, format!("{root}/usr/lib/backstay/boot")),
        (false, false) => (Stock::UUID, root.to_owned()),
    };
    boot_with(vm, stock, device, &directory, parameters)
}

/// The same by the recovery kernel in the store.
pub(super) fn boot_recovery_with(vm: &mut Vm, stock: Stock, parameters: &str) -> Result<()> {
    let directory = "@backstay/kernels/recovery";
    boot_with(vm, stock, Stock::UUID, directory, parameters)
}

fn boot_with(
    vm: &mut Vm,
    stock: Stock,
    device: &str,
    directory: &str,
    parameters: &str,
) -> Result<()> {
    let (root, uuid, port) = (stock.root, Stock::UUID, stock.port());
    vm.grub().type_lines(&[
        &format!("search --no-floppy --fs-uuid --set=root {device}"),
        &format!(
            "linux /{directory}/vmlinuz root=UUID={uuid} rootflags=subvol={root} ro console=ttyS{port},115200 \
             quiet {parameters}"
        ),
        &format!("initrd /{directory}/initrd.img"),
        "boot",
    ])
}
