use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use super::*;

/// Something that is changed.
type Change = fn(&Path);

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn device(path: &Path, kind: FileType, minor: u32) {
    let number = rustix::fs::makedev(1, minor);
    rustix::fs::mknodat(CWD, path, kind, Mode::RUSR, number).unwrap();
}

fn plant(root: &Path) {
    fs::create_dir(root.join("dir")).unwrap();
    for name in ["file", "twin", "other", "attribute", "acl"] {
        fs::write(root.join(name), vec![b'x'; 20_000]).unwrap();
    }
    fs::hard_link(root.join("twin"), root.join("dir/twin")).unwrap();
    symlink("file", root.join("link")).unwrap();
    device(&root.join("fifo"), FileType::Fifo, 0);
    fs::write(root.join("sparse"), vec![0; 20_000]).unwrap();
}

/// Every time is the same afterwards, so that a change of something else is no change of a time.
fn settle(root: &Path) {
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            settle(&path);
        }
        set_time(&path, 1_000, 5);
    }
    set_time(root, 1_000, 5);
}

/// The changes that any user can make, with what must be noticed and where.
const CHANGES: [(&str, Aspect, Change); 15] = [
    ("file", Aspect::Missing, |root| {
        fs::remove_file(root.join("file")).unwrap()
    }),
    ("dir/new", Aspect::Extra, |root| {
        fs::write(root.join("dir/new"), "").unwrap()
    }),
    ("file", Aspect::Kind, |root| {
        fs::remove_file(root.join("file")).unwrap();
        fs::create_dir(root.join("file")).unwrap();
    }),
    ("fifo", Aspect::Mode, |root| {
        fs::set_permissions(root.join("fifo"), PermissionsExt::from_mode(0o440)).unwrap();
    }),
    ("file", Aspect::Mode, |root| {
        fs::set_permissions(root.join("file"), PermissionsExt::from_mode(0o4644)).unwrap();
    }),
    (".", Aspect::Mode, |root| {
        fs::set_permissions(root, PermissionsExt::from_mode(0o711)).unwrap();
    }),
    ("file", Aspect::Content, |root| {
        let mut content = vec![b'x'; 20_000];
        content[19_999] = b'y';
        fs::write(root.join("file"), content).unwrap();
    }),
    ("link", Aspect::Target, |root| {
        fs::remove_file(root.join("link")).unwrap();
        symlink("elsewhere", root.join("link")).unwrap();
    }),
    ("file", Aspect::Time, |root| {
        set_time(&root.join("file"), 1_000, 6)
    }),
    ("dir", Aspect::Time, |root| {
        set_time(&root.join("dir"), -1_000, 5)
    }),
    ("link", Aspect::Time, |root| {
        set_time(&root.join("link"), 1_000, 4)
    }),
    ("sparse", Aspect::Holes, |root| {
        fs::remove_file(root.join("sparse")).unwrap();
        fs::File::create(root.join("sparse"))
            .unwrap()
            .set_len(20_000)
            .unwrap();
    }),
    ("twin", Aspect::Links, |root| {
        fs::remove_file(root.join("twin")).unwrap();
        fs::write(root.join("twin"), vec![b'x'; 20_000]).unwrap();
    }),
    ("other", Aspect::Links, |root| {
        fs::remove_file(root.join("other")).unwrap();
        fs::hard_link(root.join("file"), root.join("other")).unwrap();
    }),
    ("attribute", Aspect::Attribute, |root| {
        let path = root.join("attribute");
        rustix::fs::setxattr(path, "user.a", b"1", XattrFlags::empty()).unwrap();
    }),
];

/// An ACL with one more user (linux/posix_acl_xattr.h).
fn acl() -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] = [
        (1, 6, u32::MAX),
        (2, 4, 1000),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 4, u32::MAX),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// The changes that root can make.
const AS_ROOT: [(&str, Aspect, Change); 6] = [
    ("file", Aspect::Owner, |root| {
        let owner = Some(Uid::from_raw(70_000));
        rustix::fs::chownat(CWD, root.join("file"), owner, None, AtFlags::empty()).unwrap();
    }),
    ("link", Aspect::Group, |root| {
        let group = Some(Gid::from_raw(70_000));
        rustix::fs::chownat(
            CWD,
            root.join("link"),
            None,
            group,
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .unwrap();
    }),
    ("fifo", Aspect::Kind, |root| {
        fs::remove_file(root.join("fifo")).unwrap();
        device(&root.join("fifo"), FileType::CharacterDevice, 3);
    }),
    ("attribute", Aspect::Attribute, |root| {
        // CAP_NET_BIND_SERVICE, effective and permitted (linux/capability.h).
        let mut value = [0; 20];
        value[..6].copy_from_slice(&[1, 0, 0, 2, 0, 4]);
        let path = root.join("attribute");
        rustix::fs::setxattr(path, "security.capability", &value, XattrFlags::empty()).unwrap();
    }),
    ("acl", Aspect::Attribute, |root| {
        let path = root.join("acl");
        rustix::fs::setxattr(path, "system.posix_acl_access", &acl(), XattrFlags::empty()).unwrap();
    }),
    ("dir", Aspect::Attribute, |root| {
        let path = root.join("dir");
        let name = "system.posix_acl_default";
        rustix::fs::setxattr(path, name, &acl(), XattrFlags::empty()).unwrap();
    }),
];

fn check(changes: &[(&str, Aspect, Change)]) {
    for (path, aspect, change) in changes {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for root in [one.path(), two.path()] {
            plant(root);
            settle(root);
        }
        let first = Tree::read(one.path()).unwrap();
        assert_eq!(differences(&first, &Tree::read(two.path()).unwrap()), []);
        change(two.path());
        if *aspect != Aspect::Time {
            settle(two.path());
        }
        let found = differences(&first, &Tree::read(two.path()).unwrap());
        let places: Vec<_> = found.iter().map(|d| (d.path.as_str(), d.aspect)).collect();
        let mut wanted = vec![(*path, *aspect)];
        match (*path, *aspect) {
            // Both names of what was one file, and of what has become one.
            ("twin", Aspect::Links) => wanted = vec![("dir/twin", *aspect), (*path, *aspect)],
            ("other", Aspect::Links) => wanted = vec![("file", *aspect), (*path, *aspect)],
            _ => {}
        }
        assert_eq!(places, wanted, "{found:?}");
    }
}

#[test]
fn each_kind_of_difference_is_noticed_and_nothing_else() {
    check(&CHANGES);
}

#[test]
fn each_kind_of_difference_that_root_can_make_is_noticed() {
    if !crate::setup::is_root() {
        eprintln!("not run: it needs root");
        return;
    }
    check(&AS_ROOT);
    // Between two devices, and between two sizes of a file of zeros.
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (root, minor, size) in [(one.path(), 3, 20_000), (two.path(), 5, 20_480)] {
        device(&root.join("device"), FileType::BlockDevice, minor);
        fs::write(root.join("zeros"), vec![0; size]).unwrap();
        settle(root);
    }
    let (first, second) = (
        Tree::read(one.path()).unwrap(),
        Tree::read(two.path()).unwrap(),
    );
    let found: Vec<_> = differences(&first, &second)
        .into_iter()
        .map(|d| (d.path, d.aspect))
        .collect();
    let wanted = [
        ("device".to_owned(), Aspect::Device),
        ("zeros".to_owned(), Aspect::Size),
        ("zeros".to_owned(), Aspect::Content),
    ];
    assert_eq!(found, wanted);
}
