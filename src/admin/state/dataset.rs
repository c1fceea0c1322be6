//! In which dataset an application's data lies.
//!
//! What the caller names; else what the live system declares in apps.d/APP.toml; else where something is recorded of the
//! application already; else the only data dataset. Where that does not decide, nothing is guessed.

use super::name::App;
use super::{CONVERTING, KINDS, label};
use crate::admin::error::{Error, Result};
use crate::fence::declaration::Declaration;
use crate::fence::names::Version;
use crate::fence::survey;
use crate::record::layout::Part;
use crate::store::Store;
use crate::store::place::Place;
use crate::transaction::check::APPS;

/// The live datasets that hold data, as far as they are there: configuration is data, too.
pub fn present<S: Store>(store: &S) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for part in parts(store) {
        let place = Place::Live(part);
        if store.dataset(place)?.is_some() {
            places.push(place);
        }
    }
    Ok(places)
}

fn parts<S: Store>(store: &S) -> Vec<Part> {
    let holds_data = |part: &Part| matches!(part, Part::Config | Part::Data(_));
    store.layout().all().filter(holds_data).collect()
}

/// What a dataset is called in layout.toml.
pub fn name<S: Store>(store: &S, place: Place) -> String {
    let layout = store.layout();
    match layout.dataset(place.part()) {
        Some(dataset) => dataset.name.to_string(),
        None => layout.title(place.part()).to_owned(),
    }
}

/// What may be named, for a message.
fn names<S: Store>(store: &S) -> String {
    let places = parts(store).into_iter().map(Place::Live);
    let names: Vec<String> = places.map(|place| name(store, place)).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

/// The live dataset of this name.
fn named<S: Store>(store: &S, wanted: &str) -> Option<Place> {
    let mut places = parts(store).into_iter().map(Place::Live);
    places.find(|place| name(store, *place) == wanted)
}

/// Where an application's data lies.
pub fn of<S: Store>(store: &S, app: &App, dataset: Option<&str>) -> Result<Place> {
    if let Some(wanted) = dataset {
        return by_name(store, wanted);
    }
    if let Some(declared) = declared(store, app)? {
        let part = declared.part(store.layout());
        return part.map(Place::Live).ok_or_else(|| Error::Declaration {
            path: path(app),
            why: format!(
                "this machine has no dataset {:?} for data ({})",
                declared.dataset,
                names(store)
            ),
        });
    }
    if let Some(place) = only(store, app, having(store, app, &KINDS)?)? {
        return Ok(place);
    }
    let mut data = store.layout().data_parts().map(Place::Live);
    match (data.next(), data.next()) {
        (Some(place), None) => Ok(place),
        _ => Err(Error::WhichDataset(app.to_string(), names(store))),
    }
}

/// Where a conversion of an application's data is open.
pub fn converting<S: Store>(store: &S, app: &App, dataset: Option<&str>) -> Result<Place> {
    if let Some(wanted) = dataset {
        return by_name(store, wanted);
    }
    let found = only(store, app, having(store, app, &[CONVERTING])?)?;
    found.ok_or_else(|| Error::NotConverting(app.to_string()))
}

fn by_name<S: Store>(store: &S, wanted: &str) -> Result<Place> {
    let unknown = || Error::NoDataset(wanted.to_owned(), names(store));
    named(store, wanted).ok_or_else(unknown)
}

/// The datasets in which one of these is recorded of an application.
pub fn having<S: Store>(store: &S, app: &App, kinds: &[&str]) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for place in present(store)? {
        let names = store.labels(place)?;
        let mut wanted = kinds.iter().map(|kind| label(kind, app));
        if wanted.any(|wanted| names.contains(&wanted)) {
            places.push(place);
        }
    }
    Ok(places)
}

fn only<S: Store>(store: &S, app: &App, places: Vec<Place>) -> Result<Option<Place>> {
    match places.as_slice() {
        [] => Ok(None),
        [place] => Ok(Some(*place)),
        several => {
            let names: Vec<String> = several.iter().map(|it| name(store, *it)).collect();
            Err(Error::WhichDataset(app.to_string(), names.join(", ")))
        }
    }
}

/// The live system's declaration, if it has one of this application.
fn declared<S: Store>(store: &S, app: &App) -> Result<Option<Declaration>> {
    if store.dataset(Version::Live.place())?.is_none() {
        return Ok(None);
    }
    let mut offer = survey::offer(store, Version::Live);
    match offer.apps.remove(app.name()) {
        Some(Ok(declared)) => Ok(Some(declared)),
        Some(Err(why)) => Err(Error::Declaration {
            path: path(app),
            why,
        }),
        // Where none can be listed, nobody knows whether there is one.
        None => match offer.faults.into_iter().find(|it| it.file == APPS) {
            Some(fault) => Err(Error::Declaration {
                path: format!("/{APPS}"),
                why: fault.why,
            }),
            None => Ok(None),
        },
    }
}

/// Where an application's declaration is.
fn path(app: &App) -> String {
    format!("/{APPS}/{app}.toml")
}
