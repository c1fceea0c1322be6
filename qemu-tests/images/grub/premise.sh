# Lays out on a tiny disk what images/grub/premise.cfg looks at, and makes that file GRUB's whole grub.cfg.
mount -o noatime /dev/disk0p2 /mnt
grub=/mnt/@backstay/grub
cp /in/premise.cfg $grub/grub.cfg

# The default subvolume: GRUB must not care.
btrfs subvolume set-default /mnt/@rootfs

mkdir $grub/premise
echo 'echo "premise: small file was executed"' > $grub/premise/small.cfg
printf 'premise_value=before\npremise_other="never closed\necho premise: garbled\n' > $grub/premise/quote.cfg
printf '\001\377\000\033[x ${{ <(|\n}}}\n' > $grub/premise/bytes.cfg
: > $grub/premise/empty.cfg
ln -s /@backstay/grub/premise/small.cfg /mnt/@rootfs/premise-absolute
ln -s ../@backstay/grub/premise/small.cfg /mnt/@rootfs/premise-upward
ln -s nowhere /mnt/@rootfs/premise-dangling

mkdir /mnt/@backstay/premise
for id in 1 2 3 4 5 6 7 8 9 10 11 12 99 100 1000; do
    mkdir /mnt/@backstay/premise/$id
done

grub-editenv $grub/grubenv create
grub-editenv $grub/grubenv set next_entry=premise-stuck
umount /mnt
