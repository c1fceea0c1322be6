#!/bin/sh -eu
# anew.sh DISK: on this machine, as root, with its kernel and its network: runs 'backstay factory install' in a chroot of
# the system on a stock disk on which backstay is set up. What is mounted is seen by nobody else and goes with the process.
at=$(mktemp -d)
device=$(losetup --show --find --offset $((1288192 * 512)) "$1")
trap 'umount -R -l "$at" 2> /dev/null || true; rmdir "$at"; losetup --detach "$device"' EXIT
mount --make-rprivate /
mount -o subvol=@rootfs "$device" "$at"
for dir in dev proc sys; do mount --rbind "/$dir" "$at/$dir"; done
mount -t tmpfs tmpfs "$at/run"
in_root() {
    chroot "$at" env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive HOME=/root "$@"
}
cp --remove-destination /etc/resolv.conf "$at/etc/resolv.conf"
in_root mount -o "subvol=@var-log" "$device" /var/log
in_root apt-get update
in_root apt-get install --yes --no-install-recommends mmdebstrap
in_root backstay factory install --package /root/backstay.deb
in_root backstay list
