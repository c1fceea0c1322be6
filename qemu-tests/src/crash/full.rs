//! A disk without room: takes all there is, for data and for metadata, and gives some of it back.
//!
//! ```text
//! fill/…        takes what is there until nothing gets anything
//! fill/data-N   N MiB of data that can be given back;   fill/metadata-N   N MiB of metadata
//! ```
//! It lies beside the datasets, as another subvolume of the owner's would.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{FallocateFlags, XattrFlags, fallocate, fsetxattr, syncfs};

use super::act::Room;

/// What takes the room, in the top level.
pub const FILL: &str = "fill";
/// Room that is tried, in MiB.
const LEVELS: [u32; 5] = [0, 1, 4, 16, 64];
/// Data that can be given back in all: what a command wants for a system and its archive.
const ALL_DATA: u32 = 96;
const MIB: u64 = 1 << 20;
/// Bytes of an attribute: four fit a node of 16 KiB.
const ATTRIBUTE: usize = 3800;
/// Attributes a file, each a quarter of a node: 64 KiB.
const ATTRIBUTES: u32 = 16;
/// Files of attributes a MiB.
const FILES: u32 = 16;

/// Each room that is tried: the same of both, and of one while the other has none.
pub fn rooms() -> impl Iterator<Item = Room> {
    let some = LEVELS.iter().copied().filter(|level| *level > 0);
    let one = some.flat_map(|level| {
        let of = |data, metadata| Room { data, metadata };
        [of(level, level), of(level, 0), of(0, level)]
    });
    let none = Room {
        data: 0,
        metadata: 0,
    };
    std::iter::once(none).chain(one)
}

/// All that can be given back.
pub const ALL: Room = Room {
    data: ALL_DATA,
    metadata: 64,
};

/// What is given back to get from one level to the next.
fn portions() -> impl Iterator<Item = (u32, u32)> {
    LEVELS
        .windows(2)
        .filter_map(|pair| Some((*pair.get(1)?, pair.get(1)? - pair.first()?)))
}

/// Takes all room on the file system that is mounted at `top`.
///
/// # Errors
/// Where there is not even room for what can be given back.
pub fn fill(top: &Path) -> Result<()> {
    let into = top.join(FILL);
    for (level, portion) in portions() {
        let at = into.join(format!("metadata-{level}"));
        fs::create_dir_all(&at)?;
        for number in 0..portion * FILES {
            let file = File::create(at.join(number.to_string()))?;
            for number in 0..ATTRIBUTES {
                attribute(&file, number)
                    .with_context(|| format!("no room for {portion} MiB of metadata"))?;
            }
        }
        data(&into, level, portion)?;
    }
    let most = LEVELS.last().copied().unwrap_or(0);
    data(&into, ALL_DATA, ALL_DATA - most)?;
    sync(top)?;
    take_the_rest(&into)?;
    sync(top)
}

fn data(into: &Path, level: u32, portion: u32) -> Result<()> {
    let at = into.join(format!("data-{level}"));
    fs::create_dir_all(&at)?;
    let length = u64::from(portion) * MIB;
    let all = File::create(at.join("all"))?;
    fallocate(all, FallocateFlags::empty(), 0, length)
        .with_context(|| format!("no room for {portion} MiB of data"))
}

/// Data in ever smaller pieces, then attributes, which are quick, then files that lie in the metadata, and
/// empty ones; again until nothing gets anything.
fn take_the_rest(into: &Path) -> Result<()> {
    let mut names = (0..).map(|number: u64| into.join(number.to_string()));
    loop {
        let mut got = 0;
        let mut length = 64 * MIB;
        while length >= 4096 {
            let taken = names.next().and_then(|name| {
                let file = File::create(name).ok()?;
                fallocate(&file, FallocateFlags::empty(), 0, length).ok()
            });
            match taken {
                Some(()) => got += 1,
                None => length /= 2,
            }
        }
        if let Some(file) = names.next().and_then(|name| File::create(name).ok()) {
            got += (0..)
                .take_while(|number| attribute(&file, *number).is_ok())
                .count();
        }
        for length in [2000, 500, 0] {
            while names
                .next()
                .is_some_and(|name| fs::write(name, vec![b'x'; length]).is_ok())
            {
                got += 1;
            }
        }
        sync(into)?;
        if got == 0 {
            return Ok(());
        }
    }
}

fn attribute(file: &File, number: u32) -> rustix::io::Result<()> {
    let name = format!("user.fill.{number}");
    fsetxattr(file, name, &[b'x'; ATTRIBUTE], XattrFlags::empty())
}

/// Gives this much back of what [`fill`] took.
///
/// # Errors
/// Where it cannot be removed.
pub fn give_back(top: &Path, room: Room) -> Result<()> {
    let levels = portions().map(|(level, _)| level);
    for level in levels.chain([ALL_DATA]) {
        for (what, wanted) in [("data", room.data), ("metadata", room.metadata)] {
            if level <= wanted {
                match fs::remove_dir_all(top.join(FILL).join(format!("{what}-{level}"))) {
                    // It was given back before.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    other => other?,
                }
            }
        }
    }
    sync(top)
}

fn sync(within: &Path) -> Result<()> {
    Ok(syncfs(File::open(within)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_add_up_to_the_levels() {
        let mut sum = 0;
        for (level, portion) in portions() {
            sum += portion;
            assert_eq!(sum, level);
        }
        assert_eq!(rooms().count(), 13);
    }
}
