//! What goes wrong from outside: the power, the kernel that does not fit, the initramfs that is not
//! ours, a second disk that looks like the first; and what must not change when nothing goes wrong.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::rollback::{TINY_DATA, after_previous, untouched};
use super::steps::{
    THREE_VERSIONS, agent_begins, agent_says, boot_with, choose_and_confirm, menu, three_versions,
    three_versions_and,
};
use super::store::{Store, digest, same_sealed};
use super::{Context, Scenario};
use crate::cache::{target_dir, workspace};
use crate::image::programs::TARGET;
use crate::image::{Fixture, System, Tree};
use crate::toolbox::{Disk, Job};
use crate::vm::{Drive, Vm, VmConfig};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::tiny(
        "interrupted-before-exchange-is-undone",
        "the power goes before the commit record: the next boot undoes what was prepared",
        undone,
    ),
    Scenario::tiny(
        "interrupted-after-exchange-is-redone",
        "the power goes between two exchanges: the next boot finishes before it mounts a root",
        redone,
    )
    .core(),
    Scenario::tiny(
        "interrupted-before-seal-is-finished",
        "the power goes when all is exchanged: the next boot seals what was live, and disarms",
        sealed,
    ),
    Scenario::tiny(
        "kernel-follows-snapshot",
        "each version runs on its own kernel: by kexec after the change, by GRUB from then on",
        kernel_follows,
    )
    .core(),
    Scenario::tiny(
        "stock-initramfs-boots-live",
        "the distribution's initramfs, without any agent, boots what is live, after a rollback too",
        stock_initramfs,
    ),
    Scenario::tiny(
        "two-disks-same-uuid-refused",
        "a copy of the disk is attached: verbs are refused, and neither disk is changed",
        two_disks,
    ),
    Scenario::tiny(
        "nested-subvolumes-survive",
        "subvolumes inside the root are in the live root after a rollback and forward again",
        nested,
    ),
    Scenario::tiny(
        "clean-boot-writes-nothing",
        "an ordinary boot of a clean disk, up to the first program of the root, changes no byte",
        writes_nothing,
    ),
];

/// Leaves a rollback of [`three_versions`] where a power cut would, right before `step`.
pub(super) fn interrupted(ctx: &Context, step: &str) -> Result<PathBuf> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    ctx.step(format!("a rollback, and the power goes before: {step}"));
    let script = format!(
        "mount -o noatime /dev/disk0p2 /mnt
         /in/stop_at /mnt {step}
         test -e /mnt/@backstay/armed/armed.cfg
         umount /mnt"
    );
    Job::new("interrupting a rollback", script)
        .disk(Disk::read_write(&disk))
        .file("stop_at", build_stop_at()?)
        .run()?;
    Ok(disk)
}

/// Builds the example `stop_at` of the root package, for the toolbox guest.
fn build_stop_at() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--target", TARGET])
        .args(["--package", "backstay", "--example", "stop_at"])
        .current_dir(workspace())
        .output()
        .context("run cargo")?;
    if !output.status.success() {
        bail!(
            "cargo did not build the example: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(target_dir().join(TARGET).join("release/examples/stop_at"))
}

fn undone(ctx: &mut Context) -> Result<()> {
    let disk = interrupted(ctx, "commit")?;
    let mut vm = ctx.boot(&disk)?;
    // GRUB is armed: nobody has to choose anything.
    agent_begins(&mut vm, "starting the system")?;
    agent_says(
        &mut vm,
        &[
            "a change was interrupted before it took effect: undone (3)",
            "the system is as it was before; ask again if you still want the change",
        ],
    )?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.restart()?;
    ctx.step("the same change, asked for again");
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
    let tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

fn redone(ctx: &mut Context) -> Result<()> {
    // The configuration is version 2 already, the system is not yet.
    finished(ctx, "exchange-system")
}

fn sealed(ctx: &mut Context) -> Result<()> {
    finished(ctx, "seal")
}

fn finished(ctx: &mut Context, step: &str) -> Result<()> {
    let disk = interrupted(ctx, step)?;
    is_finished(ctx, &disk)
}

/// The next start finishes the rollback of [`three_versions`], and all of it is as after one that was not interrupted.
pub(super) fn is_finished(ctx: &mut Context, disk: &Path) -> Result<()> {
    let mut vm = ctx.boot(disk)?;
    agent_begins(&mut vm, "starting the system")?;
    agent_says(
        &mut vm,
        &["a change was interrupted: finished now (former system: 3)"],
    )?;
    let tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.power_off()?;
    ctx.expect_store(disk, &after_previous())?;
    Ok(())
}

/// [`three_versions`] with another kernel in version 3.
pub(super) fn two_kernels() -> Fixture {
    Fixture::new(
        System::Tiny,
        "two-kernels",
        format!("{THREE_VERSIONS}\nother_kernel"),
    )
    .with_other_kernel()
}

fn kernel_follows(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&two_kernels())?;
    let mut vm = ctx.boot(&disk)?;
    ctx.step("version 3 and its kernel");
    let newest = kernel_of(&mut vm, "3", "3-changed")?;
    vm.at_prompt().restart()?;
    ctx.step("back to version 2, which has another kernel");
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
    let older = kernel_of(&mut vm, "2", "2")?;
    ctx.check(newest != older, || {
        format!("versions 3 and 2 run on one kernel, {older}")
    })?;
    ctx.step("forward again: the recovery kernel is not version 3's, which is started by kexec");
    vm.at_prompt().succeed("backstay forward")?;
    vm.at_prompt().restart()?;
    agent_says(
        &mut vm,
        &[
            "done: roll forward to snapshot 3",
            &format!("starting the system's own kernel {newest}"),
        ],
    )?;
    let now = kernel_of(&mut vm, "3", "3-changed")?;
    ctx.check(now == newest, || {
        format!("version 3 runs on {now}, not on its own {newest}")
    })?;
    ctx.step("an ordinary boot: GRUB starts the same kernel");
    vm.at_prompt().restart()?;
    let now = kernel_of(&mut vm, "3", "3-changed")?;
    ctx.check(now == newest, || {
        format!("version 3 runs on {now}, not on its own {newest}")
    })?;
    vm.at_prompt().power_off()?;
    let wanted = untouched()
        .snapshot(3, ["3", "3-changed", "3"])
        .snapshot(4, ["2", "2", "2"]);
    ctx.expect_store(&disk, &wanted)?;
    Ok(())
}

/// The release that runs, once these versions are up; [`crate::guest::Tiny::expect`] has seen that the root
/// has its modules.
fn kernel_of(vm: &mut Vm, system: &str, config: &str) -> Result<String> {
    let tiny = vm.tiny()?;
    tiny.expect(system, config, TINY_DATA)?;
    Ok(tiny.said().kernel.clone())
}

fn stock_initramfs(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    boot_stock(ctx, &mut vm, "3", "3-changed")?;
    vm.at_prompt().restart()?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
    vm.tiny()?.expect("2", "2", TINY_DATA)?;
    vm.at_prompt().restart()?;
    boot_stock(ctx, &mut vm, "2", "2")?;
    vm.at_prompt().power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

/// Boots the live system's kernel with the distribution's initramfs, in which no agent is heard.
fn boot_stock(ctx: &Context, vm: &mut Vm, system: &str, config: &str) -> Result<()> {
    let heard = vm.serial().lines_with("backstay: ").len();
    boot_with(vm, System::Tiny, "@rootfs/boot", "initrd.img.stock", "")?;
    vm.tiny()?.expect(system, config, TINY_DATA)?;
    let lines = vm.serial().lines_with("backstay: ");
    ctx.check(lines.len() == heard, || {
        format!("there is an agent in the distribution's initramfs: {lines:?}")
    })
}

fn two_disks(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let copy = ctx.copy_disk(&disk, "copy.raw")?;
    let before = ctx.expect_store(&disk, &untouched())?;
    let copied = digest(&copy)?;
    let machine = VmConfig::disk(ctx.accel(), &disk, ctx.transcript());
    let mut vm = ctx.start(machine.with_drive(Drive::new(&copy)))?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_begins(
        &mut vm,
        "going to roll back to the version before (confirmed)",
    )?;
    agent_says(
        &mut vm,
        &[
            "refused to change anything: two disks carry the same file system; detach the copy, or \
             give it a new UUID with 'btrfstune -u'",
            "nothing was changed; starting the system",
        ],
    )?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.power_off()?;
    let after = ctx.expect_store(&disk, &untouched())?;
    same_sealed(&before, &after)?;
    ctx.check(digest(&copy)? == copied, || {
        "the copy was written to".to_owned()
    })?;
    ctx.step("without the copy the same verb is carried out");
    let mut vm = ctx.boot(&disk)?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
    let tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

/// Subvolumes as container tools make them: one with another one inside, and a plain one.
const NESTED: [&str; 3] = [
    "var/lib/machines",
    "var/lib/machines/deeper/inner",
    "var/lib/portables",
];

fn nested(ctx: &mut Context) -> Result<()> {
    // Before the first snapshot: every version knows the directories.
    let fixture = Fixture::new(
        System::Tiny,
        "nested",
        format!(
            "mkdir -p /mnt/@rootfs/var/lib
             for path in {}; do
                 mkdir -p \"/mnt/@rootfs/${{path%/*}}\"
                 btrfs subvolume create /mnt/@rootfs/$path
                 echo \"kept in $path\" > /mnt/@rootfs/$path/content
             done
             {THREE_VERSIONS}",
            NESTED.join(" ")
        ),
    );
    let with_nested = |store: Store| {
        NESTED.iter().fold(store, |store, path| {
            store.nested(&format!("@rootfs/{path}"))
        })
    };
    let disk = ctx.take(&fixture)?;
    let before = ctx.expect_store(&disk, &with_nested(untouched()))?;
    let mut vm = ctx.boot(&disk)?;
    choose_and_confirm(&mut vm, &[menu::ROLL_BACK])?;
    agent_says(
        &mut vm,
        &[
            "moving nested subvolumes to the new system",
            "done: roll back to snapshot 2",
        ],
    )?;
    vm.tiny()?.expect("2", "2", TINY_DATA)?;
    nested_are_there(ctx, &mut vm)?;
    vm.at_prompt().succeed("backstay forward")?;
    vm.at_prompt().restart()?;
    agent_says(
        &mut vm,
        &[
            "moving nested subvolumes to the new system",
            "done: roll forward to snapshot 3",
        ],
    )?;
    vm.tiny()?.expect("3", "3-changed", TINY_DATA)?;
    nested_are_there(ctx, &mut vm)?;
    vm.at_prompt().power_off()?;
    let wanted = untouched()
        .snapshot(3, ["3", "3-changed", "3"])
        .snapshot(4, ["2", "2", "2"]);
    let after = ctx.expect_store(&disk, &with_nested(wanted))?;
    for path in NESTED {
        let uuid = |tree: &Tree| {
            let found = tree.subvolume(&format!("@rootfs/{path}"));
            found.and_then(|subvolume| subvolume.uuid.clone())
        };
        ctx.check(uuid(&before) == uuid(&after), || {
            format!("{path} is another subvolume than before")
        })?;
    }
    Ok(())
}

/// In the running root each nested subvolume has its content, and a file can be written into it.
fn nested_are_there(ctx: &Context, vm: &mut Vm) -> Result<()> {
    for path in NESTED {
        let said = vm
            .at_prompt()
            .succeed(&format!("cat /{path}/content && touch /{path}/written"))?;
        ctx.check(said == format!("kept in {path}\n"), || {
            format!("/{path}/content holds {said:?}")
        })?;
    }
    Ok(())
}

/// [`three_versions`] with the program [`OFF`], which says that it runs, sends whatever waits in memory to the disk, and
/// takes the power away without an unmount, which would write by itself.
pub(super) fn off_at_once() -> Fixture {
    three_versions_and(
        System::Tiny,
        "off-at-once",
        "cat > /mnt/@rootfs/usr/bin/off <<'END'
#!/bin/sh
echo 'the first program of the root runs' > /dev/console
sync
busybox poweroff -n -f
END
         chmod 755 /mnt/@rootfs/usr/bin/off",
    )
}

/// Such that it is the first program of the root.
pub(super) const OFF: &str = "init=/usr/bin/off";

fn writes_nothing(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&off_at_once())?;
    let before = digest(&disk)?;
    let mut vm = ctx.boot(&disk)?;
    boot_with(&mut vm, System::Tiny, "@rootfs/boot", "initrd.img", OFF)?;
    agent_begins(&mut vm, "starting the system")?;
    vm.serial()
        .expect_line("the first program of the root runs")?;
    vm.wait_off(Duration::from_secs(60))?;
    let after = digest(&disk)?;
    ctx.check(before == after, || {
        "the disk is not byte for byte what it was before the boot".to_owned()
    })?;
    ctx.expect_store(&disk, &untouched())?;
    Ok(())
}
