//! `backstay initramfs`: the standalone initramfs that holds the agent.

use super::error::{Error, Result};
use crate::image::Keys;
use backstay_initramfs::{Options, build as write};
use std::path::Path;

/// Where a system keeps the agent's program, below its root.
pub const AGENT: &str = "usr/lib/backstay/backstay-init";

/// Builds the archive for one kernel. On disk on return; an older archive is replaced whole.
/// Returns its size in bytes.
pub fn build(root: &Path, release: &str, agent: &Path, output: &Path) -> Result<u64> {
    full(&Options {
        root: root.to_owned(),
        release: release.to_owned(),
        agent: agent.to_owned(),
        output: output.to_owned(),
        extra_modules: Vec::new(),
        shell: None,
    })
}

/// The same with everything that can be chosen.
pub fn full(options: &Options) -> Result<u64> {
    // Better no initramfs than one whose agent does not understand what it is allowed, or whom to trust.
    let policy = options.root.join("etc/backstay/policy.toml");
    let mut options = options.clone();
    if let Ok(text) = std::fs::read_to_string(&policy) {
        let policy = crate::agent::policy::parse(&text)
            .map_err(|error| Error::Initramfs(format!("/etc/backstay/{error}")))?;
        let driver = policy.watchdog.and_then(|watchdog| watchdog.driver);
        options.extra_modules.extend(driver);
    }
    let options = &options;
    let keys = backstay_initramfs::keys(&options.root);
    let keys = keys.map_err(|error| Error::Initramfs(error.to_string()))?;
    for (name, bytes) in keys {
        Keys::parse(&[(name, String::from_utf8_lossy(&bytes).into_owned())])?;
    }
    if !options.agent.is_file() {
        return Err(Error::NoAgent(options.agent.clone()));
    }
    let built = write(options).map_err(|error| Error::Initramfs(error.to_string()))?;
    Ok(built.bytes)
}
