//! Machines as a distribution's own tools install them: the package, one command, and it is there.

use std::time::Duration;

use anyhow::Result;

use super::steps::{agent_says, choose_and_confirm, menu};
use super::{Context, Scenario};
use crate::guest::Debian;
use crate::image::Stock;
use crate::vm::Vm;

/// A dozen starts of the real Debian, and initramfs images that it makes itself.
const LONG: Duration = Duration::from_secs(3000);

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::debian(
        "stock-debian-initramfs-tools",
        "Debian with initramfs-tools and BIOS: package, 'backstay init', rollback from GRUB's menu, forward by its own initramfs",
        |ctx| whole_story(ctx, Stock::DEBIAN),
    )
    .within(LONG),
    Scenario::debian(
        "stock-debian-dracut",
        "the same with dracut and systemd in the initramfs",
        |ctx| whole_story(ctx, Stock::DRACUT),
    )
    .within(LONG),
];

/// Installs the package and sets the machine up, as README says.
fn set_up(ctx: &Context, debian: &mut Debian<'_>) -> Result<()> {
    ctx.step("install the package");
    debian.succeed("apt-get install -y /root/backstay.deb 2>&1 | tail -n 5")?;
    let found = debian.run("backstay doctor")?;
    ctx.check(
        found.status == 1
            && found
                .output
                .contains("GRUB's modules and menu lie in the root"),
        || format!("doctor says {found:?}"),
    )?;
    let plan = debian.run("backstay init --dry-run")?.output;
    ctx.check(plan.contains("stays: /home (@home)"), || {
        format!("the proposal is {plan}")
    })?;
    debian.succeed("backstay init --yes")?;
    let found = debian.run("backstay doctor")?;
    ctx.check(found.status == 0, || format!("doctor says {found:?}"))
}

fn whole_story(ctx: &Context, stock: Stock) -> Result<()> {
    let disk = ctx.copy_disk(&stock.with_package()?, "disk.raw")?;
    let mut vm = ctx.boot(&disk)?;
    let mut debian = vm.debian()?;
    set_up(ctx, &mut debian)?;
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
        .run("ls /etc/changed /home/kept 2> /dev/null")?
        .output;
    let wanted = if back {
        "/home/kept\n"
    } else {
        "/etc/changed\n/home/kept\n"
    };
    ctx.check(files == wanted && state.trim() == "running", || {
        format!("systemd says {state}, and there are {files}")
    })?;
    let status = debian.succeed("backstay status")?;
    ctx.check(!status.contains("on trial"), || {
        format!("the system was not marked good: {status}")
    })?;
    debian.restart()
}

/// Starts the live system's own kernel and initramfs with parameters typed at GRUB's prompt.
fn boot_host_with(vm: &mut Vm, stock: Stock, parameters: &str) -> Result<()> {
    let (root, uuid) = (stock.root, Stock::UUID);
    vm.grub().type_lines(&[
        &format!(
            "linux /{root}/vmlinuz root=UUID={uuid} rootflags=subvol={root} ro console=ttyS0,115200 \
             quiet {parameters}"
        ),
        &format!("initrd /{root}/initrd.img"),
        "boot",
    ])
}
