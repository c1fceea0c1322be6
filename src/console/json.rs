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
use super::guard::{Act, Answer, Guard};
use super::line::Echo;
use super::machine::{Machine, Stage};
use super::menu::{Choice, Settings, no_version};
use super::session::{How, Password, Session, whole};
use super::terminal::{Heard, Terminal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::time::Duration;

/// Kinds of refusals of what was not understood, or came from somebody who may not be here: they keep no menu open.
const NOT_HEARD: [&str; 5] = ["syntax", "command", "locked", "password", "too-soon"];

/// The question for an order.
const READY: &str = "{\"event\":\"ready\"}\n";

/// The order that has the menu at this console; where it is already, it is told how things stand.
const TAKE: &str = "take";

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
        session: Session::new(machine, guard, settings, How::Sent),
        terminal,
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
    session: Session<'a>,
    terminal: &'a mut dyn Terminal,
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
            let heard = match self.session.left() {
                Some(Duration::ZERO) => Heard::Silence,
                // The question itself, so that it is sent once what came before it is forgotten.
                left => self.terminal.ask(READY, left, Echo::Nothing),
            };
            let line = match heard {
                Heard::Line(line) => line,
                Heard::Silence => return self.session.silent(),
                Heard::Garbled => {
                    self.terminal.show(&garbled());
                    continue;
                }
                Heard::Taken => {
                    self.session.answered();
                    // Whoever has it now may have seen nothing yet.
                    let situation = self.situation();
                    self.send(&situation);
                    continue;
                }
                Heard::GivenUp | Heard::Noise => continue,
            };
            let answer = match serde_json::from_str::<Order>(&line) {
                Ok(order) => self.obey(order),
                Err(_) => Err(refused(
                    "syntax",
                    r#"not an order: {"do":"COMMAND"}, with "word" or "password" where it is needed"#,
                )),
            };
            let heard = match &answer {
                Ok(_) => true,
                Err(Refused(kind, _)) => !NOT_HEARD.contains(kind),
            };
            match answer {
                Ok(ControlFlow::Break(choice)) => return choice,
                Ok(ControlFlow::Continue(value)) => self.send(&value),
                Err(why) => self.refuse(&why),
            }
            if heard {
                self.session.answered();
            }
        }
    }

    fn send(&mut self, value: &Value) {
        self.terminal.show(&ascii(&value.to_string()));
    }

    fn refuse(&mut self, Refused(kind, text): &Refused) {
        self.terminal.show(&error(kind, text));
    }

    fn situation(&mut self) -> Value {
        let locked = self.may(Act::Menu) != Answer::Yes;
        let situation = match locked {
            false => self.session.situation(),
            true => Default::default(),
        };
        json!({
            "event": "situation",
            "version": env!("CARGO_PKG_VERSION"),
            "stage": match self.session.machine.stage() {
                Stage::EarlyBoot => "early-boot",
                Stage::Running => "running",
            },
            "seconds": self.session.settings().seconds,
            "locked": locked,
            "situation": situation,
        })
    }

    fn may(&mut self, act: Act) -> Answer {
        self.session.may(act, self.terminal.holder())
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
        if order.line == TAKE {
            return Ok(ControlFlow::Continue(self.situation()));
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
            Command::Diff(id, path) => {
                let mut all = Vec::new();
                let mut each = |changed| {
                    all.push(of(&changed));
                    ControlFlow::Continue(())
                };
                self.session.compare(id, &path, &mut each).map_err(failed)?;
                for changed in all {
                    self.send(&value("changed", "path", changed));
                }
                json!({"event": "done", "text": "compared"})
            }
            Command::Look(version, path) => {
                let look = self.session.machine.look(version, &path).map_err(failed)?;
                value("look", "look", of(&look))
            }
            Command::Change(verb, consent) => {
                self.need(Act::Change)?;
                if let Some(why) = self.session.unchangeable(verb, consent) {
                    return Err(refused("unchangeable", &why));
                }
                let wanted = command::word(verb);
                match order.word.as_deref() {
                    None => {
                        let plan = self.session.plan(verb, consent).map_err(failed)?;
                        json!({"event": "plan", "plan": of(&plan), "word": wanted})
                    }
                    Some(word) if word == wanted => {
                        let done = self.session.carry_out(verb, consent).map_err(failed)?;
                        json!({"event": "done", "text": done})
                    }
                    Some(_) => return Err(refused("word", "not the word: nothing was changed")),
                }
            }
            Command::Disk => value("disk", "lines", of(&self.session.machine.disk())),
            Command::Mount(way) => {
                if !self.session.machine.situation().mounts {
                    return Err(refused(
                        "unchangeable",
                        "the disk cannot be mounted in another way from here",
                    ));
                }
                self.session.machine.mount(way).map_err(failed)?;
                self.situation()
            }
            Command::Log(which) => value(
                "log",
                "lines",
                of(&self.session.machine.log(which).map_err(failed)?),
            ),
            Command::Forget => {
                self.need(Act::Change)?;
                if order.word.as_deref() != Some("FORGET") {
                    return Err(refused("word", r#"it needs "word":"FORGET""#));
                }
                self.session.machine.forget().map_err(failed)?;
                return Ok(ControlFlow::Break(Choice::Reboot));
            }
            Command::Shell => return Err(refused("closed", "a program gets no shell here")),
            Command::Boot => {
                if !self.session.boots() {
                    return Err(refused(
                        "unchangeable",
                        "the system cannot be started as it is",
                    ));
                }
                return self.leave("boot", Choice::Boot);
            }
            Command::Reboot => return self.leave("reboot", Choice::Reboot),
            Command::PowerOff => return self.leave("poweroff", Choice::PowerOff),
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
        self.session.machine.versions().map_err(failed)
    }

    fn leave(&mut self, word: &str, choice: Choice) -> Result<ControlFlow<Choice, Value>, Refused> {
        Ok(ControlFlow::Break(self.session.leave(word, choice)))
    }

    fn unlock(&mut self, password: String) -> Result<ControlFlow<Choice, Value>, Refused> {
        match self.session.password(password, self.terminal.holder()) {
            Password::Good => Ok(ControlFlow::Continue(self.situation())),
            Password::Wrong(wait) => {
                let seconds = whole(wait);
                let text = format!("not the password; the next try is taken in {seconds} seconds");
                Err(Refused("password", text))
            }
            Password::TooSoon(wait) => {
                let seconds = whole(wait);
                let text = format!("too soon: the next try is taken in {seconds} seconds");
                Err(Refused("too-soon", text))
            }
            Password::NoMemory => Err(refused(
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

fn error(kind: &str, text: &str) -> String {
    ascii(&json!({"event": "error", "kind": kind, "text": text}).to_string())
}

/// What is sent for a line that no program sends.
pub fn garbled() -> String {
    error(
        "garbled",
        "a line with what no program sends: nothing is done",
    )
}

/// What is sent to another console than the one `at` which the menu is.
pub fn busy(at: &str) -> String {
    let text = format!(r#"the menu is in use at {at}; {{"do":"take"}} has it here"#);
    error("busy", &text)
}

/// Whether a line is the order that takes the menu over.
pub fn is_take(line: &str) -> bool {
    serde_json::from_str::<Order>(line).is_ok_and(|order| order.line == TAKE)
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
