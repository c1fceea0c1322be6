//! The default tarball: what a reset or a first boot does where the factory snapshot is lost.

use anyhow::{Context as _, Result};

use super::steps::{
    THREE_VERSIONS, agent_begins, agent_says, boot_recovery_with, choose_and_confirm, menu,
};
use super::store::Store;
use super::{Context, Scenario};
use crate::image::{Fixture, System, alter};
use crate::toolbox::{Disk, Job};
use crate::vm::{Drive, VmConfig};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::debian(
        "factory-missing-tarball-injected",
        "the real Debian's factory snapshot is gone: a reset makes it from the tarball, up to the login prompt",
        missing,
    )
    .usually(900),
    Scenario::tiny(
        "factory-tampered-tarball-injected",
        "a factory snapshot that was written to is replaced from the tarball and kept aside",
        tampered,
    )
    .core(),
    Scenario::tiny(
        "first-boot-from-tarball",
        "an image without any system starts from its tarball",
        first_boot,
    ),
    Scenario::tiny(
        "tarball-bad-signature-refused",
        "a tarball that was changed, signed by a stranger or not signed is not used; the system starts as it is",
        refused,
    ),
    Scenario::tiny(
        "tarball-from-recovery-partition",
        "the tarball lies on another disk: with FAT, with ext4, an ISO image",
        elsewhere,
    ),
    Scenario::tiny(
        "tarball-disk-full-keeps-old",
        "no room for the tarball's system, said before anything is done; one that lies about its size; the system starts as it is",
        full,
    ),
];

/// Two pairs of keys that minisign made without a password; only the first is trusted.
const KEYS: &str = "
cat > /tmp/vendor.pub <<END
untrusted comment: minisign public key A833F66E1D4B9EDE
RWTenksdbvYzqPWV5mkC1Kjx2oD0ypRB7IdLTQC5aWA8+Mt0zap3qPXe
END
cat > /tmp/vendor.key <<END
untrusted comment: minisign encrypted secret key
RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA3p5LHW72M6jczmYOGNd3bhvpvO8/mYuh8QuYFGw+xf5y3t9KqdGVyfWV5mkC1Kjx2oD0ypRB7IdLTQC5aWA8+Mt0zap3qPXeAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
END
cat > /tmp/stranger.key <<END
untrusted comment: minisign encrypted secret key
RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQsOnG1j/frn87Cz3yXAyiz4fi+pO5vnG8yJEQnQSvKyy5HZnpBEpMl+r4aKXXuipZ4lNiSUziXvsnE7bTKrXFRGXllXaXKlfAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
END
";

/// The live system as version 9, packed and signed as /mnt/nine.tar.zst; the vendor's key goes into the
/// recovery kernel's initramfs.
const PACKED: &str = "
btrfs subvolume snapshot /mnt/@rootfs /mnt/nine
set_version 9 /mnt/nine
mkdir -p /mnt/nine/etc/appliance
echo 9 > /mnt/nine/etc/appliance/version
admin factory pack /mnt/nine --output /mnt/nine.tar.zst --key /tmp/vendor.key
btrfs subvolume delete /mnt/nine
mkdir -p /mnt/@rootfs/etc/backstay/keys
cp /tmp/vendor.pub /mnt/@rootfs/etc/backstay/keys/
admin recovery install
";

/// Makes it the store's default tarball.
const KEPT: &str = "
admin factory keep --from /mnt/nine.tar.zst --key /tmp/vendor.pub
rm /mnt/nine.tar.zst /mnt/nine.tar.zst.minisig
";

/// A recovery kernel whose initramfs cannot be read: what asks it whom to trust names the remedy, and what is
/// told whom to trust goes on, here to an archive that is none.
const UNREAD: &str = "
unread=/mnt/@backstay/kernels/recovery/initrd.img
mv $unread /mnt/whole.img
echo garbage > $unread
admin factory keep --from /mnt/@backstay/factory.tar.zst > /tmp/said 2>&1 && exit 1
grep -q 'backstay recovery install' /tmp/said
admin factory build --replace --from /mnt/@backstay/factory.tar.zst > /tmp/said 2>&1 && exit 1
grep -q 'backstay recovery install' /tmp/said
echo 'no archive' > /mnt/none.tar
admin factory build --replace --unsigned --from /mnt/none.tar > /tmp/said 2>&1 && exit 1
grep -q 'neither a tar archive' /tmp/said
rm /mnt/none.tar
mv /mnt/whole.img $unread
";

/// Writes into the factory snapshot.
const TAMPER: &str = "
factory=/mnt/@backstay/factory/system
btrfs property set -f $factory ro false
echo 2 > $factory/etc/appliance-release
sync
btrfs property set $factory ro true
";

/// Removes the factory snapshot.
const LOSE: &str = "
btrfs subvolume delete /mnt/@backstay/factory/system /mnt/@backstay/factory/config \
    /mnt/@backstay/factory/defaults
rm /mnt/@backstay/factory/manifest
";

const DONE: &str = "done: reset system and configuration to the factory version, keep data";
const MADE: &str = "done: make the factory snapshot from the default tarball";
const DATA: &str = "made_by_the_customer";

fn fixture(system: System, name: &str, parts: &[&str]) -> Fixture {
    Fixture::new(system, name, format!("{KEYS}{}", parts.concat()))
}

/// Three versions, then what these parts do.
fn used(name: &str, parts: &[&str]) -> Fixture {
    fixture(
        System::Tiny,
        name,
        &[&[THREE_VERSIONS, PACKED], parts].concat(),
    )
}

/// What [`THREE_VERSIONS`] leaves, unchanged.
fn unchanged() -> Store {
    Store::live("3", "3-changed", "3")
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"])
}

/// After the factory snapshot was made from the tarball, as 3 the one before it, and reset, as 4 what was
/// live.
fn injected() -> Store {
    Store::live("9", "9", "9")
        .factory(["9", "9", "9"])
        .snapshot(1, ["1", "1", "1"])
        .snapshot(2, ["2", "2", "2"])
        .snapshot(4, ["3", "3-changed", "3"])
}

fn missing(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&fixture(
        System::Debian,
        "factory-missing",
        &[PACKED, KEPT, LOSE],
    ))?;
    let mut vm = ctx.boot(&disk)?;
    choose_and_confirm(&mut vm, &[menu::RESET, menu::RESET_SYSTEM])?;
    agent_begins(&mut vm, "going to reset the system, keep data (confirmed)")?;
    agent_says(
        &mut vm,
        &[
            "the factory snapshot is missing: made from the default tarball first",
            "verifying @backstay/factory.tar.zst",
            "its signature is good: key A833F66E1D4B9EDE",
            MADE,
            DONE,
        ],
    )?;
    let mut debian = vm.debian()?;
    let release = debian.succeed("cat /etc/appliance-release /etc/appliance/version")?;
    ctx.check(release.split_whitespace().eq(["9", "9"]), || {
        format!("not version 9 is running but {release}")
    })?;
    // What a wrong extraction would break first.
    debian.succeed("systemctl is-system-running --wait || systemctl --failed --no-legend")?;
    debian.succeed("su -s /bin/sh nobody -c true && test -u /usr/bin/su")?;
    debian.power_off()?;
    Ok(())
}

fn tampered(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&used("tarball-kept-tampered", &[KEPT, UNREAD, TAMPER]))?;
    let mut vm = ctx.boot(&disk)?;
    choose_and_confirm(&mut vm, &[menu::RESET, menu::RESET_SYSTEM])?;
    agent_says(
        &mut vm,
        &[
            "the factory snapshot is DAMAGED (changed since it was sealed): made from the \
             default tarball first",
            "its signature is good: key A833F66E1D4B9EDE",
            MADE,
            DONE,
        ],
    )?;
    let tiny = vm.tiny()?;
    tiny.expect("9", "9", DATA)?;
    tiny.power_off()?;
    ctx.expect_store(&disk, &injected().former_factory(3, ["2", "1", "1"]))?;
    Ok(())
}

fn first_boot(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&fixture(
        System::Tiny,
        "first-boot-from-tarball",
        &[
            PACKED,
            KEPT,
            "rm /mnt/@data/content
             admin factory seal --first-boot",
            LOSE,
        ],
    ))?;
    let mut vm = ctx.boot(&disk)?;
    agent_says(
        &mut vm,
        &[
            "the factory snapshot is missing: made from the default tarball first",
            MADE,
            "done: first boot: start the factory version",
        ],
    )?;
    let tiny = vm.tiny()?;
    tiny.expect("9", "9", "-")?;
    tiny.restart()?;
    let tiny = vm.tiny()?;
    tiny.expect("9", "9", "-")?;
    tiny.power_off()?;
    let wanted = Store::live("9", "9", "9")
        .factory(["9", "9", "9"])
        .data(None);
    ctx.expect_store(&disk, &wanted)?;
    Ok(())
}

fn refused(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&used("tarball-kept-tampered", &[KEPT, UNREAD, TAMPER]))?;
    let tarball = "/mnt/@backstay/factory.tar.zst";
    let resigned = format!(
        "{KEYS}\n/in/backstay --root /mnt factory pack /mnt/@backstay/grub \
                            --output /mnt/other.tar.zst --key /tmp/stranger.key\n\
                            mv /mnt/other.tar.zst {tarball}; mv /mnt/other.tar.zst.minisig {tarball}.minisig"
    );
    for (change, says) in [
        (
            // One bit in its middle.
            format!(
                "size=$(stat -c %s {tarball})
                 byte=$(dd if={tarball} bs=1 skip=$((size / 2)) count=1 2>/dev/null | od -An -tu1)
                 printf \"\\\\$(printf %03o $((byte ^ 1)))\" |
                     dd of={tarball} bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null"
            ),
            "does not match (key A833F66E1D4B9EDE)",
        ),
        (resigned, "which is not trusted here"),
        (format!("rm {tarball}.minisig"), "has no signature"),
    ] {
        ctx.step(format!("the tarball is changed: {says}"));
        alter(&disk, &change)?;
        let mut vm = ctx.boot(&disk)?;
        choose_and_confirm(&mut vm, &[menu::RESET, menu::RESET_SYSTEM])?;
        vm.serial().expect_text(says)?;
        let tiny = vm.tiny()?;
        tiny.expect("3", "3-changed", DATA)?;
        tiny.power_off()?;
        let mut wanted = unchanged();
        wanted = wanted.factory(["2", "1", "1"]);
        ctx.expect_store(&disk, &wanted)?;
    }
    Ok(())
}

fn elsewhere(ctx: &mut Context) -> Result<()> {
    // /tarball is what goes onto the disk.
    let copied = |mkfs: &str| {
        format!(
            "{mkfs} /dev/disk1
             mkdir /other && mount /dev/disk1 /other
             cp /tarball/* /other
             umount /other"
        )
    };
    let iso = "xorrisofs -quiet -R -V RECOVERY -o /recovery.iso /tarball
               cat /recovery.iso > /dev/disk1";
    for (fs, make) in [
        ("FAT", copied("mkfs.vfat -n RECOVERY")),
        ("ext4", copied("mkfs.ext4 -q -L RECOVERY")),
        ("ISO 9660", iso.to_owned()),
    ] {
        ctx.step(format!("the tarball lies on a disk with {fs}"));
        let disk = ctx.take(&used("tarball-beside", &[TAMPER]))?;
        let other = ctx.directory().join("recovery.raw");
        std::fs::File::create(&other)
            .and_then(|file| file.set_len(256 << 20))
            .context("make the second disk")?;
        Job::new(
            "putting the tarball on a second disk",
            format!(
                "mkdir /tarball && mount /dev/disk0p2 /mnt
                 cp /mnt/nine.tar.zst /tarball/factory.tar.zst
                 cp /mnt/nine.tar.zst.minisig /tarball/factory.tar.zst.minisig
                 rm /mnt/nine.tar.zst /mnt/nine.tar.zst.minisig
                 umount /mnt
                 {make}"
            ),
        )
        .disk(Disk::read_write(&disk))
        .disk(Disk::read_write(&other))
        .run()?;
        let config = VmConfig::disk(ctx.accel(), &disk, ctx.transcript());
        let mut vm = ctx.start(config.with_drive(Drive::readonly(&other)))?;
        boot_recovery_with(
            &mut vm,
            System::Tiny,
            "backstay.reset=system backstay.present \
             backstay.tarball=LABEL=RECOVERY:/factory.tar.zst backstay.end",
        )?;
        agent_says(
            &mut vm,
            &[
                "looking for the default tarball on LABEL=RECOVERY",
                "its signature is good: key A833F66E1D4B9EDE",
                MADE,
                DONE,
            ],
        )?;
        let tiny = vm.tiny()?;
        tiny.expect("9", "9", DATA)?;
        tiny.power_off()?;
        ctx.expect_store(&disk, &injected().former_factory(3, ["2", "1", "1"]))?;
    }
    Ok(())
}

/// Leaves this many MiB free.
fn fill(left: u32) -> String {
    format!(
        "
sync
free=$(df --output=avail -B1M /mnt | tail -1)
head -c $((free - {left}))M /dev/zero > /mnt/@data/filling
sync
"
    )
}

/// A tarball of 300 MB in the place of the store's, whose signed comment states a thousand bytes.
const LIES: &str = "
rm /mnt/@data/filling
btrfs subvolume snapshot /mnt/@rootfs /mnt/lies
head -c 300M /dev/zero > /mnt/lies/large
admin factory pack /mnt/lies --output /mnt/@backstay/factory.tar.zst
minisign -S -s /tmp/vendor.key -t 'bytes=1000 entries=10' -m /mnt/@backstay/factory.tar.zst
btrfs subvolume delete --commit-after /mnt/lies
btrfs subvolume sync /mnt
df -m /mnt
";

fn full(ctx: &mut Context) -> Result<()> {
    let disk = ctx.take(&used("tarball-disk-full", &[KEPT, TAMPER, &fill(40)]))?;
    let wanted = unchanged().factory(["2", "1", "1"]);
    for (how, change, says) in [
        ("states its size", "", "MB are free: remove something"),
        (
            "lies about its size",
            &*format!("{KEYS}{LIES}{}", fill(200)),
            "free some space and try again",
        ),
    ] {
        ctx.step(format!("there is no room for a tarball that {how}"));
        if !change.is_empty() {
            alter(&disk, change)?;
        }
        let mut vm = ctx.boot(&disk)?;
        choose_and_confirm(&mut vm, &[menu::RESET, menu::RESET_SYSTEM])?;
        vm.serial().expect_text(says)?;
        let tiny = vm.tiny()?;
        tiny.expect("3", "3-changed", DATA)?;
        tiny.power_off()?;
        ctx.expect_store(&disk, &wanted)?;
    }
    Ok(())
}
