use crate::fence::declaration::{
    CONVERTERS_MAX, DeclarationError, STATES_MAX, TEXT_MAX, parse, read,
};
use crate::fence::tests::{app, state};
use crate::record::layout::Part;

const GOOD: &str = r#"dataset = "data"
state = "15"
reads = ["14"]
reads-unknown = false
services = ["postgresql.service"]

[[converter]]
from = ["13", "14"]
to = "15"
command = ["/usr/lib/foo/convert", "--in-place"]
lossless = true
cost = 10
early = false
seconds = 60
"#;

#[test]
fn the_documented_declaration_is_read() {
    let (name, it) = read("postgresql.toml", GOOD.as_bytes()).unwrap();
    assert_eq!(name, app("postgresql"));
    assert_eq!(it.dataset, "data");
    assert!(it.lives_with(&state("15")) && it.lives_with(&state("14")));
    assert!(!it.lives_with(&state("13")) && !it.reads_unknown);
    assert_eq!(it.services, ["postgresql.service"]);
    let converter = &it.converters[0];
    assert_eq!(converter.from, [state("13"), state("14")]);
    assert_eq!(converter.command.len(), 2);
    assert_eq!((converter.cost, converter.seconds), (10, 60));
}

#[test]
fn what_is_left_out_is_the_careful_thing() {
    let it = parse("dataset = \"config\"\nstate = \"1\"").unwrap();
    assert!(it.reads.is_empty() && !it.reads_unknown && it.converters.is_empty());
    let start = GOOD.find("cost").unwrap();
    let it = parse(&GOOD[..start]).unwrap();
    let converter = &it.converters[0];
    assert_eq!((converter.cost, converter.seconds), (1, 600));
    assert!(!converter.early);
}

#[test]
fn a_dataset_is_one_of_data_or_the_config_dataset() {
    let mut layout = crate::transaction::model::layout();
    let part = |name: &str, layout: &_| {
        let text = format!("dataset = \"{name}\"\nstate = \"1\"");
        parse(&text).unwrap().part(layout)
    };
    assert_eq!(part("data", &layout), Some(Part::Data(0)));
    assert_eq!(part("config", &layout), Some(Part::Config));
    assert_eq!(part("system", &layout), None);
    assert_eq!(part("other", &layout), None);
    layout.config = None;
    assert_eq!(part("config", &layout), None);
}

#[test]
fn every_wrong_declaration_is_refused_with_its_line_and_the_remedy() {
    for (from, to, line, says) in [
        ("\"data\"", "\"../x\"", 1, "layout.toml"),
        ("\"data\"", "\"\"", 1, "layout.toml"),
        ("dataset = \"data\"\n", "", 1, "missing field"),
        ("\"data\"", "7", 1, "string"),
        ("\"15\"\nreads", "\"1 5\"\nreads", 2, "letters"),
        ("\"15\"\nreads", "\"\"\nreads", 2, "letters"),
        ("[\"14\"]", "[\"15\"]", 3, "native"),
        ("[\"14\"]", "[\"14\", \"14\"]", 3, "twice"),
        ("[\"14\"]", "\"14\"", 3, "sequence"),
        (
            "reads-unknown = false",
            "reads-unknown = \"no\"",
            4,
            "boolean",
        ),
        ("reads-unknown", "reads_unknown", 4, "unknown field"),
        ("\"postgresql.service\"", "\"--now\"", 5, "unit"),
        ("\"postgresql.service\"", "\"postgresql\"", 5, "unit"),
        ("\"postgresql.service\"", "\"a b.service\"", 5, "unit"),
        ("[[converter]]", "[[convertor]]", 7, "unknown field"),
        ("[\"13\", \"14\"]", "[]", 8, "empty"),
        ("[\"13\", \"14\"]", "[\"13\", \"13\"]", 8, "twice"),
        ("[\"13\", \"14\"]", "[\"13\", \"1/4\"]", 8, "letters"),
        ("to = \"15\"", "to = \"1:5\"", 9, "letters"),
        ("\"/usr/lib/foo/convert\"", "\"convert\"", 10, "absolute"),
        (
            "\"/usr/lib/foo/convert\"",
            "\"/usr/../convert\"",
            10,
            "absolute",
        ),
        ("\"/usr/lib/foo/convert\"", "\"/\"", 10, "absolute"),
        ("\"--in-place\"", "\"a\\nb\"", 10, "printable"),
        (
            "[\"/usr/lib/foo/convert\", \"--in-place\"]",
            "[]",
            10,
            "empty",
        ),
        ("lossless = true\n", "", 7, "missing field"),
        ("cost = 10", "cost = -1", 12, "whole number"),
        ("cost = 10", "cost = 4294967296", 12, "whole number"),
        ("cost = 10", "cost = 1.5", 12, "floating point"),
        ("seconds = 60", "seconds = 0", 14, "whole number"),
        ("seconds = 60", "seconds = 86401", 14, "whole number"),
        ("seconds = 60", "seconds = 60\nshell = true", 15, "unknown"),
        ("seconds = 60", "seconds = 60\n]", 15, ""),
        ("state = \"15\"", "state = \"15\"\nstate = \"16\"", 3, ""),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let error = parse(&GOOD.replacen(from, to, 1)).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.line(), Some(line), "{to}: {text}");
        assert!(text.starts_with(&format!("line {line}: ")), "{text}");
        assert!(text.contains(says), "{to}: {text}");
        assert!(!text.contains('\n') && text.len() < 300, "{text}");
    }
}

#[test]
fn nothing_in_a_declaration_is_without_bounds() {
    let list = |n: usize| {
        let all: Vec<String> = (0..n).map(|i| format!("\"s{i}\"")).collect();
        all.join(", ")
    };
    let head = "dataset = \"data\"\nstate = \"15\"\n";
    let reads = |n| format!("{head}reads = [{}]", list(n));
    assert!(parse(&reads(STATES_MAX)).is_ok());
    assert!(parse(&reads(STATES_MAX + 1)).is_err());
    let one = "[[converter]]\nfrom = [\"1\"]\nto = \"2\"\ncommand = [\"/c\"]\nlossless = true\n";
    let converters = |n: usize| format!("{head}{}", one.repeat(n));
    assert!(parse(&converters(CONVERTERS_MAX)).is_ok());
    assert!(parse(&converters(CONVERTERS_MAX + 1)).is_err());
    let command = |n| GOOD.replacen("\"--in-place\"", &list(n), 1);
    assert!(parse(&command(31)).is_ok());
    assert!(parse(&command(32)).is_err());
    let part = |n: usize| GOOD.replacen("--in-place", &"x".repeat(n), 1);
    assert!(parse(&part(256)).is_ok());
    assert!(parse(&part(257)).is_err());
    let services = |n: usize| {
        let all: Vec<String> = (0..n).map(|i| format!("\"s{i}.service\"")).collect();
        format!("{head}services = [{}]", all.join(", "))
    };
    assert!(parse(&services(16)).is_ok());
    assert!(parse(&services(17)).is_err());
    let long = |n: usize| format!("{GOOD}#{}", "x".repeat(n - GOOD.len() - 1));
    assert!(read("a.toml", long(TEXT_MAX - 1).as_bytes()).is_ok());
    assert_eq!(
        read("a.toml", long(TEXT_MAX).as_bytes()),
        Err(DeclarationError::TooLong)
    );
    // What nests without end is not followed.
    let deep = format!("{head}reads = {}", "[".repeat(60_000));
    assert!(parse(&deep).is_err());
}

#[test]
fn a_file_is_known_by_its_name_and_is_text() {
    for name in ["Foo.toml", ".toml", "foo.toml~", "foo"] {
        assert_eq!(
            read(name, GOOD.as_bytes()),
            Err(DeclarationError::FileName),
            "{name}"
        );
    }
    let mut bytes = GOOD.as_bytes().to_vec();
    let at = GOOD.find("postgres").unwrap();
    bytes[at] = 0xff;
    assert_eq!(read("foo.toml", &bytes), Err(DeclarationError::NotText(5)));
    // What a terminal would obey does not get out.
    let error = parse("\"\u{1b}[31m\\u001b[0m\" = 1")
        .unwrap_err()
        .to_string();
    assert!(!error.contains(char::is_control), "{error:?}");
}
