//! What the backstay.* parameters of one command line ask for.

use core::fmt;

/// Longest location of a tarball, in bytes.
pub(crate) const TARBALL_MAX: usize = 255;

/// Where the default tarball lies: `SOURCE:/PATH`, checked for its form only.
pub type Tarball = heapless::String<TARBALL_MAX>;

/// One whole request. `Request::default()` asks for nothing: boot the live set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// What to do. `None`: boot.
    pub verb: Option<Verb>,
    /// `backstay.keep=config`: `reset system` keeps the live configuration.
    pub keep_config: bool,
    /// `backstay.fence=`: what to do when the data cannot be read by the version asked for.
    pub fence: Option<Fence>,
    /// `backstay.tarball=`: the tarball to take where the factory snapshot is missing or failed.
    pub tarball: Option<Tarball>,
    /// `backstay.console=json`: one JSON object a line on the console.
    pub console_json: bool,
    /// `backstay.present`: a person pressed ESC at the entry's question.
    pub present: bool,
    /// `backstay.attempt=SEQ:N`: this boot is a counted attempt of a trial.
    pub attempt: Option<Attempt>,
}

/// What a request does. At most one stands on a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Promote an earlier snapshot; what is live becomes a snapshot.
    Rollback(Target),
    /// Undo the last rollback.
    Forward,
    /// Boot a clone of the snapshot with this id once.
    Select(u32),
    /// Back to the factory's or the version's own state.
    Reset(Level),
    /// The serial console's menu, with its time-out in seconds where one was given.
    Menu(Option<u32>),
}

/// Which snapshot a rollback goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The one before the live set in the history.
    Previous,
    /// The one with this id.
    Id(u32),
}

/// How much a reset covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The configuration, from the live version's own defaults.
    Config,
    /// The same, and each data dataset fresh from its template.
    ConfigAndData,
    /// The factory's system and configuration; the data stays.
    System,
    /// The factory's system and configuration, and all data fresh.
    Everything,
}

/// What `backstay.fence=` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Refuse a version that cannot read the present data.
    Refuse,
    /// Convert the data first.
    Convert,
    /// Go back to the data as it was before, losing what came since.
    Restore,
}

/// One counted attempt of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Sequence number of the state record that counted it.
    pub seq: u32,
    /// Which attempt of the trial this is, from 1; 0 where the recovery kernel started itself.
    pub n: u32,
}

impl Verb {
    /// Whether it changes the live set, and so needs the sentinel and a person's consent.
    #[must_use]
    pub const fn changes(&self) -> bool {
        match self {
            Self::Rollback(_) | Self::Forward | Self::Select(_) | Self::Reset(_) => true,
            Self::Menu(_) => false,
        }
    }
}

/// As on the command line, without the prefix: `reset=config,data`.
impl fmt::Display for Verb {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rollback(Target::Previous) => out.write_str("rollback=previous"),
            Self::Rollback(Target::Id(id)) => write!(out, "rollback={id}"),
            Self::Forward => out.write_str("forward"),
            Self::Select(id) => write!(out, "select={id}"),
            Self::Reset(level) => write!(out, "reset={level}"),
            Self::Menu(None) => out.write_str("menu"),
            Self::Menu(Some(seconds)) => write!(out, "menu={seconds}"),
        }
    }
}

/// As on the command line: `config,data`.
impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Config => "config",
            Self::ConfigAndData => "config,data",
            Self::System => "system",
            Self::Everything => "everything",
        })
    }
}
