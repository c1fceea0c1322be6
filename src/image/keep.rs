//! A verified archive as a file somewhere else.

use super::error::{Doing, Error, Result};
use super::{Form, Verified};
use crate::sys::Context;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

/// Bytes that are copied at a time.
const CHUNK: usize = 1 << 20;

impl Verified {
    /// How it is compressed.
    pub fn form(&self) -> Form {
        self.archive().form()
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.archive().length()
    }

    /// Writes the very bytes that were verified to `to`. On disk on return.
    ///
    /// # Errors
    /// [`Error::Changed`]: it has other bytes by now, and so has `to`. [`Error::System`].
    pub fn copy_to(&self, to: &mut File) -> Result<()> {
        let doing = || format!("copying {}", self.name());
        let archive = self.archive();
        let mut hash = blake2b_simd::State::new();
        let mut chunk = vec![0; CHUNK];
        let mut at = 0;
        loop {
            let read = archive.file().read_at(&mut chunk, at);
            let read = read.call(|| format!("pread({at})")).doing(doing)?;
            let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            hash.update(bytes);
            to.write_all(bytes)
                .call(|| format!("write({read} bytes)"))
                .doing(doing)?;
            at = at.saturating_add(read as u64);
        }
        if hash.finalize().as_bytes() != self.digest() {
            return Err(Error::Changed {
                name: self.name().to_owned(),
            });
        }
        to.sync_all().call(|| "fsync".to_owned()).doing(doing)
    }
}
