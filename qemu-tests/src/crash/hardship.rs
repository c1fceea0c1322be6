//! What is not a power cut, but its cousin: a disk without room, and one whose writes fail.
//!
//! On a full disk the verb runs as always. One that gets an owner out of trouble must succeed with whatever
//! room there is; others may be refused, in one line. Then the machine starts, as after a cut.
//!
//! Where writes fail, from the n-th on, the verb runs, and the machine starts once more while they still
//! fail: it may wait for a person only if it says that a half done change is why, or if there was nothing to
//! start before either. Then they succeed
//! again, and what lies there is a state like one that a cut left. The same where one write of a record came to
//! the disk and was said to have failed.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result};

use super::act::{Act, Answer, Room};
use super::disk::Disk;
use super::full;
use super::helper::WAITS;
use super::lab::{End, Lab, Played, give_up_ballast};
use super::look::ARMED;
use super::right::{NAMES, Right};
use super::view::{BALLAST, View};

/// What the agent says before it waits because of a change that it cannot finish.
const HALF_DONE: &str = "the change is half done";

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardship {
    /// This much room is left.
    Full(Room),
    /// So many writes succeed, and none after them.
    Failing(u64),
    /// The write after so many is done, said to have failed, and all others succeed.
    Denied(u64),
}

impl fmt::Display for Hardship {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hardship::Full(room) => write!(f, "full{}.{}", room.data, room.metadata),
            Hardship::Failing(writes) => write!(f, "eio{writes}"),
            Hardship::Denied(writes) => write!(f, "denied{writes}"),
        }
    }
}

impl FromStr for Hardship {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || format!("{text:?} is not the name of a hardship");
        if let Some(writes) = text.strip_prefix("eio") {
            return Ok(Hardship::Failing(writes.parse().with_context(unknown)?));
        }
        if let Some(writes) = text.strip_prefix("denied") {
            return Ok(Hardship::Denied(writes.parse().with_context(unknown)?));
        }
        let room = text.strip_prefix("full").with_context(unknown)?;
        let (data, metadata) = room.split_once('.').with_context(unknown)?;
        Ok(Hardship::Full(Room {
            data: data.parse().with_context(unknown)?,
            metadata: metadata.parse().with_context(unknown)?,
        }))
    }
}

impl Lab {
    /// Plays one of them.
    ///
    /// # Errors
    /// Where the rig itself breaks.
    pub fn endure(&mut self, hardship: Hardship) -> Result<Played> {
        match hardship {
            Hardship::Full(room) => {
                let filled = self.filled()?;
                self.play_full(&filled, room)
            }
            Hardship::Failing(writes) => self.play_failing(writes),
            Hardship::Denied(writes) => self.play_denied(writes),
        }
    }

    /// The disk before the verb, without any room: [`Act::GiveBack`] gives some back.
    ///
    /// # Errors
    /// Where it cannot be filled.
    pub fn filled(&mut self) -> Result<Disk> {
        let medium = self.machine.device.medium.clone();
        medium.insert(self.recording.start());
        self.machine.must(&Act::Fill)?;
        Ok(medium.disk())
    }

    /// Does the verb with this much room on a disk that was filled.
    ///
    /// # Errors
    /// Where the rig itself breaks.
    pub fn play_full(&mut self, filled: &Disk, room: Room) -> Result<Played> {
        let medium = self.machine.device.medium.clone();
        medium.insert(filled.clone());
        if room.data + room.metadata > 0 {
            self.machine.must(&Act::GiveBack(room))?;
        }
        let act = self.verb.act.act();
        let answer = self.act(&act)?;
        let disk = medium.disk();
        let done = answer.failure.is_none() && self.is_done(&self.view(&disk)?);
        // The ballast may have been given up. What was refused is as it was, whatever is done after a cut.
        let mut ends = self.ends.clone();
        ends.push(End {
            name: "untouched",
            lines: self.start.normal(&self.known),
            right: Right {
                live: NAMES,
                made: &[],
                ..self.verb.old
            },
        });
        give_up_ballast(&mut ends);
        // A command that is to be given again may be refused again: there must be room.
        if !done && self.verb.needs_room {
            medium.insert(disk);
            self.machine.must(&Act::GiveBack(full::ALL))?;
        }
        let mut played = self.play_to(&medium.disk(), &ends)?;
        played.carried_out = done;
        if !done && !self.verb.needs_room {
            let end = played.end;
            let text = format!("it was not carried out; after the recovery the disk is {end:?}");
            played.wrong.push(text);
        }
        if let Some(failure) = answer.failure.clone() {
            // Without a live system there is nothing else that a start could do.
            let waits = self.verb.needs_room && self.verb.may_wait && failure == WAITS;
            match !waits && (matches!(act, Act::Boot(_)) || is_broken(&failure)) {
                true => played.wrong.push(failure),
                false => played.refusal = Some(failure),
            }
        }
        played.console = told(&answer) + &played.console;
        Ok(played)
    }

    /// Whether the disk is as the undisturbed verb left it. Of the hint for GRUB there may be the one that was
    /// kept ready.
    fn is_done(&self, view: &View) -> bool {
        let lines = |view: &View| {
            let mut lines = view.normal(&self.known);
            lines.remove(BALLAST);
            lines.entry(ARMED.to_owned()).and_modify(String::clear);
            lines
        };
        lines(view) == lines(&self.done)
    }

    /// Does the verb while so many writes succeed.
    ///
    /// # Errors
    /// Where the rig itself breaks.
    pub fn play_failing(&mut self, writes: u64) -> Result<Played> {
        let medium = self.machine.device.medium.clone();
        medium.insert(self.recording.start());
        let mut wrong = Vec::new();
        let mut console = String::new();
        for (act, writes) in [(self.verb.act.act(), writes), (Act::plain_boot(), 0)] {
            medium.fail_writes_after(Some(writes));
            let answer = self.hard_act(&act)?;
            console.push_str(&told(&answer));
            wrong.extend(self.not_in_order(&act, &answer));
        }
        let mut played = self.play(&medium.disk())?;
        played.wrong.splice(0..0, wrong);
        played.console = console + &played.console;
        Ok(played)
    }

    /// Does the verb while the write after so many is done and said to have failed.
    ///
    /// # Errors
    /// Where the rig itself breaks.
    pub fn play_denied(&mut self, writes: u64) -> Result<Played> {
        let medium = self.machine.device.medium.clone();
        medium.insert(self.recording.start());
        medium.deny_write_after(writes);
        let act = self.verb.act.act();
        let answer = self.hard_act(&act)?;
        let mut played = self.play(&medium.disk())?;
        played.wrong.splice(0..0, self.not_in_order(&act, &answer));
        played.console = told(&answer) + &played.console;
        Ok(played)
    }

    /// Does something while writes fail, and lets them succeed again.
    fn hard_act(&mut self, act: &Act) -> Result<Answer> {
        let answer = self.act(act);
        self.machine.device.medium.fail_writes_after(None);
        self.machine.forget_cached()?;
        answer
    }

    /// Why it did not end as it must where a write failed.
    fn not_in_order(&self, act: &Act, answer: &Answer) -> Option<String> {
        let starts = matches!(act, Act::Boot(_));
        let may_wait = self.verb.may_wait || answer.console.contains(HALF_DONE);
        answer
            .failure
            .clone()
            .filter(|failure| is_broken(failure) || (starts && !(failure == WAITS && may_wait)))
    }
}

/// Neither done nor refused in one line.
fn is_broken(failure: &str) -> bool {
    failure.contains("it died") || failure.contains("it did not end") || failure.contains('\n')
}

fn told(answer: &Answer) -> String {
    match &answer.failure {
        Some(failure) => format!("{}({failure})\n", answer.console),
        None => answer.console.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for hardship in [
            Hardship::Failing(37),
            Hardship::Denied(5),
            Hardship::Full(Room {
                data: 16,
                metadata: 0,
            }),
        ] {
            let name = hardship.to_string();
            assert_eq!(name.parse::<Hardship>().unwrap(), hardship, "{name}");
        }
        assert!("p3".parse::<Hardship>().is_err());
    }
}
