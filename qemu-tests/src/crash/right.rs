//! What is right at the end of a verb, said by its row and not by the engine: every dataset that is live,
//! sealed or kept then is held, file by file, against where the row says that its contents lay at the start.

use std::collections::BTreeSet;

use backstay::record::layout::Part;
use backstay::record::manifest::{Kind, Manifest};

use super::view::{Lines, View, differences};

/// Differences that are shown of a dataset.
const SHOWN: usize = 4;
/// Where snapshots lie.
const SNAPSHOTS: &str = "@backstay/snapshots/";
/// Where the factory snapshot lies.
const FACTORY: &str = "@backstay/factory";
/// Where data lies that was kept.
const KEPT_DATA: &str = "@backstay/data/data/";
/// What fresh data is cloned from.
const TEMPLATE: &str = "@backstay/data/data/template";

/// A path for each dataset, as it was before the act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The system.
    pub system: &'static str,
    /// The configuration.
    pub config: &'static str,
    /// Its defaults.
    pub defaults: &'static str,
    /// Customer data; of a set that is made: empty where none is kept.
    pub data: &'static str,
}

/// The names under which they are live.
pub const NAMES: Paths = Paths {
    system: "@rootfs",
    config: "@config",
    defaults: "@backstay/defaults",
    data: "@data",
};

/// What is right at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// Where the contents of what is live lay.
    pub live: Paths,
    /// The sets that were made: the number or "factory", and where the contents lay.
    pub made: &'static [(&'static str, Paths)],
    /// Each subvolume inside a dataset that is not sealed: where it lay, and where it or its clone lies.
    pub nested: &'static [(&'static str, &'static str)],
    /// All snapshots that there were are gone.
    pub deletes: bool,
    /// The number under which what was the factory snapshot lies, as it was.
    pub former: Option<&'static str>,
}

/// The contents of the four live datasets.
pub type LiveSet = [Option<Lines>; 4];

impl Paths {
    fn each(self) -> [&'static str; 4] {
        [self.system, self.config, self.defaults, self.data]
    }

    /// What lies at these paths.
    #[must_use]
    pub fn contents(self, view: &View) -> LiveSet {
        self.each().map(|path| view.dataset(path))
    }
}

impl Right {
    /// What is wrong with this end of what started so.
    #[must_use]
    pub fn wrong(&self, start: &View, end: &View) -> Vec<String> {
        // What somebody did to the machine before is no fault of the verb's.
        let marked = start.marked();
        let mut wrong = end.marked();
        wrong.retain(|line| !marked.contains(line));
        for (live, lay) in NAMES.each().into_iter().zip(self.live.each()) {
            wrong.extend(same(start, lay, end, live));
        }
        self.sets(start, end, &mut wrong);
        self.sealed(start, end, &mut wrong);
        self.inside(start, end, &mut wrong);
        let default = end.default_subvolume();
        if default != start.default_subvolume() {
            wrong.push(format!("the default subvolume is {default}"));
        }
        wrong
    }

    /// The snapshots that there are, each with what makes it one, and the set that was made.
    fn sets(&self, start: &View, end: &View, wrong: &mut Vec<String>) {
        let mut wanted = match self.deletes {
            true => BTreeSet::new(),
            false => snapshots(start),
        };
        for (name, lay) in self.made {
            let number = name.parse::<u32>().is_ok();
            let (directory, data) = match number {
                true => (format!("{SNAPSHOTS}{name}"), format!("{KEPT_DATA}{name}")),
                false => (format!("@backstay/{name}"), String::new()),
            };
            if number {
                wanted.insert(directory.clone());
            }
            let at = ["system", "config", "defaults"].map(|part| format!("{directory}/{part}"));
            for (at, lay) in at.iter().chain([&data]).zip(lay.each()) {
                match lay {
                    "" if end.dataset(at).is_some() => {
                        wrong.push(format!("{at} is there, and no data was to be kept"));
                    }
                    "" => {}
                    _ => wrong.extend(same(start, lay, end, at)),
                }
            }
            wrong.extend(unsound(end, &directory, lay.data.is_empty()));
        }
        let found = snapshots(end);
        if found != wanted {
            wrong.push(format!("the snapshots are {found:?}; should be {wanted:?}"));
        }
        for directory in found {
            if !end.has(&format!("{directory}/menu.cfg")) {
                wrong.push(format!(
                    "{directory} has no menu.cfg: GRUB does not list it"
                ));
            }
        }
    }

    /// What was sealed, and the template, are what they were.
    fn sealed(&self, start: &View, end: &View, wrong: &mut Vec<String>) {
        let sets = snapshots(start);
        // What an open transaction has made is no snapshot yet.
        let of_a_set = |path: &str| {
            let id = path
                .strip_prefix(SNAPSHOTS)
                .or_else(|| path.strip_prefix(KEPT_DATA));
            id.is_none_or(|rest| {
                let id = rest.split('/').next().unwrap_or_default();
                !self.deletes && sets.contains(&format!("{SNAPSHOTS}{id}"))
            })
        };
        for path in start.sealed_paths().filter(|path| of_a_set(path)) {
            let lies = match (self.former, path.strip_prefix(FACTORY)) {
                (Some(number), Some(member)) => format!("{SNAPSHOTS}{number}{member}"),
                _ => path.to_owned(),
            };
            if start.subvolume(path) != end.subvolume(&lies) {
                wrong.push(format!(
                    "{path} was {:?} and is {:?}",
                    start.subvolume(path),
                    end.subvolume(&lies)
                ));
            }
            wrong.extend(differing(path, &start.below(path), &end.below(&lies)));
        }
        if start.subvolume(TEMPLATE).is_some() {
            let (was, is) = (start.below(TEMPLATE), end.below(TEMPLATE));
            wrong.extend(differing(TEMPLATE, &was, &is));
        }
    }

    /// Subvolumes inside datasets: each is where the row says, and there is no other one.
    fn inside(&self, start: &View, end: &View, wrong: &mut Vec<String>) {
        let mut wanted: BTreeSet<&str> = self.nested.iter().map(|(_, lies)| *lies).collect();
        for (lay, lies) in self.nested {
            wrong.extend(same(start, lay, end, lies));
            let uuid = |view: &View, path| view.subvolume(path).map(|found| found.identity.uuid);
            // What lay in a live dataset is carried, or stays with it and is cloned; out of a sealed one there are only clones.
            let all = self.nested.iter().filter(|(other, _)| other == lay);
            let same = all.filter(|(_, lies)| uuid(start, lay) == uuid(end, lies));
            if !lay.starts_with("@backstay/") && same.count() != 1 {
                wrong.push(format!("{lies}: the subvolume that was {lay} is gone"));
            }
        }
        let in_a_sealed_one = |path: &&str| start.sealed_paths().any(|at| is_below(path, at));
        if !self.deletes {
            wanted.extend(start.nested().filter(in_a_sealed_one));
        }
        let found: BTreeSet<&str> = end.nested().collect();
        if found != wanted {
            wrong.push(format!(
                "inside datasets there are the subvolumes {found:?}; should be {wanted:?}"
            ));
        }
    }
}

/// Whether `path` lies inside the directory `at`.
#[must_use]
pub fn is_below(path: &str, at: &str) -> bool {
    path.strip_prefix(at)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a set of live datasets may be found while it goes from one of these to the next. The system is
/// exchanged last: where it is the new one, all others are.
#[must_use]
pub fn is_on_the_way(found: &LiveSet, ways: &[(LiveSet, LiveSet)]) -> bool {
    let [system, others @ ..] = found;
    ways.iter().any(|(from, to)| {
        let ([old, olds @ ..], [_, news @ ..]) = (from, to);
        let either = others
            .iter()
            .zip(olds.iter().zip(news))
            .all(|(found, (old, new))| found == old || found == new);
        found == to || (system == old && either)
    })
}

/// The directories of snapshots that have a manifest, are not parked and were never the factory's.
fn snapshots(view: &View) -> BTreeSet<String> {
    let all = view.manifests().filter(|(path, manifest)| {
        let is = |it: &Manifest| !matches!(it.kind, Kind::Parked | Kind::FormerFactory);
        path.starts_with(SNAPSHOTS) && manifest.as_ref().is_none_or(is)
    });
    all.map(|(path, _)| path.to_owned()).collect()
}

/// What a set lacks that was made: a manifest that names its members, each of them sealed.
fn unsound(end: &View, directory: &str, without_data: bool) -> Option<String> {
    let manifest = end.manifests().find(|(path, _)| *path == directory);
    let Some((_, Some(manifest))) = manifest else {
        return Some(format!("{directory} has no manifest that can be read"));
    };
    let mut parts: Vec<Part> = manifest.members.iter().map(|member| member.part).collect();
    parts.sort_unstable();
    let wanted: &[Part] = match without_data {
        true => &[Part::Config, Part::Defaults, Part::System],
        false => &[Part::Config, Part::Defaults, Part::Data(0), Part::System],
    };
    if parts != wanted {
        return Some(format!("{directory}/manifest names {parts:?}"));
    }
    let id = directory.rsplit('/').next().unwrap_or_default();
    parts.iter().find_map(|part| {
        let at = match part {
            Part::System => format!("{directory}/system"),
            Part::Config => format!("{directory}/config"),
            Part::Defaults => format!("{directory}/defaults"),
            Part::Data(_) => format!("{KEPT_DATA}{id}"),
        };
        let sealed = end.subvolume(&at).is_some_and(|found| found.read_only);
        (!sealed).then(|| format!("{at} is not sealed"))
    })
}

/// Whether what lies at `at` in the end is what lay at `lay` in the start.
fn same(start: &View, lay: &str, end: &View, at: &str) -> Vec<String> {
    match (start.dataset(lay), end.dataset(at)) {
        (Some(was), Some(is)) => differing(&format!("{at} (was {lay})"), &was, &is),
        (None, _) => vec![format!(
            "{lay}, whose contents {at} should have, was not there"
        )],
        (_, None) => vec![format!("{at} is not there")],
    }
}

fn differing(what: &str, was: &Lines, is: &Lines) -> Vec<String> {
    if was == is {
        return Vec::new();
    }
    let mut all = differences(is, was);
    all.truncate(SHOWN);
    all.iter().map(|line| format!("{what}: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_the_last_to_be_exchanged() {
        let set = |versions: [&str; 4]| {
            versions.map(|text| Some(Lines::from([(String::new(), text.to_owned())])))
        };
        let ways = [(set(["1", "1", "1", "d"]), set(["2", "2", "2", "d"]))];
        for (versions, right) in [
            (["1", "1", "1", "d"], true),
            (["1", "2", "1", "d"], true),
            (["1", "2", "2", "d"], true),
            (["2", "2", "2", "d"], true),
            (["2", "1", "1", "d"], false),
            (["2", "2", "1", "d"], false),
            (["1", "3", "1", "d"], false),
            (["1", "2", "2", "x"], false),
        ] {
            assert_eq!(is_on_the_way(&set(versions), &ways), right, "{versions:?}");
        }
    }
}
