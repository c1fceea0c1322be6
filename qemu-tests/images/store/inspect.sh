# Prints all that is on the store of /dev/disk0, for image/inspect.rs. The disk is a scratch copy: replaying
# the log tree here changes nothing. TREES is put before this file: what is listed file by file.
store=/dev/disk0p2
section() { printf '\0section %s\0' "$1"; }

section superblock
btrfs inspect-internal dump-super $store
if ! btrfs inspect-internal dump-super $store | grep -q '^log_root[[:blank:]]*0$'; then
    mount -o noatime $store /mnt
    umount /mnt
fi
section roots
btrfs inspect-internal dump-tree -t root $store
mount -o ro $store /mnt
section paths
btrfs subvolume list -a -p /mnt
cd /mnt
present=$(for tree in $TREES; do if [ -e "$tree" ] || [ -L "$tree" ]; then echo "$tree"; fi; done)
section files
[ -z "$present" ] || find $present -printf '%y\t%m\t%U\t%G\t%s\t%p\t%l\0'
section digests
[ -z "$present" ] || find $present -type f -print0 | xargs -0 -r sha256sum -z
section attributes
# The ballast is nothing but attributes, 16 MiB of them.
[ -z "$present" ] || find $present -path '*@backstay/ballast/*' -prune -o -print0 |
    xargs -0 -r getfattr --no-dereference --absolute-names --dump --match=- --encoding=hex
cd /
umount /mnt
