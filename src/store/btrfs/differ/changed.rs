//! Which inodes have to be looked at: those that differ, and all directories above them.

use super::super::Result;
use super::walk::Inodes;
use std::collections::BTreeSet;

/// Of these inodes, those that are not the same in both trees, with the directories above them in either.
///
/// With every inode of which an item lies in a young leaf of either tree among the candidates, all others are the
/// same in both with all that lies below them: whatever is changed in an inode, or taken from it, also rewrites its
/// inode item, which then lies in a young leaf; so what was removed is seen by its directory. That makes it safe
/// to leave out the neighbours in the leaf, and after a balance, which makes every leaf young, everything that is
/// still the same.
pub fn changed(
    from: &mut impl Inodes,
    to: &mut impl Inodes,
    candidates: BTreeSet<u64>,
) -> Result<BTreeSet<u64>> {
    let mut marked = BTreeSet::new();
    let mut waiting = Vec::new();
    // In their order, which is that of the trees.
    for number in candidates {
        let (before, after) = (from.inode(number)?, to.inode(number)?);
        if before != after {
            marked.insert(number);
            let both = [before, after].into_iter().flatten();
            waiting.extend(both.flat_map(|inode| inode.parents));
        }
    }
    while let Some(number) = waiting.pop() {
        if marked.insert(number) {
            let both = [from.inode(number)?, to.inode(number)?];
            waiting.extend(both.into_iter().flatten().flat_map(|inode| inode.parents));
        }
    }
    Ok(marked)
}

#[cfg(test)]
mod tests {
    use super::super::inode::tests::inode;
    use super::super::walk::tests::Memory;
    use super::*;

    #[test]
    fn what_differs_is_marked_with_what_lies_above_it_in_either_tree() {
        let below = |parents: &[u64]| {
            let mut inode = inode(0o100_644);
            inode.parents = parents.to_vec();
            inode
        };
        let tree = |moved: u64| {
            Memory::of(&[
                (256, below(&[256])),
                (300, below(&[256])),
                (301, below(&[300])),
                (302, below(&[256])),
                (400, below(&[302])),
                (401, below(&[moved])),
            ])
        };
        let marked = |one, other, candidates: &[u64]| {
            let candidates = candidates.iter().copied().collect();
            let marked = changed(&mut tree(one), &mut tree(other), candidates).unwrap();
            marked.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(marked(301, 301, &[256, 302, 400, 401]), [0; 0]);
        assert_eq!(marked(301, 302, &[400, 401]), [256, 300, 301, 302, 401]);
        assert_eq!(marked(301, 302, &[]), [0; 0]);
        // A circle of directories, as no kernel makes it, ends too.
        assert_eq!(marked(401, 302, &[401]), [256, 302, 401]);
    }
}
