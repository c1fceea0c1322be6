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
    let packed = pack(root.as_fd(), &mut out, &mut |note| notes.push(note)).unwrap();
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
    let _socket = UnixListener::bind(root.path().join("socket")).unwrap();
    let (_, packed, notes) = packed(root.path());
    assert_eq!(packed.entries, 1);
    let lines: Vec<String> = notes.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["socket: a socket is left out"]);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error_that_names_it() {
    for grow in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, vec![1; 3 << 20]).unwrap();
        let handle = File::open(root.path()).unwrap();
        let mut changed = false;
        let result = pack(handle.as_fd(), &mut std::io::sink(), &mut |_| {
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
