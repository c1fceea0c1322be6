//! An upgrade in a clone, which becomes a snapshot of its own.
//!
//! The clone is made under the next number, as everything that is staged. The journal has what is made, so a power cut,
//! or an end by a signal, costs the clone. It is sealed, and gets its manifest, once COMMAND has succeeded and nothing
//! runs in it any more. What is live is not touched.

use super::super::error::Result;
use super::super::request;
use super::{goes_without_loss, preferred, said};
use crate::policy::intent::Intent;
use crate::policy::resolve;
use crate::record::manifest::title;
use crate::record::state::{Consent, State, Verb};
use crate::store::Store;
use crate::store::place::Place;
use crate::transaction::execute::{Fill, execute_with};
use crate::transaction::plan::{Step, plan};
use crate::transaction::records::Records;
use crate::transaction::{Error, catalogue, check, fenced};

/// Where a chroot forbids its services to start (invoke-rc.d(8)), below its root.
pub const POLICY: &str = "usr/sbin/policy-rc.d";
/// What it says.
pub const FORBIDS: &str =
    "#!/bin/sh\n# backstay upgrade --staged: in a clone nothing starts\nexit 101\n";

/// Makes the clone, has it upgraded by `fill`, and seals it. Gives its number. On disk on return; where anything fails nothing
/// of it is left.
pub fn stage<S: Store>(
    store: &mut S,
    records: &mut Records,
    text: Option<&str>,
    now: u64,
    fill: Fill<'_, S>,
    progress: &mut dyn FnMut(&Step),
) -> Result<u32> {
    request::idle(records)?;
    let state = catalogue::with_free_id(store, &records.state.value)?;
    let intent = Intent::Stage {
        title: title(text.unwrap_or("upgraded")),
    };
    let plan = plan(&intent, &state, store.layout(), None, now);
    let mut fill = |store: &mut S, place| {
        fill(store, place)?;
        fit(store, place)
    };
    execute_with(store, records, &plan, now, &mut fill, progress)?;
    store.sync()?;
    Ok(plan.id)
}

/// Refuses what could not prove itself, or would start no service.
fn fit<S: Store>(store: &S, system: Place) -> core::result::Result<(), Error> {
    if !check::marks_itself_good(store, system)? {
        return Err(Error::Unbootable(
            "it would never be marked good, since backstay-mark-good.service is masked or not enabled in it, or there is no \
             layout.toml"
                .to_owned(),
        ));
    }
    if let Some(path) = check::resolve(store, system, POLICY)?
        && store.content(system, &path)?.as_deref() == Some(FORBIDS.as_bytes())
    {
        return Err(Error::Unbootable(format!(
            "its /{POLICY} still forbids services to start"
        )));
    }
    Ok(())
}

/// What is to be agreed to for going forward to what was staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// This, on which nothing is lost.
    Goes(Consent),
    /// More than anybody has agreed to: what the fence says, lines.
    Refused(Vec<String>),
}

/// Asks the fence about the version at the head of what is newer.
pub fn forward<S: Store>(store: &S, state: &State, now: u64) -> Result<Forward> {
    let intent = resolve::intent(Verb::Forward, state)?;
    let mut lines = Vec::new();
    for consent in [Consent::Refuse, Consent::Convert] {
        let plan = preferred(store, &intent, state, consent, now)?;
        if fenced::refusal(&plan).is_none() && goes_without_loss(&plan) {
            return Ok(Forward::Goes(consent));
        }
        if consent == Consent::Refuse {
            lines = said(&plan);
        }
    }
    Ok(Forward::Refused(lines))
}
