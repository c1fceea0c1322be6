//! `backstay fence graph`: the states of each application's data, and what leads from one to another.

use super::super::cli::FenceGraph;
use super::super::error::{Error, Result};
use super::super::output;
use super::super::run::{Ended, Out};
use crate::console::text::columns;
use crate::fence::ask::{holds_data, live, versions};
use crate::fence::dot::{Picture, dot};
use crate::fence::graph::{Graph, Path, Step, Through, declared};
use crate::fence::names::{AppName, AppState, Version};
use crate::fence::question::{Fault, Label, Versions};
use crate::fence::words::{base_name, short, state, step};
use crate::record::layout::Name;
use crate::store::Store;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that is shown. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sheet {
    /// By dataset, then by name.
    pub applications: Vec<Application>,
    /// Declarations that cannot be read.
    pub unread: Vec<Fault>,
}

/// One application in one dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Application {
    /// Its name.
    pub app: AppName,
    /// Where the data lies.
    pub dataset: Name,
    /// What is recorded of the data that is live.
    pub present: Label,
    /// What versions declare, oldest first.
    pub versions: Vec<Declared>,
    /// The converters, newest version first.
    pub converters: Vec<Step>,
    /// The way to the version that was named.
    pub way: Option<Way>,
}

/// What one version declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Declared {
    /// Which one.
    pub version: Version,
    /// What it writes.
    pub state: AppState,
    /// What it lives with besides.
    pub reads: Vec<AppState>,
    /// Whether it lives with data without a label.
    pub reads_unknown: bool,
}

/// From the present state to a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// It does not have the application there.
    NotThere,
    /// It lives with the data as it is.
    Nothing,
    /// By these converters.
    Convert(Path),
    /// There is none.
    None,
}

/// Prints it.
pub(super) fn show<S: Store>(store: &S, args: &FenceGraph, out: Out) -> Result<Ended> {
    let app = args.app.as_deref().map(name).transpose()?;
    let versions = versions(store, None)?;
    if args.dot {
        output::out(drawn(store, &versions, app.as_ref(), args.to)?);
        return Ok(Ended::Done);
    }
    let sheet = sheet(store, &versions, app.as_ref(), args.to)?;
    match sheet.applications.is_empty() && sheet.unread.is_empty() && !out.json {
        true => {
            out.say("no version on this disk declares an application: docs/fencing.md says how")
        }
        false => out.show(&sheet),
    }
    Ok(Ended::Done)
}

fn name(text: &str) -> Result<AppName> {
    AppName::new(text).ok_or_else(|| Error::AppName(text.to_owned()))
}

/// Gathers it.
pub fn sheet<S: Store>(
    store: &S,
    versions: &Versions,
    app: Option<&AppName>,
    to: Option<Version>,
) -> Result<Sheet> {
    let all = cases(store, versions, app, to)?.into_iter();
    let applications = all.map(|((dataset, app), present)| {
        let graph = Graph::of(versions, &app, &dataset);
        let target = |version| declared(versions, &app, &dataset).find(|it| it.0 == version);
        let way = to.map(|version| match (target(version), &present) {
            (None, _) => Way::NotThere,
            (Some((_, it)), Label::Known(state)) if it.lives_with(state) => Way::Nothing,
            (Some((_, it)), Label::Unknown) if it.reads_unknown => Way::Nothing,
            (Some((_, it)), Label::Known(state)) => graph
                .path(state, it, Through::Any)
                .map_or(Way::None, Way::Convert),
            (Some(_), _) => Way::None,
        });
        let declares =
            |(version, it): (Version, &crate::fence::declaration::Declaration)| Declared {
                version,
                state: it.state.clone(),
                reads: it.reads.clone(),
                reads_unknown: it.reads_unknown,
            };
        Application {
            versions: declared(versions, &app, &dataset).map(declares).collect(),
            converters: graph.edges().map(|edge| edge.step()).collect(),
            way,
            app,
            dataset,
            present,
        }
    });
    Ok(Sheet {
        applications: applications.collect(),
        unread: unread(versions, app),
    })
}

/// Each application in each dataset in which it is declared or has a label.
fn cases<S: Store>(
    store: &S,
    versions: &Versions,
    app: Option<&AppName>,
    to: Option<Version>,
) -> Result<BTreeMap<(Name, AppName), Label>> {
    if let Some(version) = to.filter(|version| !versions.contains_key(version)) {
        return Err(Error::NoVersion(version.to_string()));
    }
    let mut all = BTreeMap::new();
    for (dataset, part) in holds_data(store.layout()) {
        for (app, label) in live(store, part)? {
            all.insert((dataset.clone(), app), label);
        }
    }
    for (app, declared) in versions.values().flat_map(|offer| &offer.apps) {
        if let Ok(it) = declared {
            let key = (it.dataset.clone(), app.clone());
            all.entry(key).or_insert(Label::Unknown);
        }
    }
    if let Some(app) = app {
        all.retain(|(_, other), _| other == app);
        if all.is_empty() && unread(versions, Some(app)).is_empty() {
            return Err(Error::NoApplication(app.to_string()));
        }
    }
    Ok(all)
}

/// What cannot be read: of this application, or of nobody knows which.
fn unread(versions: &Versions, app: Option<&AppName>) -> Vec<Fault> {
    let mut all = BTreeSet::new();
    for (version, offer) in versions {
        all.extend(offer.faults.iter().cloned());
        for (other, declared) in &offer.apps {
            if let (Err(why), true) = (declared, app.is_none_or(|app| app == other)) {
                all.insert(Fault {
                    version: *version,
                    file: format!("{other}.toml"),
                    why: why.clone(),
                });
            }
        }
    }
    all.into_iter().collect()
}

/// All of them for Graphviz, a graph each.
pub fn drawn<S: Store>(
    store: &S,
    versions: &Versions,
    app: Option<&AppName>,
    to: Option<Version>,
) -> Result<String> {
    let all = cases(store, versions, app, to)?;
    let draw = |((dataset, app), present): (&(Name, AppName), &Label)| {
        dot(&Picture {
            app,
            graph: &Graph::of(versions, app, dataset),
            present: match present {
                Label::Known(state) => Some(state),
                _ => None,
            },
            target: declared(versions, app, dataset).find(|it| Some(it.0) == to),
        })
    };
    Ok(all.iter().map(draw).collect())
}

impl core::fmt::Display for Sheet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for application in &self.applications {
            write!(f, "{application}")?;
        }
        for fault in &self.unread {
            writeln!(
                f,
                "{} of {} cannot be read: {}",
                fault.file, fault.version, fault.why
            )?;
        }
        Ok(())
    }
}

impl core::fmt::Display for Application {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let present = state(&self.present);
        writeln!(f, "{} (dataset {}, {present})", self.app, self.dataset)?;
        let mut rows = vec![["VERSION", "WRITES", "READS"].map(str::to_owned).to_vec()];
        rows.extend(self.versions.iter().map(|it| {
            let reads = it.reads.iter().map(AppState::as_str);
            let reads: Vec<&str> = reads.chain(it.reads_unknown.then_some("unknown")).collect();
            vec![
                short(it.version),
                it.state.to_string(),
                or_dash(&reads.join(" ")),
            ]
        }));
        indented(f, &rows)?;
        if !self.converters.is_empty() {
            let head = ["FROM", "TO", "CONVERTER", "OF", "COST", "LOSES", "EARLY"];
            let mut rows = vec![head.map(str::to_owned).to_vec()];
            rows.extend(self.converters.iter().map(|it| {
                vec![
                    it.from.to_string(),
                    it.to.to_string(),
                    base_name(&it.command).to_owned(),
                    short(it.shipped_by),
                    it.cost.to_string(),
                    yes(!it.lossless),
                    yes(it.early),
                ]
            }));
            indented(f, &rows)?;
        }
        match &self.way {
            None => Ok(()),
            Some(Way::NotThere) => writeln!(f, "  that version does not have it there"),
            Some(Way::Nothing) => writeln!(f, "  that version lives with it as it is"),
            Some(Way::None) => writeln!(f, "  no converter on this disk leads to that version"),
            Some(Way::Convert(path)) => {
                writeln!(f, "  the best way to that version:")?;
                let mut steps = path.steps.iter();
                steps.try_for_each(|it| writeln!(f, "    {}", step(it)))
            }
        }
    }
}

fn indented(f: &mut core::fmt::Formatter<'_>, rows: &[Vec<String>]) -> core::fmt::Result {
    let mut lines = columns(rows).into_iter();
    lines.try_for_each(|line| writeln!(f, "  {line}"))
}

fn or_dash(text: &str) -> String {
    match text.is_empty() {
        true => "-".to_owned(),
        false => text.to_owned(),
    }
}

fn yes(is: bool) -> String {
    match is {
        true => "yes".to_owned(),
        false => "no".to_owned(),
    }
}
