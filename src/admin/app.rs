//! `backstay app check`: looks at declarations of applications before they are shipped. It reads what it is given, and
//! below `--root` only whether the converters are there; without that, on a machine with a store, whether its data says in
//! which state it is. Nothing is run, nothing is written.

use super::cli::AppCheck;
use super::error::{Error, Result};
use super::files::read_small;
use super::layout_file;
use super::machine::{Lock, Machine};
use super::output;
use super::run::{Ended, Out};
use super::state::unlabelled;
use crate::fence::declaration::{self, TEXT_MAX};
use crate::fence::lint::{self, Around, Finding, Level, Program};
use crate::record::layout::Layout;
use crate::store::Store;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use serde::Serialize;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

#[derive(Serialize)]
struct Checked {
    files: Vec<String>,
    errors: usize,
    notes: usize,
    findings: Vec<Finding>,
}

/// Does what the arguments say.
pub(super) fn check(root: Option<&Path>, args: &AppCheck, out: Out) -> Result<Ended> {
    let layout = layout(root, args.layout.as_deref())?;
    let opened = root.map(open).transpose()?;
    let program = |path: &str| match &opened {
        Some(root) => look(root, path),
        None => Program::Fine,
    };
    let around = Around {
        layout: layout.as_ref(),
        program: opened
            .as_ref()
            .map(|_| &program as &dyn Fn(&str) -> Program),
    };
    // Only where there is something to be said: declarations are looked at on machines of all kinds.
    let here = match root {
        Some(_) => None,
        None => Machine::open(None, Lock::None)
            .and_then(|machine| machine.store())
            .ok(),
    };
    let mut files = Vec::new();
    let mut findings = Vec::new();
    for path in paths(&args.paths)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // One that is as long as what is read is too long: the reader of it says so.
        let bytes = read(&path)?;
        let shown = path.display().to_string();
        let mut found = lint::file(&name, &bytes, &around);
        if let Some(store) = &here {
            found.extend(of_data(store, &name, &bytes));
        }
        findings.extend(found.into_iter().map(|it| {
            let file = shown.clone();
            Finding { file, ..it }
        }));
        files.push(shown);
    }
    let count = |level| findings.iter().filter(|it| it.level == level).count();
    let (errors, notes) = (count(Level::Error), count(Level::Note));
    if !out.json {
        for finding in &findings {
            output::out(format_args!("{finding}\n"));
        }
        if findings.is_empty() {
            let all = files.len();
            out.say(&format!("{all} read, nothing to say against it"));
        }
    }
    out.result(&Checked {
        files,
        errors,
        notes,
        findings,
    });
    Ok(match errors {
        0 => Ended::Done,
        _ => Ended::Unwell,
    })
}

/// What this machine's data would be to a version that it refuses for want of a recorded state.
fn of_data<S: Store>(store: &S, name: &str, bytes: &[u8]) -> Option<Finding> {
    let (app, declared) = declaration::read(name, bytes).ok()?;
    let found = unlabelled::one(store, &app, &declared).ok()?;
    let it = found.filter(|it| !it.reads_unknown)?;
    Some(Finding {
        file: String::new(),
        line: None,
        level: Level::Note,
        what: format!("on this machine {it}"),
    })
}

/// The files that are named, and those of the directories.
fn paths(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in named {
        if !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(Error::file("reading", path))? {
            let file = entry.map_err(Error::file("reading", path))?.path();
            if file.extension().is_some_and(|it| it == "toml") {
                inside.push(file);
            }
        }
        if inside.is_empty() {
            return Err(Error::NoDeclarations(path.clone()));
        }
        inside.sort_unstable();
        all.append(&mut inside);
    }
    Ok(all)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    match read_small(path, u64::try_from(TEXT_MAX).unwrap_or(u64::MAX)) {
        // What the fence says of it is more to the point.
        Err(Error::TooLong(..)) => Ok(vec![b'\n'; TEXT_MAX]),
        other => other,
    }
}

/// The layout that was named, else the one below the root, if it has one.
fn layout(root: Option<&Path>, named: Option<&Path>) -> Result<Option<Layout>> {
    let found = match (named, root) {
        (Some(named), _) => Some(named.to_owned()),
        (None, Some(root)) => layout_file::PATHS
            .iter()
            .map(|path| root.join(path))
            .find(|path| path.is_file()),
        (None, None) => None,
    };
    let Some(path) = found else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(&path).map_err(Error::file("reading", path))?;
    Ok(Some(layout_file::parse(&text)?))
}

fn open(root: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(root, flags, Mode::empty());
    opened.map_err(|errno| Error::file("opening", root)(errno.into()))
}

/// What a program's path leads to, by links as the system below the root follows them.
fn look(root: &OwnedFd, path: &str) -> Program {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
    let Ok(stat) = opened.and_then(rustix::fs::fstat) else {
        return Program::Missing;
    };
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    match is_file && stat.st_mode & 0o111 != 0 {
        true => Program::Fine,
        false => Program::NotExecutable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const GOOD: &str = "dataset = \"data\"\nstate = \"2\"\n[[converter]]\nfrom = [\"1\"]\nto = \"2\"\n\
                        command = [\"/usr/bin/convert\"]\nlossless = true\n";
    const LAYOUT: &str = "[[dataset]]\nname = \"system\"\nkind = \"system\"\nlive = \"@rootfs\"\nmount = \"/\"\n\
                          [[dataset]]\nname = \"data\"\nkind = \"data\"\nlive = \"@data\"\nmount = \"/srv/data\"\n";

    fn checked(root: Option<&Path>, paths: &[PathBuf]) -> Result<Ended> {
        let args = AppCheck {
            paths: paths.to_vec(),
            layout: None,
        };
        check(root, &args, Out { json: true })
    }

    #[test]
    fn a_tree_is_checked_with_its_programs_and_its_layout() {
        let tree = tempfile::tempdir().unwrap();
        let root = Some(tree.path());
        let at = |path: &str| tree.path().join(path);
        let put = |path: &str, text: &str| {
            std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            std::fs::write(at(path), text).unwrap();
        };
        let mode = |path: &str, mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(at(path), mode).unwrap();
        };
        let apps = at("usr/lib/backstay/apps.d");
        put("usr/lib/backstay/apps.d/ledger.toml", GOOD);
        put("usr/lib/backstay/apps.d/README", "not read");
        let ended = |root| checked(root, std::slice::from_ref(&apps)).unwrap();
        // Without a root nobody looks for the program.
        assert_eq!(ended(None), Ended::Done);
        assert_eq!(ended(root), Ended::Unwell);
        put("usr/lib/convert/real", "");
        mode("usr/lib/convert/real", 0o644);
        std::fs::create_dir_all(at("usr/bin")).unwrap();
        // As the system below the root follows it: not this machine's.
        symlink("/usr/lib/convert/real", at("usr/bin/convert")).unwrap();
        assert_eq!(ended(root), Ended::Unwell);
        mode("usr/lib/convert/real", 0o755);
        assert_eq!(ended(root), Ended::Done);
        put("usr/lib/backstay/layout.toml", LAYOUT);
        assert_eq!(ended(root), Ended::Done);
        put(
            "usr/lib/backstay/layout.toml",
            &LAYOUT.replace("\"data\"\nkind", "\"db\"\nkind"),
        );
        assert_eq!(ended(root), Ended::Unwell);
        assert_eq!(ended(None), Ended::Done);
        let opened = open(tree.path()).unwrap();
        assert_eq!(look(&opened, "/usr/bin"), Program::NotExecutable);
        assert_eq!(look(&opened, "/usr/bin/convert"), Program::Fine);
        assert_eq!(look(&opened, "/../../usr/bin/none"), Program::Missing);
    }

    #[test]
    fn what_is_no_declaration_is_said() {
        let tree = tempfile::tempdir().unwrap();
        let file = tree.path().join("ledger.toml");
        let checked = |path: &Path| checked(None, &[path.to_owned()]);
        assert!(matches!(
            checked(tree.path()),
            Err(Error::NoDeclarations(_))
        ));
        assert!(matches!(checked(&file), Err(Error::File { .. })));
        // One byte more than what is read of a file.
        std::fs::write(&file, "#".repeat(TEXT_MAX + 1)).unwrap();
        assert_eq!(checked(&file).unwrap(), Ended::Unwell);
        std::fs::write(&file, GOOD).unwrap();
        assert_eq!(checked(&file).unwrap(), Ended::Done);
        std::fs::write(&file, GOOD.replace("lossless = true", "lossless = false")).unwrap();
        assert_eq!(checked(&file).unwrap(), Ended::Done);
        std::fs::write(&file, "state = 1").unwrap();
        assert_eq!(checked(&file).unwrap(), Ended::Unwell);
    }

    #[test]
    fn data_of_this_machine_that_says_nothing_is_noted() {
        let (store, _) = crate::transaction::model::machine();
        let text = "dataset = \"data\"\nstate = \"2\"\n";
        let note = |name: &str, text: &str| of_data(&store, name, text.as_bytes());
        let found = note("ledger.toml", text).unwrap();
        assert_eq!(found.level, Level::Note);
        assert!(
            found
                .what
                .starts_with("on this machine the data of ledger in data")
                && found.what.ends_with("'backstay state set ledger 2'"),
            "{found}"
        );
        // It is labelled, lives with that, lies elsewhere, or is no declaration.
        for (name, text) in [
            ("shop.toml", text.to_owned()),
            ("ledger.toml", format!("{text}reads-unknown = true\n")),
            ("ledger.toml", text.replace("\"data\"", "\"mail\"")),
            ("ledger.toml", "state = 1".to_owned()),
        ] {
            assert_eq!(note(name, &text), None, "{text}");
        }
    }
}
