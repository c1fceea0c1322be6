//! The menu for programs: one JSON object a line, in and out, over the same console.
//!
//! ```text
//! <- {"event":"ready"}                                    a line is waited for; what came before it is not taken
//! -> {"do":"rollback 2"}                                  the commands are the menu's
//! <- {"event":"plan","plan":{…},"word":"ROLLBACK"}
//! -> {"do":"rollback 2","word":"ROLLBACK"}                with the word it is done
//! <- {"event":"done","text":"…"}
//! ```
//! Errors have a `kind` to branch on, and never repeat what was sent: it may hold a password.

use super::command::{self, Command};
use super::guard::{Act, Answer, Guard, Unlocked, Verdict};
use super::line::Echo;
use super::machine::{Machine, Stage};
use super::menu::{Choice, Settings, no_version, typed, whole};
use super::terminal::{Heard, Terminal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// The question for an order.
const READY: &str = "{\"event\":\"ready\"}\n";

/// What a program sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    /// A command, as it is typed in the menu; `password` for itself.
    #[serde(rename = "do")]
    line: String,
    /// The word without which a change is only planned.
    #[serde(default)]
    word: Option<String>,
    /// With `password`.
    #[serde(default)]
    password: Option<String>,
}

/// Runs it to its end.
pub fn run(
    machine: &mut dyn Machine,
    terminal: &mut dyn Terminal,
    guard: &mut Guard,
    settings: Settings,
) -> Choice {
    let mut channel = Channel {
        machine,
        terminal,
        guard,
        settings,
        begun: Instant::now(),
        heard: Instant::now(),
        unlocked: None,
    };
    let choice = channel.go();
    let ends = match choice {
        Choice::Boot => "boot",
        Choice::Reboot => "reboot",
        Choice::PowerOff => "poweroff",
    };
    channel.send(&json!({"event": "end", "with": ends}));
    choice
}

struct Channel<'a> {
    machine: &'a mut dyn Machine,
    terminal: &'a mut dyn Terminal,
    guard: &'a mut Guard,
    settings: Settings,
    begun: Instant,
    heard: Instant,
    unlocked: Option<(u32, Unlocked)>,
}

/// What is not done: a kind for programs, and a line for people.
struct Refused(&'static str, String);

fn failed(why: String) -> Refused {
    Refused("failed", why)
}

fn refused(kind: &'static str, why: &str) -> Refused {
    Refused(kind, why.to_owned())
}

impl Channel<'_> {
    fn go(&mut self) -> Choice {
        let situation = self.situation();
        self.send(&situation);
        loop {
            let left = self.settings.seconds.map(|seconds| {
                Duration::from_secs(u64::from(seconds)).saturating_sub(self.heard.elapsed())
            });
            if left == Some(Duration::ZERO) {
                return self.settings.silent;
            }
            // The question itself, so that it is sent once what came before it is forgotten.
            let line = match self.terminal.ask(READY, left, Echo::Nothing) {
                Heard::Line(line) => line,
                Heard::Silence => return self.settings.silent,
                Heard::Garbled => {
                    self.refuse(&refused(
                        "garbled",
                        "a line with what no program sends: nothing is done",
                    ));
                    continue;
                }
                Heard::GivenUp | Heard::Taken => continue,
            };
            let answer = match serde_json::from_str::<Order>(&line) {
                Ok(order) => {
                    self.heard = Instant::now();
                    self.obey(order)
                }
                Err(_) => Err(refused(
                    "syntax",
                    r#"not an order: {"do":"COMMAND"}, with "word" or "password" where it is needed"#,
                )),
            };
            match answer {
                Ok(ControlFlow::Break(choice)) => return choice,
                Ok(ControlFlow::Continue(value)) => self.send(&value),
                Err(why) => self.refuse(&why),
            }
        }
    }

    fn send(&mut self, value: &Value) {
        self.terminal.show(&ascii(&value.to_string()));
    }

    fn refuse(&mut self, Refused(kind, text): &Refused) {
        self.send(&json!({"event": "error", "kind": kind, "text": text}));
    }

    fn situation(&mut self) -> Value {
        let locked = self.may(Act::Menu) != Answer::Yes;
        let situation = match locked {
            false => self.machine.situation(),
            true => Default::default(),
        };
        json!({
            "event": "situation",
            "version": env!("CARGO_PKG_VERSION"),
            "stage": match self.machine.stage() {
                Stage::EarlyBoot => "early-boot",
                Stage::Running => "running",
            },
            "seconds": self.settings.seconds,
            "locked": locked,
            "situation": situation,
        })
    }

    fn may(&mut self, act: Act) -> Answer {
        let holder = self.terminal.holder();
        self.unlocked.take_if(|(of, _)| *of != holder);
        let unlocked = self.unlocked.as_ref().map(|(_, unlocked)| unlocked);
        self.guard.may(act, unlocked)
    }

    fn need(&mut self, act: Act) -> Result<(), Refused> {
        match self.may(act) {
            Answer::Yes => Ok(()),
            Answer::Ask => Err(refused("locked", r#"it needs {"do":"password"}"#)),
            Answer::No => Err(refused(
                "closed",
                "the policy of this machine does not allow it",
            )),
        }
    }

    fn obey(&mut self, order: Order) -> Result<ControlFlow<Choice, Value>, Refused> {
        let value = |event: &str, name: &str, value: Value| -> Value {
            json!({"event": event, name: value})
        };
        if order.line == "password" {
            return self.unlock(order.password.unwrap_or_default());
        }
        self.need(Act::Menu)?;
        let answer = match command::read(&order.line) {
            Command::Top | Command::Help => self.situation(),
            Command::List => value("versions", "versions", of(&self.versions()?)),
            Command::Show(id) => {
                let all = self.versions()?;
                let one = all.iter().find(|it| it.id == id && it.is_there());
                let one = one.ok_or_else(|| failed(no_version(id)))?;
                value("version", "version", of(one))
            }
            Command::Diff(id, _) => {
                let mut all = Vec::new();
                let mut each = |changed| {
                    all.push(of(&changed));
                    ControlFlow::Continue(())
                };
                self.machine.compare(id, &mut each).map_err(failed)?;
                for changed in all {
                    self.send(&value("changed", "path", changed));
                }
                json!({"event": "done", "text": "compared"})
            }
            Command::Look(version, path) => {
                let look = self.machine.look(version, &path).map_err(failed)?;
                value("look", "look", of(&look))
            }
            Command::Change(verb) => {
                self.need(Act::Change)?;
                if let Some(why) = self.machine.situation().unchangeable {
                    return Err(refused("unchangeable", &why));
                }
                let wanted = command::word(verb);
                match order.word.as_deref() {
                    None => {
                        let plan = self.machine.plan(verb).map_err(failed)?;
                        json!({"event": "plan", "plan": of(&plan), "word": wanted})
                    }
                    Some(word) if word == wanted => {
                        self.machine.note(&format!("{wanted} was sent"));
                        let done = self.machine.carry_out(verb).map_err(failed)?;
                        self.heard = Instant::now();
                        self.settings = self.settings.after_change(self.machine.stage());
                        json!({"event": "done", "text": done})
                    }
                    Some(_) => return Err(refused("word", "not the word: nothing was changed")),
                }
            }
            Command::Disk => value("disk", "lines", of(&self.machine.disk())),
            Command::Mount(way) => {
                if !self.machine.situation().mounts {
                    return Err(refused(
                        "unchangeable",
                        "the disk cannot be mounted in another way from here",
                    ));
                }
                self.machine.mount(way).map_err(failed)?;
                self.situation()
            }
            Command::Log(which) => value(
                "log",
                "lines",
                of(&self.machine.log(which).map_err(failed)?),
            ),
            Command::Forget => {
                self.need(Act::Change)?;
                if order.word.as_deref() != Some("FORGET") {
                    return Err(refused("word", r#"it needs "word":"FORGET""#));
                }
                self.machine.forget().map_err(failed)?;
                return Ok(ControlFlow::Break(Choice::Reboot));
            }
            Command::Shell => return Err(refused("closed", "a program gets no shell here")),
            Command::Boot => {
                if self.machine.stage() == Stage::EarlyBoot && !self.machine.situation().starts {
                    return Err(refused(
                        "unchangeable",
                        "the system cannot be started as it is",
                    ));
                }
                return Ok(ControlFlow::Break(Choice::Boot));
            }
            Command::Reboot => return Ok(ControlFlow::Break(Choice::Reboot)),
            Command::PowerOff => return Ok(ControlFlow::Break(Choice::PowerOff)),
            Command::Unknown(_) => {
                return Err(refused(
                    "command",
                    "no such command; docs/console.md lists them",
                ));
            }
        };
        Ok(ControlFlow::Continue(answer))
    }

    fn versions(&mut self) -> Result<Vec<super::versions::Version>, Refused> {
        self.machine.versions().map_err(failed)
    }

    fn unlock(&mut self, password: String) -> Result<ControlFlow<Choice, Value>, Refused> {
        let typed = typed(password);
        match self.guard.check(typed.as_bytes(), self.begun.elapsed()) {
            Verdict::Good(unlocked) => {
                self.unlocked = Some((self.terminal.holder(), unlocked));
                Ok(ControlFlow::Continue(self.situation()))
            }
            Verdict::Wrong(wait) | Verdict::TooSoon(wait) => {
                self.machine.note("a wrong password was sent");
                let seconds = whole(wait);
                let text = format!("not the password; the next try is taken in {seconds} seconds");
                Err(Refused("password", text))
            }
            Verdict::NoMemory => Err(refused(
                "failed",
                "there is not enough memory to check a password",
            )),
        }
    }
}

fn of<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// JSON with nothing but ASCII in it, so that every terminal server lets it through.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            ' '..='~' => text.push(c),
            c => c
                .encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|unit| text.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    text
}

/// A line for a person, as it is sent where programs listen.
pub fn said(text: &str) -> String {
    ascii(&json!({"event": "line", "text": text}).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_ascii_on_one_line_and_the_same_value() {
        for text in ["a\nb", "\u{e4}\u{1f600}", "\x1b[2J\"\\", ""] {
            let sent = said(text);
            assert!(
                sent.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                "{sent}"
            );
            let value: Value = serde_json::from_str(&sent).unwrap();
            assert_eq!(value["text"], text);
        }
    }
}
