# Puts backstay's programs on a disk of layer 1 and makes it a store: /in/backstay and /in/backstay-init are
# the programs, beside them are the units of systemd/; CMDLINE is put before this file.
mount -o noatime /dev/disk0p2 /mnt
root=/mnt/@rootfs
mkdir -p $root/usr/lib/backstay
cp /in/backstay $root/usr/bin/backstay
cp /in/backstay-init $root/usr/lib/backstay/backstay-init
chmod 755 $root/usr/bin/backstay $root/usr/lib/backstay/backstay-init
if [ -d $root/usr/lib/systemd/system ]; then
    cp /in/backstay-*.service $root/usr/lib/systemd/system/
    wants=$root/etc/systemd/system
    mkdir -p $wants/multi-user.target.wants $wants/emergency.target.wants
    ln -s /usr/lib/systemd/system/backstay-mark-good.service $wants/multi-user.target.wants/
    ln -s /usr/lib/systemd/system/backstay-start-failed.service $wants/emergency.target.wants/
fi
our_initramfs "$(ls $root/usr/lib/modules)"
admin init --cmdline "$CMDLINE"
admin factory seal
umount /mnt
