//! The menu's machine over the store in memory, with the real decisions, plans and execution.

use super::Clock;
use crate::console::command::{Log, Way};
use crate::console::inside::{NOT_COMPARED, in_neither};
use crate::console::look::locate;
use crate::console::machine::{Answer, Changed, Entry, Look, Machine, Situation, Stage};
use crate::console::menu::no_version;
use crate::console::versions::{self, Version};
use crate::policy::resolve;
use crate::record::layout::Part;
use crate::record::state::{Consent, Verb};
use crate::store::Store as _;
use crate::store::memory::{Content, Memory, Tree};
use crate::store::place::{Place, Set};
use crate::transaction::explain::{Explanation, explain_for};
use crate::transaction::plan::Plan;
use crate::transaction::records::Records;
use crate::transaction::{catalogue, execute, fenced, model};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

pub struct Model {
    pub store: Memory,
    pub records: Records,
    pub stage: Stage,
    pub why: Vec<String>,
    /// Why it is not mounted.
    pub unmounted: Option<String>,
    /// The ways that mount it then.
    pub mounts: Vec<Way>,
    pub unchangeable: Option<String>,
    pub hibernated: bool,
    pub starts: bool,
    pub notes: Vec<String>,
    pub log: Vec<String>,
    pub shells: u32,
    /// No disk has come: it cannot be mounted in any way.
    pub diskless: bool,
    pub clock: Clock,
}

impl Model {
    /// Version 3 is live, 1 and 2 are kept.
    pub fn new() -> Model {
        let (mut store, records) = model::machine();
        // Each says what it is, as Debian does.
        for (place, version) in [
            (Place::Live(Part::System), "3"),
            (Place::Snapshot(2, Part::System), "2"),
            (Place::Snapshot(1, Part::System), "1"),
        ] {
            let text = format!("PRETTY_NAME=\"Appliance {version}\"\n");
            store.edit(|world, _| {
                let tree = &mut world.datasets.get_mut(&place).unwrap().tree;
                tree.insert("etc/os-release".into(), Content::File(text.into_bytes()));
            });
        }
        Model {
            store,
            records,
            stage: Stage::EarlyBoot,
            why: vec!["Somebody asked for this menu.".to_owned()],
            unmounted: None,
            mounts: Vec::new(),
            unchangeable: None,
            hibernated: false,
            starts: true,
            notes: Vec::new(),
            log: Vec::new(),
            shells: 0,
            diskless: false,
            clock: Clock::default(),
        }
    }

    fn tree(&self, version: Option<u32>, part: Part) -> Option<Tree> {
        let place = match version {
            None => Place::Live(part),
            Some(0) => Set::Factory.place(part),
            Some(id) => Set::Snapshot(id).place(part),
        };
        Some(Tree::clone(&self.store.world().datasets.get(&place)?.tree))
    }

    fn made(&self, verb: Verb, consent: Consent) -> Answer<Plan> {
        let state = &self.records.state.value;
        let intent = resolve::intent(verb, state).map_err(|it| it.to_string())?;
        let facts = catalogue::facts(&self.store, intent.source(), false);
        let facts = facts.map_err(|it| it.to_string())?;
        let intent = resolve::allowed(verb, state, &facts).map_err(|it| it.to_string())?;
        let plan = fenced::plan_for(&self.store, &intent, state, consent, 7);
        let plan = plan.map_err(|it| it.to_string())?;
        match fenced::refused(&plan) {
            Some(why) => Err(why),
            None => Ok(plan),
        }
    }
}

impl Machine for Model {
    fn stage(&self) -> Stage {
        self.stage
    }

    fn situation(&mut self) -> Situation {
        let state = &self.records.state.value;
        let there = self.unmounted.is_none();
        Situation {
            why: self.why.clone(),
            live: match there {
                true => versions::live(&self.store, Some(state)),
                false => Vec::new(),
            },
            waits: versions::waits(state),
            readable: there,
            unchangeable: self.unchangeable.clone(),
            back: state.older.last().copied().filter(|_| there),
            ahead: state.newer.first().copied().filter(|_| there),
            config: true,
            data: true,
            starts: self.starts && there,
            hibernated: self.hibernated,
            mounts: !self.hibernated && !self.diskless,
            degraded: false,
            policy: None,
        }
    }

    fn versions(&mut self) -> Answer<Vec<Version>> {
        if self.unmounted.is_some() {
            return Err(
                "The disk is not mounted: 'disk' says why, and how else it can be.".to_owned(),
            );
        }
        let state = &self.records.state.value;
        versions::list(&self.store, Some(state)).map_err(|it| it.to_string())
    }

    fn plan(&mut self, verb: Verb, consent: Consent) -> Answer<Explanation> {
        let plan = self.made(verb, consent)?;
        explain_for(&self.store, &plan).map_err(|it| it.to_string())
    }

    fn carry_out(&mut self, verb: Verb, consent: Consent) -> Answer<String> {
        let plan = self.made(verb, consent)?;
        execute::execute(&mut self.store, &mut self.records, &plan, 7, &mut |_| {})
            .map_err(|it| it.to_string())?;
        Ok("Type 'boot' to start it.".to_owned())
    }

    fn compare(
        &mut self,
        version: u32,
        path: &str,
        found: &mut dyn FnMut(Changed) -> ControlFlow<()>,
    ) -> Answer<()> {
        let old = self.tree(Some(version), Part::System);
        let old = old.ok_or_else(|| no_version(version))?;
        let new = self.tree(None, Part::System).unwrap_or_default();
        let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let (part, below) = locate(self.store.layout(), path);
        if matches!(part, Part::Data(_)) {
            return Err(NOT_COMPARED.to_owned());
        }
        let lies_there = |it: &&String| {
            let rest = it.strip_prefix(below.as_str());
            rest.is_some_and(|rest| below.is_empty() || rest.is_empty() || rest.starts_with('/'))
        };
        if !paths.iter().any(lies_there) {
            return Err(in_neither(version, path));
        }
        for path in paths {
            let what = match (old.get(path), new.get(path)) {
                (one, other) if one == other => continue,
                (Some(_), Some(_)) => "changed",
                (Some(_), None) => "removed",
                _ => "added",
            };
            let changed = Changed {
                what,
                path: format!("/{path}"),
                note: String::new(),
            };
            if found(changed).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn look(&mut self, version: Option<u32>, path: &str) -> Answer<Look> {
        let tree = self
            .tree(version, Part::System)
            .ok_or_else(|| no_version(version.unwrap_or(0)))?;
        let path = path.trim_matches('/');
        let kind = |content: &Content| match content {
            Content::File(_) => "file",
            Content::Link(_) => "link",
            _ => "directory",
        };
        if let Some(Content::File(bytes)) = tree.get(path) {
            let text = String::from_utf8_lossy(bytes);
            return Ok(Look::Text {
                lines: text.lines().map(str::to_owned).collect(),
                more: false,
            });
        }
        let name = |entry: &str| -> Option<String> {
            let rest = match path {
                "" => entry,
                _ => entry.strip_prefix(path)?.strip_prefix('/')?,
            };
            (!rest.contains('/')).then(|| rest.to_owned())
        };
        let entry = |(entry, content): (&String, &Content)| {
            Some(Entry {
                name: name(entry)?,
                kind: kind(content),
                size: match content {
                    Content::File(bytes) => Some(bytes.len() as u64),
                    _ => None,
                },
            })
        };
        Ok(Look::Directory {
            entries: tree.iter().filter_map(entry).collect(),
            more: 0,
        })
    }

    fn disk(&mut self) -> Vec<String> {
        vec![match &self.unmounted {
            None => "It is mounted read-only; it is mounted writable when something is changed."
                .to_owned(),
            Some(why) => format!("It is not mounted: {why}"),
        }]
    }

    fn mount(&mut self, way: Way) -> Answer<()> {
        if !self.mounts.contains(&way) {
            return Err("It does not mount this way: Input/output error (os error 5)".to_owned());
        }
        self.unmounted = None;
        self.unchangeable = match way {
            Way::ReadOnly => None,
            _ => Some("the disk is mounted read-only, without log replay".to_owned()),
        };
        Ok(())
    }

    fn log(&mut self, _: Log) -> Answer<Vec<String>> {
        Ok(self.log.clone())
    }

    fn forget(&mut self) -> Answer<()> {
        self.hibernated = false;
        Ok(())
    }

    fn shell(&mut self, terminal: &Path, _: &mut dyn FnMut()) -> Answer<()> {
        assert_eq!(terminal, Path::new("/dev/ttyS0"));
        self.shells += 1;
        Ok(())
    }

    fn note(&mut self, line: &str) {
        self.notes.push(line.to_owned());
    }

    fn now(&self) -> Duration {
        self.clock.get()
    }

    fn pause(&mut self, time: Duration) {
        self.clock.set(self.clock.get() + time);
    }
}
