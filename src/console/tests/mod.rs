//! Dialogues, kept word by word in `screens/`: a change of wording is seen in review. `UPDATE_EXPECT=1 cargo test --lib
//! console` writes them anew.

mod dialogues;
mod model;
mod programs;

use super::guard::Guard;
use super::line::Echo;
use super::menu::{self, Choice, Settings};
use super::terminal::{Borrower, Heard, Terminal};
use crate::agent::policy;
use model::Model;
use std::cell::Cell;
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// What time it is.
pub(super) type Clock = Rc<Cell<Duration>>;

/// A terminal on which what is typed was written down before.
pub(super) struct Script {
    lines: VecDeque<(Duration, Heard)>,
    /// The model's: a line that is typed late takes time.
    clock: Clock,
    /// What a person sees, with what they type.
    pub(super) shown: String,
    turn: u32,
}

impl Script {
    /// Types these lines, and then nothing any more. `^C` is Control-C, `~` a garbled line, `<taken>` somebody else's turn,
    /// `<noise>` a line that does not become quiet. `<90>list` is typed after 90 seconds.
    fn new(lines: &[&str]) -> Script {
        let heard = |line: &&str| {
            let (after, line) = match line.strip_prefix('<').and_then(|it| it.split_once('>')) {
                Some((seconds, rest)) if seconds.parse::<u64>().is_ok() => {
                    (Duration::from_secs(seconds.parse().unwrap()), rest)
                }
                _ => (Duration::ZERO, *line),
            };
            let heard = match line {
                "^C" => Heard::GivenUp,
                "~" => Heard::Garbled,
                "<taken>" => Heard::Taken,
                "<noise>" => Heard::Noise,
                line => Heard::Line(line.to_owned()),
            };
            (after, heard)
        };
        Script {
            lines: lines.iter().map(heard).collect(),
            clock: Clock::default(),
            shown: String::new(),
            turn: 0,
        }
    }

    /// By the clock of this model.
    fn with(model: &Model, lines: &[&str]) -> Script {
        Script {
            clock: model.clock.clone(),
            ..Script::new(lines)
        }
    }

    /// What comes next, within this time.
    fn next(&mut self, silence: Option<Duration>) -> Heard {
        let Some((after, heard)) = self.lines.front_mut() else {
            return Heard::Silence;
        };
        let passes = silence.map_or(*after, |silence| silence.min(*after));
        let heard = match passes == *after {
            true => heard.clone(),
            false => Heard::Silence,
        };
        *after -= passes;
        if heard != Heard::Silence {
            self.lines.pop_front();
        }
        self.clock.set(self.clock.get() + passes);
        heard
    }
}

impl Terminal for Script {
    fn show(&mut self, line: &str) {
        assert!(line.len() < 80 || line.starts_with('{'), "{line}");
        assert!(
            line.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{line:?}"
        );
        self.shown.push_str(&format!("{line}\n"));
    }

    fn ask(&mut self, question: &str, silence: Option<Duration>, echo: Echo) -> Heard {
        let heard = self.next(silence);
        if heard == Heard::Noise {
            return heard;
        }
        let typed = match (&heard, echo) {
            (Heard::Line(line), Echo::Typed) => line.as_str(),
            (Heard::Line(_), Echo::Nothing) => "",
            (Heard::GivenUp, _) => "^C",
            (Heard::Garbled, _) => "~",
            (Heard::Silence, _) => "(nothing)",
            (Heard::Taken | Heard::Noise, _) => "(taken)",
        };
        self.shown.push_str(&format!("{question}{typed}\n"));
        if heard == Heard::Taken {
            self.turn += 1;
        }
        heard
    }

    fn holder(&self) -> u32 {
        self.turn
    }

    fn lend(&mut self, to: &mut Borrower<'_>) -> Result<(), String> {
        to(Path::new("/dev/ttyS0"), &mut || ())
    }
}

/// The guard of a policy's `[console]`.
fn guard(rights: &str) -> Guard {
    Guard::new(&policy::parse(&format!("[console]\n{rights}\n")).unwrap())
}

/// A hash of "good", as cheap as argon2id can be.
fn cheap_hash() -> String {
    use argon2::password_hash::{PasswordHasher, SaltString};
    let params = argon2::Params::new(8, 1, 1, None).unwrap();
    let salt = SaltString::encode_b64(&[7; 16]).unwrap();
    let hash = argon2::Argon2::from(params).hash_password(b"good", &salt);
    hash.unwrap().to_string()
}

const SETTINGS: Settings = Settings {
    seconds: Some(60),
    silent: Choice::Boot,
    or_restart: true,
    after_change: 60,
};

/// Plays a dialogue, and gives what was seen and how it ended.
fn play(model: &mut Model, rights: &str, lines: &[&str]) -> (String, Choice) {
    let mut script = Script::with(model, lines);
    let choice = menu::run(model, &mut script, &mut guard(rights), SETTINGS);
    (script.shown, choice)
}

/// The screens in the handbook are those that the dialogues gave.
#[test]
fn each_screen_of_the_handbook_is_one_that_was_seen() {
    let page = include_str!("../../../docs/console.md");
    let mut found = 0;
    for block in page.split("```screen ").skip(1) {
        let (name, rest) = block.split_once('\n').unwrap();
        let (screen, _) = rest.split_once("```").unwrap();
        let path = format!(
            "{}/src/console/tests/screens/{name}.txt",
            env!("CARGO_MANIFEST_DIR")
        );
        let seen = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(seen.contains(screen), "not seen in {name}:\n{screen}");
        found += 1;
    }
    assert!(found > 5, "{found}");
}
