//! `backstay state`, from arguments to what is printed.
//!
//! What changes something waits for the store: it is a package's script that says it, and nobody would say it again. The
//! store's state and journal are neither needed nor touched, so that no script fails because of them.

use super::cli::{Dataset, State as Command};
use super::error::Result;
use super::machine::{Lock, Machine};
use super::output::{now, table, utc};
use super::run::{Ended, Out, note};
use super::state::name::{App, State};
use super::state::{self, Begun, dataset};
use crate::fence::history::Change;
use crate::store::btrfs::Btrfs;
use crate::store::place::Place;
use serde::Serialize;
use std::path::Path;

/// Does what the arguments say. Names are looked at first, before anything is opened.
pub fn run(root: Option<&Path>, command: &Command, out: Out) -> Result<Ended> {
    match command {
        Command::Get { app } => {
            let app = app.as_deref().map(App::parse).transpose()?;
            get(root, app.as_ref(), out)
        }
        Command::History { app } => history(root, &App::parse(app)?, out),
        Command::Set { app, state, at } => {
            let (app, state) = (App::parse(app)?, State::parse_known(state)?);
            set(&mut Open::new(root, app, at, dataset::of)?, &state, out)
        }
        Command::Begin { app, from, to, at } => {
            let app = App::parse(app)?;
            let (from, to) = (State::parse(from)?, State::parse_known(to)?);
            begin(&mut Open::new(root, app, at, dataset::of)?, &from, &to, out)
        }
        Command::Commit { app, at } => {
            let app = App::parse(app)?;
            commit(&mut Open::new(root, app, at, dataset::converting)?, out)
        }
        Command::Abort { app, at } => {
            let app = App::parse(app)?;
            abort(&mut Open::new(root, app, at, dataset::converting)?, out)
        }
    }
}

/// An application's data in the store, locked.
struct Open {
    store: Btrfs,
    app: App,
    place: Place,
    dataset: String,
    // Holds the lock.
    _machine: Machine,
}

impl Open {
    fn new(
        root: Option<&Path>,
        app: App,
        at: &Dataset,
        find: fn(&Btrfs, &App, Option<&str>) -> Result<Place>,
    ) -> Result<Open> {
        let machine = Machine::open(root, Lock::Wait)?;
        machine.refuse_copies()?;
        let store = machine.store()?;
        let place = find(&store, &app, at.dataset.as_deref())?;
        Ok(Open {
            dataset: dataset::name(&store, place),
            store,
            app,
            place,
            _machine: machine,
        })
    }

    /// Tells people, or programs.
    fn tell(&self, what: &str, from: &str, to: &str, out: Out) {
        match out.json {
            true => out.result(&Changed {
                app: &self.app,
                dataset: &self.dataset,
                from,
                to,
            }),
            false => out.say(&self.line(what)),
        }
    }

    /// The same after a change, which goes into the log.
    fn done(&mut self, what: &str, from: &str, to: &str, out: Out) {
        let line = self.line(what);
        note(&mut self.store, &line);
        self.tell(what, from, to, out);
    }

    fn line(&self, what: &str) -> String {
        format!("the data of {} in {} {what}", self.app, self.dataset)
    }
}

/// A change, as `--json` gives it.
#[derive(Serialize)]
struct Changed<'a> {
    app: &'a App,
    dataset: &'a str,
    from: &'a str,
    to: &'a str,
}

fn get(root: Option<&Path>, app: Option<&App>, out: Out) -> Result<Ended> {
    let store = Machine::open(root, Lock::None)?.store()?;
    let listing = state::get(&store, app)?;
    let nothing = listing.applications.is_empty() && listing.unlabelled.is_empty();
    match nothing && !out.json {
        true => out.say(
            "no state of any application is recorded: 'backstay state set APP STATE' records the one that its data is in",
        ),
        false => out.show(&listing),
    }
    Ok(Ended::Done)
}

#[derive(Serialize)]
struct Histories<'a> {
    app: &'a App,
    datasets: Vec<History>,
}

#[derive(Serialize)]
struct History {
    dataset: String,
    changes: Vec<Change>,
}

impl core::fmt::Display for Histories<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let heading = ["DATE", "DATASET", "FROM", "TO", "BY"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        for History { dataset, changes } in &self.datasets {
            rows.extend(changes.iter().map(|it| {
                vec![
                    utc(it.at),
                    dataset.clone(),
                    it.from.to_string(),
                    it.to.to_string(),
                    by(it),
                ]
            }));
        }
        f.write_str(&table(&rows))
    }
}

/// What changed the state, for people.
fn by(change: &Change) -> String {
    let by = change.by.as_ref();
    by.map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn history(root: Option<&Path>, app: &App, out: Out) -> Result<Ended> {
    let store = Machine::open(root, Lock::None)?.store()?;
    let datasets = state::histories(&store, app)?.into_iter();
    out.show(&Histories {
        app,
        datasets: datasets
            .map(|(dataset, changes)| History { dataset, changes })
            .collect(),
    });
    Ok(Ended::Done)
}

fn set(open: &mut Open, to: &State, out: Out) -> Result<Ended> {
    let before = state::set(&mut open.store, open.place, &open.app, to, now())?;
    match before == to.as_str() {
        true => {
            let what = format!("is recorded as in state {to} already");
            open.tell(&what, &before, to.as_str(), out);
        }
        false => {
            let what = format!("is recorded as in state {to} (before: {before})");
            open.done(&what, &before, to.as_str(), out);
        }
    }
    Ok(Ended::Done)
}

fn begin(open: &mut Open, from: &State, to: &State, out: Out) -> Result<Ended> {
    let begun = state::begin(&mut open.store, open.place, &open.app, from, to)?;
    if begun == Begun::Before {
        let what = format!(
            "is being converted from {from} to {to} since before, and that has not ended: it may be half converted, and \
             only a program that can go on from there may do so"
        );
        open.tell(&what, from.as_str(), to.as_str(), out);
        return Ok(Ended::Nothing);
    }
    let what =
        format!("is being converted from {from} to {to}: nothing reads it until that is committed");
    open.done(&what, from.as_str(), to.as_str(), out);
    Ok(Ended::Done)
}

fn commit(open: &mut Open, out: Out) -> Result<Ended> {
    let (from, to) = state::commit(&mut open.store, open.place, &open.app, now())?;
    let what = format!("was converted from {from} and is in state {to}");
    open.done(&what, from.as_str(), to.as_str(), out);
    Ok(Ended::Done)
}

fn abort(open: &mut Open, out: Out) -> Result<Ended> {
    let state = state::abort(&mut open.store, open.place, &open.app)?;
    let what = format!("was not converted and stays in state {state}");
    open.done(&what, &state, &state, out);
    Ok(Ended::Done)
}
