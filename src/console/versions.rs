//! The versions in a store, as a person chooses among them; what is live, and what waits.

use super::text::{self, utc};
use crate::fence::survey::Survey;
use crate::policy::Health;
use crate::policy::trial::TRIES;
use crate::record::layout::Part;
use crate::record::manifest::{Kind, Manifest, Origin};
use crate::record::state::{Phase, State, Verb};
use crate::store::Store;
use crate::store::place::{Place, Set};
use crate::transaction::fenced::{self, Standing};
use crate::transaction::{Error, catalogue, check};
use serde::Serialize;

/// One version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// Its number; 0 is the factory's.
    pub id: u32,
    /// For people.
    pub title: String,
    /// When it was kept, as 2026-11-23T13:06:36Z, by a clock that may have been wrong.
    pub created: Option<String>,
    /// Why it was kept.
    pub origin: Option<&'static str>,
    /// The release of its kernel.
    pub kernel: Option<String>,
    /// The last time that it was started: `good`, `not proved` or `FAILED`.
    pub last_start: &'static str,
    /// `sound`, or what is wrong with it.
    pub health: &'static str,
    /// Whether it can be gone back to.
    pub usable: bool,
    /// Whether a rollback without a number goes to it.
    pub back: bool,
    /// Whether forward goes to it.
    pub ahead: bool,
    /// Whether its applications run on the data that is live: `runs`, after `convert`, by `restore`, or `refused`; absent where
    /// none declares anything.
    pub data: Option<&'static str>,
    /// The data that it keeps, by the names of the datasets; with `(gone)` what was deleted.
    pub kept_data: Vec<String>,
}

impl Version {
    /// Whether anything of it lies in the store: the factory's is listed also where there is none.
    pub fn is_there(&self) -> bool {
        self.health != words(Health::Absent)
    }
}

/// All of them, newest first, and the factory's last. `state` is absent where it cannot be read.
pub fn list<S: Store>(store: &S, state: Option<&State>) -> Result<Vec<Version>, Error> {
    let ids = catalogue::ids(store)?.into_iter().rev();
    let sets = ids.map(Set::Snapshot).chain([Set::Factory]);
    let survey = Survey::default();
    sets.map(|set| version(store, &survey, state, set))
        .collect()
}

fn version<S: Store>(
    store: &S,
    survey: &Survey,
    state: Option<&State>,
    set: Set,
) -> Result<Version, Error> {
    let manifest = catalogue::manifest(store, set)?;
    let health = catalogue::health(store, set)?;
    let id = match set {
        Set::Snapshot(id) => id,
        Set::Factory => 0,
    };
    let is = |other: Option<&u32>| id > 0 && other == Some(&id);
    let failed = state.is_some_and(|state| state.failed.contains(&id));
    Ok(Version {
        id,
        title: title(set, manifest.as_ref()),
        created: manifest.as_ref().map(|it| utc(it.created)),
        origin: manifest.as_ref().map(|it| origin(it.origin)),
        kernel: manifest
            .as_ref()
            .and_then(|it| it.kernel.as_ref())
            .map(ToString::to_string),
        last_start: last_start(manifest.as_ref(), failed),
        health: words(health),
        usable: matches!(health, Health::Sound | Health::WithoutConfig),
        back: is(state.and_then(|state| state.older.last())),
        ahead: is(state.and_then(|state| state.newer.first())),
        data: state
            .filter(|_| matches!(health, Health::Sound | Health::WithoutConfig))
            .and_then(|state| fenced::standing(store, survey, state, set))
            .map(Standing::word),
        kept_data: manifest.map_or_else(Vec::new, |it| kept_data(store, &it)),
    })
}

fn kept_data<S: Store>(store: &S, manifest: &Manifest) -> Vec<String> {
    let layout = store.layout();
    let kept = manifest.data().map(|it| layout.title(it.part).to_owned());
    let gone = manifest.gone.iter();
    kept.chain(gone.map(|it| format!("{} (gone)", layout.title(it.part))))
        .collect()
}

fn title(set: Set, manifest: Option<&Manifest>) -> String {
    let title = manifest.map_or("", |it| it.title.as_str());
    match (set, manifest.map(|it| it.origin)) {
        (Set::Factory, Some(Origin::Baseline)) => format!("baseline, not factory: {title}"),
        _ => title.to_owned(),
    }
}

fn last_start(manifest: Option<&Manifest>, failed: bool) -> &'static str {
    match manifest {
        Some(it) if failed || it.origin == Origin::DidNotStart => "FAILED",
        Some(it) if it.good => "good",
        Some(it) if it.kind == Kind::Factory || it.origin == Origin::Upgraded => "never",
        _ => "not proved",
    }
}

/// Why a set was kept, in a person's words.
fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Asked => "somebody kept it",
        Origin::Replaced => "it was live before a roll back or forward",
        Origin::BeforeReset => "it was live before a reset",
        Origin::BootedOnce => "it is what a start once left",
        Origin::Built => "the image came with it",
        Origin::Extracted => "it was made from the default tarball",
        Origin::Failed => "it was the factory version and failed its check",
        Origin::Superseded => "it was the factory version before another one",
        Origin::DidNotStart => "it did not come up, and the machine fell back",
        Origin::Baseline => "it is a cleaned copy of a system that was used",
        Origin::Upgraded => "it is an upgraded clone of what was live",
    }
}

/// A set's health in a word or two.
pub fn words(health: Health) -> &'static str {
    match health {
        Health::Sound => "sound",
        Health::WithoutConfig => "sound, without configuration",
        Health::Absent => "missing",
        Health::NoManifest => "incomplete (no manifest)",
        Health::Parked => "parked, returns at the next boot",
        Health::FormerFactory => "a factory snapshot that was replaced",
        Health::Missing(_) => "DAMAGED (a part is missing)",
        Health::Changed(_) => "DAMAGED (changed since it was sealed)",
    }
}

/// What is live, in lines; empty where nothing is.
pub fn live<S: Store>(store: &S, state: Option<&State>) -> Vec<String> {
    let place = Place::Live(Part::System);
    let Ok(Some(dataset)) = store.dataset(place) else {
        return Vec::new();
    };
    // What cannot be read in the system must not hide what the store knows.
    let version = check::version(store, place).ok().flatten();
    let kernel = check::kernel(store, place).ok().flatten();
    let mut line = version.map_or("of unknown version".to_owned(), |it| text::plain(&it));
    if let Some(kernel) = kernel {
        line.push_str(&format!(", kernel {}", kernel.release));
    }
    let Some(state) = state else {
        return vec![line];
    };
    match state.live.clone_of {
        Some(0) => line.push_str(", from the factory version"),
        Some(id) => line.push_str(&format!(", from snapshot {id}")),
        None => {}
    }
    let mut lines = vec![line];
    lines.push(match (state.live_trial(), state.good) {
        (Some(trial), _) => format!("on trial: {} of {TRIES} starts are used", trial.begun),
        (None, Some(good)) if good == dataset.identity.uuid => "marked good".to_owned(),
        _ => "not marked good yet".to_owned(),
    });
    lines
}

/// What happens later if nothing is done.
pub fn waits(state: &State) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(request) = state.request {
        lines.push(format!(
            "the running system asked to {}: the next start without the menu does it",
            request.verb
        ));
    }
    if let (Some(parked), Some(Verb::Select(id))) =
        (state.parked, state.last.and_then(|it| it.verb))
    {
        lines.push(format!(
            "snapshot {id} is started once; the start after it returns to what is parked as {parked}"
        ));
    }
    if let Some(destroy) = state.destroy {
        let what = format!(
            "what was there before 'reset everything', and snapshots up to {}",
            destroy.up_to
        );
        lines.push(match destroy.phase {
            Phase::Waits => format!("{what}, are DELETED once the live system is marked good"),
            Phase::Begun => {
                format!("{what}, are being deleted: 'backstay mark-good' goes on with it")
            }
            Phase::Suspended => {
                format!("{what}, are kept, because going back was tried")
            }
        });
    }
    if let Some(fell) = state.fell_back {
        lines.push(format!(
            "the machine fell back by itself: snapshot {} did not come up, this is a copy of snapshot {}",
            fell.from, fell.to
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::state::{Destroy, Request};
    use crate::transaction::model::machine;

    #[test]
    fn the_newest_comes_first_and_one_says_where_a_rollback_goes() {
        let (store, records) = machine();
        let all = list(&store, Some(&records.state.value)).unwrap();
        let ids: Vec<(u32, bool)> = all.iter().map(|it| (it.id, it.back)).collect();
        assert_eq!(ids, [(2, true), (1, false), (0, false)]);
        assert!(all.iter().all(|it| it.usable && !it.ahead));
        // Without a state they are there all the same.
        assert_eq!(list(&store, None).unwrap().len(), 3);
    }

    #[test]
    fn a_version_that_failed_says_so_before_anything_else() {
        let (store, records) = machine();
        let mut state = records.state.value.clone();
        state.remember_failed(2);
        let all = list(&store, Some(&state)).unwrap();
        assert_eq!(all[0].last_start, "FAILED");
        assert_eq!(all[1].last_start, "not proved");
    }

    #[test]
    fn what_waits_is_said_with_what_it_takes() {
        let (_, records) = machine();
        let mut state = records.state.value.clone();
        assert_eq!(waits(&state), Vec::<String>::new());
        state.request = Some(Request {
            ticket: [1; 16],
            verb: Verb::ResetEverything,
            consent: Default::default(),
            loss: false,
            created: 1,
            prepared: Default::default(),
        });
        for (phase, says) in [
            (Phase::Waits, "DELETED once"),
            (Phase::Begun, "being deleted"),
            (Phase::Suspended, "are kept"),
        ] {
            state.destroy = Some(Destroy {
                live: state.live.system,
                up_to: 7,
                phase,
            });
            let lines = waits(&state);
            assert!(lines[0].contains("asked to reset everything"), "{lines:?}");
            assert!(
                lines[1].contains(says) && lines[1].contains("up to 7"),
                "{lines:?}"
            );
        }
        state = records.state.value.clone();
        state.parked = Some(3);
        state.last = Some(crate::record::state::Last {
            verb: Some(Verb::Select(1)),
            id: 3,
            at: 0,
        });
        assert!(waits(&state)[0].contains("returns to what is parked as 3"));
    }
}
