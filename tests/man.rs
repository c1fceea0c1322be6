//! The committed manual page is the one that the arguments make.

#[allow(dead_code)]
#[path = "../examples/man.rs"]
mod man;

#[test]
fn the_committed_page_is_current() {
    let committed = include_str!("../docs/man/backstay.8");
    assert!(
        committed == man::page(),
        "docs/man/backstay.8 is not current: cargo run --example man > docs/man/backstay.8"
    );
}

#[test]
fn every_command_is_on_the_page() {
    let page = man::page();
    for command in [
        "init",
        "snapshot",
        "prune",
        "factory seal",
        "factory pack",
        "recovery install",
        "list",
        "menu",
        "status",
    ]
    .into_iter()
    .chain([
        "rollback",
        "forward",
        "select",
        "reset",
        "cancel",
        "mark\\-good",
    ])
    .chain(["initramfs", "completions", "password", "app check"])
    .chain([
        "state get",
        "state set",
        "state begin",
        "state commit",
        "state abort",
        "state history",
        "fence explain",
        "fence graph",
    ]) {
        assert!(page.contains(&format!(".SS {command}")), "{command}");
    }
}
