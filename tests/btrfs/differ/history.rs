//! What people do to a system, at random, from a seed.

use super::super::bench::Machine;
use backstay::record::layout::Part;
use backstay::store::place::Place;
use backstay::store::{Access, Store};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, IFlags, Mode, RenameFlags, Timespec, Timestamps,
    XattrFlags, fallocate, ioctl_ficlone, ioctl_setflags, lremovexattr, lsetxattr, makedev,
    mknodat, renameat_with, utimensat,
};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// Names whose order among paths is not their order among names, and few, so that they meet.
const NAMES: [&str; 10] = ["a", "a-b", "a.b", "a0", "b", "c", "d", "e e", "é", "zz"];

/// Numbers from a seed (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub fn one<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Bytes that were never written before.
    fn bytes(&mut self) -> Vec<u8> {
        let length = match self.below(8) {
            0 => 0,
            1..5 => self.below(1500),
            5 | 6 => 4096 * (1 + self.below(4)),
            _ => self.below(150_000),
        };
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// Makes datasets that come from each other, and changes them; gives those that are there in the end.
pub fn play(machine: &mut Machine, dice: &mut Dice) -> Vec<Place> {
    let live = Place::Live(Part::System);
    let alone = Place::Live(Part::Data(1));
    let mut writable = vec![live, alone];
    for place in [live, alone] {
        machine.store.create(place).unwrap();
        fill(&machine.at(place, ""), dice);
        acts(machine, dice, place, 40);
        machine.store.sync().unwrap();
    }
    let mut sealed = Vec::new();
    let mut id = 0;
    for _ in 0..9 {
        match dice.below(8) {
            0..3 => {
                let from = *dice.one(&[&writable[..], &sealed].concat());
                id += 1;
                let to = Place::Snapshot(id, Part::System);
                let access = *dice.one(&[Access::Writable, Access::ReadOnly]);
                machine.store.clone_to(from, to, access).unwrap();
                match access {
                    Access::Writable => writable.push(to),
                    Access::ReadOnly => sealed.push(to),
                }
            }
            3..6 => {
                let (place, times) = (*dice.one(&writable), 1 + dice.below(15));
                acts(machine, dice, place, times);
            }
            6 => machine.store.sync().unwrap(),
            _ if writable.len() > 3 => {
                // What others come from may be gone.
                let place = writable.remove(dice.below(writable.len()));
                machine.store.sync().unwrap();
                let uuid = machine.store.dataset(place).unwrap().unwrap().identity.uuid;
                machine.store.destroy(place, uuid).unwrap();
            }
            _ => {}
        }
    }
    [writable, sealed].concat()
}

/// Enough for a tree of some thirty leaves, so that most of it is shared and only some of it is changed.
fn fill(root: &Path, dice: &mut Dice) {
    for folder in 0..30 {
        let folder = root.join(NAMES[folder % 5]).join(format!("{folder:02}"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..20 {
            let bytes = dice.next().to_le_bytes().repeat(1 + dice.below(60));
            fs::write(folder.join(file.to_string()), bytes).unwrap();
        }
    }
}

fn acts(machine: &mut Machine, dice: &mut Dice, place: Place, times: usize) {
    for _ in 0..times {
        let root = machine.at(place, "").components().collect::<PathBuf>();
        let mut all = Vec::new();
        list(&root, &mut all);
        if dice.below(25) == 0 {
            let path = free(dice, &root, &all);
            let path = path.strip_prefix(&machine.top).unwrap().to_str().unwrap();
            machine.store.create_path(path).ok();
        } else if let Err(error) = act(dice, &root, &all) {
            // Much of it cannot be done: a file moved onto a directory, a link to a directory.
            assert!(error.raw_os_error() != Some(rustix::io::Errno::NOSPC.raw_os_error()));
        }
    }
}

/// All paths below the dataset, without those in subvolumes.
fn list(directory: &Path, all: &mut Vec<PathBuf>) {
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().collect();
    paths.sort_by_key(|entry| entry.as_ref().unwrap().file_name());
    for entry in paths {
        let path = entry.unwrap().path();
        let stat = fs::symlink_metadata(&path).unwrap();
        all.push(path.clone());
        if stat.is_dir() && !matches!(stat.ino(), 2 | 256) {
            list(&path, all);
        }
    }
}

/// A path in some directory, where something may lie.
fn free(dice: &mut Dice, root: &Path, all: &[PathBuf]) -> PathBuf {
    let stat = |path: &&PathBuf| fs::symlink_metadata(path).unwrap();
    let plain = |path: &&PathBuf| stat(path).is_dir() && !matches!(stat(path).ino(), 2 | 256);
    let mut directories: Vec<&Path> = all.iter().filter(plain).map(PathBuf::as_path).collect();
    directories.push(root);
    dice.one(&directories).join(dice.one(&NAMES))
}

fn act(dice: &mut Dice, root: &Path, all: &[PathBuf]) -> std::io::Result<()> {
    let new = free(dice, root, all);
    if all.is_empty() {
        return fs::write(new, dice.bytes());
    }
    let any = dice.one(all);
    let file = || {
        let mut open = OpenOptions::new();
        match fs::symlink_metadata(any)?.is_file() {
            true => open.read(true).write(true).open(any),
            false => Err(std::io::ErrorKind::InvalidInput.into()),
        }
    };
    let size = |file: &File| usize::try_from(file.metadata().unwrap().len()).unwrap();
    match dice.below(27) {
        0..4 => fs::write(fresh(&new)?, dice.bytes()),
        4..7 => fs::create_dir(new),
        7 => file()?.write_all(&dice.bytes()),
        8 => {
            let mut file = file()?;
            let at = size(&file) + dice.below(2) * dice.below(100_000);
            file.seek(SeekFrom::Start(at as u64))?;
            file.write_all(&dice.bytes())
        }
        9 => {
            let file = file()?;
            file.set_len(dice.below(1 + 2 * size(&file)) as u64)
        }
        10 => {
            let mut file = file()?;
            file.seek(SeekFrom::Start(dice.below(1 + size(&file)) as u64))?;
            file.write_all(&dice.bytes())
        }
        11 => {
            let flags = [FallocateFlags::empty(), FallocateFlags::KEEP_SIZE];
            let (at, length) = (dice.below(50_000) as u64, 1 + dice.below(50_000) as u64);
            Ok(fallocate(file()?, *dice.one(&flags), at, length)?)
        }
        12 => {
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let (at, length) = (dice.below(50_000) as u64, 1 + dice.below(50_000) as u64);
            Ok(fallocate(file()?, punch, at, length)?)
        }
        13 => {
            let copy = File::create(fresh(&new)?)?;
            Ok(ioctl_ficlone(copy, file()?)?)
        }
        14 => {
            let mut file = File::create(fresh(&new)?)?;
            ioctl_setflags(&file, IFlags::NOCOW)?;
            file.write_all(&dice.bytes())
        }
        15 | 16 => fs::rename(any, new),
        17 => {
            let other = dice.one(all);
            Ok(renameat_with(CWD, any, CWD, other, RenameFlags::EXCHANGE)?)
        }
        18 => fs::hard_link(any, new),
        19 => match fs::symlink_metadata(any)?.is_dir() {
            false => fs::remove_file(any),
            // A tree only now and then, or nothing is ever left.
            true if dice.below(3) == 0 => fs::remove_dir_all(any),
            true => fs::remove_dir(any),
        },
        20 => {
            let modes = [0o600, 0o644, 0o755, 0o4755, 0o1777];
            let mode = fs::Permissions::from_mode(*dice.one(&modes));
            match fs::symlink_metadata(any)?.is_symlink() {
                true => Ok(()),
                false => fs::set_permissions(*dice.one(&[any, &root.to_owned()]), mode),
            }
        }
        21 => lchown(
            any,
            Some(*dice.one(&[0, 1, 70_000])),
            Some(*dice.one(&[0, 5])),
        ),
        22 => {
            let name = *dice.one(&["user.a", "user.b", "trusted.c", "security.capability.x"]);
            let value = dice.bytes();
            let value = &value[..value.len().min(900)];
            Ok(lsetxattr(any, name, value, XattrFlags::empty())?)
        }
        23 => Ok(lremovexattr(
            any,
            *dice.one(&["user.a", "user.b", "trusted.c"]),
        )?),
        24 => symlink(format!("../{}", dice.below(1000)), fresh(&new)?),
        25 => {
            let kinds = [FileType::Fifo, FileType::CharacterDevice];
            let device = makedev(1, u32::try_from(dice.below(4)).unwrap());
            let mode = Mode::from_raw_mode(0o600);
            Ok(mknodat(CWD, fresh(&new)?, *dice.one(&kinds), mode, device)?)
        }
        _ => {
            let time = Timespec {
                tv_sec: i64::try_from(dice.below(1 << 30)).unwrap(),
                tv_nsec: 0,
            };
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            Ok(utimensat(CWD, any, &times, AtFlags::SYMLINK_NOFOLLOW)?)
        }
    }
}

/// The path, where no file lies any more: what is made there has another inode than what lay there.
fn fresh(path: &Path) -> std::io::Result<&Path> {
    if fs::symlink_metadata(path).is_ok_and(|stat| !stat.is_dir()) {
        fs::remove_file(path)?;
    }
    Ok(path)
}
