//! The hooks for the initramfs of distributions, run as their tools run them, with those tools' functions replaced by
//! ones that write down their calls: what is put in, and that a failing agent never stops a boot.

// clippy.toml permits these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used)]

use std::fs::{read_dir, read_to_string, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const AGENT: &str = "/usr/lib/backstay/backstay-init";

fn in_workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// What a shell printed; it must end with status 0.
fn run(shell: &str, arguments: &[&str]) -> String {
    let ran = Command::new(shell).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(
        ran.status.success() && errors.is_empty(),
        "{arguments:?}: {}: {errors}",
        ran.status
    );
    String::from_utf8(ran.stdout).unwrap()
}

/// The calls that a script makes of these functions and of those that `more` defines, without those that depend on what
/// lies in this machine's /etc/backstay.
fn calls(shell: &str, functions: &[&str], more: &str, script: &str) -> Vec<String> {
    let mut text = String::new();
    for name in functions {
        text += &format!("{name}() {{ echo {name} \"$@\"; }}\n");
    }
    let output = run(shell, &["-euc", &format!("{text}{more}\n{script}")]);
    let of_this_machine = |line: &&str| !line.contains("/etc/backstay/");
    let lines = output.lines().filter(of_this_machine);
    lines.map(String::from).collect()
}

/// A hook whose agent is one that says how it was called, and fails.
fn with_failing_agent(dir: &Path, hook: &str) -> String {
    let agent = dir.join("agent");
    write(&agent, "#!/bin/sh\necho \"agent $*\"\nexit 1\n").unwrap();
    set_permissions(&agent, PermissionsExt::from_mode(0o755)).unwrap();
    let text = read_to_string(in_workspace(hook)).unwrap();
    assert!(text.contains(AGENT), "{hook}");
    let copy = dir.join("hook");
    write(&copy, text.replace(AGENT, agent.to_str().unwrap())).unwrap();
    copy.to_str().unwrap().to_owned()
}

#[test]
fn mkinitcpio_gets_a_unit_with_systemd_and_a_script_without() {
    let hook = in_workspace("initramfs-hooks/mkinitcpio/install/backstay");
    let script = format!(". {}; build", hook.display());
    let put_in = |more| {
        let functions = [
            "add_module",
            "add_binary",
            "add_file",
            "add_runscript",
            "add_symlink",
        ];
        calls("bash", &functions, more, &script)
    };
    let both = [
        "add_module btrfs",
        "add_module efivarfs?",
        &format!("add_binary {AGENT}"),
    ];
    assert_eq!(put_in(""), [&both[..], &["add_runscript"]].concat());
    let units = "/usr/lib/systemd/system";
    let wanted = format!(
        "add_symlink {units}/initrd.target.wants/backstay-agent.service {units}/backstay-agent.service"
    );
    assert_eq!(
        put_in("add_systemd_unit() { echo add_systemd_unit \"$@\"; }"),
        [
            &both[..],
            &["add_systemd_unit backstay-agent.service", &wanted]
        ]
        .concat()
    );
    let help = run("bash", &["-euc", &format!(". {}; help", hook.display())]);
    assert!(help.contains("after systemd"), "{help}");
}

#[test]
fn dracut_gets_a_unit_with_systemd_and_a_hook_without() {
    let hook = in_workspace("initramfs-hooks/dracut/91backstay/module-setup.sh");
    let put_in = |included: bool| {
        let functions = ["inst_simple", "inst_hook", "systemctl"];
        let more = format!(
            "dracut_module_included() {{ {included}; }}\n\
             moddir=/m systemdsystemunitdir=/u initdir=/i SYSTEMCTL=systemctl"
        );
        let script = format!(". {}; install", hook.display());
        calls("bash", &functions, &more, &script)
    };
    let agent = format!("inst_simple {AGENT}");
    assert_eq!(
        put_in(true),
        [
            &agent,
            "inst_simple /m/backstay-agent.service /u/backstay-agent.service",
            "systemctl -q --root /i add-wants initrd.target backstay-agent.service",
        ]
    );
    assert_eq!(
        put_in(false),
        [&agent, "inst_hook pre-mount 50 /m/backstay.sh"]
    );
    let script = format!(". {}; installkernel", hook.display());
    assert_eq!(
        calls("bash", &["instmods"], "", &script),
        ["instmods efivarfs"]
    );
    let script = format!(
        "require_binaries() {{ false; }}; . {}; check || echo \"$?\"; depends",
        hook.display()
    );
    assert_eq!(run("bash", &["-euc", &script]), "1\nbtrfs\n");
}

#[test]
fn initramfs_tools_gets_agent_and_module_and_runs_it_after_the_hibernation_check() {
    let dir = tempfile::tempdir().unwrap();
    let hook = read_to_string(in_workspace("initramfs-hooks/initramfs-tools/hook")).unwrap();
    let functions = "/usr/share/initramfs-tools/hook-functions";
    assert!(hook.contains(functions));
    let script = hook.replace(functions, "/dev/null");
    let names = ["copy_exec", "manual_add_modules", "copy_file"];
    assert_eq!(
        calls("sh", &names, "set --  ''", &script),
        [
            &format!("copy_exec {AGENT}"),
            "manual_add_modules btrfs efivarfs"
        ]
    );
    let script = with_failing_agent(dir.path(), "initramfs-hooks/initramfs-tools/premount");
    assert_eq!(run("sh", &[&script, "prereqs"]), "resume\n");
}

#[test]
fn initramfs_tools_makes_an_initramfs_with_a_passwords_hash_for_root_alone() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    let hook = read_to_string(in_workspace("initramfs-hooks/initramfs-tools/conf-hook")).unwrap();
    let hook = hook.replace("/etc/backstay/policy.toml", policy.to_str().unwrap());
    // As mkinitramfs sources it.
    let umask = |before: &str| {
        let script = format!("{before}\n{hook}\necho \"${{UMASK:-none}}\"");
        run("sh", &["-euc", &script])
    };
    assert_eq!(umask(""), "none\n");
    write(&policy, "[tarball]\nunsigned = true\n").unwrap();
    assert_eq!(umask("UMASK=0022"), "0022\n");
    write(&policy, "[console]\npassword = \"$argon2id$\"\n").unwrap();
    assert_eq!(umask("UMASK=0022"), "0077\n");
    assert_eq!(umask(""), "0077\n");
}

#[test]
fn a_vendors_keys_lie_where_the_agent_looks_for_keys() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("vendor.pub"), "a key").unwrap();
    for (hook, shell, copies, call) in [
        ("initramfs-tools/hook", "sh", "copy_file config", ":"),
        (
            "dracut/91backstay/module-setup.sh",
            "bash",
            "inst_simple",
            "install",
        ),
        ("mkinitcpio/install/backstay", "bash", "add_file", "build"),
    ] {
        let text = read_to_string(in_workspace(&format!("initramfs-hooks/{hook}"))).unwrap();
        let text = text
            .replace("/usr/lib/backstay/keys", dir.path().to_str().unwrap())
            .replace("/usr/share/initramfs-tools/hook-functions", "/dev/null");
        let mut script =
            String::from("moddir=/m systemdsystemunitdir=/u initdir=/i SYSTEMCTL=:; set -- ''\n");
        for name in [
            "copy_exec",
            "manual_add_modules",
            "copy_file",
            "inst_simple",
            "inst_hook",
            "add_module",
            "add_binary",
            "add_file",
            "add_runscript",
            "dracut_module_included",
        ] {
            script += &format!("{name}() {{ echo {name} \"$@\"; }}\n");
        }
        let said = run(shell, &["-euc", &format!("{script}{text}\n{call}")]);
        let from = dir.path().join("vendor.pub");
        let wanted = format!(
            "{copies} {} /etc/backstay/keys/vendor.pub\n",
            from.display()
        );
        assert!(said.contains(&wanted), "{hook}: {said}");
    }
}

#[test]
fn a_failing_agent_never_stops_a_boot() {
    let dir = tempfile::tempdir().unwrap();
    // As each tool runs it: a program of its own; sourced; sourced, and its function called.
    for (hook, as_its_tool) in [
        ("initramfs-tools/premount", "sh HOOK"),
        ("dracut/91backstay/backstay.sh", ". HOOK"),
        ("mkinitcpio/hooks/backstay", ". HOOK; run_hook"),
    ] {
        let script = with_failing_agent(dir.path(), &format!("initramfs-hooks/{hook}"));
        let boot = as_its_tool.replace("HOOK", &script);
        let said = run("sh", &["-euc", &format!("{boot}; echo goes on")]);
        assert_eq!(said, "agent host\ngoes on\n", "{hook}");
    }
    let unit = in_workspace("initramfs-hooks/dracut/91backstay/backstay-agent.service");
    let unit = read_to_string(unit).unwrap();
    assert!(unit.contains(&format!("ExecStart=-{AGENT} host\n")));
}

#[test]
fn every_script_for_other_tools_is_one_that_its_shell_understands() {
    let mut checked = 0;
    for directory in [
        "initramfs-hooks/initramfs-tools",
        "initramfs-hooks/dracut/91backstay",
        "initramfs-hooks/mkinitcpio/hooks",
        "initramfs-hooks/mkinitcpio/install",
        "packaging",
        "grub-entries",
    ] {
        for entry in read_dir(in_workspace(directory)).unwrap() {
            let path = entry.unwrap().path();
            let text = read_to_string(&path).unwrap();
            let first = text.lines().next().unwrap_or_default();
            let sourced = path.extension().is_some_and(|extension| extension == "sh");
            if first.starts_with("#!") || sourced {
                let shell = if first.contains("bash") { "bash" } else { "sh" };
                run(shell, &["-n", path.to_str().unwrap()]);
                checked += 1;
            }
        }
    }
    assert!(checked >= 10, "only {checked} scripts were found");
}
