# Functions of the fixtures with databases; they run in the toolbox guest. /in/databases is this directory, and /dev/disk1
# the tarball of PostgreSQL 15 and 17 and SQLite.
databases=/in/databases

# put_libraries ROOT: what both PostgreSQLs and SQLite need beside themselves, and whose the server is.
put_libraries() {
    [ -e "$1/lib64" ] || ln -s usr/lib64 "$1/lib64"
    tar -C "$1" -xf /dev/disk1 --skip-old-files ./usr/lib64 ./usr/lib/x86_64-linux-gnu ./usr/lib/locale ./usr/share/zoneinfo
    # Over busybox's, which cannot become somebody else.
    [ ! -L "$1/usr/bin/setpriv" ] || rm "$1/usr/bin/setpriv"
    tar -C "$1" -xf /dev/disk1 --skip-old-files ./usr/bin/setpriv ./usr/bin/sqlite3
    mkdir -p "$1/var/tmp"
    chmod 1777 "$1/var/tmp"
    echo 'postgres:x:70:70::/srv/data:/bin/sh' >> "$1/etc/passwd"
    echo 'postgres:x:70:' >> "$1/etc/group"
}

# put_postgresql MAJOR ROOT
put_postgresql() {
    tar -C "$2" -xf /dev/disk1 "./usr/lib/postgresql/$1" "./usr/share/postgresql/$1"
}

# put_ledger V ROOT: the books of version V, without PostgreSQL itself.
put_ledger() {
    mkdir -p "$2/usr/bin" "$2/usr/lib/ledger" "$2/usr/lib/backstay/apps.d"
    case $1 in
    1) echo 15 ;;
    2) echo 17 ;;
    esac > "$2/usr/lib/ledger/major"
    install -m 755 $databases/ledger "$2/usr/bin/ledger"
    install -m 644 $databases/books.sql $databases/show.sql "$2/usr/lib/ledger/"
    install -m 644 "$databases/ledger-$1.toml" "$2/usr/lib/backstay/apps.d/ledger.toml"
    [ "$1" = 1 ] || for way in up down; do
        install -m 755 "$databases/ledger-$way" "$2/usr/lib/ledger/$way"
    done
}

# put_notes V ROOT
put_notes() {
    mkdir -p "$2/usr/bin" "$2/usr/lib/notes" "$2/usr/lib/backstay/apps.d"
    echo "$1" > "$2/usr/lib/notes/schema"
    install -m 755 $databases/notes "$2/usr/bin/notes"
    install -m 644 "$databases/notes-schema-$1.sql" "$2/usr/lib/notes/schema-$1.sql"
    install -m 644 "$databases/notes-$1.toml" "$2/usr/lib/backstay/apps.d/notes.toml"
    [ "$1" = 1 ] || {
        install -m 755 $databases/notes-convert "$2/usr/lib/notes/convert"
        install -m 644 $databases/notes-up.sql "$2/usr/lib/notes/up.sql"
        install -m 644 $databases/notes-down.sql "$2/usr/lib/notes/down.sql"
    }
}

# start_at_boot ROOT NAME...: programs that the tiny system's init starts.
start_at_boot() {
    to=$1
    shift
    mkdir -p "$to/usr/lib/tiny/services"
    for name in "$@"; do ln -sf "/usr/bin/$name" "$to/usr/lib/tiny/services/$name"; done
}

# in_system COMMAND...: in the live system, with its data, as it runs.
in_system() {
    in_root=/mnt/@rootfs
    mount --bind /mnt/@data $in_root/srv/data
    for dir in dev proc sys; do mount --bind "/$dir" "$in_root/$dir"; done
    mkdir -p $in_root/dev/shm
    for dir in dev/shm run tmp; do mount -t tmpfs -o mode=1777 tmpfs "$in_root/$dir"; done
    chroot $in_root env -i PATH=/usr/sbin:/usr/bin HOME=/root "$@"
    for dir in tmp run sys proc dev srv/data; do umount -R "$in_root/$dir"; done
}

# converted APP FROM TO COMMAND...: converts the live data in place, as the version that is live does before boot.
converted() {
    app=$1 from=$2 to=$3
    shift 3
    in_system env LC_ALL=C.UTF-8 BACKSTAY_APP="$app" BACKSTAY_FROM="$from" BACKSTAY_TO="$to" BACKSTAY_DATA=/srv/data "$@"
}

# take_version V [LEDGER]: the live system becomes version V, with the books of version LEDGER if that is given.
take_version() {
    live=/mnt/@rootfs
    rm -rf $live/usr/lib/postgresql $live/usr/share/postgresql $live/usr/lib/ledger $live/usr/lib/notes \
        $live/usr/lib/backstay/apps.d
    cp -a --reflink=always "/mnt/versions/$1/." $live/
    [ -z "${2:-}" ] || for path in usr/lib/postgresql usr/share/postgresql usr/lib/ledger usr/lib/backstay/apps.d/ledger.toml; do
        rm -rf "${live:?}/$path"
        cp -a --reflink=always "/mnt/versions/$2/$path" "$live/$path"
    done
    set_version "$1"
}

# set_defaults V: the configuration as version V brings it, live and as its defaults.
set_defaults() {
    case $1 in
    1) lines=1 ;;
    2) lines=2 ;;
    esac
    for config in /mnt/@config /mnt/@backstay/defaults; do
        [ -d $config ] || continue
        echo "$1" > $config/etc/appliance/version
        echo "lines=$lines" > $config/etc/appliance/notes.conf
    done
}

# first_books, first_notes: what is in the data of every disk; the first start of each program makes it.
first_books() {
    in_system sh -euc "ledger start
        ledger sql \"INSERT INTO entry (account, cents, details)
            SELECT 'account ' || n % 7, n % 50 * 100 + 1, jsonb_build_object('n', n) FROM generate_series(1, 1000) n\"
        ledger stop"
}
first_notes() {
    in_system sh -euc "notes start
        notes add Anna \"it's full\"
        notes add Ben 'call back'
        notes add Anna 'done'"
}

# keep_data V: the live data is what version V writes, for put_data.
keep_data() {
    mkdir -p "/mnt/versions/data-$1"
    cp -a --reflink=always /mnt/@data/ledger /mnt/@data/notes "/mnt/versions/data-$1/"
}

# put_data LEDGER [NOTES]: the data as these versions write it.
put_data() {
    rm -rf /mnt/@data/ledger /mnt/@data/notes
    cp -a --reflink=always "/mnt/versions/data-$1/ledger" "/mnt/versions/data-${2:-$1}/notes" /mnt/@data/
}

# label_data LEDGER [NOTES]: and says so.
label_data() {
    case $1 in
    1) admin state set ledger pg15 --dataset data ;;
    2) admin state set ledger pg17 --dataset data ;;
    esac
    admin state set notes "${2:-$1}" --dataset data
}

# package APP V: version V of APP as a Debian package in /opt/packages of the live system. It starts at boot, and says whether
# it is well; where it is not, no other start will help. A /postinst becomes the package's script, and a /schema what the program
# of the notes looks for.
package() {
    system=/mnt/@rootfs
    tree=$system/opt/package
    mkdir -p $tree/DEBIAN $tree/usr/lib/systemd/system/multi-user.target.wants $tree/etc/backstay/health.d/required \
        $system/opt/packages
    "put_$1" "$2" $tree
    [ "$1" != ledger ] || put_postgresql 15 $tree
    [ "$1$2" != ledger2 ] || put_postgresql 17 $tree
    cat > "$tree/usr/lib/systemd/system/$1.service" <<END
[Unit]
Description=The $1 of this machine
RequiresMountsFor=/srv/data /etc/appliance
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/$1 start
ExecStop=/usr/bin/$1 stop
END
    ln -s "../$1.service" "$tree/usr/lib/systemd/system/multi-user.target.wants/$1.service"
    check=$tree/etc/backstay/health.d/required/$1
    printf '#!/bin/sh\n%s show || { backstay mark-bad; exit 1; }\n' "$1" > "$check"
    chmod 755 "$check"
    [ ! -e /schema ] || cp /schema $tree/usr/lib/notes/schema
    [ ! -e /postinst ] || install -m 755 /postinst $tree/DEBIAN/postinst
    (cd $tree && find usr etc -type f -exec md5sum {} + > DEBIAN/md5sums)
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: %s\n' \
        "$1" "$2" "$1 of this machine" > $tree/DEBIAN/control
    chroot $system dpkg-deb --root-owner-group -Znone --build /opt/package "/opt/packages/${1}_${2}_all.deb"
    rm -rf $tree
}

# repository: the packages become apt's only source.
repository() {
    system=/mnt/@rootfs
    for deb in $system/opt/packages/*.deb; do
        chroot $system dpkg-deb --field "/opt/packages/${deb##*/}"
        printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' \
            "${deb##*/}" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d ' ' -f 1)"
    done > $system/opt/packages/Packages
    rm -f $system/etc/apt/sources.list $system/etc/apt/sources.list.d/*
    echo 'deb [trusted=yes] file:/opt/packages ./' > $system/etc/apt/sources.list
    echo 'Acquire::Languages "none";' > $system/etc/apt/apt.conf.d/99languages
    in_system apt-get update
}

# install_packages NAME=V...: by apt, in the live system.
install_packages() {
    in_system env DEBIAN_FRONTEND=noninteractive apt-get install -y -o Dpkg::Options::=--force-unsafe-io "$@"
}
