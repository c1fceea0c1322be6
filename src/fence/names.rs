//! The names that a declaration brings: checked once, where they come in, and bounded, since they become parts of
//! paths, of an extended attribute's name and of its value.

use core::fmt;
use heapless::String;
use serde::Serialize;

/// Bytes of an application's name at the most.
pub const APP_MAX: usize = 32;
/// Bytes of a state at the most.
pub const STATE_MAX: usize = 48;

/// An application's name, which is the name of its declaration's file without `.toml`, and the end of the attribute's
/// name (`trusted.backstay.state.<app>`): `[a-z0-9][a-z0-9+.-]{0,31}`, as Debian names packages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AppName(String<APP_MAX>);

impl AppName {
    /// `None` for what is no such name.
    pub fn new(text: &str) -> Option<AppName> {
        let small = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let whole = text.starts_with(small)
            && text
                .chars()
                .all(|c| small(c) || matches!(c, '+' | '.' | '-'));
        String::try_from(text).ok().filter(|_| whole).map(AppName)
    }

    /// The name of a declaration's file: `<app>.toml`.
    pub fn of_file(name: &str) -> Option<AppName> {
        AppName::new(name.strip_suffix(".toml")?)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// The format of an application's data, in its maker's own words: `[A-Za-z0-9._+~-]{1,48}`. Only compared; no order is
/// read into it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AppState(String<STATE_MAX>);

impl AppState {
    /// The word for data of which no state is recorded. No label has it.
    pub fn unknown() -> AppState {
        // It fits.
        AppState(String::try_from("unknown").unwrap_or_default())
    }

    /// `None` for what is no such state.
    pub fn new(text: &str) -> Option<AppState> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
        let whole = !text.is_empty() && text.chars().all(plain);
        String::try_from(text).ok().filter(|_| whole).map(AppState)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A version on disk, oldest first: ids grow, the factory version was there before them, and what is live is the
/// newest one that there is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Version {
    /// The factory snapshot.
    Factory,
    /// The snapshot with this id.
    Snapshot(u32),
    /// The live system.
    Live,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Factory => f.write_str("the factory version"),
            Version::Snapshot(id) => write!(f, "snapshot {id}"),
            Version::Live => f.write_str("the live system"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_named_as_a_debian_package_is() {
        for (text, good) in [
            ("postgresql", true),
            ("libc++1.0-x", true),
            ("0ad", true),
            (&"a".repeat(32), true),
            (&"a".repeat(33), false),
            ("", false),
            ("Foo", false),
            (".foo", false),
            ("-foo", false),
            ("+foo", false),
            ("a/b", false),
            ("a_b", false),
            ("a b", false),
            ("ä", false),
            ("a\n", false),
        ] {
            assert_eq!(AppName::new(text).is_some(), good, "{text:?}");
        }
        assert_eq!(
            AppName::of_file("postgresql.toml"),
            AppName::new("postgresql")
        );
        assert_eq!(AppName::of_file("postgresql.toml.dpkg-new"), None);
        assert_eq!(AppName::of_file(".toml"), None);
    }

    #[test]
    fn a_state_has_a_small_alphabet() {
        for (text, good) in [
            ("15", true),
            ("2.0~rc1+git-3_x", true),
            (&"9".repeat(48), true),
            (&"9".repeat(49), false),
            ("", false),
            ("1:2", false),
            ("1 2", false),
            ("1\"", false),
            ("1\0", false),
            ("é", false),
        ] {
            assert_eq!(AppState::new(text).is_some(), good, "{text:?}");
        }
    }

    #[test]
    fn the_live_system_is_newer_than_every_snapshot_and_the_factory_older() {
        let mut all = [
            Version::Live,
            Version::Snapshot(9),
            Version::Factory,
            Version::Snapshot(10),
        ];
        all.sort_unstable();
        assert_eq!(
            all,
            [
                Version::Factory,
                Version::Snapshot(9),
                Version::Snapshot(10),
                Version::Live
            ]
        );
    }
}
