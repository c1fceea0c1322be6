//! The committed drawing of the fence's example is the one that its declarations make.

#[allow(dead_code)]
#[path = "../examples/fence_svg.rs"]
mod fence_svg;

#[test]
fn the_committed_drawing_is_current() {
    let committed = include_str!("../docs/fence-example.svg");
    assert!(
        committed == fence_svg::drawing(),
        "docs/fence-example.svg is not current: cargo run --example fence_svg > docs/fence-example.svg"
    );
}

#[test]
fn every_converter_of_the_page_is_drawn_and_each_state_once() {
    let drawn = fence_svg::drawing();
    let count = |what: &str| drawn.matches(what).count();
    assert_eq!(count("marker-end"), 5);
    assert_eq!(count("stroke-dasharray"), 1);
    assert_eq!(count("font-weight=\"bold\""), 3);
    assert_eq!((count("lightgrey"), count("rx=\"5\"")), (1, 1));
    for says in [
        "downgrade (12)",
        "cost 5, early",
        "read by live",
        "LOSES SOMETHING",
    ] {
        assert!(drawn.contains(says), "{says}");
    }
}
