//! What is refused, and how: one clear line on the console, the live system boots as it was, and the
//! disk is what it was.
//!
//! The stories: refuses-unknown-verb, refuses-without-sentinel, refuses-without-presence-or-ticket,
//! refuses-two-verbs, factory-tampered-is-refused, refuses-torn-state-and-boots,
//! reset-asked-again-at-the-next-boot-does-nothing, missing-live-root-is-not-first-boot.

use super::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[];
