//! The arguments of `backstay upgrade`.

use clap::Args;
use std::ffi::OsString;

/// `upgrade`.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// Upgrade a clone; the live system stays as it is
    #[arg(long)]
    pub staged: bool,
    /// Reboot once it is done; also after a failure, if that is to be undone
    #[arg(long, conflicts_with = "dry_run")]
    pub reboot: bool,
    /// For people: of the snapshot that is kept, or with --staged of the new version
    #[arg(long, value_name = "TITLE")]
    pub title: Option<String>,
    /// Keep the data with the snapshot, too, so that going back can bring it back
    #[arg(long, conflicts_with = "staged")]
    pub data: bool,
    /// Say what would be done, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// What upgrades, and its arguments; without it all packages are upgraded by apt-get
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
