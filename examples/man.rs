//! Prints the manual page backstay(8), made from the arguments of the admin command.

#![allow(clippy::unwrap_used)] // writing into a String cannot fail
use clap::{Arg, Command};
use std::fmt::Write as _;

const HEAD: &str = r#".\" Made from src/admin/cli.rs and examples/man.rs: change it there, then
.\" cargo run --example man > docs/man/backstay.8
.TH BACKSTAY 8 "" backstay "System administration"
.SH NAME
backstay \- roll a system back and forward, boot a snapshot once, reset to the factory version
"#;

const TAIL: &str = r#".SH LAYOUT
.B backstay init
reads which datasets there are from
.I /usr/lib/backstay/layout.toml
of the live system:
.PP
.nf
[[dataset]]
name = "system"
kind = "system"
live = "@rootfs"
mount = "/"

[[dataset]]
name = "config"
kind = "config"
live = "@config"
mount = "/var/lib/backstay/config"
paths = ["/etc/appliance"]

[[dataset]]
name = "data"
kind = "data"
live = "@data"
mount = "/srv/data"
.fi
.PP
One system; at most one config dataset, whose
.I paths
are bind\-mounted from it; up to 8 data datasets.
None is mounted over what the system starts from, such as /etc, /usr or /boot, nor inside another one,
and no path is one of those as a whole.
.I live
is the constant name of the subvolume in the top level of the file system.
Once there are snapshots, datasets can be added, but neither renamed, moved nor removed.
A snapshot from before there was a config dataset leaves the configuration as it is;
.B list
shows it as "sound, no config".
One whose system does not mount a dataset that was added later (it has no directory for it, or no entry in its
.I /etc/fstab
where the live system has one) cannot be gone back to:
.B init
says so, and
.B list
shows it as "no /srv/media".
.SH CHANGES AT THE NEXT BOOT
.BR rollback ,
.BR forward ,
.BR select ,
.B reset
and
.B convert
write a request and have GRUB start the recovery kernel, in which the agent carries it out.
One request can wait at a time.
.B backstay cancel
withdraws it.
.B reset
asks for a word to be typed; where standard input is no terminal it needs
.BR \-\-yes .
.PP
.B convert
keeps the version and converts the data that it does not read. The command is the consent to conversions that lose nothing;
.B \-\-fence convert
also to others. Where nothing is to be converted it says so, and asks for nothing.
.PP
Where a change converts live data
.RB ( convert ,
or
.BR "\-\-fence convert" ),
that is done at once, on clones of the data: the services that the applications in it declare are stopped and cannot be
started, and the data is read\-only wherever it is mounted, until the reboot. If somebody writes there nevertheless, he is
named, and everything is as before; where all converters can be run before boot, they are run there instead.
.B cancel
lets go of what is held, and starts what ran. The next start takes what was converted only if nothing was written to the
data since.
.B status
says what is converted and what is held.
.PP
After
.B reset everything
the old data and all snapshots but the factory are still there, until
.B backstay mark\-good
has run in the new system: it deletes them.
Deleted is not erased: the disk may still hold what was deleted.
Where somebody tried to go back, or to reset the system, and that was not done, nothing is deleted
until it is done or
.B backstay mark\-good \-\-delete
is run.
.SH MENU
.B backstay menu
is the menu that a start opens where something is wrong, or with
.B backstay.menu
on the kernel's command line, with the same commands, plans and words.
In the running system it looks at once, and a change is a request for the next start, as those above.
.PP
.nf
menu> list                  the versions, newest first
menu> show 12               one of them
menu> diff 12 /etc          files of the live system that differ from it
menu> look 12 /etc/fstab    a file of it; 'look live PATH' has the live system's
menu> rollback 12           the plan, then a word is to be typed
menu> log disk              what was done, start by start
.fi
.PP
What may be done before the root is mounted (other ways to mount a damaged disk, a shell, giving a hibernated system
up) is not offered here, nor is a password asked for: whoever runs it is root.
Control\-C gives a line up; Control\-D on an empty one, or
.BR exit ,
leaves.
What is typed before a question is not taken for its answer.
Other commands are not held up while the menu is open.
.PP
With
.B \-\-json
each line of standard input is an order, such as {"do":"list"}, and each line of standard output an event; docs/console.md
has them. Its end ends the menu.
.SH TRIALS
A system that was promoted has to be marked good within three starts; one that was upgraded in place is put on
trial by
.BR "backstay try" .
Where it is not marked, the machine falls back by itself to the newest snapshot that had been marked good, once; data
stays, unless the trial began with a reset of the data, and what failed is kept as a snapshot.
.B backstay status
says whether that happened, and how to undo it.
.B backstay mark\-bad
leaves no start to a system on trial; a person's
.B backstay mark\-good
takes that back.
A trial is armed only where
.I backstay\-mark\-good.service
is wanted by one of the system's targets:
.BR "systemctl enable backstay\-mark\-good" .
.PP
That service first runs the executables in
.I /etc/backstay/health.d/required
and
.IR /etc/backstay/health.d/wanted ,
in the order of their names, 60 seconds each
.RB ( "backstay mark\-good \-\-check" ).
A required one that fails keeps the system from being marked good.
.PP
.I backstay\-start\-failed.service
.RB ( "backstay start\-failed" )
restarts a system on trial, and only such a one, a minute after a required check has failed, after
.I boot\-complete.target
was not reached, and in emergency mode;
.B systemctl stop backstay\-start\-failed
within that minute keeps it up.
.PP
A hardware watchdog ends a start on trial that hangs, where
.I /etc/backstay/policy.toml
has, when the recovery kernel is made,
.IP
[watchdog]
.br
seconds = 120
.br
driver = "iTCO_wdt"
.PP
It is armed at the hand\-over, runs on through the kexec, and is stopped by
.B mark\-good
unless systemd has taken it over
.RI ( RuntimeWatchdogSec= ).
.SH UPGRADES
.B backstay upgrade
keeps a snapshot, writes that the next boot goes back to it, runs what upgrades, and takes that back only if it succeeded and
the result can boot and runs on the data. Then the system is on trial.
So a failure, Control\-C, a power cut and a script that restarts the machine are undone by the next boot.
With
.B \-\-staged
a clone is upgraded, in a chroot without data and services, and becomes a snapshot that the next boot goes forward to.
.PP
It is refused while something waits, a snapshot is booted once, a trial runs or a conversion is open, and where the live
system was not marked good or would never be.
.I backstay\-upgrade.timer
does it once a week, if it is enabled.
docs/upgrades.md has what each failure leaves.
.SH STATE OF DATA
Programs change the form of their data when they are upgraded, and an older version cannot read the newer form.
So the state that an application's data is in is recorded with the data, by
.BR "backstay state" :
as attributes of the root directory of the dataset, such as
.IR trusted.backstay.state.shop ,
which only root reads.
Snapshots and clones of the dataset have them, and whichever version of the data comes back brings its own state.
The text of a state, such as 15 or 2024.3, says nothing by itself: it is what versions of the application declare to
read.
.PP
A package that converts data in place brackets that in its script:
.PP
.nf
backstay state begin shop 15 16
shop\-convert /srv/data \-\-to 16
backstay state commit shop
.fi
.PP
In between, the state is neither of the two, and nothing reads the data.
A power cut leaves the conversion open until
.B commit
has the converted data and its new state on the disk.
Where the script fails and the data is as before,
.B abort
says so. Where it is half converted, the conversion stays open, and the data comes back from a snapshot.
A script that runs again meets its own conversion:
.B begin
then ends with status 3, and a program that can go on from there may do so.
.PP
Data that was there before backstay, and data that a package has just made, is recorded with
.BR "backstay state set" ;
.B backstay state get
names what the live system declares and nothing is recorded of.
Fresh data of a reset or a first boot is recorded as in the state of the version that will write it.
.B backstay state history
also has the conversions that a change made before boot or in the running system.
.PP
An application has a name of a\-z, 0\-9 and "+.\-", 32 characters at the most.
A state has letters, digits and "._+~\-", 48 at the most;
.B unknown
is the word for none.
The dataset is the one that
.B \-\-dataset
names, that
.I /usr/lib/backstay/apps.d/APP.toml
of the live system declares
.RI ( "dataset = \(dqNAME\(dq" ),
where a state of the application is recorded already, or the only one for data.
.B commit
and
.B abort
go where the conversion is open.
The config dataset can be named, too; the system cannot, since its data goes back with it.
.PP
These commands wait until another backstay has ended, and need neither the store's state nor its journal.
.SH DATA OF SNAPSHOTS
.B backstay snapshot \-\-data
keeps each data dataset with the snapshot, as it is at one instant; one right after the other, so those of several
datasets are not of the same instant.
Going back to such a snapshot leaves the live data alone.
With
.B \-\-fence restore
the kept data takes its place where the version could not run on the live one; what is live then is kept in its turn.
Conversions and resets keep data, too.
.PP
.B backstay prune \-\-data
deletes what is old of that; the snapshots stay.
.I /etc/backstay/snapshots.toml
says what is not:
.PP
.nf
[data]
upgrade = true    # an upgrade keeps the data with the snapshot that it makes; false if absent
keep = 5          # of each dataset the newest so many; 3 if absent
keep\-days = 30    # and those that are not older; no others if absent
.fi
.PP
A line that is not known is refused.
.B systemctl enable \-\-now backstay\-prune\-data.timer
does it once a day.
Data that comes back by itself with its snapshot, since a reset or a fallback replaced it, goes only with
.BR \-\-reset\-data .
docs/data\-snapshots.md has the rules.
.SH FACTORY SNAPSHOT
.B backstay factory seal \-\-root DIR
seals an image that was never booted, and refuses one that was: it names the machine id, host keys,
journals and other traces that it found.
With
.B \-\-first\-boot
the live datasets are removed and a marker is left, so that the first start makes them from the
factory snapshot.
What an image builder may have meant, such as a password, an authorized key or logs, is warned of.
.PP
.B backstay factory build
makes it from an archive: tar, plain or compressed by zstd, gzip or xz, with a minisign signature. The
archive's root becomes the system, and what that has at the declared paths of the config dataset becomes the
configuration and its defaults. Before that it is checked for an init, a kernel with its initramfs and
modules, and readable declarations in /usr/lib/backstay/apps.d.
.PP
.B backstay factory keep
puts an archive into the store as the default tarball, @backstay/factory.tar.zst with .minisig. Where a
reset, or a first start, finds the factory snapshot missing or changed, the agent makes it from that.
.SH DEFAULT TARBALL
.B backstay factory pack ROOT \-\-output FILE \-\-key SECRET
writes the archive that a factory snapshot can be made from where it is missing or damaged, and its
signature, FILE.minisig.
The same root gives the same bytes, at any time and place, for one version of backstay.
.B \-\-zstd\-level 19
is for what is packed once and shipped often: smallest, in some minutes.
The signature's comment says how long the archive is before compression, so it covers that, too;
two signatures of one archive are not the same bytes, and both are good.
Other programs can make such an archive as well: GNU tar with
.BR "\-\-format=posix \-\-xattrs \-\-xattrs\-include='*' \-\-no\-acls \-\-sparse \-\-numeric\-owner" ,
signed by
.BR "minisign \-S" .
(That keeps ACLs, as attributes;
.B \-\-acls
would write names of users in them, which mean somebody else on another machine and are refused.)
.PP
Kept are owners by number, modes, times of modification with nanoseconds, extended attributes with ACLs
and capabilities, hard links, symbolic links, devices, FIFOs and holes.
Sockets are left out. Where another file system is mounted, or a subvolume begins, the archive has an
empty directory. A file with 100,000 pieces of data or more between holes has zeros for them. Each of
these is said.
What no factory snapshot can be made from is refused, with the entry that is in the way: the limits are
those of the extraction (among them 750,000 entries, 64 GiB in all, 4 TiB for one file with its holes,
4095 bytes of a path, 256 directories in one another), and of btrfs (16,228 bytes of an attribute's name
and value, 65,535 names of one file).
A file or a directory that changes meanwhile is refused, too: pack what nothing writes to.
.PP
FILE is new or a regular file, which is replaced at the end. One command at a time writes it.
.PP
A pair of keys is made by
.B minisign \-G \-p backstay.pub \-s backstay.key
or
.BR "rsign generate" ;
with
.BR \-W ,
the secret key has no password, for a build machine that nobody else uses.
Otherwise the password is asked for on the terminal, or read from
.BR \-\-password\-fd .
The secret key stays where images are made; only the public one goes into them.
.SH KEYS AND POLICY
Public keys of minisign, as .pub files in /usr/lib/backstay/keys and /etc/backstay/keys, are put into the
recovery kernel's initramfs when that is made (init, recovery install), and so is
/etc/backstay/policy.toml. One that is installed later counts after
.BR "recovery install" ;
.B factory keep
refuses an archive that the present recovery kernel would refuse.
.PP
.nf
[tarball]
unsigned = true    # the agent takes a tarball without a signature; false if absent

[console]
menu = "open"          # or "password": the agent's menu, and all that only reads
change = "password"    # or "open", "closed": whatever changes what boots
shell = "closed"       # or "password", "open"
password = "$argon2id$v=19$m=19456,t=2,p=1$..."
.fi
.PP
What whoever sits at the console may do. Where the section, or a line of it, is absent, the menu and changes are open
and the shell is closed. A change (rollback, forward, select, reset, and giving a hibernated system up) asks for a word
to be typed in any case. Whoever may not open the menu may do nothing else either.
A password opens what asks for it at the console where it was typed. A wrong one costs a second, the next one two, and
so on up to a minute, at all consoles together.
.PP
.B backstay password
makes the line: an argon2id hash with 19 MiB of memory, two passes and one lane, the least that OWASP recommends. Others
are taken up to 64 MiB, t=10 and p=4; their password, too, has to be of printable ASCII, or nobody can type it there.
The hash is as secret as the password is weak:
.I policy.toml
belongs to root alone (mode 0600), and so does each initramfs that holds it. Those that backstay and dracut make, and
those of initramfs\-tools while the package is installed, are;
.B doctor
says which are not.
GRUB's own entries are not behind this password, and a request that waits for the next boot needs none.
.PP
A policy that is not understood to the last word, or a file in the place of keys that is none, makes no initramfs.
Where an agent has one nevertheless, it allows nothing: the menu only reads.
.SH APPLICATIONS
A version of an application says in
.I /usr/lib/backstay/apps.d/APPLICATION.toml
which state (format) of its data it writes, which others it lives with, and which converters it ships:
.PP
.nf
dataset = "data"              # of layout.toml, or "config"
state = "15"                  # what it writes
reads = ["14"]                # others that it lives with, unchanged
reads\-unknown = false         # data whose state nobody knows, or no data yet
services = ["foo.service"]    # stopped while it is converted in the running system

[[converter]]
from = ["13", "14"]
to = "15"
command = ["/usr/lib/foo/convert", "\-\-in\-place"]
lossless = true
cost = 10                     # 1 if absent
early = false                 # may run before boot, with nothing but its root
seconds = 600                 # its time
.fi
.PP
.B backstay app check
says what is wrong with such files.
.B backstay fence explain
says which version can run on the data as it is now, and
.B backstay fence graph
what leads from one state to another.
A change to a version that cannot run on the data is refused;
.B \-\-fence
says what is agreed to. docs/fencing.md has the rules.
.SH EXIT STATUS
.TP
0
It was done, or it was done already.
.TP
1
It was refused, or it failed; one line on standard error says why and what to do.
The same where
.B doctor
has found a problem,
.B app check
an error, or where
.B fence explain
says that the version is refused.
.TP
2
The arguments are wrong.
.TP
3
There was nothing to do
.RB ( cancel ", " upgrade ),
or it was begun before and has not ended
.RB ( "state begin" ).
.SH JSON
With
.B \-\-json
standard output holds one value
.RB ( menu :
one a line); lines for people go to standard error. Field names do not change; new
ones may come. A field without a value is null. Times are UTC by a clock that may have been wrong.
.TP
.B list
.IR live :
.IR title ,
.IR kernel ,
.I clone_of
(0 is the factory),
.IR good .
.IR sets ,
a list with the factory snapshot first:
.IR id ,
.I kind
(snapshot, factory, parked, unknown),
.I origin
(asked, replaced, before\-reset, booted\-once, built, upgraded and others),
.IR created ,
.IR title ,
.IR kernel ,
.IR clone_of ,
.I health
("sound", or what is wrong),
.I history
(steps from the live system, negative for rollback),
.IR members ,
.I data
(runs, convert, restore, refused; null where nothing is declared),
.I kept_data
(the data datasets that it keeps),
.I gone_data
(those that it kept, and that were deleted).
.TP
.B status
.I state
("ok" or what is wrong),
.IR live ,
.I missing
(live datasets that are not there),
.IR first_boot ,
.I older
and
.I newer
(where rollback and forward go),
.I older_health
and
.IR newer_health ,
.IR factory ,
.I tarball
(null, or
.IR name ,
.IR size ,
.IR signature :
present, missing, empty, garbled, unreadable; whether it is good is not looked at),
.I last
and
.I request
.RI ( what ,
.IR at ,
.IR id ,
.IR consent ),
.I converted
(datasets of which a clone was converted for the request),
.I outdated
(whether one was written to since),
.IR parked ,
.I trial
(null, or
.IR begun ,
.IR tries ,
.I guarded
(whether a kernel that panics before the agent starts is counted),
.I fallback
(whether the machine fell back to it by itself),
.I condemned
(whether it was marked bad, so that no start is left to it),
.IR fall_back_to ),
.I fell_back
(null, or
.IR from ,
.IR to ,
.IR begun ,
.IR at ),
.IR destroys_up_to ,
.IR destruction_suspended ,
.I kept_data
(the snapshots that keep data),
.I strays
(numbers that were never given out and under which something lies),
.IR open ,
.IR armed ,
.IR recovery_kernel ,
.I copied_disk
(two disks carry this file system),
.I upgrading
(an upgrade goes on),
.I upgrade_undone_by
(the snapshot to which the next boot goes back, because an upgrade in place has not ended, or has failed),
.I grub
(what is wrong with GRUB's files),
.IR recovery_missing ,
.I recovery_is_hosts
(its initramfs is the distribution's),
.I held
(null, or
.I services
with
.I name
and
.IR ran ,
and
.IR mounts ),
.IR booted ,
.I free
and
.I size
(bytes),
.IR ballast ,
.IR boot_log .
.TP
.BR rollback ", " forward ", " select ", " reset ", " convert
.IR verb ,
.I written
(false with \-\-dry\-run),
.I converted
(datasets of which a clone was converted at once),
.IR title ,
.IR changes ,
.IR stays ,
.IR lost ,
.IR lasts ,
.IR trial ,
.IR undo ,
.I fence
(what the fence says, in lines),
.IR unchecked .
.TP
.B upgrade
.I mode
(in\-place, staged),
.I outcome
(on\-trial, converts, forward, sealed, nothing, failed, planned),
.I snapshot
(in place the one before it, staged the new version),
.IR command ,
.IR reboot_due ,
.I trial
(as
.BR try ),
.I undone
(null, or
.IR why ,
.IR back_to ,
.IR with_data ,
.IR refused ),
.I refused
(what the fence says of going forward to what was staged).
.TP
.B prune
.IR data ,
a list:
.IR snapshot ,
.IR dataset ,
.IR kept ,
.I what
(deleted, to be deleted, stays, failed),
.IR why .
.TP
.BR snapshot ", " "factory seal" ", " "factory build"
.IR id ,
.IR title ;
.BR snapshot ,
too,
.I data
(the data datasets that it has);
.BR "factory build" ,
too,
.I warnings
(what a factory version should not hold, and the declared paths that it lacks).
.TP
.B factory keep
.I tarball
(where it is, below the top level),
.I warnings
(why the recovery kernel cannot use it).
.TP
.B factory pack
.IR output ,
.IR signature ,
.IR entries ,
.I bytes
(before compression),
.I size
(of the file),
.I warnings
(what a factory version should not hold),
.I different
(what is not in the archive as it is in the root).
.TP
.B try
.IR tries ,
.I not_counted
(why a kernel that panics before it has started anything is not counted; null where it is),
.IR fall_back_to .
.TP
.B start\-failed
.IR restarts .
.TP
.B mark\-bad
.IR fall_back_to .
.TP
.B mark\-good
.IR good ,
.IR why_not ,
.IR deleted ,
.I suspended
(nothing is deleted, because somebody tried to go back),
.IR kept .
.TP
.B cancel
.IR withdrawn ,
.I let_go
(whether services and mounts that were held are as before).
.TP
.B state get
.IR applications ,
a list:
.IR app ,
.IR dataset ,
.I state
(null: unknown),
.I since
(null: not known),
.I converting
(null, or
.I from
and
.IR to ,
which are null where that is damaged);
.I unlabelled
(those that the live system declares and of whose data nothing is recorded), a list:
.IR app ,
.IR dataset ,
.I writes
(the state that the live version writes),
.IR reads_unknown .
.TP
.B state history
.IR app ,
.IR datasets ,
a list:
.IR dataset ,
.I changes
.RI ( at ,
.IR from ,
.IR to ,
.I by
(null where a script or a person said it, or
.IR change ,
.IR version ,
.IR program ),
.IR failed ),
the newest last.
.TP
.BR "state set" ", " "state begin" ", " "state commit" ", " "state abort"
.IR app ,
.IR dataset ,
.IR from ,
.I to
(with
.B state abort
both are the state that stays).
.TP
.B menu
one object a line, each with an
.IR event :
see docs/console.md.
.TP
.B initramfs
.IR output ,
.IR bytes .
.TP
.B password
.IR hash .
.TP
.B app check
.IR files ,
.IR errors ,
.I notes
(how many),
.IR findings :
.IR file ,
.IR line ,
.I level
(error, note),
.IR what .
.TP
.B fence explain
.IR target ,
.IR by ,
.IR consent ,
.I goes
(whether it can be gone to),
.I possible
(with which consents of a person it could),
.IR apps ,
a list:
.IR app ,
.IR dataset ,
.I present
(in which state that version would find the data),
.IR fresh ,
.I reads
(what it lives with),
.I convert
(a path, where one is needed and there is one: a list of
.IR steps ,
.IR lossy ,
.IR cost ),
.IR restore ,
.I answer
(nothing, left\-alone, convert, restore, refuse),
.I after
(the state afterwards);
.I services
(stopped from the conversion to the reboot),
.I faults
and
.I unread
(declarations of that version, and of others, that cannot be read).
.TP
.B fence graph
.IR applications ,
a list:
.IR app ,
.IR dataset ,
.IR present ,
.I versions
.RI ( version ,
.IR state ,
.IR reads ,
.IR reads_unknown ),
.I converters
(the steps of a path),
.I way
(with \-\-to: not\-there, nothing, convert, none);
.IR unread .
.TP
.BR init ", " "recovery install"
.IR done .
.SH FILES
.TP
.I /usr/lib/backstay/layout.toml
What the datasets are.
.TP
.I /etc/backstay/layout.toml
The same, where
.B init
has set up an installed system.
.TP
.I /boot/grub
There it is
.IR @backstay/grub ,
mounted.
What lies below the mount sends a boot loader that still reads it to the menu in the store.
.TP
.I /usr/lib/backstay/apps.d/APP.toml
Where the data of an application lies; see STATE OF DATA.
.TP
.I /usr/lib/backstay/backstay\-init
The agent's program, which goes into the initramfs.
.TP
.I /etc/backstay/policy.toml
What the agent may do, and who at its console; see KEYS AND POLICY.
.TP
.I @backstay
In the top level of the file system: snapshots, records, the recovery kernel, GRUB's files, and
.IR @backstay/log ,
what was done and when (seconds since 1970).
.TP
.I @backstay/grub/backstay.cfg
This machine's settings for GRUB. Lines that
.B init
did not write stay.
.SH EXAMPLES
.nf
backstay snapshot \-\-title "before the update"
backstay snapshot \-\-data \-\-title "before the migration"
backstay prune \-\-data \-\-dry\-run
backstay rollback \-\-dry\-run
backstay rollback \-\-reboot
backstay menu
backstay reset system \-\-keep config
backstay password
backstay state get
backstay fence explain 12 \-\-consent convert
backstay convert \-\-dry\-run
backstay factory pack /srv/root \-\-output factory.tar.zst \-\-key backstay.key
.fi
.SH SEE ALSO
.BR backstay\-cmdline (7),
.BR minisign (1)
"#;

/// Text as roff takes it for granted.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

fn name_of(arg: &Arg) -> String {
    let value = arg
        .get_value_names()
        .filter(|_| arg.get_action().takes_values())
        .and_then(|names| names.first())
        .map(|name| name.to_string());
    match (arg.get_long(), value) {
        (Some(long), Some(value)) => format!("--{long} {value}"),
        (Some(long), None) => format!("--{long}"),
        (None, value) => value.unwrap_or_else(|| arg.get_id().as_str().to_uppercase()),
    }
}

/// Arguments of one command; `global` ones only where they are declared.
fn arguments(page: &mut String, command: &Command, global: bool) {
    for arg in command.get_arguments() {
        if arg.is_global_set() != global || matches!(arg.get_id().as_str(), "help" | "version") {
            continue;
        }
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let values: Vec<_> = match arg.get_long() {
            None => arg.get_possible_values(),
            Some(_) => Vec::new(),
        };
        writeln!(page, ".TP\n.B {}\n{}", roff(&name_of(arg)), roff(&help)).unwrap();
        for value in values {
            let help = value.get_help().map(ToString::to_string);
            let (name, help) = (roff(value.get_name()), roff(&help.unwrap_or_default()));
            writeln!(page, ".RS\n.TP\n.B {name}\n{help}\n.RE").unwrap();
        }
    }
}

fn usage(command: &Command, name: &str) -> String {
    let mut usage = name.to_owned();
    for arg in command.get_arguments() {
        if arg.is_global_set() || matches!(arg.get_id().as_str(), "help" | "version") {
            continue;
        }
        let one = name_of(arg);
        match arg.is_required_set() {
            true => usage.push_str(&format!(" {one}")),
            false => usage.push_str(&format!(" [{one}]")),
        }
    }
    usage
}

fn commands(page: &mut String, command: &Command, prefix: &str) {
    for sub in command.get_subcommands() {
        let name = format!("{prefix}{}", sub.get_name());
        if sub.has_subcommands() {
            commands(page, sub, &format!("{name} "));
            continue;
        }
        let about = sub.get_long_about().or(sub.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        writeln!(page, ".SS {}", roff(&usage(sub, &name))).unwrap();
        for (i, paragraph) in about.split("\n\n").enumerate() {
            let end = if i == 0 && !paragraph.ends_with('.') {
                "."
            } else {
                ""
            };
            writeln!(
                page,
                "{}{}{end}",
                if i == 0 { "" } else { ".PP\n" },
                roff(paragraph)
            )
            .unwrap();
        }
        arguments(page, sub, false);
    }
}

/// The page.
pub fn page() -> String {
    let command = backstay::admin::command();
    let mut page = HEAD.to_owned();
    page.push_str(
        ".SH SYNOPSIS\n.B backstay\n[\\-\\-root DIR] [\\-\\-json] COMMAND\n.SH DESCRIPTION\n",
    );
    let about = command
        .get_long_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    page.push_str(&format!("{}\n", roff(&about).replace("\n\n", "\n.PP\n")));
    page.push_str(".SH OPTIONS\n");
    arguments(&mut page, &command, true);
    page.push_str(".SH COMMANDS\n");
    commands(&mut page, &command, "");
    page.push_str(TAIL);
    page
}

/// Prints it.
pub fn main() {
    print!("{}", page());
}
