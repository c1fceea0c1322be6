//! Verifies and extracts an archive as the agent does: `extract-image ARCHIVE PUBLIC-KEY DIRECTORY`. For
//! `cargo bench-image`, which measures it as a process of its own.

use backstay::image::{Archive, Keys, Limits, Trust, extract, verify};
use std::fs::{File, read_to_string};
use std::os::fd::AsFd;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [archive, key, to] = arguments.as_slice() else {
        return Err("usage: extract-image ARCHIVE PUBLIC-KEY DIRECTORY".into());
    };
    let signature = read_to_string(format!("{archive}.minisig"))?;
    let keys = Keys::parse(&[(key.clone(), read_to_string(key)?)])?;
    let trust = Trust::Signed {
        keys: &keys,
        signature: &signature,
    };
    let verified = verify(Archive::open(Path::new(archive))?, &trust, &mut |_| {})?;
    let to = File::open(to)?;
    extract(&verified, to.as_fd(), &Limits::default(), &mut |_| {})?;
    Ok(())
}
