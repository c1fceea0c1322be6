# A disk with a Debian as its installer leaves it: by the distribution's own tools, and nothing of ours. /dev/disk1 is
# its tarball. Put before this file: CMDLINE; FIRMWARE, bios or uefi; ROOT_NAME, the subvolume of the root; OTHERS,
# 'SUBVOLUME:POINT ...'; OMIT, modules that dracut leaves out; BOOT, apart where /boot is an ext4 of its own;
# PASSPHRASE, of LUKS where the root is encrypted; PORT, the number of its serial port.
first=2048:4095:EF02:bios-boot
[ "$FIRMWARE" = bios ] || first=2048:264191:EF00:esp
sgdisk --clear \
    --new="1:$(echo "$first" | cut -d: -f1,2)" --typecode="1:$(echo "$first" | cut -d: -f3)" \
    --change-name="1:${first##*:}" \
    --new=3:264192:1288191 --typecode=3:8300 --change-name=3:boot \
    --new=2:1288192:0 --typecode=2:8300 --change-name=2:root \
    --partition-guid="2:$PARTITION_UUID" /dev/disk0
name-disks
disk=$(readlink -f /dev/disk0)
if [ -n "$PASSPHRASE" ]; then
    # The installer's choices, but for the time that a key takes: it is chosen for this machine, and would be too long
    # for an emulated one.
    printf %s "$PASSPHRASE" | cryptsetup luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 \
        --pbkdf-force-iterations 1000 --uuid "$LUKS_UUID" --key-file - "$(readlink -f /dev/disk0p2)"
fi
open_root
partition=$ROOT_DEVICE
mkfs.btrfs --quiet --uuid "$STORE_UUID" "$partition"
# What udev makes: grub-mkconfig writes root=UUID= only where this is.
mkdir -p /dev/disk/by-uuid
ln -s "$partition" "/dev/disk/by-uuid/$STORE_UUID"

mount -o noatime "$partition" /mnt
for name in "$ROOT_NAME" $(for other in $OTHERS; do echo "${other%%:*}"; done); do
    btrfs subvolume create "/mnt/$name"
done
umount /mnt
root=/mnt
mount -o "noatime,subvol=$ROOT_NAME" "$partition" $root
echo "UUID=$STORE_UUID / btrfs defaults,subvol=$ROOT_NAME 0 0" > /fstab
for other in $OTHERS; do
    mkdir -p "$root${other#*:}"
    mount -o "noatime,subvol=${other%%:*}" "$partition" "$root${other#*:}"
    echo "UUID=$STORE_UUID ${other#*:} btrfs defaults,subvol=${other%%:*} 0 0" >> /fstab
done
if [ "$BOOT" = apart ]; then
    mkfs.ext4 -q -U 570c4000-5702-4000-8000-00000000b007 "$(readlink -f /dev/disk0p3)"
    mkdir -p $root/boot
    mount "$(readlink -f /dev/disk0p3)" $root/boot
    ln -s "$(readlink -f /dev/disk0p3)" /dev/disk/by-uuid/570c4000-5702-4000-8000-00000000b007
    echo 'UUID=570c4000-5702-4000-8000-00000000b007 /boot ext4 defaults 0 2' >> /fstab
fi
if [ "$FIRMWARE" = uefi ]; then
    mkfs.vfat -i 570CE5B0 "$(readlink -f /dev/disk0p1)"
    mkdir -p $root/boot/efi
    mount "$(readlink -f /dev/disk0p1)" $root/boot/efi
    echo 'UUID=570C-E5B0 /boot/efi vfat umask=0077 0 1' >> /fstab
fi
tar -C $root --numeric-owner --xattrs --xattrs-include='*' -xpf /dev/disk1
cp /fstab $root/etc/fstab
if [ -n "$PASSPHRASE" ]; then
    echo "cryptroot UUID=$LUKS_UUID none luks,discard" > $root/etc/crypttab
    ln -s "$(readlink -f /dev/disk0p2)" "/dev/disk/by-uuid/$LUKS_UUID"
fi
echo stock > $root/etc/hostname
printf '127.0.0.1\tlocalhost\n127.0.1.1\tstock\n' > $root/etc/hosts
echo uninitialized > $root/etc/machine-id
echo 'root:backstay' | chroot $root chpasswd
quicken $root

# A machine with a serial line and no screen.
cat >> $root/etc/default/grub <<END
GRUB_TIMEOUT=5
GRUB_CMDLINE_LINUX="$CMDLINE"
GRUB_TERMINAL=serial
GRUB_SERIAL_COMMAND="serial --unit=$PORT --speed=115200"
END
in_root() {
    chroot $root env PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}
for dir in dev proc sys run; do mount --rbind "/$dir" "$root/$dir"; done
if [ "$FIRMWARE" = uefi ]; then
    # As Debian's installer where it is told to install to the removable media path, too: a new machine knows no other.
    in_root sh -c 'echo grub-efi-amd64 grub2/force_efi_extra_removable boolean true | debconf-set-selections'
    in_root grub-install --target=x86_64-efi --no-nvram --force-extra-removable
else
    in_root grub-install "$disk"
fi
if [ -n "$OMIT" ]; then
    echo "omit_dracutmodules+=\" $OMIT \"" > $root/etc/dracut.conf.d/omit.conf
    release=$(ls $root/usr/lib/modules)
    in_root dracut --force --kver "$release"
fi
if [ -n "$PASSPHRASE" ]; then
    in_root update-initramfs -u
fi
in_root update-grub
for dir in run sys proc dev; do umount -l "$root/$dir"; done
umount -R /mnt
close_root
