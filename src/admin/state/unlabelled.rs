//! Data of which no state is recorded, although the live system declares whose it is: the command that mends that.

use super::dataset;
use super::name::App;
use crate::admin::error::Result;
use crate::fence::declaration::Declaration;
use crate::fence::names::{AppName, Version};
use crate::fence::{labels, survey};
use crate::store::Store;
use crate::store::place::Place;
use serde::Serialize;

/// One application, as `--json` gives it. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unlabelled {
    /// The application.
    pub app: App,
    /// The dataset's name in layout.toml.
    pub dataset: String,
    /// The state that the version writes which declares it.
    pub writes: String,
    /// Whether that version lives with data without a state.
    pub reads_unknown: bool,
}

impl core::fmt::Display for Unlabelled {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Unlabelled {
            app,
            dataset,
            writes,
            reads_unknown,
        } = self;
        let so = match reads_unknown {
            true => "which this version lives with, and others may not",
            false => "so that nothing goes back to this version",
        };
        write!(
            f,
            "the data of {app} in {dataset} has no state recorded, {so}: if it is in the one that it writes, 'backstay state set {app} {writes}'"
        )
    }
}

/// Every application that the live system declares, and whose dataset is there and says nothing of it.
pub fn all<S: Store>(store: &S) -> Result<Vec<Unlabelled>> {
    let mut found = Vec::new();
    if store.dataset(Version::Live.place())?.is_none() {
        return Ok(found);
    }
    for (app, declared) in survey::offer(store, Version::Live).apps {
        // One that cannot be read is `app check`'s affair.
        if let Ok(declared) = declared {
            found.extend(one(store, &app, &declared)?);
        }
    }
    Ok(found)
}

/// The same of one declaration, of whichever version.
pub fn one<S: Store>(
    store: &S,
    app: &AppName,
    declared: &Declaration,
) -> Result<Option<Unlabelled>> {
    let Some(place) = declared.part(store.layout()).map(Place::Live) else {
        return Ok(None);
    };
    if store.dataset(place)?.is_none() || labels::read(store, place)?.contains_key(app) {
        return Ok(None);
    }
    Ok(Some(Unlabelled {
        app: App::from(app.clone()),
        dataset: dataset::name(store, place),
        writes: declared.state.to_string(),
        reads_unknown: declared.reads_unknown,
    }))
}
