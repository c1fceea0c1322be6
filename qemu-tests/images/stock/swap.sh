# Gives a stock disk a swap partition, in the place of a /boot of its own, and an initramfs that resumes from it: as
# Debian's installer, which names the device to initramfs-tools and not on the kernel command line. ROOT_NAME is put
# before; what comes after makes the initramfs anew.
mount -o "noatime,subvol=$ROOT_NAME" /dev/disk0p2 /mnt
swap=570c4000-5702-4000-8000-0000000005a9
mkswap -U $swap /dev/disk0p3
echo "UUID=$swap none swap sw 0 0" >> /mnt/etc/fstab
echo "RESUME=UUID=$swap" > /mnt/etc/initramfs-tools/conf.d/resume
umount /mnt
