//! What the host must have before a virtual machine can be built or run, and how it gets it.
//!
//! Needed are QEMU for x86-64, mmdebstrap, Debian's archive keys, and (for anybody but root) the means to
//! map user ids. What is missing is installed with apt-get by root, or by sudo if that asks no
//! password; everybody else is told the one command to type. Nothing else on the host is changed.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What can be wrong with the host.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Packages are missing and cannot be installed from here.
    #[error("missing on this machine: {missing}. Install with: {command}")]
    Packages {
        /// Programs or files, for people.
        missing: String,
        /// The command that installs them.
        command: String,
    },
    /// apt-get was tried and failed.
    #[error("{command} failed:\n{output}")]
    Install {
        /// The command.
        command: String,
        /// All that it printed.
        output: String,
    },
    /// The virtual machines are x86-64, and so are the packages that are asked for.
    #[error("this is {0}; the test machines are built on x86_64 only")]
    Architecture(&'static str),
    /// A program could not be started.
    #[error("run {program}: {source}")]
    Run {
        /// The program.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A program that builds something failed.
    #[error("{what} failed ({status}); the end of its messages:\n{output}")]
    Build {
        /// What was being built.
        what: String,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// A log file cannot be written.
    #[error("write {path}: {source}")]
    Log {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Debian's archive keys, for sources of any release.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One thing that must be there, and the package that brings it.
struct Need {
    what: &'static str,
    package: &'static str,
    there: fn() -> bool,
}

const NEEDS: &[Need] = &[
    Need {
        what: "qemu-system-x86_64",
        package: "qemu-system-x86",
        there: || program("qemu-system-x86_64").is_some(),
    },
    Need {
        what: "mmdebstrap",
        package: "mmdebstrap",
        there: || program("mmdebstrap").is_some(),
    },
    // The keys of trixie came into the package later than its name; this file came with them.
    Need {
        what: "Debian 13's archive keys",
        package: "debian-archive-keyring",
        there: || {
            Path::new(KEYRING).exists()
                && Path::new("/usr/share/keyrings/debian-archive-trixie-stable.gpg").exists()
        },
    },
    Need {
        what: "newuidmap",
        package: "uidmap",
        there: || is_root() || program("newuidmap").is_some(),
    },
];

/// What the power cuts need; see [`crate::crash`].
const BTRFS: Need = Need {
    what: "mkfs.btrfs",
    package: "btrfs-progs",
    there: || program("mkfs.btrfs").is_some() && program("btrfs").is_some(),
};

/// What Debian's packages are packed with.
const XZ: Need = Need {
    what: "xz",
    package: "xz-utils",
    there: || program("xz").is_some(),
};

/// What archives are made and read with, beside ours; see [`crate::tarball`].
const ARCHIVES: &[Need] = &[
    Need {
        what: "bsdtar",
        package: "libarchive-tools",
        there: || program("bsdtar").is_some(),
    },
    Need {
        what: "zstd",
        package: "zstd",
        there: || program("zstd").is_some(),
    },
    XZ,
    Need {
        what: "minisign",
        package: "minisign",
        there: || program("minisign").is_some(),
    },
];

/// The firmware of machines that start by UEFI.
const OVMF: Need = Need {
    what: "OVMF",
    package: "ovmf",
    there: || {
        [OVMF_CODE, OVMF_VARIABLES, OVMF_SECURE_CODE, OVMF_SIGNERS]
            .iter()
            .all(|path| Path::new(path).exists())
    },
};
/// Its program.
pub const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// Its variables, as a new machine has them.
pub const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Its program that can do Secure Boot.
pub const OVMF_SECURE_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
/// Variables of a machine as it is sold: with Microsoft's keys, and Secure Boot on.
pub const OVMF_SIGNERS: &str = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd";

static DONE: Mutex<bool> = Mutex::new(false);

/// Makes sure that everything is there; installs what is missing if it may. Checked once a process.
pub fn ensure() -> Result<(), Error> {
    let mut done = DONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if *done {
        return Ok(());
    }
    if std::env::consts::ARCH != "x86_64" {
        return Err(Error::Architecture(std::env::consts::ARCH));
    }
    ensure_all(NEEDS)?;
    subordinate_ids()?;
    *done = true;
    Ok(())
}

/// Makes sure that btrfs file systems can be made on this machine.
///
/// # Errors
/// Where btrfs-progs is missing and cannot be installed.
pub fn ensure_btrfs() -> Result<(), Error> {
    ensure_all(&[BTRFS])
}

/// Makes sure that machines can start by UEFI.
///
/// # Errors
/// Where OVMF is missing and cannot be installed.
pub fn ensure_ovmf() -> Result<(), Error> {
    ensure_all(&[OVMF])
}

/// Makes sure that a Debian package can be packed.
///
/// # Errors
/// Where xz is missing and cannot be installed.
pub fn ensure_xz() -> Result<(), Error> {
    ensure_all(&[XZ])
}

/// Makes sure that other programs for archives are there.
///
/// # Errors
/// Where one is missing and cannot be installed.
pub fn ensure_archives() -> Result<(), Error> {
    ensure_all(ARCHIVES)
}

fn ensure_all(needs: &[Need]) -> Result<(), Error> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.there)()).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => install(&missing),
    }
}

/// Prints a line about what is being done, for the person who waits.
pub fn say(line: &str) {
    eprintln!("images: {line}");
}

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps the sbin directories out of an ordinary user's PATH.
    let more = ["/usr/sbin", "/usr/bin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(more)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// How a command becomes root here: directly, by sudo without a password, or not at all.
fn as_root() -> Option<Vec<&'static str>> {
    if is_root() {
        return Some(vec![]);
    }
    let sudo = Command::new("sudo")
        .args(["-n", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    sudo.is_ok_and(|status| status.success())
        .then(|| vec!["sudo", "-n"])
}

fn install(missing: &[&Need]) -> Result<(), Error> {
    let what: Vec<&str> = missing.iter().map(|need| need.what).collect();
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let refuse = || Error::Packages {
        missing: what.join(", "),
        command: format!(
            "sudo apt-get install --no-install-recommends {}",
            packages.join(" ")
        ),
    };
    let (Some(root), Some(_)) = (as_root(), program("apt-get")) else {
        return Err(refuse());
    };
    say(&format!("installing {} with apt-get…", packages.join(", ")));
    let first = apt_get(&root, &install_arguments(&packages));
    let second = match first {
        Ok(()) => Ok(()),
        // Lists that are absent or old are the usual reason.
        Err(_) => apt_get(&root, &["update".into()])
            .and_then(|()| apt_get(&root, &install_arguments(&packages))),
    };
    match second {
        Err(error) if packages.contains(&"qemu-system-x86") => {
            // A part of QEMU that was installed from backports wants its other parts from there too, while
            // apt takes those of the release: bring what is there back to the release's version.
            let Some(arguments) = downgrade_arguments(&packages) else {
                return Err(error);
            };
            say("a newer QEMU package is in the way: taking the release's version of it instead…");
            apt_get(&root, &arguments)?;
        }
        result => result?,
    }
    match missing.iter().any(|need| !(need.there)()) {
        true => Err(refuse()),
        false => Ok(()),
    }
}

fn install_arguments(packages: &[&str]) -> Vec<String> {
    let fixed = ["install", "--yes", "--no-install-recommends"];
    fixed
        .iter()
        .chain(packages)
        .map(|argument| (*argument).to_owned())
        .collect()
}

/// The same with every installed package of QEMU at the release's version. None where neither the
/// release nor any such package is known.
fn downgrade_arguments(packages: &[&str]) -> Option<Vec<String>> {
    let release = std::fs::read_to_string("/etc/os-release").ok()?;
    let codename = codename(&release)?;
    let listed = Command::new("dpkg-query")
        .args([
            "--show",
            "--showformat",
            "${db:Status-Status} ${Package}\\n",
            "qemu-*",
        ])
        .output()
        .ok()?;
    let installed = installed_packages(&String::from_utf8_lossy(&listed.stdout));
    if installed.is_empty() {
        return None;
    }
    let mut arguments = install_arguments(&[]);
    arguments.push("--allow-downgrades".into());
    arguments.extend(
        packages
            .iter()
            .map(|package| format!("{package}/{codename}")),
    );
    arguments.extend(
        installed
            .iter()
            .filter(|package| !packages.contains(&package.as_str()))
            .map(|package| format!("{package}/{codename}")),
    );
    Some(arguments)
}

fn codename(os_release: &str) -> Option<&str> {
    let value = os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(value.trim_matches('"'))
}

fn installed_packages(listed: &str) -> Vec<String> {
    listed
        .lines()
        .filter_map(|line| line.strip_prefix("installed "))
        .map(str::to_owned)
        .collect()
}

fn apt_get(root: &[&str], arguments: &[String]) -> Result<(), Error> {
    let mut words: Vec<&str> = root.to_vec();
    words.extend([
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-o",
        "DPkg::Lock::Timeout=120",
    ]);
    words.extend(arguments.iter().map(String::as_str));
    let command = words.join(" ");
    let Some((program, rest)) = words.split_first() else {
        return Ok(());
    };
    let output = Command::new(program)
        .args(rest)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Run {
            program: (*program).into(),
            source,
        })?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(Error::Install {
        command,
        output: tail(&String::from_utf8_lossy(&text), 20),
    })
}

/// mmdebstrap of an ordinary user unpacks as the root of a user namespace, for which the user must own
/// a range of ids.
fn subordinate_ids() -> Result<(), Error> {
    if is_root() {
        return Ok(());
    }
    let user = std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_default();
    let id = rustix::process::geteuid().as_raw().to_string();
    let has_range = |file: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .any(|(owner, _)| owner == user || owner == id)
    };
    if has_range("/etc/subuid") && has_range("/etc/subgid") {
        return Ok(());
    }
    let who = if user.is_empty() { &id } else { &user };
    Err(Error::Packages {
        missing: format!("a range of subordinate ids for {who} in /etc/subuid and /etc/subgid"),
        command: format!(
            "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {who}"
        ),
    })
}

/// Runs a program that takes long, its messages in `log`; says every 20 s that it is still at work.
pub fn run_long(what: &str, command: &mut Command, log: &Path) -> Result<(), Error> {
    let log_error = |source| Error::Log {
        path: log.to_owned(),
        source,
    };
    let file = File::create(log).map_err(log_error)?;
    let program = OsStr::to_string_lossy(command.get_program()).into_owned();
    let run_error = |source| Error::Run {
        program: program.clone(),
        source,
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone().map_err(log_error)?)
        .stderr(file)
        .spawn()
        .map_err(run_error)?;
    let start = Instant::now();
    let mut said = Duration::ZERO;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(run_error)? {
            break status;
        }
        if start.elapsed() > said + Duration::from_secs(20) {
            said = start.elapsed();
            say(&format!("{what}: {} s so far…", said.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    if status.success() {
        return Ok(());
    }
    let output = std::fs::read(log).unwrap_or_default();
    Err(Error::Build {
        what: what.to_owned(),
        status: status.to_string(),
        output: tail(&String::from_utf8_lossy(&output), 25),
    })
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..)
        .unwrap_or_default()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codename_is_read_with_and_without_quotes() {
        for (text, name) in [
            ("ID=debian\nVERSION_CODENAME=bookworm\n", Some("bookworm")),
            ("VERSION_CODENAME=\"trixie\"", Some("trixie")),
            ("ID=debian\n", None),
        ] {
            assert_eq!(codename(text), name);
        }
    }

    #[test]
    fn removed_packages_do_not_count_as_installed() {
        let listed = "installed qemu-utils\nconfig-files qemu-system-arm\nnot-installed qemu-kvm\n";
        assert_eq!(installed_packages(listed), ["qemu-utils"]);
    }

    #[test]
    fn a_long_program_that_fails_shows_the_end_of_its_messages() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo first; echo the reason >&2; exit 3"]);
        let error = run_long("building", &mut command, &dir.path().join("log")).unwrap_err();
        assert!(error.to_string().contains("the reason"), "{error}");
    }
}
