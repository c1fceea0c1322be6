# Puts the package on a stock disk, as a file that an administrator has copied there. ROOT_NAME is put before.
open_root
mount -o "noatime,subvol=$ROOT_NAME" "$ROOT_DEVICE" /mnt
cp /in/backstay.deb /mnt/root/backstay.deb
umount /mnt
close_root
