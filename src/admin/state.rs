//! `backstay state`: in which state the data of an application is, kept with that data.
//!
//! As labels of the live dataset that holds the data, which on btrfs are attributes of its root directory:
//!
//! ```text
//! trusted.backstay.state.<app>       the state, such as 15; without it, it is unknown
//! trusted.backstay.converting.<app>  "FROM TO" while a program converts the data in place: nothing reads it meanwhile
//! trusted.backstay.history.<app>     lines, the newest last, 2 KiB at the most: fence/history.rs
//! ```
//!
//! Snapshots, clones and sends carry them. So whichever version of the data comes back, its state comes back with it, and
//! no marker beside the data can say anything else than the data is. Changing a name or a form is a format break.
//!
//! What a power cut leaves. [`begin`]: nothing, or `converting`; it is on disk before the first byte of data changes.
//! [`commit`]: `converting`, until the converted data, the new state and its history are on disk; then, without it, the
//! new state. Never the old state without `converting`. [`abort`]: the same with the old data and the old state.
//! `commit` and `abort` can be called again, also the one after the other was cut. [`set`]: the old state or the new one.
//!
//! Nothing here reads or writes the store's state and journal: a package's script does its work, and can undo it, whatever
//! is wrong with those.

pub mod dataset;
pub mod name;
#[cfg(test)]
mod tests;
pub mod unlabelled;

use super::error::{Error, Result};
use super::output::{table, utc};
use crate::fence::history::{self, Change, HISTORY};
use crate::fence::labels::{CONVERTING, STATE};
use crate::store::place::Place;
use crate::store::{Store, StoreError, shown};
use name::{App, State};
use serde::Serialize;
use unlabelled::Unlabelled;

/// What is recorded of an application.
const KINDS: [&str; 3] = [STATE, CONVERTING, HISTORY];

/// The name of a label.
fn label(kind: &str, app: &App) -> String {
    format!("{kind}.{app}")
}

/// A conversion in place that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conversion {
    /// From this state; absent where the record is damaged.
    pub from: Option<State>,
    /// To this one; absent where the record is damaged.
    pub to: Option<State>,
}

impl Conversion {
    fn parse(bytes: &[u8]) -> Conversion {
        let text = String::from_utf8_lossy(bytes);
        let both = text
            .split_once(' ')
            .and_then(|(from, to)| Some((State::parse(from).ok()?, State::parse_known(to).ok()?)));
        let (from, to) = both.unzip();
        Conversion { from, to }
    }

    fn is(&self, from: &State, to: &State) -> bool {
        self.from.as_ref() == Some(from) && self.to.as_ref() == Some(to)
    }
}

impl core::fmt::Display for Conversion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "from {from} to {to}"),
            _ => f.write_str("from and to what is not readable"),
        }
    }
}

/// What is recorded of an application's data in a dataset, as `--json` gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The application.
    pub app: App,
    /// The dataset's name in layout.toml.
    pub dataset: String,
    /// The state; absent where it is unknown.
    pub state: Option<String>,
    /// Since when it is in this state, as 2026-11-23T13:06:36Z, by a clock that may have been wrong.
    pub since: Option<String>,
    /// The conversion that has not ended, so that nothing reads the data.
    pub converting: Option<Conversion>,
}

/// Everything that `get` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// By dataset, then by application.
    pub applications: Vec<Kept>,
    /// Those that the live system declares, and of whose data no state is recorded.
    pub unlabelled: Vec<Unlabelled>,
}

impl core::fmt::Display for Listing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let heading = ["APPLICATION", "DATASET", "STATE", "SINCE", "CONVERTING"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        let dash = || "-".to_owned();
        rows.extend(self.applications.iter().map(|kept| {
            vec![
                kept.app.to_string(),
                kept.dataset.clone(),
                kept.state
                    .clone()
                    .unwrap_or_else(|| State::unknown().to_string()),
                kept.since.clone().unwrap_or_else(dash),
                kept.converting
                    .as_ref()
                    .map_or_else(dash, Conversion::to_string),
            ]
        }));
        if !self.applications.is_empty() {
            f.write_str(&table(&rows))?;
        }
        self.unlabelled
            .iter()
            .try_for_each(|it| writeln!(f, "{it}"))
    }
}

/// What is recorded, of all applications or of one; of one that has nothing it is an error.
pub fn get<S: Store>(store: &S, app: Option<&App>) -> Result<Listing> {
    let mut applications = Vec::new();
    for place in dataset::present(store)? {
        let mut found: Vec<App> = Vec::new();
        for name in store.labels(place)? {
            let name = name
                .split_once('.')
                .filter(|(kind, _)| KINDS.contains(kind));
            let Some(named) = name.and_then(|(_, app)| App::parse(app).ok()) else {
                continue;
            };
            if app.is_none_or(|wanted| *wanted == named) && !found.contains(&named) {
                found.push(named);
            }
        }
        found.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        for app in found {
            applications.push(kept(store, place, app)?);
        }
    }
    let mut unlabelled = unlabelled::all(store)?;
    unlabelled.retain(|it| app.is_none_or(|wanted| *wanted == it.app));
    match app {
        Some(app) if applications.is_empty() => Err(nothing_of(store, app)?),
        _ => Ok(Listing {
            applications,
            unlabelled,
        }),
    }
}

/// That nothing is recorded of an application, with the state that it probably is in.
fn nothing_of<S: Store>(store: &S, app: &App) -> Result<Error> {
    let all = unlabelled::all(store)?;
    let writes = all.into_iter().find(|it| it.app == *app);
    let state = writes.map_or_else(|| "STATE".to_owned(), |it| it.writes);
    Ok(Error::NoState(app.to_string(), state))
}

fn kept<S: Store>(store: &S, place: Place, app: App) -> Result<Kept> {
    let state = state(store, place, &app)?;
    let changes = history::read(store, place, app.name())?;
    let last = changes.last();
    let since = last.filter(|last| state.as_deref() == Some(last.to.as_str()));
    Ok(Kept {
        dataset: dataset::name(store, place),
        state,
        since: since.map(|last| utc(last.at)),
        converting: conversion(store, place, &app)?,
        app,
    })
}

/// The state as it is recorded, on one line; a garbled one equals no [`State`].
fn state<S: Store>(store: &S, place: Place, app: &App) -> Result<Option<String>> {
    match store.label(place, &label(STATE, app)) {
        // Too long to be one, but not none.
        Err(StoreError::Label(_)) => Ok(Some("?".to_owned())),
        other => Ok(other?.map(|bytes| shown(&bytes))),
    }
}

/// The same with the word for none.
fn state_or_unknown<S: Store>(store: &S, place: Place, app: &App) -> Result<String> {
    Ok(state(store, place, app)?.unwrap_or_else(|| State::unknown().to_string()))
}

fn conversion<S: Store>(store: &S, place: Place, app: &App) -> Result<Option<Conversion>> {
    match store.label(place, &label(CONVERTING, app)) {
        // Too long to be one of ours, but somebody meant something by it.
        Err(StoreError::Label(_)) => Ok(Some(Conversion::parse(b""))),
        other => Ok(other?.map(|bytes| Conversion::parse(&bytes))),
    }
}

/// The changes of an application's states, by dataset.
pub fn histories<S: Store>(store: &S, app: &App) -> Result<Vec<(String, Vec<Change>)>> {
    let mut all = Vec::new();
    for place in dataset::having(store, app, &KINDS)? {
        let changes = history::read(store, place, app.name())?;
        all.push((dataset::name(store, place), changes));
    }
    match all.is_empty() {
        true => Err(nothing_of(store, app)?),
        false => Ok(all),
    }
}

/// Nothing but the label itself: what the change means is the caller's.
fn write<S: Store>(store: &mut S, place: Place, app: &App, state: &State) -> Result<()> {
    let value = Some(state.as_str().as_bytes()).filter(|_| !state.is_unknown());
    Ok(store.set_label(place, &label(STATE, app), value)?)
}

/// Refuses while a conversion of this application's data is open anywhere.
fn idle<S: Store>(store: &S, app: &App) -> Result<()> {
    match open(store, app)? {
        Some((place, conversion)) => Err(Error::Converting {
            app: app.to_string(),
            dataset: dataset::name(store, place),
            conversion: conversion.to_string(),
        }),
        None => Ok(()),
    }
}

fn open<S: Store>(store: &S, app: &App) -> Result<Option<(Place, Conversion)>> {
    for place in dataset::having(store, app, &[CONVERTING])? {
        if let Some(conversion) = conversion(store, place, app)? {
            return Ok(Some((place, conversion)));
        }
    }
    Ok(None)
}

/// Records the state that existing data is in; gives what was recorded before. On disk on return.
pub fn set<S: Store>(
    store: &mut S,
    place: Place,
    app: &App,
    to: &State,
    now: u64,
) -> Result<String> {
    idle(store, app)?;
    let before = state_or_unknown(store, place, app)?;
    if before != to.as_str() {
        write(store, place, app, to)?;
        let mut changes = history::read(store, place, app.name())?;
        // A garbled one was none.
        let from = State::parse(&before).unwrap_or_else(|_| State::unknown());
        let (from, to) = (from.state().clone(), to.state().clone());
        changes.push(Change::said(now, from, to));
        history::write(store, place, app.name(), &changes)?;
    }
    // What was written may be an earlier command's, which was cut.
    store.sync()?;
    Ok(before)
}

/// How a conversion was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Now: the data is whole, and in the state from which it is converted.
    Now,
    /// Before, and it has not ended: the data may be half converted.
    Before,
}

/// Says that the data is about to be converted in place. On disk on return: only then may the data be changed.
pub fn begin<S: Store>(
    store: &mut S,
    place: Place,
    app: &App,
    from: &State,
    to: &State,
) -> Result<Begun> {
    if from == to {
        return Err(Error::SameState(to.to_string()));
    }
    match open(store, app)? {
        Some((at, conversion)) if at == place && conversion.is(from, to) => {
            store.sync()?;
            return Ok(Begun::Before);
        }
        _ => idle(store, app)?,
    }
    let present = state_or_unknown(store, place, app)?;
    if present != from.as_str() {
        return Err(Error::NotFrom {
            app: app.to_string(),
            dataset: dataset::name(store, place),
            present,
            from: from.to_string(),
        });
    }
    let converting = label(CONVERTING, app);
    let value = format!("{from} {to}");
    let begun = store.set_label(place, &converting, Some(value.as_bytes()));
    if let Err(error) = begun.and_then(|()| store.sync()) {
        // Nobody changes the data after this error, so nothing is open; where even that cannot be written, 'abort' can.
        store.set_label(place, &converting, None).ok();
        return Err(error.into());
    }
    Ok(Begun::Now)
}

/// Says that the data was converted; gives the states. On disk on return, with the data.
pub fn commit<S: Store>(
    store: &mut S,
    place: Place,
    app: &App,
    now: u64,
) -> Result<(State, State)> {
    let not_open = || Error::NotConverting(app.to_string());
    let conversion = conversion(store, place, app)?.ok_or_else(not_open)?;
    let (Some(from), Some(to)) = (conversion.from, conversion.to) else {
        return Err(Error::ConversionDamaged(app.to_string()));
    };
    write(store, place, app, &to)?;
    let mut changes = history::read(store, place, app.name())?;
    // One that was cut may have written it. Never twice the same in a row: the state was another one in between.
    if changes
        .last()
        .is_none_or(|last| !last.is(from.state(), to.state()))
    {
        let (from, to) = (from.state().clone(), to.state().clone());
        changes.push(Change::said(now, from, to));
        history::write(store, place, app.name(), &changes)?;
    }
    end(store, place, app)?;
    Ok((from, to))
}

/// Says that the data is as it was before the conversion; gives the state, if it is known. On disk on return.
pub fn abort<S: Store>(store: &mut S, place: Place, app: &App) -> Result<String> {
    let not_open = || Error::NotConverting(app.to_string());
    let conversion = conversion(store, place, app)?.ok_or_else(not_open)?;
    if let (Some(from), Some(to)) = (&conversion.from, &conversion.to) {
        // A commit that was cut has written what is not so.
        if state_or_unknown(store, place, app)? == to.as_str() {
            write(store, place, app, from)?;
        }
        let mut changes = history::read(store, place, app.name())?;
        if changes
            .pop_if(|last| last.is(from.state(), to.state()))
            .is_some()
        {
            history::write(store, place, app.name(), &changes)?;
        }
    }
    end(store, place, app)?;
    state_or_unknown(store, place, app)
}

/// The data can be read again, as what was written before this says. First all of it is on disk, the data as well.
fn end<S: Store>(store: &mut S, place: Place, app: &App) -> Result<()> {
    store.sync()?;
    store.set_label(place, &label(CONVERTING, app), None)?;
    Ok(store.sync()?)
}
