//! The whole small state space of a decision: every wish, state, journal and fact, and the rules
//! that hold for all of them, stated apart from the code that decides.

use super::intent::Intent;
use super::refusal::{Refusal, Ways};
use super::trial::Spent;
use super::{Decision, Facts, Health, Wish, decide, next};
use crate::fence::names::Version;
use crate::record::Uuid;
use crate::record::journal::{Journal, Preparing};
use crate::record::layout::Part;
use crate::record::slots::{Position, Slots};
use crate::record::state::{Destroy, Live, Phase, Request, State, Verb};
use crate::store::place::Set;

const LIVE: Uuid = Uuid([1; 16]);

fn verbs() -> Vec<Verb> {
    let mut verbs = vec![Verb::Rollback(None), Verb::Rollback(Some(7)), Verb::Forward];
    verbs.push(Verb::Convert);
    verbs.extend([Verb::Select(7), Verb::ResetEverything]);
    for both in [false, true] {
        verbs.push(Verb::ResetConfig { data: both });
        verbs.push(Verb::ResetSystem { keep_config: both });
    }
    verbs
}

fn wishes() -> Vec<Wish> {
    let mut wishes = vec![Wish::Boot, Wish::Menu(None), Wish::Menu(Some(5))];
    for verb in verbs() {
        wishes.extend([true, false].map(|present| Wish::Change {
            verb,
            consent: Default::default(),
            loss: true,
            present,
        }));
    }
    wishes
}

fn states() -> Vec<Slots<State>> {
    let mut states = vec![Slots::Empty, Slots::Newer(9), Slots::Damaged];
    let requests = [
        None,
        Some(Verb::Rollback(None)),
        Some(Verb::ResetEverything),
        Some(Verb::Convert),
    ];
    for request in requests {
        for parked in [None, Some(8)] {
            for (older, newer) in [(&[][..], &[][..]), (&[3, 4][..], &[5][..])] {
                for phase in [None, Some(Phase::Suspended), Some(Phase::Begun)] {
                    let mut state = State::new(Live {
                        system: LIVE,
                        clone_of: None,
                    });
                    state.request = request.map(|verb| Request {
                        ticket: [3; 16],
                        verb,
                        consent: Default::default(),
                        loss: false,
                        created: 0,
                        prepared: Default::default(),
                    });
                    state.parked = parked;
                    state.older = older.iter().copied().collect();
                    state.newer = newer.iter().copied().collect();
                    state.destroy = phase.map(|phase| Destroy {
                        live: LIVE,
                        up_to: 2,
                        phase,
                    });
                    let at = Position { seq: 1, slot: 0 };
                    states.push(Slots::Valid {
                        value: state,
                        at,
                        torn: false,
                    });
                }
            }
        }
    }
    states
}

fn journals() -> Vec<Slots<Journal>> {
    let open = Journal::Preparing(Box::new(Preparing {
        id: 6,
        made: heapless::Vec::new(),
    }));
    let at = Position { seq: 1, slot: 0 };
    let valid = |value| Slots::Valid {
        value,
        at,
        torn: false,
    };
    vec![
        Slots::Empty,
        Slots::Damaged,
        Slots::Newer(9),
        valid(Journal::Closed),
        valid(open),
    ]
}

fn all_facts() -> Vec<Facts> {
    let healths = [
        Health::Sound,
        Health::WithoutConfig,
        Health::Absent,
        Health::NoManifest,
        Health::Parked,
        Health::FormerFactory,
        Health::Missing(Part::System),
        Health::Changed(Part::Config),
    ];
    let mut all = Vec::new();
    for bits in 0..256u32 {
        let bit = |n: u32| bits & (1 << n) != 0;
        for target in healths {
            for live_missing in [None, Some(Part::Config)] {
                all.push(Facts {
                    live_system: bit(0).then_some(LIVE),
                    live_missing,
                    nothing_live: !bit(0) && bit(1),
                    any_snapshot: bit(2),
                    newest_set: bit(2).then_some(if bit(5) { 9 } else { 0 }),
                    hint: bit(6),
                    tarball: bit(7),
                    marker: bit(3),
                    copied_disk: bit(4),
                    has_config: bit(5),
                    has_data: bit(5),
                    target,
                    spent: None,
                    fence: None,
                });
            }
        }
        for spent in [
            Spent::FallBack(4),
            Spent::FallbackFailed,
            Spent::NothingGood,
        ] {
            let like = all.iter().rev().find(|it| it.target == Health::Sound);
            if let Some(facts) = like.cloned() {
                all.push(Facts {
                    spent: Some(spent),
                    ..facts
                });
            }
        }
    }
    all
}

fn state_of(state: &Slots<State>) -> Option<&State> {
    match state {
        Slots::Valid { value, .. } => Some(value),
        _ => None,
    }
}

/// Calls `rule` with every combination and its decision; says how many there were.
fn for_all(rule: impl Fn(Wish, &Slots<State>, &Slots<Journal>, &Facts, &Decision)) -> usize {
    let (wishes, states, journals, facts) = (wishes(), states(), journals(), all_facts());
    let mut count = 0;
    for wish in &wishes {
        for state in &states {
            for journal in &journals {
                for facts in &facts {
                    rule(
                        *wish,
                        state,
                        journal,
                        facts,
                        &decide(*wish, state, journal, facts),
                    );
                    count += 1;
                }
            }
        }
    }
    count
}

#[test]
fn nothing_changes_without_presence_ticket_first_boot_or_return() {
    let count = for_all(|wish, state, _, facts, decision| {
        let Decision::Transact { intent, request } = decision else {
            return;
        };
        match intent {
            Intent::Return { parked } => {
                assert_eq!(
                    state_of(state).and_then(|state| state.parked),
                    Some(*parked)
                );
            }
            // Nobody asked for anything, and no start is left to a trial.
            Intent::FallBack { to } => {
                assert_eq!(facts.spent, Some(Spent::FallBack(*to)));
                assert!(request.is_none() && !matches!(wish, Wish::Menu(_)));
                assert!(!matches!(wish, Wish::Change { present: true, .. }));
            }
            Intent::MakeFactory if *state != Slots::Empty => {
                let present = matches!(wish, Wish::Change { present: true, .. });
                let ticket = state_of(state)
                    .is_some_and(|state| request.is_some() && state.request == *request);
                assert!(present || ticket, "{wish:?} {intent:?}");
            }
            Intent::FirstBoot | Intent::MakeFactory => {
                assert_eq!(*state, Slots::Empty);
                assert!(facts.marker && facts.nothing_live && !facts.any_snapshot);
                assert!(facts.live_system.is_none());
            }
            _ => {
                let present = matches!(wish, Wish::Change { present: true, .. });
                let ticket = state_of(state)
                    .is_some_and(|state| request.is_some() && state.request == *request);
                assert!(present || ticket, "{wish:?} {intent:?}");
            }
        }
    });
    assert!(count > 1_000_000, "{count}");
}

#[test]
fn nothing_changes_on_a_copied_disk_with_an_unknown_record_or_an_open_journal() {
    for_all(|_, state, journal, facts, decision| {
        let open = matches!(
            journal,
            Slots::Newer(_)
                | Slots::Valid {
                    value: Journal::Preparing(_),
                    ..
                }
        );
        let unknown = matches!(state, Slots::Newer(_) | Slots::Damaged);
        if facts.copied_disk || open || unknown {
            assert!(
                !matches!(decision, Decision::Transact { .. }),
                "{decision:?}"
            );
        }
    });
}

#[test]
fn what_the_fence_refuses_is_not_done_and_all_else_is_as_without_it() {
    let why = Refusal::Fenced(Version::Snapshot(7), Ways::default());
    for_all(|wish, state, journal, facts, decision| {
        let fenced = Facts {
            fence: Some(why),
            ..*facts
        };
        let then = decide(wish, state, journal, &fenced);
        match decision {
            // What is in the tarball is not known yet; what a trial leads to was asked about before.
            Decision::Transact { intent, .. }
                if !matches!(intent, Intent::MakeFactory | Intent::FallBack { .. }) =>
            {
                assert!(next(wish, state).is_some_and(|(named, _)| named == *intent));
                match then {
                    Decision::Boot(said) | Decision::Menu { why: said, .. } => {
                        assert_eq!(said, Some(why), "{intent:?}");
                    }
                    Decision::Transact { .. } => panic!("{intent:?} is done"),
                }
            }
            other => assert_eq!(then, *other),
        }
    });
}

#[test]
fn a_request_without_its_hint_or_older_than_the_store_is_not_carried_out() {
    for_all(|wish, state, _, facts, decision| {
        let Some(state) = state_of(state) else { return };
        let behind = facts.newest_set.is_some_and(|id| id >= state.next_id);
        let present = matches!(wish, Wish::Change { present: true, .. });
        let carries_out = matches!(decision, Decision::Transact { intent, .. }
            if !matches!(intent, Intent::Return { .. } | Intent::FallBack { .. }));
        if !present && (!facts.hint || behind) {
            assert!(!carries_out, "{decision:?}");
        }
    });
}

#[test]
fn a_factory_is_made_only_where_it_is_lost_and_the_verb_would_go_on_with_it() {
    let made = std::cell::Cell::new(0);
    for_all(|wish, state, journal, facts, decision| {
        let Decision::Transact { intent, .. } = decision else {
            return;
        };
        if *intent != Intent::MakeFactory {
            return;
        }
        made.set(made.get() + 1);
        assert!(facts.tarball);
        let kept = [
            Health::Sound,
            Health::WithoutConfig,
            Health::Parked,
            Health::FormerFactory,
        ];
        assert!(!kept.contains(&facts.target));
        let then = Facts {
            target: Health::Sound,
            ..*facts
        };
        let next = decide(wish, state, journal, &then);
        let promotes = |intent: &Intent| intent.source() == Some(Set::Factory);
        assert!(
            matches!(&next, Decision::Transact { intent, .. } if promotes(intent)),
            "{next:?}"
        );
    });
    assert!(made.get() > 1000, "{}", made.get());
}

#[test]
fn what_the_fence_refuses_is_not_done_and_that_is_said() {
    let refused = std::cell::Cell::new(0);
    for_all(|wish, state, journal, facts, decision| {
        let Decision::Transact { intent, .. } = decision else {
            return;
        };
        // Of these it is asked where they are chosen, and when it is there.
        if matches!(intent, Intent::FallBack { .. } | Intent::MakeFactory) {
            return;
        }
        let fence = Some(Refusal::NoReturn);
        let facts = Facts { fence, ..*facts };
        let decision = decide(wish, state, journal, &facts);
        match decision {
            Decision::Boot(why) | Decision::Menu { why, .. } => assert_eq!(why, fence),
            Decision::Transact { .. } => panic!("{intent:?}"),
        }
        refused.set(refused.get() + usize::from(matches!(intent, Intent::Select { .. })));
    });
    assert!(refused.get() > 100, "{}", refused.get());
}

#[test]
fn a_wish_that_nobody_confirmed_changes_nothing_about_a_request_that_waits() {
    for_all(|wish, state, journal, facts, decision| {
        let waits = state_of(state).is_some_and(|it| it.request.is_some());
        if !waits || !matches!(wish, Wish::Change { present: false, .. }) {
            return;
        }
        assert_eq!(*decision, decide(Wish::Boot, state, journal, facts));
    });
    // Refused at this start, it does not wait for the next one.
    for state in states() {
        let Some(before) = state_of(&state).filter(|it| it.request.is_some()) else {
            continue;
        };
        for wish in wishes() {
            let mut after = before.clone();
            after.refused(wish);
            let heard = matches!(wish, Wish::Menu(_) | Wish::Change { present: true, .. });
            assert_eq!(after.request.is_some(), heard, "{wish:?}");
        }
    }
}

#[test]
fn a_request_that_brings_a_missing_live_system_back_is_carried_out() {
    let carried = std::cell::Cell::new(0);
    for_all(|wish, state, journal, facts, decision| {
        let Some(state) = state_of(state) else { return };
        let settled = !matches!(
            journal,
            Slots::Newer(_)
                | Slots::Valid {
                    value: Journal::Preparing(_),
                    ..
                }
        );
        let counts = facts.hint && facts.newest_set.is_none_or(|id| id < state.next_id);
        if wish != Wish::Boot
            || facts.live_system.is_some()
            || facts.copied_disk
            || state.parked.is_some()
            || !settled
            || !counts
        {
            return;
        }
        let Some(request) = state.request else {
            assert!(matches!(decision, Decision::Menu { .. }), "{decision:?}");
            return;
        };
        match super::resolve::first_step(request.verb, state, facts) {
            Ok(intent) => {
                assert!(intent.replaces(Part::System) || intent == Intent::MakeFactory);
                let request = Some(request);
                assert_eq!(*decision, Decision::Transact { intent, request });
                carried.set(carried.get() + 1);
            }
            Err(why) => {
                let why = Some(why);
                assert_eq!(*decision, Decision::Menu { seconds: None, why });
            }
        }
    });
    assert!(carried.get() > 100, "{}", carried.get());
}

#[test]
fn only_a_sound_set_is_promoted() {
    for_all(|_, _, _, facts, decision| {
        if let Decision::Transact { intent, .. } = decision {
            match intent.source() {
                // Where the first boot took its configuration from would be nobody's guess.
                Some(_) if *intent == Intent::FirstBoot => {
                    assert_eq!(facts.target, Health::Sound);
                }
                Some(_) if facts.target == Health::WithoutConfig => {
                    assert_ne!(facts.live_missing, Some(Part::Config));
                }
                Some(_) => assert_eq!(facts.target, Health::Sound),
                None if matches!(intent, Intent::Return { .. }) => {
                    assert!(matches!(facts.target, Health::Parked | Health::NoManifest));
                }
                None => {}
            }
        }
    });
}

#[test]
fn a_live_system_boots_whatever_else_is_wrong_and_a_missing_one_never_looks_like_a_first_boot() {
    for_all(
        |wish, state, _, facts, decision| match (facts.live_system, decision) {
            (Some(_), Decision::Menu { why, .. }) => {
                // The last resort of a trial, once.
                let given_up = matches!(why, Some(Refusal::FallbackFailed | Refusal::NothingGood));
                assert!(given_up || matches!(wish, Wish::Menu(_)), "{why:?}");
            }
            (
                None,
                Decision::Transact {
                    intent: Intent::FirstBoot,
                    ..
                },
            ) => {
                assert_eq!(*state, Slots::Empty);
            }
            _ => {}
        },
    );
}

#[test]
fn a_wish_that_is_not_carried_out_is_refused_aloud() {
    for_all(|wish, state, _, facts, decision| {
        let asks = matches!(wish, Wish::Change { .. });
        let waits = state_of(state).is_some_and(|state| state.request.is_some());
        if asks && !waits && facts.live_system.is_some() {
            match decision {
                Decision::Boot(refusal) => assert!(refusal.is_some(), "{wish:?} {state:?}"),
                Decision::Menu { why, .. } => assert!(why.is_some()),
                Decision::Transact { .. } => {}
            }
        }
    });
}

#[test]
fn a_missing_config_or_data_dataset_refuses_what_needs_it() {
    for_all(|_, _, _, facts, decision| {
        if let Decision::Transact { intent, .. } = decision {
            let config = matches!(
                intent,
                Intent::ResetConfig { .. } | Intent::ResetSystem { keep_config: true }
            );
            assert!(!config || facts.has_config);
            assert!(*intent != Intent::ResetConfig { data: true } || facts.has_data);
        }
    });
}

#[test]
fn every_refusal_is_one_line_that_names_a_remedy() {
    let texts = [
        Refusal::NoConsent(Verb::ResetEverything),
        Refusal::OldRequest(Verb::ResetEverything),
        Refusal::NothingOlder,
        Refusal::NothingNewer,
        Refusal::Unsound(Set::Factory, Health::Changed(Part::System)),
        Refusal::Unsound(Set::Factory, Health::WithoutConfig),
        Refusal::NoConfigDataset,
        Refusal::NoDataDataset,
        Refusal::CopiedDisk,
        Refusal::NewerFormat(9),
        Refusal::TransactionStuck,
        Refusal::StateDamaged,
        Refusal::NoState,
        Refusal::NoLiveSystem,
        Refusal::LiveMissing(Part::Config),
        Refusal::ParkedLost(8, Health::Missing(Part::Defaults)),
        Refusal::Destroying,
        Refusal::Fenced(Version::Snapshot(u32::MAX), Ways::default()),
        Refusal::Fenced(
            Version::Snapshot(u32::MAX),
            Ways {
                convert: true,
                restore: true,
            },
        ),
        Refusal::ParkedFenced(8),
        Refusal::NoReturn,
        Refusal::NothingToConvert,
        Refusal::NotConvertible(true),
        Refusal::NotConvertible(false),
        Refusal::Outdated,
        Refusal::Unseen(Version::Snapshot(u32::MAX)),
    ];
    for refusal in texts {
        let text = refusal.to_string();
        assert!(!text.contains('\n') && text.len() < 160, "{text}");
        assert!(text.is_ascii());
    }
}
