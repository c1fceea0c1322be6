//! What was upgraded in place and does not read its data before that is converted: not started as it is.
//!
//! ```text
//!  the request to convert, and no start left ─┬─ converted: the same record leaves it its starts (`transaction::plan`)
//!                                             ├─ it reads the data by now: so does that refusal
//!                                             └─ failed, refused, withdrawn, cut: decided again, which falls back
//! ```
//! Each pass uses up the wish or the request, and both are asked for once, so there are three at the most.

use super::Wish;
use super::refusal::Refusal;
use super::trial::{self, Start};
use crate::record::slots::Slots;
use crate::record::state::{Request, State};

impl State {
    /// As [`State::refused`] for this reason, which ends an upgrade where the new version reads the data by now.
    pub fn refused_for(&mut self, wish: Wish, why: Refusal) {
        let ends = self.request.is_some_and(|it| it.ends_upgrade());
        if ends
            && why == Refusal::NothingToConvert
            && let Some(trial) = &mut self.trial
        {
            trial.condemned = false;
        }
        self.refused(wish);
    }
}

/// Whether what is live is not started as it is, but decided about again, by nobody's wish. `wish` was not carried out, or not to
/// the end; `request` waited before that, and `now` is the state after it.
pub fn is_left(wish: Wish, request: Option<Request>, now: &Slots<State>) -> bool {
    let Slots::Valid { value, .. } = now else {
        return false;
    };
    // Another wish was refused, and the request comes next. One that cannot be taken out is not tried twice.
    let goes_on = value.request.is_none() || matches!(wish, Wish::Change { .. });
    goes_on
        && request.is_some_and(|it| it.ends_upgrade())
        && matches!(trial::start(value), Start::Spent(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Uuid;
    use crate::record::request::UPGRADE;
    use crate::record::slots::Position;
    use crate::record::state::{Consent, Live, Prepared, Trial, Verb};

    fn request(of_upgrade: bool, verb: Verb) -> Request {
        let mut ticket = [7; 16];
        if of_upgrade {
            ticket[..UPGRADE.len()].copy_from_slice(&UPGRADE);
        }
        Request {
            ticket,
            verb,
            consent: Consent::Refuse,
            loss: false,
            created: 1,
            prepared: Prepared::NONE,
        }
    }

    fn state(request: Option<Request>, condemned: bool) -> State {
        let system = Uuid([7; 16]);
        let live = Live {
            system,
            clone_of: None,
        };
        State {
            request,
            trial: Some(Trial {
                system,
                tries: 3,
                begun: 0,
                condemned,
                fallback: false,
                clone_of: None,
                data_of: None,
                guarded: true,
            }),
            ..State::new(live)
        }
    }

    fn valid(value: State) -> Slots<State> {
        Slots::Valid {
            value,
            at: Position { seq: 1, slot: 0 },
            torn: false,
        }
    }

    const BACK: Wish = Wish::Change {
        verb: Verb::Rollback(None),
        consent: Consent::Refuse,
        loss: true,
        present: true,
    };

    #[test]
    fn it_is_left_once_its_conversion_was_tried_and_has_not_come_about() {
        let own = request(true, Verb::Convert);
        let left =
            |wish, before, after, condemned| is_left(wish, before, &valid(state(after, condemned)));
        assert!(left(Wish::Boot, Some(own), None, true));
        // It was converted, or reads the data.
        assert!(!left(Wish::Boot, Some(own), None, false));
        // The request could not be taken out: it would come again and again.
        assert!(!left(Wish::Boot, Some(own), Some(own), true));
        // A person's wish was refused, and the request comes next.
        assert!(left(BACK, Some(own), Some(own), true));
        assert!(left(BACK, Some(own), None, true));
        // Nothing waited: the second time.
        assert!(!left(Wish::Boot, None, None, true));
        // A person's conversion, and an upgrade that failed, leave what is live to what it was.
        for other in [
            request(false, Verb::Convert),
            request(true, Verb::Rollback(Some(4))),
        ] {
            assert!(!left(Wish::Boot, Some(other), None, true));
        }
        assert!(!is_left(Wish::Boot, Some(own), &Slots::Damaged));
    }

    #[test]
    fn only_data_that_it_reads_ends_its_upgrade_without_a_conversion() {
        for (of_upgrade, why, condemned) in [
            (true, Refusal::NothingToConvert, false),
            (true, Refusal::Outdated, true),
            (true, Refusal::NotConvertible(true), true),
            (false, Refusal::NothingToConvert, true),
        ] {
            let mut state = state(Some(request(of_upgrade, Verb::Convert)), true);
            state.refused_for(Wish::Boot, why);
            assert_eq!(state.request, None);
            assert_eq!(state.trial.unwrap().condemned, condemned, "{why:?}");
        }
    }

    #[test]
    fn a_request_is_used_up_where_nobody_was_there_to_wish_for_something_else() {
        let nobody = Wish::Change {
            verb: Verb::Forward,
            consent: Consent::Refuse,
            loss: true,
            present: false,
        };
        for (wish, stays) in [(nobody, false), (Wish::Boot, false), (BACK, true)] {
            let mut state = state(Some(request(true, Verb::Convert)), true);
            state.refused(wish);
            assert_eq!(state.request.is_some(), stays, "{wish:?}");
        }
    }
}
