//! What the command line asks of this boot.

use crate::policy::{Wish, resolve};
use crate::record::state::Verb;
use kernel_cmdline::{Refused, Verb as Parameter};

/// The parsed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What is wished for; `Boot` where the request was refused.
    pub wish: Wish,
    /// Why the request was refused as it stands.
    pub refused: Option<Refused>,
    /// This kernel was started by an agent that handed over: it does not hand over again.
    pub handed_over: bool,
}

/// Reads a command line.
pub fn read(line: &[u8]) -> Asked {
    match kernel_cmdline::parse(line) {
        Err(refused) => Asked {
            wish: Wish::Boot,
            refused: Some(refused),
            handed_over: false,
        },
        Ok(request) => {
            let wish = match request.verb {
                None => Wish::Boot,
                Some(Parameter::Menu(seconds)) => Wish::Menu(seconds),
                Some(verb) => match resolve::asked(verb, request.keep_config) {
                    Some(verb) => Wish::Change {
                        verb,
                        present: request.present,
                    },
                    None => Wish::Boot,
                },
            };
            Asked {
                wish,
                refused: None,
                handed_over: request.attempt.is_some(),
            }
        }
    }
}

/// The first thing that a person sees: what this boot is about.
pub fn first_line(line: &[u8]) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let asked = read(line);
    if let Some(refused) = asked.refused {
        return format!("version {version}: {refused}");
    }
    match asked.wish {
        Wish::Boot => format!("version {version}: starting the system"),
        Wish::Menu(_) => format!("version {version}: the recovery menu was asked for"),
        Wish::Change { verb, present } => {
            format!("version {version}: {}", change(verb, present))
        }
    }
}

fn change(verb: Verb, present: bool) -> String {
    match present {
        true => format!("going to {verb}, as confirmed at the boot menu"),
        false => format!("asked to {verb}, which nobody confirmed"),
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
                "going to roll back to the version before, as confirmed at the boot menu",
            ),
            (
                "backstay.reset=system backstay.keep=config backstay.end",
                "asked to reset the system, keep data and configuration, which nobody confirmed",
            ),
        ] {
            let first = first_line(line.as_bytes());
            assert_eq!(first.split_once(": ").unwrap().1, want, "{line}");
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
        assert!(read(b"root=/dev/vda backstay.attempt=7:1 backstay.end").handed_over);
        assert!(!read(b"root=/dev/vda").handed_over);
    }
}
