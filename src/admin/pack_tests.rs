use super::*;
use std::os::unix::fs::symlink;

fn args(root: &Path, output: PathBuf, key: Option<PathBuf>) -> Pack {
    Pack {
        root: root.to_owned(),
        output,
        key,
        password_fd: None,
        zstd_level: None,
    }
}

#[test]
fn names_and_levels_that_do_not_go_together_are_refused() {
    let with = |name: &str, level| Pack {
        zstd_level: level,
        ..args(Path::new("/"), name.into(), None)
    };
    for (name, level, good) in [
        ("a.tar.zst", Some(19), true),
        ("a.tar.gz", Some(19), false),
        ("a.tar.gz", None, true),
        ("a.zip", None, false),
    ] {
        assert_eq!(compression(&with(name, level)).is_ok(), good, "{name}");
    }
}

#[test]
fn an_archive_and_its_signature_appear_together_and_nothing_is_left_over() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: it needs root");
        return;
    }
    let (root, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(root.path().join("etc")).unwrap();
    std::fs::write(root.path().join("etc/machine-id"), "8f3a\n").unwrap();
    symlink("nowhere", root.path().join("etc/shadow")).unwrap();
    let keys = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let key = to.path().join("secret.key");
    std::fs::write(&key, keys.sk.to_box(None).unwrap().to_string()).unwrap();
    let output = to.path().join("factory.tar.zst");
    // What an interrupted one left.
    std::fs::write(to.path().join(".factory.tar.zst.new"), "half").unwrap();
    let args = args(root.path(), output.clone(), Some(key));
    let mut lines = Vec::new();
    let made = pack(&args, &mut |line| lines.push(line.to_owned())).unwrap();
    assert_eq!(made.entries, 4);
    assert!(
        lines.iter().any(|line| line.contains("etc/machine-id")),
        "{lines:?}"
    );
    assert!(made.signature.unwrap().is_file() && output.is_file());
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 3);
    let first = std::fs::read(&output).unwrap();
    pack(&args, &mut |_| {}).unwrap();
    assert!(first == std::fs::read(&output).unwrap());

    // Without a key the old signature goes, and a failure leaves what was there.
    let unsigned = Pack { key: None, ..args };
    pack(&unsigned, &mut |_| {}).unwrap();
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 2);
    let missing = Pack {
        root: "/nonexistent".into(),
        ..unsigned
    };
    assert!(pack(&missing, &mut |_| {}).is_err());
    let inside = Pack {
        root: to.path().to_owned(),
        ..missing
    };
    let refused = pack(&inside, &mut |_| {});
    assert!(matches!(refused, Err(Error::ArchiveInside(_))));
    assert_eq!(std::fs::read(&output).unwrap(), first);
}

#[test]
fn what_is_signed_is_what_was_packed_and_not_what_took_its_name() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: it needs root");
        return;
    }
    let (root, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keys = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let key = to.path().join("secret.key");
    std::fs::write(&key, keys.sk.to_box(None).unwrap().to_string()).unwrap();
    let output = to.path().join("factory.tar");
    let new = to.path().join(".factory.tar.new");
    let args = args(root.path(), output.clone(), Some(key));
    // Exchanged while it is signed.
    let result = pack(&args, &mut |line| {
        if line == "signing" {
            std::fs::remove_file(&new).unwrap();
            std::fs::write(&new, "another's").unwrap();
        }
    });
    assert!(matches!(result, Err(Error::OutputLost(_))));
    assert!(!output.exists() && !signature_of(&output).exists());
    assert_eq!(std::fs::read(&new).unwrap(), b"another's");
    // Exchanged before that.
    let packed = New::create(&to.path().join("other.tar")).unwrap();
    std::io::Write::write_all(&mut packed.file(), b"packed").unwrap();
    std::fs::rename(&new, to.path().join(".other.tar.new")).unwrap();
    let mut read = Vec::new();
    written(&args, &packed)
        .unwrap()
        .read_to_end(&mut read)
        .unwrap();
    assert_eq!(read, b"packed");
}

#[test]
fn two_commands_for_one_archive_do_not_mix() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: it needs root");
        return;
    }
    let (root, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = to.path().join("factory.tar");
    let args = args(root.path(), output.clone(), None);
    let other = New::create(&output).unwrap();
    let text = pack(&args, &mut |_| {}).unwrap_err().to_string();
    assert!(text.starts_with("another 'factory pack'"), "{text}");
    assert!(to.path().join(".factory.tar.new").exists());
    // It was killed.
    drop(other);
    pack(&args, &mut |_| {}).unwrap();
    assert!(!to.path().join(".factory.tar.new").exists());
}

#[test]
fn names_from_the_root_do_not_reach_the_terminal_raw() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: it needs root");
        return;
    }
    let (root, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(root.path().join("etc/ssh")).unwrap();
    let wild = "etc/ssh/ssh_host_\x1b[2J\n_key";
    std::fs::write(root.path().join(wild), "secret").unwrap();
    let mut lines = Vec::new();
    let output = to.path().join("factory.tar");
    let args = args(root.path(), output, None);
    let made = pack(&args, &mut |line| lines.push(line.to_owned())).unwrap();
    assert!(lines.iter().any(|line| line.contains("ssh_host_")));
    for line in &lines {
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    let missing = |what: &str| {
        let line = made.warnings.iter();
        line.filter(|line| line.starts_with(what)).count()
    };
    assert_eq!(missing("no init ("), 1);
    let lacks_init = || {
        let root = open(root.path()).unwrap();
        unbootable(&root)
            .iter()
            .any(|line| line.contains("no init ("))
    };
    let at = |path: &str| root.path().join(path);
    std::fs::create_dir_all(at("sbin")).unwrap();
    std::fs::create_dir_all(at("etc")).unwrap();
    for (mode, lacking) in [(0o644, true), (0o755, false)] {
        std::fs::write(at("etc/program"), "").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(at("etc/program"), mode).unwrap();
        std::fs::remove_file(at("sbin/init")).ok();
        symlink("/etc/program", at("sbin/init")).unwrap();
        assert_eq!(lacks_init(), lacking);
    }
    std::fs::remove_file(at("sbin/init")).unwrap();
    symlink("/etc", at("sbin/init")).unwrap();
    assert!(lacks_init());
}

#[test]
fn a_password_that_cannot_be_read_names_the_option() {
    let error = password(Some(u32::MAX)).unwrap_err().to_string();
    assert!(error.starts_with("--password-fd 4294967295"), "{error}");
}

#[test]
fn progress_is_never_finished_before_it_is() {
    let line = |bytes, about| progress(bytes, about, Duration::from_secs(8));
    assert_eq!(line(12 << 20, 100 << 20), "12 %, 12.0 MiB, 8 s");
    assert_eq!(line(200 << 20, 100 << 20), "99 %, 200.0 MiB, 8 s");
    assert_eq!(line(1, 0), "0 %, 1 B, 8 s");
}
