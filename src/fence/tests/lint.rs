use crate::fence::lint::{Around, Finding, Level, Program, file};
use crate::transaction::model::layout;

const HEAD: &str = "dataset = \"data\"\nstate = \"15\"\n";

fn converter(from: &str, to: &str, more: &str) -> String {
    let lossless = match more.contains("lossless") {
        true => "",
        false => "lossless = true\n",
    };
    format!(
        "[[converter]]\nfrom = [{from}]\nto = \"{to}\"\ncommand = [\"/usr/c\"]\n{lossless}{more}\n"
    )
}

fn look(text: &str, around: &Around<'_>) -> Vec<Finding> {
    file("app.toml", text.as_bytes(), around)
}

#[test]
fn each_fault_of_a_declaration_is_found_and_nothing_else() {
    use Level::{Error, Note};
    let up = converter("\"13\"", "15", "");
    for (text, expected) in [
        (HEAD.to_owned(), None),
        (format!("{HEAD}{up}"), None),
        // Two steps up, and one down to what is read.
        (
            format!(
                "{HEAD}reads = [\"x\"]\n{}{up}{}",
                converter("\"12\"", "13", ""),
                converter("\"15\"", "x", "")
            ),
            None,
        ),
        (
            format!("{HEAD}{}", converter("\"12\"", "13", "")),
            Some((Error, "cannot be reached from 12")),
        ),
        (
            format!("{HEAD}{}", converter("\"15\", \"13\"", "15", "")),
            Some((Error, "converts 15 to itself")),
        ),
        (
            format!("{HEAD}{}", converter("\"13\"", "15", "lossless = false")),
            Some((Note, "loses something, and no other")),
        ),
        (
            format!(
                "{HEAD}{up}{}",
                converter("\"13\"", "15", "lossless = false")
            ),
            None,
        ),
        // A way down of two steps is meant; that there is none up is said of both.
        (
            format!("{HEAD}reads = [\"13\"]\n{}", converter("\"15\"", "13", "")),
            None,
        ),
        (
            format!("{HEAD}{}", converter("\"15\"", "13", "")),
            Some((Note, "leads down to 13 and none back")),
        ),
        (
            format!("{HEAD}reads = [\"13\"]\n{up}"),
            Some((Note, "'reads' has 13")),
        ),
        (
            format!(
                "{HEAD}services = [\"a.service\"]\n{}",
                converter("\"13\"", "15", "early = true")
            ),
            Some((Note, "is early and 'services'")),
        ),
        (
            format!("{HEAD}x = 1"),
            Some((Error, "line 3: unknown field")),
        ),
        (
            format!("{HEAD}{}", up.replace("/usr/c", "c")),
            Some((Error, "line 6: a command begins with the absolute path")),
        ),
    ] {
        let found = look(&text, &Around::default());
        let levels: Vec<_> = found.iter().map(|it| it.level).collect();
        match expected {
            None => assert_eq!(found, [], "{text}"),
            Some((level, says)) => {
                assert_eq!(levels, [level], "{text}: {found:?}");
                assert!(found[0].what.contains(says), "{found:?}");
                let line = found[0].to_string();
                assert!(line.starts_with("app.toml: ") && !line.contains('\n'));
            }
        }
    }
}

#[test]
fn a_dataset_is_looked_for_where_the_layout_is_known() {
    let mut layout = layout();
    let text = HEAD.replace("\"data\"", "\"db\"");
    assert_eq!(look(&text, &Around::default()), []);
    let around = Around {
        layout: Some(&layout),
        program: None,
    };
    assert_eq!(look(HEAD, &around), []);
    let found = look(&text, &around);
    assert_eq!(found[0].level, Level::Error);
    assert!(found[0].what.contains("only data, config"), "{found:?}");
    layout.config = None;
    layout.data.clear();
    let around = Around {
        layout: Some(&layout),
        program: None,
    };
    assert!(look(HEAD, &around)[0].what.contains("no dataset for data"));
}

#[test]
fn a_program_has_to_be_there_and_to_be_one() {
    let text = format!("{HEAD}{}", converter("\"13\"", "15", ""));
    for (lies, says) in [
        (Program::Fine, None),
        (Program::Missing, Some("is not there")),
        (Program::NotExecutable, Some("chmod 755")),
    ] {
        let program = |path: &str| {
            assert_eq!(path, "/usr/c");
            lies
        };
        let around = Around {
            layout: None,
            program: Some(&program),
        };
        let found = look(&text, &around);
        assert_eq!(found.len(), usize::from(says.is_some()));
        assert!(
            says.is_none_or(|says| found[0].what.contains(says)),
            "{found:?}"
        );
    }
}

#[test]
fn a_file_with_another_name_is_an_error() {
    let found = file("App.toml", HEAD.as_bytes(), &Around::default());
    assert_eq!(found[0].level, Level::Error);
    assert_eq!(found[0].line, None);
}
