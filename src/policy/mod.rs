//! Decisions, without I/O and without a clock: the same input always gives the same answer.
//!
//! [`target`] names the set that a wish needs, so that the caller can look at that one set;
//! [`decide`] then says what this boot does.

pub mod history;
pub mod intent;
pub mod left;
pub mod refusal;
pub mod resolve;
pub mod retention;
#[cfg(test)]
mod space;
pub mod terms;
pub mod trial;

use crate::record::Uuid;
use crate::record::journal::Journal;
use crate::record::layout::Part;
use crate::record::slots::Slots;
use crate::record::state::{Consent, Request, State, Verb};
use crate::store::place::Set;
use intent::Intent;
use refusal::Refusal;
use terms::Terms;
use trial::Spent;

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To boot.
    Boot,
    /// The recovery menu; its time-out in seconds, if one was given.
    Menu(Option<u32>),
    /// To change the live set, by somebody who was there (ESC, or the word typed) or not.
    Change {
        /// What.
        verb: Verb,
        /// What is agreed to, about the data.
        consent: Consent,
        /// Whether conversions may lose something: not where that goes back to a request to which no loss was shown.
        loss: bool,
        /// Whether the person is known to be there.
        present: bool,
    },
}

/// Whether a sealed set is what it was when it was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Every member has the recorded identity and is read-only.
    Sound,
    /// The same, and it was sealed when the machine had no config dataset: it has neither a
    /// configuration nor its defaults.
    WithoutConfig,
    /// There is no such set.
    Absent,
    /// It has no readable manifest: a power cut or a stranger left it.
    NoManifest,
    /// It is parked, not sealed.
    Parked,
    /// It was the factory snapshot before the present one.
    FormerFactory,
    /// A member is missing.
    Missing(Part),
    /// A member was written to, replaced or made writable since it was sealed.
    Changed(Part),
}

/// What was found in the store, as far as a decision needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// UUID of the live system dataset; `None` when it is missing.
    pub live_system: Option<Uuid>,
    /// Another live dataset of the layout that is missing.
    pub live_missing: Option<Part>,
    /// Whether no live dataset exists at all.
    pub nothing_live: bool,
    /// Whether any numbered snapshot exists.
    pub any_snapshot: bool,
    /// The greatest number of a set that has a readable manifest.
    pub newest_set: Option<u32>,
    /// Whether the hint for GRUB is there, which is written before a request and goes after it.
    pub hint: bool,
    /// Whether the image builder's marker is there.
    pub marker: bool,
    /// Two disks carry the same file system and device.
    pub copied_disk: bool,
    /// The machine has a config dataset.
    pub has_config: bool,
    /// The machine has data datasets.
    pub has_data: bool,
    /// There is a default tarball, of which nothing more is known.
    pub tarball: bool,
    /// Health of the set that [`target`] named.
    pub target: Health,
    /// What is done about the live system's trial, if no start is left to it.
    pub spent: Option<Spent>,
    /// Why the fence refuses what [`next`] named.
    pub fence: Option<Refusal>,
}

/// What this boot does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a start makes a few of them, one after the other"
)]
pub enum Decision {
    /// Boots what is live; a refusal is said aloud first.
    Boot(Option<Refusal>),
    /// Carries this out, then decides again. [`Intent::MakeFactory`] is the first half of what was asked:
    /// whoever asked for it is still there when it is done.
    Transact {
        /// What.
        intent: Intent,
        /// A waiting request that this replaces or carries out.
        request: Option<Request>,
    },
    /// Opens the recovery prompt.
    Menu {
        /// Seconds until it boots on; `None` for the default.
        seconds: Option<u32>,
        /// Why, when nobody asked for it.
        why: Option<Refusal>,
    },
}

impl State {
    /// What this boot asked for is refused: the request is used up; a person at GRUB who was to go
    /// back is one who tried.
    pub fn refused(&mut self, wish: Wish) {
        match wish {
            // What nobody confirmed was not looked at: it was the request.
            Wish::Boot | Wish::Change { present: false, .. } => self.use_up_request(),
            Wish::Change {
                verb,
                present: true,
                ..
            } => self.attempted(verb),
            Wish::Menu(_) => {}
        }
    }

    /// The menu opened, for this reason and for that wish, and will not open again for it by itself.
    pub fn came_to_the_menu(&mut self, wish: Wish, why: Refusal) {
        self.refused(wish);
        if matches!(why, Refusal::FallbackFailed | Refusal::NothingGood) {
            trial::give_up(self);
        }
    }
}

/// The set that must be looked at before [`decide`] can answer.
pub fn target(wish: Wish, state: &Slots<State>) -> Option<Set> {
    match next(wish, state)? {
        (Intent::Return { parked }, _) => Some(Set::Snapshot(parked)),
        (intent, _) => intent.source(),
    }
}

/// What [`decide`] decides about, if all that it needs is there, and on which terms. What a trial leads to is not
/// among it: that is asked about where the snapshot is chosen.
pub fn next(wish: Wish, state: &Slots<State>) -> Option<(Intent, Terms)> {
    match state {
        Slots::Empty => Some((Intent::FirstBoot, Terms::default())),
        Slots::Newer(_) | Slots::Damaged => None,
        Slots::Valid { value, .. } => {
            if let Some(parked) = value.parked {
                return Some((Intent::Return { parked }, Terms::default()));
            }
            let (verb, terms) = match (wish, value.request) {
                (
                    Wish::Change {
                        verb,
                        consent,
                        loss,
                        present: true,
                    },
                    _,
                ) => {
                    let terms = Terms::from(consent);
                    (verb, Terms { loss, ..terms })
                }
                // What was prepared is the request's alone.
                (_, request) => request.map(|it| (it.verb, Terms::from(it)))?,
            };
            Some((resolve::intent(verb, value).ok()?, terms))
        }
    }
}

/// Decides. `journal` must have been recovered before; an open one means that recovery stopped.
pub fn decide(
    wish: Wish,
    state: &Slots<State>,
    journal: &Slots<Journal>,
    facts: &Facts,
) -> Decision {
    let changes = matches!(wish, Wish::Change { .. });
    let refused = |why| refuse(wish, facts, why);
    if facts.copied_disk {
        return refused(Refusal::CopiedDisk);
    }
    match (journal, state) {
        (Slots::Newer(version), _) | (_, Slots::Newer(version)) => {
            refused(Refusal::NewerFormat(*version))
        }
        (
            Slots::Valid {
                value: Journal::Preparing(_) | Journal::Committing(_),
                ..
            },
            _,
        ) => refused(Refusal::TransactionStuck),
        (_, Slots::Empty) => without_state(wish, changes, facts),
        (_, Slots::Damaged) => refused(Refusal::StateDamaged),
        (_, Slots::Valid { value, .. }) => with_state(wish, value, facts),
    }
}

/// Nothing can be changed: boots on, says why; who asked for the menu, or has nothing to boot, gets
/// the menu.
fn refuse(wish: Wish, facts: &Facts, why: Refusal) -> Decision {
    match (wish, facts.live_system) {
        (Wish::Menu(seconds), _) => Decision::Menu {
            seconds,
            why: Some(why),
        },
        (_, None) => Decision::Menu {
            seconds: None,
            why: Some(why),
        },
        (_, Some(_)) => Decision::Boot(Some(why)),
    }
}

/// Nothing was ever recorded: a first boot, an unprepared machine, or a fault.
fn without_state(wish: Wish, changes: bool, facts: &Facts) -> Decision {
    if let (Wish::Menu(seconds), Some(_)) = (wish, facts.live_system) {
        return Decision::Menu {
            seconds,
            why: Some(Refusal::NoState),
        };
    }
    if facts.live_system.is_some() {
        return Decision::Boot(changes.then_some(Refusal::NoState));
    }
    let first = facts.marker && facts.nothing_live && !facts.any_snapshot;
    if !first {
        return Decision::Menu {
            seconds: None,
            why: Some(Refusal::NoLiveSystem),
        };
    }
    match resolve::sound(Set::Factory, facts.target) {
        Ok(()) if facts.fence.is_some() => Decision::Menu {
            seconds: None,
            why: facts.fence,
        },
        Ok(()) => Decision::Transact {
            intent: Intent::FirstBoot,
            request: None,
        },
        Err(_) if resolve::can_make_factory(facts) => Decision::Transact {
            intent: Intent::MakeFactory,
            request: None,
        },
        Err(refusal) => Decision::Menu {
            seconds: None,
            why: Some(refusal),
        },
    }
}

/// Nobody asked for anything.
fn unasked(facts: &Facts) -> Decision {
    let given_up = |why| Decision::Menu {
        seconds: None,
        why: Some(why),
    };
    match facts.spent {
        None => Decision::Boot(facts.live_missing.map(Refusal::LiveMissing)),
        Some(Spent::FallBack(to)) => Decision::Transact {
            intent: Intent::FallBack { to },
            request: None,
        },
        Some(Spent::FallbackFailed) => given_up(Refusal::FallbackFailed),
        Some(Spent::NothingGood) => given_up(Refusal::NothingGood),
    }
}

/// Whether the store has a set of which the state does not know: the state is an older copy.
pub fn is_behind(state: &State, facts: &Facts) -> bool {
    facts.newest_set.is_some_and(|id| id >= state.next_id)
}

fn with_state(wish: Wish, state: &State, facts: &Facts) -> Decision {
    if let Some(parked) = state.parked {
        return match facts.target {
            // What is parked is not sealed: its datasets count, not its manifest.
            Health::Parked | Health::NoManifest => match facts.fence {
                Some(why) => Decision::Boot(Some(why)),
                None => Decision::Transact {
                    intent: Intent::Return { parked },
                    request: None,
                },
            },
            lost => Decision::Boot(Some(Refusal::ParkedLost(parked, lost))),
        };
    }
    let (verb, request) = match (wish, state.request) {
        (
            Wish::Change {
                verb,
                present: true,
                ..
            },
            request,
        ) => (verb, request),
        (Wish::Menu(seconds), _) => {
            let why = facts.live_system.is_none().then_some(Refusal::NoLiveSystem);
            return Decision::Menu { seconds, why };
        }
        // A request may be what brings a live system back.
        (_, None) if facts.live_system.is_none() => {
            return refuse(wish, facts, Refusal::NoLiveSystem);
        }
        (
            Wish::Change {
                verb,
                present: false,
                ..
            },
            None,
        ) => {
            return Decision::Boot(Some(Refusal::NoConsent(verb)));
        }
        (_, Some(request)) if !facts.hint || is_behind(state, facts) => {
            return refuse(wish, facts, Refusal::OldRequest(request.verb));
        }
        (_, Some(request)) => (request.verb, Some(request)),
        (Wish::Boot, None) => return unasked(facts),
    };
    match (resolve::first_step(verb, state, facts), facts.fence) {
        // What the factory version declares is known when it is made.
        (Ok(intent), Some(why)) if intent != Intent::MakeFactory => refuse(wish, facts, why),
        (Ok(intent), _) => Decision::Transact { intent, request },
        (Err(refusal), _) => refuse(wish, facts, refusal),
    }
}
