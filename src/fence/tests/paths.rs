//! The search on thousands of random graphs, against all simple paths.

use super::oracle::{self, STATES, VERSIONS, World, best, cost, lossy, world};
use super::{declared, state};
use crate::fence::graph::{Graph, Path, Through};
use crate::fence::names::{AppState, Version};
use proptest::prelude::*;
use proptest::sample::select;

fn found(world: &World, target: usize, from: &AppState, through: Through) -> Option<Path> {
    let declared = world.versions.iter().map(|(version, it)| (*version, it));
    Graph::new(declared).path(from, &world.versions[target].1, through)
}

/// A world whose parts come in another order.
fn shuffled() -> impl Strategy<Value = (World, World)> {
    world().prop_flat_map(|world| {
        let versions = Just(world.versions.clone()).prop_shuffle();
        (Just(world), versions, any::<u8>()).prop_map(|(world, mut versions, turn)| {
            for (_, declared) in &mut versions {
                let n = declared.converters.len().max(1);
                declared.converters.rotate_left(usize::from(turn) % n);
                declared.converters.reverse();
                declared
                    .converters
                    .iter_mut()
                    .for_each(|it| it.from.reverse());
                declared.reads.reverse();
            }
            (world, World { versions })
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_path_found_is_the_best_of_all_simple_paths(
        world in world(),
        target in 0..VERSIONS.len(),
        from in select(STATES.to_vec()),
        early in any::<bool>(),
    ) {
        let from = state(from);
        let declared = &world.versions[target].1;
        let mut steps = oracle::steps(&world);
        let through = if early { Through::Early } else { Through::Any };
        steps.retain(|step| !early || step.early);
        let found = found(&world, target, &from, through);
        if declared.lives_with(&from) {
            prop_assert_eq!(found, None);
            return Ok(());
        }
        let all = oracle::paths(&steps, &from, declared);
        prop_assert_eq!(found.is_some(), !all.is_empty());
        let Some(found) = found else { return Ok(()) };
        // It exists, step by step, from here to there.
        let mut at = from;
        for step in &found.steps {
            prop_assert!(steps.contains(step));
            prop_assert_eq!(&step.from, &at);
            at = step.to.clone();
        }
        prop_assert!(declared.lives_with(&at));
        // It loses nothing where there is one that does not, and never more often than it has to.
        let fewest = all.iter().map(|path| lossy(path)).min().unwrap();
        prop_assert_eq!(lossy(&found.steps), fewest);
        prop_assert_eq!(found.lossy as usize, fewest);
        // It is not dearer than another one of these.
        let others = all.iter().filter(|path| lossy(path) == fewest);
        let cheapest = others.map(|path| cost(path)).min().unwrap();
        prop_assert_eq!(cost(&found.steps), cheapest);
        prop_assert_eq!(u128::from(found.cost), cheapest);
        // And of the equal ones it is the one that the rule names.
        prop_assert_eq!(Some(found.steps), best(&all, declared));
    }

    #[test]
    fn the_order_of_the_input_changes_nothing(
        (one, other) in shuffled(),
        target in select(VERSIONS.to_vec()),
        from in select(STATES.to_vec()),
    ) {
        let at = |world: &World| world.versions.iter().position(|(it, _)| *it == target).unwrap();
        prop_assert_eq!(
            found(&one, at(&one), &state(from), Through::Any),
            found(&other, at(&other), &state(from), Through::Any)
        );
    }
}

const HEAD: &str = "dataset = \"data\"\nstate = \"15\"\nreads = [\"14\"]\n";

fn converter(from: &str, to: &str, command: &str, lossless: bool, cost: u32) -> String {
    format!(
        "[[converter]]\nfrom = [\"{from}\"]\nto = \"{to}\"\ncommand = [\"{command}\"]\nlossless = {lossless}\n\
         cost = {cost}\n"
    )
}

/// Where a search from 13 goes, as the commands that are run.
fn way(all: &[(Version, String)]) -> Vec<String> {
    let declared: Vec<_> = all
        .iter()
        .map(|(version, text)| (*version, declared(&format!("{HEAD}{text}"))))
        .collect();
    let graph = Graph::new(declared.iter().map(|(version, it)| (*version, it)));
    let path = graph.path(&state("13"), &declared[0].1, Through::Any);
    let steps = path.map(|path| path.steps).unwrap_or_default();
    steps
        .iter()
        .map(|step| format!("{} of {}", step.command[0], step.shipped_by))
        .collect()
}

#[test]
fn ties_are_broken_as_it_is_written_down() {
    let (old, new) = (Version::Snapshot(9), Version::Snapshot(10));
    let plain = |from, to, command, cost| converter(from, to, command, true, cost);
    // A lossless path at any price before a lossy one.
    let dear = plain("13", "a", "/dear", u32::MAX) + &plain("a", "15", "/dear", u32::MAX);
    let lossy = converter("13", "15", "/lossy", false, 0);
    assert_eq!(
        way(&[(new, dear + &lossy)]),
        ["/dear of snapshot 10", "/dear of snapshot 10"]
    );
    // Fewer steps at one price.
    let two = plain("13", "a", "/two", 0) + &plain("a", "15", "/two", 3);
    let one = plain("13", "14", "/one", 3);
    assert_eq!(
        way(&[(old, one.clone()), (new, two)]),
        ["/one of snapshot 9"]
    );
    // The native state before one that is merely read, although an older version ships it.
    let native = plain("13", "15", "/native", 3);
    assert_eq!(
        way(&[(new, one), (old, native.clone())]),
        ["/native of snapshot 9"]
    );
    // The newest version that ships it: ids are numbers, and what is live is newer than all.
    let ships = |version| (version, native.clone());
    assert_eq!(way(&[ships(old), ships(new)]), ["/native of snapshot 10"]);
    assert_eq!(
        way(&[ships(new), ships(Version::Live), ships(Version::Factory)]),
        ["/native of the live system"]
    );
    // The name at the end.
    let named = plain("13", "15", "/b", 1) + &plain("13", "15", "/a", 1);
    assert_eq!(way(&[(new, named)]), ["/a of snapshot 10"]);
    // A converter that leads nowhere, and a circle.
    let circle = plain("13", "13", "/self", 0)
        + &plain("13", "a", "/a", 0)
        + &plain("a", "13", "/b", 0)
        + &plain("a", "15", "/c", 9);
    assert_eq!(
        way(&[(new, circle)]),
        ["/a of snapshot 10", "/c of snapshot 10"]
    );
    assert_eq!(way(&[(new, plain("15", "13", "/down", 0))]), [""; 0]);
}

#[test]
fn costs_saturate_and_a_long_chain_is_found() {
    let all: Vec<String> = (0..60)
        .map(|at| {
            let from = if at == 0 {
                "13".to_owned()
            } else {
                format!("s{at}")
            };
            let to = if at == 59 {
                "15".to_owned()
            } else {
                format!("s{}", at + 1)
            };
            converter(&from, &to, "/step", true, u32::MAX)
        })
        .collect();
    assert_eq!(way(&[(Version::Live, all.concat())]).len(), 60);
}

#[test]
fn many_versions_that_ship_the_same_are_searched_at_once() {
    // 100 snapshots with 64 converters of 32 pairs each between some hundred states.
    let text: String = (0..64)
        .map(|at| {
            let from: Vec<String> = (0..32)
                .map(|i| format!("\"s{}\"", (at * 7 + i * 3) % 128))
                .collect();
            format!(
                "[[converter]]\nfrom = [{}]\nto = \"s{}\"\ncommand = [\"/c\"]\nlossless = {}\n",
                from.join(", "),
                (at * 5 + 1) % 128,
                at % 3 != 0,
            )
        })
        .collect();
    let declared = declared(&format!("dataset = \"data\"\nstate = \"s1\"\n{text}"));
    let graph = Graph::new((0..100).map(|id| (Version::Snapshot(id), &declared)));
    let path = graph.path(&state("s6"), &declared, Through::Any).unwrap();
    assert!(
        path.steps
            .iter()
            .all(|step| step.shipped_by == Version::Snapshot(99))
    );
}
