//! A stock Debian on which backstay is set up: what its owner does with it, and how it is taken away again.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::steps::{agent_says, choose_and_confirm, menu};
use super::stock::{LONG, RESET, as_readme_says, set_up, start};
use super::{Context, Scenario};
use crate::image::Stock;
use crate::setup;
use crate::vm::Vm;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::debian(
        "layout-debian-home-survives-rollback",
        "the plan names what goes back with the system and how much of it changed; a home stays, what lies in the root goes back",
        home_survives,
    )
    .usually(900)
    .within(LONG),
    Scenario::debian(
        "baseline-has-no-old-identity",
        "a cleaned copy of the used system in the factory's place: a reset gives a machine id of its own, and no old keys and logs",
        baseline,
    )
    .usually(900)
    .within(LONG),
    Scenario::debian(
        "factory-installed-anew",
        "'factory install' by mmdebstrap, with the packages that are installed: a reset starts what nobody ever ran",
        installed_anew,
    )
    .usually(900)
    .within(LONG)
    .as_root(),
    Scenario::debian(
        "package-purge-still-boots",
        "after a rollback the package is purged: the machine starts by the distribution's own entries",
        purge,
    )
    .usually(900)
    .within(LONG),
    Scenario::debian(
        "uninstall-leaves-a-bootable-system",
        "'backstay uninstall' takes the store and GRUB's entries away: the machine starts as it did before",
        uninstall,
    )
    .usually(900)
    .within(LONG),
    Scenario::debian(
        "two-hundred-snapshots",
        "GRUB's menu lists the newest hundred and starts one; 'list' makes system calls in proportion to the snapshots",
        two_hundred,
    )
    .usually(1200)
    .within(LONG),
    Scenario::debian(
        "grub-prefix-in-root-found",
        "GRUB's modules in the root: doctor finds them, init moves them, and the core image finds them there",
        prefix,
    )
    .usually(900)
    .within(LONG),
    Scenario::debian(
        "fstab-subvolid-pin-found",
        "an fstab that names a number: doctor finds it, a rollback is refused because of it, init mends it",
        pin,
    )
    .usually(900)
    .within(LONG),
    Scenario::debian(
        "init-and-uninstall-go-on-after-a-failure",
        "grub-install fails in each: doctor finds it, the next run does what is left, and the machine starts",
        interrupted,
    )
    .usually(900)
    .within(LONG),
];

/// A stock disk on which everything is set up, switched on.
fn start_installed(ctx: &Context) -> Result<Vm> {
    let disk = ctx.copy_disk(&Stock::DEBIAN.installed()?, "disk.raw")?;
    ctx.boot(&disk)
}

fn home_survives(ctx: &mut Context) -> Result<()> {
    let mut vm = start_installed(ctx)?;
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
    let mut vm = start_installed(ctx)?;
    let mut debian = vm.debian()?;
    let old = debian.succeed("cat /etc/machine-id")?;
    let refused = debian.run("backstay reset system --yes")?;
    ctx.check(
        refused.status != 0 && refused.output.contains("factory baseline"),
        || format!("without a factory version: {refused:?}"),
    )?;
    debian.succeed("mkdir -p /etc/ssh && echo secret > /etc/ssh/ssh_host_ed25519_key")?;
    debian.succeed("echo old > /root/.bash_history; touch /home/kept")?;
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
    agent_says(&mut vm, &[RESET])?;
    let mut debian = vm.debian()?;
    let new = debian.succeed("cat /etc/machine-id")?;
    ctx.check(new.trim().len() == 32 && new != old, || {
        format!("the machine id was {old} and is {new}")
    })?;
    // The shell of this login has written a history of its own.
    let left = debian.run(
        "ls -1 /etc/ssh/ssh_host_ed25519_key /home/kept 2> /dev/null; grep -lx old /root/.bash_history",
    )?;
    ctx.check(left.output == "/home/kept\n", || {
        format!("there are {left:?}")
    })?;
    debian.power_off()
}

/// Installs the distribution anew on a disk, by this machine's kernel and from Debian's mirror: no guest has a network.
const ANEW: &str = include_str!("../../images/stock/anew.sh");

fn installed_anew(ctx: &mut Context) -> Result<()> {
    let disk = ctx.copy_disk(&Stock::DEBIAN.installed()?, "disk.raw")?;
    ctx.check(setup::is_root(), || {
        "it needs root on this machine: run it by 'sudo -E'".to_owned()
    })?;
    ctx.step("install the distribution anew, in a chroot on the disk");
    let script = ctx.directory().join("anew.sh");
    std::fs::write(&script, ANEW)?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-eu"])
        .arg(&script)
        .arg(&disk);
    let log = ctx.directory().join("anew.log");
    setup::run_long("installing Debian anew", &mut command, &log)?;
    let text = std::fs::read_to_string(&log)?;
    ctx.check(!text.contains("baseline, not factory"), || {
        format!("it says {text}")
    })?;

    let mut vm = ctx.boot(&disk)?;
    let mut debian = vm.debian()?;
    let names =
        "dpkg-query --show --showformat='${binary:Package} ${db:Status-Status}\\n' | sha256sum";
    let packages = debian.succeed(names)?;
    let id = debian.succeed("cat /etc/machine-id")?;
    debian.succeed("touch /etc/changed /home/kept; backstay reset system --yes")?;
    debian.restart()?;
    agent_says(
        &mut vm,
        &["done: reset system and configuration to the factory version, keep data"],
    )?;
    let mut debian = vm.debian()?;
    let state = debian.run("systemctl is-system-running --wait; ls -1 /etc/changed /home/kept")?;
    let fresh = state.output.starts_with("running\n") && state.output.ends_with("/home/kept\n");
    ctx.check(fresh && state.status != 0, || {
        format!("after the reset: {state:?}")
    })?;
    let packages_now = debian.succeed(names)?;
    ctx.check(packages_now == packages, || {
        "other packages are installed".to_owned()
    })?;
    let id_now = debian.succeed("cat /etc/machine-id")?;
    ctx.check(id_now != id && id_now.trim().len() == 32, || {
        format!("the machine id was {id} and is {id_now}")
    })?;
    debian.power_off()
}

fn purge(ctx: &mut Context) -> Result<()> {
    let mut vm = start_installed(ctx)?;
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

fn uninstall(ctx: &mut Context) -> Result<()> {
    let mut vm = start_installed(ctx)?;
    let mut debian = vm.debian()?;
    debian.succeed("backstay snapshot && backstay try")?;
    let refused = debian.run("backstay uninstall --yes")?;
    let why = "the live system is on trial, and what it falls back to goes with the store";
    ctx.check(refused.status != 0 && refused.output.contains(why), || {
        format!("on trial, uninstall says {refused:?}")
    })?;
    debian.succeed("backstay mark-good && touch /home/kept && backstay uninstall --yes")?;
    let left = debian.run(
        "btrfs subvolume list / | grep backstay; findmnt /boot/grub; grep backstay- /boot/grub/grub.cfg; \
         grep backstay /etc/fstab",
    )?;
    ctx.check(left.output.is_empty(), || format!("left over: {left:?}"))?;
    debian.restart()?;
    let shown = vm.grub().wait()?;
    ctx.check(shown.current() == "Debian GNU/Linux", || {
        format!("GRUB would start {:?}", shown.current())
    })?;
    let mut debian = vm.debian()?;
    let state =
        debian.run("systemctl is-system-running --wait; ls -1 /home/kept; backstay list")?;
    let stays = state.output.starts_with("running\n/home/kept\n");
    ctx.check(stays && state.output.contains("backstay init"), || {
        format!("it says {state:?}")
    })?;
    debian.power_off()
}

/// Counts the system calls of `backstay list`, by the kernel's own tracing.
const COUNT: &str = "T=/sys/kernel/tracing; E=$T/events/raw_syscalls/sys_enter/enable; mount -t tracefs none $T; \
     count() { echo > $T/trace; sh -c 'echo $$ > /sys/kernel/tracing/set_event_pid; exec backstay list' > /dev/null; \
     awk '/^(entries|overrun):/ { n += $2 } END { print n }' $T/per_cpu/cpu0/stats; }; \
     echo 0 > $T/set_event_pid; echo 1 > $E; echo 1 > $T/tracing_on";

fn two_hundred(ctx: &mut Context) -> Result<()> {
    let mut vm = start_installed(ctx)?;
    let mut debian = vm.debian()?;
    debian.succeed(COUNT)?;
    let mut calls = |from: u32, to: u32| -> Result<u64> {
        debian.succeed(&format!(
            "for i in $(seq {from} {to}); do backstay snapshot --title \"number $i\" > /dev/null || break; done"
        ))?;
        let counted = debian.succeed("count")?;
        let calls = counted.trim().parse();
        calls.with_context(|| format!("counted {counted:?}"))
    };
    let (fifty, hundred, all) = (calls(2, 50)?, calls(51, 100)?, calls(101, 200)?);
    ctx.step(format!(
        "system calls of 'list' at 50, 100, 200 snapshots: {fifty}, {hundred}, {all}"
    ));
    let (first, then) = (hundred.saturating_sub(fifty), all.saturating_sub(hundred));
    // 50 snapshots more, and 100: twice as many, and a tenth for what the allocator maps; the square would be four times.
    ctx.check(first >= 50 && then <= 2 * first + first / 5, || {
        format!("'list' makes {fifty} system calls of 50 snapshots, {hundred} of 100, {all} of 200")
    })?;
    debian.restart()?;
    let oldest = "Snapshot 101: Debian GNU/Linux 13 (trixie), number 101";
    choose_and_confirm(&mut vm, &[menu::SNAPSHOTS, oldest])?;
    agent_says(&mut vm, &["done: boot a clone of snapshot 101 once"])?;
    vm.debian()?.power_off()
}

fn prefix(ctx: &mut Context) -> Result<()> {
    let mut vm = start(ctx, Stock::DEBIAN)?;
    let mut debian = vm.debian()?;
    set_up(ctx, Stock::DEBIAN, &mut debian)?;
    debian.restart()?;
    ctx.step("GRUB's core image looks for its modules in the store");
    vm.grub().type_lines(&["echo \"prefix=[$prefix]\""])?;
    vm.serial()
        .expect_text("prefix=[(hd0,gpt2)/@backstay/grub]")?;
    vm.pull_plug()
}

fn interrupted(ctx: &mut Context) -> Result<()> {
    const BREAK: &str =
        "printf '#!/bin/sh\\nexit 1\\n' > /usr/local/sbin/grub-install; chmod +x /usr/local/sbin/*";
    const MEND: &str = "rm /usr/local/sbin/grub-install";
    let mut vm = start(ctx, Stock::DEBIAN)?;
    let mut debian = vm.debian()?;
    let [install, _] = as_readme_says()?;
    debian.succeed(&format!("cd /root; {install}"))?;
    debian.succeed(BREAK)?;
    let failed = debian.run("backstay init --yes; backstay doctor")?;
    ctx.check(
        failed.status == 1
            && failed.output.contains("grub-install failed")
            && failed.output.contains("GRUB was not installed anew"),
        || format!("init and doctor say {failed:?}"),
    )?;
    debian.succeed(MEND)?;
    debian.succeed("backstay init --yes && backstay doctor")?;
    debian.succeed(BREAK)?;
    let failed = debian.run("backstay uninstall --yes")?;
    ctx.check(failed.status != 0, || format!("uninstall says {failed:?}"))?;
    debian.succeed("! mountpoint --quiet /boot/grub")?;
    debian.succeed(MEND)?;
    debian.succeed("backstay uninstall --yes && ! grep @backstay /etc/fstab")?;
    debian.restart()?;
    vm.debian()?.power_off()
}

fn pin(ctx: &mut Context) -> Result<()> {
    let mut vm = start_installed(ctx)?;
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
