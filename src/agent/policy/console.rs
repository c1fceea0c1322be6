//! `[console]`: what whoever sits at the console may do.

use crate::console::password::Hash;
use serde::Deserialize;

/// What something needs. Stricter is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Right {
    /// Nothing: whoever is there may.
    Open,
    /// The password.
    Password,
    /// It is not to be had.
    Closed,
}

/// Another word. It is not shown: it may be a password in the wrong place.
#[derive(Debug, thiserror::Error)]
#[error("a right is \"open\", \"password\" or \"closed\"")]
pub struct NoRight;

impl TryFrom<String> for Right {
    type Error = NoRight;

    fn try_from(text: String) -> Result<Right, NoRight> {
        match text.as_str() {
            "open" => Ok(Right::Open),
            "password" => Ok(Right::Password),
            "closed" => Ok(Right::Closed),
            _ => Err(NoRight),
        }
    }
}

/// The section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Console {
    /// The menu, and all that only reads. Never closed.
    pub menu: Right,
    /// Whatever changes what boots, and giving a hibernated system up. The word is asked for in any case.
    pub change: Right,
    /// A shell.
    pub shell: Right,
    /// The password; there is one wherever a right asks for it.
    pub password: Option<Hash>,
}

/// Where nothing is written: who has the machine before him may go back, but does not become root.
impl Default for Console {
    fn default() -> Console {
        Console {
            menu: Right::Open,
            change: Right::Open,
            shell: Right::Closed,
            password: None,
        }
    }
}

impl Console {
    /// Where what is written is not understood: somebody meant to close something, so only reading is left.
    pub fn nothing_allowed() -> Console {
        Console {
            change: Right::Closed,
            ..Console::default()
        }
    }
}

/// As it is in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    menu: Option<Right>,
    change: Option<Right>,
    shell: Option<Right>,
    password: Option<Hash>,
}

/// Each by itself is understood, but not together.
#[derive(Debug, thiserror::Error)]
enum Senseless {
    #[error("the menu is \"open\" or asks for the \"password\"; \"closed\" is what else it offers")]
    ClosedMenu,
    #[error("[console] asks for a password and has none: make it with 'backstay password'")]
    NoPassword,
}

impl TryFrom<Written> for Console {
    type Error = Senseless;

    fn try_from(written: Written) -> Result<Console, Senseless> {
        let absent = Console::default();
        let console = Console {
            menu: written.menu.unwrap_or(absent.menu),
            change: written.change.unwrap_or(absent.change),
            shell: written.shell.unwrap_or(absent.shell),
            password: written.password,
        };
        let rights = [console.menu, console.change, console.shell];
        if console.menu == Right::Closed {
            return Err(Senseless::ClosedMenu);
        }
        if rights.contains(&Right::Password) && console.password.is_none() {
            return Err(Senseless::NoPassword);
        }
        Ok(console)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Policy, parse};
    use super::*;

    const HASH: &str =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn what_is_absent_is_the_default_and_what_is_there_is_taken() {
        for text in ["", "[console]\n", "[tarball]\nunsigned = true\n"] {
            assert_eq!(parse(text).unwrap().console, Console::default(), "{text}");
        }
        let text = format!(
            "[console]\nmenu = \"password\"\nchange = \"closed\"\nshell = \"open\"\npassword = '{HASH}'\n"
        );
        let console = parse(&text).unwrap().console;
        let rights = [console.menu, console.change, console.shell];
        assert_eq!(rights, [Right::Password, Right::Closed, Right::Open]);
        assert_eq!(console.password.unwrap().reveal(), HASH);
        assert!(parse("[console]\nchange = \"closed\"\n").is_ok());
    }

    #[test]
    fn what_is_not_understood_is_said_in_a_line_with_the_remedy_and_without_any_secret() {
        let weak = HASH.replace("m=65536", "m=65537");
        let other = HASH.replace("argon2id", "argon2i");
        for (lines, place, words) in [
            ("menu = \"closed\"", "line 1", "\"open\""),
            ("change = \"hunter2\"", "line 2", "\"closed\""),
            ("change = 2", "line 2", "expected a string"),
            ("change = \"password\"", "line 1", "backstay password"),
            ("shell = \"password\"", "line 1", "backstay password"),
            ("menu = \"password\"", "line 1", "backstay password"),
            ("password = \"hunter2\"", "line 2", "backstay password"),
            ("password = \"\"", "line 2", "backstay password"),
            (
                &format!("shell = \"open\"\npassword = \"{weak}\""),
                "line 3",
                "64 MiB",
            ),
            (&format!("password = \"{other}\""), "line 2", "argon2id"),
            (&format!("change = \"{HASH}\""), "line 2", "\"closed\""),
            (&format!("password = {HASH}"), "line 2", ""),
            (&format!("password = \"{HASH}"), "line 2", ""),
            (&format!("\"{HASH}\""), "line 2", ""),
            (
                &format!("[watchdog]\nseconds = \"{HASH}\""),
                "line 3",
                "u32",
            ),
            ("password = hunter2", "line 2", ""),
            ("passwort = \"hunter2\"", "line 2", "unknown field"),
        ] {
            let error = parse(&format!("[console]\n{lines}\n")).unwrap_err();
            let (shown, debug) = (error.to_string(), format!("{error:?}"));
            assert!(shown.contains(place), "{lines}: {shown}");
            assert!(shown.contains(words), "{lines}: {shown}");
            assert!(!shown.contains('\n'), "{shown}");
            for secret in ["hunter2", "c29tZXNhbHQ", "CTFhFdXP"] {
                assert!(!shown.contains(secret), "{lines}: {shown}");
                assert!(!debug.contains(secret), "{lines}: {debug}");
            }
        }
    }

    #[test]
    fn a_policy_shows_no_hash() {
        let policy: Policy = parse(&format!("[console]\npassword = \"{HASH}\"\n")).unwrap();
        let shown = format!("{policy:?} {policy:#?}");
        assert!(
            !shown.contains("argon2") && !shown.contains("CTFh"),
            "{shown}"
        );
    }
}
