//! `/etc/backstay/snapshots.toml`: when snapshots keep the data, and for how long.
//!
//! ```toml
//! [data]
//! upgrade = true    # 'backstay upgrade' keeps the data with the snapshot that it makes; absent: it does not
//! keep = 5          # of each data dataset the newest so many; absent: 3
//! keep-days = 30    # and those that are not older; absent: no others
//! ```
//! Read to the letter: what is not understood makes the whole file refused, with the line. Absent, all of it is as
//! written above for what is absent.

use crate::policy::retention::Retention;
use serde::Deserialize;
use std::path::Path;
use thiserror::Error;

/// Where the running system has it.
pub const PATH: &str = "/etc/backstay/snapshots.toml";

/// What the owner of the machine wants of snapshots with data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether an upgrade keeps the data with the snapshot that it makes.
    pub upgrade: bool,
    /// What `backstay prune --data` leaves.
    pub retention: Retention,
}

/// It cannot be read.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// Not understood.
    #[error(
        "{PATH}, line {line}: {what}: correct it, or take the line out (docs/data-snapshots.md)"
    )]
    Line {
        /// From 1.
        line: usize,
        /// What the reader of TOML says.
        what: String,
    },
    /// The kernel said no.
    #[error("reading {PATH}: {0}")]
    File(std::io::Error),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    data: Data,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Data {
    upgrade: bool,
    keep: u32,
    keep_days: Option<u32>,
}

impl Default for Data {
    fn default() -> Data {
        let Settings { upgrade, retention } = Settings::default();
        Data {
            upgrade,
            keep: retention.keep,
            keep_days: retention.keep_days,
        }
    }
}

impl Settings {
    /// Those of the running system; the defaults where it has no such file.
    pub fn load() -> Result<Settings, SettingsError> {
        Settings::of(Path::new(PATH))
    }

    fn of(path: &Path) -> Result<Settings, SettingsError> {
        match std::fs::read(path) {
            Ok(bytes) => Settings::parse(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Settings::default()),
            Err(error) => Err(SettingsError::File(error)),
        }
    }

    /// Reads the file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Settings, SettingsError> {
        let line_at = |at: usize| {
            let before = bytes.get(..at).unwrap_or_default();
            before.iter().filter(|byte| **byte == b'\n').count() + 1
        };
        let text = core::str::from_utf8(bytes).map_err(|error| SettingsError::Line {
            line: line_at(error.valid_up_to()),
            what: "it is not UTF-8".to_owned(),
        })?;
        let document: Document = toml::from_str(text).map_err(|error| SettingsError::Line {
            line: line_at(error.span().unwrap_or_default().start),
            what: error.message().replace('\n', " "),
        })?;
        let Data {
            upgrade,
            keep,
            keep_days,
        } = document.data;
        let retention = Retention { keep, keep_days };
        Ok(Settings { upgrade, retention })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_has_its_default() {
        let defaults = Settings::default();
        assert!(!defaults.upgrade);
        assert_eq!(
            defaults.retention,
            Retention {
                keep: 3,
                keep_days: None
            }
        );
        for text in ["", "# nothing\n", "[data]\n"] {
            assert_eq!(Settings::parse(text.as_bytes()).unwrap(), defaults);
        }
        let text = "[data]\nupgrade = true\nkeep = 5\nkeep-days = 30\n";
        let settings = Settings::parse(text.as_bytes()).unwrap();
        assert!(settings.upgrade);
        let (keep, keep_days) = (5, Some(30));
        assert_eq!(settings.retention, Retention { keep, keep_days });
        let none = tempfile::tempdir().unwrap();
        assert_eq!(
            Settings::of(&none.path().join("snapshots.toml")).unwrap(),
            defaults
        );
        assert!(Settings::of(none.path()).is_err());
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        for (text, line) in [
            ("[data]\nupgrade = true\nkept = 5\n", 3),
            ("[data]\nkeep_days = 5\n", 2),
            ("\n[system]\nkeep = 5\n", 2),
            ("[data]\nkeep = -1\n", 2),
            ("[data]\nkeep = \"3\"\n", 2),
            ("[data]\nupgrade = 1\n", 2),
            ("[data]\nkeep = 1\nkeep = 2\n", 3),
            ("[data]\nkeep =\n", 2),
        ] {
            let error = Settings::parse(text.as_bytes()).unwrap_err();
            let said = error.to_string();
            assert!(said.contains(&format!("line {line}: ")), "{text:?}: {said}");
            assert!(!said.contains('\n'), "{said}");
        }
        let said = Settings::parse(b"[data]\n\xff").unwrap_err().to_string();
        assert!(
            said.contains("line 2: ") && said.contains("UTF-8"),
            "{said}"
        );
    }
}
