//! The harness tried on itself: it must notice a line, a silence, and a guest that ends.
//!
//! The guests are boot sectors of a few bytes, so these take seconds and need no image.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{Context, Scenario};
use crate::image;
use crate::serial::{Instead, Unmet};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::plain(
        "harness-hears-and-types",
        "a guest's line is heard and answered",
        hears,
    )
    .core(),
    Scenario::plain(
        "harness-names-a-silence",
        "a guest that hangs is given up by name",
        silence,
    )
    .core(),
    Scenario::plain(
        "harness-notices-the-end",
        "a guest that ends is no silence",
        notices_the_end,
    ),
    Scenario::tiny(
        "harness-boots-a-tiny-disk",
        "the small disk without backstay boots through its GRUB, takes a command, restarts, powers off",
        boots_tiny,
    ),
    Scenario::debian(
        "harness-boots-a-debian-disk",
        "the Debian disk without backstay boots through its GRUB to its login prompt",
        boots_debian,
    ),
];

/// 16-bit code that writes `HELLO`, a carriage return and a line feed to COM1, waits for a key,
/// writes it and a line feed, and then runs `last`.
fn boot_sector(last: &[u8]) -> Vec<u8> {
    let mut code = vec![0xba, 0xf8, 0x03]; // mov dx, 3f8h
    for byte in b"HELLO\r\n" {
        code.extend([0xb0, *byte, 0xee]); // mov al, byte; out dx, al
    }
    code.extend([
        0xba, 0xfd, 0x03, // mov dx, 3fdh (line status)
        0xec, 0xa8, 0x01, // in al, dx; test al, 1
        0x74, 0xfb, // jz back to in
        0xba, 0xf8, 0x03, // mov dx, 3f8h
        0xec, 0xee, // in al, dx; out dx, al
        0xb0, b'\n', 0xee, // mov al, lf; out dx, al
    ]);
    code.extend(last);
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    code
}

/// cli; hlt
const HANG: &[u8] = &[0xfa, 0xf4];
/// mov ax, 0; mov dx, 501h; out dx, al: QEMU's isa-debug-exit device ends with status 1.
const END: &[u8] = &[0xb0, 0x00, 0xba, 0x01, 0x05, 0xee, 0xfa, 0xf4];

fn disk(ctx: &Context, last: &[u8]) -> Result<PathBuf> {
    let path = ctx.directory().join("disk.raw");
    fs::write(&path, boot_sector(last)).context("write the boot sector")?;
    // A BIOS reads the disk by cylinders: one of them.
    fs::File::options()
        .write(true)
        .open(&path)?
        .set_len(1 << 20)?;
    Ok(path)
}

fn hears(ctx: &mut Context) -> Result<()> {
    let disk = disk(ctx, HANG)?;
    let mut vm = ctx.boot(&disk)?;
    vm.serial().expect_line("HELLO")?;
    ctx.step("press y");
    vm.serial().send(b"y")?;
    vm.serial().expect_line("y")?;
    vm.pull_plug()
}

fn silence(ctx: &mut Context) -> Result<()> {
    let disk = disk(ctx, HANG)?;
    let mut vm = ctx.boot(&disk)?;
    vm.serial().expect_line("HELLO")?;
    vm.serial().set_patience(Duration::from_secs(2));
    match unmet(vm.serial().expect_line("never said"))? {
        Instead::Nothing(time) if time >= Duration::from_secs(2) => Ok(()),
        other => bail!("a silence was taken for {other:?}"),
    }
}

fn notices_the_end(ctx: &mut Context) -> Result<()> {
    let disk = disk(ctx, END)?;
    let mut config = crate::vm::VmConfig::disk(ctx.accel(), disk, ctx.transcript());
    config.extra = vec![
        "-device".into(),
        "isa-debug-exit,iobase=0x501,iosize=1".into(),
    ];
    let mut vm = ctx.start(config)?;
    vm.serial().expect_line("HELLO")?;
    vm.serial().send(b"q")?;
    match unmet(vm.serial().expect_line("never said"))? {
        Instead::GuestEnded => {}
        other => bail!("the end of the guest was taken for {other:?}"),
    }
    match vm.wait_off(Duration::from_secs(10)) {
        Err(error) if error.to_string().contains("exit status: 1") => Ok(()),
        other => bail!("QEMU's exit status 1 was taken for {other:?}"),
    }
}

fn boots_tiny(ctx: &mut Context) -> Result<()> {
    let disk = ctx.copy_disk(&image::tiny_layer1()?.path, "disk.raw")?;
    let mut vm = ctx.boot(&disk)?;
    let menu = vm.grub().wait()?;
    vm.grub().choose(&[menu.current()])?;
    let mut tiny = vm.tiny()?;
    tiny.expect("1", "1", "made_by_the_customer")?;
    let release = tiny.succeed("uname -r")?;
    ctx.check(release.trim() == tiny.said().kernel, || {
        format!("uname -r says {release}")
    })?;
    ctx.check(tiny.run("false")?.status == 1, || {
        "false succeeded".to_owned()
    })?;
    tiny.restart()?;
    vm.grub().wait()?;
    vm.tiny()?.power_off()
}

fn boots_debian(ctx: &mut Context) -> Result<()> {
    let disk = ctx.copy_disk(&image::debian_layer1()?.path, "disk.raw")?;
    let mut vm = ctx.boot(&disk)?;
    let mut debian = vm.debian()?;
    let up = debian.run("systemctl is-system-running --wait")?;
    ctx.check(up.output.trim() == "running", || {
        format!("systemd says {}", up.output)
    })?;
    debian.power_off()
}

fn unmet(result: Result<()>) -> Result<Instead> {
    match result {
        Ok(()) => bail!("a line was heard that nobody said"),
        Err(error) => Ok(error.downcast::<Unmet>()?.instead),
    }
}
