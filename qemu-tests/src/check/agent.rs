//! The agent's binaries: static, and built without a C compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::command::{cargo, run, target};
use super::{Failed, Tally};
use crate::image::programs::TARGET;

/// The binaries.
pub const BINARIES: [&str; 2] = ["backstay-init", "backstay"];
/// Time for a build with link-time optimisation on a busy machine.
const BUILD: Duration = Duration::from_secs(1500);

/// Builds them and looks at them.
pub fn check(tally: &mut Tally) {
    let mut built = false;
    tally.check(
        "the agent is built with rust-lld while CC is /bin/false",
        || {
            build()?;
            built = true;
            Ok(1)
        },
    );
    for name in BINARIES {
        if !built {
            tally.leave_out(format!("{name} is static: it was not built"));
            continue;
        }
        tally.check(&format!("{name} is static"), || {
            let path = path(name);
            let said = is_static(&path)?;
            let size = fs::metadata(&path).context("its size")?.len();
            println!("  {} KB; {said}", size / 1000);
            Ok::<_, Failed>(1)
        });
    }
}

/// Where a binary is after [`build`].
#[must_use]
pub fn path(name: &str) -> PathBuf {
    target().join(TARGET).join("release").join(name)
}

/// Builds the binaries. Every variable by which a build script finds a C compiler or its linker names
/// a program that always fails.
///
/// # Errors
/// When the build fails: the text names the log.
pub fn build() -> Result<()> {
    let arguments = [
        "build",
        "--release",
        "--locked",
        "--target",
        TARGET,
        "-p",
        "backstay",
        "--bins",
    ];
    let mut command = cargo(&arguments);
    for variable in [
        "CC",
        "CXX",
        "AR",
        "CC_x86_64_unknown_linux_musl",
        "TARGET_CC",
    ] {
        command.env(variable, "/bin/false");
    }
    run("agent", command, BUILD)?.succeeded()?;
    Ok(())
}

/// Asks the ELF header, ldd, and file(1) where it is installed.
fn is_static(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    if let Some(kind) = dynamic_part(&bytes)? {
        bail!(
            "{} has a program header {kind}: it is not static",
            path.display()
        );
    }
    let ldd = said(Command::new("ldd").arg(path)).context("run ldd")?;
    if !ldd.contains("not a dynamic executable") && !ldd.contains("statically linked") {
        bail!("ldd {} says: {ldd}", path.display());
    }
    match said(Command::new("file").arg("-b").arg(path)) {
        Ok(file) if file.contains("statically linked") => Ok(format!("file and ldd say so: {ldd}")),
        Ok(file) => bail!("file {} says: {file}", path.display()),
        Err(_) => Ok(format!("ldd says so: {ldd} (file(1) is not installed)")),
    }
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

/// The first program header of a 64-bit little-endian ELF file that asks for a dynamic loader
/// (PT_INTERP; elf(5)). None: it is static.
fn dynamic_part(elf: &[u8]) -> Result<Option<&'static str>> {
    let number = |at: usize, size: usize| -> Result<usize> {
        let bytes = elf.get(at..at + size).context("a truncated ELF file")?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("not a 64-bit little-endian ELF file");
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        if number(table + index * size, 4)? == 3 {
            return Ok(Some("PT_INTERP"));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_the_host_is_seen_to_be_dynamic() {
        assert_eq!(
            dynamic_part(&fs::read("/bin/sh").unwrap()).unwrap(),
            Some("PT_INTERP")
        );
        assert!(is_static(Path::new("/bin/sh")).is_err());
    }
}
