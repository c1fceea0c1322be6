//! The graph of one application: its states, and the converters of all versions on disk; the way through it.
//!
//! A way is better than another when, in this order: it has fewer steps that lose something (so one that loses nothing
//! is taken wherever there is one), it costs less, it has fewer steps, it ends in the state that the target writes
//! rather than in one that it merely reads, the first step in which they differ is shipped by the newer version, that
//! step's state and command come first by name. Two different ways are never equal, so the answer does not depend on
//! the order in which the versions were read.
//!
//! The search is Dijkstra's: each step only makes a way worse, and what is better so far stays better by the same
//! further steps. Costs are `u32` and added up in `u64`, saturating; a way without a repeated state is too short to
//! reach that.

use super::declaration::{Converter, Declaration};
use super::names::{AppName, AppState, Version};
use super::question::Versions;
use crate::record::layout::Name;
use core::cmp::Reverse;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One pair of states of one converter. Ordered as ties are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge<'a> {
    newest: Reverse<Version>,
    /// What it leads to.
    pub to: &'a AppState,
    /// What it is.
    pub converter: &'a Converter,
    /// Where it begins.
    pub from: &'a AppState,
}

impl Edge<'_> {
    /// The version that ships it, and in which it runs.
    pub fn shipped_by(&self) -> Version {
        self.newest.0
    }

    /// What running it means.
    pub fn step(&self) -> Step {
        Step {
            from: self.from.clone(),
            to: self.to.clone(),
            shipped_by: self.shipped_by(),
            command: self.converter.command.clone(),
            lossless: self.converter.lossless,
            cost: self.converter.cost,
            early: self.converter.early,
            seconds: self.converter.seconds,
        }
    }
}

/// A converter that is run. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The state of the data before it.
    pub from: AppState,
    /// And after it.
    pub to: AppState,
    /// The version that ships it, in which it runs.
    pub shipped_by: Version,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether nothing is lost by it.
    pub lossless: bool,
    /// Its cost.
    pub cost: u32,
    /// Whether it may run before boot.
    pub early: bool,
    /// Its time limit.
    pub seconds: u32,
}

/// Steps from the present state to one that the target reads, at least one. Field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Path {
    /// The steps, in their order.
    pub steps: Vec<Step>,
    /// How many of them lose something.
    pub lossy: u32,
    /// What they cost together.
    pub cost: u64,
}

impl Path {
    /// How long it may take, by the time limits of its steps, in seconds.
    pub fn seconds(&self) -> u64 {
        let steps = self.steps.iter();
        steps.fold(0, |sum, step| sum.saturating_add(step.seconds.into()))
    }

    /// The state of the data after the last step.
    pub fn end(&self) -> Option<&AppState> {
        self.steps.last().map(|step| &step.to)
    }
}

/// Which converters may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// All.
    Any,
    /// Those that may run before boot.
    Early,
}

impl Through {
    fn lets(self, converter: &Converter) -> bool {
        match self {
            Through::Any => true,
            Through::Early => converter.early,
        }
    }
}

/// How good a way is; the least is the best.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Weight<'a> {
    lossy: u32,
    cost: u64,
    length: u32,
    trail: Vec<Edge<'a>>,
}

impl<'a> Weight<'a> {
    const NONE: Weight<'a> = Weight {
        lossy: 0,
        cost: 0,
        length: 0,
        trail: Vec::new(),
    };

    fn and(&self, edge: Edge<'a>) -> Weight<'a> {
        let mut trail = self.trail.clone();
        trail.push(edge);
        Weight {
            lossy: self.lossy.saturating_add((!edge.converter.lossless).into()),
            cost: self.cost.saturating_add(edge.converter.cost.into()),
            length: self.length.saturating_add(1),
            trail,
        }
    }
}

/// Each version that keeps the data of an application in that dataset, with what it declares of it.
pub fn declared<'a>(
    versions: &'a Versions,
    app: &AppName,
    dataset: &Name,
) -> impl Iterator<Item = (Version, &'a Declaration)> {
    versions.iter().filter_map(move |(version, offer)| {
        let declared = offer.apps.get(app)?.as_ref().ok()?;
        (declared.dataset == *dataset).then_some((*version, declared))
    })
}

/// The converters of one application whose data lies in one dataset.
#[derive(Clone, Debug, Default)]
pub struct Graph<'a> {
    edges: BTreeSet<Edge<'a>>,
}

impl<'a> Graph<'a> {
    /// All converters of these declarations of the application; one that leads from a state to itself leads nowhere.
    pub fn new(declarations: impl IntoIterator<Item = (Version, &'a Declaration)>) -> Graph<'a> {
        let mut edges = BTreeSet::new();
        for (version, declaration) in declarations {
            for converter in &declaration.converters {
                for from in &converter.from {
                    if *from != converter.to {
                        edges.insert(Edge {
                            newest: Reverse(version),
                            to: &converter.to,
                            converter,
                            from,
                        });
                    }
                }
            }
        }
        Graph { edges }
    }

    /// Those of an application that work on that dataset, of all versions.
    pub fn of(versions: &'a Versions, app: &AppName, dataset: &Name) -> Graph<'a> {
        Graph::new(declared(versions, app, dataset))
    }

    /// Every edge, newest version first.
    pub fn edges(&self) -> impl Iterator<Item = Edge<'a>> + '_ {
        self.edges.iter().copied()
    }

    /// The best way from a state to one that the target lives with. `None` when there is none, and when there is
    /// nothing to do.
    pub fn path(&self, from: &AppState, target: &Declaration, through: Through) -> Option<Path> {
        if target.lives_with(from) {
            return None;
        }
        let best = self.ways(from, through);
        let end = best.iter().filter(|(state, _)| target.lives_with(state));
        let (_, weight) = end.min_by_key(|(state, weight)| {
            let merely_read = **state != &target.state;
            (
                weight.lossy,
                weight.cost,
                weight.length,
                merely_read,
                &weight.trail,
            )
        })?;
        Some(Path {
            steps: weight.trail.iter().map(Edge::step).collect(),
            lossy: weight.lossy,
            cost: weight.cost,
        })
    }

    /// The states that can be reached from one, itself not among them.
    pub fn reach(&self, from: &AppState) -> BTreeSet<&'a AppState> {
        let ways = self.ways(from, Through::Any);
        ways.values()
            .filter_map(|way| way.trail.last().map(|edge| edge.to))
            .collect()
    }

    /// The best way from a state to each that can be reached.
    fn ways<'b>(&self, from: &'b AppState, through: Through) -> BTreeMap<&'b AppState, Weight<'a>>
    where
        'a: 'b,
    {
        // Of the converters between two states only the best one can be part of a best way.
        let mut out: BTreeMap<&AppState, BTreeMap<&AppState, Edge<'a>>> = BTreeMap::new();
        let value = |edge: &Edge<'a>| (!edge.converter.lossless, edge.converter.cost, *edge);
        for edge in self.edges.iter().filter(|it| through.lets(it.converter)) {
            let best = out.entry(edge.from).or_default();
            let best = best.entry(edge.to).or_insert(*edge);
            if value(edge) < value(best) {
                *best = *edge;
            }
        }
        let mut settled: BTreeMap<&'b AppState, Weight<'a>> = BTreeMap::new();
        let mut open: BTreeSet<(Weight<'a>, &'b AppState)> = BTreeSet::new();
        open.insert((Weight::NONE, from));
        while let Some((weight, state)) = open.pop_first() {
            if settled.contains_key(state) {
                continue;
            }
            for edge in out.get(state).into_iter().flat_map(BTreeMap::values) {
                if !settled.contains_key(edge.to) {
                    open.insert((weight.and(*edge), edge.to));
                }
            }
            settled.insert(state, weight);
        }
        settled
    }
}
