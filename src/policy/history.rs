//! The history: an ordered list with a cursor, the live set.
//!
//! ```text
//! older … 11 12 [live] newer          rollback → 11 [clone of 12] 13
//!                                     rollback → [clone of 11] 14 13
//!                                     forward  → 15 [clone of 14] 13
//!                                     forward  → 15 16 [clone of 13]
//! ```
//! What was live is sealed in its own place in this order, under a new id. A snapshot, an upgrade,
//! a reset and a rollback to an id outside the history append, and cut what is ahead; the
//! snapshots that are cut off remain.

use crate::record::state::{Ids, State, append, prepend};

/// Moves the cursor to `to`; what was live is now `new`. An id outside the history appends.
pub fn go_to(state: &mut State, to: u32, new: u32) {
    if let Some(at) = state.older.iter().position(|id| *id == to) {
        prepend(&mut state.newer, new);
        for id in split_after(&mut state.older, at).iter().rev() {
            prepend(&mut state.newer, *id);
        }
        state.older.pop();
    } else if let Some(at) = state.newer.iter().position(|id| *id == to) {
        append(&mut state.older, new);
        let ahead = split_after(&mut state.newer, at);
        state.newer.pop();
        for id in &state.newer {
            append(&mut state.older, *id);
        }
        state.newer = ahead;
    } else {
        add(state, new);
    }
}

/// Puts a new snapshot behind the live set and cuts what is ahead.
pub fn add(state: &mut State, new: u32) {
    append(&mut state.older, new);
    state.newer.clear();
}

/// Puts a new snapshot right after the live set: the first one that forward goes to.
pub fn stage(state: &mut State, new: u32) {
    prepend(&mut state.newer, new);
}

/// Leaves `ids[..=at]` in place and returns the rest.
fn split_after(ids: &mut Ids, at: usize) -> Ids {
    let rest = ids.iter().skip(at.saturating_add(1)).copied().collect();
    ids.truncate(at.saturating_add(1));
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Uuid;
    use crate::record::state::Live;

    fn state(older: &[u32], newer: &[u32]) -> State {
        let mut state = State::new(Live {
            system: Uuid([0; 16]),
            clone_of: None,
        });
        state.older = older.iter().copied().collect();
        state.newer = newer.iter().copied().collect();
        state
    }

    fn shape(state: &State) -> (Vec<u32>, Vec<u32>) {
        (state.older.to_vec(), state.newer.to_vec())
    }

    #[test]
    fn two_rollbacks_and_two_forwards_walk_the_documented_history() {
        let mut s = state(&[11, 12], &[]);
        go_to(&mut s, 12, 13);
        assert_eq!(shape(&s), (vec![11], vec![13]));
        go_to(&mut s, 11, 14);
        assert_eq!(shape(&s), (vec![], vec![14, 13]));
        go_to(&mut s, 14, 15);
        assert_eq!(shape(&s), (vec![15], vec![13]));
        go_to(&mut s, 13, 16);
        assert_eq!(shape(&s), (vec![15, 16], vec![]));
    }

    #[test]
    fn several_steps_at_once_keep_the_order() {
        let mut s = state(&[8, 9, 10, 11], &[12]);
        go_to(&mut s, 9, 20);
        assert_eq!(shape(&s), (vec![8], vec![10, 11, 20, 12]));
        go_to(&mut s, 20, 21);
        assert_eq!(shape(&s), (vec![8, 21, 10, 11], vec![12]));
    }

    #[test]
    fn an_id_outside_the_history_appends_and_cuts_what_is_ahead() {
        let mut s = state(&[8, 9], &[10]);
        go_to(&mut s, 3, 20);
        assert_eq!(shape(&s), (vec![8, 9, 20], vec![]));
    }

    #[test]
    fn what_is_staged_comes_first_of_what_is_newer_and_forward_goes_to_it() {
        let mut s = state(&[8, 9], &[10]);
        stage(&mut s, 20);
        assert_eq!(shape(&s), (vec![8, 9], vec![20, 10]));
        go_to(&mut s, 20, 21);
        assert_eq!(shape(&s), (vec![8, 9, 21], vec![10]));
    }

    #[test]
    fn a_full_history_drops_its_oldest_entry() {
        let ids: Vec<u32> =
            (1..=u32::try_from(crate::record::state::MAX_HISTORY).unwrap()).collect();
        let mut s = state(&ids, &[]);
        add(&mut s, 900);
        assert_eq!(s.older.first(), Some(&2));
        assert_eq!(s.older.last(), Some(&900));
    }
}
