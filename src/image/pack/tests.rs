use super::*;
use rustix::fd::AsFd;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

fn packed(root: &Path) -> (Vec<u8>, Packed, Vec<Note>) {
    let mut notes = Vec::new();
    let mut out = Vec::new();
    let root = File::open(root).unwrap();
    let limits = Limits::default();
    let packed = pack(root.as_fd(), &mut out, &limits, &mut |note| {
        notes.push(note);
    });
    let packed = packed.unwrap();
    notes.retain(|note| !matches!(note, Note::Written(_)));
    (out, packed, notes)
}

fn tar(arguments: &[&str], archive: &[u8]) -> String {
    let mut child = Command::new("tar")
        .args(arguments)
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(archive).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn plant(root: &Path, order: &[&str]) {
    fs::create_dir_all(root.join("dir/sub")).unwrap();
    for name in order {
        fs::write(root.join(name), format!("this is {name}")).unwrap();
    }
    fs::hard_link(root.join("dir/b"), root.join("dir/a-link")).unwrap();
    symlink("t".repeat(150), root.join("dir/long")).unwrap();
    let time = rustix::fs::Timespec {
        tv_sec: -2,
        tv_nsec: 250_000_000,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    let set = |path: &Path| {
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
    };
    for path in ["dir/long", "dir/b", "dir/sub/é", "x", "dir/sub", "dir", ""] {
        set(&root.join(path));
    }
}

#[test]
fn the_same_tree_is_the_same_bytes_whatever_the_order_it_was_made_in() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    plant(one.path(), &["x", "dir/b", "dir/sub/é"]);
    plant(two.path(), &["dir/sub/é", "x", "dir/b"]);
    let (first, count, notes) = packed(one.path());
    assert!(first == packed(two.path()).0);
    assert_eq!(notes, []);
    assert_eq!(count.bytes, first.len() as u64);
    assert_eq!((count.bytes % 512, count.entries), (0, 8));
    let listed = tar(&["-t", "-f", "-", "--quoting-style=literal"], &first);
    let target = "./dir/long";
    let want = [
        "./",
        "./dir/",
        "./dir/a-link",
        "./dir/b",
        target,
        "./dir/sub/",
        "./dir/sub/é",
        "./x",
    ];
    assert_eq!(listed.lines().collect::<Vec<_>>(), want);
}

#[test]
fn tar_gives_back_what_was_packed() {
    let root = tempfile::tempdir().unwrap();
    plant(root.path(), &["x", "dir/b", "dir/sub/é"]);
    let long = format!("dir/{}", "n".repeat(200));
    fs::write(root.path().join(&long), "long").unwrap();
    let (archive, ..) = packed(root.path());
    let to = tempfile::tempdir().unwrap();
    tar(
        &["-x", "-p", "-f", "-", "-C", to.path().to_str().unwrap()],
        &archive,
    );
    for path in ["", "dir", "dir/a-link", "dir/b", "dir/sub", "x", &long] {
        let stat = |root: &Path| {
            let stat = fs::symlink_metadata(root.join(path)).unwrap();
            (stat.mode(), stat.mtime(), stat.mtime_nsec(), stat.nlink())
        };
        assert_eq!(stat(root.path()), stat(to.path()), "{path}");
    }
    let read = |path: &str| fs::read_to_string(to.path().join(path)).unwrap();
    assert_eq!(read("dir/a-link"), "this is dir/b");
    assert_eq!(read(&long), "long");
    let link = fs::read_link(to.path().join("dir/long")).unwrap();
    assert_eq!(link.as_os_str().len(), 150);
}

#[test]
fn holes_are_not_in_the_archive_and_are_there_after_it() {
    let root = tempfile::tempdir().unwrap();
    for (name, begin) in [("begin", 0), ("middle", 4 << 20), ("none", u64::MAX)] {
        let mut file = File::create(root.path().join(name)).unwrap();
        if begin != u64::MAX {
            file.seek(SeekFrom::Start(begin)).unwrap();
            file.write_all(&[7; 5000]).unwrap();
        }
        file.set_len(16 << 20).unwrap();
    }
    if fs::metadata(root.path().join("none")).unwrap().blocks() != 0 {
        eprintln!("not run: this file system has no holes");
        return;
    }
    let (archive, ..) = packed(root.path());
    assert!(archive.len() < 64 << 10, "{}", archive.len());
    let to = tempfile::tempdir().unwrap();
    tar(
        &["-x", "-f", "-", "-C", to.path().to_str().unwrap()],
        &archive,
    );
    for name in ["begin", "middle", "none"] {
        let (old, new) = (root.path().join(name), to.path().join(name));
        assert!(fs::read(&old).unwrap() == fs::read(&new).unwrap(), "{name}");
        assert!(fs::metadata(&new).unwrap().blocks() < 64, "{name}");
    }
}

#[test]
fn what_no_archive_can_hold_is_said() {
    let root = tempfile::tempdir().unwrap();
    // What a terminal would obey is not sent to it.
    for name in ["socket", "so\x1b[2J\ncket"] {
        UnixListener::bind(root.path().join(name)).unwrap();
    }
    let (_, packed, notes) = packed(root.path());
    assert_eq!(packed.entries, 1);
    let lines: Vec<String> = notes.iter().map(ToString::to_string).collect();
    let want = [
        "so\u{fffd}[2J\u{fffd}cket: a socket is left out",
        "socket: a socket is left out",
    ];
    assert_eq!(lines, want);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error_that_names_it() {
    for grow in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, vec![1; 3 << 20]).unwrap();
        let handle = File::open(root.path()).unwrap();
        let mut changed = false;
        let limits = Limits::default();
        let result = pack(handle.as_fd(), &mut std::io::sink(), &limits, &mut |_| {
            if !std::mem::replace(&mut changed, true) {
                let file = File::options().append(true).open(&path).unwrap();
                file.set_len(if grow { 4 << 20 } else { 2 << 20 }).unwrap();
            }
        });
        let error = result.unwrap_err();
        assert!(
            matches!(&error, Error::Changed(path) if path == "file"),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_is_moved_to_where_the_walk_was_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    for directory in ["a", "z"] {
        fs::create_dir(root.path().join(directory)).unwrap();
    }
    fs::write(root.path().join("m"), vec![1; 3 << 20]).unwrap();
    fs::write(root.path().join("z/file"), "here").unwrap();
    let handle = File::open(root.path()).unwrap();
    let mut moved = false;
    let limits = Limits::default();
    let result = pack(handle.as_fd(), &mut std::io::sink(), &limits, &mut |_| {
        if !std::mem::replace(&mut moved, true) {
            let (from, to) = (root.path().join("z/file"), root.path().join("a/file"));
            fs::rename(from, to).unwrap();
        }
    });
    let error = result.unwrap_err();
    assert!(
        matches!(&error, Error::Changed(path) if path == "a"),
        "{error}"
    );
}

/// The limit that stops packing, with everything else as it is.
fn limited(root: &Path, change: impl Fn(&mut Limits)) -> (String, String, u64) {
    let mut limits = Limits::default();
    let root = File::open(root).unwrap();
    pack(root.as_fd(), &mut std::io::sink(), &limits, &mut |_| {}).unwrap();
    change(&mut limits);
    let result = pack(root.as_fd(), &mut std::io::sink(), &limits, &mut |_| {});
    match result.unwrap_err() {
        Error::Limit { path, what, limit } => (path, what, limit),
        other => panic!("{other}"),
    }
}

#[test]
fn what_extraction_would_refuse_is_not_packed() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("d/e/f")).unwrap();
    fs::write(root.path().join("d/e/f/g"), vec![1; 5000]).unwrap();
    for (change, at, what, limit) in [
        (
            (|limits| limits.entries = 4) as fn(&mut Limits),
            "d/e/f/g",
            "entries",
            4,
        ),
        (
            |limits| limits.depth = 2,
            "d/e/f/g",
            "directories in one another",
            2,
        ),
        (|limits| limits.path = 8, "d/e/f/g", "bytes of a path", 8),
        (
            |limits| limits.file_length = 4999,
            "d/e/f/g",
            "bytes of one file",
            4999,
        ),
        (
            |limits| limits.bytes = 12287,
            "d/e/f/g",
            "bytes of the archive",
            12287,
        ),
        (
            |limits| limits.directories = 200,
            "d/e/f",
            "bytes of memory for directories",
            200,
        ),
    ] {
        let want = (at.to_owned(), what.to_owned(), limit);
        assert_eq!(limited(root.path(), change), want);
    }
}

#[test]
fn attributes_that_btrfs_does_not_take_are_named() {
    // A tmpfs has room for more than an ext4.
    let Ok(root) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("not run: no /dev/shm");
        return;
    };
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let set = |name: &str, length| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&file, name, &vec![7; length], flags)
    };
    if set("user.a", ATTRIBUTE - 6).is_err() || set("user.b", 1).is_err() {
        eprintln!("not run: no user attributes here");
        return;
    }
    let (path, what, limit) = limited(root.path(), |limits| limits.attributes = 1);
    assert_eq!((&*path, &*what, limit), ("file", "extended attributes", 1));
    let (.., limit) = limited(root.path(), |limits| limits.pax = 8192);
    assert_eq!(limit, 8192);
    set("user.a", ATTRIBUTE - 5).unwrap();
    let handle = File::open(root.path()).unwrap();
    let limits = Limits::default();
    let result = pack(handle.as_fd(), &mut std::io::sink(), &limits, &mut |_| {});
    let text = result.unwrap_err().to_string();
    assert!(
        text.starts_with("file has or makes more bytes of the attribute \"user.a\""),
        "{text}"
    );
}

#[test]
fn a_file_in_more_pieces_than_extraction_takes_has_zeros_and_that_is_said() {
    let root = tempfile::tempdir().unwrap();
    let mut file = File::create(root.path().join("file")).unwrap();
    for piece in 0..3 {
        file.seek(SeekFrom::Start(piece << 20)).unwrap();
        file.write_all(b"data").unwrap();
    }
    file.set_len(4 << 20).unwrap();
    file.sync_all().unwrap();
    if fs::metadata(root.path().join("file")).unwrap().blocks() > 1000 {
        eprintln!("not run: this file system has no holes");
        return;
    }
    let handle = File::open(root.path()).unwrap();
    for (stretches, lines) in [
        (4, vec![]),
        (
            3,
            vec!["file: has more than 2 pieces of data: the archive has zeros for its holes"],
        ),
    ] {
        let limits = Limits {
            stretches,
            ..Limits::default()
        };
        let mut notes = Vec::new();
        let mut out = Vec::new();
        pack(handle.as_fd(), &mut out, &limits, &mut |note| {
            if !matches!(note, Note::Written(_)) {
                notes.push(note.to_string());
            }
        })
        .unwrap();
        assert_eq!(notes, lines);
        assert_eq!(out.len() > 4 << 20, !lines.is_empty());
    }
}

#[test]
fn more_names_of_one_file_than_btrfs_takes_are_refused() {
    // An ext4 takes 65,000.
    let Ok(root) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("not run: no /dev/shm");
        return;
    };
    let first = root.path().join("00000");
    fs::write(&first, "").unwrap();
    for number in 1..=NAMES {
        if fs::hard_link(&first, root.path().join(format!("{number:05}"))).is_err() {
            eprintln!("not run: this file system takes no more than {number} names");
            return;
        }
    }
    let handle = File::open(root.path()).unwrap();
    let limits = Limits::default();
    let pack = || pack(handle.as_fd(), &mut std::io::sink(), &limits, &mut |_| {});
    let error = pack().unwrap_err();
    assert!(
        matches!(&error, Error::Limit { path, limit: 65535, .. } if path == "65535"),
        "{error}"
    );
    fs::remove_file(root.path().join("65535")).unwrap();
    assert_eq!(pack().unwrap().entries, 65536);
}
