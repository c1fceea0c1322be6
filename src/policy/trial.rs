//! A system on trial: counted before each start, marked good by itself, or left for another one.
//!
//! ```text
//!  promoted, or 'try'                     a start that is counted
//! ────────────────────▶ ON TRIAL ◀──────────────────────────────┐
//!                        │  │  └────────────────────────────────┘
//!            marked good │  │ no start is left, or marked bad
//!                        ▼  ▼
//!                CONFIRMED  SPENT ──▶ it was a fallback, or nothing good is left ──▶ GIVEN UP
//!                             │                                        (menu, then it starts)
//!                             └─▶ else: FALLEN BACK to the newest good snapshot, on trial
//! ```
//! docs/trials.md says what follows from it for a person. Nothing here looks at a clock.

use crate::record::state::{State, Trial};

/// Starts that a system gets: one may be lost to a power cut, and one to a person's impatience.
pub const TRIES: u8 = 3;

/// What a start of the live system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Not on trial: it is started, and nothing is counted.
    Plain,
    /// To be counted, durably, before it is started: the `n`th of `of`.
    Counted {
        /// From 1.
        n: u8,
        /// All that it gets.
        of: u8,
    },
    /// None is left.
    Spent(Trial),
}

/// What is done about a trial that is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// The machine falls back to this snapshot.
    FallBack(u32),
    /// What it fell back to did not start either.
    FallbackFailed,
    /// There is no good snapshot.
    NothingGood,
}

/// What a start of the live system is, by the state alone.
pub fn start(state: &State) -> Start {
    match state.live_trial() {
        None => Start::Plain,
        Some(trial) if trial.is_spent() => Start::Spent(trial),
        Some(trial) => Start::Counted {
            n: trial.begun + 1,
            of: trial.tries,
        },
    }
}

/// Counts a start; the state with it must be on disk before the system is started.
pub fn count(state: &mut State) {
    if let Some(trial) = &mut state.trial {
        trial.begun = trial.begun.saturating_add(1).min(trial.tries);
    }
}

/// What is done now that no start is left. `good` are the sound snapshots that were marked good when
/// they were sealed, in any order.
pub fn spent(state: &State, trial: Trial, good: &[u32]) -> Spent {
    if trial.fallback {
        return Spent::FallbackFailed;
    }
    // Numbers only grow: the greatest is the newest, whatever a clock says. A clone of the one that just
    // failed would be the same again.
    let targets = || {
        good.iter()
            .filter(|id| !state.failed.contains(id) && trial.clone_of != Some(**id))
    };
    // Where the data is that the trial began without, too.
    let with_data = targets().find(|id| trial.data_of == Some(**id));
    let target = with_data.or(targets().max());
    target.map_or(Spent::NothingGood, |id| Spent::FallBack(*id))
}

/// It was marked good: the trial is over.
pub fn confirm(state: &mut State) {
    state.trial = None;
}

/// It was marked bad, or cannot be started at all: no start is left to it.
pub fn condemn(state: &mut State) {
    if let Some(trial) = &mut state.trial {
        trial.condemned = true;
    }
}

/// A start that was counted does not come to pass in this kernel: whoever starts it then counts it.
pub fn uncount(state: &mut State) {
    if let Some(trial) = &mut state.trial {
        trial.begun = trial.begun.saturating_sub(1);
    }
}

/// Nothing is left to be done by itself: it is started from now on without being counted, and what it is
/// a clone of is no target any more.
pub fn give_up(state: &mut State) {
    if let Some(id) = state.live_trial().and_then(|trial| trial.clone_of) {
        state.remember_failed(id);
    }
    state.trial = None;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Uuid;
    use crate::record::state::Live;

    fn on_trial(begun: u8, fallback: bool) -> State {
        let system = Uuid([7; 16]);
        let live = Live {
            system,
            clone_of: Some(1),
        };
        State {
            trial: Some(Trial {
                system,
                tries: TRIES,
                begun,
                condemned: false,
                fallback,
                clone_of: Some(4),
                data_of: None,
                guarded: false,
            }),
            ..State::new(live)
        }
    }

    fn trial(state: &State) -> Trial {
        state.trial.unwrap()
    }

    #[test]
    fn on_trial_counts_until_it_is_spent() {
        let mut state = on_trial(0, false);
        for n in 1..=TRIES {
            assert_eq!(start(&state), Start::Counted { n, of: TRIES });
            count(&mut state);
        }
        assert_eq!(start(&state), Start::Spent(trial(&state)));
        // However often it is started then.
        count(&mut state);
        assert_eq!(trial(&state).begun, TRIES);
    }

    #[test]
    fn on_trial_becomes_confirmed() {
        let mut state = on_trial(TRIES, false);
        confirm(&mut state);
        assert_eq!(start(&state), Start::Plain);
        // A confirmed system is never counted, however often the power goes.
        count(&mut state);
        assert_eq!(start(&state), Start::Plain);
    }

    #[test]
    fn on_trial_is_spent_at_once_when_it_is_marked_bad() {
        let mut state = on_trial(1, false);
        condemn(&mut state);
        assert_eq!(start(&state), Start::Spent(trial(&state)));
        assert_eq!(trial(&state).begun, 1);
    }

    #[test]
    fn spent_falls_back_to_the_newest_good_snapshot_that_did_not_fail() {
        let mut state = on_trial(TRIES, false);
        let to = |state: &State, good: &[u32]| spent(state, trial(state), good);
        assert_eq!(to(&state, &[2, 9, 3]), Spent::FallBack(9));
        state.remember_failed(9);
        assert_eq!(to(&state, &[2, 9, 3]), Spent::FallBack(3));
        // What failed is a clone of 4.
        assert_eq!(to(&state, &[4]), Spent::NothingGood);
        assert_eq!(to(&state, &[]), Spent::NothingGood);
    }

    #[test]
    fn spent_after_a_reset_of_the_data_falls_back_to_where_the_data_is() {
        let mut state = on_trial(TRIES, false);
        state.trial = Some(Trial {
            data_of: Some(3),
            ..trial(&state)
        });
        let to = |good: &[u32]| spent(&state, trial(&state), good);
        assert_eq!(to(&[2, 9, 3]), Spent::FallBack(3));
        // It was not good itself: the data stays in it.
        assert_eq!(to(&[2, 9]), Spent::FallBack(9));
    }

    #[test]
    fn spent_is_given_up_where_it_was_a_fallback_and_starts_uncounted_then() {
        let mut state = on_trial(TRIES, true);
        assert_eq!(spent(&state, trial(&state), &[9]), Spent::FallbackFailed);
        give_up(&mut state);
        assert_eq!(start(&state), Start::Plain);
        assert_eq!(state.failed, [4]);
    }

    #[test]
    fn a_trial_of_something_else_is_inert() {
        let mut state = on_trial(TRIES, false);
        state.live.system = Uuid([8; 16]);
        assert_eq!(start(&state), Start::Plain);
        give_up(&mut state);
        assert!(state.failed.is_empty());
    }

    #[test]
    fn failures_are_remembered_once_and_the_oldest_is_forgotten() {
        let mut state = on_trial(0, false);
        for id in (1..=20).chain([20]) {
            state.remember_failed(id);
        }
        assert_eq!(state.failed.len(), 16);
        assert_eq!((state.failed[0], state.failed[15]), (5, 20));
    }
}
