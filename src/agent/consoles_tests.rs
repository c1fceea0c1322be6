//! Two consoles, and who sits at them.

use super::*;
use crate::sys::console::tests::{path, pty};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::sync::{Arc, Mutex, PoisonError};

const QUESTION: &str = "menu> ";
const WORD: &str = "word> ";
const PASSWORD: &str = "password: ";

/// Who sits at a console: what they saw is read by a thread.
struct Seat {
    there: File,
    seen: Arc<Mutex<String>>,
}

impl Seat {
    fn new(there: File) -> Seat {
        let seen = Arc::new(Mutex::new(String::new()));
        let (mut from, to) = (there.try_clone().unwrap(), seen.clone());
        rustix::fs::fcntl_setfl(&there, rustix::fs::OFlags::NONBLOCK).unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                match from.read(&mut bytes) {
                    Ok(read) => {
                        let text = String::from_utf8_lossy(&bytes[..read]);
                        to.lock().unwrap().push_str(&text);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        if Arc::strong_count(&to) == 1 {
                            // Whoever sat there is gone, and so is the console.
                            return;
                        }
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err(_) => return,
                }
            }
        });
        Seat { there, seen }
    }

    fn seen(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    fn type_bytes(&mut self, bytes: &[u8]) {
        self.there.write_all(bytes).unwrap();
    }

    /// Waits for a text, and forgets what was seen up to its end.
    fn sees(&self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = seen.find(text) {
                return seen.drain(..at + text.len()).collect();
            }
            let late = begun.elapsed() > Duration::from_secs(60);
            assert!(!late, "{text:?} is not in {seen:?}");
            drop(seen);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Two consoles, `ttyS0` and `hvc0`.
struct Desk {
    dir: tempfile::TempDir,
    consoles: Consoles,
    serial: Option<Seat>,
    second: Option<Seat>,
}

fn seat(dir: &Path, name: &str) -> Seat {
    let (there, here) = pty();
    let at = dir.join(name);
    let _ = std::fs::remove_file(&at);
    symlink(path(&here), &at).unwrap();
    // Somebody has to have it open, or the other end reads nothing but errors.
    std::mem::forget(here);
    Seat::new(there)
}

impl Desk {
    fn new(json: bool) -> Desk {
        let dir = tempfile::tempdir().unwrap();
        let [serial, second] = ["ttyS0", "hvc0"].map(|name| Some(seat(dir.path(), name)));
        let listed = || ["ttyS0", "hvc0"].map(str::to_owned).to_vec();
        let consoles = Consoles::of(dir.path().to_owned(), listed, json);
        assert_eq!(consoles.open.len(), 2);
        Desk {
            dir,
            consoles,
            serial,
            second,
        }
    }

    /// Asks, while the people do this.
    fn ask(
        &mut self,
        question: &str,
        echo: Echo,
        people: impl FnOnce(&mut Option<Seat>, &mut Option<Seat>) + Send,
    ) -> Heard {
        let (serial, second) = (&mut self.serial, &mut self.second);
        let consoles = &mut self.consoles;
        std::thread::scope(|scope| {
            let people = scope.spawn(move || people(serial, second));
            let heard = consoles.ask(question, Some(Duration::from_secs(60)), echo);
            people.join().unwrap();
            heard
        })
    }
}

fn line(text: &str) -> Heard {
    Heard::Line(text.to_owned())
}

fn types(seat: &mut Option<Seat>, after: &str, bytes: &[u8]) {
    let seat = seat.as_mut().unwrap();
    seat.sees(after);
    seat.type_bytes(bytes);
}

#[test]
fn the_word_is_not_asked_for_on_a_line_that_never_is_quiet() {
    let mut desk = Desk::new(false);
    let noise = |consoles: &mut Consoles, seat: &mut Seat, strict| {
        std::thread::scope(|scope| {
            let typing = scope.spawn(|| {
                for _ in 0..60 {
                    seat.type_bytes(b" ");
                    std::thread::sleep(Duration::from_millis(50));
                }
                seat.type_bytes(b"\r");
            });
            let silence = Some(Duration::from_secs(60));
            let heard = match strict {
                true => consoles.confirm(WORD, silence, Echo::Typed),
                false => consoles.ask(QUESTION, silence, Echo::Typed),
            };
            typing.join().unwrap();
            heard
        })
    };
    let serial = desk.serial.as_mut().unwrap();
    assert_eq!(noise(&mut desk.consoles, serial, true), Heard::Noise);
    assert!(matches!(
        noise(&mut desk.consoles, serial, false),
        Heard::Line(_)
    ));
}

#[test]
fn the_question_ends_with_the_console_that_it_was_put_to() {
    let mut desk = Desk::new(false);
    let heard = desk.ask(QUESTION, Echo::Typed, |serial, second| {
        serial.as_ref().unwrap().sees(QUESTION);
        types(second, QUESTION, b"rollback\r");
    });
    assert_eq!(heard, line("rollback"));
    let holder = desk.consoles.holder();
    let heard = desk.ask(WORD, Echo::Typed, |serial, second| {
        second.as_ref().unwrap().sees(WORD);
        *second = None;
        std::thread::sleep(Duration::from_millis(300));
        serial.as_mut().unwrap().type_bytes(b"ROLLBACK\r");
    });
    assert_eq!(heard, Heard::Taken);
    let nobody = desk.consoles.holder();
    // What was typed before the next question is no answer to it.
    let heard = desk.ask(QUESTION, Echo::Typed, |serial, _| {
        types(serial, QUESTION, b"list\r");
    });
    assert_eq!(heard, line("list"));
    let other = desk.consoles.holder();
    assert!(holder < nobody && nobody < other);
}

#[test]
fn a_console_that_is_gone_between_two_questions_takes_what_led_to_the_second_with_it() {
    let mut desk = Desk::new(false);
    desk.ask(QUESTION, Echo::Typed, |_, second| {
        types(second, QUESTION, b"rollback\r");
    });
    desk.second = None;
    let heard = desk.ask(WORD, Echo::Typed, |serial, _| {
        assert!(!serial.as_ref().unwrap().seen().contains(WORD));
    });
    assert_eq!(heard, Heard::Taken);
    assert_eq!(desk.consoles.open.len(), 1);
}

#[test]
fn one_that_is_gone_is_opened_seldom_and_asked_once_it_is_back() {
    let mut desk = Desk::new(false);
    let heard = desk.ask(QUESTION, Echo::Typed, |serial, second| {
        let serial = serial.as_mut().unwrap();
        serial.sees(QUESTION);
        serial.type_bytes(b"li");
        serial.sees("li");
        *second = None;
        // The question is put again, behind the line about it.
        serial.sees(&format!("\r\n{QUESTION}li"));
        serial.type_bytes(b"st\r");
    });
    assert_eq!(heard, line("list"));
    desk.second = Some(seat(desk.dir.path(), "hvc0"));
    for _ in 0..5 {
        desk.consoles.miss("hvc0");
    }
    for _ in 0..100 {
        desk.consoles.look();
    }
    assert_eq!(desk.consoles.open.len(), 1);
    desk.consoles.missed.clear();
    let heard = desk.ask(QUESTION, Echo::Typed, |serial, second| {
        serial.as_mut().unwrap().sees(QUESTION);
        second.as_mut().unwrap().type_bytes(b"take\r");
    });
    assert_eq!(heard, Heard::Taken);
    assert_eq!(desk.consoles.owner.as_deref(), Some("hvc0"));
}

#[test]
fn the_rest_of_a_password_is_not_shown_where_another_console_takes_the_menu() {
    let mut desk = Desk::new(false);
    desk.ask(QUESTION, Echo::Typed, |serial, _| {
        types(serial, QUESTION, b"rollback\r");
    });
    desk.serial.as_ref().unwrap().sees("rollback");
    let heard = desk.ask(PASSWORD, Echo::Nothing, |serial, second| {
        types(serial, PASSWORD, b"open se");
        std::thread::sleep(Duration::from_millis(300));
        types(second, "in use at ttyS0", b"take\r");
        serial.as_ref().unwrap().sees("in use at hvc0");
    });
    assert_eq!(heard, Heard::Taken);
    let heard = desk.ask(QUESTION, Echo::Typed, |serial, second| {
        second.as_ref().unwrap().sees(QUESTION);
        let serial = serial.as_mut().unwrap();
        serial.type_bytes(b"same 42\r");
        let seen = serial.sees("in use at hvc0");
        assert!(!seen.contains('4') && !seen.contains("same"), "{seen:?}");
        // The next line is one as any other.
        serial.sees("\r\n");
        serial.type_bytes(b"list\r");
        serial.sees("list");
        second.as_mut().unwrap().type_bytes(b"no\r");
    });
    assert_eq!(heard, line("no"));
}

#[test]
fn a_line_that_is_garbled_while_nobody_has_the_menu_is_answered_where_it_was_typed() {
    let long = [vec![b'x'; line::LONGEST + 1], b"\r".to_vec()].concat();
    for garbled in [&b"rollback\t2\r"[..], "\u{e4}\r".as_bytes(), &long] {
        let mut desk = Desk::new(false);
        let heard = desk.ask(QUESTION, Echo::Typed, |serial, second| {
            let second = second.as_mut().unwrap();
            second.sees(QUESTION);
            second.type_bytes(b"li");
            // What comes behind it is none of the next question's.
            types(serial, QUESTION, &[garbled, b"boot\r"].concat());
            serial.as_ref().unwrap().sees(GARBLED);
            serial.as_ref().unwrap().sees(QUESTION);
            second.type_bytes(b"st\r");
        });
        assert_eq!(heard, line("list"));
        let seen = desk.second.as_ref().unwrap().seen();
        assert!(!seen.contains(GARBLED), "{seen:?}");
    }
    let mut desk = Desk::new(true);
    let heard = desk.ask("ready\n", Echo::Nothing, |serial, _| {
        types(serial, "ready", b"{\xff}\n");
        serial.as_ref().unwrap().sees("\"garbled\"");
        types(serial, "ready", b"{}\n");
    });
    assert_eq!(heard, line("{}"));
}

#[test]
fn a_second_program_is_told_that_the_menu_is_in_use_and_takes_it() {
    let mut desk = Desk::new(true);
    let order = r#"{"do":"list"}"#;
    let sent = format!("{order}\n");
    let heard = desk.ask("ready\n", Echo::Nothing, |serial, _| {
        types(serial, "ready", sent.as_bytes());
    });
    assert_eq!(heard, line(order));
    let busy = |seat: &Option<Seat>, at: &str| {
        let seen = seat.as_ref().unwrap().sees("}\r\n");
        let sent = seen.lines().find(|line| line.starts_with('{')).unwrap();
        let error: Value = serde_json::from_str(sent).unwrap();
        assert_eq!(
            (&error["event"], &error["kind"]),
            (&Value::from("error"), &Value::from("busy"))
        );
        let text = error["text"].as_str().unwrap();
        assert!(
            text.contains(at) && text.contains(r#"{"do":"take"}"#),
            "{text}"
        );
    };
    busy(&desk.second, "ttyS0");
    let heard = desk.ask("ready\n", Echo::Nothing, |_, second| {
        second.as_mut().unwrap().type_bytes(sent.as_bytes());
        busy(second, "ttyS0");
        second.as_mut().unwrap().type_bytes(b"{\"do\":\"take\"}\n");
    });
    assert_eq!(heard, Heard::Taken);
    assert_eq!(desk.consoles.owner.as_deref(), Some("hvc0"));
    desk.serial.as_ref().unwrap().sees("ready");
    busy(&desk.serial, "hvc0");
}

#[test]
fn a_program_that_stopped_reading_is_asked_again_once_it_reads() {
    let mut desk = Desk::new(true);
    let (there, here) = pty();
    let at = desk.dir.path().join("ttyS0");
    std::fs::remove_file(&at).unwrap();
    symlink(path(&here), &at).unwrap();
    let listed = || vec!["ttyS0".to_owned()];
    desk.consoles = Consoles::of(desk.dir.path().to_owned(), listed, true);
    desk.consoles.show(&"x".repeat(100_000));
    let heard = desk.ask("ready\n", Echo::Nothing, |serial, _| {
        std::thread::sleep(Duration::from_secs(1));
        *serial = Some(Seat::new(there));
        serial.as_ref().unwrap().sees("\nready\r\n");
        serial.as_mut().unwrap().type_bytes(b"{}\n");
    });
    assert_eq!(heard, line("{}"));
}

#[test]
fn while_a_console_is_lent_the_others_are_told() {
    let mut desk = Desk::new(false);
    desk.ask(QUESTION, Echo::Typed, |serial, _| {
        types(serial, QUESTION, b"shell\r");
    });
    let second = &mut desk.second;
    let lent = desk.consoles.lend(&mut |terminal, meanwhile| {
        assert!(terminal.ends_with("ttyS0"));
        let second = second.as_mut().unwrap();
        second.type_bytes(b"take\r");
        for _ in 0..100 {
            meanwhile();
            std::thread::sleep(Duration::from_millis(5));
        }
        second.sees("A shell is open at ttyS0");
        Ok(())
    });
    assert_eq!(lent, Ok(()));
    desk.second
        .as_ref()
        .unwrap()
        .sees("The shell at ttyS0 has ended; type 'take'");
    assert_eq!(desk.consoles.owner.as_deref(), Some("ttyS0"));
    assert_eq!(desk.consoles.open.len(), 2);
}
