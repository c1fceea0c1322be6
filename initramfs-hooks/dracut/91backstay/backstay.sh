# Sourced by an initramfs of dracut without systemd, before the root is mounted: it must not exit.
/usr/lib/backstay/backstay-init host || :
