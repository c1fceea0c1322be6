#!/bin/bash
# Puts the agent into an initramfs of dracut(8), with systemd in it or without.

check() {
    require_binaries /usr/lib/backstay/backstay-init || return 1
}

depends() {
    echo btrfs
}

installkernel() {
    # Where systemd notes that it hibernates.
    hostonly='' instmods efivarfs
}

install() {
    local file
    inst_simple /usr/lib/backstay/backstay-init
    for file in /etc/backstay/policy.toml /etc/backstay/keys/*; do
        [[ ! -f $file ]] || inst_simple "$file"
    done
    # The vendor's keys, but for those that a name above replaces.
    for file in /usr/lib/backstay/keys/*; do
        [[ ! -f $file || -f /etc/backstay/keys/${file##*/} ]] || inst_simple "$file" "/etc/backstay/keys/${file##*/}"
    done
    if dracut_module_included systemd; then
        inst_simple "$moddir/backstay-agent.service" "${systemdsystemunitdir:?}/backstay-agent.service"
        $SYSTEMCTL -q --root "$initdir" add-wants initrd.target backstay-agent.service
    else
        inst_hook pre-mount 50 "$moddir/backstay.sh"
    fi
}
