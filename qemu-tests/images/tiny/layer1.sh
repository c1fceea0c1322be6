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
copy_modules /debian $root
printf 'ID=tiny\nPRETTY_NAME="Tiny"\nIMAGE_ID=tiny\nIMAGE_VERSION=0\n' \
    > $root/usr/lib/os-release
ln -s ../usr/lib/os-release $root/etc/os-release

fill_datasets
link_kernel
grub_install
umount /mnt
