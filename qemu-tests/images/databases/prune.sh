# Leaves of a tree of unpacked Debian packages, $1, what PostgreSQL's servers and SQLite's shell need to run. Run by mmdebstrap.
set -e
cd "$1"
rm -rf usr/lib/postgresql/*/lib/bitcode usr/lib/postgresql/*/lib/pgxs usr/lib/postgresql/*/lib/llvmjit*
programs=$(ls usr/lib/postgresql/*/bin/* usr/lib/postgresql/*/lib/*.so usr/bin/sqlite3 usr/bin/setpriv)
# The loader lists what it would load; what is no program for it is a script.
for file in $programs; do
    chroot . /usr/lib64/ld-linux-x86-64.so.2 --list "/$file" 2> /dev/null || true
done | sed -n -e 's|^lib/|usr/lib/|' -e 's|.* => /\(.*\) (0x.*|\1|p' | sort -u > libraries
echo usr/lib64/ld-linux-x86-64.so.2 >> libraries
# By the names that programs ask for, and by those that these are links to.
xargs realpath --relative-to=. < libraries >> libraries.all
cat libraries >> libraries.all
mkdir kept
cp -a --parents usr/share/postgresql usr/share/zoneinfo/Etc usr/share/zoneinfo/UTC usr/lib/locale/C.utf8 $programs $(sort -u libraries.all) kept
rm -rf usr libraries libraries.all
mv kept/usr usr
rmdir kept
