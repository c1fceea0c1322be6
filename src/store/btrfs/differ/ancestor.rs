//! Since when two subvolumes go their own ways.

use super::item::Origin;

/// Says since which transaction the trees of two subvolumes, by their UUIDs, may differ: a leaf that is older
/// in one is in the other too, or was replaced there by a younger one. `None`: no common ancestor is known.
///
/// Writes of that very transaction are among what may differ: the name of a snapshot that lies inside its
/// source enters the source in the transaction that makes the snapshot.
pub fn parted(all: &[Origin], one: [u8; 16], other: [u8; 16]) -> Option<u64> {
    let (one, other) = (line(all, one), line(all, other));
    let both = one.iter().find_map(|(uuid, first)| {
        let second = other.iter().find(|(other, _)| other == uuid)?;
        Some((*first, second.1))
    });
    match both? {
        (Some(first), Some(second)) => Some(first.min(second)),
        (Some(only), None) | (None, Some(only)) => Some(only),
        // They are one and the same.
        (None, None) => Some(u64::MAX),
    }
}

/// A subvolume and what it comes from, nearest first, each with the transaction in which the one before was made
/// of it. The last may be known by its UUID alone: it was deleted, and what was made of it has its leaves.
fn line(all: &[Origin], uuid: [u8; 16]) -> Vec<([u8; 16], Option<u64>)> {
    let mut line = vec![(uuid, None)];
    let mut next = uuid;
    while let Some(origin) = all.iter().find(|origin| origin.uuid == next)
        && origin.parent != [0; 16]
        // A circle, which no kernel makes.
        && line.iter().all(|(uuid, _)| *uuid != origin.parent)
    {
        next = origin.parent;
        line.push((next, Some(origin.made)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_subvolumes_part_where_the_first_of_them_left_the_nearest_common_ancestor() {
        let origin = |uuid, parent, made| Origin {
            uuid: [uuid; 16],
            parent: [parent; 16],
            made,
        };
        // 1 -> 2 -> 4 -> 5; 1 -> 3; 9 (deleted) -> 6, 7; 8 alone; 10 and 11 in a circle.
        let all = [
            origin(1, 0, 5),
            origin(2, 1, 10),
            origin(3, 1, 20),
            origin(4, 2, 30),
            origin(5, 4, 40),
            origin(6, 9, 50),
            origin(7, 9, 60),
            origin(8, 0, 70),
            origin(10, 11, 80),
            origin(11, 10, 81),
        ];
        for (one, other, want) in [
            (1, 2, Some(10)),
            (1, 5, Some(10)),
            (2, 5, Some(30)),
            (2, 3, Some(10)),
            (3, 5, Some(10)),
            (6, 7, Some(50)),
            (6, 9, Some(50)),
            (1, 8, None),
            (1, 6, None),
            (4, 4, Some(u64::MAX)),
            (10, 1, None),
            // A circle only has to end.
            (10, 11, Some(81)),
            (77, 1, None),
        ] {
            let parted = |one, other| parted(&all, [one; 16], [other; 16]);
            assert_eq!(parted(one, other), want, "{one} {other}");
            if one != 10 {
                assert_eq!(parted(other, one), want, "{other} {one}");
            }
        }
    }
}
