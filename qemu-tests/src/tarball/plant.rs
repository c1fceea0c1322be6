//! An entry of every kind that a root may hold, and of every size that matters to a format.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

/// Where they are planted, below the root.
pub const GARDEN: &str = "garden";

/// Plants them below `root`.
///
/// # Errors
/// Where the file system refuses one of them.
pub fn plant(root: &Path) -> Result<()> {
    let at = root.join(GARDEN);
    fs::create_dir(&at)?;
    names(&at).context("names")?;
    kinds(&at).context("kinds")?;
    sparse(&at).context("sparse files")?;
    owners(&at).context("owners and modes")?;
    attributes(&at).context("attributes")?;
    // Last, from the bottom up: everything above changed times.
    times(&at).context("times")
}

fn names(at: &Path) -> Result<()> {
    let write = |name: &OsStr| fs::write(at.join(name), name.as_bytes());
    for length in [99, 100, 101, 155, 156, 255] {
        write(OsStr::new(&"n".repeat(length)))?;
    }
    write(OsStr::new(" blank and\nnewline\\"))?;
    write(OsStr::new("é and 名"))?;
    write(OsStr::from_bytes(b"not-utf8-\xff\xfe"))?;
    write(OsStr::from_bytes(
        &[b"not-utf8-\xff".as_slice(), &[b'l'; 150]].concat(),
    ))?;
    let mut deep = at.to_owned();
    for level in 0..8 {
        deep.push(format!("{level}{}", "d".repeat(60)));
    }
    fs::create_dir_all(&deep)?;
    fs::write(deep.join("file"), "deep")?;
    symlink("t".repeat(300), at.join("long-link"))?;
    symlink(OsStr::from_bytes(b"target-\xff"), at.join("link-not-utf8"))?;
    // A hard link whose target's name is long, too.
    fs::hard_link(at.join("n".repeat(255)), at.join("z-link-to-long"))?;
    Ok(())
}

fn kinds(at: &Path) -> Result<()> {
    let node = |name: &str, kind, major, minor| {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(CWD, at.join(name), kind, Mode::from_raw_mode(0o640), device)
    };
    node("fifo", FileType::Fifo, 0, 0)?;
    node("null", FileType::CharacterDevice, 1, 3)?;
    node("disk", FileType::BlockDevice, 259, 70_000)?;
    fs::create_dir(at.join("empty-directory"))?;
    fs::write(at.join("empty-file"), "")?;
    symlink("../../..", at.join("up"))?;
    fs::create_dir(at.join("links"))?;
    fs::write(at.join("links/first"), "one file, four names")?;
    for name in ["links/second", "above", "empty-directory-not"] {
        fs::hard_link(at.join("links/first"), at.join(name))?;
    }
    Ok(())
}

fn sparse(at: &Path) -> Result<()> {
    for (name, length, data) in [
        ("hole-only", 1 << 20, &[][..]),
        ("hole-first", (1 << 20) + 5, &[(1 << 20, 5)][..]),
        ("hole-last", 1 << 20, &[(0, 4096)][..]),
        (
            "holes",
            (4 << 20) + 1,
            &[(8192, 4096), (65536, 100), (1 << 20, 70_000), (4 << 20, 1)][..],
        ),
        // Longer than an octal field of eleven digits says.
        (
            "beyond-8-GiB",
            (9 << 30) + 7,
            &[(0, 10), (8 << 30, 4096)][..],
        ),
    ] {
        let file = File::create(at.join(format!("sparse-{name}")))?;
        for (offset, length) in data {
            file.write_all_at(&vec![b'd'; *length], *offset)?;
        }
        file.set_len(length)?;
    }
    // Zeros that are data.
    fs::write(at.join("zeros"), vec![0; 40_000])?;
    // More pieces than a GNU header has room for, and than one block of further ones.
    let file = File::create(at.join("sparse-comb"))?;
    for tooth in 0..60 {
        file.write_all_at(b"tooth", tooth * 16384)?;
    }
    file.sync_all()?;
    let mut large = File::create(at.join("large"))?;
    for number in 0..(3_u32 << 18) {
        large.write_all(&number.wrapping_mul(2_654_435_761).to_le_bytes())?;
    }
    Ok(())
}

fn owners(at: &Path) -> Result<()> {
    for (name, user, group, mode) in [
        ("set-id", 0, 42, 0o6755),
        ("set-uid-of-nobody", 65534, 65534, 0o4711),
        ("no-rights", 1000, 1000, 0),
        ("huge-owner", 4_000_000_000, 3_000_000_000, 0o644),
        ("octal-limit", 0o7_777_777, 0o10_000_000, 0o644),
    ] {
        let path = at.join(name);
        fs::write(&path, name)?;
        own(&path, user, group)?;
        fs::set_permissions(&path, PermissionsExt::from_mode(mode))?;
    }
    for (name, mode) in [
        ("sticky", 0o1777),
        ("set-gid-directory", 0o2750),
        ("closed", 0),
    ] {
        let path = at.join(name);
        fs::create_dir(&path)?;
        fs::write(path.join("inside"), name)?;
        own(&path, 7, 8)?;
        fs::set_permissions(&path, PermissionsExt::from_mode(mode))?;
    }
    own(&at.join("up"), 1000, 1001)?;
    Ok(())
}

fn own(path: &Path, user: u32, group: u32) -> Result<()> {
    let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
    rustix::fs::chownat(CWD, path, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn attributes(at: &Path) -> Result<()> {
    let set = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::lsetxattr(at.join(name), key, value, XattrFlags::empty())
            .with_context(|| format!("{key} of {name}"))
    };
    fs::write(at.join("attributes"), "with attributes")?;
    set("attributes", "user.text", b"text")?;
    set("attributes", "user.empty", b"")?;
    set("attributes", "user.binary", &[0, 255, b'\n', b'=', 0])?;
    set("attributes", "user.long", &[b'v'; 3000])?;
    set("attributes", "trusted.secret", b"trusted")?;
    set("empty-directory", "user.of-a-directory", b"1")?;
    set("empty-directory", "trusted.of-a-directory", b"1")?;
    set("up", "trusted.of-a-link", b"1")?;
    set("null", "trusted.of-a-device", b"1")?;
    // cap_net_bind_service+ep, and the same with the root of a namespace (linux/capability.h).
    fs::write(at.join("capability"), "#!")?;
    let mut value = [0; 20];
    value[..6].copy_from_slice(&[1, 0, 0, 2, 0, 4]);
    set("capability", "security.capability", &value)?;
    fs::write(at.join("acl"), "with an ACL")?;
    set("acl", "system.posix_acl_access", &acl(6))?;
    fs::create_dir(at.join("acl-directory"))?;
    set("acl-directory", "system.posix_acl_access", &acl(7))?;
    set("acl-directory", "system.posix_acl_default", &acl(5))?;
    // What is made in it has an ACL by that, and this one has none.
    fs::write(at.join("acl-directory/inherits"), "")?;
    fs::write(at.join("acl-directory/without"), "")?;
    rustix::fs::lremovexattr(at.join("acl-directory/without"), "system.posix_acl_access")?;
    Ok(())
}

/// An ACL of six entries, one of them for a huge user (linux/posix_acl_xattr.h).
fn acl(permissions: u16) -> Vec<u8> {
    let none = u32::MAX;
    let entries = [
        (1, 7, none),
        (2, permissions, 1000),
        (2, 4, 4_000_000_000),
        (4, 5, none),
        (8, permissions, 50),
        (16, 7, none),
        (32, 0, none),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(u16::to_le_bytes(tag));
        bytes.extend(u16::to_le_bytes(permissions));
        bytes.extend(u32::to_le_bytes(id));
    }
    bytes
}

/// Times of every kind, in turn, from the bottom up.
fn times(at: &Path) -> Result<()> {
    const TIMES: [(i64, i64); 7] = [
        (1_700_000_000, 123_456_789),
        (1_700_000_000, 0),
        (0, 1),
        (-1, 500_000_000),
        (-86_400 * 365 * 2, 0),
        (8_589_934_592, 100),
        (1_234_567_890, 987_654_000),
    ];
    let mut paths = Vec::new();
    collect(at, &mut paths)?;
    for (number, path) in paths.iter().enumerate() {
        let (seconds, nanoseconds) = TIMES[number % TIMES.len()];
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// Everything below `at` and `at` itself, directories after what is in them, in a fixed order.
fn collect(at: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    if fs::symlink_metadata(at)?.is_dir() {
        let mut names = fs::read_dir(at)?.collect::<std::io::Result<Vec<_>>>()?;
        names.sort_by_key(fs::DirEntry::file_name);
        for name in names {
            collect(&name.path(), paths)?;
        }
    }
    paths.push(at.to_owned());
    Ok(())
}
