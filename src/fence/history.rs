//! The states that an application's data went through: lines, the newest last, in a label of the dataset.
//!
//! ```text
//! SECONDS FROM TO                          a package's script, or a person
//! SECONDS FROM TO CHANGE VERSION PROGRAM   a converter of that version, in the change of that number
//! ```
//! It is for people, and for the time at which a state began; nothing is decided by it. Lines that cannot be read are left
//! out, and the oldest ones go when there is no more room. Changing its form is a format break.

use super::names::{AppName, AppState, Version};
use super::words::{base_name, short};
use crate::console::text::utc;
use crate::store::place::Place;
use crate::store::{Result, Store, StoreError, label};
use crate::transaction::plan::Conversion;
use serde::{Serialize, Serializer};

/// The kind of label that has it.
pub const HISTORY: &str = "history";
/// Letters of a program's name that are kept.
const PROGRAM_MAX: usize = 40;

/// One change of the state. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When, in seconds since 1970 by a clock that may have been wrong.
    #[serde(serialize_with = "as_utc")]
    pub at: u64,
    /// The state before.
    pub from: AppState,
    /// The state from then on.
    pub to: AppState,
    /// What converted it; absent where a package's script or a person said that it has another state.
    pub by: Option<By>,
}

/// A converter that a change ran. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct By {
    /// The number of the change, under which what was live before it is kept.
    pub change: u32,
    /// The version that shipped it: `factory`, a number, or `live` for what was live before the change.
    pub version: String,
    /// The program's name.
    pub program: String,
}

fn as_utc<S: Serializer>(at: &u64, to: S) -> core::result::Result<S::Ok, S::Error> {
    to.serialize_str(&utc(*at))
}

impl core::fmt::Display for By {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let version = match self.version.as_str() {
            "factory" => "the factory version".to_owned(),
            "live" => "what was live".to_owned(),
            id => format!("snapshot {id}"),
        };
        write!(f, "change {}: {} of {version}", self.change, self.program)
    }
}

impl Change {
    /// What a script or a person says.
    pub fn said(at: u64, from: AppState, to: AppState) -> Change {
        Change {
            at,
            from,
            to,
            by: None,
        }
    }

    /// Whether a script or a person said that it leads from the one to the other.
    pub fn is(&self, from: &AppState, to: &AppState) -> bool {
        self.by.is_none() && self.from == *from && self.to == *to
    }

    fn parse(line: &str) -> Option<Change> {
        let mut words = line.split(' ');
        let change = Change::said(
            words.next()?.parse().ok()?,
            AppState::new(words.next()?)?,
            AppState::new(words.next()?)?,
        );
        let Some(number) = words.next() else {
            return Some(change);
        };
        let by = By {
            change: number.parse().ok()?,
            version: version(words.next()?)?,
            program: program(words.next()?).filter(|it| !it.is_empty())?,
        };
        words.next().is_none().then_some(Change {
            by: Some(by),
            ..change
        })
    }

    fn line(&self) -> String {
        let mut line = format!("{} {} {}", self.at, self.from, self.to);
        if let Some(by) = &self.by {
            line.push_str(&format!(" {} {} {}", by.change, by.version, by.program));
        }
        line.push('\n');
        line
    }
}

fn version(word: &str) -> Option<String> {
    let number = word.parse::<u32>().ok().map(Version::Snapshot);
    let all = number.into_iter().chain([Version::Live, Version::Factory]);
    all.map(short).find(|it| it == word)
}

/// A program's name as a word; `None` for what is none.
fn program(word: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_graphic();
    (word.len() <= PROGRAM_MAX && word.chars().all(plain)).then(|| word.to_owned())
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
        let line = change.line();
        let Some(left) = room.checked_sub(line.len()) else {
            break;
        };
        room = left;
        lines.push(line);
    }
    lines.reverse();
    lines.concat()
}

/// The changes of an application's state in a dataset, the newest last. One that cannot be read is none: it stops nothing.
pub fn read<S: Store>(store: &S, place: Place, app: &AppName) -> Result<Vec<Change>> {
    match store.label(place, &format!("{HISTORY}.{app}")) {
        Err(StoreError::Label(_)) => Ok(Vec::new()),
        other => Ok(parse(&other?.unwrap_or_default())),
    }
}

/// Writes them, without the oldest ones that have no room.
pub fn write<S: Store>(
    store: &mut S,
    place: Place,
    app: &AppName,
    changes: &[Change],
) -> Result<()> {
    let text = text(changes);
    let value = Some(text.as_bytes()).filter(|text| !text.is_empty());
    store.set_label(place, &format!("{HISTORY}.{app}"), value)
}

/// Remembers of a clone that a change has converted it. Where that cannot be written, it is said, and that is
/// all: nothing waits for it, least of all a start.
pub fn remember<S: Store>(
    store: &mut S,
    place: Place,
    conversion: &Conversion,
    change: u32,
    now: u64,
) {
    let step = &conversion.step;
    let name = base_name(&step.command).chars();
    let plain = name.filter(char::is_ascii_graphic).take(PROGRAM_MAX);
    let program = match plain.collect::<String>() {
        empty if empty.is_empty() => "?".to_owned(),
        program => program,
    };
    let by = By {
        change,
        version: short(step.shipped_by),
        program,
    };
    let new = Change {
        by: Some(by),
        ..Change::said(now, step.from.clone(), step.to.clone())
    };
    let mut written = || {
        let mut changes = read(store, place, &conversion.app)?;
        changes.push(new.clone());
        write(store, place, &conversion.app, &changes)
    };
    if let Err(error) = written() {
        log::warn!("the history of the data of {}: {error}", conversion.app);
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::Step;
    use super::super::tests::{app, state};
    use super::*;
    use crate::record::layout::Part;
    use crate::store::memory::Memory;
    use crate::transaction::model::layout;

    const DATA: Place = Place::Live(Part::Data(0));

    fn change(at: u64, from: &str, to: &str) -> Change {
        Change::said(at, state(from), state(to))
    }

    fn by(number: u32, version: &str, program: &str) -> Option<By> {
        Some(By {
            change: number,
            version: version.to_owned(),
            program: program.to_owned(),
        })
    }

    #[test]
    fn what_is_written_is_read_again_and_garbled_lines_are_left_out() {
        let converted = Change {
            by: by(13, "12", "downgrade"),
            ..change(7, "2", "1")
        };
        let changes = [
            change(1, "unknown", "1"),
            change(u64::MAX, "1", "2.0~rc1"),
            converted,
        ];
        let text = text(&changes);
        assert_eq!(
            text,
            "1 unknown 1\n18446744073709551615 1 2.0~rc1\n7 2 1 13 12 downgrade\n"
        );
        let garbled = format!(
            "\u{1b}\n{text}x 1 2\n7 1\n7 1 2 3\n7 1 2 3 4\n7 1 2 3 new x\n7 1 2 3 012 x\n7 1 2 3 4 \n7 1 2 x 4 y\n\
             7 1 2 3 4 x well\n7 1 2 3 4 {} \n7 a/b 2\n\n-1 1 2\n",
            "x".repeat(41)
        );
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

    fn conversion(command: &str) -> Conversion {
        Conversion {
            dataset: Part::Data(0),
            app: app("shop"),
            step: Step {
                from: state("2"),
                to: state("1"),
                shipped_by: Version::Factory,
                command: vec![command.to_owned()],
                lossless: true,
                cost: 1,
                early: true,
                seconds: 1,
            },
        }
    }

    #[test]
    fn a_converter_is_remembered_by_its_version_and_its_name() {
        let mut store = Memory::new(layout());
        store.put(DATA, Default::default());
        store
            .set_label(DATA, "history.shop", Some(b"1 1 2\n"))
            .unwrap();
        let command = format!("/usr/lib/a program{}", "x".repeat(50));
        remember(&mut store, DATA, &conversion(&command), 3, 8);
        remember(&mut store, DATA, &conversion("/usr/bin/down"), 4, 9);
        remember(&mut store, DATA, &conversion("/"), 5, 10);
        let all = read(&store, DATA, &app("shop")).unwrap();
        let cut = format!("aprogram{}", "x".repeat(32));
        let lines: Vec<String> = all.iter().map(Change::line).collect();
        assert_eq!(
            lines,
            [
                "1 1 2\n".to_owned(),
                format!("8 2 1 3 factory {cut}\n"),
                "9 2 1 4 factory down\n".to_owned(),
                "10 2 1 5 factory ?\n".to_owned(),
            ]
        );
        let by = all[2].by.as_ref().unwrap().to_string();
        assert_eq!(by, "change 4: down of the factory version");
    }

    #[test]
    fn where_it_cannot_be_written_nothing_is_stopped() {
        let mut store = Memory::new(layout());
        remember(&mut store, DATA, &conversion("/x"), 3, 1);
        store.put(DATA, Default::default());
        store.full = Some(true);
        remember(&mut store, DATA, &conversion("/x"), 3, 1);
        assert_eq!(store.labels(DATA).unwrap(), [""; 0]);
    }
}
