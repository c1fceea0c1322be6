//! Machines as a distribution's own tools install them: the package, one command, and it is there.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::steps::{agent_says, choose_and_confirm, menu};
use super::{Context, Scenario};
use crate::guest::Debian;
use crate::image::Stock;
use crate::image::stock::Firmware;
use crate::setup::{self, OVMF_VARIABLES};
use crate::vm::{Vm, VmConfig};

/// A dozen starts of the real Debian, and initramfs images that it makes itself.
const LONG: Duration = Duration::from_secs(3000);

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::debian(
        "stock-debian-initramfs-tools",
        "Debian with initramfs-tools and BIOS: package, 'backstay init', rollback from GRUB's menu, forward by its own initramfs",
        |ctx| whole_story(ctx, Stock::DEBIAN),
    )
    .usually(600)
    .within(LONG),
    Scenario::debian(
        "stock-debian-dracut",
        "the same with dracut and systemd in the initramfs",
        |ctx| whole_story(ctx, Stock::DRACUT),
    )
    .usually(600)
    .within(LONG),
    Scenario::debian(
        "stock-debian-dracut-nosystemd",
        "the same with dracut and no systemd in the initramfs",
        |ctx| whole_story(ctx, Stock::DRACUT_ALONE),
    )
    .usually(600)
    .within(LONG),
    Scenario::debian(
        "stock-debian-uefi",
        "the same by UEFI, with GRUB in the EFI system partition",
        |ctx| whole_story(ctx, Stock::UEFI),
    )
    .usually(600)
    .within(LONG),
    Scenario::debian(
        "stock-debian-separate-boot",
        "the same with /boot on an ext4 of its own: the system's own copy of its kernel is started",
        |ctx| whole_story(ctx, Stock::BOOT_APART),
    )
    .usually(600)
    .within(LONG),
    Scenario::debian(
        "layout-ubuntu",
        "the same on the subvolumes of Ubuntu's installer, @ and @home",
        |ctx| whole_story(ctx, Stock::AS_UBUNTU),
    )
    .usually(600)
    .within(LONG),
    Scenario::debian(
        "layout-arch",
        "the same on those of Arch's, with logs and packages on subvolumes of their own",
        |ctx| whole_story(ctx, Stock::AS_ARCH),
    )
    .usually(600)
    .within(LONG),
    Scenario::debian(
        "layout-fedora",
        "the same on those of Fedora's, root and home",
        |ctx| whole_story(ctx, Stock::AS_FEDORA),
    )
    .usually(600)
    .within(LONG),
    Scenario::debian(
        "layout-debian-home-survives-rollback",
        "the plan names what goes back with the system and how much of it changed; a home stays, what lies in the root goes back",
        home_survives,
    )
    .usually(600)
    .within(LONG),
    Scenario::debian(
        "baseline-has-no-old-identity",
        "a cleaned copy of the used system in the factory's place: a reset gives a machine id of its own, and no old keys and logs",
        baseline,
    )
    .usually(600)
    .within(LONG),
    Scenario::debian(
        "package-purge-still-boots",
        "after a rollback the package is purged: the machine starts by the distribution's own entries",
        purge,
    )
    .usually(600)
    .within(LONG),
    Scenario::debian(
        "fstab-subvolid-pin-found",
        "an fstab that names a number: doctor finds it, a rollback is refused because of it, init mends it",
        pin,
    )
    .usually(600)
    .within(LONG),
];

/// Installs the package and sets the machine up, as README says.
fn set_up(ctx: &Context, stock: Stock, debian: &mut Debian<'_>) -> Result<()> {
    ctx.step("install the package");
    debian.succeed("apt-get install -y /root/backstay.deb 2>&1 | tail -n 5")?;
    let found = debian.run("backstay doctor")?;
    let in_root = "GRUB's modules and menu lie in the root";
    let is_found = found.status == 1 && found.output.contains(in_root);
    ctx.check(is_found != stock.boot_apart, || {
        format!("doctor says {found:?}")
    })?;
    let plan = debian.run("backstay init --dry-run")?.output;
    let home = match stock.root.starts_with('@') {
        true => "stays: /home (@home)",
        false => "stays: /home (home)",
    };
    ctx.check(plan.contains(home), || format!("the proposal is {plan}"))?;
    debian.succeed("backstay init --yes")?;
    let found = debian.run("backstay doctor")?;
    ctx.check(found.status == 0, || format!("doctor says {found:?}"))
}

/// A machine with the package in /root, switched on.
fn start(ctx: &Context, stock: Stock) -> Result<Vm> {
    let disk = ctx.copy_disk(&stock.with_package()?, "disk.raw")?;
    let config = VmConfig::disk(ctx.accel(), &disk, ctx.transcript());
    match stock.firmware {
        Firmware::Bios => ctx.start(config),
        Firmware::Uefi => {
            setup::ensure_ovmf()?;
            let variables = ctx.copy_disk(Path::new(OVMF_VARIABLES), "variables.fd")?;
            ctx.start(config.with_uefi(&variables))
        }
    }
}

fn whole_story(ctx: &Context, stock: Stock) -> Result<()> {
    let mut vm = start(ctx, stock)?;
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
    agent_says(&mut vm, &["done: roll back to snapshot 1"])?;
    is_rolled_back(ctx, &mut vm, true)?;
    ctx.step("the distribution's own initramfs carries a change out");
    boot_host_with(
        &mut vm,
        stock,
        "backstay.forward backstay.present backstay.end",
    )?;
    agent_says(&mut vm, &["done: roll forward to snapshot 2"])?;
    is_rolled_back(ctx, &mut vm, false)?;
    Ok(())
}

/// Looks at what runs, which has marked itself good, and restarts it.
fn is_rolled_back(ctx: &Context, vm: &mut Vm, back: bool) -> Result<()> {
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
    debian.restart()
}

/// Starts the live system's own kernel and initramfs with parameters typed at GRUB's prompt.
fn boot_host_with(vm: &mut Vm, stock: Stock, parameters: &str) -> Result<()> {
    let (root, uuid) = (stock.root, Stock::UUID);
    let directory = match stock.boot_apart {
        true => format!("{root}/usr/lib/backstay/boot"),
        false => root.to_owned(),
    };
    vm.grub().type_lines(&[
        &format!("search --no-floppy --fs-uuid --set=root {uuid}"),
        &format!(
            "linux /{directory}/vmlinuz root=UUID={uuid} rootflags=subvol={root} ro console=ttyS0,115200 \
             quiet {parameters}"
        ),
        &format!("initrd /{directory}/initrd.img"),
        "boot",
    ])
}

/// A stock disk on which everything is set up, switched on.
fn start_installed(ctx: &Context, stock: Stock) -> Result<Vm> {
    let disk = ctx.copy_disk(&stock.installed()?, "disk.raw")?;
    ctx.boot(&disk)
}

fn home_survives(ctx: &mut Context) -> Result<()> {
    let mut vm = start_installed(ctx, Stock::DEBIAN)?;
    let mut debian = vm.debian()?;
    debian.succeed("useradd --create-home somebody && echo new > /home/somebody/file")?;
    debian.succeed("echo new > /root/file; touch /etc/changed")?;
    let plan = debian.succeed("backstay rollback")?;
    let named = plan.contains("goes with the system: /root (") && plan.contains("changed since");
    ctx.check(named && plan.contains("home: stays as it is"), || {
        format!("the plan is {plan}")
    })?;
    debian.restart()?;
    agent_says(&mut vm, &["done: roll back to snapshot 1"])?;
    let mut debian = vm.debian()?;
    let left = debian.run("ls -1 /home/somebody/file /root/file /etc/changed 2> /dev/null")?;
    ctx.check(left.output == "/home/somebody/file\n", || {
        format!("there are {left:?}")
    })?;
    debian.power_off()
}

fn baseline(ctx: &mut Context) -> Result<()> {
    let mut vm = start_installed(ctx, Stock::DEBIAN)?;
    let mut debian = vm.debian()?;
    let old = debian.succeed("cat /etc/machine-id")?;
    let refused = debian.run("backstay reset system --yes")?;
    ctx.check(
        refused.status != 0 && refused.output.contains("factory baseline"),
        || format!("without a factory version: {refused:?}"),
    )?;
    debian.succeed("mkdir -p /etc/ssh && echo secret > /etc/ssh/ssh_host_ed25519_key")?;
    debian.succeed("echo ls > /root/.bash_history; touch /home/kept")?;
    let made = debian.succeed("backstay factory baseline")?;
    ctx.check(
        made.contains("kept: etc/shadow: password of root")
            && made.contains("baseline, not factory"),
        || format!("it says {made}"),
    )?;
    let listed = debian.succeed("backstay list; backstay status")?;
    ctx.check(
        listed.contains("baseline") && !listed.contains("factory snapshot"),
        || format!("it is shown as {listed}"),
    )?;
    debian.succeed("backstay reset system --yes")?;
    debian.restart()?;
    agent_says(
        &mut vm,
        &["done: reset system and configuration to the baseline, not factory, keep data"],
    )?;
    let mut debian = vm.debian()?;
    let new = debian.succeed("cat /etc/machine-id")?;
    ctx.check(new.trim().len() == 32 && new != old, || {
        format!("the machine id was {old} and is {new}")
    })?;
    let left = debian
        .run("ls -1 /etc/ssh/ssh_host_ed25519_key /root/.bash_history /home/kept 2> /dev/null")?;
    ctx.check(left.output == "/home/kept\n", || {
        format!("there are {left:?}")
    })?;
    debian.power_off()
}

fn purge(ctx: &mut Context) -> Result<()> {
    let mut vm = start_installed(ctx, Stock::DEBIAN)?;
    let mut debian = vm.debian()?;
    debian.succeed("touch /etc/changed /home/kept; backstay rollback")?;
    debian.restart()?;
    agent_says(&mut vm, &["done: roll back to snapshot 1"])?;
    let mut debian = vm.debian()?;
    debian.run("systemctl is-system-running --wait")?;
    debian.succeed("apt-get purge -y backstay 2>&1 | tail -n 3")?;
    let left =
        debian.run("ls -1 /usr/bin/backstay /etc/grub.d/09_backstay /etc/backstay 2> /dev/null")?;
    ctx.check(left.output.is_empty(), || format!("left over: {left:?}"))?;
    debian.restart()?;
    let shown = vm.grub().wait()?;
    ctx.check(shown.current() == "Debian GNU/Linux", || {
        format!("GRUB would start {:?}", shown.current())
    })?;
    let mut debian = vm.debian()?;
    let state = debian
        .run("systemctl is-system-running --wait; ls -1 /etc/changed /home/kept 2> /dev/null")?;
    ctx.check(state.output == "running\n/home/kept\n", || {
        format!("it says {state:?}")
    })?;
    debian.power_off()
}

fn pin(ctx: &mut Context) -> Result<()> {
    let mut vm = start_installed(ctx, Stock::DEBIAN)?;
    let mut debian = vm.debian()?;
    debian.succeed("sed -i 's|subvol=@rootfs|subvolid=256|' /etc/fstab && touch /etc/changed")?;
    let found = debian.run("backstay doctor")?;
    ctx.check(
        found.status == 1 && found.output.contains("mounts / by subvolid=256"),
        || format!("doctor says {found:?}"),
    )?;
    debian.succeed("backstay snapshot --title pinned")?;
    let refused = debian.run("backstay rollback 2")?;
    ctx.check(
        refused.status != 0 && refused.output.contains("subvolid"),
        || format!("a rollback to it is {refused:?}"),
    )?;
    debian.succeed("backstay init --yes")?;
    let found = debian.run("backstay doctor; grep ' / ' /etc/fstab")?;
    ctx.check(
        found.status == 0 && !found.output.contains("subvolid"),
        || format!("doctor says {found:?}"),
    )?;
    debian.power_off()
}
