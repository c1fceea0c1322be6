//! The menu where something is wrong: with the line, with the disk, with the system, or with there being a console at all.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::console::{lists, opens, roll_back, switch_off};
use super::fault::{OFF, is_finished, off_at_once};
use super::rollback::{TINY_DATA, after_previous, untouched};
use super::steps::{
    MENU_OPENS, NOT_THE_WORD, QUESTION, WORD, agent_begins, agent_says, answer_word, asks_for,
    at_menu, boot_recovery_on, boot_recovery_with, three_versions, three_versions_and, version_row,
};
use super::store::digest;
use super::{Context, Scenario};
use crate::image::System;
use crate::image::damage::{Damage, damage};
use crate::random::Random;
use crate::toolbox::{Disk, Job};
use crate::vm::{Drive, Vm, VmConfig};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::tiny(
        "menu-garbage-input",
        "64 KiB of noise, and breaks: not a byte of the disk changes, and the menu can be used afterwards",
        garbage,
    )
    .usually(180),
    Scenario::tiny(
        "menu-line-noise-9600",
        "a slow line with noise on it: what is garbled is said to be, and typed again it counts",
        noise,
    ),
    Scenario::tiny(
        "menu-broken-live-root-still-lists",
        "the live system has lost its init: the menu opens by itself, and a rollback brings another one",
        broken_root,
    ),
    Scenario::tiny(
        "menu-unmountable-filesystem-explains",
        "a disk that does not mount as usual: what is wrong is said, other ways are tried, and the snapshots listed",
        unmountable,
    )
    .usually(300),
    Scenario::tiny(
        "menu-disk-fails",
        "the disk is pulled while the menu is open, before the commit and after it: after a restart nothing is changed, or all",
        disk_fails,
    )
    .usually(240),
    Scenario::tiny(
        "no-console-at-all-boots",
        "the only console on the command line has no hardware, and the menu was asked for: the system starts",
        no_console,
    ),
];

/// Random bytes, but without the letter that alone is a command to start the system.
fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| random.word().to_le_bytes())
        .flatten()
        .take(count)
        .collect();
    bytes
        .iter_mut()
        .filter(|it| **it == b'q')
        .for_each(|it| *it = b'Q');
    bytes
}

/// A line with bytes in it that no key sends.
fn garbled(random: &mut Random, line: &str) -> Vec<u8> {
    let mut bytes = line.as_bytes().to_vec();
    for _ in 0..3 {
        let at = usize::try_from(random.below(bytes.len() as u64)).unwrap_or(0);
        let noise = u8::try_from(0x80 + random.below(0x80)).unwrap_or(u8::MAX);
        bytes.insert(at, noise);
    }
    bytes
}

/// A person gives up whatever the menu takes the noise for.
fn quiet_again(ctx: &Context, vm: &mut Vm) -> Result<()> {
    ctx.step("it is quiet; control-C");
    vm.serial().quiet(Duration::from_secs(5))?;
    vm.serial().send(b"\x03")?;
    vm.serial().quiet(Duration::from_secs(3))?;
    vm.serial().send(b"\x03")?;
    Ok(())
}

fn garbage(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let before = digest(&disk)?;
    let machine = VmConfig::disk(ctx.accel(), &disk, ctx.transcript());
    let mut vm = ctx.start(machine.with_orders())?;
    boot_recovery_with(&mut vm, System::Tiny, "backstay.menu=600 backstay.end")?;
    opens(&mut vm)?;
    vm.serial().forbid("backstay: done");
    vm.serial().expect_text(QUESTION)?;
    ctx.step("noise");
    for piece in random_bytes(1, 64 << 10).chunks(1 << 10) {
        vm.serial().send(piece)?;
        std::thread::sleep(Duration::from_millis(20));
    }
    quiet_again(ctx, &mut vm)?;
    lists(ctx, &mut vm)?;
    ctx.step("every byte that there is, in order, and much on one line");
    vm.serial().expect_text(QUESTION)?;
    let all: Vec<u8> = (0..=u8::MAX).filter(|byte| *byte != b'q').collect();
    vm.serial().send(&all)?;
    vm.serial().send(&[b'#'; 3000])?;
    quiet_again(ctx, &mut vm)?;
    lists(ctx, &mut vm)?;
    // Linux takes one break for the beginning of a key for itself (SysRq), and the second for the end of that.
    ctx.step("breaks on the line");
    vm.serial().expect_text(QUESTION)?;
    for _ in 0..4 {
        vm.send_break()?;
        std::thread::sleep(Duration::from_secs(1));
    }
    quiet_again(ctx, &mut vm)?;
    lists(ctx, &mut vm)?;
    switch_off(ctx, &mut vm)?;
    let after = digest(&disk)?;
    ctx.check(before == after, || {
        "the disk is not byte for byte what it was before the noise".to_owned()
    })?;
    ctx.expect_store(&disk, &untouched())?;
    Ok(())
}

fn noise(ctx: &mut Context) -> Result<()> {
    const BAUD: u32 = 9600;
    const SAYS: &str = "That line was garbled: nothing is done. Type it again.";
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let mut vm = ctx.boot(&disk)?;
    let uuid = System::Tiny.store_uuid();
    let consoles = format!("console=ttyS0,{BAUD}n8");
    boot_recovery_on(&mut vm, uuid, &consoles, "backstay.menu backstay.end")?;
    opens(&mut vm)?;
    let mut random = Random::new(9600);
    let type_slowly = |vm: &mut Vm, line: &[u8]| -> Result<()> {
        vm.serial().send_paced(line, BAUD)?;
        vm.serial().send_paced(b"\r", BAUD)
    };
    ctx.step("the first line is noise alone, and answered as any other");
    vm.serial().expect_text(QUESTION)?;
    type_slowly(&mut vm, &garbled(&mut random, "list"))?;
    vm.serial().expect_line(SAYS)?;
    vm.serial().expect_text(QUESTION)?;
    type_slowly(&mut vm, b"list")?;
    version_row(&mut vm, "< 2 ", "version 2")?;
    for _ in 0..3 {
        ctx.step("a command with noise in it");
        vm.serial().expect_text(QUESTION)?;
        type_slowly(&mut vm, &garbled(&mut random, "rollback 2"))?;
        vm.serial().expect_line(SAYS)?;
    }
    for clean in [false, true] {
        ctx.step("the command as it is");
        vm.serial().expect_text(QUESTION)?;
        type_slowly(&mut vm, b"rollback 2")?;
        asks_for(&mut vm, "ROLLBACK")?;
        vm.serial().expect_text(WORD)?;
        if clean {
            type_slowly(&mut vm, b"ROLLBACK")?;
            agent_says(&mut vm, &["done: roll back to snapshot 2"])?;
        } else {
            ctx.step("the word with noise in it");
            type_slowly(&mut vm, &garbled(&mut random, "ROLLBACK"))?;
            vm.serial().expect_line(NOT_THE_WORD)?;
        }
    }
    vm.serial().expect_text(QUESTION)?;
    type_slowly(&mut vm, b"boot")?;
    let tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

fn broken_root(ctx: &mut Context) -> Result<()> {
    let without_init =
        three_versions_and(System::Tiny, "without-init", "rm /mnt/@rootfs/usr/bin/init");
    let disk = ctx.take(&without_init)?;
    let mut vm = ctx.boot(&disk)?;
    agent_begins(&mut vm, "starting the system")?;
    agent_says(
        &mut vm,
        &[
            "the system did not start; 'boot' tries it once more, then the machine restarts",
            MENU_OPENS,
        ],
    )?;
    lists(ctx, &mut vm)?;
    roll_back(ctx, &mut vm)?;
    vm.at_prompt().restart()?;
    ctx.step("it lasts: an ordinary start");
    let tiny = vm.tiny()?;
    tiny.expect("2", "2", TINY_DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &after_previous())?;
    Ok(())
}

/// Another file system than that of the first disk.
const OTHER_UUID: &str = "bad00000-5702-4000-8000-00000000b575";

/// A whole disk like the first one with a UUID of its own. All roots that the superblock keeps are of it.
fn other_disk(ctx: &Context, like: &Path) -> Result<PathBuf> {
    let disk = ctx.copy_disk(like, "other.raw")?;
    ctx.step("it becomes another file system");
    let script = format!(
        "btrfstune -f -U {OTHER_UUID} /dev/disk0p2
         mount -o noatime,nodiscard /dev/disk0p2 /mnt
         for n in 1 2 3 4 5; do
             echo $n > /mnt/@backstay/turn
             sync
         done
         rm /mnt/@backstay/turn
         sync
         umount /mnt"
    );
    Job::new("giving a disk another UUID", script)
        .disk(Disk::read_write(&disk))
        .run()?;
    Ok(disk)
}

fn unmountable(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let other = other_disk(ctx, &disk)?;
    for (kind, works, mounted) in [
        (
            Damage::Log,
            "disk noreplay",
            "read-only, without log replay",
        ),
        (Damage::Root, "disk backup", "read-only, from a backup root"),
    ] {
        ctx.step(format!(
            "{kind:?}: the menu was asked for, and one way works"
        ));
        let broken = ctx.copy_disk(&other, "broken.raw")?;
        damage(&broken, kind)?;
        let before = digest(&broken)?;
        let mut vm = start(ctx, &disk, &broken, "backstay.menu backstay.end")?;
        opens(&mut vm)?;
        at_menu(ctx, &mut vm, "disk")?;
        vm.serial().expect_text("/dev/vdb2: btrfs")?;
        vm.serial()
            .expect_text(&format!("It is mounted {mounted}"))?;
        lists(ctx, &mut vm)?;
        at_menu(ctx, &mut vm, "rollback 2")?;
        vm.serial()
            .expect_text("Nothing can be changed: the disk is mounted read-only")?;
        at_menu(ctx, &mut vm, "disk ro")?;
        vm.serial().expect_text("It does not mount this way: ")?;
        at_menu(ctx, &mut vm, "list")?;
        vm.serial()
            .expect_text("The disk is not mounted: 'disk' says why")?;
        at_menu(ctx, &mut vm, works)?;
        agent_says(&mut vm, &[&format!("the disk is mounted {mounted}")])?;
        lists(ctx, &mut vm)?;
        at_menu(ctx, &mut vm, "look 2 /etc/appliance-release")?;
        vm.serial().expect_line("2")?;
        switch_off(ctx, &mut vm)?;
        ctx.step(format!(
            "{kind:?}: without anybody the system starts, and nobody in it can write"
        ));
        let mut vm = start(ctx, &disk, &broken, "")?;
        let damaged = format!("the file system is damaged: it mounts only {mounted}");
        agent_says(&mut vm, &[&damaged])?;
        let mut tiny = vm.tiny()?;
        tiny.succeed("! mount -o remount,rw / && ! mount -o remount,rw /srv/data")?;
        tiny.succeed("! touch /new && ! touch /srv/data/new")?;
        tiny.power_off()?;
        let after = digest(&broken)?;
        ctx.check(before == after, || {
            format!("the disk whose {kind:?} is damaged was written to")
        })?;
    }
    ctx.step("no way works: the menu opens by itself");
    damage(&other, Damage::Chunks)?;
    let before = digest(&other)?;
    let mut vm = start(ctx, &disk, &other, "")?;
    vm.serial()
        .expect_text("backstay: the file system could not be mounted in any way: ")?;
    agent_says(&mut vm, &[MENU_OPENS])?;
    vm.serial().expect_line("The disk does not mount.")?;
    at_menu(ctx, &mut vm, "disk")?;
    vm.serial().expect_lines(&["It is not mounted:"])?;
    vm.serial()
        .expect_text("Read-only ways change nothing and often still show the snapshots")?;
    for way in ["disk ro", "disk noreplay", "disk backup", "disk again"] {
        at_menu(ctx, &mut vm, way)?;
        vm.serial().expect_text("It does not mount this way: ")?;
    }
    at_menu(ctx, &mut vm, "log kernel")?;
    vm.serial().expect_text("-- Enter: more, q: stop -- ")?;
    vm.serial().send_line("q")?;
    for (command, answer) in [
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
    switch_off(ctx, &mut vm)?;
    let after = digest(&other)?;
    ctx.check(before == after, || {
        "the disk that does not mount was written to".to_owned()
    })
}

/// GRUB and the recovery kernel are the first disk's, the root is the second one's.
fn start(ctx: &Context, first: &Path, second: &Path, parameters: &str) -> Result<Vm> {
    let machine = VmConfig::disk(ctx.accel(), first, ctx.transcript());
    let mut vm = ctx.start(machine.with_drive(Drive::new(second)))?;
    boot_recovery_on(&mut vm, OTHER_UUID, "console=ttyS0,115200", parameters)?;
    Ok(vm)
}

/// What is said of a disk that was pulled.
const DISK_FAILS: &str = "the disk fails: check its cable";

fn disk_fails(ctx: &mut Context) -> Result<()> {
    pulled_before_the_commit(ctx)?;
    pulled_after_the_commit(ctx)
}

fn pulled_before_the_commit(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let machine = VmConfig::disk(ctx.accel(), &disk, ctx.transcript());
    let mut vm = ctx.start(machine.with_orders())?;
    boot_recovery_with(&mut vm, System::Tiny, "backstay.menu=600 backstay.end")?;
    opens(&mut vm)?;
    lists(ctx, &mut vm)?;
    vm.serial().forbid("backstay: done");
    ctx.step("what a plan reads is in memory");
    at_menu(ctx, &mut vm, "rollback 2")?;
    answer_word(ctx, &mut vm, "no")?;
    vm.serial().expect_line(NOT_THE_WORD)?;
    ctx.step("the disk is pulled");
    vm.pull_disk(0)?;
    at_menu(ctx, &mut vm, "rollback 2")?;
    asks_for(&mut vm, "ROLLBACK")?;
    answer_word(ctx, &mut vm, "ROLLBACK")?;
    vm.serial().expect_text("not done: ")?;
    vm.serial().expect_text(DISK_FAILS)?;
    ctx.step("what is left to be done is said");
    at_menu(ctx, &mut vm, "disk")?;
    vm.serial().expect_text("disk again")?;
    at_menu(ctx, &mut vm, "rollback 2")?;
    vm.serial().expect_text("Nothing can be changed: ")?;
    switch_off(ctx, &mut vm)?;
    ctx.expect_store(&disk, &untouched())?;
    let mut vm = ctx.boot(&disk)?;
    let tiny = vm.tiny()?;
    tiny.expect("3", "3-changed", TINY_DATA)?;
    tiny.power_off()
}

/// The commit record is on the disk, the exchanges are not, and the store cannot be read any more: what is live is not
/// started by itself, and the next start finishes the change.
fn pulled_after_the_commit(ctx: &mut Context) -> Result<()> {
    // In one second it brings the record to the disk, and not what follows.
    const OPERATIONS: u32 = 40;
    let disk = ctx.take(&three_versions(System::Tiny))?;
    let machine = VmConfig::disk(ctx.accel(), &disk, ctx.transcript());
    let mut vm = ctx.start(machine.with_orders())?;
    // The log's lines are seen, too.
    let parameters = "loglevel=7 backstay.menu=30 backstay.end";
    boot_recovery_with(&mut vm, System::Tiny, parameters)?;
    opens(&mut vm)?;
    vm.serial().forbid("backstay: done");
    vm.slow_disk(0, OPERATIONS)?;
    at_menu(ctx, &mut vm, "rollback 2")?;
    asks_for(&mut vm, "ROLLBACK")?;
    answer_word(ctx, &mut vm, "ROLLBACK")?;
    vm.serial().expect_text("backstay: exchanging ")?;
    ctx.step("the disk is pulled");
    vm.pull_disk(0)?;
    vm.serial()
        .expect_text("it was committed but could not be finished: ")?;
    vm.serial().expect_text(DISK_FAILS)?;
    ctx.step("neither a person nor silence starts what may be half of it");
    at_menu(ctx, &mut vm, "boot")?;
    vm.serial()
        .expect_text("The system cannot be started as it is;")?;
    vm.serial().expect_line("Nothing was typed.")?;
    agent_says(&mut vm, &["restarting the machine"])?;
    vm.serial().expect_text("reboot: Restarting system")?;
    vm.pull_plug()?;
    ctx.step("with the disk back, the change is finished");
    is_finished(ctx, &disk)
}

fn no_console(ctx: &mut Context) -> Result<()> {
    // It cannot be heard, but the first program of the root switches the machine off.
    let disk = ctx.take(&off_at_once())?;
    let mut vm = ctx.boot(&disk)?;
    let uuid = System::Tiny.store_uuid();
    let parameters = format!("{OFF} backstay.menu=5 backstay.end");
    boot_recovery_on(&mut vm, uuid, "console=ttyS3", &parameters)?;
    vm.wait_off(Duration::from_secs(150))?;
    let heard = vm.serial().lines_with("backstay: ");
    ctx.check(heard.is_empty(), || format!("it was heard: {heard:?}"))?;
    ctx.expect_store(&disk, &untouched())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_the_same_every_time_and_starts_nothing_by_itself() {
        let bytes = random_bytes(1, 64 << 10);
        assert_eq!(bytes.len(), 64 << 10);
        assert_eq!(bytes, random_bytes(1, 64 << 10));
        let mut lines = bytes.split(|byte| matches!(byte, b'\r' | b'\n'));
        let leaves = ["q", "quit", "exit", "boot", "reboot", "poweroff"];
        assert!(!lines.any(|line| leaves.iter().any(|word| line.ends_with(word.as_bytes()))));
    }

    #[test]
    fn a_garbled_line_holds_what_no_key_sends_and_all_that_was_typed() {
        let mut random = Random::new(9600);
        for line in ["list", "rollback 2", "ROLLBACK"] {
            let garbled = garbled(&mut random, line);
            let typed: Vec<u8> = garbled.iter().copied().filter(u8::is_ascii).collect();
            assert_eq!(typed, line.as_bytes());
            assert_eq!(garbled.len(), line.len() + 3);
        }
    }
}
