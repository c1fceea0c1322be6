//! Archives that GNU tar, and bsdtar where it is installed, make of a directory that has everything:
//! extracted, it must be the same directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use backstay::image::Limits;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, chownat, lgetxattr, llistxattr,
    lsetxattr, makedev, mknodat, utimensat,
};

use super::{Place, Test, verified};

pub const TESTS: &[Test] = &[
    ("gnu_tars_archives_are_extracted_as_they_were", gnu_tar),
    ("bsdtars_archives_are_extracted_as_they_were", bsdtar),
    ("what_each_compressor_makes_is_extracted", compressors),
];

/// What is compared of one file.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    mtime: (i64, i64),
    content: Vec<u8>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name of the same file.
    same: String,
    sparse: bool,
}

/// Makes everything that a system may hold.
fn furnish(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::create_dir_all(at("etc/deep")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::write(at("etc/passwd"), "root:x:0:0\n").unwrap();
    fs::hard_link(at("etc/passwd"), at("etc/passwd-")).unwrap();
    symlink("../proc/self/mounts", at("etc/mtab")).unwrap();
    symlink("t".repeat(300), at("etc/long-link")).unwrap();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(180));
    fs::create_dir(at(&"d".repeat(120))).unwrap();
    fs::write(at(&long), "long").unwrap();
    fs::write(at("etc/größe"), "").unwrap();
    fs::write(at("large"), vec![b'l'; 3_000_001]).unwrap();
    let sparse = File::create(at("sparse")).unwrap();
    for stretch in 0..30u64 {
        sparse.write_all_at(&[b's'; 4096], stretch << 20).unwrap();
    }
    sparse.set_len(40 << 20).unwrap();
    File::create(at("hole")).unwrap().set_len(1 << 20).unwrap();
    for (name, kind, major, minor) in [
        ("null", FileType::CharacterDevice, 1, 3),
        ("disk", FileType::BlockDevice, 8, 1),
        ("fifo", FileType::Fifo, 0, 0),
    ] {
        mknodat(
            CWD,
            at(name),
            kind,
            Mode::from_raw_mode(0o600),
            makedev(major, minor),
        )
        .unwrap();
    }
    let own = |name: &str, user, group| {
        let (user, group) = (
            rustix::fs::Uid::from_raw(user),
            rustix::fs::Gid::from_raw(group),
        );
        chownat(
            CWD,
            at(name),
            Some(user),
            Some(group),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .unwrap();
    };
    own("etc/passwd", 1000, 1001);
    own("etc/mtab", 1000, 1000);
    own("empty", 3_000_000, 4_000_000);
    own("disk", 0, 6);
    for (name, mode) in [("large", 0o4755), ("etc/deep", 0o2770), ("empty", 0o1777)] {
        rustix::fs::chmod(at(name), Mode::from_raw_mode(mode)).unwrap();
    }
    let set = |name: &str, attribute: &str, value: &[u8]| {
        lsetxattr(at(name), attribute, value, XattrFlags::empty()).unwrap();
    };
    set("etc/passwd", "user.note", b"a=b\0c\n");
    set("etc/passwd", "user.a=b%c", b"");
    set("etc/deep", "user.directory", &[b'v'; 900]);
    set("etc/mtab", "trusted.link", b"on a link");
    // cap_net_raw+ep, linux/capability.h: revision 2 with the effective bit.
    let mut capability = vec![1, 0, 0, 2, 0, 0x20, 0, 0];
    capability.resize(20, 0);
    set("large", "security.capability", &capability);
    let acl = |entries: &[(u16, u16, u32)]| {
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    };
    let none = u32::MAX;
    let entries = acl(&[
        (1, 6, none),
        (2, 4, 1000),
        (2, 6, 1005),
        (4, 4, none),
        (16, 6, none),
        (32, 0, none),
    ]);
    set("etc/passwd", "system.posix_acl_access", &entries);
    set("etc/deep", "system.posix_acl_default", &entries);
    for (name, seconds, nanoseconds) in [
        ("etc/passwd", 1_700_000_000, 123_456_789),
        ("etc/mtab", 1_234_567_890, 5),
        ("etc/größe", -1_000_000, 999_999_999),
        ("large", 5_000_000_000, 1),
        ("null", 1, 0),
        ("etc/deep", 1_600_000_000, 42),
        ("etc", 1_500_000_000, 7),
        ("", 1_400_000_000, 100),
    ] {
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, at(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// Walks a directory.
fn look(root: &Path) -> BTreeMap<String, Seen> {
    let mut found = BTreeMap::new();
    let mut first = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(path) = todo.pop() {
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let status = fs::symlink_metadata(&path).unwrap();
        let kind = status.file_type();
        let content = if kind.is_file() {
            fs::read(&path).unwrap()
        } else if kind.is_symlink() {
            fs::read_link(&path)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec()
        } else {
            Vec::new()
        };
        if kind.is_dir() {
            let mut names: Vec<_> = fs::read_dir(&path)
                .unwrap()
                .map(|it| it.unwrap().path())
                .collect();
            // The last is looked at first, so the names of one file have an order.
            names.sort_unstable_by(|one, other| other.cmp(one));
            todo.extend(names);
        }
        let same = first
            .entry(status.ino())
            .or_insert_with(|| name.clone())
            .clone();
        let sparse = kind.is_file() && status.blocks() * 512 < status.len();
        let seen = Seen {
            mode: status.mode(),
            owner: (status.uid(), status.gid()),
            device: status.rdev(),
            mtime: (status.mtime(), status.mtime_nsec()),
            content,
            attributes: attributes(&path),
            same,
            sparse,
        };
        found.insert(name, seen);
    }
    found
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = llistxattr(path, &mut names[..]).unwrap();
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = lgetxattr(path, name, &mut value[..]).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

/// What an archive made by `tool` keeps.
struct Keeps {
    /// Nanoseconds.
    times: bool,
    /// Times before 1970 with a fraction: GNU's old form has none, and libarchive (3.6) writes the
    /// seconds and the fraction of -999999.5 as -1000000.5.
    before_1970: bool,
    attributes: bool,
    sparse: bool,
}

fn comes_back(tool: &str, arguments: &[&str], keeps: &Keeps) {
    let place = Place::fresh();
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    furnish(&source);
    let archive = place.path("archive");
    let made = Command::new(tool)
        .args(["-c", "-f"])
        .arg(&archive)
        .arg("-C")
        .arg(&source)
        .args(arguments)
        .arg(".")
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let extracted = place.extract_verified(&verified(&archive), &Limits::default());
    extracted.unwrap_or_else(|error| panic!("{tool} {arguments:?}: {error}"));
    let (mut before, after) = (look(&source), look(&place.root()));
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        after.keys().collect::<Vec<_>>(),
        "{arguments:?}"
    );
    for (name, after) in after {
        let before = before.get_mut(&name).unwrap();
        if !keeps.times {
            before.mtime.1 = 0;
        }
        if !keeps.before_1970 && name == "etc/größe" {
            before.mtime = after.mtime;
        }
        if !keeps.attributes {
            before.attributes.clear();
            // The group's bits were the ACL's mask.
            before.mode = after.mode & 0o777 | before.mode & !0o777;
        }
        before.sparse &= keeps.sparse;
        let differs = *before != after;
        if differs {
            before.content.truncate(50);
            panic!(
                "{tool} {arguments:?}: {name}:\n{before:?}\n{:?}",
                Seen {
                    content: after.content[..after.content.len().min(50)].to_vec(),
                    ..after
                }
            );
        }
    }
}

fn gnu_tar() {
    let all = Keeps {
        times: true,
        before_1970: true,
        attributes: true,
        sparse: true,
    };
    for version in ["0.0", "0.1", "1.0"] {
        let sparse = format!("--sparse-version={version}");
        let arguments = [
            "--format=posix",
            "--sparse",
            &sparse,
            "--acls",
            "--xattrs",
            "--xattrs-include=*",
            "--numeric-owner",
        ];
        comes_back("tar", &arguments, &all);
    }
    let seconds = |sparse| Keeps {
        times: false,
        before_1970: false,
        attributes: false,
        sparse,
    };
    comes_back("tar", &["--format=gnu", "--sparse"], &seconds(true));
    comes_back("tar", &["--format=gnu"], &seconds(false));
    comes_back("tar", &["--format=gnu", "--sparse", "-z"], &seconds(true));
}

fn bsdtar() {
    if Command::new("bsdtar").arg("--version").output().is_err() {
        println!("  bsdtar is not installed: install libarchive-tools; its archives are left out");
        return;
    }
    let all = Keeps {
        times: true,
        before_1970: false,
        attributes: true,
        sparse: true,
    };
    comes_back(
        "bsdtar",
        &["--format=pax", "--numeric-owner", "--acls", "--xattrs"],
        &all,
    );
}

fn compressors() {
    let place = Place::fresh();
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    furnish(&source);
    let tar = |compressor: &str| {
        let archive = place.path("archive");
        let made = Command::new("tar")
            .args(["-c", "-C"])
            .arg(&source)
            .arg("-f")
            .arg(&archive)
            .arg(format!("--use-compress-program={compressor}"))
            .arg(".")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(made.status.success(), "{compressor}: {text}");
        archive
    };
    for compressor in [
        "zstd -1",
        "zstd -19",
        "zstd --fast",
        "gzip -1",
        "xz -1",
        "xz -6",
        "xz -8 -T2",
    ] {
        let archive = tar(compressor);
        let target = Place::fresh();
        let extracted = target.extract_verified(&verified(&archive), &Limits::default());
        let extracted = extracted.unwrap_or_else(|error| panic!("{compressor}: {error}"));
        assert!(extracted.entries > 15);
        let stream = fs::read(&archive).unwrap();
        // The same stream twice is two archives, however it is packed; a bit of rubbish is none.
        for rest in [&stream[..], b"rubbish behind"] {
            let longer = [&stream[..], rest].concat();
            let error = Place::fresh()
                .extract(&longer, &Limits::default())
                .unwrap_err();
            assert!(
                error.to_string().contains("follows the end"),
                "{compressor}: {error}"
            );
        }
        for cut in [stream.len() - 1, stream.len() - 13, stream.len() / 2, 600] {
            assert!(
                Place::fresh()
                    .extract(&stream[..cut], &Limits::default())
                    .is_err()
            );
        }
    }
    for (compressor, words) in [
        ("zstd -1 --long=27 --no-content-size", "without --long"),
        ("xz -9", "xz -8 and below"),
    ] {
        let error = Place::fresh()
            .extract_verified(&verified(&tar(compressor)), &Limits::default())
            .unwrap_err();
        assert!(error.to_string().contains(words), "{compressor}: {error}");
    }
}
