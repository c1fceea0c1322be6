//! What the search is held against: all simple paths, one by one, and the best of them by the rule as it is written
//! down. It shares nothing with the search but the types.

use super::{dataset, state};
use crate::fence::declaration::{Converter, Declaration};
use crate::fence::graph::Step;
use crate::fence::names::{AppState, Version};
use core::cmp::Reverse;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

pub(super) const STATES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
pub(super) const VERSIONS: [Version; 4] = [
    Version::Factory,
    Version::Snapshot(2),
    Version::Snapshot(10),
    Version::Live,
];

/// One application as its versions declare it.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) versions: Vec<(Version, Declaration)>,
}

fn states(least: usize, most: usize) -> impl Strategy<Value = Vec<AppState>> {
    subsequence(STATES.to_vec(), least..=most).prop_map(|all| all.into_iter().map(state).collect())
}

fn converter() -> impl Strategy<Value = Converter> {
    let cost = prop_oneof![
        8 => 0..4_u32,
        1 => Just(u32::MAX),
    ];
    (
        states(1, 2),
        select(STATES.to_vec()),
        select(vec!["/x/one", "/x/two"]),
        any::<bool>(),
        cost,
        any::<bool>(),
    )
        .prop_map(|(from, to, program, lossless, cost, early)| Converter {
            to: state(to),
            command: vec![program.to_owned()],
            lossless,
            cost,
            early,
            // By the cost, so that two converters differ in it only where they differ in that. The last is more than an hour.
            seconds: 600 + 1200 * (cost % 4),
            from,
        })
}

/// Versions that share some converters and have others alone.
pub(super) fn world() -> impl Strategy<Value = World> {
    let version = (
        vec(any::<Index>(), 0..4),
        vec(converter(), 0..2),
        select(STATES.to_vec()),
        states(0, 2),
        prop::bool::weighted(0.3),
    );
    (vec(converter(), 1..6), vec(version, VERSIONS.len())).prop_map(|(shared, versions)| {
        let all = versions.into_iter().zip(VERSIONS);
        let versions = all.map(|((picked, mut own, native, mut reads, unknown), version)| {
            own.extend(picked.iter().map(|index| index.get(&shared).clone()));
            let native = state(native);
            reads.retain(|it| *it != native);
            let declared = Declaration {
                dataset: dataset("data"),
                state: native,
                reads,
                reads_unknown: unknown,
                services: Vec::new(),
                converters: own,
            };
            (version, declared)
        });
        World {
            versions: versions.collect(),
        }
    })
}

/// Every step that there is.
pub(super) fn steps(world: &World) -> Vec<Step> {
    let mut steps = Vec::new();
    for (version, declared) in &world.versions {
        for converter in &declared.converters {
            for from in &converter.from {
                steps.push(Step {
                    from: from.clone(),
                    to: converter.to.clone(),
                    shipped_by: *version,
                    command: converter.command.clone(),
                    lossless: converter.lossless,
                    cost: converter.cost,
                    early: converter.early,
                    seconds: converter.seconds,
                });
            }
        }
    }
    steps
}

/// Every path without a repeated state from `from` to a state that the target reads.
pub(super) fn paths(steps: &[Step], from: &AppState, target: &Declaration) -> Vec<Vec<Step>> {
    let mut all = Vec::new();
    let mut trail = Vec::new();
    walk(steps, from, target, &mut trail, &mut all);
    all
}

fn walk(
    steps: &[Step],
    at: &AppState,
    target: &Declaration,
    trail: &mut Vec<Step>,
    all: &mut Vec<Vec<Step>>,
) {
    let readable = *at == target.state || target.reads.iter().any(|it| it == at);
    if readable && !trail.is_empty() {
        all.push(trail.clone());
    }
    for step in steps.iter().filter(|it| it.from == *at) {
        let been = step.to == *at || trail.iter().any(|it| it.from == step.to);
        if !been {
            trail.push(step.clone());
            walk(steps, &step.to, target, trail, all);
            trail.pop();
        }
    }
}

pub(super) fn lossy(path: &[Step]) -> usize {
    path.iter().filter(|step| !step.lossless).count()
}

pub(super) fn cost(path: &[Step]) -> u128 {
    path.iter().map(|step| u128::from(step.cost)).sum()
}

/// The best one by the rule.
pub(super) fn best(paths: &[Vec<Step>], target: &Declaration) -> Option<Vec<Step>> {
    let rank = |path: &Vec<Step>| {
        let merely_read = path.last().unwrap().to != target.state;
        let names: Vec<_> = path
            .iter()
            .map(|step| {
                (
                    Reverse(step.shipped_by),
                    step.to.clone(),
                    step.command.clone(),
                    step.lossless,
                    step.cost,
                    step.early,
                )
            })
            .collect();
        (lossy(path), cost(path), path.len(), merely_read, names)
    };
    paths.iter().min_by_key(|path| rank(path)).cloned()
}
