//! The admin command: everything about versions that the running system, or an image builder, does.
//!
//! It never exchanges what is live. `snapshot`, `factory seal` and `mark-good` act by themselves;
//! `rollback`, `forward`, `select` and `reset` write a [`request`] that the agent carries out at
//! the next boot. [`machine`] finds and locks the store; [`run`] goes from arguments to the verbs,
//! one module each. A power cut leaves at each point what the verb's module says.

pub mod anew;
mod app;
pub mod baseline;
pub mod build;
pub mod changed;
pub mod cli;
pub mod consent;
mod copies;
pub mod data_snapshots;
pub mod error;
pub mod factory;
mod fence;
mod files;
mod fstab;
pub mod good;
pub mod grub;
pub mod health;
pub mod init;
pub mod initramfs;
pub mod install;
pub mod layout_file;
pub mod list;
pub mod machine;
mod menu;
pub mod output;
pub mod own_kernel;
pub mod pack;
mod packages;
pub mod password;
pub mod pristine;
pub mod prune;
pub mod reboot;
pub mod recovery;
pub mod repair;
pub mod request;
pub mod run;
mod run_ask;
mod run_convert;
mod run_factory;
mod run_good;
mod run_prune;
mod run_staged;
mod run_state;
mod run_trial;
mod run_upgrade;
pub mod snapshot;
pub mod state;
pub mod status;
pub mod tarball;
mod terminal;
pub mod trial;
pub mod trusted;
pub mod upgrade;

use clap::{CommandFactory, Parser};
use std::process::ExitCode;

/// Refused, or failed.
const FAILED: u8 = 1;
/// There was nothing to do. (2 is clap's, for wrong arguments.)
const NOTHING: u8 = 3;

/// The arguments, for the manual page and the completions.
pub fn command() -> clap::Command {
    cli::Cli::command()
}

/// The whole program.
pub fn main() -> ExitCode {
    match run::run(&cli::Cli::parse()) {
        Ok(_) if output::lost() => {
            // Where even this cannot be said, the exit status does.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                b"backstay: done, but the answer could not be written to standard output\n",
            );
            ExitCode::from(FAILED)
        }
        Ok(run::Ended::Done) => ExitCode::SUCCESS,
        Ok(run::Ended::Nothing) => ExitCode::from(NOTHING),
        Ok(run::Ended::Unwell) => ExitCode::from(FAILED),
        Err(error) => {
            // The terminal may be gone, as where an upgrade has been told to end by that.
            let line = format!("backstay: {error}\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
            ExitCode::from(FAILED)
        }
    }
}
