//! What is said about scenarios: the list, a line for each that was played, the closing counts.

use crate::scenario::runner::Outcome;
use crate::scenario::{GROUPS, Machine};

/// The list of all scenarios, for `cargo vm --list`.
#[must_use]
pub fn list() -> String {
    let mut text = String::new();
    for group in GROUPS {
        text.push_str(&format!("{}:\n", group.name));
        for scenario in group.scenarios {
            let mark = match scenario.machine {
                Machine::Debian => "D",
                Machine::Tiny | Machine::None => " ",
            };
            let core = if scenario.core { "*" } else { " " };
            text.push_str(&format!(
                "  {mark}{core} {:<44} {}\n",
                scenario.name, scenario.about
            ));
        }
    }
    text.push_str(
        "D: on the real Debian; the others on a small disk or none. *: in every cargo check-all.\n",
    );
    text
}

/// A line, or for a failure some, about one that was played.
#[must_use]
pub fn outcome(outcome: &Outcome) -> String {
    let seconds = outcome.took.as_secs_f32();
    let name = outcome.scenario.name;
    match &outcome.failure {
        None => format!("  ok      {name} ({seconds:.1} s)"),
        Some(why) => format!("  FAILED  {name} ({seconds:.1} s)\n{why}"),
    }
}

/// The closing line.
#[must_use]
pub fn counts(passed: usize, failed: usize) -> String {
    format!("{passed} passed, {failed} failed")
}
