//! `/etc/grub.d/09_backstay`, run as grub-mkconfig runs it, with GRUB's own functions replaced: whatever they answer, a
//! menu is made.

// clippy.toml permits these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used)]

use std::fs::{set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/grub-entries/09_backstay");
const LIBRARY: &str = r#"
is_path_readable_by_grub() { return "$UNREADABLE"; }
prepare_grub_to_access_device() { echo "set root=$*"; }
make_system_path_relative_to_its_root() { return "$NO_PATH"; }
gettext_printf() { printf "$@"; }
"#;
/// What of `$root` is kept and given back.
const KEPT: [&str; 2] = ["set backstay_root=\"$root\"", "set root=\"$backstay_root\""];

fn program(path: &Path, text: &str) {
    write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// The lines that the script printed, where `backstay` and `grub-probe` are these scripts.
fn menu(backstay: &str, probe: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("grub-mkconfig_lib"), LIBRARY).unwrap();
    program(&dir.path().join("backstay"), backstay);
    program(&dir.path().join("grub-probe"), probe);
    let ran = Command::new("sh")
        .arg(SCRIPT)
        .env("PATH", format!("{}:/usr/bin:/bin", dir.path().display()))
        .env("pkgdatadir", dir.path())
        .envs([("UNREADABLE", "0"), ("NO_PATH", "0")])
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{}: {errors}", ran.status);
    let printed = String::from_utf8(ran.stdout).unwrap();
    printed.lines().map(String::from).collect()
}

const ENTRIES: &str = "echo the entries";
const DEVICES: [(&str, &str); 2] = [("GRUB_DEVICE", "/dev/a"), ("GRUB_DEVICE_BOOT", "/dev/b")];

#[test]
fn the_devices_of_the_store_and_of_boot_are_named() {
    let lines = menu(ENTRIES, "exit 0", &DEVICES);
    for line in [
        "set root=/dev/a",
        "set backstay_device=\"$root\"",
        "set root=/dev/b",
        "set backstay_boot_dir=\"($root)\"",
        KEPT[0],
        KEPT[1],
        "the entries",
    ] {
        assert!(lines.iter().any(|it| it == line), "{line}: {lines:?}");
    }
    assert!(menu("exit 4", "exit 0", &DEVICES).is_empty());
}

#[test]
fn what_grub_does_not_know_is_left_out_and_without_a_device_all_entries_are() {
    let with = |probe, environment: &[(&str, &str)]| {
        menu(ENTRIES, probe, &[&DEVICES, environment].concat())
    };
    let unknown = "echo usage >&2; exit 64";
    assert!(with(unknown, &[]).is_empty());
    assert!(menu(ENTRIES, unknown, &[]).is_empty());
    let neither = [("UNREADABLE", "1"), ("NO_PATH", "1")];
    assert!(with("exit 0", &neither).is_empty());
    let boot_is_unknown = "case $* in */dev/b*) exit 64;; esac";
    for (lines, there, left_out) in [
        (with(boot_is_unknown, &[]), "/dev/a", "/dev/b"),
        (with("exit 0", &[("UNREADABLE", "1")]), "/dev/b", "/dev/a"),
    ] {
        let names = |device: &str| lines.iter().any(|it| it == &format!("set root={device}"));
        assert!(names(there) && !names(left_out), "{lines:?}");
        let kept = KEPT.map(|line| lines.iter().position(|it| it == line));
        assert_eq!(kept, [Some(0), Some(lines.len() - 2)], "{lines:?}");
        assert_eq!(lines.last().map(String::as_str), Some("the entries"));
    }
}
