# Puts databases on the tiny disk, before backstay is there. /dev/disk1 is the tarball of their programs.
#
# Version 1 is live, with its data. Beside the datasets lies what fixtures take (take_version, take_data):
#   /versions/1, /versions/2            the files in which the two versions differ
#   /versions/data-1, /versions/data-2  the same data as each of them writes it: made by 1, and converted by 2
mount -o noatime /dev/disk0p2 /mnt
put_libraries /mnt/@rootfs
for version in 1 2; do
    put_ledger $version /mnt/versions/$version
    put_notes $version /mnt/versions/$version
    start_at_boot /mnt/versions/$version ledger notes
done
put_postgresql 15 /mnt/versions/1
for dir in usr/lib/postgresql usr/share/postgresql; do
    mkdir -p /mnt/versions/2/$dir
    cp -a --reflink=always /mnt/versions/1/$dir/15 /mnt/versions/2/$dir/
done
put_postgresql 17 /mnt/versions/2

take_version 1
set_defaults 1
first_books
first_notes
keep_data 1
take_version 2
converted ledger pg15 pg17 /usr/lib/ledger/up
converted notes 1 2 /usr/lib/notes/convert up
keep_data 2

take_version 1
put_data 1
umount /mnt
