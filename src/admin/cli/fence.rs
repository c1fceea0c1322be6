//! The arguments of `backstay fence`.

use crate::fence::names::Version;
use crate::fence::question;
use clap::{Args, Subcommand, ValueEnum};

/// `fence`.
#[derive(Debug, Subcommand)]
pub enum Fence {
    /// Say whether a version can run on the data as it is now, and what would be converted or lost
    ///
    /// Nothing is written and nothing is asked for. The answer is about the data alone: 'backstay rollback --dry-run' says
    /// what else a change does. The exit status is 1 if the version is refused.
    Explain(FenceExplain),
    /// Show which states of their data the versions on disk know, and what converts one into another
    ///
    /// For each application: the state that its data is in, what each version writes and reads, and the converters that
    /// each ships.
    Graph(FenceGraph),
}

/// `fence explain`.
#[derive(Debug, Args)]
pub struct FenceExplain {
    /// Where to: the number of a snapshot, or 'previous', 'forward' or 'factory'; or 'live', whose data 'backstay convert'
    /// converts. With --by itself 'previous' is the one that the machine would fall back to
    #[arg(value_name = "VERSION", default_value = "previous", value_parser = to)]
    pub to: To,
    /// As 'backstay select' goes there, for one boot
    #[arg(long)]
    pub once: bool,
    /// With 'factory': as 'backstay reset system --keep config'
    #[arg(long)]
    pub keep_config: bool,
    /// With 'factory': as 'backstay reset everything'
    #[arg(long, conflicts_with = "keep_config")]
    pub everything: bool,
    /// What is agreed to: 'refuse' if it is absent, 'convert' or 'restore'; each is only what it says
    #[arg(long, value_name = "CONSENT", default_value = "refuse")]
    pub consent: Consent,
    /// Who asks, which decides what can be run: 'console' if it is absent, for what is carried out before boot; 'itself' for
    /// the machine that falls back; or 'running' for what is asked for in the running system, which converts the live data
    /// by all converters
    #[arg(long, value_name = "WHO", default_value = "console")]
    pub by: By,
}

/// `fence graph`.
#[derive(Debug, Args)]
pub struct FenceGraph {
    /// Only this application
    pub app: Option<String>,
    /// Show the way to this version, too: the number of a snapshot, or 'factory'
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub to: Option<Version>,
    /// Print it for Graphviz: 'backstay fence graph --dot | dot -Tsvg'
    #[arg(long, conflicts_with = "json")]
    pub dot: bool,
}

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The version before the live one.
    Previous,
    /// The one after it.
    Forward,
    /// This snapshot.
    Snapshot(u32),
    /// The factory version.
    Factory,
    /// Nowhere: the version stays.
    Live,
}

fn to(text: &str) -> Result<To, String> {
    match text {
        "previous" => Ok(To::Previous),
        "forward" => Ok(To::Forward),
        "live" => Ok(To::Live),
        _ => match version(text) {
            Ok(Version::Snapshot(id)) => Ok(To::Snapshot(id)),
            Ok(_) => Ok(To::Factory),
            Err(_) => Err(
                "give the number of a snapshot, 'previous', 'forward', 'factory' or 'live'"
                    .to_owned(),
            ),
        },
    }
}

fn version(text: &str) -> Result<Version, String> {
    let number = text.parse().ok().filter(|id| *id > 0);
    match (text, number) {
        ("factory", _) => Ok(Version::Factory),
        (_, Some(id)) => Ok(Version::Snapshot(id)),
        _ => Err("give the number of a snapshot, or 'factory'".to_owned()),
    }
}

/// What is agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Consent {
    /// Nothing: what has to be converted is refused
    Refuse,
    /// Conversions, also one that loses something where there is no other
    Convert,
    /// To go back to data that was kept, and to lose what came since
    Restore,
}

impl From<Consent> for question::Consent {
    fn from(consent: Consent) -> question::Consent {
        match consent {
            Consent::Refuse => question::Consent::Refuse,
            Consent::Convert => question::Consent::Convert,
            Consent::Restore => question::Consent::Restore,
        }
    }
}

/// What is agreed to about data that the version cannot read as it is.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Agreed {
    /// What is agreed to where that version cannot run on the data: 'refuse' if it is absent; 'convert', to convert a copy
    /// of the data; or 'restore', to go back to data that was kept and lose what came since. 'backstay fence explain' says
    /// what there is
    #[arg(long, value_name = "CONSENT")]
    pub fence: Option<Consent>,
}

impl Agreed {
    /// Nothing, unless something is said.
    pub fn consent(self) -> question::Consent {
        self.fence.map(question::Consent::from).unwrap_or_default()
    }
}

/// What `convert` can be given beside what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Lossy {
    /// Conversions, also one that loses something where there is no other
    Convert,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// A person, in the running system: all converters
    Running,
    /// A person, before boot: only early converters
    Console,
    /// The machine, which falls back with nobody there to agree: only early converters that lose nothing, and that take no
    /// more than an hour in all by their time limits
    Itself,
}

impl From<By> for question::By {
    fn from(by: By) -> question::By {
        match by {
            By::Running => question::By::Running,
            By::Console => question::By::Console,
            By::Itself => question::By::Itself,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_named_as_elsewhere() {
        for (text, expected) in [
            ("previous", Some(To::Previous)),
            ("forward", Some(To::Forward)),
            ("factory", Some(To::Factory)),
            ("12", Some(To::Snapshot(12))),
            ("0", None),
            ("-1", None),
            ("live", Some(To::Live)),
            ("4294967296", None),
            ("", None),
        ] {
            assert_eq!(to(text).ok(), expected, "{text}");
        }
        for text in ["previous", "forward", "live", "0"] {
            assert!(version(text).unwrap_err().contains("factory"), "{text}");
        }
        assert_eq!(version("12"), Ok(Version::Snapshot(12)));
    }
}
