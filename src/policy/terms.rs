//! What goes with a change beside its verb.

use crate::record::state::{Consent, Prepared, Request};

/// Where the converters are run that a change needs, which decides what counts as a converter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one of them is made for a change, and it is copied like what else goes with that"
)]
pub enum Conversions {
    /// Before boot, by the agent: only early ones.
    #[default]
    BeforeBoot,
    /// In the running system, on clones of the live data: all of them. They were not run yet.
    Running,
    /// The same, and they were run: these are the clones.
    Done(Prepared),
}

/// What is agreed to about the data, and what was done to it already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// What is agreed to.
    pub consent: Consent,
    /// Whether conversions may lose something: whoever agrees is shown what, or says so unseen.
    pub loss: bool,
    /// Where conversions are done.
    pub conversions: Conversions,
}

/// Whoever agrees sees the plan, or says it at GRUB.
impl From<Consent> for Terms {
    fn from(consent: Consent) -> Terms {
        Terms {
            consent,
            loss: true,
            ..Terms::default()
        }
    }
}

/// What was agreed to, of the plan that was shown then.
impl From<Request> for Terms {
    fn from(request: Request) -> Terms {
        let conversions = match request.prepared.is_none() {
            true => Conversions::BeforeBoot,
            false => Conversions::Done(request.prepared),
        };
        Terms {
            consent: request.consent,
            loss: request.loss,
            conversions,
        }
    }
}
