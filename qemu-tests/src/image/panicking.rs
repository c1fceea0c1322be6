//! Debian's own kernel, which panics before it has unpacked an initramfs.
//!
//! In the compressed kernel lies a small archive, the one that is unpacked before any initramfs is. Without its
//! magic the kernel panics while it starts, whatever it is given. What is compressed anew must not be longer than
//! it was, and the same encoder does not always do as well: a part of the kernel's type information, which nothing
//! reads so early, becomes zeros.

use std::path::Path;
use std::process::Command;

use crate::cache::{Cache, Key};
use crate::setup;
use crate::toolbox::{self, Error};

/// What the panic says.
pub const PANIC: &str = "Kernel panic - not syncing: invalid magic at start of compressed archive";

/// The magic of a cpio archive with the first digit of a number behind it, as only an archive has it.
const ARCHIVE: &[u8] = b"0707010";
/// The header of type information (BTF): magic, version, flags, length of the header.
const TYPES: &[u8] = b"\x9f\xeb\x01\x00\x18\x00\x00\x00";
/// Bytes of it that become zeros, and how far behind its header. Fewer do not save enough; more would make the
/// kernel so short that it overwrites itself while it is decompressed.
const ZEROS: (usize, usize) = (1024, 300 << 10);

/// A kernel image and its identity.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The file.
    pub path: std::path::PathBuf,
    /// What it was made from.
    pub key: Key,
}

/// The kernel, from the cache or newly made, which takes a minute.
pub fn ensure() -> Result<Kernel, Error> {
    setup::ensure_archives()?;
    let whole = toolbox::ensure_initramfs()?.kernel;
    let key = Key::of("panicking kernel 1").file(&whole)?.finish();
    let path = Cache::machine()?.entry("panicking-kernel", "vmlinuz", &key, |path| {
        setup::say("making a kernel that panics…");
        make(&whole, path)
    })?;
    Ok(Kernel { path, key })
}

fn make(whole: &Path, path: &Path) -> Result<(), Error> {
    let mut image = std::fs::read(whole).map_err(toolbox::io_error("read", whole))?;
    let (start, length) = payload(&image).ok_or_else(|| wrong("it is no bzImage"))?;
    let beside = path.with_extension("payload");
    let compressed = image.get(start..start + length).unwrap_or_default();
    std::fs::write(&beside, compressed).map_err(toolbox::io_error("write", &beside))?;
    let mut kernel = zstd(&["-d"], &beside)?;
    garble(&mut kernel).ok_or_else(|| wrong("it holds no archive, or no type information"))?;
    std::fs::write(&beside, &kernel).map_err(toolbox::io_error("write", &beside))?;
    let again = zstd(&["--ultra", "-22", "--long=27"], &beside)?;
    std::fs::remove_file(&beside).map_err(toolbox::io_error("remove", &beside))?;
    let place = image.get_mut(start..start + length);
    place
        .and_then(|place| place.get_mut(..again.len()))
        .ok_or_else(|| wrong("compressed anew it is longer than before"))?
        .copy_from_slice(&again);
    std::fs::write(path, image).map_err(toolbox::io_error("write", path))
}

/// Where the compressed kernel lies in an image, without the length behind it
/// (Documentation/arch/x86/boot.rst: `setup_sects`, `payload_offset`, `payload_length`).
fn payload(image: &[u8]) -> Option<(usize, usize)> {
    let word = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let sectors = match image.get(0x1f1)? {
        0 => 4,
        more => usize::from(*more),
    };
    let start = (sectors + 1) * 512 + word(0x248)?;
    Some((start, word(0x24c)?.checked_sub(4)?))
}

fn garble(kernel: &mut [u8]) -> Option<()> {
    let at = |kernel: &[u8], what: &[u8]| kernel.windows(what.len()).position(|it| it == what);
    let archive = at(kernel, ARCHIVE)?;
    kernel.get_mut(archive..archive + 6)?.fill(b'X');
    let types = at(kernel, TYPES)? + ZEROS.0;
    kernel.get_mut(types..types + ZEROS.1)?.fill(0);
    Some(())
}

fn zstd(arguments: &[&str], file: &Path) -> Result<Vec<u8>, Error> {
    let mut command = Command::new("zstd");
    command
        .args(["--quiet", "--stdout"])
        .args(arguments)
        .arg(file);
    let output = command
        .output()
        .map_err(toolbox::io_error("run zstd on", file))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(wrong(String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn wrong(reason: &str) -> Error {
    Error::Output {
        what: "making a kernel that panics from Debian's".into(),
        reason: reason.into(),
    }
}
