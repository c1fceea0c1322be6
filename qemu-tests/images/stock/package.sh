# Puts the package on a stock disk, as a file that an administrator has copied there. ROOT_NAME is put before.
mount -o "noatime,subvol=$ROOT_NAME" /dev/disk0p2 /mnt
cp /in/backstay.deb /mnt/root/backstay.deb
umount /mnt
