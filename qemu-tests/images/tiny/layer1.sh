# A disk with a root of busybox and one script. /dev/disk1 is the tarball of a whole Debian, whose kernel and
# initramfs are taken.
make_store
root=/mnt/@rootfs
cd $root
mkdir -p usr/bin usr/lib/modules boot dev proc sys run tmp root etc
chmod 1777 tmp
for name in bin sbin; do ln -s usr/bin $name; done
ln -s bin usr/sbin
ln -s usr/lib lib
cp /usr/bin/busybox usr/bin/busybox
chroot . /usr/bin/busybox --install -s /usr/bin
rm -f usr/bin/init usr/bin/linuxrc
cp /in/init /in/prompt usr/bin/
chmod 755 usr/bin/init usr/bin/prompt
echo 'root::0:0:root:/root:/bin/sh' > etc/passwd
echo 'root:x:0:' > etc/group

mkdir /debian
tar -C /debian -xf /dev/disk1 ./boot ./usr/lib/modules
release=$(ls /debian/usr/lib/modules)
cp -a "/debian/boot/vmlinuz-$release" "/debian/boot/initrd.img-$release" boot/
mkdir "usr/lib/modules/$release"
copy_modules() {
    cd /debian/usr/lib/modules/$release
    for module in "$@"; do
        sed -n "s|^\(.*/$module\.ko[^:]*\):|\1|p" modules.dep
    done | tr ' ' '\n' | sort -u | while read -r file; do
        [ -n "$file" ] || continue
        mkdir -p "$root/usr/lib/modules/$release/${file%/*}"
        cp -a "$file" "$root/usr/lib/modules/$release/$file"
    done
    cp -a modules.builtin modules.builtin.modinfo modules.order "$root/usr/lib/modules/$release/"
    cd /
}
copy_modules btrfs ext4 vfat nls_ascii nls_cp437 overlay loop dummy virtio_pci virtio_blk virtio_net \
    virtio_scsi virtio_console virtio-rng nvme ahci sd_mod dm-mod
depmod -b $root "$release"

fill_datasets
link_kernel
grub_install
umount /mnt
