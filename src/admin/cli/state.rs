//! The arguments of `backstay state`.

use clap::{Args, Subcommand};

/// `state`.
#[derive(Debug, Subcommand)]
pub enum State {
    /// List in which state the data of each application is, since when, and whether it is being converted
    ///
    /// The state is kept with the data, so it goes wherever that goes: into snapshots, and back with them. The exit
    /// status is 1 if APP is given and nothing is recorded of it.
    Get {
        /// Only this application
        app: Option<String>,
    },
    /// Record the state that existing data is in
    ///
    /// For data that was there before its state was recorded, and for a package that has just made its first data.
    /// Refused while a conversion is open. A program that changes data from one state to another says 'begin' and
    /// 'commit' instead.
    Set {
        /// The application, as its declaration in /usr/lib/backstay/apps.d is called
        app: String,
        /// The state, such as 15 or 2024.3
        state: String,
        /// Where
        #[command(flatten)]
        at: Dataset,
    },
    /// Say that the data is about to be converted in place, before anything of it is changed
    ///
    /// Until 'commit' or 'abort' the data is in neither state, and no version is taken to read it. Refused unless the
    /// data is in state FROM, or while another conversion of the application is open. Once this returns, it is on disk.
    /// The exit status is 3 if the same conversion was begun before and has not ended: the data may be half converted,
    /// and only a program that can go on from there may do so.
    Begin {
        /// The application
        app: String,
        /// The state that the data is in; 'unknown' if none is recorded
        from: String,
        /// The state that it will be in
        to: String,
        /// Where
        #[command(flatten)]
        at: Dataset,
    },
    /// Say that the data is converted: it is in the state that 'begin' named
    ///
    /// Once this returns, the data and its state are on disk.
    Commit {
        /// The application
        app: String,
        /// Where
        #[command(flatten)]
        at: Dataset,
    },
    /// Say that the data is as it was before 'begin': it stays in its state
    ///
    /// Only for a program that has changed nothing, or has put everything back: nothing checks that. Data that is half
    /// converted is left as it is, with the conversion open, or comes back from a snapshot.
    Abort {
        /// The application
        app: String,
        /// Where
        #[command(flatten)]
        at: Dataset,
    },
    /// List the states that the data of an application went through
    History {
        /// The application
        app: String,
    },
}

/// In which dataset the data lies.
#[derive(Debug, Args)]
pub struct Dataset {
    /// The dataset with the data, by its name in layout.toml; without it the one that the application declares, that has
    /// a state of it already, or that is the only one for data
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
}
