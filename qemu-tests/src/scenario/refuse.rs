//! What is refused, and how: one clear line on the console, the live system boots as it was, and the
//! disk is what it was.
//!
//! The stories: refuses-unknown-verb, refuses-without-sentinel, refuses-without-presence-or-ticket,
//! refuses-two-verbs, refuses-torn-state-and-boots, missing-live-root-is-not-first-boot.
//! (factory-tampered-is-refused and reset-asked-again-at-the-next-boot-does-nothing are among the resets.)

use super::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[];
