//! What the running system asked the agent to do at the next boot, and what goes with it.

use super::Identity;
use super::layout::{MAX_DATA, Part};
use super::state::Verb;
use serde::{Deserialize, Serialize};

/// What is agreed to beforehand, about data that the version to go to cannot read: `backstay.fence=`. Each is only what
/// it says: `convert` does not go back, and `restore` does not convert.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Consent {
    /// Nothing but what needs no conversion.
    #[default]
    Refuse,
    /// Conversions, with what they lose where none loses nothing. In a request a loss counts only where it was shown: see
    /// [`Request::loss`].
    Convert,
    /// To go back to kept data, and to lose what came since.
    Restore,
}

impl Consent {
    /// All of them, least first.
    pub const ALL: [Consent; 3] = [Consent::Refuse, Consent::Convert, Consent::Restore];

    /// As in `backstay.fence=`.
    pub fn word(self) -> &'static str {
        match self {
            Consent::Refuse => "refuse",
            Consent::Convert => "convert",
            Consent::Restore => "restore",
        }
    }
}

/// A random number that ties a request to the one time it is carried out.
pub type Ticket = [u8; 16];

/// What the running system asked the agent to do at the next boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Taken out of the state, durably, before anything is done.
    pub ticket: Ticket,
    /// What is asked.
    pub verb: Verb,
    /// What is agreed to.
    pub consent: Consent,
    /// The plan that was shown loses something by a conversion. Without it none that does is carried out.
    pub loss: bool,
    /// Seconds since 1970; shown only.
    pub created: u64,
    /// What was converted for it already.
    pub prepared: Prepared,
}

/// How the ticket of a request begins that an upgrade in place has written. The rest of it is random.
pub const UPGRADE: [u8; 8] = *b"upgrade ";

impl Request {
    /// Whether an upgrade in place has written it.
    pub fn is_of_upgrade(&self) -> bool {
        self.ticket.starts_with(&UPGRADE)
    }

    /// Whether an upgrade in place ends with it: the new version does not read its data before.
    pub fn ends_upgrade(&self) -> bool {
        self.verb == Verb::Convert && self.is_of_upgrade()
    }
}

/// Clones of live data that were converted in the running system for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// A sum over what was run and where, which is the answer of the fence that they were made for.
    pub answer: u32,
    /// By the index of the data dataset, what identifies each since it was made read-only.
    clones: [Option<Identity>; MAX_DATA],
}

impl Prepared {
    /// Nothing was converted.
    pub const NONE: Prepared = Prepared {
        answer: 0,
        clones: [None; MAX_DATA],
    };

    /// None yet, for this answer.
    pub fn new(answer: u32) -> Prepared {
        Prepared {
            answer,
            ..Prepared::NONE
        }
    }

    /// Adds one; of parts that are no data there is none.
    pub fn insert(&mut self, part: Part, identity: Identity) {
        if let Part::Data(index) = part
            && let Some(clone) = self.clones.get_mut(usize::from(index))
        {
            *clone = Some(identity);
        }
    }

    /// What identifies the one of a part.
    pub fn get(&self, part: Part) -> Option<Identity> {
        match part {
            Part::Data(index) => self.clones.get(usize::from(index)).copied().flatten(),
            _ => None,
        }
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.clones.iter().all(Option::is_none)
    }

    /// Of which parts there is one.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let all = self.clones.iter().zip(0..);
        all.filter(|(clone, _)| clone.is_some())
            .map(|(_, index)| Part::Data(index))
    }
}

/// A request on disk. Without a consent it is what it was before there was one, byte for byte; with one it is a third
/// variant, with something prepared a fourth, and with a loss that was shown a fifth, which an older backstay does not know: it
/// changes nothing then.
pub(super) mod stored {
    use super::{Consent, Prepared, Request, Ticket, Verb};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    enum Stored {
        /// As `Option::None`.
        None,
        /// As `Option::Some`.
        Plain(Plain),
        Agreed(Plain, Consent),
        Prepared(Plain, Consent, Box<Prepared>),
        /// With or without something prepared.
        Loss(Plain, Consent, Box<Prepared>),
    }

    #[derive(Serialize, Deserialize)]
    struct Plain {
        ticket: Ticket,
        verb: Verb,
        created: u64,
    }

    pub fn serialize<S: Serializer>(
        request: &Option<Request>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let plain = |it: &Request| Plain {
            ticket: it.ticket,
            verb: it.verb,
            created: it.created,
        };
        match request {
            None => Stored::None,
            Some(it) if it.loss => Stored::Loss(plain(it), it.consent, Box::new(it.prepared)),
            Some(it) if !it.prepared.is_none() => {
                Stored::Prepared(plain(it), it.consent, Box::new(it.prepared))
            }
            Some(it) if it.consent == Consent::Refuse => Stored::Plain(plain(it)),
            Some(it) => Stored::Agreed(plain(it), it.consent),
        }
        .serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Request>, D::Error> {
        let none = Prepared::NONE;
        let (plain, consent, prepared, loss) = match Stored::deserialize(deserializer)? {
            Stored::None => return Ok(None),
            Stored::Plain(plain) => (plain, Consent::Refuse, none, false),
            Stored::Agreed(plain, consent) => (plain, consent, none, false),
            Stored::Prepared(plain, consent, prepared) => (plain, consent, *prepared, false),
            Stored::Loss(plain, consent, prepared) => (plain, consent, *prepared, true),
        };
        Ok(Some(Request {
            ticket: plain.ticket,
            verb: plain.verb,
            consent,
            loss,
            created: plain.created,
            prepared,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Uuid;

    #[test]
    fn a_request_without_consent_is_on_disk_what_it_was_before_there_was_one() {
        #[derive(Serialize, serde::Deserialize)]
        struct Before {
            ticket: Ticket,
            verb: Verb,
            created: u64,
        }
        #[derive(Serialize, serde::Deserialize)]
        struct Now(#[serde(with = "stored")] Option<Request>);
        let (ticket, verb, created) = ([3; 16], Verb::Rollback(Some(300)), 1_790_000_000);
        let before = |some: bool| {
            let before = Before {
                ticket,
                verb,
                created,
            };
            postcard::to_allocvec(&some.then_some(before)).unwrap()
        };
        let now = |consent| Request {
            ticket,
            verb,
            consent,
            loss: false,
            created,
            prepared: Prepared::NONE,
        };
        for (bytes, request) in [
            (before(false), None),
            (before(true), Some(now(Consent::Refuse))),
        ] {
            let read: Now = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(read.0, request);
            assert_eq!(postcard::to_allocvec(&read).unwrap(), bytes);
        }
        for consent in [Consent::Convert, Consent::Restore] {
            let bytes = postcard::to_allocvec(&Now(Some(now(consent)))).unwrap();
            let read: Now = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(read.0, Some(now(consent)));
            // An older backstay does not take it for a request without consent.
            assert!(postcard::from_bytes::<Option<Before>>(&bytes).is_err());
        }
        let mut prepared = Prepared::new(7);
        for index in [0, 7] {
            let identity = Identity {
                uuid: Uuid([index; 16]),
                ctransid: u64::MAX,
            };
            prepared.insert(Part::Data(index), identity);
        }
        prepared.insert(Part::System, prepared.get(Part::Data(0)).unwrap());
        let parts: std::vec::Vec<Part> = prepared.parts().collect();
        assert_eq!(parts, [Part::Data(0), Part::Data(7)]);
        for consent in Consent::ALL {
            let with = Request {
                prepared,
                ..now(consent)
            };
            let bytes = postcard::to_allocvec(&Now(Some(with))).unwrap();
            let read: Now = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(read.0, Some(with));
            assert!(postcard::from_bytes::<Option<Before>>(&bytes).is_err());
        }
    }

    #[test]
    fn a_loss_that_was_shown_is_a_form_of_its_own_and_no_other_form_has_one() {
        #[derive(Serialize, serde::Deserialize)]
        struct Plain(Ticket, Verb, u64);
        /// Before there was the form with a loss.
        #[derive(Serialize, serde::Deserialize)]
        enum Before {
            None,
            Plain(Plain),
            Agreed(Plain, Consent),
            Prepared(Plain, Consent, Box<Prepared>),
        }
        #[derive(Debug, Serialize, serde::Deserialize)]
        struct Now(#[serde(with = "stored")] Option<Request>);
        let (ticket, verb, created) = ([3; 16], Verb::Rollback(Some(300)), 1_790_000_000);
        let plain = || Plain(ticket, verb, created);
        let consent = Consent::Convert;
        let mut some = Prepared::new(7);
        let uuid = Uuid([9; 16]);
        some.insert(Part::Data(1), Identity { uuid, ctransid: 77 });
        let now = |consent, loss, prepared| Request {
            ticket,
            verb,
            consent,
            loss,
            created,
            prepared,
        };
        let none = Prepared::NONE;
        for (before, request) in [
            (Before::None, None),
            (
                Before::Plain(plain()),
                Some(now(Consent::Refuse, false, none)),
            ),
            (
                Before::Agreed(plain(), consent),
                Some(now(consent, false, none)),
            ),
            (
                Before::Prepared(plain(), consent, Box::new(some)),
                Some(now(consent, false, some)),
            ),
        ] {
            let bytes = postcard::to_allocvec(&before).unwrap();
            let read: Now = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(read.0, request);
            assert_eq!(postcard::to_allocvec(&read).unwrap(), bytes);
        }
        for prepared in [none, some] {
            let request = Some(now(consent, true, prepared));
            let bytes = postcard::to_allocvec(&Now(request)).unwrap();
            let read: Now = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(read.0, request);
            assert!(postcard::from_bytes::<Before>(&bytes).is_err());
        }
    }
}
