use super::*;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

struct Roots {
    from: tempfile::TempDir,
    to: tempfile::TempDir,
}

impl Roots {
    fn new() -> Self {
        Self {
            from: tempfile::tempdir().unwrap(),
            to: tempfile::tempdir().unwrap(),
        }
    }

    fn copy(&self, path: &str) -> Result<(), Error> {
        let (from, to) = (
            File::open(self.from.path()).unwrap(),
            File::open(self.to.path()).unwrap(),
        );
        copy(from.as_fd(), Path::new(path), to.as_fd())
    }
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[test]
fn a_tree_is_copied_with_its_metadata_and_its_parents() {
    let roots = Roots::new();
    let (from, to) = (roots.from.path(), roots.to.path());
    fs::create_dir_all(from.join("etc/app/sub/empty")).unwrap();
    fs::write(from.join("etc/other"), "not asked for").unwrap();
    fs::write(from.join("etc/app/b"), "content").unwrap();
    fs::hard_link(from.join("etc/app/b"), from.join("etc/app/sub/a")).unwrap();
    symlink("/absolute", from.join("etc/app/link")).unwrap();
    File::create(from.join("etc/app/sparse"))
        .unwrap()
        .set_len(8 << 20)
        .unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        from.join("etc/app/fifo"),
        FileType::Fifo,
        Mode::RUSR,
        0,
    )
    .unwrap();
    fs::set_permissions(from.join("etc/app/b"), PermissionsExt::from_mode(0o4751)).unwrap();
    fs::set_permissions(from.join("etc/app"), PermissionsExt::from_mode(0o1750)).unwrap();
    fs::set_permissions(from.join("etc"), PermissionsExt::from_mode(0o711)).unwrap();
    let paths = [
        "etc/app/sub/empty",
        "etc/app/sub/a",
        "etc/app/sub",
        "etc/app/link",
        "etc/app/fifo",
        "etc/app/sparse",
        "etc/app",
        "etc",
    ];
    for (number, path) in paths.iter().enumerate() {
        set_time(
            &from.join(path),
            -5 + i64::try_from(number).unwrap(),
            123_456_789,
        );
    }
    roots.copy("/etc/app").unwrap();
    for path in paths {
        let (old, new) = (
            fs::symlink_metadata(from.join(path)).unwrap(),
            fs::symlink_metadata(to.join(path)).unwrap(),
        );
        let all = |stat: &fs::Metadata| {
            (
                stat.mode(),
                stat.uid(),
                stat.gid(),
                stat.mtime(),
                stat.mtime_nsec(),
            )
        };
        assert_eq!(all(&old), all(&new), "{path}");
    }
    assert_eq!(fs::read(to.join("etc/app/sub/a")).unwrap(), b"content");
    let inode = |path: &str| fs::metadata(to.join(path)).unwrap().ino();
    assert_eq!(inode("etc/app/b"), inode("etc/app/sub/a"));
    assert_eq!(
        fs::read_link(to.join("etc/app/link")).unwrap(),
        Path::new("/absolute")
    );
    assert!(fs::metadata(to.join("etc/app/sparse")).unwrap().blocks() < 64);
    assert!(!to.join("etc/other").exists());
}

#[test]
fn a_second_path_below_the_same_parent_is_added() {
    let roots = Roots::new();
    fs::create_dir(roots.from.path().join("etc")).unwrap();
    for name in ["etc/a", "etc/b"] {
        fs::write(roots.from.path().join(name), name).unwrap();
        roots.copy(name).unwrap();
    }
    assert_eq!(
        fs::read_dir(roots.to.path().join("etc")).unwrap().count(),
        2
    );
    // Nothing is overwritten.
    assert!(roots.copy("etc/a").is_err());
}

#[test]
fn no_link_is_followed_on_either_side() {
    let roots = Roots::new();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir(elsewhere.path().join("app")).unwrap();
    symlink(elsewhere.path(), roots.from.path().join("etc")).unwrap();
    assert!(roots.copy("etc/app").is_err());
    // As the last name it is copied as a link.
    roots.copy("etc").unwrap();
    assert!(roots.to.path().join("etc").is_symlink());

    let roots = Roots::new();
    fs::create_dir_all(roots.from.path().join("etc/app")).unwrap();
    symlink(elsewhere.path(), roots.to.path().join("etc")).unwrap();
    assert!(roots.copy("etc/app").is_err());
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}

#[test]
fn a_path_that_leads_out_is_refused() {
    let roots = Roots::new();
    for path in ["", "/", ".", "etc/../..", ".."] {
        assert!(matches!(roots.copy(path), Err(Error::Path(_))), "{path}");
    }
}

#[test]
fn what_lies_behind_a_link_is_not_left_out_in_silence() {
    let roots = Roots::new();
    let from = roots.from.path();
    fs::create_dir_all(from.join("usr/lib/appl")).unwrap();
    fs::create_dir_all(from.join("srv/a")).unwrap();
    symlink("usr/lib", from.join("lib")).unwrap();
    symlink("/usr/../usr/lib/", from.join("srv/a/up")).unwrap();
    symlink("../lib", from.join("usr/own")).unwrap();
    let there = |path: &str| is_there(File::open(from).unwrap().as_fd(), Path::new(path));
    // A link at the path itself is copied as one.
    for path in ["/usr/lib/appl", "/usr", "/lib", "/srv/a/up"] {
        assert!(there(path).unwrap(), "{path}");
    }
    for path in ["/usr/lib/none", "/none/appl"] {
        assert!(!there(path).unwrap(), "{path}");
    }
    for (path, link, instead) in [
        ("/lib/appl", "/lib", "/usr/lib/appl"),
        ("/lib/none/x", "/lib", "/usr/lib/none/x"),
        ("/srv/a/up/appl", "/srv/a/up", "/usr/lib/appl"),
        ("/usr/own/appl", "/usr/own", "/lib/appl"),
    ] {
        let text = there(path).unwrap_err().to_string();
        let says = format!("path {path} goes through the link {link}: declare {instead} in");
        assert!(text.contains(&says), "{text}");
    }
    assert!(matches!(there("/../x"), Err(Error::Path(_))));
}
