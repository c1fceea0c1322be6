# The device of the root's file system on a stock disk, in ROOT_DEVICE; unlocked where PASSPHRASE is set.
LUKS_UUID=570c4000-5702-4000-8000-00000000c0de
open_root() {
    ROOT_DEVICE=$(readlink -f /dev/disk0p2)
    if [ -n "$PASSPHRASE" ]; then
        printf %s "$PASSPHRASE" | cryptsetup open --key-file - "$ROOT_DEVICE" cryptroot
        ROOT_DEVICE=/dev/mapper/cryptroot
    fi
}
close_root() {
    [ -z "$PASSPHRASE" ] || cryptsetup close cryptroot
}
