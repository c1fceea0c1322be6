//! Walks two trees at once, by their paths.
//!
//! The directory at a path is read in both, and the names of either are judged in the order of their bytes. What the
//! path `a` holds is judged when its name is, what lies below it when `a/` is: so `a`, `a-b`, `a/b` come in the
//! order of whole paths, and nothing has to be kept but the directories on the way down.

use super::super::Result;
use super::inode::{Found, Inode, compare};
use super::item::{Entry, Target};
use crate::store::StoreError;
use crate::store::difference::Difference;
use crate::sys::btrfs::SUBVOLUME_INODE;
use core::ops::ControlFlow;
use std::collections::{BTreeMap, BTreeSet};

/// A tree by its inodes.
pub trait Inodes {
    /// The inode with this number; `None`: there is none.
    fn inode(&mut self, number: u64) -> Result<Option<Inode>>;
}

/// A path's own part that is still to be judged, in both trees.
struct Step {
    /// A name; with a slash at its end, what lies below it.
    name: Vec<u8>,
    before: Option<Entry>,
    after: Option<Entry>,
}

/// A directory on the way down.
struct Level {
    /// Of the path, what belongs to this directory, with a slash at its end.
    length: usize,
    /// Its inode in both trees.
    inodes: [Option<u64>; 2],
    steps: std::vec::IntoIter<Step>,
}

/// Where two trees are compared.
pub struct Walk<'a, From, To> {
    /// The tree before.
    pub from: &'a mut From,
    /// The tree after.
    pub to: &'a mut To,
    /// An inode at one path in both that is not among these is the same in both with all that lies below it; `None`:
    /// nothing is known, and all is read.
    pub marked: Option<BTreeSet<u64>>,
}

impl<From: Inodes, To: Inodes> Walk<'_, From, To> {
    /// Gives the differences in the order of their paths until it is told to stop.
    pub fn run(&mut self, found: &mut dyn FnMut(Difference) -> ControlFlow<()>) -> Result<()> {
        let mut path = Vec::new();
        let root = Some(Target::Inode(SUBVOLUME_INODE));
        if self.judge(&path, root, root, found)?.is_break() {
            return Ok(());
        }
        let root = Some(SUBVOLUME_INODE);
        let mut levels = Vec::new();
        levels.push(self.level(0, [root, root])?);
        while let Some(level) = levels.last_mut() {
            path.truncate(level.length);
            let Some(step) = level.steps.next() else {
                levels.pop();
                continue;
            };
            let targets =
                [&step.before, &step.after].map(|entry| entry.as_ref().map(|it| it.target));
            let [before, after] = targets;
            if self.is_same(before, after) {
                continue;
            }
            path.extend(&step.name);
            if step.name.last() != Some(&b'/') {
                if self.judge(&path, before, after, found)?.is_break() {
                    return Ok(());
                }
                continue;
            }
            let inodes = [&step.before, &step.after].map(directory);
            refuse_circle(&levels, inodes)?;
            levels.push(self.level(path.len(), inodes)?);
        }
        Ok(())
    }

    fn is_same(&self, before: Option<Target>, after: Option<Target>) -> bool {
        match (&self.marked, before) {
            (Some(marked), Some(Target::Inode(number))) => {
                before == after && !marked.contains(&number)
            }
            _ => false,
        }
    }

    /// Judges what lies at the path itself.
    fn judge(
        &mut self,
        path: &[u8],
        before: Option<Target>,
        after: Option<Target>,
        found: &mut dyn FnMut(Difference) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let before = look(self.from, before)?;
        let after = look(self.to, after)?;
        let Some((node, change)) = compare(before.as_ref(), after.as_ref()) else {
            return Ok(ControlFlow::Continue(()));
        };
        Ok(found(Difference {
            path: path.to_vec(),
            node,
            change,
            before: before.and_then(|it| it.size()),
            after: after.and_then(|it| it.size()),
        }))
    }

    /// The steps of a directory at one path in both trees.
    fn level(&mut self, length: usize, inodes: [Option<u64>; 2]) -> Result<Level> {
        let [before, after] = inodes;
        let mut names: BTreeMap<Vec<u8>, [Option<Entry>; 2]> = BTreeMap::new();
        for entry in entries(self.from, before)? {
            let [old, _] = names.entry(entry.name.clone()).or_default();
            *old = Some(entry);
        }
        for entry in entries(self.to, after)? {
            let [_, new] = names.entry(entry.name.clone()).or_default();
            *new = Some(entry);
        }
        Ok(Level {
            length,
            inodes,
            steps: steps(names).into_iter(),
        })
    }
}

/// One step for each name, and one for what lies below it where that is a directory, in order.
fn steps(names: BTreeMap<Vec<u8>, [Option<Entry>; 2]>) -> Vec<Step> {
    let mut steps = Vec::with_capacity(names.len());
    for (name, [before, after]) in names {
        if directory(&before).is_some() || directory(&after).is_some() {
            steps.push(Step {
                name: [&name[..], b"/"].concat(),
                before: before.clone(),
                after: after.clone(),
            });
        }
        steps.push(Step {
            name,
            before,
            after,
        });
    }
    steps.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    steps
}

/// The inode of a directory whose entries are compared.
fn directory(entry: &Option<Entry>) -> Option<u64> {
    match entry {
        Some(Entry {
            target: Target::Inode(number),
            directory: true,
            ..
        }) => Some(*number),
        _ => None,
    }
}

fn look(tree: &mut impl Inodes, target: Option<Target>) -> Result<Option<Found>> {
    Ok(match target {
        None => None,
        Some(Target::Subvolume(_)) => Some(Found::Subvolume),
        // None: who writes to a live system has removed it meanwhile.
        Some(Target::Inode(number)) => tree.inode(number)?.map(Found::Inode),
    })
}

fn entries(tree: &mut impl Inodes, directory: Option<u64>) -> Result<Vec<Entry>> {
    let inode = match directory {
        Some(number) => tree.inode(number)?,
        None => None,
    };
    Ok(inode.map(|inode| inode.entries).unwrap_or_default())
}

/// A directory inside itself, which no kernel makes, would have no end.
fn refuse_circle(levels: &[Level], inodes: [Option<u64>; 2]) -> Result<()> {
    let same = |(one, other): (&Option<u64>, &Option<u64>)| one.is_some() && one == other;
    let circle = |level: &Level| level.inodes.iter().zip(&inodes).any(same);
    match levels.iter().any(circle) {
        false => Ok(()),
        true => Err(StoreError::System(format!(
            "the directory with the inode {inodes:?} lies inside itself: the file system is damaged"
        ))),
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::inode::tests::inode;
    use super::*;
    use crate::store::difference::{Change, What};

    pub struct Memory(BTreeMap<u64, Inode>);

    impl Memory {
        pub fn of(inodes: &[(u64, Inode)]) -> Memory {
            Memory(inodes.iter().cloned().collect())
        }
    }

    impl Inodes for Memory {
        fn inode(&mut self, number: u64) -> Result<Option<Inode>> {
            Ok(self.0.get(&number).cloned())
        }
    }

    fn file(size: u64) -> Inode {
        let mut file = inode(0o100_644);
        file.attributes.size = size;
        file
    }

    fn folder(entries: &[(&str, Target, bool)]) -> Inode {
        let mut folder = inode(0o040_755);
        let entry = |(name, target, directory): &(&str, Target, bool)| Entry {
            name: name.as_bytes().to_vec(),
            target: *target,
            directory: *directory,
        };
        folder.entries = entries.iter().map(entry).collect();
        folder
    }

    fn walk(
        from: &mut Memory,
        to: &mut Memory,
        marked: Option<&[u64]>,
        most: usize,
    ) -> Vec<String> {
        let marked = marked.map(|marked| marked.iter().copied().collect());
        let mut said = Vec::new();
        let mut found = |it: Difference| {
            let change = match it.change {
                Change::Added => "+",
                Change::Removed => "-",
                Change::Changed(What::Kind) => "!",
                Change::Changed(_) => "~",
            };
            said.push(format!("{change}{}", it.name()));
            match said.len() < most {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        };
        Walk { from, to, marked }.run(&mut found).unwrap();
        said
    }

    const FILE: fn(&'static str, u64) -> (&'static str, Target, bool) =
        |name, number| (name, Target::Inode(number), false);
    const FOLDER: fn(&'static str, u64) -> (&'static str, Target, bool) =
        |name, number| (name, Target::Inode(number), true);

    /// `a/{b,c}`, `a-b`, `d/e`, and in the second tree: `a/b` is longer, `d` is `z` now, `a-b` is a directory.
    fn two() -> (Memory, Memory) {
        let common = [
            (300, folder(&[FILE("b", 301), FILE("c", 302)])),
            (301, file(1)),
            (302, file(2)),
            (303, folder(&[FILE("e", 304)])),
            (304, file(4)),
            (305, file(5)),
        ];
        let mut from = Memory::of(&common);
        let mut to = Memory::of(&common);
        let root = [FOLDER("a", 300), FILE("a-b", 305), FOLDER("d", 303)];
        from.0.insert(256, folder(&root));
        let root = [FOLDER("a", 300), FOLDER("a-b", 306), FOLDER("z", 303)];
        to.0.insert(256, folder(&root));
        to.0.insert(301, file(9));
        to.0.insert(306, folder(&[FILE("x", 302)]));
        (from, to)
    }

    #[test]
    fn differences_come_in_the_order_of_whole_paths_and_a_renamed_directory_takes_all_with_it() {
        let (mut from, mut to) = two();
        let all = ["!a-b", "+a-b/x", "~a/b", "-d", "-d/e", "+z", "+z/e"];
        assert_eq!(walk(&mut from, &mut to, None, 99), all);
        let marked: &[u64] = &[256, 300, 301];
        assert_eq!(walk(&mut from, &mut to, Some(marked), 99), all);
        let back = ["!a-b", "-a-b/x", "~a/b", "+d", "+d/e", "-z", "-z/e"];
        assert_eq!(walk(&mut to, &mut from, None, 99), back);
        for most in 1..all.len() {
            assert_eq!(walk(&mut from, &mut to, None, most), all[..most]);
        }
    }

    #[test]
    fn what_is_not_marked_is_not_read_where_it_lies_at_one_path() {
        let (mut from, mut to) = two();
        let marked: &[u64] = &[256];
        from.0.remove(&302);
        let said = walk(&mut from, &mut to, Some(marked), 99);
        assert_eq!(said, ["!a-b", "+a-b/x", "-d", "-d/e", "+z", "+z/e"]);
    }

    #[test]
    fn subvolumes_are_directories_without_a_content() {
        let of = |target| Memory::of(&[(256, folder(&[("s", target, true)]))]);
        let mut plain = of(Target::Inode(300));
        plain.0.insert(300, folder(&[FILE("x", 301)]));
        plain.0.insert(301, file(1));
        let mut one = of(Target::Subvolume(300));
        let mut other = of(Target::Subvolume(400));
        assert_eq!(walk(&mut one, &mut other, None, 99), [""; 0]);
        assert_eq!(walk(&mut one, &mut plain, None, 99), ["+s/x"]);
        assert_eq!(walk(&mut plain, &mut one, None, 99), ["-s/x"]);
    }

    #[test]
    fn a_directory_inside_itself_is_an_error_and_a_lost_inode_is_nothing() {
        let circle = || {
            let circle = folder(&[FOLDER("a", 256), FILE("gone", 300)]);
            Memory::of(&[(256, circle)])
        };
        let (mut from, mut to) = (circle(), circle());
        let mut walk = Walk {
            from: &mut from,
            to: &mut to,
            marked: None,
        };
        let error = walk.run(&mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(error.to_string().contains("lies inside itself"), "{error}");
    }
}
