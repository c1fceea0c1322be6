# Sets backstay up on a stock disk from inside of it, as README says. ROOT_NAME is put before.
open_root
mount -o "noatime,subvol=$ROOT_NAME" "$ROOT_DEVICE" /mnt
mkdir -p /dev/disk/by-uuid
for uuid in $(sed -n 's/^UUID=\([^ ]*\) .*/\1/p' /mnt/etc/fstab | sort -u); do
    ln -sfn "$(blkid -U "$uuid")" "/dev/disk/by-uuid/$uuid"
done
for dir in dev proc sys run; do mount --rbind "/$dir" "/mnt/$dir"; done
in_root() {
    chroot /mnt env PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}
in_root mount -a
cp /in/backstay.deb /mnt/root/
in_root apt-get install -y /root/backstay.deb
in_root backstay init --yes
in_root backstay snapshot --title 'as installed'
for dir in run sys proc dev; do umount -R -l "/mnt/$dir"; done
umount -R /mnt
close_root
