//! What the versions of a machine declare of their books, the program that one of them ships, and what it must come to.
//!
//! ```text
//! version        factory, 1, 2     live
//! writes         2                 3
//! ships                            a converter from 3 to 2, and one from 2 to 3
//! ```
//! The data is in state 3. So 2 can be gone to by a conversion alone, and what was live comes back by another one, or with the
//! data as it was.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use backstay::sys::btrfs as ioctl;
use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;

use super::books;
use super::builder::DATA;
use super::device::said;
use super::helper::admin;
use crate::cache::workspace;
use crate::check::command::target;
use crate::image::programs::TARGET;
use crate::toolchain;

/// The data as the converter leaves it that leads from 3 to 2.
pub const CONVERTED: &str = "@converted";
/// The same converted back.
pub const CONVERTED_BACK: &str = "@converted-back";
/// Where the helper has the program.
pub const PROGRAM: &str = "/convert-books";
/// Where a version has it.
const SHIPPED: &str = "usr/lib/books/convert";
/// The label with the state of the books: docs/fencing.md.
const LABEL: &str = "trusted.backstay.state.books";
const WRITES_2: &str = "dataset = \"data\"\nstate = \"2\"\n";
const WRITES_3: &str = r#"
dataset = "data"
state = "3"

[[converter]]
from = ["3"]
to = "2"
command = ["/usr/lib/books/convert"]
lossless = true
early = true

[[converter]]
from = ["2"]
to = "3"
command = ["/usr/lib/books/convert"]
lossless = true
early = true
"#;

/// Where the program lies on the host.
#[must_use]
pub fn built() -> PathBuf {
    target().join("crash/convert-books")
}

/// Builds the program: static, as nothing but its version's root is there when it runs.
///
/// # Errors
/// Where the compiler or its target is missing.
pub fn build() -> Result<()> {
    toolchain::ensure()?;
    let program = built();
    if let Some(directory) = program.parent() {
        fs::create_dir_all(directory)?;
    }
    let new = program.with_extension("new");
    said(
        Command::new("rustc")
            .current_dir(workspace())
            .args(["--edition", "2024", "--target", TARGET])
            // As in .cargo/config.toml, which is cargo's.
            .args(["-C", "linker=rust-lld", "-C", "target-feature=+crt-static"])
            .args(["-C", "relocation-model=static", "-C", "panic=abort"])
            .args(["-C", "opt-level=s", "-C", "lto=fat", "-C", "strip=symbols"])
            .arg("-o")
            .arg(&new)
            .arg("qemu-tests/examples/convert-books.rs"),
    )
    .context("build the converter that a version ships")?;
    Ok(fs::rename(&new, &program)?)
}

/// Puts what a version declares and ships into its root, and the directories that a room for a converter is made of.
///
/// # Errors
/// Those of the file system.
pub fn install(root: &Path, version: &str) -> Result<()> {
    for name in ["dev", "proc", "run", "sys", "tmp", "var/tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    let declared = root.join("usr/lib/backstay/apps.d");
    fs::create_dir_all(&declared)?;
    let text = match version {
        "live" => WRITES_3,
        _ => WRITES_2,
    };
    fs::write(declared.join("books.toml"), text)?;
    if version == "live" {
        let shipped = root.join(SHIPPED);
        fs::create_dir_all(root.join("usr/lib/books"))?;
        fs::copy(PROGRAM, &shipped).with_context(|| format!("copy {PROGRAM}"))?;
        fs::set_permissions(shipped, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Puts books into the live data, and beside it what must become of them.
///
/// # Errors
/// The admin command's, and those of the file system.
pub fn keep_books(top: &Path) -> Result<()> {
    books::write(&top.join(DATA), "3")?;
    admin("state set books 3")?;
    for (of, name, [from, to]) in [
        (DATA, CONVERTED, ["3", "2"]),
        (CONVERTED, CONVERTED_BACK, ["2", "3"]),
    ] {
        let source = File::open(top.join(of))?;
        ioctl::snapshot(source, File::open(top)?, name, false)?;
        let at = top.join(name);
        books::convert(&at, from, to)?;
        setxattr(&at, LABEL, to.as_bytes(), XattrFlags::empty())?;
    }
    Ok(())
}

/// In which state the books of a dataset are, and in which its label says that they are; `None`: there are none.
///
/// # Errors
/// Those of the file system.
pub fn books_of(dataset: &Path) -> Result<Option<String>> {
    let Some(state) = books::state(dataset)? else {
        return Ok(None);
    };
    let mut value = [0; 64];
    let label = match getxattr(dataset, LABEL, &mut value[..]) {
        Err(Errno::NODATA) => "as nothing".to_owned(),
        length => String::from_utf8_lossy(&value[..length?]).into_owned(),
    };
    Ok(Some(format!("books {state}, labelled {label}")))
}
