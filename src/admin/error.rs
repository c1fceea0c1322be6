//! What can stop the admin command: one line each, with the remedy.

use crate::policy::refusal::Refusal;
use crate::record::state::Verb;
use crate::store::StoreError;
use crate::{sys, transaction};
use std::path::PathBuf;
use thiserror::Error;

/// Why nothing, or not everything, was done.
#[derive(Debug, Error)]
pub enum Error {
    /// The engine refused or failed.
    #[error(transparent)]
    Transaction(#[from] transaction::Error),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The policy refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A system call failed.
    #[error(transparent)]
    System(#[from] sys::Error),
    /// Reading or writing a file failed.
    #[error("{action} {path:?}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A FIFO, a device, a directory.
    #[error("{0:?} is not a regular file: name one that is")]
    NotAFile(PathBuf),
    /// Longer than a key or a signature is.
    #[error("{0:?} is longer than {1} bytes, so it is no key and no signature: name another file")]
    TooLong(PathBuf, u64),
    /// A directory to check that has none.
    #[error("{0:?} has no declaration of an application (a file *.toml): name one that has")]
    NoDeclarations(PathBuf),
    /// Packages that must not be installed, a line each.
    #[error(
        "{0}\nnothing was installed: keep what is installed ('apt-mark hold PACKAGE'), or go back to a whole version that \
         lives with the data ('backstay list', 'backstay fence explain N')"
    )]
    Packages(String),
    /// The layout is wrong.
    #[error(transparent)]
    Layout(#[from] super::layout_file::LayoutError),
    /// Not the superuser.
    #[error("this needs the rights of root: run it with sudo")]
    NotRoot,
    /// Another backstay works on the store.
    #[error("another backstay is at work on this store: wait until it has ended, then try again")]
    Locked,
    /// The journal is open, and this command only looks.
    #[error(
        "another backstay is at work, or was interrupted: wait until it has ended, or reboot, which \
         finishes or undoes what is open; then try again"
    )]
    Unsettled,
    /// It cannot be exchanged.
    #[error(
        "the root is the top level of its btrfs (subvolume id 5), which can be neither kept nor exchanged: move it into \
         a subvolume as docs/install.md, section 'A root on the top level', says; for an image that is not booted name \
         its mounted top level with --root DIR"
    )]
    RootOnTopLevel,
    /// The root is on something else.
    #[error(
        "{0}: snapshots need a btrfs root; for an image that is not booted name its mounted top \
         level with --root DIR"
    )]
    NotBtrfs(String),
    /// `--root` names something else.
    #[error(
        "{0:?} is not the top level of a btrfs: mount it with 'mount -o subvolid=5 DEVICE DIR' and \
         give DIR"
    )]
    NotTopLevel(PathBuf),
    /// No `@backstay`, or no layout in it.
    #[error("this store was not set up: run 'backstay init' first")]
    NotSetUp,
    /// The layout record is damaged.
    #[error(
        "the record of the layout is damaged: run 'backstay init', which writes it again from \
         layout.toml"
    )]
    LayoutDamaged,
    /// The newest state was lost.
    #[error(
        "the state is older than the store, which has a snapshot that it does not know, so that the \
         agent would refuse: run 'backstay init --repair', then ask again"
    )]
    StateBehind,
    /// A request waits.
    #[error(
        "a request waits for the next boot ({0}): reboot to carry it out, or withdraw it with \
         'backstay cancel'"
    )]
    Waiting(Verb),
    /// The running system could not be held still, or the data not be converted in it.
    #[error(transparent)]
    NotConverted(#[from] crate::conversion::running::NotConverted),
    /// What is held in the running system could not be let go.
    #[error("not everything is as it was: {0}; mend that, and run 'backstay cancel' again")]
    StillHeld(String),
    /// A converter that could be run neither before boot nor now.
    #[error(
        "the data of {0} that this goes to is not the live data, so it is converted before boot, and not all of its \
         converters can run there ('early'): choose another version ('backstay fence explain')"
    )]
    TooLate(String),
    /// A snapshot is booted once.
    #[error("a snapshot is booted once; reboot first, which returns to the system parked as {0}")]
    Parked(u32),
    /// There is nothing that could carry a request out.
    #[error(
        "the recovery kernel is missing ({0}), and it carries requests out: run 'backstay recovery \
         install'"
    )]
    NoRecoveryKernel(&'static str),
    /// Consent is needed and cannot be asked for.
    #[error("this replaces what is live and nobody can be asked here: add --yes if it is meant")]
    NeedsYes,
    /// The same for what replaces nothing.
    #[error("nobody can be asked here: look at it with --dry-run, and add --yes if it is meant")]
    NobodyToAsk,
    /// The menu without anybody to show it to.
    #[error(
        "the menu needs a terminal at standard input and output; programs have 'backstay --json menu', and each of its \
         commands by itself: 'backstay list', 'backstay rollback --dry-run' and so on"
    )]
    MenuNeedsTerminal,
    /// The other end of standard output is gone.
    #[error(
        "the menu ended, because nothing more could be written to standard output; 'backstay status' says what is \
         asked for"
    )]
    MenuUnread,
    /// A menu about another machine was to end this one.
    #[error("this machine was not restarted or switched off: it is not the one that --root names")]
    NotThisMachine,
    /// The menu's last word was not done.
    #[error(
        "the machine stays on ({0}): restart it or switch it off yourself; what was asked for is written down"
    )]
    StaysOn(String),
    /// The answer was no.
    #[error("nothing was done")]
    NotWanted,
    /// An installed system that cannot be set up, or not so.
    #[error("{0}")]
    Install(String),
    /// A program of the distribution failed.
    #[error(
        "{program} failed ({status}): {last}; mend that, then run the same command again, which goes on"
    )]
    Tool {
        /// Its name.
        program: String,
        /// How it ended.
        status: String,
        /// The last line that it printed.
        last: String,
    },
    /// The distribution could not be installed anew.
    #[error("{0}")]
    Anew(String),
    /// What GRUB would not take.
    #[error("the parameters in /etc/default/grub cannot be put into a menu: {0}")]
    GrubParameters(&'static str),
    /// The word was not typed.
    #[error("nothing was done: the word was not typed")]
    NotConfirmed,
    /// A snapshot on a file system that is nearly full.
    #[error(
        "only {0} are free: a snapshot would keep what you delete from now on; make room first, \
         32 MiB at least"
    )]
    NoRoom(String),
    /// `--keep` elsewhere than at `reset system`.
    #[error("--keep config goes with 'reset system' only")]
    KeepNeedsSystem,
    /// `--reboot` with `--root`.
    #[error("--reboot restarts this machine, which is not the one that --root names")]
    RebootNeedsRunning,
    /// `factory seal` in a running system.
    #[error(
        "a running system is never a factory version: seal it in the image before its first boot, \
         with --root DIR"
    )]
    FactoryNeedsRoot,
    /// There is one already.
    #[error(
        "the factory snapshot exists already and is never replaced here; make the image anew to \
         have another one"
    )]
    FactoryExists,
    /// There is a sound one already.
    #[error(
        "there is a factory snapshot, and it is sound: add --replace to put another one in its place"
    )]
    FactoryThere,
    /// The archive's system would not fit.
    #[error(
        "the archive's system needs {0} and {1} are free: remove something that is not needed, and \
         ask again"
    )]
    NoRoomForFactory(String, String),
    /// The archive would not fit beside its system, which is made for a trial.
    #[error(
        "trying the archive out and keeping it takes {0} and {1} are free: remove something that is \
         not needed, and ask again"
    )]
    NoRoomForTarball(String, String),
    /// The agent would refuse it.
    #[error(
        "nothing was kept, as no factory snapshot can be made from the archive: {0}; keep another one"
    )]
    Trial(transaction::Error),
    /// The agent would not trust it.
    #[error("nothing was kept: this machine's recovery kernel would refuse the archive, which {0}")]
    WouldBeRefused(String),
    /// No key was named, and none is there.
    #[error(
        "no key was named, and the store's recovery kernel trusts none: name the public key with --key \
         FILE, or put it into /etc/backstay/keys and run 'backstay recovery install'"
    )]
    NoKey,
    /// It has no signature.
    #[error("{0:?} is missing: sign the archive with minisign, or say --unsigned")]
    Unsigned(PathBuf),
    /// The archive.
    #[error(transparent)]
    Image(#[from] crate::image::Error),
    /// Its manifest is garbled.
    #[error(
        "the factory snapshot's manifest is damaged: remove @backstay/factory/manifest if the \
         image was never shipped, and seal again"
    )]
    FactoryDamaged,
    /// The tree was booted.
    #[error("refused to seal the factory snapshot, this system was used: {0}")]
    Used(String),
    /// There is a history.
    #[error("refused to prepare a first boot: this store has a history ({0}); make the image anew")]
    HasHistory(&'static str),
    /// Live data would be lost.
    #[error(
        "refused to prepare a first boot: the {0} dataset is not empty and would be removed; empty \
         it first"
    )]
    DataNotEmpty(String),
    /// Another root runs than the one that would be marked.
    #[error("{0}")]
    NotLive(String),
    /// Nothing would end its trial.
    #[error(
        "the live system would never be marked good, since backstay-mark-good.service is masked or not enabled, or there \
         is no layout.toml: 'backstay doctor' says what mends it"
    )]
    NeverMarked,
    /// A health check failed.
    #[error(
        "not marked good: the check {0} failed ({1}); mend what it looks at, then run 'systemctl restart \
         backstay-mark-good'; a system on trial restarts in a minute"
    )]
    Unhealthy(String, String),
    /// Health checks look at what runs.
    #[error("--check looks at the running system, which is not the one that --root names")]
    CheckNeedsRunning,
    /// There is no trial to end.
    #[error(
        "the live system is not on trial, so nothing falls back by itself: 'backstay rollback' goes back"
    )]
    NotOnTrial,
    /// A system without a usable kernel.
    #[error("{0} has no kernel (boot/vmlinuz or vmlinuz, a link to vmlinuz-RELEASE)")]
    NoKernel(String),
    /// The agent's program is not there.
    #[error(
        "the agent's program {0:?} is missing: install the package again, or name it with --agent"
    )]
    NoAgent(PathBuf),
    /// The initramfs could not be made.
    #[error("{0}")]
    Initramfs(String),
    /// What the recovery kernel trusts cannot be read.
    #[error(
        "{0}: what the recovery kernel trusts is not known: make it anew with 'backstay recovery install'"
    )]
    RecoveryUnread(String),
    /// It is not known whether the system's own kernel comes up.
    #[error("the system's own kernel {0} is not the one that runs")]
    OwnKernelNotRunning(String),
    /// Kernel parameters that GRUB would not pass on.
    #[error("--cmdline {0}")]
    Cmdline(String),
    /// The state needs `--repair`, or does not.
    #[error("{0}")]
    Repair(String),
    /// Destruction could not be finished.
    #[error("{0}")]
    Destroy(String),
    /// A root could not be packed.
    #[error(transparent)]
    Pack(#[from] crate::image::pack::Error),
    /// An archive could not be signed.
    #[error(transparent)]
    Sign(#[from] crate::image::sign::Error),
    /// A name that says nothing of the format.
    #[error("{0:?} does not say how to compress: end it in .tar.zst, .tar.gz, .tar.xz or .tar")]
    ArchiveName(PathBuf),
    /// It would grow while it is packed.
    #[error("{0:?} lies in the root that is packed: name a file outside of it")]
    ArchiveInside(PathBuf),
    /// Something that no archive replaces has its name.
    #[error("{0:?} is {1}, which no archive replaces: name a new file, or remove it first")]
    Output(PathBuf, &'static str),
    /// The names beside it would be too long.
    #[error(
        "the name of {0:?} is too long, by its signature's temporary name: use 242 bytes at the most"
    )]
    OutputName(PathBuf),
    /// Two at once.
    #[error(
        "another 'factory pack' is writing {0:?}: wait until it has ended, or name another --output"
    )]
    OutputBusy(PathBuf),
    /// Its temporary name is taken.
    #[error("{0:?} is in the way, and no file that 'factory pack' left: remove it")]
    OutputInTheWay(PathBuf),
    /// Somebody else's file has the temporary name.
    #[error(
        "{0:?} was exchanged or removed by another program, so nothing was packed: name an --output in \
         a directory that nobody else writes to"
    )]
    OutputLost(PathBuf),
    /// A level for something else.
    #[error("--zstd-level goes with a name that ends in .tar.zst, and {0:?} does not")]
    ZstdLevel(PathBuf),
    /// Nothing was typed.
    #[error(
        "no password was given, so no hash was made: anybody could open the console with an empty one"
    )]
    PasswordEmpty,
    /// Longer than the console takes.
    #[error(
        "the password is longer than {0} bytes, which the console does not take: give a shorter one"
    )]
    PasswordTooLong(usize),
    /// A tabulator, an escape sequence, a letter with an accent.
    #[error(
        "the password has characters that cannot be typed at the console: use printable ASCII only (letters without \
         accents, digits, blanks, punctuation)"
    )]
    PasswordUntypable,
    /// Mistyped, one time of two.
    #[error("the two passwords are not the same, so no hash was made: try again")]
    PasswordDiffers,
    /// No terminal, a descriptor that is not open.
    #[error(
        "no password could be read ({0}): use a terminal, or --password-fd with an open descriptor"
    )]
    PasswordUnread(String),
    /// argon2id is meant to need it.
    #[error(
        "there are not 20 MiB of memory for the hash: free some, or run this on another machine"
    )]
    PasswordMemory,
    /// Not an application's name.
    #[error(
        "{0:?} is no application's name: use a-z, 0-9 and '+.-', with a letter or digit first, 32 at the most"
    )]
    AppName(String),
    /// Not the state of data.
    #[error("{0:?} is no state: use letters, digits and '._+~-', 48 at the most")]
    StateName(String),
    /// The word for none.
    #[error("'unknown' is the word for no state: name the one that the data is in, or comes into")]
    StateUnknown,
    /// A conversion that is none.
    #[error("a conversion from {0} to {0} changes nothing: name another state, or leave it out")]
    SameState(String),
    /// Nothing is recorded of it.
    #[error(
        "no state of {0} is recorded: if it has data here, 'backstay state set {0} {1}' says which one that is in"
    )]
    NoState(String, String),
    /// The data is in another state than what would convert it needs.
    #[error(
        "the data of {app} in {dataset} is in state {present}, so nothing may convert it from {from}: 'backstay state \
         history {app}' says how it came there; if only the record is wrong, mend it with 'backstay state set'"
    )]
    NotFrom {
        /// The application.
        app: String,
        /// Where its data lies.
        dataset: String,
        /// The state that is recorded.
        present: String,
        /// The one that was named.
        from: String,
    },
    /// A conversion has not ended.
    #[error(
        "a conversion of {app} in {dataset} {conversion} is open: once the data is converted run 'backstay state commit \
         {app}', or 'backstay state abort {app}' if it is as before"
    )]
    Converting {
        /// The application.
        app: String,
        /// Where its data lies.
        dataset: String,
        /// Which conversion.
        conversion: String,
    },
    /// There is nothing to commit or abort.
    #[error("no conversion of {0} is open: 'backstay state begin {0} FROM TO' opens one")]
    NotConverting(String),
    /// What it converts to is not known.
    #[error(
        "what {0} is being converted to cannot be read: run 'backstay state abort {0}', then record the state that its \
         data is in with 'backstay state set {0} STATE'"
    )]
    ConversionDamaged(String),
    /// There is nothing to keep with a snapshot.
    #[error(
        "this machine has no data dataset: leave --data out, or declare one in layout.toml and run 'backstay init'"
    )]
    NoData,
    /// The settings of a system that does not run.
    #[error(
        "--root leaves the settings of that system alone: say with --keep or --keep-days what stays"
    )]
    NoSettings,
    /// Settings that are not understood.
    #[error(transparent)]
    Settings(#[from] super::data_snapshots::SettingsError),
    /// A dataset that is not there.
    #[error("there is no dataset {0:?} for data on this machine: name one of these: {1}")]
    NoDataset(String, String),
    /// Several, or none, and nothing says which.
    #[error("in which dataset the data of {0} lies is not declared: name it with --dataset ({1})")]
    WhichDataset(String, String),
    /// A declaration that cannot be followed.
    #[error("{path}: {why}: mend it, or name the dataset with --dataset")]
    Declaration {
        /// The file in the live system.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// An option of `fence explain` that goes with something else.
    #[error("{0} goes with {1} only: name that, or leave it out")]
    FenceNeeds(&'static str, &'static str),
    /// The factory snapshot is in an archive.
    #[error(
        "the factory snapshot is to be made from the default tarball first, and nobody knows what it declares until \
         then: 'backstay factory build' makes it now"
    )]
    FenceNotYet,
    /// A version that is not there, or not what it was.
    #[error(
        "{0} is not there, or not what it was when it was sealed: 'backstay list' shows which versions are"
    )]
    NoVersion(String),
    /// An application that nobody knows.
    #[error(
        "no version on this disk declares {0}, and no data here is said to be its: 'backstay fence graph' shows all that \
         there are"
    )]
    NoApplication(String),
    /// An upgrade of what is still to be proved.
    #[error(
        "the live system is on trial: once it is well it is marked good by itself, or by 'backstay mark-good'; upgrade then"
    )]
    OnTrial,
    /// Nothing good would be there to go back to.
    #[error(
        "the live system was not marked good, so the machine would not fall back to it: if it is well, run 'backstay \
         mark-good' first"
    )]
    NotGoodYet,
    /// The fence would not go back to what is live.
    #[error(
        "the live version cannot run on the data as it is, by what its applications declare, so no upgrade could be undone: \
         'backstay fence explain live' says why"
    )]
    UpgradeFenced,
    /// The menu asks for what is done before boot.
    #[error(
        "refused: its data has to be converted in the running system, which no menu does: leave it, and run '{0}'"
    )]
    ByCommand(String),
    /// Another upgrade goes on.
    #[error("an upgrade goes on: wait until it has ended, or end it (Ctrl-C, where it runs)")]
    Upgrading,
    /// A request that only an upgrade makes.
    #[error(
        "an upgrade failed or was interrupted, so the next boot goes back to snapshot {0}: reboot; or, to keep what is live as \
         it is, 'backstay cancel' and 'backstay mark-good'"
    )]
    UpgradeUnfinished(u32),
    /// An upgrade of another machine.
    #[error("what is upgraded is the running system, which is not the one that --root names")]
    UpgradeNeedsRunning,
    /// It was run from something that is not the live system.
    #[error("this system was booted from {0}, the live one is {1}: reboot, then upgrade")]
    UpgradeNotLive(String, String),
    /// In the chroot of a staged upgrade.
    #[error(
        "this is a clone that is being upgraded: no data is here, and nothing can be asked for; a package's script leaves \
         that out where /run/backstay/staged exists (docs/upgrades.md)"
    )]
    InClone,
    /// A clone whose kernels would lie elsewhere.
    #[error(
        "/boot is a file system of its own, which a clone has no part of: upgrade in place, without --staged"
    )]
    StagedBoot,
    /// The upgrade did not come to its end.
    #[error("{0}")]
    Upgrade(String),
    /// The machine could not be restarted.
    #[error("the request is written, but the restart failed ({0}): reboot the machine yourself")]
    Reboot(String),
}

impl Error {
    /// Makes a [`Error::File`] of an I/O error.
    pub fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Error {
        let path = below_top(path.into());
        move |source| Error::File {
            action,
            path,
            source,
        }
    }
}

/// Shorthand.
pub type Result<T> = core::result::Result<T, Error>;

/// The path as a person finds it: the top level is reached by a descriptor of ours, which is nobody
/// else's.
fn below_top(path: PathBuf) -> PathBuf {
    let inside = path.strip_prefix("/proc/self/fd").map(|rest| {
        let mut parts = rest.components();
        parts.next();
        parts.as_path().to_owned()
    });
    match inside {
        Ok(inside) if !inside.as_os_str().is_empty() => inside,
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_below_the_top_level() {
        let denied = || std::io::Error::from_raw_os_error(13);
        let error = Error::file("removing", "/proc/self/fd/3/@backstay/.factory.tar.new")(denied());
        let text = error.to_string();
        assert!(
            text.contains("\"@backstay/.factory.tar.new\"") || text.contains(" @backstay/"),
            "{text}"
        );
        assert!(!text.contains("/proc"), "{text}");
        assert!(
            Error::file("reading", "/etc/x")(denied())
                .to_string()
                .contains("/etc/x")
        );
    }
}
