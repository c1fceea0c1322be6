# Functions of the scripts that make disks; they run in the toolbox guest.
# STORE_UUID and PARTITION_UUID are set by what is put before this file.

# Partitions /dev/disk0 (GPT: a partition for GRUB's core image, the store), makes the file system,
# mounts its top level on /mnt and creates the live datasets.
make_store() {
    sgdisk --clear \
        --new=1:2048:4095 --typecode=1:EF02 --change-name=1:bios-boot \
        --new=2:4096:0 --typecode=2:8300 --change-name=2:store \
        --partition-guid="2:$PARTITION_UUID" /dev/disk0
    name-disks
    mkfs.btrfs --quiet --label store --uuid "$STORE_UUID" /dev/disk0p2
    mount -o noatime /dev/disk0p2 /mnt
    for name in @rootfs @config @data @backstay; do
        btrfs subvolume create "/mnt/$name"
    done
}

# Writes what both systems have in common: versions, the table of datasets, fstab, mount points.
fill_datasets() {
    root=/mnt/@rootfs
    mkdir -p $root/etc/appliance $root/srv/data $root/var/lib/backstay/config $root/usr/lib/backstay
    cp /in/layout.toml $root/usr/lib/backstay/layout.toml
    chmod 644 $root/usr/lib/backstay/layout.toml
    set_version 1
    mkdir -p /mnt/@config/etc/appliance
    echo 1 > /mnt/@config/etc/appliance/version
    echo 'made by the customer' > /mnt/@data/content
    cat > $root/etc/fstab <<END
UUID=$STORE_UUID / btrfs noatime,subvol=@rootfs 0 0
UUID=$STORE_UUID /var/lib/backstay/config btrfs noatime,subvol=@config 0 0
UUID=$STORE_UUID /srv/data btrfs noatime,subvol=@data 0 0
/var/lib/backstay/config/etc/appliance /etc/appliance none bind 0 0
END
}

# set_version V [ROOT]: what the system calls itself: /etc/appliance-release, and IMAGE_VERSION in its
# os-release. ROOT is the live system if it is not given.
set_version() {
    to=${2:-/mnt/@rootfs}
    echo "$1" > "$to/etc/appliance-release"
    sed -i "s/^IMAGE_VERSION=.*/IMAGE_VERSION=$1/" "$to/usr/lib/os-release"
}

# boot/vmlinuz and boot/initrd.img of the one kernel there; the distribution's own initramfs gets
# the name that it keeps when ours takes its place.
link_kernel() {
    release=$(cd /mnt/@rootfs/usr/lib/modules && echo *)
    cd /mnt/@rootfs/boot
    mv "initrd.img-$release" "initrd.img-$release.stock"
    ln -sf "vmlinuz-$release" vmlinuz
    ln -sf "initrd.img-$release" initrd.img
    ln -sf "initrd.img-$release.stock" initrd.img.stock
    cd /
}

# grub_install [chroot DIR]: installs GRUB with its prefix in @backstay, outside every dataset.
grub_install() {
    mkdir -p /mnt/@backstay/grub
    "$@" grub-install --target=i386-pc --no-floppy --disk-module=biosdisk --fonts= --themes= --locales= \
        --boot-directory=/mnt/@backstay /dev/disk0
    cat > /mnt/@backstay/grub/grub.cfg <<END
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=1
menuentry 'live system with the stock initramfs' {
    linux /@rootfs/boot/vmlinuz root=UUID=$STORE_UUID rootflags=subvol=@rootfs ro console=ttyS0,115200 quiet
    initrd /@rootfs/boot/initrd.img.stock
}
END
}

# copy_modules FROM TO: the modules that a test machine may need, with all that they depend on, from one
# root to another.
copy_modules() {
    release=$(ls "$1/usr/lib/modules")
    mkdir -p "$2/usr/lib/modules/$release"
    cd "$1/usr/lib/modules/$release"
    for module in btrfs ext4 isofs vfat nls_ascii nls_cp437 overlay loop dummy virtio_pci virtio_blk virtio_net \
        virtio_scsi virtio_console virtio-rng nvme ahci sd_mod dm-mod i6300esb; do
        sed -n "s|^\(.*/$module\.ko[^:]*\):|\1|p" modules.dep
    done | tr ' ' '\n' | sort -u | while read -r file; do
        [ -n "$file" ] || continue
        mkdir -p "$2/usr/lib/modules/$release/${file%/*}"
        cp -a "$file" "$2/usr/lib/modules/$release/$file"
    done
    cp -a modules.builtin modules.order "$2/usr/lib/modules/$release/"
    [ ! -e modules.builtin.modinfo ] || cp -a modules.builtin.modinfo "$2/usr/lib/modules/$release/"
    cd /
    depmod -b "$2" "$release"
}

# admin ARGUMENT...: the admin command on this store.
admin() {
    /in/backstay --root /mnt "$@"
}

# our_initramfs RELEASE: makes boot/initrd.img-RELEASE of the live system: the agent and that kernel's modules.
our_initramfs() {
    /in/backstay initramfs --kernel "$1" --root-dir /mnt/@rootfs \
        --output "/mnt/@rootfs/boot/initrd.img-$1"
}

# other_kernel: gives the live system the kernel of /dev/disk1 (the tarball of another Debian release)
# in place of its own, with its modules and our initramfs.
other_kernel() {
    mkdir /other
    tar -C /other -xf /dev/disk1 ./boot ./usr/lib/modules
    rm -rf /mnt/@rootfs/usr/lib/modules/* /mnt/@rootfs/boot/*
    copy_modules /other /mnt/@rootfs
    cp "/other/boot/vmlinuz-$release" /mnt/@rootfs/boot/
    ln -s "vmlinuz-$release" /mnt/@rootfs/boot/vmlinuz
    ln -s "initrd.img-$release" /mnt/@rootfs/boot/initrd.img
    our_initramfs "$release"
    rm -rf /other
}

# quicken ROOT: masks what a test machine waits for in vain or does not need; each costs a second or more under
# emulation. And a prompt for a program at the other end of the line.
quicken() {
    for unit in systemd-firstboot.service systemd-networkd-wait-online.service systemd-timesyncd.service \
        systemd-udev-settle.service systemd-binfmt.service systemd-pcrphase.service \
        systemd-tpm2-setup.service systemd-tpm2-setup-early.service systemd-udev-load-credentials.service \
        apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
        e2scrub_reap.service fstrim.timer grub-common.service grub-initrd-fallback.service getty@tty1.service \
        modprobe@configfs.service modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service \
        dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
        sys-kernel-config.mount sys-fs-fuse-connections.mount; do
        ln -sf /dev/null "$1/etc/systemd/system/$unit"
    done
    # Nothing is to be rebuilt because /usr is newer than this system's caches: they were made with it.
    touch $1/etc/.updated $1/var/.updated
    # A line that a program reads: no escape sequences around each command, a prompt that is known.
    echo 'set enable-bracketed-paste off' >> $1/etc/inputrc
    echo "PS1='root@\h:\w# '" >> $1/root/.bashrc
}
