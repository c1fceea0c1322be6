//! The graph of one application as a text for Graphviz (`dot -Tsvg`).
//!
//! In a quoted string of that language a `"` has a backslash before it, and in a label a backslash has one, too
//! (graphviz.org/doc/info/lang.html, attrtypes: escString). States have neither; commands may.

use super::declaration::Declaration;
use super::graph::{Edge, Graph};
use super::names::{AppName, AppState, Version};
use super::words::{base_name, short};
use core::fmt::Write as _;
use std::collections::{BTreeMap, BTreeSet};

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// The application.
    pub app: &'a AppName,
    /// Its graph.
    pub graph: &'a Graph<'a>,
    /// The state that its data has.
    pub present: Option<&'a AppState>,
    /// A version to go to.
    pub target: Option<(Version, &'a Declaration)>,
}

/// One pair of states of one converter, by the newest version that ships it, and by how many more.
struct Drawn<'a> {
    edge: Edge<'a>,
    more: usize,
}

/// Draws it.
pub fn dot(picture: &Picture<'_>) -> String {
    let mut text = format!(
        "digraph {} {{\n  rankdir=LR;\n",
        quoted(picture.app.as_str())
    );
    for state in states(picture) {
        let mut label = escaped(state.as_str());
        let mut look = "";
        if picture.present == Some(state) {
            label.push_str("\\npresent");
            look = ", style=filled, fillcolor=lightgrey";
        }
        let mut rings = "";
        if let Some((version, declared)) = picture.target.filter(|(_, it)| it.lives_with(state)) {
            let does = match declared.state == *state {
                true => "written",
                false => "read",
            };
            label.push_str(&format!("\\n{does} by {}", escaped(&short(version))));
            rings = ", peripheries=2";
        }
        // Writing to a string does not fail.
        let id = quoted(state.as_str());
        let _ = writeln!(text, "  {id} [label=\"{label}\"{look}{rings}];");
    }
    for Drawn { edge, more } in drawn(picture.graph) {
        let by = match more {
            0 => short(edge.shipped_by()),
            _ => format!("{} and {more} older", short(edge.shipped_by())),
        };
        let converter = edge.converter;
        let label = format!(
            "{}\\ncost {}\\n{}",
            escaped(base_name(&converter.command)),
            converter.cost,
            escaped(&by)
        );
        let look = match converter.lossless {
            true => "",
            false => ", style=dashed",
        };
        let (from, to) = (quoted(edge.from.as_str()), quoted(edge.to.as_str()));
        let _ = writeln!(text, "  {from} -> {to} [label=\"{label}\"{look}];");
    }
    text.push_str("}\n");
    text
}

fn states<'a>(picture: &Picture<'a>) -> BTreeSet<&'a AppState> {
    let edges = picture.graph.edges().flat_map(|edge| [edge.from, edge.to]);
    let target = picture.target.into_iter();
    let target = target.flat_map(|(_, it)| [&it.state].into_iter().chain(&it.reads));
    edges.chain(picture.present).chain(target).collect()
}

fn drawn<'a>(graph: &Graph<'a>) -> Vec<Drawn<'a>> {
    let mut all: BTreeMap<_, Drawn<'a>> = BTreeMap::new();
    // Newest first.
    for edge in graph.edges() {
        let it = edge.converter;
        let key = (edge.from, edge.to, &it.command, it.cost, it.lossless);
        all.entry(key)
            .and_modify(|drawn| drawn.more += 1)
            .or_insert(Drawn { edge, more: 0 });
    }
    all.into_values().collect()
}

/// A string of the language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// The inside of a quoted label.
fn escaped(text: &str) -> String {
    let mut result = String::new();
    for letter in text.chars() {
        if matches!(letter, '"' | '\\') {
            result.push('\\');
        }
        result.push(letter);
    }
    result
}
