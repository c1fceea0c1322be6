use super::*;
use std::fs::{create_dir_all, write};
use std::os::unix::fs::{PermissionsExt, symlink};

/// An initramfs and a new root, as directories; the overrides that make [`check`] take them for real.
struct Stage {
    dir: tempfile::TempDir,
    overrides: Overrides,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old");
        create_dir_all(&old).unwrap();
        write(old.join("init"), "agent").unwrap();
        let stage = Self {
            overrides: Overrides {
                pid: Some(1),
                old_root: Some(old),
                old_magic: Some(sys_mount::RAMFS_MAGIC),
                old_device: Some(u64::MAX),
            },
            dir,
        };
        stage.program("usr/lib/systemd/systemd", 0o755);
        stage.link("/usr/lib/systemd/systemd", "usr/sbin/init");
        stage.link("usr/sbin", "sbin");
        stage
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("new")
    }

    fn program(&self, path: &str, mode: u32) {
        let path = self.root().join(path);
        create_dir_all(path.parent().unwrap()).unwrap();
        write(&path, "").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn link(&self, to: &str, path: &str) {
        let path = self.root().join(path);
        create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
    }

    fn check(&self) -> Result<Checked, Error> {
        let root = self.root();
        let to = To {
            root: &root,
            init: None,
            args: &[],
        };
        check(&to, &self.overrides)
    }
}

#[test]
fn an_initramfs_in_memory_with_a_root_on_another_device_may_be_left() {
    let mut stage = Stage::new();
    assert_eq!(stage.check().unwrap().inits, ["/sbin/init"]);
    stage.overrides.old_magic = Some(sys_mount::TMPFS_MAGIC);
    assert!(stage.check().is_ok());
}

#[test]
fn each_check_alone_stops_the_deletion_of_what_may_be_a_real_root() {
    type Spoil = fn(&mut Stage);
    let cases: [(Spoil, &str); 7] = [
        (|s| s.overrides.pid = Some(4711), "process 4711"),
        (|s| s.overrides.pid = None, "not PID 1"),
        (
            |s| std::fs::remove_file(s.dir.path().join("old/init")).unwrap(),
            "no regular file /init",
        ),
        (
            |s| {
                let init = s.dir.path().join("old/init");
                std::fs::remove_file(&init).unwrap();
                symlink("/sbin/init", init).unwrap();
            },
            "no regular file /init",
        ),
        // ext4's magic, of <linux/magic.h>.
        (|s| s.overrides.old_magic = Some(0xef53), "type 0xef53"),
        (|s| s.overrides.old_device = None, "nothing is mounted at"),
        (
            |s| std::fs::remove_dir_all(s.root().join("usr")).unwrap(),
            "give one with init=",
        ),
    ];
    for (spoil, words) in cases {
        let mut stage = Stage::new();
        spoil(&mut stage);
        let error = stage.check().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_root_that_is_a_file_is_refused() {
    let stage = Stage::new();
    std::fs::remove_dir_all(stage.root()).unwrap();
    write(stage.root(), "").unwrap();
    assert!(matches!(stage.check(), Err(Error::NotDirectory(_))));
}

#[test]
fn the_init_that_was_asked_for_comes_first_if_it_can_be_executed() {
    let stage = Stage::new();
    stage.program("bin/sh", 0o755);
    stage.program("opt/not-executable", 0o644);
    create_dir_all(stage.root().join("etc/init")).unwrap();
    stage.link("/etc/passwd-of-the-host", "bin/init");
    for (asked, expected) in [
        (None, vec!["/sbin/init"]),
        (Some("/bin/sh"), vec!["/bin/sh", "/sbin/init"]),
        (Some("/opt/not-executable"), vec!["/sbin/init"]),
        (Some("/no/such"), vec!["/sbin/init"]),
        (
            Some("/../../../../../bin/sh"),
            vec!["/../../../../../bin/sh", "/sbin/init"],
        ),
    ] {
        assert_eq!(
            find_inits(&stage.root(), asked).unwrap(),
            expected,
            "{asked:?}"
        );
    }
    // A shell is no init unless it is asked for.
    std::fs::remove_file(stage.root().join("sbin/init")).unwrap();
    assert!(find_inits(&stage.root(), None).is_err());
}
