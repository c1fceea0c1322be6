//! A mirror of two disks of which one is left.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::console::{lists, start, switch_off};
use super::rollback::TINY_DATA;
use super::steps::{MENU_OPENS, agent_begins, agent_says, at_menu, change_at_menu, three_versions};
use super::store::digest;
use super::{Context, Scenario};
use crate::image::System;
use crate::toolbox::{Disk, Job};
use crate::vm::{Drive, Vm, VmConfig};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario::tiny(
    "menu-half-a-mirror",
    "one of two mirrored disks is gone: the menu opens by itself, says so, and goes on without it once it is told to",
    half_a_mirror,
)
.usually(300)];

/// Makes the store on `disk` a mirror with a second disk.
fn mirror(ctx: &Context, disk: &Path) -> Result<PathBuf> {
    ctx.step("a second disk is added, and all is on both");
    let second = ctx.directory().join("second.raw");
    File::create(&second)
        .and_then(|file| file.set_len(System::Tiny.disk_size()))
        .with_context(|| format!("make {}", second.display()))?;
    let script = r#"
mount -o noatime /dev/disk0p2 /mnt
btrfs device add --nodiscard "$(readlink -f /dev/disk1)" /mnt
btrfs balance start -dconvert=raid1 -mconvert=raid1 /mnt
btrfs filesystem df /mnt | tee /df
[ "$(grep -c RAID1 /df)" = 3 ]
[ "$(grep -cv RAID1 /df)" = 1 ] # GlobalReserve, which is on no disk
umount /mnt
"#;
    Job::new("making a mirror of two disks", script)
        .disk(Disk::read_write(disk))
        .disk(Disk::read_write(&second))
        .timeout(Duration::from_secs(400))
        .run()?;
    Ok(second)
}

/// What is on the half that is left: the versions of the snapshots, of what is live, and whether the newest is sealed.
const LOOK: &str = "
mount -o ro,degraded /dev/disk0p2 /mnt
cd /mnt
for set in @backstay/snapshots/1 @backstay/snapshots/2 @backstay/snapshots/3; do
    cat $set/system/etc/appliance-release $set/config/etc/appliance/version
done
cat @rootfs/etc/appliance-release @config/etc/appliance/version
btrfs property get @backstay/snapshots/3/system ro
cd /
umount /mnt
";
/// After a rollback of [`three_versions`] to 2.
const ROLLED_BACK: [&str; 9] = ["1", "1", "2", "2", "3", "3-changed", "2", "2", "ro=true"];

/// The machine is switched on and does nothing but say what is wrong, up to the menu's first screen.
fn opens_by_itself(ctx: &Context, vm: &mut Vm) -> Result<()> {
    let uuid = System::Tiny.store_uuid();
    agent_begins(vm, "starting the system")?;
    ctx.step("the second disk is waited for, and that is said");
    vm.serial().expect_text(&format!(
        "backstay: waiting for 1 more of the devices of UUID={uuid} since "
    ))?;
    agent_says(
        vm,
        &[&format!("1 of the devices of UUID={uuid} did not appear")],
    )?;
    vm.serial()
        .expect_text("backstay: the file system could not be mounted in any way: ")?;
    agent_says(vm, &[MENU_OPENS])?;
    vm.serial()
        .expect_line("A disk of the file system is missing: 'disk' says what can be done.")
}

/// Types the way that goes on without what is missing, and sees that it was taken.
fn goes_on_without(ctx: &Context, vm: &mut Vm) -> Result<()> {
    at_menu(ctx, vm, "disk degraded")?;
    vm.serial().expect_text("backstay: the disk is mounted ")?;
    vm.serial().expect_text("Live: ")?;
    Ok(())
}

fn half_a_mirror(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let second = mirror(ctx, &disk)?;
    ctx.step("both are there: nobody is asked");
    let machine = VmConfig::disk(ctx.accel(), &disk, ctx.transcript());
    let mut vm = ctx.start(machine.with_drive(Drive::new(&second)))?;
    vm.serial().forbid(MENU_OPENS);
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.power_off()?;

    ctx.step("the second one is gone");
    std::fs::remove_file(second)?;
    let before = digest(&disk)?;
    let mut vm = ctx.boot(&disk)?;
    opens_by_itself(ctx, &mut vm)?;
    ctx.step("what is wrong, and which way helps");
    at_menu(ctx, &mut vm, "disk")?;
    vm.serial().expect_lines(&[
        "A device of this file system is missing: 'disk degraded' goes on without it.",
        "It is not mounted:",
    ])?;
    vm.serial()
        .expect_text("  disk degraded  without what is missing, for a mirror that lost a disk")?;
    for (command, answer) in [
        ("disk again", "It does not mount this way: "),
        ("list", "The disk is not mounted: 'disk' says why"),
        (
            "rollback",
            "Nothing can be changed: the disk is not mounted",
        ),
        ("boot", "The system cannot be started as it is;"),
    ] {
        at_menu(ctx, &mut vm, command)?;
        vm.serial().expect_text(answer)?;
    }
    ctx.step("nothing was written while nobody had said so");
    switch_off(ctx, &mut vm)?;
    ctx.check(before == digest(&disk)?, || {
        "half a mirror was written to before anybody asked for it".to_owned()
    })?;

    let mut vm = ctx.boot(&disk)?;
    opens_by_itself(ctx, &mut vm)?;
    goes_on_without(ctx, &mut vm)?;
    lists(ctx, &mut vm)?;
    at_menu(ctx, &mut vm, "look 2 /etc/appliance-release")?;
    vm.serial().expect_line("2")?;
    ctx.step("the version that is live starts, without the lost disk and writable");
    at_menu(ctx, &mut vm, "boot")?;
    let mut tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.succeed("grep -q ' / btrfs .*degraded' /proc/mounts && touch /srv/data/written")?;
    tiny.succeed("rm /srv/data/written")?;
    tiny.restart()?;

    ctx.step("what a person has said holds for one start: it is asked for again");
    opens_by_itself(ctx, &mut vm)?;
    goes_on_without(ctx, &mut vm)?;
    change_at_menu(ctx, &mut vm, "rollback 2", "ROLLBACK")?;
    agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
    start(ctx, &mut vm, ["2", "2"])?;
    let mut prompt = vm.at_prompt();
    prompt.succeed("grep -q ' / btrfs .*degraded' /proc/mounts")?;
    prompt.power_off()?;

    ctx.step("look at the half that is left");
    let found = Job::new("looking at half a mirror", LOOK)
        .disk(Disk::read_only(&disk))
        .run()?;
    ctx.check(found.lines().eq(ROLLED_BACK), || {
        format!("on the disk there are {found}")
    })
}
