//! The arguments of `backstay prune`.

use clap::Args;

/// `prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// The data of snapshots; nothing else is pruned yet
    #[arg(long, required = true)]
    pub data: bool,
    /// Leave so many of each dataset, the newest, whatever the settings say
    #[arg(long, value_name = "N")]
    pub keep: Option<u32>,
    /// And those that were kept within so many days
    #[arg(long, value_name = "N")]
    pub keep_days: Option<u32>,
    /// Also data that comes back by itself with its snapshot, since a reset or a fallback replaced it
    #[arg(long)]
    pub reset_data: bool,
    /// Say what would be deleted, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}
