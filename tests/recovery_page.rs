//! What recovery.md quotes is what the programs say.

#![allow(clippy::unwrap_used)]

use std::path::Path;

/// The texts of a source tree: without comments, continued lines joined, `…` for what is filled in.
fn texts(directory: &Path, into: &mut String) {
    let mut entries: Vec<_> = std::fs::read_dir(directory).unwrap().flatten().collect();
    entries.sort_by_key(|entry| entry.path());
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            texts(&path, into);
        } else if path.extension().is_some_and(|it| it == "rs") {
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let line = line.trim_start();
                if line.starts_with("//") {
                    continue;
                }
                match line.strip_suffix('\\') {
                    Some(line) => into.push_str(line),
                    None => {
                        into.push_str(line);
                        into.push('\n');
                    }
                }
            }
        }
    }
}

fn filled_in(source: &str) -> String {
    let source = source.replace("\\\"", "\"");
    let name = |c: char| c.is_ascii_alphanumeric() || "_.:?#".contains(c);
    let mut parts = source.split('{');
    let mut all = parts.next().unwrap().to_owned();
    for part in parts {
        match part.split_once('}') {
            Some((inside, rest)) if inside.chars().all(name) => all.push_str(&format!("…{rest}")),
            _ => all.push_str(&format!("{{{part}")),
        }
    }
    all
}

/// The pieces of a quoted line between what is filled in.
fn pieces(quoted: &str) -> Vec<String> {
    let mut open = String::new();
    for word in quoted.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let plain = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let number = !plain.is_empty() && plain.chars().all(|c| c.is_ascii_digit());
        match number || ["N", "R", "V", "UUID"].contains(&plain) {
            true => open.push_str(&format!("…{}", word.replacen(plain, "", 1))),
            false => open.push_str(word),
        }
    }
    let trim = |piece: &str| piece.trim_matches([' ', ':', ',']).to_owned();
    let pieces = open.split('…').map(trim);
    pieces.filter(|piece| piece.len() > 3).collect()
}

#[test]
fn every_line_of_the_agent_that_the_page_explains_is_in_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut source = String::new();
    for directory in ["src", "kernel-cmdline/src"] {
        texts(&root.join(directory), &mut source);
    }
    let source = filled_in(&source);
    let page = std::fs::read_to_string(root.join("docs/recovery.md")).unwrap();
    let section = page
        .split("\n## ")
        .find(|it| it.starts_with("4. "))
        .unwrap();
    let (mut seen, mut unknown) = (0, Vec::new());
    for row in section.lines().filter(|row| row.starts_with("| `")) {
        let cell = row.split(" | ").next().unwrap();
        // In parentheses: what may be filled in.
        let cell = cell.split("` (").next().unwrap();
        for quoted in cell.split('`').skip(1).step_by(2) {
            for piece in pieces(quoted) {
                seen += 1;
                if !source.contains(&piece) {
                    unknown.push(format!("{piece:?} of {quoted:?}"));
                }
            }
        }
    }
    assert!(seen > 70, "{seen}");
    assert!(unknown.is_empty(), "not in the source: {unknown:#?}");
}
