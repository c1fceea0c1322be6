//! `backstay app guard`: asks the fence before a package manager replaces programs under data that they cannot read.
//!
//! apt hands over what it is about to install, an archive's path a line (apt.conf(5), `DPkg::Pre-Install-Pkgs`, version 1
//! of its protocol), before dpkg has touched anything, and goes no further where this fails. What is judged is the
//! archive's own declaration against the labels of the live data: a package that converts forward by its own
//! converters passes, as its scripts do that. Nothing is written. Whoever calls dpkg himself is not stopped.

use super::error::{Error, Result};
use super::machine::{Lock, Machine};
use super::run::Ended;
use crate::fence::ask;
use crate::fence::declaration::{self, Declaration, TEXT_MAX};
use crate::fence::infer::infer;
use crate::fence::names::{AppName, AppState, Version};
use crate::fence::question::{By, Consent, Datasets, Fate, Label, Offer, Question, Versions};
use crate::fence::verdict::{Answer, AppVerdict, Cause};
use crate::fence::words;
use crate::image::limits::Limits;
use crate::image::tar::{Kind, Reader};
use crate::store::{Store, shown};
use crate::transaction::check::APPS;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a package would put into [`APPS`].
struct Shipped {
    /// The archive's file name.
    archive: String,
    /// The declaration's file name.
    file: String,
    /// The application and what it says, or why that cannot be read.
    declared: core::result::Result<(AppName, Declaration), String>,
}

/// Reads the paths from standard input, and fails where one of them must not be installed.
pub(super) fn guard(root: Option<&Path>) -> Result<Ended> {
    let mut shipped = Vec::new();
    for archive in paths(std::io::stdin().lock())? {
        shipped.extend(declarations(&archive)?);
    }
    if shipped.is_empty() {
        return Ok(Ended::Done);
    }
    let machine = Machine::open(root, Lock::None);
    let store = match machine.and_then(|machine| machine.store()) {
        // Nothing goes back here, and no data has a label. A staged upgrade is judged as a whole when it is done.
        Err(Error::NotSetUp | Error::NotBtrfs(_) | Error::RootOnTopLevel | Error::InClone) => {
            return Ok(Ended::Done);
        }
        other => other?,
    };
    match refused(&store, &shipped)?.as_slice() {
        [] => Ok(Ended::Done),
        lines => Err(Error::Packages(lines.join("\n"))),
    }
}

/// The paths, one a line; of a Debian archive only.
fn paths(input: impl BufRead) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in input.split(b'\n') {
        use std::os::unix::ffi::OsStringExt;
        let line = line.map_err(Error::file("reading", "standard input"))?;
        let path = PathBuf::from(std::ffi::OsString::from_vec(line));
        if path.extension().is_some_and(|it| it == "deb") {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// The declarations in an archive.
fn declarations(archive: &Path) -> Result<Vec<Shipped>> {
    // Unpacking a large archive takes seconds; the list of its files, which nearly every one has, takes none.
    if let Some(sums) = control_file(archive, "md5sums")?
        && !sums.lines().any(|line| line.contains(APPS))
    {
        return Ok(Vec::new());
    }
    let mut child = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::file("running", "dpkg-deb"))?;
    let found = match child.stdout.take() {
        Some(tar) => inside(&file_name(archive), BufReader::new(tar)),
        None => Ok(Vec::new()),
    };
    let status = child.wait().map_err(Error::file("running", "dpkg-deb"))?;
    match found {
        Ok(found) if status.success() => Ok(found),
        found => Err(Error::Tool {
            program: format!("dpkg-deb --fsys-tarfile {}", archive.display()),
            status: status.to_string(),
            last: found
                .err()
                .map_or("see above".to_owned(), |it| it.to_string()),
        }),
    }
}

/// A file of an archive's control part, if it has that.
fn control_file(archive: &Path, name: &str) -> Result<Option<String>> {
    let output = Command::new("dpkg-deb")
        .arg("--info")
        .arg(archive)
        .arg(name)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::file("running", "dpkg-deb"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(output.status.success().then_some(text))
}

fn inside(
    archive: &str,
    tar: impl BufRead,
) -> core::result::Result<Vec<Shipped>, crate::image::error::Error> {
    let mut reader = Reader::new(tar, &Limits::default());
    let mut found = Vec::new();
    while let Some(entry) = reader.next()? {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let path = path.strip_prefix("./").unwrap_or(&path);
        let file = path
            .strip_prefix(APPS)
            .and_then(|rest| rest.strip_prefix('/'))
            .filter(|file| file.ends_with(".toml") && !file.contains('/'));
        let Some(file) = file.map(|file| shown(file.as_bytes())) else {
            continue;
        };
        let declared = match entry.kind {
            Kind::File => {
                let mut bytes = Vec::new();
                loop {
                    let chunk = reader.chunk()?;
                    // The reader of declarations says what is too long.
                    if chunk.is_empty() || bytes.len() >= TEXT_MAX {
                        break;
                    }
                    bytes.extend_from_slice(chunk);
                    let taken = chunk.len();
                    reader.consume(taken);
                }
                declaration::read(&file, &bytes).map_err(|error| error.to_string())
            }
            // Where a link leads is known once it is unpacked.
            _ => Err("it is no regular file: ship the declaration itself".to_owned()),
        };
        found.push(Shipped {
            archive: archive.to_owned(),
            file,
            declared,
        });
    }
    Ok(found)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// A line for each that must not be installed.
fn refused<S: Store>(store: &S, shipped: &[Shipped]) -> Result<Vec<String>> {
    let mut datasets = Datasets::new();
    for (name, part) in ask::holds_data(store.layout()) {
        let labels = ask::live(store, part)?;
        datasets.insert(name, Fate::Stays { labels, kept: None });
    }
    let mut lines = Vec::new();
    for one in shipped {
        let (app, declared) = match &one.declared {
            Ok((app, declared)) => (app, declared),
            Err(why) => {
                lines.push(format!(
                    "{}: {} cannot be read: {why}",
                    one.archive, one.file
                ));
                continue;
            }
        };
        let mut offer = Offer::default();
        offer.apps.insert(app.clone(), Ok(declared.clone()));
        let verdict = infer(&Question {
            versions: &Versions::from([(Version::Live, offer)]),
            target: Version::Live,
            datasets: &datasets,
            by: By::Running,
            consent: Consent::Convert,
        });
        let answers = verdict.apps.iter().filter(|it| it.app == *app);
        let bad = answers
            .filter(|it| it.dataset.as_ref() == Some(&declared.dataset) && stops(it, declared));
        lines.extend(bad.map(|it| format!("{}: {}", one.archive, words::app(it))));
    }
    Ok(lines)
}

/// Whether a package's programs would meet data that they cannot run on.
fn stops(verdict: &AppVerdict, declared: &Declaration) -> bool {
    match &verdict.answer {
        Answer::Nothing | Answer::LeftAlone(_) | Answer::Restore { .. } => false,
        // Nobody has agreed to a loss.
        Answer::Convert { lossy, .. } => *lossy,
        Answer::Refuse(refusal) => match &refusal.cause {
            // The programs that are installed run on it as it is, or it is still to be made.
            Cause::Unlabelled { .. } | Cause::NoDataset => false,
            // Installing what began it again is how a conversion is gone on with.
            Cause::Interrupted => match &verdict.present {
                Label::Converting { to, .. } => !makes(declared, to),
                _ => true,
            },
            _ => true,
        },
    }
}

/// Whether a version writes this state, or converts into it.
fn makes(declared: &Declaration, state: &AppState) -> bool {
    declared.state == *state || declared.converters.iter().any(|it| it.to == *state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::layout::Part;
    use crate::store::memory::Memory;
    use crate::store::place::Place;
    use crate::transaction::model::layout;

    const UP: &str =
        "[[converter]]\nfrom = [\"2\"]\nto = \"3\"\ncommand = [\"/usr/bin/up\"]\nlossless = true\n";

    /// Builds a real archive with these files, with or without the list of them.
    fn archive(directory: &Path, files: &[(&str, &str)], listed: bool) -> PathBuf {
        let tree = directory.join("tree");
        let put = |path: &str, text: &str| {
            let path = tree.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let control =
            "Package: ledger\nVersion: 1\nArchitecture: all\nMaintainer: a\nDescription: a\n";
        put("DEBIAN/control", control);
        put("usr/share/doc/ledger/README", "of no interest");
        let mut sums = String::new();
        for (path, text) in files {
            put(path, text);
            sums.push_str(&format!("0  {path}\n"));
        }
        if listed {
            put("DEBIAN/md5sums", &sums);
        }
        let deb = directory.join("ledger_1_all.deb");
        let built = Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .args([&tree, &deb])
            .stdout(Stdio::null())
            .status();
        assert!(built.unwrap().success());
        std::fs::remove_dir_all(tree).unwrap();
        deb
    }

    fn declares(rest: &str) -> String {
        format!("dataset = \"data\"\n{rest}")
    }

    /// What is said of a package that ships this declaration, the data being labelled so.
    fn said(labels: &[(&str, &str)], declaration: &str) -> Vec<String> {
        let mut store = Memory::new(layout());
        let data = Place::Live(Part::Data(0));
        store.put(data, Default::default());
        for (name, value) in labels {
            store.set_label(data, name, Some(value.as_bytes())).unwrap();
        }
        let shipped = Shipped {
            archive: "ledger_1_all.deb".to_owned(),
            file: "ledger.toml".to_owned(),
            declared: declaration::read("ledger.toml", declaration.as_bytes())
                .map_err(|error| error.to_string()),
        };
        refused(&store, &[shipped]).unwrap()
    }

    #[test]
    fn an_archive_gives_its_declarations_and_no_other_file() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = format!("{APPS}/ledger.toml");
        let good = declares("state = \"1\"\n");
        for listed in [true, false] {
            let files = [
                (ledger.as_str(), good.as_str()),
                (&format!("{APPS}/README"), "a"),
                (&format!("{APPS}/ledger.d/more.toml"), "a"),
                (&format!("usr/share/{APPS}/other.toml"), "a"),
            ];
            let found = declarations(&archive(directory.path(), &files, listed)).unwrap();
            assert_eq!(found.len(), 1, "{listed}");
            let (app, declared) = found[0].declared.as_ref().unwrap();
            assert_eq!((app.as_str(), declared.state.as_str()), ("ledger", "1"));
            let none = declarations(&archive(directory.path(), &[], listed)).unwrap();
            assert!(none.is_empty());
        }
        let long = "#".repeat(TEXT_MAX + 1);
        let found = declarations(&archive(directory.path(), &[(&ledger, &long)], true)).unwrap();
        assert!(found[0].declared.is_err());
        let broken = directory.path().join("broken.deb");
        std::fs::write(&broken, "no archive").unwrap();
        assert!(matches!(declarations(&broken), Err(Error::Tool { .. })));
    }

    #[test]
    fn paths_are_lines_and_only_those_of_archives_count() {
        let found = paths(&b"/var/cache/a_1_all.deb\n\n/b c.deb\nVERSION 2\n"[..]).unwrap();
        assert_eq!(
            found,
            ["/var/cache/a_1_all.deb", "/b c.deb"].map(PathBuf::from)
        );
    }

    #[test]
    fn an_older_version_that_cannot_read_the_data_is_stopped_and_told_why() {
        let old = declares("state = \"2\"\n");
        assert_eq!(
            said(&[("state.ledger", "3")], &old),
            [
                "ledger_1_all.deb: ledger (dataset data, state 3): refused, since that version reads 2"
            ]
        );
        for (labels, declaration) in [
            // The same version once more, or one that reads it.
            (&[("state.ledger", "3")][..], declares("state = \"3\"\n")),
            (
                &[("state.ledger", "3")],
                declares("state = \"2\"\nreads = [\"3\"]\n"),
            ),
            // It converts forward by itself.
            (
                &[("state.ledger", "2")],
                declares(&format!("state = \"3\"\n{UP}")),
            ),
            // Nothing is known of the data, or it is another application's.
            (&[], old.clone()),
            (&[("state.shop", "3")], old.clone()),
            // The machine keeps no data of that kind.
            (
                &[("state.ledger", "3")],
                "dataset = \"elsewhere\"\nstate = \"2\"\n".to_owned(),
            ),
            // What began the conversion goes on with it.
            (
                &[("converting.ledger", "2 3"), ("state.ledger", "2")],
                declares(&format!("state = \"3\"\n{UP}")),
            ),
        ] {
            assert_eq!(
                said(labels, &declaration),
                [""; 0],
                "{labels:?} {declaration}"
            );
        }
        for (labels, declaration) in [
            // Its own way there loses something.
            (
                &[("state.ledger", "2")][..],
                declares(&format!("state = \"3\"\n{}", UP.replace("true", "false"))),
            ),
            (&[("converting.ledger", "2 3")], old),
            (&[("state.ledger", "2 and 3")], declares("state = \"3\"\n")),
            (&[("state.ledger", "3")], "state = 3".to_owned()),
        ] {
            assert_eq!(
                said(labels, &declaration).len(),
                1,
                "{labels:?} {declaration}"
            );
        }
    }
}
