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

quicken $root
rm -f $root/vmlinuz* $root/initrd.img*

# GRUB of this Debian, by its own program. Its packages are told not to write anywhere else.
for dir in dev proc sys mnt; do mount --rbind "/$dir" "$root/$dir"; done
grub_install chroot $root
for dir in mnt sys proc dev; do umount -l "$root/$dir"; done
umount /mnt
