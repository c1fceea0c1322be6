//! Looking into a version without running it: directories and the beginnings of files, as far as everybody may read
//! them there. Nobody has proved who they are, and what root alone may read (keys, hashes) is not shown to them.

use super::machine::{Answer, Entry, Look};
use super::text::name;
use crate::record::layout::{Layout, Part};
use crate::store::StoreError;
use crate::store::btrfs::path::{DIRECTORY, LOOK, entries, is_absent, open, split_bytes};
use crate::sys::{self, Context};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, OFlags, Stat, fstat, readlinkat};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

/// No more than this is shown of a file, in bytes: at 9600 baud it takes a minute.
const SHOWN: usize = 64 * 1024;
/// No more entries are shown of a directory.
const ENTRIES: usize = 2000;

const READ_BY_ALL: u32 = 0o004;
const ENTERED_BY_ALL: u32 = 0o001;

/// The dataset that a path of the booted system lies in, and the path below it.
pub fn locate(layout: &Layout, path: &str) -> (Part, String) {
    let names: Vec<&str> = path
        .split('/')
        .filter(|it| !matches!(*it, "" | "."))
        .collect();
    let path = names.join("/");
    let below = |mount: &str| -> Option<String> {
        let mount = mount.trim_matches('/');
        let rest = path.strip_prefix(mount)?;
        let whole = rest.is_empty() || rest.starts_with('/');
        (!mount.is_empty() && whole).then(|| rest.trim_start_matches('/').to_owned())
    };
    if let Some(config) = &layout.config {
        if let Some(rest) = below(&config.mount) {
            return (Part::Config, rest);
        }
        if layout
            .config_paths
            .iter()
            .any(|declared| below(declared).is_some())
        {
            return (Part::Config, path);
        }
    }
    for part in layout.data_parts() {
        if let Some(rest) = layout.dataset(part).and_then(|it| below(&it.mount)) {
            return (part, rest);
        }
    }
    (Part::System, path)
}

/// The path of a booted system under which a file of a dataset is seen; the other way round than [`locate`].
pub fn seen_at(layout: &Layout, part: Part, path: &[u8]) -> Vec<u8> {
    let mount = layout.dataset(part).map_or("/", |it| it.mount.as_str());
    let declared = part == Part::Config
        && layout.config_paths.iter().any(|declared| {
            let declared = declared.trim_matches('/').as_bytes();
            path.strip_prefix(declared)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        });
    let mount = match declared {
        true => "",
        false => mount.trim_end_matches('/'),
    };
    [mount.as_bytes(), b"/", path].concat()
}

/// What lies at a path below a dataset's root.
pub fn at(dataset: &OwnedFd, path: &str) -> Answer<Look> {
    is_whole(path)?;
    let bytes = path.as_bytes();
    if !is_reached(dataset, bytes) {
        return Err(private(path));
    }
    let failed = |error: sys::Error| {
        let text = format!("/{} cannot be read: {error}", name(bytes));
        match sys::is_of_the_disk(error.errno) {
            true => StoreError::Disk(text).to_string(),
            false => text,
        }
    };
    let fd = open(dataset, bytes, LOOK).map_err(|error| match error.errno {
        rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => {
            format!("there is no /{}", name(bytes))
        }
        rustix::io::Errno::LOOP => format!(
            "/{} leads through a link, which is not followed: look at the directory above it",
            name(bytes)
        ),
        _ => failed(error),
    })?;
    let stat = fstat(&fd).call(|| "fstat".to_owned()).map_err(failed)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::Symlink => {
            let target = readlinkat(&fd, "", Vec::new()).call(|| "readlinkat".to_owned());
            Ok(Look::Link(name(target.map_err(failed)?.as_bytes())))
        }
        FileType::Directory | FileType::RegularFile if stat.st_mode & READ_BY_ALL == 0 => {
            Err(private(path))
        }
        FileType::Directory => directory(dataset, bytes).map_err(failed),
        FileType::RegularFile => file(dataset, bytes).map_err(failed),
        FileType::Fifo => Ok(Look::Other("a pipe".to_owned())),
        FileType::Socket => Ok(Look::Other("a socket".to_owned())),
        _ => Ok(Look::Other("a device".to_owned())),
    }
}

/// A path that leads up is not followed.
pub fn is_whole(path: &str) -> Answer<()> {
    match path.split('/').any(|part| part == "..") {
        true => Err("'..' is not followed here: give the whole path".to_owned()),
        false => Ok(()),
    }
}

/// Whether something lies at a path. What lies where not everybody may look is not said to be missing.
pub fn may_be_there(dataset: &OwnedFd, path: &str) -> bool {
    let absent = |error: sys::Error| is_absent(&error);
    !is_reached(dataset, path.as_bytes()) || !open(dataset, path, LOOK).is_err_and(absent)
}

fn private(path: &str) -> String {
    format!(
        "/{} is not for everybody to read, and nobody has said here who they are",
        name(path.as_bytes())
    )
}

/// Whether everybody may come as far as to this path's directory. One that does not exist hides nothing.
pub fn is_reached(dataset: &OwnedFd, path: &[u8]) -> bool {
    let mut above = split_bytes(path).0;
    loop {
        if let Ok(fd) = open(dataset, above, LOOK)
            && let Ok(stat) = fstat(&fd)
            && FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && stat.st_mode & ENTERED_BY_ALL == 0
        {
            return false;
        }
        if above.is_empty() {
            return true;
        }
        above = split_bytes(above).0;
    }
}

/// Whether everybody may read the names in the directory that this path lies in, and come there.
pub fn is_listed(dataset: &OwnedFd, path: &[u8]) -> bool {
    let above = split_bytes(path).0;
    let listed = |stat: Stat| stat.st_mode & READ_BY_ALL != 0;
    is_reached(dataset, path)
        && open(dataset, above, LOOK).is_ok_and(|fd| fstat(&fd).is_ok_and(listed))
}

fn directory(dataset: &OwnedFd, path: &[u8]) -> crate::sys::Result<Look> {
    let directory = open(dataset, path, DIRECTORY)?;
    let mut all = Vec::new();
    let names = entries(&directory)?;
    let more = names.len().saturating_sub(ENTRIES);
    for entry in names.into_iter().take(ENTRIES) {
        let bytes = entry.as_bytes();
        let stat = open(&directory, bytes, LOOK).and_then(|fd| fstat(&fd).call(|| "fstat".into()));
        let kind = stat.as_ref().map(|it| FileType::from_raw_mode(it.st_mode));
        let kind = kind.unwrap_or(FileType::Unknown);
        let size = stat.ok().filter(|_| kind == FileType::RegularFile);
        all.push(Entry {
            name: name(bytes),
            kind: match kind {
                FileType::RegularFile => "file",
                FileType::Directory => "directory",
                FileType::Symlink => "link",
                _ => "other",
            },
            size: size.and_then(|stat| u64::try_from(stat.st_size).ok()),
        });
    }
    Ok(Look::Directory { entries: all, more })
}

fn file(dataset: &OwnedFd, path: &[u8]) -> crate::sys::Result<Look> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut bytes = Vec::new();
    std::fs::File::from(open(dataset, path, flags)?)
        .take(SHOWN as u64 + 1)
        .read_to_end(&mut bytes)
        .call(|| "read".to_owned())?;
    let more = bytes.len() > SHOWN;
    bytes.truncate(SHOWN);
    let strange = bytes.iter().filter(|byte| **byte == 0).count();
    if strange > 0 {
        return Ok(Look::Other("a file that is not text".to_owned()));
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(Look::Text {
        lines: text.lines().map(str::to_owned).collect(),
        more,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, create_dir_all, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn open_root(path: &std::path::Path) -> OwnedFd {
        set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        rustix::fs::open(path, OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap()
    }

    #[test]
    fn what_everybody_may_read_is_shown_and_what_root_alone_may_is_not() {
        let root = tempfile::tempdir().unwrap();
        let at_root = |path: &str| root.path().join(path);
        create_dir_all(at_root("etc/private")).unwrap();
        for (path, mode) in [
            ("etc/motd", 0o644),
            ("etc/shadow", 0o640),
            ("etc/private/x", 0o644),
        ] {
            write(at_root(path), "one\ntwo\n").unwrap();
            set_permissions(at_root(path), Permissions::from_mode(mode)).unwrap();
        }
        set_permissions(at_root("etc/private"), Permissions::from_mode(0o700)).unwrap();
        let fd = open_root(root.path());
        let text = at(&fd, "etc/motd").unwrap();
        let lines = ["one", "two"].map(str::to_owned).to_vec();
        assert_eq!(text, Look::Text { lines, more: false });
        for path in [
            "etc/shadow",
            "etc/private",
            "etc/private/x",
            "etc/private/no",
        ] {
            let refused = at(&fd, path).unwrap_err();
            assert!(refused.contains("not for everybody"), "{path}: {refused}");
        }
        assert!(is_listed(&fd, b"etc/shadow") && !is_listed(&fd, b"etc/private/x"));
        let Look::Directory { entries, more: 0 } = at(&fd, "etc").unwrap() else {
            panic!("no directory");
        };
        let names: Vec<&str> = entries.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["motd", "private", "shadow"]);
        // A file is no directory that is closed.
        for path in ["etc/motd/x", "etc/motd/x/y", "no/x"] {
            let missing = at(&fd, path).unwrap_err();
            assert_eq!(missing, format!("there is no /{path}"));
        }
        for (path, there) in [
            ("etc", true),
            ("etc/motd", true),
            ("etc/private/no", true),
            ("ect", false),
            ("etc/motd/x", false),
            ("etc/no", false),
        ] {
            assert_eq!(may_be_there(&fd, path), there, "{path}");
        }
    }

    #[test]
    fn of_a_directory_without_an_end_it_is_said_how_much_is_not_shown() {
        let root = tempfile::tempdir().unwrap();
        for i in 0..ENTRIES + 3 {
            write(root.path().join(format!("{i:05}")), "").unwrap();
        }
        let look = at(&open_root(root.path()), "").unwrap();
        let shown = crate::console::screens::look(&look);
        assert_eq!(shown.len(), ENTRIES + 1);
        assert_eq!(
            shown.last().map(String::as_str),
            Some("(the directory goes on: 3 more are not shown)")
        );
        let json = serde_json::to_value(&look).unwrap();
        assert_eq!(json["directory"]["more"], 3);
    }

    #[test]
    fn nothing_leads_out_of_the_dataset_and_nothing_is_opened_by_looking() {
        let root = tempfile::tempdir().unwrap();
        symlink("/etc", root.path().join("etc")).unwrap();
        symlink("/etc/passwd", root.path().join("passwd")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.path().join("fifo"), 0o644.into()).unwrap();
        write(root.path().join("a\x1b[2J"), [0u8; 10]).unwrap();
        let fd = open_root(root.path());
        assert_eq!(at(&fd, "passwd"), Ok(Look::Link("/etc/passwd".to_owned())));
        for path in ["etc/passwd", "../etc/passwd", "x/../../etc"] {
            assert!(at(&fd, path).is_err(), "{path}");
        }
        assert_eq!(at(&fd, "fifo"), Ok(Look::Other("a pipe".to_owned())));
        let other = at(&fd, "a\x1b[2J").unwrap();
        assert_eq!(other, Look::Other("a file that is not text".to_owned()));
        assert!(
            at(&fd, "missing")
                .unwrap_err()
                .contains("there is no /missing")
        );
    }

    #[test]
    fn a_path_is_looked_up_where_the_booted_system_has_it() {
        let layout = crate::transaction::model::layout();
        for (path, part, below) in [
            ("/", Part::System, ""),
            ("/etc//./passwd", Part::System, "etc/passwd"),
            ("etc/appliance", Part::Config, "etc/appliance"),
            ("/etc/appliance/x", Part::Config, "etc/appliance/x"),
            ("/etc/appliances", Part::System, "etc/appliances"),
            ("/var/lib/backstay/config/y", Part::Config, "y"),
            ("/srv/data", Part::Data(0), ""),
            ("/srv/data/content", Part::Data(0), "content"),
        ] {
            assert_eq!(locate(&layout, path), (part, below.to_owned()), "{path}");
        }
        for (part, path, seen) in [
            (Part::System, "etc/x", "/etc/x"),
            (Part::Config, "etc/appliance/x", "/etc/appliance/x"),
            (Part::Config, "y", "/var/lib/backstay/config/y"),
            (Part::Data(0), "content", "/srv/data/content"),
        ] {
            assert_eq!(seen_at(&layout, part, path.as_bytes()), seen.as_bytes());
        }
    }
}
