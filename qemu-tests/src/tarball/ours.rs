//! Our extractor, as the agent calls it.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use backstay::image::{Archive, Extracted, Keys, Limits, Trust, extract as write, verify};

/// Verifies an archive against its `.minisig` and a public key, and extracts it. This process must have
/// one thread.
///
/// # Errors
/// What it says.
pub fn extract(archive: &Path, to: &Path, public: &Path) -> Result<Extracted> {
    let read =
        |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let mut signature = archive.as_os_str().to_owned();
    signature.push(".minisig");
    let signature = read(Path::new(&signature))?;
    let keys = Keys::parse(&[("key".to_owned(), read(public)?)])?;
    let trust = Trust::Signed {
        keys: &keys,
        signature: &signature,
    };
    let verified = verify(Archive::open(archive)?, &trust, &mut |_| {})?;
    let to = File::open(to)?;
    Ok(write(
        &verified,
        to.as_fd(),
        &Limits::default(),
        &mut |_| {},
    )?)
}
