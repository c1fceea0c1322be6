//! The builder over a small root made of files.

// clippy.toml permits these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs::{create_dir_all, read, write};
use std::path::{Path, PathBuf};

use backstay_initramfs::{Error, Options, build, settings as settings_in};

/// A static ELF header, as far as the builder looks at it.
fn program() -> Vec<u8> {
    let mut bytes = vec![0_u8; 0x80];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes
}

fn root(merged: bool) -> (tempfile::TempDir, Options) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let modules = root.join(if merged {
        "usr/lib/modules/6.12.1"
    } else {
        "lib/modules/6.12.1"
    });
    create_dir_all(modules.join("kernel/fs")).unwrap();
    for (name, text) in [
        (
            "modules.dep",
            "kernel/fs/vfat.ko.xz: kernel/fs/fat.ko.xz\nkernel/fs/fat.ko.xz:\nkernel/fs/btrfs.ko.xz: kernel/fs/xor.ko.xz\nkernel/fs/xor.ko.xz:\nkernel/fs/e1000.ko.xz:\n",
        ),
        (
            "modules.alias",
            "# Aliases\nalias fs-btrfs btrfs\nalias pci:e1000 e1000\n",
        ),
        (
            "modules.softdep",
            "softdep btrfs pre: crc32c\nsoftdep e1000 pre: x\n",
        ),
        ("modules.builtin", "kernel/b.ko\nkernel/a.ko\n"),
        ("kernel/fs/btrfs.ko.xz", "btrfs"),
        ("kernel/fs/xor.ko.xz", "xor"),
        ("kernel/fs/vfat.ko.xz", "vfat"),
        ("kernel/fs/fat.ko.xz", "fat"),
        ("kernel/fs/e1000.ko.xz", "e1000"),
    ] {
        write(modules.join(name), text).unwrap();
    }
    write(dir.path().join("agent"), program()).unwrap();
    let options = Options {
        root,
        release: "6.12.1".into(),
        agent: dir.path().join("agent"),
        output: dir.path().join("initrd.img"),
        extra_modules: Vec::new(),
        shell: None,
    };
    (dir, options)
}

/// Name and data of each entry, read by another implementation.
fn entries(archive: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = read(archive).unwrap();
    let mut rest: &[u8] = &bytes;
    let mut all = Vec::new();
    loop {
        let mut reader = cpio::newc::Reader::new(rest).unwrap();
        if reader.entry().is_trailer() {
            return all;
        }
        let name = reader.entry().name().to_owned();
        let mut data = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut data).unwrap();
        all.push((name, data));
        rest = reader.finish().unwrap();
    }
}

#[test]
fn keys_and_policy_come_along_and_the_administrators_key_replaces_the_vendors() {
    let (_dir, options) = root(true);
    for (path, text) in [
        ("usr/lib/backstay/keys/vendor.pub", "vendor"),
        ("usr/lib/backstay/keys/both.pub", "vendor"),
        ("etc/backstay/keys/both.pub", "administrator"),
        ("etc/backstay/keys/secret.key", "stays out"),
        ("etc/backstay/policy.toml", "[tarball]"),
    ] {
        let path = options.root.join(path);
        create_dir_all(path.parent().unwrap()).unwrap();
        write(path, text).unwrap();
    }
    build(&options).unwrap();
    let all = entries(&options.output);
    let settings: Vec<(&str, &[u8])> = all
        .iter()
        .filter(|(name, _)| name.starts_with("etc/") && name.contains('.'))
        .map(|(name, data)| (name.as_str(), data.as_slice()))
        .collect();
    let wanted: [(&str, &[u8]); 3] = [
        ("etc/backstay/keys/both.pub", b"administrator"),
        ("etc/backstay/keys/vendor.pub", b"vendor"),
        ("etc/backstay/policy.toml", b"[tarball]"),
    ];
    assert_eq!(settings, wanted);
    let read: Vec<(String, Vec<u8>)> = settings_in(&options.output).unwrap().into_iter().collect();
    let wanted = wanted.map(|(name, bytes)| {
        let name = name.strip_prefix("etc/backstay/").unwrap();
        (name.to_owned(), bytes.to_vec())
    });
    assert_eq!(read, wanted);
    write(&options.output, "no archive").unwrap();
    assert!(settings_in(&options.output).is_err());
}

#[test]
fn an_archive_that_holds_a_passwords_hash_is_for_its_owner_alone_from_its_first_byte() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let (_dir, options) = root(true);
    let policy = options.root.join("etc/backstay/policy.toml");
    create_dir_all(policy.parent().unwrap()).unwrap();
    let mode = || std::fs::metadata(&options.output).unwrap().mode() & 0o777;
    write(&policy, "[tarball]\nunsigned = true\n").unwrap();
    build(&options).unwrap();
    let before = mode();
    assert_ne!(before, 0o600, "as the umask has it");
    write(&policy, "[console]\npassword = \"$argon2id$\"\n").unwrap();
    // What an interrupted run left, which somebody has open, and the archive before: both for everybody.
    let left = options.output.with_file_name("initrd.img.new");
    write(&left, "left").unwrap();
    std::fs::set_permissions(&left, PermissionsExt::from_mode(0o666)).unwrap();
    let mut open = std::fs::File::open(&left).unwrap();
    build(&options).unwrap();
    assert_eq!(mode(), 0o600);
    let mut seen = String::new();
    std::io::Read::read_to_string(&mut open, &mut seen).unwrap();
    assert_eq!(seen, "left");
    build(&options).unwrap();
    assert_eq!(mode(), 0o600);
    std::fs::remove_file(&policy).unwrap();
    build(&options).unwrap();
    assert_eq!(mode(), before);
}

#[test]
fn a_key_or_a_policy_that_would_never_end_is_refused() {
    let (_dir, options) = root(true);
    let keys = options.root.join("etc/backstay/keys");
    create_dir_all(&keys).unwrap();
    let long = options.root.join("long");
    write(&long, [b' '; 65537]).unwrap();
    let fifo = options.root.join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    for target in [&fifo, Path::new("/dev/zero"), &long] {
        for link in [
            keys.join("a.pub"),
            options.root.join("etc/backstay/policy.toml"),
        ] {
            std::os::unix::fs::symlink(target, &link).unwrap();
            let refused = build(&options).unwrap_err().to_string();
            assert!(refused.contains(link.to_str().unwrap()), "{refused}");
            assert!(!refused.contains('\n'), "{refused}");
            std::fs::remove_file(link).unwrap();
        }
    }
    build(&options).unwrap();
}

#[test]
fn the_archive_holds_the_agent_the_modules_and_their_tables_and_no_more() {
    for merged in [false, true] {
        let (_dir, options) = root(merged);
        let built = build(&options).unwrap();
        assert_eq!(built.modules, ["btrfs", "fat", "vfat", "xor"]);
        assert_eq!(read(&options.output).unwrap().len() as u64, built.bytes);
        let all = entries(&options.output);
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "dev",
                "lib",
                "lib/modules",
                "lib/modules/6.12.1",
                "lib/modules/6.12.1/kernel",
                "lib/modules/6.12.1/kernel/fs",
                "proc",
                "run",
                "sys",
                "sysroot",
                "dev/console",
                "dev/null",
                "init",
                "lib/modules/6.12.1/kernel/fs/btrfs.ko.xz",
                "lib/modules/6.12.1/kernel/fs/fat.ko.xz",
                "lib/modules/6.12.1/kernel/fs/vfat.ko.xz",
                "lib/modules/6.12.1/kernel/fs/xor.ko.xz",
                "lib/modules/6.12.1/modules.alias",
                "lib/modules/6.12.1/modules.builtin",
                "lib/modules/6.12.1/modules.dep",
                "lib/modules/6.12.1/modules.softdep",
            ]
        );
        let text = |name: &str| {
            let (_, data) = all.iter().find(|(n, _)| n.ends_with(name)).unwrap();
            String::from_utf8(data.clone()).unwrap()
        };
        assert_eq!(text("modules.alias"), "alias fs-btrfs btrfs\n");
        assert_eq!(text("modules.softdep"), "softdep btrfs pre: crc32c\n");
        assert_eq!(text("modules.dep").lines().count(), 4);
        assert_eq!(text("modules.builtin"), "kernel/a.ko\nkernel/b.ko\n");
        assert_eq!(text("btrfs.ko.xz"), "btrfs");
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let (_first, a) = root(true);
    // The same files made again, in the other place, at another time, read in another order.
    let (_second, b) = root(false);
    build(&a).unwrap();
    build(&b).unwrap();
    assert_eq!(read(&a.output).unwrap(), read(&b.output).unwrap());
    let before = read(&a.output).unwrap();
    build(&a).unwrap();
    assert_eq!(read(&a.output).unwrap(), before);
}

#[test]
fn a_shell_and_further_modules_come_only_when_asked_for() {
    let (dir, mut options) = root(true);
    write(dir.path().join("busybox"), program()).unwrap();
    options.shell = Some(dir.path().join("busybox"));
    options.extra_modules = vec!["pci:e1000".into()];
    assert!(
        build(&options)
            .unwrap()
            .modules
            .contains(&"e1000".to_owned())
    );
    assert!(
        entries(&options.output)
            .iter()
            .any(|(name, _)| name == "bin/sh")
    );
}

#[test]
fn what_cannot_boot_is_refused_and_the_old_archive_stays() {
    type Spoil = fn(&mut Options, &Path);
    let cases: [(Spoil, &str); 6] = [
        (|o, _| o.release = "6.12.2".into(), "run depmod"),
        (|o, _| o.release = "../x".into(), "not a kernel release"),
        (
            |o, dir| {
                write(dir.join("agent"), "#!/bin/sh")
                    .map(|()| drop(o.clone()))
                    .unwrap()
            },
            "static",
        ),
        (|o, _| o.agent = PathBuf::from("/no/agent"), "/no/agent"),
        (
            |o, _| o.extra_modules = vec!["pci:e1000".into(), "zzz".into()],
            "has no module \"zzz\"",
        ),
        (
            |o, _| {
                let modules = o.root.join("usr/lib/modules/6.12.1");
                write(modules.join("modules.dep"), "kernel/fs/xor.ko.xz:\n").unwrap();
            },
            "no btrfs",
        ),
    ];
    for (spoil, words) in cases {
        let (dir, mut options) = root(true);
        write(&options.output, "old").unwrap();
        spoil(&mut options, dir.path());
        let error: Error = build(&options).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(read(&options.output).unwrap(), b"old");
    }
}

#[test]
fn a_module_that_vanishes_while_building_leaves_neither_a_broken_archive_nor_a_half_one() {
    let (dir, options) = root(true);
    write(&options.output, "old").unwrap();
    std::fs::remove_file(
        options
            .root
            .join("usr/lib/modules/6.12.1/kernel/fs/xor.ko.xz"),
    )
    .unwrap();
    assert!(build(&options).is_err());
    assert_eq!(read(&options.output).unwrap(), b"old");
    assert!(!dir.path().join("initrd.img.new").exists());
}
