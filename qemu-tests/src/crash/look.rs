//! What is asked of a view: what may never be found, and what lies in a dataset.

use backstay::record::manifest::{Kind, Manifest};
use backstay::store::place::STORE;

use super::right::is_below;
use super::view::{DEFAULT, Lines, Subvolume, View};

/// What makes GRUB start the agent.
pub(super) const ARMED: &str = "@backstay/armed/armed.cfg";

impl View {
    /// What is wrong wherever it is found at an end.
    #[must_use]
    pub fn marked(&self) -> Vec<String> {
        let marks = ["(member ", "(stray ", "(id "];
        let marked = self
            .lines
            .iter()
            .filter(|(path, _)| marks.iter().any(|mark| path.starts_with(mark)));
        let marked = marked.map(|(path, line)| format!("{path}: {line}"));
        marked.chain(self.unguarded()).collect()
    }

    /// What may never be found, not between two writes either: each of these is needed by the start that
    /// follows.
    #[must_use]
    pub fn unguarded(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let state = self.state.as_ref();
        let waits = [
            ("a transaction is open", self.open),
            (
                "a request waits",
                state.is_some_and(|state| state.request.is_some()),
            ),
            (
                "a return waits",
                state.is_some_and(|state| state.parked.is_some()),
            ),
        ];
        for (why, _) in waits.iter().filter(|(_, waits)| *waits) {
            if !self.has(ARMED) {
                wrong.push(format!("{why}, and GRUB is not armed"));
            }
        }
        let Some(state) = state else {
            return wrong;
        };
        if self.open && state.request.is_some() {
            wrong.push("a transaction is open, and the request is not used up".into());
        }
        if let Some(id) = state.parked.filter(|_| !self.open) {
            let of = self.manifests.get(&format!("{STORE}/snapshots/{id}"));
            let parked = of
                .and_then(Option::as_ref)
                .is_some_and(|of| of.kind == Kind::Parked);
            if !parked {
                wrong.push(format!("{id} is parked, and no manifest says so"));
            }
        }
        wrong
    }

    /// Whether something lies at this path.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.lines.contains_key(path)
    }

    /// The subvolume at this path.
    #[must_use]
    pub fn subvolume(&self, path: &str) -> Option<&Subvolume> {
        self.subvolumes.get(path)
    }

    /// Where subvolumes lie that are sealed.
    pub fn sealed_paths(&self) -> impl Iterator<Item = &str> {
        let sealed = self.subvolumes.iter().filter(|(_, found)| found.read_only);
        sealed.map(|(path, _)| path.as_str())
    }

    /// Subvolumes inside others; the store's own is none of these.
    pub fn nested(&self) -> impl Iterator<Item = &str> {
        let paths = self.subvolumes.keys();
        let inside = |path: &&String| {
            let mut others = self.subvolumes.keys().filter(|other| *other != STORE);
            others.any(|other| is_below(path, other))
        };
        paths.filter(inside).map(String::as_str)
    }

    /// The directories of sets, each with its manifest.
    pub fn manifests(&self) -> impl Iterator<Item = (&str, &Option<Manifest>)> {
        let all = self.manifests.iter();
        all.map(|(path, manifest)| (path.as_str(), manifest))
    }

    /// What is mounted where no subvolume is named.
    #[must_use]
    pub fn default_subvolume(&self) -> &str {
        self.lines.get(DEFAULT).map_or("", String::as_str)
    }

    /// All that lies at and below a path, by names within it.
    #[must_use]
    pub fn untimed(&self, at: &str) -> Lines {
        let all = self.lines.range(at.to_owned()..);
        all.take_while(|(path, _)| path.starts_with(at))
            .filter(|(path, _)| *path == at || is_below(path, at))
            .map(|(path, line)| {
                let name = path.strip_prefix(at).unwrap_or_default();
                (name.to_owned(), line.clone())
            })
            .collect()
    }

    /// The same with the times of files.
    #[must_use]
    pub fn below(&self, at: &str) -> Lines {
        let mut lines = self.untimed(at);
        for (name, line) in &mut lines {
            if let Some((seconds, rest)) = self.times.get(&format!("{at}{name}")) {
                line.push_str(&format!(" of {seconds}.{rest:09}"));
            }
        }
        lines
    }

    /// The same of the subvolume at a path, without the subvolumes inside it and what stands for them.
    #[must_use]
    pub fn dataset(&self, at: &str) -> Option<Lines> {
        self.subvolumes.get(at)?;
        let mut lines = self.below(at);
        let nested = self.nested().filter(|path| is_below(path, at));
        let nested: Vec<&str> = nested.filter_map(|path| path.strip_prefix(at)).collect();
        lines.retain(|name, line| {
            line != "stub"
                && !nested
                    .iter()
                    .any(|nested| name == nested || is_below(name, nested))
        });
        Some(lines)
    }
}
