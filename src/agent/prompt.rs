//! The recovery prompt: a person lists, boots, rolls back or restarts, in plain lines.
//!
//! Nothing typed for a while boots on, if the live system can boot. Only a typed word makes a
//! change, after the plan was printed.

use super::act::{self, Error};
use super::hibernation::Image;
use super::session::Session;
use super::watchdog;
use crate::policy::Health;
use crate::record::manifest::{Kind, Manifest};
use crate::record::state::{State, Verb};
use crate::say;
use crate::store::place::Set;
use crate::transaction::catalogue;
use crate::transaction::records::Records;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::time::{Duration, Instant};

/// Seconds of silence after which the boot goes on, where the command line gives none.
pub const SECONDS: u32 = 60;
/// A line longer than this is not a command; in bytes.
const LINE_MAX: usize = 256;

/// What the person (or the silence) chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Boot what is live.
    Boot,
    /// Restart the machine.
    Reboot,
    /// Switch it off.
    PowerOff,
}

/// A line that was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Command {
    Help,
    List,
    Boot,
    Reboot,
    PowerOff,
    Change(Verb),
    Forget,
    Unknown(String),
}

fn command(line: &str) -> Command {
    let words: Vec<&str> = line.split_whitespace().collect();
    let id = |text: &str| text.parse::<u32>().ok().filter(|id| *id > 0);
    match words.as_slice() {
        [] | ["help" | "?"] => Command::Help,
        ["list" | "ls"] => Command::List,
        ["boot" | "exit" | "quit"] => Command::Boot,
        ["reboot"] => Command::Reboot,
        ["poweroff"] => Command::PowerOff,
        ["rollback"] => Command::Change(Verb::Rollback(None)),
        ["rollback", text] => match id(text) {
            Some(id) => Command::Change(Verb::Rollback(Some(id))),
            None => Command::Unknown(line.to_owned()),
        },
        ["forward"] => Command::Change(Verb::Forward),
        ["FORGET"] => Command::Forget,
        _ => Command::Unknown(line.to_owned()),
    }
}

/// Lines typed at the console.
pub struct Keyboard {
    typed: Vec<u8>,
}

impl Keyboard {
    /// A line without its end, or `None` after this time without a key. Each key starts it again.
    fn line(&mut self, silence: Option<Duration>) -> Option<String> {
        let mut since = Instant::now();
        loop {
            if let Some(end) = self
                .typed
                .iter()
                .position(|byte| matches!(byte, b'\n' | b'\r'))
            {
                let line: Vec<u8> = self.typed.drain(..=end).take(end).collect();
                return Some(String::from_utf8_lossy(&line).trim().to_owned());
            }
            if self.typed.len() > LINE_MAX {
                self.typed.clear();
                return Some("?".to_owned());
            }
            if silence.is_some_and(|silence| since.elapsed() >= silence) {
                return None;
            }
            super::log::alive();
            let stdin = std::io::stdin();
            let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
            let tick = Timespec {
                tv_sec: 0,
                tv_nsec: 200_000_000,
            };
            if !poll(&mut fds, Some(&tick)).is_ok_and(|ready| ready > 0) {
                continue;
            }
            let mut bytes = [0; 64];
            match rustix::io::read(&stdin, &mut bytes) {
                Ok(0) | Err(_) => std::thread::sleep(Duration::from_millis(500)),
                Ok(read) => {
                    since = Instant::now();
                    self.typed
                        .extend_from_slice(bytes.get(..read).unwrap_or_default());
                }
            }
        }
    }
}

/// Opens the prompt. `session` is `None` where the store does not mount; then only restarting is
/// left. `seconds` is `None` where the live system cannot boot: then it waits for a person.
pub fn open(session: Option<&mut Session>, seconds: Option<u32>) -> Choice {
    ask(session, None, seconds, Choice::Boot)
}

/// Opens it beside the image of a hibernated system, which a person may give up here: then the machine restarts, and
/// can be asked again. `silent`: what follows from silence.
pub fn open_beside(image: &Image, silent: Choice) -> Choice {
    ask(None, Some(image), Some(SECONDS), silent)
}

/// The same without the store; where nobody types for [`SECONDS`], the machine restarts.
pub fn open_or_restart() -> Choice {
    ask(None, None, Some(SECONDS), Choice::Reboot)
}

fn ask(
    mut session: Option<&mut Session>,
    image: Option<&Image>,
    mut seconds: Option<u32>,
    silent: Choice,
) -> Choice {
    let mut keyboard = Keyboard { typed: Vec::new() };
    watchdog::stop();
    let (then, now) = match silent {
        Choice::Reboot => ("the machine restarts", "restarting the machine"),
        _ => ("the system starts", "starting the system"),
    };
    say!("recovery prompt; type 'help' and Enter");
    match seconds {
        Some(seconds) => say!("nothing typed for {seconds} seconds: {then}"),
        None => say!("the system cannot start as it is; this waits for you"),
    }
    loop {
        let silence = seconds.map(|seconds| Duration::from_secs(u64::from(seconds)));
        say!("command?");
        let Some(line) = keyboard.line(silence) else {
            say!("nothing was typed: {now}");
            return silent;
        };
        match (command(&line), &mut session) {
            (Command::Help, _) => help(image.is_some()),
            (Command::Forget, _) => match image.map(Image::forget) {
                None => say!("no hibernated system lies on the disks; type 'help'"),
                Some(Err(error)) => say!("it could not be given up: {error}; run mkswap there"),
                Some(Ok(())) => {
                    say!(
                        "the hibernated system is given up: restarting, so that you can ask again"
                    );
                    return Choice::Reboot;
                }
            },
            (Command::Unknown(text), _) => say!("'{text}' is no command here; type 'help'"),
            (Command::Reboot, _) => return Choice::Reboot,
            (Command::PowerOff, _) => return Choice::PowerOff,
            (Command::Boot, _) => return Choice::Boot,
            (Command::List | Command::Change(_), None) => {
                say!("the store is not mounted; type 'help' to see what is left");
            }
            (Command::List, Some(session)) => list(session),
            (Command::Change(verb), Some(session)) => match change(session, &mut keyboard, verb) {
                Ok(true) => {
                    seconds = Some(SECONDS);
                    say!("type 'boot' to start it");
                }
                Ok(false) => say!("nothing was changed"),
                Err(error) => say!("{error}; type 'list' to see what there is"),
            },
        }
    }
}

fn help(image: bool) {
    if image {
        say!("boot            start the system");
        say!("FORGET          give the hibernated system up; what it had not saved is lost");
        say!("reboot          restart the machine");
        say!("poweroff        switch it off");
        return;
    }
    say!("list            the snapshots, newest first, and which one a rollback goes to");
    say!("boot            start the live system");
    say!("rollback [ID]   go back to the version before, or to snapshot ID; asks first");
    say!("forward         undo the last rollback; asks first");
    say!("reboot          restart the machine");
    say!("poweroff        switch it off");
}

/// Prints the plan and asks for the word; true if it was carried out.
fn change(session: &mut Session, keyboard: &mut Keyboard, verb: Verb) -> Result<bool, String> {
    let (plan, explanation) = act::plan_of(session, verb)?;
    for line in explanation.to_string().lines() {
        say!("{line}");
    }
    let word = match verb {
        Verb::Forward => "FORWARD",
        _ => "ROLLBACK",
    };
    say!("type {word} and Enter to do this; anything else changes nothing");
    match keyboard.line(Some(Duration::from_secs(u64::from(SECONDS)))) {
        Some(typed) if typed == word => {}
        _ => return Ok(false),
    }
    act::carry_out(session, &plan.intent).map_err(|error: Error| error.to_string())?;
    Ok(true)
}

fn list(session: &Session) {
    match rows(session) {
        Ok(rows) if rows.is_empty() => say!("there are no snapshots"),
        Ok(rows) => rows.iter().for_each(|row| say!("{row}")),
        Err(error) => say!("the snapshots cannot be listed: {error}"),
    }
}

fn rows(session: &Session) -> Result<Vec<String>, crate::transaction::Error> {
    let state = Records::open(&session.store)
        .ok()
        .map(|records| records.state.value);
    let mut rows = Vec::new();
    for id in catalogue::ids(&session.store)?.into_iter().rev() {
        let set = Set::Snapshot(id);
        let manifest = catalogue::manifest(&session.store, set)?;
        let health = catalogue::health(&session.store, set)?;
        rows.push(row(id, manifest.as_ref(), health, state.as_ref()));
    }
    let factory = catalogue::health(&session.store, Set::Factory)?;
    rows.push(format!("factory: {}", words(factory)));
    Ok(rows)
}

fn row(id: u32, manifest: Option<&Manifest>, health: Health, state: Option<&State>) -> String {
    let title = manifest.map_or("", |manifest| manifest.title.as_str());
    let kernel = manifest
        .filter(|manifest| manifest.kind == Kind::Snapshot)
        .and_then(|manifest| manifest.kernel.as_deref())
        .map_or(String::new(), |kernel| format!(", kernel {kernel}"));
    let is = |ids: Option<&u32>| ids == Some(&id);
    let next = match state {
        Some(state) if is(state.older.last()) => " <- rollback goes here",
        Some(state) if is(state.newer.first()) => " <- forward goes here",
        _ => "",
    };
    format!("{id}: {title}{kernel}, {}{next}", words(health))
}

/// A set's health in a word or two.
pub fn words(health: Health) -> &'static str {
    match health {
        Health::Sound => "sound",
        Health::WithoutConfig => "sound, without configuration",
        Health::Absent => "missing",
        Health::NoManifest => "incomplete (no manifest)",
        Health::Parked => "parked, returns at the next boot",
        Health::FormerFactory => "a factory snapshot that was replaced",
        Health::Missing(_) => "DAMAGED (a part is missing)",
        Health::Changed(_) => "DAMAGED (changed since it was sealed)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_a_person_types_them() {
        for (line, want) in [
            ("", Command::Help),
            ("list", Command::List),
            ("  boot ", Command::Boot),
            ("rollback", Command::Change(Verb::Rollback(None))),
            ("rollback 12", Command::Change(Verb::Rollback(Some(12)))),
            ("rollback 0", Command::Unknown("rollback 0".into())),
            (
                "rollback twelve",
                Command::Unknown("rollback twelve".into()),
            ),
            ("forward", Command::Change(Verb::Forward)),
            ("rm -rf /", Command::Unknown("rm -rf /".into())),
        ] {
            assert_eq!(command(line), want, "{line}");
        }
    }

    #[test]
    fn a_row_says_where_a_rollback_goes() {
        let (store, records) = crate::transaction::model::machine();
        let manifest = catalogue::manifest(&store, Set::Snapshot(2)).unwrap();
        let state = &records.state.value;
        assert_eq!(
            row(2, manifest.as_ref(), Health::Sound, Some(state)),
            "2: 2, sound <- rollback goes here"
        );
        assert_eq!(
            row(1, None, Health::NoManifest, Some(state)),
            "1: , incomplete (no manifest)"
        );
    }
}
