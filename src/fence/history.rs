//! The states that an application's data went through: lines "SECONDS FROM TO", the newest last.
//!
//! It is for people, and for the time at which a state began. Lines that cannot be read are left out, and the oldest ones
//! go when there is no more room.

use super::name::State;
use crate::admin::output::utc;
use crate::store::label;
use serde::{Serialize, Serializer};

/// One change of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When, in seconds since 1970 by a clock that may have been wrong.
    #[serde(serialize_with = "as_utc")]
    pub at: u64,
    /// The state before.
    pub from: State,
    /// The state from then on.
    pub to: State,
}

fn as_utc<S: Serializer>(at: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&utc(*at))
}

impl Change {
    /// Whether it leads from the one to the other.
    pub fn is(&self, from: &State, to: &State) -> bool {
        self.from == *from && self.to == *to
    }

    fn parse(line: &str) -> Option<Change> {
        let mut words = line.split(' ');
        let change = Change {
            at: words.next()?.parse().ok()?,
            from: State::parse(words.next()?).ok()?,
            to: State::parse(words.next()?).ok()?,
        };
        words.next().is_none().then_some(change)
    }
}

/// Reads a history.
pub fn parse(bytes: &[u8]) -> Vec<Change> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().filter_map(Change::parse).collect()
}

/// Writes one, without the oldest changes that have no room.
pub fn text(changes: &[Change]) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut room = label::MAX;
    for change in changes.iter().rev() {
        let line = format!("{} {} {}\n", change.at, change.from, change.to);
        let Some(left) = room.checked_sub(line.len()) else {
            break;
        };
        room = left;
        lines.push(line);
    }
    lines.reverse();
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(at: u64, from: &str, to: &str) -> Change {
        Change {
            at,
            from: State::parse(from).unwrap(),
            to: State::parse(to).unwrap(),
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_garbled_lines_are_left_out() {
        let changes = [change(1, "unknown", "1"), change(u64::MAX, "1", "2.0~rc1")];
        let text = text(&changes);
        assert_eq!(text, "1 unknown 1\n18446744073709551615 1 2.0~rc1\n");
        let garbled = format!("\u{1b}\n{text}x 1 2\n7 1\n7 1 2 3\n7 a/b 2\n\n-1 1 2\n");
        assert_eq!(parse(garbled.as_bytes()), changes);
        assert_eq!(parse(b"\xff\xfe"), []);
    }

    #[test]
    fn the_newest_changes_stay_whole_when_there_is_no_more_room() {
        let long = "9".repeat(48);
        let changes: Vec<Change> = (0..200).map(|at| change(at, &long, &long)).collect();
        let text = text(&changes);
        assert!(text.len() <= label::MAX);
        let kept = parse(text.as_bytes());
        assert!(kept.len() >= 16, "{}", kept.len());
        assert_eq!(kept, changes[changes.len() - kept.len()..]);
    }
}
