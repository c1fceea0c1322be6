//! Who can read the hash of the console's password: it lies in `policy.toml` and in every initramfs with the agent.

use super::judge::{Finding, Weight};
use crate::agent::policy::{self, PATH};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the distribution keeps its initramfs, and what their names begin with.
const BOOT: &str = "/boot";
const INITRAMFS: [&str; 2] = ["initrd", "initramfs"];

/// What the policy in `root` and the initramfs give away. `recovery` has those of the recovery kernels; `is_fat` says
/// whether a file lies where it has no mode of its own; `holds` whether an initramfs has a policy, if that is known.
pub fn findings(
    root: &Path,
    recovery: &[PathBuf],
    is_fat: &dyn Fn(&Path) -> bool,
    holds: &dyn Fn(&Path) -> Option<bool>,
) -> Vec<Finding> {
    let path = below(root, PATH);
    let text = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            let what = format!("{PATH} cannot be read ({error})");
            return vec![problem("policy-unread", what, "run this as root")];
        }
    };
    let mut found = Vec::new();
    let has_password = match policy::parse(&text) {
        Ok(policy) => policy.console.password.is_some(),
        Err(error) => {
            found.push(problem(
                "policy-not-understood",
                format!("{PATH}: {error}"),
                "until then it allows nothing, and no recovery kernel is made",
            ));
            backstay_initramfs::may_hold_secret(text.as_bytes())
        }
    };
    if !has_password {
        return found;
    }
    if is_for_others(&path) {
        let what = format!("{PATH} holds the hash of a password, and others than root can read it");
        let remedy = format!("run 'chown root:root {PATH}' and 'chmod 600 {PATH}'; {ANOTHER}");
        found.push(problem("policy-readable", what, remedy));
    }
    let ours = recovery.iter().map(|path| (path.clone(), true));
    let hosts = of_boot(&below(root, BOOT));
    let hosts = hosts.into_iter().map(|path| (path, false));
    for (path, is_ours) in ours.chain(hosts) {
        if is_for_others(&path) && (is_ours || holds(&path) != Some(false)) {
            found.push(readable(&path, is_fat(&path)));
        }
    }
    found
}

/// What has been read stays read.
const ANOTHER: &str =
    "then take another password ('backstay password'), if somebody may have read it";

fn readable(path: &Path, is_fat: bool) -> Finding {
    let shown = path.display();
    let what = format!(
        "{shown} holds the hash of the console's password, and others than root can read it"
    );
    let remedy = match is_fat {
        true => format!("mount its file system with umask=0077 (/etc/fstab); {ANOTHER}"),
        false => format!("run 'chmod 600 {shown}'; {ANOTHER}"),
    };
    problem("initramfs-readable", what, remedy)
}

fn problem(id: &'static str, what: String, remedy: impl Into<String>) -> Finding {
    Finding {
        weight: Weight::Problem,
        id,
        what,
        remedy: remedy.into(),
    }
}

/// The distribution's initramfs, sorted. Links lead to others of them.
fn of_boot(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_type().is_ok_and(|it| it.is_file()))
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            INITRAMFS.iter().any(|start| name.starts_with(start))
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Whether somebody other than root can read a file that is there. What lies above it is not looked at: it is kept
/// and copied elsewhere with the mode that it has.
fn is_for_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|it| is_readable(it.mode(), it.uid(), it.gid()))
}

/// By mode, owner and group. In tests, whoever runs them stands for root.
fn is_readable(mode: u32, owner: u32, group: u32) -> bool {
    let root = if cfg!(test) {
        rustix::process::geteuid().as_raw()
    } else {
        0
    };
    mode & 0o004 != 0 || (mode & 0o040 != 0 && group != 0) || owner != root
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const HASH: &str =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    fn put(root: &Path, path: &str, text: &str, mode: u32) -> PathBuf {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path
    }

    fn ids(findings: &[Finding]) -> Vec<&'static str> {
        findings.iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn who_can_read_a_file_is_told_by_mode_owner_and_group() {
        let root = rustix::process::geteuid().as_raw();
        for (mode, owner, group, wanted) in [
            (0o100_600, root, 0, false),
            (0o100_640, root, 0, false),
            (0o100_640, root, 6, true),
            (0o100_604, root, 0, true),
            (0o100_644, root, 0, true),
            (0o100_600, root + 1, 0, true),
            (0o100_602, root, 0, false),
        ] {
            assert_eq!(is_readable(mode, owner, group), wanted, "{mode:o} {group}");
        }
    }

    #[test]
    fn a_hash_that_others_can_read_is_found_wherever_it_lies() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let with = format!("[console]\npassword = \"{HASH}\"\n");
        put(root, "boot/initrd.img-6.1", "x", 0o644);
        put(root, "boot/initrd.img-6.2", "x", 0o600);
        put(root, "boot/initramfs-6.3.img", "x", 0o644);
        put(root, "boot/vmlinuz-6.1", "x", 0o644);
        let ours = put(root, "kernels/recovery/initrd.img", "x", 0o644);
        let missing = root.join("kernels/recovery-previous/initrd.img");
        let recovery = [ours.clone(), missing];
        let look = || {
            let without_agent = |path: &Path| Some(!path.ends_with("initramfs-6.3.img"));
            findings(root, &recovery, &|_| false, &without_agent)
        };
        assert!(look().is_empty(), "no policy");
        put(root, "etc/backstay/policy.toml", "[console]\n", 0o644);
        assert!(look().is_empty(), "no password");
        let policy = put(root, "etc/backstay/policy.toml", &with, 0o644);
        let found = look();
        let readable = "initramfs-readable";
        assert_eq!(ids(&found), ["policy-readable", readable, readable]);
        assert!(found[1].what.contains("kernels/recovery/initrd.img"));
        assert!(found[2].what.contains("boot/initrd.img-6.1"));
        for finding in &found {
            let line = finding.to_string();
            assert!(
                line.contains("chmod 600") && !line.contains("argon2"),
                "{line}"
            );
            assert!(!line.contains('\n'), "{line}");
        }
        for path in [policy, ours, root.join("boot/initrd.img-6.1")] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
        }
        assert!(look().is_empty(), "mended");
    }

    #[test]
    fn where_nobody_can_tell_what_an_initramfs_holds_it_counts_as_holding_the_hash() {
        let dir = tempfile::tempdir().unwrap();
        let with = format!("[console]\npassword = \"{HASH}\"\n");
        put(dir.path(), "etc/backstay/policy.toml", &with, 0o600);
        put(dir.path(), "boot/initrd.img-6.1", "x", 0o755);
        let found = findings(dir.path(), &[], &|_| true, &|_| None);
        assert_eq!(ids(&found), ["initramfs-readable"]);
        assert!(found[0].remedy.contains("umask=0077"), "{}", found[0]);
    }

    #[test]
    fn a_policy_that_is_not_understood_is_said_and_its_hash_kept_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let broken = format!("[console]\npassword = \"{HASH}\"\nmenu = 1\n");
        put(dir.path(), "etc/backstay/policy.toml", &broken, 0o644);
        let found = findings(dir.path(), &[], &|_| false, &|_| None);
        assert_eq!(ids(&found), ["policy-not-understood", "policy-readable"]);
        assert!(found.iter().all(|it| !it.to_string().contains("argon2")));
    }
}
