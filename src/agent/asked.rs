//! What the command line asks of this boot.

use crate::policy::{Wish, resolve};
use crate::record::state::{Consent, Verb};
use kernel_cmdline::{Attempt, Fence, Refused, Tarball, Verb as Parameter};

/// The parsed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What is wished for; `Boot` where the request was refused.
    pub wish: Wish,
    /// Why the request was refused as it stands.
    pub refused: Option<Refused>,
    /// Where the default tarball lies, if not in the store.
    pub tarball: Option<Tarball>,
    /// An agent handed over to this kernel, when the state had this sequence number.
    pub attempt: Option<Attempt>,
    /// Programs are at the consoles.
    pub json: bool,
}

/// Reads a command line.
pub fn read(line: &[u8]) -> Asked {
    match kernel_cmdline::parse(line) {
        Err(refused) => Asked {
            wish: Wish::Boot,
            refused: Some(refused),
            tarball: None,
            attempt: None,
            json: false,
        },
        Ok(request) => {
            let wish = match request.verb {
                None => Wish::Boot,
                Some(Parameter::Menu(seconds)) => Wish::Menu(seconds),
                Some(verb) => match resolve::asked(verb, request.keep_config) {
                    Some(verb) => Wish::Change {
                        verb,
                        consent: consent(request.fence),
                        // Who writes that it may convert has its whole meaning: docs/decisions/0039.
                        loss: true,
                        present: request.present,
                    },
                    None => Wish::Boot,
                },
            };
            Asked {
                wish,
                refused: None,
                tarball: request.tarball,
                attempt: request.attempt,
                json: request.console_json,
            }
        }
    }
}

/// The first thing that a person sees: what this boot is about.
pub fn first_line(line: &[u8]) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let asked = read(line);
    if let Some(refused) = asked.refused {
        return format!("version {version}: refused: {refused}");
    }
    match asked.wish {
        Wish::Boot => format!("version {version}: starting the system"),
        Wish::Menu(_) => format!("version {version}: the recovery menu was asked for"),
        Wish::Change { verb, present, .. } => {
            format!("version {version}: {}", change(verb, present))
        }
    }
}

fn consent(fence: Option<Fence>) -> Consent {
    match fence {
        None | Some(Fence::Refuse) => Consent::Refuse,
        Some(Fence::Convert) => Consent::Convert,
        Some(Fence::Restore) => Consent::Restore,
    }
}

fn change(verb: Verb, present: bool) -> String {
    match present {
        true => format!("going to {verb} (confirmed)"),
        false => format!("asked to {verb}, unconfirmed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_what_the_boot_is_about() {
        for (line, want) in [
            ("root=/dev/vda quiet", "starting the system"),
            (
                "backstay.menu backstay.end",
                "the recovery menu was asked for",
            ),
            (
                "backstay.rollback=previous backstay.present backstay.end",
                "going to roll back to the version before (confirmed)",
            ),
            (
                "backstay.reset=system backstay.keep=config backstay.end",
                "asked to reset only the system, unconfirmed",
            ),
        ] {
            let first = first_line(line.as_bytes());
            assert_eq!(first.split_once(": ").unwrap().1, want, "{line}");
        }
    }

    #[test]
    fn the_first_line_of_every_verb_fits_a_terminal() {
        for verb in [
            "rollback=previous",
            "forward",
            "select=123456",
            "reset=config",
            "reset=config,data",
            "reset=system",
            "reset=system backstay.keep=config",
            "reset=everything",
        ] {
            for present in ["backstay.present ", ""] {
                let line = format!("backstay.{verb} {present}backstay.end");
                let first = format!("backstay: {}", first_line(line.as_bytes()));
                assert!(!first.contains("refused") && first.len() < 80, "{first}");
            }
        }
    }

    #[test]
    fn what_is_agreed_to_is_on_the_command_line() {
        for (word, want) in [
            ("", Consent::Refuse),
            ("backstay.fence=refuse ", Consent::Refuse),
            ("backstay.fence=convert ", Consent::Convert),
            ("backstay.fence=restore ", Consent::Restore),
        ] {
            let line = format!("backstay.rollback=12 {word}backstay.end");
            let verb = Verb::Rollback(Some(12));
            let wish = Wish::Change {
                verb,
                consent: want,
                loss: true,
                present: false,
            };
            assert_eq!(read(line.as_bytes()).wish, wish, "{line}");
        }
    }

    #[test]
    fn a_refused_request_wishes_for_an_ordinary_boot() {
        for line in ["backstay.rollback=previous", "backstay.dance backstay.end"] {
            let asked = read(line.as_bytes());
            assert_eq!(asked.wish, Wish::Boot);
            assert!(asked.refused.is_some());
        }
    }

    #[test]
    fn an_attempt_marks_a_kernel_that_an_agent_started() {
        let attempt = read(b"root=/dev/vda backstay.attempt=7:1 backstay.end").attempt;
        assert_eq!(attempt, Some(Attempt { seq: 7, n: 1 }));
        assert_eq!(read(b"root=/dev/vda").attempt, None);
    }
}
