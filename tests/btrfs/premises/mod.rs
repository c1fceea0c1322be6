//! What the store relies on in the kernel, each as something that was tried.

use super::Check;
use super::bench::Machine;

mod durability;
mod full;
mod identity;
mod log_tree;
mod names;
mod nested;
mod slots;
mod written;

/// A premise: a sentence and what shows it.
type Premise = (&'static str, fn(Machine));

pub fn checks() -> Vec<Check> {
    let check = |(name, run): Premise| Check {
        suite: "premises",
        name,
        run: Box::new(move || run(Machine::new(256))),
    };
    [
        identity::ALL,
        names::ALL,
        nested::ALL,
        durability::ALL,
        log_tree::ALL,
        slots::ALL,
        full::ALL,
        written::ALL,
    ]
    .concat()
    .into_iter()
    .map(check)
    .collect()
}
