//! What a fresh dataset says of the state that it is in: that of the version which will write it, whatever its template
//! says. Without that the next change would find data of which nobody knows the state.

use super::Error;
use super::finish::with_ballast;
use super::plan::Plan;
use crate::fence::ask::holds_data;
use crate::fence::labels::{CONVERTING, STATE};
use crate::record::layout::Part;
use crate::store::Store;
use crate::store::place::Place;

/// Whether what is cloned from there to here is fresh: of a template, or a version's own defaults.
pub(super) fn is_fresh(from: Place, to: Place) -> bool {
    let defaults = from.part() == Part::Defaults && to.part() == Part::Config;
    matches!(from, Place::Template(_)) || defaults
}

/// Labels the clone at a staged place for each application that the plan's version declares there. What becomes live
/// with it has the labels; a clone that is dropped takes them along.
pub(super) fn label<S: Store>(store: &mut S, plan: &Plan, at: Place) -> Result<(), Error> {
    let layout = store.layout().clone();
    let name = holds_data(&layout).find(|(_, part)| *part == at.part());
    let Some((name, _)) = name else {
        return Ok(());
    };
    for one in plan.fence.iter().flat_map(|verdict| &verdict.apps) {
        let (true, Some(state)) = (one.fresh && one.dataset.as_ref() == Some(&name), &one.after)
        else {
            continue;
        };
        let value = Some(state.as_str().as_bytes());
        for (kind, value) in [(STATE, value), (CONVERTING, None)] {
            let label = format!("{kind}.{}", one.app);
            with_ballast(store, |store| store.set_label(at, &label, value))?;
        }
    }
    Ok(())
}
