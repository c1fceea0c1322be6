//! What the machine's owner lets the agent do: `/etc/backstay/policy.toml` of the initramfs, which was
//! put there from the system that the initramfs was built from.
//!
//! ```toml
//! [tarball]
//! unsigned = true    # take a default tarball whose signature nobody can check
//!
//! [watchdog]
//! seconds = 120      # a system on trial must be up by then, or take the watchdog over
//! driver = "iTCO_wdt"
//! ```
//! Absent, or not understood to the last word, it allows nothing.

use serde::Deserialize;

/// Where the initramfs has it.
pub const PATH: &str = "/etc/backstay/policy.toml";
/// Where it has the keys whose signatures count.
pub const KEYS: &str = "/etc/backstay/keys";
/// The watchdog's device: the kernel's first.
pub const WATCHDOG: &str = "/dev/watchdog0";

/// The whole file. The default is the strictest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// About default tarballs.
    #[serde(default)]
    pub tarball: Tarball,
    /// The watchdog of a system on trial; absent: none.
    pub watchdog: Option<Watchdog>,
}

/// `[watchdog]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watchdog {
    /// From the hand-over until the system must be up, in seconds.
    pub seconds: u32,
    /// The kernel module of its driver, if it is one: it goes into the initramfs.
    pub driver: Option<String>,
}

/// `[tarball]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tarball {
    /// One without a signature may be used.
    #[serde(default)]
    pub unsigned: bool,
}

/// It is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy.toml is not understood: {0}; backstay(8) says what it may hold")]
pub struct NotUnderstood(String);

/// Reads the text of the file.
///
/// # Errors
/// What is not understood, in one line.
pub fn parse(text: &str) -> Result<Policy, NotUnderstood> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| {
            let before = text.get(..span.start).unwrap_or_default();
            before.matches('\n').count() + 1
        });
        let why = error.message().lines().next().unwrap_or("");
        NotUnderstood(format!("line {line}: {why}"))
    })
}

/// The policy of this initramfs; what is wrong with it is said.
pub fn of_initramfs() -> Policy {
    let text = match std::fs::read_to_string(PATH) {
        Ok(text) => text,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                log::warn!("read({PATH:?}): {error}; nothing is allowed");
            }
            return Policy::default();
        }
    };
    parse(&text).unwrap_or_else(|error| {
        log::warn!("{error}; nothing is allowed");
        Policy::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_understood_to_the_last_word_allows_something() {
        assert_eq!(parse("").unwrap(), Policy::default());
        assert!(!parse("[tarball]\n").unwrap().tarball.unsigned);
        assert!(
            parse("[tarball]\nunsigned = true\n")
                .unwrap()
                .tarball
                .unsigned
        );
        for (text, line) in [
            ("[tarball]\nunsigned = \"yes\"\n", "line 2"),
            ("[tarball]\nunsigned = true\nunsinged = true\n", "line 3"),
            ("[tarbal]\nunsigned = true\n", "line 1"),
            ("unsigned = true\n", "line 1"),
            ("[tarball\n", "line 1"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(line), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
