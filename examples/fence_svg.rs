//! Draws the graph of the example in docs/fencing.md, which has its declarations, as docs/fence-example.svg:
//! `cargo run --example fence_svg > docs/fence-example.svg`. For graphs of a machine there is `backstay fence graph --dot`.
//!
//! The states stand in a row in the order in which the page has them. A converter is a bow above them where it leads on, and
//! below them where it leads back, the higher the farther.

use backstay::fence::declaration::{Converter, Declaration, parse};
use backstay::fence::words::base_name;

const PAGE: &str = include_str!("../docs/fencing.md");
/// The versions of the page, in its order.
const VERSIONS: [&str; 3] = ["factory", "12", "live"];
/// The state that the data is in, and the version to go to, as in the drawing for Graphviz there.
const PRESENT: &str = "3";
const TARGET: usize = 1;

/// Between the middles of two states, in the unit of all that is drawn.
const COLUMN: i32 = 310;
const WIDTH: i32 = 180;
const HEIGHT: i32 = 54;
/// What a bow rises for each column that it spans.
const RISE: i32 = 70;
/// The middle of the row.
const MIDDLE: i32 = 210;

fn main() {
    print!("{}", drawing());
}

/// The whole file.
pub fn drawing() -> String {
    let versions = declarations();
    let states: Vec<&str> = versions.iter().map(|it| it.state.as_str()).collect();
    let columns = i32::try_from(states.len()).unwrap_or(0);
    let (width, height) = (columns * COLUMN, 2 * MIDDLE - 60);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         font-family=\"sans-serif\" font-size=\"13\" text-anchor=\"middle\">\n\
         <title>The states of ledger's data, and the converters between them</title>\n\
         <!-- Made by: cargo run --example fence_svg > docs/fence-example.svg -->\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         orient=\"auto\"><path d=\"M0 0 8 4 0 8z\"/></marker></defs>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (version, declared) in VERSIONS.iter().zip(&versions) {
        for converter in &declared.converters {
            for from in &converter.from {
                let at = |state: &str| states.iter().position(|it| *it == state);
                if let (Some(from), Some(to)) = (at(from.as_str()), at(converter.to.as_str())) {
                    svg += &bow(from, to, version, converter);
                }
            }
        }
    }
    for (at, state) in states.iter().enumerate() {
        svg += &node(at, state, &versions);
    }
    svg + "</svg>\n"
}

/// Those of the page: the first blocks of TOML on it.
fn declarations() -> Vec<Declaration> {
    let blocks = PAGE.split("```toml\n").skip(1).take(VERSIONS.len());
    let texts = blocks.filter_map(|block| block.split("```").next());
    texts.filter_map(|text| parse(text).ok()).collect()
}

fn x(column: usize) -> i32 {
    i32::try_from(column).unwrap_or(0) * COLUMN + COLUMN / 2
}

fn node(at: usize, state: &str, versions: &[Declaration]) -> String {
    let (left, top) = (x(at) - WIDTH / 2, MIDDLE - HEIGHT / 2);
    let fill = match state == PRESENT {
        true => "lightgrey",
        false => "white",
    };
    let mut svg = format!(
        "<rect x=\"{left}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\" fill=\"{fill}\" stroke=\"black\"/>\n"
    );
    let lives = |it: &Declaration| {
        let others = it.reads.iter().map(|read| read.as_str());
        core::iter::once(it.state.as_str())
            .chain(others)
            .any(|it| it == state)
    };
    if versions.get(TARGET).is_some_and(lives) {
        svg += &format!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"5\" fill=\"none\" stroke=\"black\"/>\n",
            left + 4,
            top + 4,
            WIDTH - 8,
            HEIGHT - 8
        );
    }
    let named = |does: &str, is: &dyn Fn(&Declaration) -> bool| {
        let all = VERSIONS.iter().zip(versions);
        let names: Vec<&str> = all
            .filter(|(_, it)| is(it))
            .map(|(name, _)| *name)
            .collect();
        (!names.is_empty()).then(|| format!("{does} by {}", names.join(", ")))
    };
    let written = named("written", &|it| it.state.as_str() == state);
    let read = named("read", &|it| it.state.as_str() != state && lives(it));
    let present = (state == PRESENT).then(|| "present".to_owned());
    let below: Vec<String> = [written, read, present].into_iter().flatten().collect();
    svg += &text(x(at), MIDDLE - 4, "font-weight=\"bold\"", state);
    svg + &text(x(at), MIDDLE + 14, "font-size=\"11\"", &below.join(", "))
}

/// A converter between two columns.
fn bow(from: usize, to: usize, version: &str, converter: &Converter) -> String {
    let span = i32::try_from(from.abs_diff(to)).unwrap_or(0);
    // Up is less.
    let (side, sense) = match to > from {
        true => (-1, 1),
        false => (1, -1),
    };
    let edge = MIDDLE + side * HEIGHT / 2;
    let (begin, end) = (x(from) + sense * WIDTH / 4, x(to) - sense * WIDTH / 4);
    // The bow's own top lies at three quarters of what its ends are drawn to.
    let pull = edge + side * RISE * span * 4 / 3;
    let dashes = match converter.lossless {
        true => "",
        false => " stroke-dasharray=\"5 4\"",
    };
    let mut svg = format!(
        "<path d=\"M{begin} {edge}C{begin} {pull} {end} {pull} {end} {edge}\" fill=\"none\" stroke=\"black\"{dashes} \
         marker-end=\"url(#tip)\"/>\n"
    );
    let early = if converter.early { ", early" } else { "" };
    let loses = match converter.lossless {
        true => "",
        false => ", LOSES SOMETHING",
    };
    let middle = (begin + end) / 2;
    let top = edge + side * RISE * span;
    let name = format!("{} ({version})", base_name(&converter.command));
    let more = format!("cost {}{early}{loses}", converter.cost);
    let (first, second) = match side < 0 {
        true => (top - 22, top - 7),
        false => (top + 18, top + 33),
    };
    svg += &text(middle, first, "", &name);
    svg += &text(middle, second, "font-size=\"11\"", &more);
    svg
}

fn text(x: i32, y: i32, look: &str, what: &str) -> String {
    let what = what.replace('&', "&amp;").replace('<', "&lt;");
    let space = if look.is_empty() { "" } else { " " };
    format!("<text x=\"{x}\" y=\"{y}\"{space}{look}>{what}</text>\n")
}
