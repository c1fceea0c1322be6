//! What the design takes for granted about GRUB, asked of the GRUB on the disk, and the static
//! grub.cfg against files that are garbled, missing or too many.
//!
//! All on the tiny disk without backstay's programs: where a scenario wants a recovery kernel, it is
//! the system's own kernel under another name, and what it was given is read from /proc/cmdline.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Context, Scenario};
use crate::grub_menu::{Answer, Menu};
use crate::image::{self, System};
use crate::toolbox::{Disk, Job};
use crate::vm::Vm;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::tiny(
        "grub-does-what-the-menu-rests-on",
        "paths, links, globs, ESC, grubenv, quoting and truncation, as the image's GRUB has them",
        premises,
    )
    .core(),
    Scenario::tiny(
        "grub-menu-lists-snapshots-newest-first",
        "ids of one to four digits, garbled menu.cfg files, and no: the system starts without a verb",
        newest_first,
    ),
    Scenario::tiny(
        "grub-menu-lists-one-hundred-of-many-snapshots",
        "260 snapshots do not break the menu; what is not listed is said",
        many,
    ),
    Scenario::tiny(
        "grub-menu-survives-garbled-files",
        "garbled settings, grubenv and armed.cfg, and no recovery kernel: said, and the system starts",
        garbled,
    ),
    Scenario::tiny(
        "grub-armed-tries-the-recovery-kernel-before",
        "armed, and the recovery kernel is cut short: the one before it is started, without a verb",
        armed,
    ),
    Scenario::tiny(
        "grub-next-entry-stuck-has-no-presence",
        "a reset that grubenv asks for at every boot happens only when somebody presses ESC",
        stuck,
    ),
    Scenario::tiny(
        "grub-locked-entries-do-not-wait-for-an-empty-room",
        "with a password, the system starts unattended though grubenv asks for a rollback; entries ask",
        locked,
    ),
];

const MENU: &str = concat!(
    include_str!("../../../grub-entries/appliance.cfg"),
    include_str!("../../../grub-entries/menu.cfg")
);
const PREMISE: &str = include_str!("../../images/grub/premise.cfg");
const LAY_PREMISE: &str = include_str!("../../images/grub/premise.sh");

/// The question before anything is changed, as grub.cfg asks it.
const QUESTION: &str = "To do this, press ESC";
/// What it says when the answer was no.
const REFUSED: &str = "ESC was not pressed: nothing is changed. Starting the system.";
const TITLE: &str = "Start the system";
/// A submenu of a hundred entries is there within this time, emulated, on a busy machine.
const SUBMENU: Duration = Duration::from_secs(120);

/// Puts the menu on the disk, with settings, before a scenario's own script. The distribution's
/// initramfs stands in for ours.
const LAY_MENU: &str = r#"
mount -o noatime /dev/disk0p2 /mnt
grub=/mnt/@backstay/grub
snapshots=/mnt/@backstay/snapshots
cp /in/grub.cfg $grub/grub.cfg
cat > $grub/backstay.cfg <<END
backstay_uuid="$STORE_UUID"
backstay_live="@rootfs"
backstay_cmdline="console=ttyS0,115200 quiet"
END
ln -sf initrd.img.stock /mnt/@rootfs/boot/initrd.img
mkdir $snapshots
snapshot() {
    mkdir $snapshots/$1
    cat > $snapshots/$1/menu.cfg
}
recovery() {
    mkdir -p /mnt/@backstay/kernels/$1
    cp -L /mnt/@rootfs/boot/vmlinuz /mnt/@backstay/kernels/$1/vmlinuz
    cp -L /mnt/@rootfs/boot/initrd.img.stock /mnt/@backstay/kernels/$1/initrd.img
}
"#;

/// A tiny disk on which `script` was run; `texts` are at `/in`.
fn lay(ctx: &Context, what: &str, script: &str, texts: &[(&str, &str)]) -> Result<PathBuf> {
    let disk = ctx.copy_disk(&image::tiny_layer1()?.path, "disk.raw")?;
    ctx.step(what);
    let uuid = System::Tiny.store_uuid();
    let job = Job::new(what, format!("STORE_UUID={uuid}\n{script}")).disk(Disk::read_write(&disk));
    let job = texts
        .iter()
        .fold(job, |job, (name, text)| job.text(*name, *text));
    job.run()?;
    Ok(disk)
}

/// A machine whose disk has the menu and what `script` adds.
fn with_menu(ctx: &Context, what: &str, script: &str) -> Result<Vm> {
    let script = format!("{LAY_MENU}\n{script}\numount /mnt");
    let disk = lay(ctx, what, &script, &[("grub.cfg", MENU)])?;
    ctx.boot(&disk)
}

/// The command line of the tiny system, once it is up; the machine is switched off afterwards.
fn command_line(mut vm: Vm) -> Result<String> {
    let line = vm.tiny()?.succeed("cat /proc/cmdline")?;
    vm.pull_plug()?;
    Ok(line.trim().to_owned())
}

/// Waits until the menu highlights `title`.
fn shown(vm: &mut Vm, title: &str) -> Result<()> {
    let wanted = |menu: &Menu| menu.current() == title;
    vm.serial()
        .watch(SUBMENU, |console| {
            Menu::read(console.screen()).filter(wanted)
        })
        .map(drop)
        .with_context(|| format!("GRUB does not highlight {title:?}"))
}

/// Ends the story unless the system's own kernel was started and given nothing of backstay's.
fn plain_boot(ctx: &Context, line: &str) -> Result<()> {
    let plain = line.contains("/@rootfs/boot/vmlinuz") && !line.contains("backstay.");
    ctx.check(plain, || format!("this is not the plain boot: {line}"))
}

fn premises(ctx: &mut Context) -> Result<()> {
    let pad = "p".repeat(900);
    let cfg = PREMISE
        .replace("PAD", &pad)
        .replace("LONG", &"q".repeat(1000));
    let what = "lay out what the premises are about";
    let disk = lay(ctx, what, LAY_PREMISE, &[("premise.cfg", &cfg)])?;
    let mut vm = ctx.boot(&disk)?;
    let serial = vm.serial();
    serial.forbid("premise: wrong");
    let uuid = format!("premise: uuid {}", System::Tiny.store_uuid());
    serial.expect_lines(&[
        "premise: prefix (hd0,gpt2)/@backstay/grub root hd0,gpt2",
        &uuid,
        "premise: relative link leads to the kernel",
        "premise: small file was executed",
        "premise: -f takes a dangling link for a file",
    ])?;
    let is_glob = |line: &str| line.starts_with("premise: glob ");
    let listed = serial.expect_where("the names of a directory", is_glob)?;
    hash_order(ctx, listed.trim_start_matches("premise: glob "))?;
    serial.expect_lines(&[
        "premise: leaves 22 21 12 11",
        "premise: after an open quote before unset",
        "premise: garbled, empty and missing files do not stop a script",
        "premise: next_entry premise-stuck",
    ])?;
    serial.expect_text("sparse file not allowed")?;
    serial.expect_lines(&[
        "premise: the script goes on",
        "premise: no key",
        "premise: time over",
    ])?;
    for (asked, key, heard) in [
        (
            "premise: letter please",
            b"x".as_slice(),
            "premise: letter is not ESC",
        ),
        (
            "premise: arrow please",
            b"\x1b[B",
            "premise: arrow is not ESC",
        ),
        ("premise: ESC please", b"\x1b", "premise: ESC"),
    ] {
        serial.expect_line(asked)?;
        serial.send(key)?;
        serial.expect_line(heard)?;
    }
    let line = command_line(vm)?;
    for kept in [
        " premise.split=1 premise.words=2 \"premise.blank=a b\" premise.marks=a\\\"b\\\\c premise.pad=p",
        &format!("={pad}"),
    ] {
        ctx.check(line.contains(kept), || format!("{kept:?} is not in {line}"))?;
    }
    // The second padding would have made more than 2048 bytes: it went, and so did what followed it.
    ctx.check(
        line.ends_with(&pad) && !line.contains("premise.long"),
        || format!("the trailing arguments were not dropped: {line}"),
    )
}

/// All names are there, and in no useful order: the menu has to sort them itself.
fn hash_order(ctx: &Context, listed: &str) -> Result<()> {
    let numbers: std::result::Result<Vec<u32>, _> =
        listed.split_whitespace().map(str::parse).collect();
    let listed = numbers.with_context(|| format!("{listed:?} are not ids"))?;
    let mut sorted = listed.clone();
    sorted.sort_unstable();
    let all = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 99, 100, 1000];
    ctx.check(sorted == all, || {
        format!("GRUB's glob found {listed:?}, not {all:?}")
    })?;
    let ordered = listed == sorted || listed.iter().rev().eq(&sorted);
    ctx.check(!ordered, || {
        format!("GRUB's glob sorts ({listed:?}): the menu need not do it any more")
    })
}

fn newest_first(ctx: &mut Context) -> Result<()> {
    let mut vm = with_menu(
        ctx,
        "make snapshots, some with a garbled menu.cfg",
        r#"
for id in 7 9 10 99 100 1000; do
    echo "backstay_snapshot_title=\"version $id\"" | snapshot $id
done
mkdir $snapshots/11 $snapshots/0012 $snapshots/other "$snapshots/1 3"
: | snapshot 101
printf 'backstay_snapshot_title="never closed\n' | snapshot 102
printf '\001\377\000 if }{\n' | snapshot 103
printf 'backstay_snapshot_title="\033[2Jcolours"\n' | snapshot 104
printf 'backstay_snapshot_title="no line end"' | snapshot 105
"#,
    )?;
    vm.grub().choose(&["Snapshots (boot once)"])?;
    shown(&mut vm, "Snapshot 1000: version 1000")?;
    let titles = vm.grub().titles()?;
    let wanted = [
        "Snapshot 1000: version 1000",
        "Snapshot 105: no line end",
        "Snapshot 104",
        "Snapshot 103",
        "Snapshot 102",
        "Snapshot 100: version 100",
        "Snapshot 99: version 99",
        "Snapshot 10: version 10",
        "Snapshot 9: version 9",
        "Snapshot 7: version 7",
    ];
    ctx.check(titles == wanted, || format!("the menu lists {titles:?}"))?;
    vm.grub().choose(&["Snapshot 99: version 99"])?;
    vm.grub().answer(QUESTION, Answer::OtherKey)?;
    vm.serial().expect_line(REFUSED)?;
    plain_boot(ctx, &command_line(vm)?)
}

fn many(ctx: &mut Context) -> Result<()> {
    let mut vm = with_menu(
        ctx,
        "make 260 snapshots",
        r#"for id in $(seq 41 300); do echo "backstay_snapshot_title=\"v$id\"" | snapshot $id; done"#,
    )?;
    vm.grub().choose(&["Snapshots (boot once)"])?;
    shown(&mut vm, "Snapshot 300: v300")?;
    ctx.step("press End");
    vm.serial().send(b"\x1b[F")?;
    shown(
        &mut vm,
        "Only the newest 100 are listed. Older ones: Recovery menu",
    )?;
    vm.grub().choose(&["Snapshot 201: v201"])?;
    vm.grub().answer(QUESTION, Answer::Nothing)?;
    vm.serial().expect_line(REFUSED)?;
    plain_boot(ctx, &command_line(vm)?)
}

fn garbled(ctx: &mut Context) -> Result<()> {
    let mut vm = with_menu(
        ctx,
        "garble every file that the menu reads",
        r#"
mkdir -p /mnt/@backstay/armed
printf 'backstay_cmdline="never closed\nbackstay_timeout=77\n' > $grub/backstay.cfg
printf '\001\377\000\033[x ${{ <(|\n}}}\nif true; then\n"' > /mnt/@backstay/armed/armed.cfg
printf '\377%.0s' $(seq 1024) > $grub/grubenv
"#,
    )?;
    let titles = vm.grub().titles()?;
    let wanted = [
        "Continue what was requested",
        TITLE,
        "Snapshots (boot once)",
        "Roll back to the version before",
        "Factory reset",
        "Recovery menu",
        "Recovery menu, by the recovery kernel before",
        "Note: backstay.cfg is garbled; defaults are used.",
    ];
    ctx.check(titles == wanted, || format!("the menu lists {titles:?}"))?;
    vm.grub().choose(&["Continue what was requested"])?;
    vm.serial().expect_lines(&[
        "Note: backstay.cfg is garbled; defaults are used.",
        "No recovery kernel on this disk loads.",
        "Starting the system without it. What was asked for waits, and is not lost.",
    ])?;
    let line = command_line(vm)?;
    let default = " rootflags=subvol=@rootfs ro console=tty0 console=ttyS0,115200";
    ctx.check(line.ends_with(default), || {
        format!("the settings are not the defaults: {line}")
    })?;
    plain_boot(ctx, &line)
}

fn armed(ctx: &mut Context) -> Result<()> {
    let mut vm = with_menu(
        ctx,
        "arm, and cut the recovery kernel short",
        r#"
recovery recovery
recovery recovery-previous
truncate -s 5000 /mnt/@backstay/kernels/recovery/vmlinuz
mkdir -p /mnt/@backstay/armed
echo 'backstay_armed=1
backstay_armed_why="rollback to 12"' > /mnt/@backstay/armed/armed.cfg
"#,
    )?;
    let current = vm.grub().wait()?.current().to_owned();
    ctx.check(current == "Continue: rollback to 12", || {
        format!("GRUB would start {current:?}")
    })?;
    ctx.step("leave the menu alone");
    vm.serial().expect_lines(&[
        "The recovery kernel is missing or does not load; trying the one before it.",
        "Loading (hd0,gpt2)/@backstay/kernels/recovery-previous/vmlinuz",
    ])?;
    let line = command_line(vm)?;
    let kernel = line.contains("/@backstay/kernels/recovery-previous/vmlinuz ");
    ctx.check(kernel && !line.contains("backstay."), || {
        format!("not the kernel before, or with a verb: {line}")
    })
}

fn stuck(ctx: &mut Context) -> Result<()> {
    let script = r#"
recovery recovery
grub-editenv $grub/grubenv create
grub-editenv $grub/grubenv set next_entry=backstay-reset-config-data
"#;
    let mut vm = with_menu(ctx, "let grubenv ask for a reset at every boot", script)?;
    let current = vm.grub().wait()?.current().to_owned();
    ctx.check(current == "Factory reset", || {
        format!("GRUB would start {current:?}")
    })?;
    vm.grub().answer(QUESTION, Answer::Nothing)?;
    vm.serial().expect_line(REFUSED)?;
    let mut tiny = vm.tiny()?;
    let line = tiny.succeed("cat /proc/cmdline")?;
    plain_boot(ctx, line.trim())?;
    tiny.restart()?;
    ctx.step("leave the menu alone once more, and then press ESC");
    vm.grub().answer(QUESTION, Answer::Esc)?;
    let line = command_line(vm)?;
    let verb = " backstay.reset=config,data backstay.present backstay.end";
    ctx.check(line.ends_with(verb), || {
        format!("the recovery kernel was not given the verb: {line}")
    })
}

fn locked(ctx: &mut Context) -> Result<()> {
    let script = r#"
recovery recovery
printf 'set superusers="operator"\npassword operator secret\n' >> $grub/backstay.cfg
grub-editenv $grub/grubenv create
grub-editenv $grub/grubenv set next_entry=backstay-rollback
"#;
    let mut vm = with_menu(
        ctx,
        "lock the menu, and ask for a rollback by grubenv",
        script,
    )?;
    let current = vm.grub().wait()?.current().to_owned();
    ctx.check(current == TITLE, || format!("GRUB would start {current:?}"))?;
    ctx.step("leave the menu alone");
    let mut tiny = vm.tiny()?;
    let line = tiny.succeed("cat /proc/cmdline")?;
    plain_boot(ctx, line.trim())?;
    tiny.restart()?;
    vm.grub().choose(&["Factory reset"])?;
    vm.serial().expect_text("Enter username:")?;
    vm.serial().send(b"operator\r")?;
    vm.serial().expect_text("Enter password:")?;
    vm.serial().send(b"secret\r")?;
    shown(&mut vm, "Reset the configuration")?;
    vm.grub().choose(&["Reset the configuration"])?;
    vm.grub().answer(QUESTION, Answer::Esc)?;
    let line = command_line(vm)?;
    let verb = " backstay.reset=config backstay.present backstay.end";
    ctx.check(line.ends_with(verb), || {
        format!("the recovery kernel was not given the verb: {line}")
    })
}
