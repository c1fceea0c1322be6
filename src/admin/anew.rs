//! `backstay factory install`: the distribution installed anew, by mmdebstrap(1), as a system that nothing ever ran.
//!
//! The same packages as in the running system, as the distribution's archives have them today, with the few files that
//! this machine needs to boot and to be reached ([`CARRIED`]). The result is an archive, from which the factory snapshot
//! is made like from any other.

use super::cli::Install;
use super::error::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a system installed anew has from this one, where it is there: the disks, the boot loader's settings, the
/// machine's name, how it is reached, and where packages come from. Nothing of what was done with it. mmdebstrap itself
/// takes /etc/resolv.conf along.
pub const CARRIED: [&str; 21] = [
    "etc/fstab",
    "etc/crypttab",
    "etc/default/grub",
    "etc/default/grub.d",
    "etc/default/locale",
    "etc/default/keyboard",
    "etc/locale.conf",
    "etc/locale.gen",
    "etc/vconsole.conf",
    "etc/timezone",
    "etc/localtime",
    "etc/hostname",
    "etc/hosts",
    "etc/network/interfaces",
    "etc/network/interfaces.d",
    "etc/systemd/network",
    "etc/netplan",
    "etc/apt/keyrings",
    "etc/initramfs-tools",
    "etc/dracut.conf.d",
    "etc/backstay",
];
/// Where the archive is written and the system is unpacked before that: on disk, and nobody else's.
const SCRATCH: &str = "/var/cache/backstay";
/// In the root that is being made as `$1`, before any package is configured: an initramfs is made from these.
const CARRY: &str = r#"cd / && for path in $BACKSTAY_CARRIED; do
    [ ! -e "$path" ] || cp --archive --parents "$path" "$1"
done"#;
/// Packages that are files, and the password of root, without which nobody could log in.
const FINISH: &str = r#"set -e
for file in $BACKSTAY_PACKAGES; do cp "$file" "$1/tmp/"; done
if [ -n "$BACKSTAY_PACKAGES" ]; then
    chroot "$1" sh -c 'apt-get install --yes --no-install-recommends /tmp/*.deb && rm /tmp/*.deb'
fi
printf 'root:%s\n' "$(getent shadow root | cut -d : -f 2)" | chroot "$1" chpasswd --encrypted
rm -f "$1/etc/backstay/baseline"
# Where each system makes its own at its start (Debian 13), the next owner's is not to be this one's.
if [ -e "$1/usr/lib/systemd/system/sshd-keygen.service" ]; then rm -f "$1"/etc/ssh/ssh_host_*; fi"#;

/// An archive that is removed when this goes.
#[derive(Debug)]
pub struct Installed {
    /// The file.
    pub archive: PathBuf,
}

impl Drop for Installed {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.archive) {
            log::warn!("remove({:?}): {error}", self.archive);
        }
    }
}

/// Installs it, with mmdebstrap's own progress on standard error.
pub fn install(args: &Install, say: &mut dyn FnMut(&str)) -> Result<Installed> {
    if !Path::new("/usr/bin/mmdebstrap").exists() {
        return Err(Error::Anew(
            "mmdebstrap is missing: 'apt-get install mmdebstrap', then run this again".to_owned(),
        ));
    }
    let shadow = lines("getent", &["shadow", "root"])?.concat();
    if !lets_root_in(&shadow) && !args.no_login {
        return Err(Error::Anew(
            "root has no password, and no other account is taken along: nobody could log in to the new system. Give \
             root one (passwd), keep this system's accounts by 'factory baseline' instead, or say --no-login"
                .to_owned(),
        ));
    }
    let installed = lines(
        "dpkg-query",
        &[
            "--show",
            "--showformat=${db:Status-Status} ${binary:Package}\n",
        ],
    )?;
    let names = installed
        .iter()
        .filter_map(|line| line.strip_prefix("installed "));
    let mut wanted: BTreeSet<&str> = names
        .filter(|name| !args.without.iter().any(|it| is_called(name, it)))
        .collect();
    let mut files = Vec::new();
    for file in &args.packages {
        let path = std::fs::canonicalize(file).map_err(Error::file("reading", file))?;
        let text = path.display().to_string();
        if text.contains(char::is_whitespace) {
            return Err(Error::Anew(format!(
                "{text:?} has a blank in its name: rename it"
            )));
        }
        let name = lines("dpkg-deb", &["--field", &text, "Package"])?.concat();
        wanted.remove(name.as_str());
        files.push(text);
    }
    let names: Vec<&str> = wanted.iter().copied().collect();
    let policy = lines("apt-cache", &[&["policy"], &names[..]].concat())?;
    let lost = in_no_archive(&policy);
    if !lost.is_empty() {
        return Err(Error::Anew(format!(
            "in no archive that apt knows: {}: give the file of each with --package FILE, or leave it out with \
             --without NAME",
            lost.join(" ")
        )));
    }
    say(&format!(
        "installing {} packages anew; this takes some minutes",
        wanted.len()
    ));
    make_scratch(Path::new(SCRATCH)).map_err(Error::file("making", SCRATCH))?;
    let archive = Path::new(SCRATCH).join("factory.tar");
    let made = Installed {
        archive: archive.clone(),
    };
    let status = Command::new("mmdebstrap")
        .args(["--mode=root", "--format=tar", "--variant=apt"])
        .arg(format!("--architectures={}", architectures()?.join(",")))
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .arg(format!("--include={}", names.join(",")))
        .arg(format!("--essential-hook={CARRY}"))
        .arg(format!("--customize-hook={FINISH}"))
        .arg(codename()?)
        .arg(&archive)
        .args(sources())
        .env("BACKSTAY_CARRIED", CARRIED.join(" "))
        .env("BACKSTAY_PACKAGES", files.join(" "))
        .env("TMPDIR", SCRATCH)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(Error::file("running", "mmdebstrap"))?;
    match status.success() {
        true => Ok(made),
        false => Err(Error::Anew(format!(
            "mmdebstrap failed ({status}), for the reason above; nothing was changed"
        ))),
    }
}

/// A directory that nobody else may look into, since passwords and keys lie there, without what an interrupted run left.
fn make_scratch(scratch: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::remove_dir_all(scratch) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(scratch)
}

/// Whether somebody can log in to a system that has this machine's password of root, and no other account: a line of
/// shadow(5).
fn lets_root_in(shadow: &str) -> bool {
    let password = shadow.split(':').nth(1).unwrap_or_default();
    !password.starts_with(['!', '*'])
}

/// Whether dpkg's name of a package, perhaps with its architecture (`libc6:amd64`), is what somebody calls it.
fn is_called(package: &str, name: &str) -> bool {
    package == name
        || package
            .split_once(':')
            .is_some_and(|(bare, _)| bare == name)
}

/// What a program prints, line by line.
fn lines(program: &str, arguments: &[&str]) -> Result<Vec<String>> {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(Error::file("running", program))?;
    if !output.status.success() {
        return Err(Error::Anew(format!("{program} failed ({})", output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::to_owned).collect())
}

/// The packages of `apt-cache policy` that come from nowhere but dpkg's own list of what is installed.
fn in_no_archive(policy: &[String]) -> Vec<&str> {
    let mut found: Vec<(&str, bool)> = Vec::new();
    for line in policy {
        let name = line.strip_suffix(':').filter(|name| !name.starts_with(' '));
        if let Some(name) = name {
            found.push((name, false));
        }
        // `        500 http://deb.debian.org/debian trixie/main amd64 Packages`
        let source = line.strip_prefix("        ").map(str::trim_start);
        let source = source.and_then(|line| line.split_once(' '));
        if let Some((_, has_archive)) = found.last_mut()
            && source.is_some_and(|(_, source)| source != "/var/lib/dpkg/status")
        {
            *has_archive = true;
        }
    }
    let lost = found.into_iter().filter(|(_, has_archive)| !has_archive);
    lost.map(|(name, _)| name).collect()
}

fn architectures() -> Result<Vec<String>> {
    let mut all = lines("dpkg", &["--print-architecture"])?;
    all.extend(lines("dpkg", &["--print-foreign-architectures"])?);
    Ok(all)
}

/// The release, as the archive names it: `trixie`.
fn codename() -> Result<String> {
    let path = "/etc/os-release";
    let text = std::fs::read_to_string(path).map_err(Error::file("reading", path))?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.map(|name| name.trim_matches('"').to_owned())
        .ok_or_else(|| {
            Error::Anew(format!(
                "{path} has no VERSION_CODENAME: this is no Debian or Ubuntu"
            ))
        })
}

/// The files that say where packages come from.
fn sources() -> Vec<PathBuf> {
    let more = std::fs::read_dir("/etc/apt/sources.list.d");
    let more = more
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let known = |path: &PathBuf| {
        path.extension()
            .is_some_and(|it| it == "list" || it == "sources")
    };
    let mut all: Vec<PathBuf> = std::iter::once(PathBuf::from("/etc/apt/sources.list"))
        .chain(more.filter(known))
        .filter(|path| std::fs::metadata(path).is_ok_and(|it| it.len() > 0))
        .collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scratch_directory_is_nobody_elses_and_is_emptied() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let scratch = dir.path().join("cache/backstay");
        std::fs::create_dir_all(&scratch).unwrap();
        std::fs::write(scratch.join("factory.tar"), "half").unwrap();
        make_scratch(&scratch).unwrap();
        let mode = std::fs::metadata(&scratch).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
    }

    #[test]
    fn root_logs_in_by_a_password_alone() {
        for (line, lets_in) in [
            ("root:$y$j9T$abc:20000:0:99999:7:::", true),
            ("root::20000:0:99999:7:::", true),
            ("root:!:20000:0:99999:7:::", false),
            ("root:*:20000:0:99999:7:::", false),
            ("root:!$y$j9T$abc:20000:0:99999:7:::", false),
        ] {
            assert_eq!(lets_root_in(line), lets_in, "{line}");
        }
    }

    #[test]
    fn packages_that_no_archive_has_are_found() {
        let policy = "bash:
  Installed: 5.2
  Candidate: 5.2
  Version table:
 *** 5.2 500
        500 http://deb.debian.org/debian trixie/main amd64 Packages
        100 /var/lib/dpkg/status
backstay:
  Installed: 0.1.0
  Candidate: 0.1.0
  Version table:
 *** 0.1.0 100
        100 /var/lib/dpkg/status
libc6:i386:
  Version table:
 *** 2.41 500
        500 http://deb.debian.org/debian trixie/main i386 Packages
local:
  Version table:
 *** 1 100
        100 /var/lib/dpkg/status
";
        let policy: Vec<String> = policy.lines().map(str::to_owned).collect();
        assert_eq!(in_no_archive(&policy), ["backstay", "local"]);
        assert!(is_called("libc6:amd64", "libc6") && is_called("libc6:amd64", "libc6:amd64"));
        assert!(is_called("bash", "bash") && !is_called("bash-doc", "bash"));
    }
}
