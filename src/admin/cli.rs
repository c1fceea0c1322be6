//! The arguments. The manual page and the completions are made from this.

mod fence;
mod prune;
mod state;
mod upgrade;

pub use fence::{Agreed, By, Consent, Fence, FenceExplain, FenceGraph, Lossy, To};
pub use prune::Prune;
pub use state::{Dataset, State};
pub use upgrade::Upgrade;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

/// Rolls a system back and forward, boots a snapshot once, resets to the factory version.
///
/// Changes of what boots are not made in the running system: they are written down as a request,
/// and the agent carries them out at the next boot, before any root is mounted. Until then
/// 'backstay cancel' withdraws them.
#[derive(Debug, Parser)]
#[command(name = "backstay", version, max_term_width = 100)]
pub struct Cli {
    /// The mounted top level of a store (subvolume id 5), for image builders and rescue systems;
    /// without it, the file system that the running system was booted from
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Print data as JSON with stable field names
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prepare a store: records, defaults, templates, the recovery kernel, GRUB's menu
    ///
    /// Reads layout.toml of the live system, in /etc/backstay or /usr/lib/backstay. Where there is none,
    /// the running system is looked at: what a rollback will cover, what stays and what is to be done
    /// is said, and done once that is confirmed. Can be run again: what is there already is kept, what is
    /// missing is made.
    Init(Init),
    /// Undo 'init' in the running system: GRUB's files go back into the root, the store is removed
    ///
    /// Every snapshot and the factory snapshot are deleted. What is live stays as it is, and so do
    /// datasets that 'init' made of directories: they are mounted by /etc/fstab.
    Uninstall(Uninstall),
    /// Say what would keep a rollback of the running system from doing what it says, one line each with
    /// its remedy
    ///
    /// The exit status is 1 if there is a problem.
    Doctor,
    /// Keep a snapshot of what is live
    Snapshot {
        /// For people; without it only the version is named
        #[arg(long, default_value = "")]
        title: String,
        /// Keep the data with it: each data dataset as it is at one instant, one right after the other
        ///
        /// Going back to the snapshot leaves the live data as it is; with --fence restore the kept data takes its place
        /// where the version could not run on the live one.
        #[arg(long)]
        data: bool,
    },
    /// Delete data that snapshots keep; the snapshots stay, and go back to their versions as before
    ///
    /// Of each dataset the newest stay, and what is not older than some days, as /etc/backstay/snapshots.toml says (see
    /// DATA OF SNAPSHOTS). Never deleted is what a trial, a boot once, a waiting request or 'reset everything' needs. The exit
    /// status is 3 if nothing is to be deleted. Run by backstay-prune-data.timer, where that is enabled.
    Prune(Prune),
    /// The factory snapshot
    Factory {
        /// What to do
        #[command(subcommand)]
        command: Factory,
    },
    /// The recovery kernel
    Recovery {
        /// What to do
        #[command(subcommand)]
        command: Recovery,
    },
    /// List the snapshots, and where the live system stands among them
    List,
    /// Say what is live, what waits for the next boot, and whether all is well
    Status,
    /// The menu that a start opens when something is wrong, here in the running system
    ///
    /// The same commands and the same plans, so that they are known before they are needed: 'list' shows the versions,
    /// 'diff' and 'look' what is in them, 'rollback', 'once' and 'reset' ask for a change. Looking changes nothing. A
    /// change shows its plan and wants a word typed; the next start makes it, and until then 'backstay cancel' withdraws
    /// it. 'help' lists everything, and 'exit' leaves.
    ///
    /// With --json it is for programs: one JSON object a line on standard input and output, as on a console with
    /// backstay.console=json.
    Menu,
    /// Ask for the version before the present one, or for a snapshot
    Rollback {
        /// The snapshot; without it the one before the live system
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        id: Option<u32>,
        /// About the data
        #[command(flatten)]
        agreed: Agreed,
        /// How
        #[command(flatten)]
        how: How,
    },
    /// Ask to undo the last rollback
    Forward {
        /// About the data
        #[command(flatten)]
        agreed: Agreed,
        /// How
        #[command(flatten)]
        how: How,
    },
    /// Ask to boot a clone of a snapshot once; the boot after it returns
    Select {
        /// The snapshot
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        id: u32,
        /// How
        #[command(flatten)]
        how: How,
    },
    /// Ask to reset the configuration, the system, or everything
    Reset(Reset),
    /// Ask to convert the data that the live version does not read, and keep the version
    ///
    /// After an upgrade in place whose packages leave that to backstay. Copies are converted and put in the place of what is
    /// live; that is kept. A conversion on which nothing is lost needs no more than this command.
    Convert {
        /// Convert also where something is lost on every way there is
        #[arg(long, value_name = "CONSENT")]
        fence: Option<Lossy>,
        /// How
        #[command(flatten)]
        how: How,
    },
    /// Upgrade the system as a whole: it is undone if it fails, and on trial if it does not
    ///
    /// A snapshot is kept first, then COMMAND is run. If it fails, is interrupted, or the power goes, the next boot goes back
    /// to the snapshot. If it succeeds, the system is on trial: unless it is marked good within three starts, the machine falls
    /// back. Of data that the new version does not read a copy is converted at once, with its services stopped until the
    /// reboot, if nothing is lost by that; otherwise the upgrade is undone.
    ///
    /// With --staged COMMAND is run in a clone of the system, in a chroot where no service starts and no data can be reached.
    /// It becomes a snapshot of its own, which the next boot goes forward to; if it fails, it is deleted.
    ///
    /// Without COMMAND: 'apt-get update', then 'apt-get -y full-upgrade'. A configuration file that was changed stays as it is,
    /// and the packager's new one lies beside it as FILE.dpkg-dist; one that was not changed is replaced. Nobody is asked
    /// anything: COMMAND finds DEBIAN_FRONTEND=noninteractive and APT_LISTCHANGES_FRONTEND=none.
    ///
    /// The exit status is 0 if there is a new version, 1 if something failed or was refused, 3 if there was nothing to upgrade.
    Upgrade(Upgrade),
    /// Withdraw what waits for the next boot
    Cancel,
    /// Put the live system on trial, after an upgrade in place: it falls back unless it is marked good
    ///
    /// Refused where nothing would mark it good.
    Try,
    /// Leave no start to the live system, which is on trial: the next start falls back
    MarkBad {
        /// Restart at once
        #[arg(long)]
        reboot: bool,
    },
    /// Restart the live system if it is on trial, because its start has failed
    ///
    /// Run by backstay-start-failed.service.
    StartFailed,
    /// Mark the live system as good; finishes 'reset everything'
    ///
    /// Run by backstay-mark-good.service after boot-complete.target.
    MarkGood(MarkGood),
    /// In which state the data of applications is: read, recorded, and kept right while a script converts it
    State {
        /// What to do
        #[command(subcommand)]
        command: State,
    },
    /// Which versions can run on the data of applications as it is, and why
    Fence {
        /// What to do
        #[command(subcommand)]
        command: Fence,
    },
    /// Build the initramfs that holds the agent
    Initramfs(Initramfs),
    /// Print the hash of a password for the agent's console, for policy.toml
    ///
    /// The password is asked for twice on the terminal; where standard input is none, its first line is the
    /// password. What has to be written where is said on standard error.
    Password(Password),
    /// What applications declare about the formats of their data
    App {
        /// What to do
        #[command(subcommand)]
        command: App,
    },
    /// Keep a copy of the kernel in the system, where /boot is a file system of its own
    ///
    /// Run by the hooks of the kernel's and the initramfs's packages.
    KeepKernel,
    /// Print the entries for GRUB's menu, for /etc/grub.d/09_backstay
    #[command(hide = true)]
    GrubEntries(GrubEntries),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// `mark-good`.
#[derive(Debug, Args)]
pub struct MarkGood {
    /// Delete what 'reset everything' replaced although somebody tried to go back
    #[arg(long)]
    pub delete: bool,
    /// Run the checks in /etc/backstay/health.d first: if a required one fails, nothing is marked
    #[arg(long, conflicts_with = "delete")]
    pub check: bool,
}

/// `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Kernel parameters of every boot, such as "console=ttyS0,115200"; kept in grub/backstay.cfg
    #[arg(long, value_name = "PARAMETERS")]
    pub cmdline: Option<String>,
    /// With --root: the name of the system dataset
    #[arg(
        long,
        value_name = "NAME",
        default_value = "@rootfs",
        requires = "root"
    )]
    pub system: String,
    /// Read this layout instead of the system's own
    #[arg(long, value_name = "FILE")]
    pub layout: Option<PathBuf>,
    /// The agent's program, instead of the system's /usr/lib/backstay/backstay-init
    #[arg(long, value_name = "FILE")]
    pub agent: Option<PathBuf>,
    /// Rebuild a state that is damaged in both slots from the snapshots that are there
    #[arg(long)]
    pub repair: bool,
    /// Without a layout.toml: make this directory a dataset of its own, too; can be given several times
    #[arg(long = "move", value_name = "DIR")]
    pub moved: Vec<String>,
    /// Without a layout.toml: leave this directory in the root; can be given several times
    #[arg(long = "leave", value_name = "DIR")]
    pub left: Vec<String>,
    /// Without a layout.toml: say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Without a layout.toml: do not ask
    #[arg(long)]
    pub yes: bool,
}

/// `factory`.
#[derive(Debug, Subcommand)]
pub enum Factory {
    /// Seal the live datasets of an image that was never booted as the factory snapshot
    Seal {
        /// Remove the live datasets afterwards: the first start of the image makes them
        #[arg(long)]
        first_boot: bool,
    },
    /// Pack a root directory as the default tarball, from which a factory snapshot can be made
    ///
    /// The same root gives the same bytes. What is left out or changed is said, and so is what a
    /// factory version should not hold, such as passwords and host keys.
    Pack(Pack),
    /// Make the factory snapshot from an archive that 'factory pack' or tar made
    ///
    /// The archive's signature is checked before anything is unpacked. Nothing that is live changes. A
    /// factory snapshot that was there stays under a number of its own, and nothing goes back to it.
    Build(Build),
    /// Install the distribution anew, with the packages that are installed now, and keep that as the factory snapshot
    ///
    /// By mmdebstrap, from the archives that apt knows, as they are now. The new system has this one's fstab,
    /// boot loader settings, host name, network configuration and root's password, and nothing else of it.
    Install(Install),
    /// Keep a cleaned copy of the live system in the factory snapshot's place
    ///
    /// For a system that came without a factory version. What is one machine's (its machine id, host keys,
    /// logs, seeds) is left out; accounts stay, and are named. It is called a baseline wherever it is shown.
    Baseline {
        /// Put it in the place of a factory snapshot that is sound
        #[arg(long)]
        replace: bool,
    },
    /// Keep an archive in the store as the default tarball
    ///
    /// The agent makes the factory snapshot from it where that is missing or was changed, if its
    /// signature is good. It is tried out before it replaces the one that was there: a factory snapshot is
    /// made from it and removed again.
    Keep(Archived),
}

/// An archive and who is trusted to have made it.
#[derive(Debug, Args)]
pub struct Archived {
    /// The archive: tar, or tar compressed by zstd, gzip or xz
    #[arg(long = "from", value_name = "FILE")]
    pub archive: PathBuf,
    /// Its signature, if that is not FILE.minisig
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// Trust this public key of minisign, instead of those that the store's recovery kernel trusts; can be
    /// given several times
    #[arg(long = "key", value_name = "FILE")]
    pub keys: Vec<PathBuf>,
    /// Do not check any signature
    #[arg(long, conflicts_with_all = ["signature", "keys"])]
    pub unsigned: bool,
}

/// `factory install`.
#[derive(Debug, Args)]
pub struct Install {
    /// The file of a package that is in no archive; can be given several times
    #[arg(long = "package", value_name = "FILE")]
    pub packages: Vec<PathBuf>,
    /// Leave an installed package out; can be given several times
    #[arg(long, value_name = "NAME")]
    pub without: Vec<String>,
    /// Install it although root has no password here, so that nobody could log in
    #[arg(long)]
    pub no_login: bool,
    /// Put it in the place of a factory snapshot that is sound
    #[arg(long)]
    pub replace: bool,
}

/// `uninstall`.
#[derive(Debug, Args)]
pub struct Uninstall {
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
}

/// `factory build`.
#[derive(Debug, Args)]
pub struct Build {
    /// From what
    #[command(flatten)]
    pub archive: Archived,
    /// Put it in the place of a factory snapshot that is sound
    #[arg(long)]
    pub replace: bool,
}

/// `factory pack`.
#[derive(Debug, Args)]
pub struct Pack {
    /// The root: an unpacked system that nothing writes to
    #[arg(value_name = "ROOT")]
    pub root: PathBuf,
    /// The archive to write; replaced as a whole. It ends in .tar.zst, .tar.gz, .tar.xz or .tar
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Sign with this secret key of minisign; the signature is FILE.minisig
    #[arg(long, value_name = "SECRET")]
    pub key: Option<PathBuf>,
    /// Read the key's password from this file descriptor, instead of asking for it on the terminal
    #[arg(long, value_name = "NUMBER", requires = "key")]
    pub password_fd: Option<u32>,
    /// zstd's level, 9 if it is not given; 19 packs smallest, in some minutes
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(1..=19))]
    pub zstd_level: Option<u8>,
}

/// `recovery`.
#[derive(Debug, Subcommand)]
pub enum Recovery {
    /// Make the live system's kernel, with the present agent, the recovery kernel
    Install {
        /// The agent's program, instead of the system's /usr/lib/backstay/backstay-init
        #[arg(long, value_name = "FILE")]
        agent: Option<PathBuf>,
    },
}

/// `app`.
#[derive(Debug, Subcommand)]
pub enum App {
    /// Look at declarations of applications, before they are shipped: what is wrong, and what may not be meant
    ///
    /// With --root, which is here the root directory of a system or the tree that a package installs, the converters
    /// are looked for below it, and its layout.toml is read; without it, on a machine with a store, root is told of data
    /// there that has no state recorded. The exit status is 1 if there is an error; notes alone leave it at 0.
    Check(AppCheck),
    /// Refuse packages whose programs could not read the data as it is; paths of Debian archives on standard input
    ///
    /// Run by apt before it installs anything (/etc/apt/apt.conf.d/20backstay).
    Guard,
}

/// `app check`.
#[derive(Debug, Args)]
pub struct AppCheck {
    /// Declarations, as in /usr/lib/backstay/apps.d, or directories of them
    #[arg(value_name = "FILE|DIR", required = true)]
    pub paths: Vec<PathBuf>,
    /// Read the datasets from this layout
    #[arg(long, value_name = "FILE")]
    pub layout: Option<PathBuf>,
}

/// How a change is asked for.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct How {
    /// Say what would change, what would stay and how to undo it, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Reboot at once, so that it is carried out now
    #[arg(long, conflicts_with = "dry_run")]
    pub reboot: bool,
}

/// `reset`.
#[derive(Debug, Args)]
pub struct Reset {
    /// What is reset
    pub what: What,
    /// With 'system': what stays nevertheless
    #[arg(long, value_name = "WHAT")]
    pub keep: Option<Keep>,
    /// About the data
    #[command(flatten)]
    pub agreed: Agreed,
    /// Do not ask for the word to be typed
    #[arg(long)]
    pub yes: bool,
    /// How
    #[command(flatten)]
    pub how: How,
}

/// What is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// The configuration, to this version's defaults
    Config,
    /// The configuration, and each data dataset becomes empty; the system keeps its version
    #[value(name = "config,data")]
    ConfigAndData,
    /// System and configuration, to the factory version; data stays
    System,
    /// All of it; once the new system was marked good, the old data and all snapshots are deleted
    Everything,
}

/// What stays at `reset system`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Keep {
    /// The configuration
    Config,
}

/// `grub-entries`.
#[derive(Debug, Args)]
pub struct GrubEntries {
    /// Title of the entry that starts the system
    #[arg(long, value_name = "TEXT")]
    pub title: String,
    /// Kernel parameters of every start, quoted as GRUB has them
    #[arg(long, value_name = "PARAMETERS", allow_hyphen_values = true)]
    pub cmdline: String,
}

/// `password`.
#[derive(Debug, Args)]
pub struct Password {
    /// Read the password, one line, from this file descriptor
    #[arg(long, value_name = "NUMBER")]
    pub password_fd: Option<u32>,
}

/// `initramfs`.
#[derive(Debug, Args)]
pub struct Initramfs {
    /// The kernel's release, as below /lib/modules
    #[arg(long, value_name = "RELEASE")]
    pub kernel: String,
    /// The archive to write; replaced as a whole
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// The root whose modules are taken
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root_dir: PathBuf,
    /// The agent's program, instead of that root's /usr/lib/backstay/backstay-init
    #[arg(long, value_name = "FILE")]
    pub agent: Option<PathBuf>,
    /// One more module, by name or alias; can be given several times
    #[arg(long = "module", value_name = "NAME")]
    pub modules: Vec<String>,
    /// A static shell for whoever sits at the console; without it there is none
    #[arg(long, value_name = "FILE")]
    pub shell: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_agreed_to_is_an_option_of_what_leaves_the_live_version() {
        use crate::record::state::Consent;
        for (line, want) in [
            ("rollback", Consent::Refuse),
            ("rollback 12 --fence convert", Consent::Convert),
            ("forward --fence restore", Consent::Restore),
            (
                "reset system --keep config --fence convert",
                Consent::Convert,
            ),
        ] {
            let words = ["backstay"].into_iter().chain(line.split(' '));
            let agreed = match Cli::try_parse_from(words).unwrap().command {
                Command::Rollback { agreed, .. } | Command::Forward { agreed, .. } => agreed,
                Command::Reset(reset) => reset.agreed,
                other => panic!("{other:?}"),
            };
            assert_eq!(agreed.consent(), want, "{line}");
        }
    }

    #[test]
    fn wrong_arguments_are_refused_with_the_usage_code() {
        for line in [
            "backstay",
            "backstay rollback 0",
            "backstay rollback -- -1",
            "backstay rollback twelve",
            "backstay select",
            "backstay reset",
            "backstay reset data",
            "backstay app",
            "backstay app check",
            "backstay reset config,data,system",
            "backstay reset system --keep data",
            "backstay rollback --dry-run --reboot",
            "backstay init --system @root",
            "backstay snapshot extra",
            "backstay upgrade apt-get",
            "backstay upgrade --staged --data",
            "backstay upgrade --dry-run --reboot",
            "backstay prune",
            "backstay prune --keep 3",
            "backstay prune --data --keep -1",
            "backstay factory pack /root",
            "backstay factory pack /root --output a.tar.zst --zstd-level 20",
            "backstay factory pack /root --output a.tar.zst --password-fd 3",
            "backstay state",
            "backstay state begin shop 1",
            "backstay state set shop",
            "backstay state commit",
            "backstay rollback --fence yes",
            "backstay rollback --fence",
            "backstay select 3 --fence convert",
            "backstay fence",
            "backstay convert --fence restore",
            "backstay convert 12",
            "backstay fence explain 0",
            "backstay fence explain 1 2",
            "backstay fence explain --consent yes",
            "backstay fence explain --by nobody",
            "backstay fence explain factory --everything --keep-config",
            "backstay fence graph --to previous",
            "backstay fence graph --dot --json",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert!(
                ["backstay", "backstay state", "backstay fence"].contains(&line)
                    || error.exit_code() == 2,
                "{line}"
            );
        }
    }
}
