//! Two directory trees, compared in everything that a file system keeps of them but three things: times
//! of access and of change, inode numbers, and the order of names in a directory.
//!
//! [`Tree::read`] looks at a tree, [`differences`] says how two differ: a line for each aspect of each
//! entry. That each aspect is noticed is shown by `tests.rs`, which plants one difference of each kind.

mod entry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use entry::{Entry, Kind, Tree, attributes};

/// Something that an entry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// That it is there: it is in the first tree only.
    Missing,
    /// That it is not there: it is in the second tree only.
    Extra,
    /// File, directory, link …; nothing else is compared then.
    Kind,
    /// Permission bits, with set-id and sticky.
    Mode,
    /// The user's number.
    Owner,
    /// The group's number.
    Group,
    /// The time of modification, with nanoseconds.
    Time,
    /// A file's length.
    Size,
    /// A file's bytes.
    Content,
    /// Where a file has holes, by blocks of 4 KiB.
    Holes,
    /// Where a symbolic link points.
    Target,
    /// A device's numbers.
    Device,
    /// An extended attribute, an ACL or a capability.
    Attribute,
    /// Which names are one file.
    Links,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The path from the root of both trees, as text; of the root itself, `.`.
    pub path: String,
    /// What differs.
    pub aspect: Aspect,
    /// An attribute's name; else empty.
    pub name: String,
    /// Both sides, for a person.
    pub text: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path, aspect, text, ..
        } = self;
        write!(to, "{path}: {aspect:?}: {text}")
    }
}

/// How `second` differs from `first`, by path.
#[must_use]
pub fn differences(first: &Tree, second: &Tree) -> Vec<Difference> {
    let mut all = Differences(Vec::new());
    let paths: BTreeSet<&Vec<u8>> = first.entries.keys().chain(second.entries.keys()).collect();
    for path in paths {
        match (first.entries.get(path), second.entries.get(path)) {
            (Some(old), Some(new)) => all.entry(path, old, new),
            (Some(old), None) => all.add(path, Aspect::Missing, format!("{:?}", old.kind)),
            (None, Some(new)) => all.add(path, Aspect::Extra, format!("{:?}", new.kind)),
            (None, None) => {}
        }
    }
    all.0
}

struct Differences(Vec<Difference>);

impl Differences {
    fn add(&mut self, path: &[u8], aspect: Aspect, text: String) {
        self.named(path, aspect, String::new(), text);
    }

    fn named(&mut self, path: &[u8], aspect: Aspect, name: String, text: String) {
        self.0.push(Difference {
            path: text_of(path),
            aspect,
            name,
            text,
        });
    }

    fn value<T: PartialEq + fmt::Debug>(&mut self, path: &[u8], aspect: Aspect, old: T, new: T) {
        if old != new {
            self.add(path, aspect, format!("{old:?} became {new:?}"));
        }
    }

    fn entry(&mut self, path: &[u8], old: &Entry, new: &Entry) {
        if old.kind != new.kind {
            return self.value(path, Aspect::Kind, old.kind, new.kind);
        }
        if old.mode != new.mode {
            let text = format!("{:04o} became {:04o}", old.mode, new.mode);
            self.add(path, Aspect::Mode, text);
        }
        self.value(path, Aspect::Owner, old.user, new.user);
        self.value(path, Aspect::Group, old.group, new.group);
        self.value(path, Aspect::Time, old.time, new.time);
        self.value(path, Aspect::Size, old.size, new.size);
        if old.digest != new.digest {
            self.add(path, Aspect::Content, "other bytes".into());
        }
        self.value(path, Aspect::Holes, &old.data, &new.data);
        self.value(
            path,
            Aspect::Target,
            text_of(&old.target),
            text_of(&new.target),
        );
        self.value(path, Aspect::Device, old.device, new.device);
        self.attributes(path, &old.attributes, &new.attributes);
        let names = |entry: &Entry| entry.first_name.as_deref().map(text_of);
        self.value(path, Aspect::Links, names(old), names(new));
    }

    fn attributes(
        &mut self,
        path: &[u8],
        old: &BTreeMap<Vec<u8>, Vec<u8>>,
        new: &BTreeMap<Vec<u8>, Vec<u8>>,
    ) {
        let names: BTreeSet<&Vec<u8>> = old.keys().chain(new.keys()).collect();
        for name in names {
            let (before, after) = (old.get(name), new.get(name));
            if before != after {
                let shown = |value: Option<&Vec<u8>>| {
                    value.map_or("none".to_owned(), |value| format!("{:?}", text_of(value)))
                };
                let text = format!(
                    "{}: {} became {}",
                    text_of(name),
                    shown(before),
                    shown(after)
                );
                self.named(path, Aspect::Attribute, text_of(name), text);
            }
        }
    }
}

/// Bytes as text; what is not UTF-8 is escaped, so that no two are the same text.
fn text_of(bytes: &[u8]) -> String {
    match (bytes, std::str::from_utf8(bytes)) {
        (b"", _) => ".".into(),
        (_, Ok(text)) => text.into(),
        (_, Err(_)) => bytes.escape_ascii().to_string(),
    }
}
