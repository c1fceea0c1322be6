# A disk with a whole Debian. /dev/disk1 is its tarball.
make_store
root=/mnt/@rootfs
tar -C $root --numeric-owner --xattrs --xattrs-include='*' -xpf /dev/disk1
rm -rf $root/var/cache/apt/* $root/var/lib/apt/lists/* $root/var/log/*.log $root/boot/grub

printf 'IMAGE_ID=appliance\nIMAGE_VERSION=0\n' >> $root/usr/lib/os-release
fill_datasets
link_kernel

echo appliance > $root/etc/hostname
printf '127.0.0.1\tlocalhost\n127.0.1.1\tappliance\n' > $root/etc/hosts
# A new machine: its identity is made when it first starts.
echo uninitialized > $root/etc/machine-id
rm -f $root/var/lib/dbus/machine-id $root/var/lib/systemd/random-seed $root/etc/ssh/ssh_host_*
echo 'root:backstay' | chroot $root chpasswd

# What a test machine waits for in vain or does not need; each costs a second or more under emulation.
for unit in systemd-firstboot.service systemd-networkd-wait-online.service systemd-timesyncd.service \
    systemd-udev-settle.service systemd-binfmt.service systemd-pcrphase.service \
    systemd-tpm2-setup.service systemd-tpm2-setup-early.service systemd-udev-load-credentials.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer grub-common.service grub-initrd-fallback.service getty@tty1.service \
    modprobe@configfs.service modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    sys-kernel-config.mount sys-fs-fuse-connections.mount; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
# Nothing is to be rebuilt because /usr is newer than this system's caches: they were made with it.
touch $root/etc/.updated $root/var/.updated
# A line that a program reads: no escape sequences around each command, a prompt that is known.
echo 'set enable-bracketed-paste off' >> $root/etc/inputrc
echo "PS1='root@\h:\w# '" >> $root/root/.bashrc
rm -f $root/vmlinuz* $root/initrd.img*

# GRUB of this Debian, by its own program. Its packages are told not to write anywhere else.
for dir in dev proc sys mnt; do mount --rbind "/$dir" "$root/$dir"; done
grub_install chroot $root
for dir in mnt sys proc dev; do umount -l "$root/$dir"; done
umount /mnt
