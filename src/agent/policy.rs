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
//!
//! [console]
//! menu = "open"          # or "password": who may look
//! change = "password"    # or "open", "closed": who may change what boots
//! shell = "closed"       # or "password", "open"
//! password = "$argon2id$v=19$m=19456,t=2,p=1$..."    # of 'backstay password'
//! ```
//! Not understood to the last word, it allows nothing ([`Policy::nothing_allowed`]). Absent, neither, but that the
//! console changes what boots for whoever types the word. No message holds a value of it: it may be a secret.

pub mod console;

use console::Console;
use serde::Deserialize;

/// Where the initramfs has it.
pub const PATH: &str = "/etc/backstay/policy.toml";
/// Where it has the keys whose signatures count.
pub const KEYS: &str = "/etc/backstay/keys";
/// The watchdog's device: the kernel's first.
pub const WATCHDOG: &str = "/dev/watchdog0";

/// The whole file. The default is that of no file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// About default tarballs.
    #[serde(default)]
    pub tarball: Tarball,
    /// The watchdog of a system on trial; absent: none.
    pub watchdog: Option<Watchdog>,
    /// Who may do what at the console.
    #[serde(default)]
    pub console: Console,
    /// Why the file counts for nothing, in a line without any value of it.
    #[serde(skip)]
    pub fault: Option<String>,
}

impl Policy {
    /// What holds where the file is not understood.
    pub fn nothing_allowed() -> Policy {
        Policy {
            console: Console::nothing_allowed(),
            ..Policy::default()
        }
    }

    fn without(fault: String) -> Policy {
        log::warn!("{fault}; nothing is allowed");
        Policy {
            fault: Some(fault),
            ..Policy::nothing_allowed()
        }
    }
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
        NotUnderstood(format!("line {line}: {}", without_value(why)))
    })
}

/// serde quotes a text that stands in the wrong place, and what stands in the wrong place may be a hash.
fn without_value(why: &str) -> String {
    let quoted = why.split_once(" string \"");
    let expected = why.rsplit_once("\", expected ");
    match (quoted, expected) {
        (Some((before, _)), Some((_, wanted))) => format!("{before} string, expected {wanted}"),
        _ => why.to_owned(),
    }
}

/// The policy of this initramfs; what is wrong with it is said.
pub fn of_initramfs() -> Policy {
    at(std::path::Path::new(PATH))
}

fn at(path: &std::path::Path) -> Policy {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Policy::default(),
        Err(error) => return Policy::without(format!("policy.toml cannot be read: {error}")),
    };
    parse(&text).unwrap_or_else(|error| Policy::without(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_understood_or_cannot_be_read_closes_what_no_file_leaves_open() {
        use console::Right::{Closed, Open};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        let rights = || {
            let Policy { console, fault, .. } = at(&path);
            assert_eq!(fault.is_some(), console.change == Closed, "{fault:?}");
            assert!(fault.is_none_or(|it| it.starts_with("policy.toml ") && !it.contains('\n')));
            [console.menu, console.change, console.shell]
        };
        assert_eq!(rights(), [Open, Open, Closed]);
        for text in [
            &b"[console]\nshell = \"open\"\nchange = \"opne\"\n"[..],
            b"[console]\nshell = \"open\"\n[later]\n",
            b"[console]\nshell = \"open\"\npassword = \"\xff\"\n",
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(rights(), [Open, Closed, Closed]);
        }
        std::fs::write(&path, "[console]\nshell = \"open\"\n").unwrap();
        assert_eq!(rights(), [Open, Open, Open]);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(rights(), [Open, Closed, Closed]);
    }

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
