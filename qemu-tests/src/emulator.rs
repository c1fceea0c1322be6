//! The emulator: this machine's QEMU or, where that is older than Debian 13's, the latter, which needs a fifth less time.
//!
//! That one is not installed: its package lies unpacked in the cache, with the libraries that it needs, and is started
//! by its own dynamic linker.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::cache::Cache;
use crate::image::packages;
use crate::setup;
use crate::toolbox::{Error, io_error};

/// This machine's.
const NAME: &str = "qemu-system-x86_64";
/// From this version on this machine's is used.
const NEW_ENOUGH: u32 = 10;

/// `None`: this machine's.
static UNPACKED: OnceLock<Option<PathBuf>> = OnceLock::new();

/// A command that is given QEMU's arguments, tied to the life of this thread where util-linux can do that.
#[must_use]
pub fn command() -> Command {
    const SETPRIV: &str = "/usr/bin/setpriv";
    let words = words(UNPACKED.get_or_init(unpacked).as_deref());
    let mut words = words.iter();
    let mut command = match Path::new(SETPRIV).exists() {
        true => {
            let mut command = Command::new(SETPRIV);
            command.args(["--pdeathsig", "TERM", "--"]);
            command
        }
        false => Command::new(words.next().map_or(NAME, String::as_str)),
    };
    command.args(words);
    if let Some(tree) = UNPACKED.get().and_then(Option::as_ref) {
        command.env("QEMU_MODULE_DIR", tree.join(LIBRARIES).join("qemu"));
    }
    command
}

/// What it says of itself: its version.
#[must_use]
pub fn version() -> String {
    said(command()).unwrap_or_default()
}

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

fn words(tree: Option<&Path>) -> Vec<String> {
    let Some(tree) = tree else {
        return vec![NAME.to_owned()];
    };
    let at = |path: &str| tree.join(path).display().to_string();
    let mut words = vec![
        at("usr/lib64/ld-linux-x86-64.so.2"),
        "--library-path".to_owned(),
        at(LIBRARIES),
        at("usr/bin/qemu-system-x86_64"),
    ];
    // The firmware and the ROMs of devices.
    for data in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
        words.extend(["-L".to_owned(), at(data)]);
    }
    words
}

fn unpacked() -> Option<PathBuf> {
    let ours = said(Command::new(NAME));
    if ours
        .as_deref()
        .and_then(major)
        .is_some_and(|major| major >= NEW_ENOUGH)
    {
        return None;
    }
    unpack()
        .inspect_err(|error| setup::say(&format!("this machine's QEMU is used: {error}")))
        .ok()
}

/// The first line of what `--version` prints.
fn said(mut command: Command) -> Option<String> {
    let output = command.arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(())?;
    text.lines().next().map(str::to_owned)
}

fn major(version: &str) -> Option<u32> {
    let (_, number) = version.split_once(" version ")?;
    number.split('.').next()?.parse().ok()
}

fn unpack() -> Result<PathBuf, Error> {
    let packed = packages::qemu()?;
    Cache::machine()?.entry("qemu", "tree", &packed.key, |tree| {
        std::fs::create_dir(tree).map_err(io_error("create", tree))?;
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(&packed.path).arg("-C").arg(tree);
        tar.args(["--no-same-owner", "--exclude=./dev/*"]);
        let log = tree.with_extension("log");
        setup::run_long("unpacking QEMU", &mut tar, &log)?;
        let _ = std::fs::remove_file(&log);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_as_qemu_prints_it() {
        let printed = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b2)";
        assert_eq!(major(printed), Some(7));
        assert_eq!(major("QEMU emulator version 10.0.13 (Debian)"), Some(10));
        assert_eq!(major("something else"), None);
    }

    #[test]
    fn an_unpacked_one_is_started_by_its_own_linker() {
        assert_eq!(words(None), [NAME]);
        let words = words(Some(Path::new("/q")));
        assert_eq!(words[0], "/q/usr/lib64/ld-linux-x86-64.so.2");
        assert_eq!(words[3], "/q/usr/bin/qemu-system-x86_64");
    }
}
