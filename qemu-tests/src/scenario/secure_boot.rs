//! Machines whose firmware starts what is signed alone: Debian's shim, GRUB and kernel, and our initramfs, which nobody
//! signs.

use anyhow::Result;

use super::steps::agent_says;
use super::{Context, Scenario};
use crate::guest::Debian;
use crate::image::Stock;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::debian(
        "stock-debian-secure-boot",
        "Debian by UEFI with Secure Boot: the story of a stock Debian, each kernel by GRUB or kexec with its signature",
        |ctx| super::stock::whole_story(ctx, Stock::SECURE_BOOT),
    )
    .usually(900)
    .within(super::stock::LONG),
    Scenario::debian(
        "secure-boot-unsigned-kernel",
        "a kernel without a signature is refused by GRUB and by kexec: the recovery kernel starts the system; doctor \
         finds a recovery kernel without one",
        unsigned,
    )
    .usually(900)
    .within(super::stock::LONG),
];

/// The firmware's variable (UEFI, section 3.3).
const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Ends the story unless the firmware has started what is signed alone, and has told the kernel so.
pub(super) fn is_enforced(ctx: &Context, debian: &mut Debian<'_>) -> Result<()> {
    let said = debian.run(&format!(
        "od -An -tu1 -j4 {SECURE_BOOT}; cat /sys/kernel/security/lockdown"
    ))?;
    let wanted = "   1\nnone [integrity] confidentiality\n";
    ctx.check(said.output == wanted, || {
        format!("Secure Boot is not enforced: {said:?}")
    })
}

/// Takes the signature off a kernel: the place of the certificates in the header of a PE32+ image becomes zeros.
fn without_signature(image: &str) -> String {
    format!(
        "image=$(readlink -f {image}) && at=$(od -An -tu4 -j60 -N4 $image) && \
         dd if=/dev/zero of=$image bs=1 seek=$((at + 168)) count=8 conv=notrunc status=none && sync"
    )
}

fn unsigned(ctx: &mut Context) -> Result<()> {
    let stock = Stock::SECURE_BOOT;
    let mut vm = super::stock::start(ctx, stock)?;
    let mut debian = vm.debian()?;
    super::stock::set_up(ctx, stock, &mut debian)?;
    debian.succeed("backstay snapshot --title signed")?;
    debian.succeed(&without_signature("/vmlinuz"))?;
    debian.restart()?;
    ctx.step("GRUB refuses the system's own kernel, and the recovery kernel starts it");
    vm.serial().expect_text("bad shim signature")?;
    vm.serial()
        .expect_text("Starting the recovery kernel instead")?;
    let mut debian = vm.debian()?;
    is_enforced(ctx, &mut debian)?;
    debian.succeed("backstay try")?;
    debian.restart()?;
    ctx.step("on trial, it is refused by kexec, too, and by GRUB again");
    agent_says(
        &mut vm,
        &[
            "first the recovery kernel starts itself once, to see whether kexec works",
            "the system's own kernel is not started from here: kexec is not permitted (the image has no signature \
             that this kernel accepts)",
            "restarting, so that the boot menu starts it",
        ],
    )?;
    vm.serial().expect_text("bad shim signature")?;
    agent_says(
        &mut vm,
        &["a restart did not help before: starting with this kernel; hardware may be missing"],
    )?;
    let mut debian = vm.debian()?;
    debian.run("systemctl is-system-running --wait")?;
    ctx.step("a recovery kernel without a signature is found, and not started");
    debian.succeed("backstay recovery install")?;
    let found = debian.run("backstay doctor")?;
    ctx.check(
        found.status == 1 && found.output.contains("signature of the recovery kernel"),
        || format!("doctor says {found:?}"),
    )?;
    debian.succeed("backstay rollback 1")?;
    debian.restart()?;
    // It never came up, so GRUB takes the one before it.
    vm.serial()
        .expect_text("/@backstay/kernels/recovery-previous/vmlinuz")?;
    agent_says(&mut vm, &["done: roll back to snapshot 1"])?;
    let mut debian = vm.debian()?;
    debian.succeed("backstay recovery install")?;
    let found = debian.run("backstay doctor")?;
    ctx.check(found.status == 0, || format!("doctor says {found:?}"))?;
    debian.power_off()
}
