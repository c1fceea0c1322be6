//! Which kept data goes: of each dataset the newest stay, and what is not old enough, and whatever something needs. No
//! clock is believed for more than that: what a wrong one dates wrongly is kept longer, or as long as its number says.

use crate::record::layout::Part;
use std::collections::BTreeMap;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// What stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// So many of each dataset, the newest.
    pub keep: u32,
    /// And what was kept within so many days.
    pub keep_days: Option<u32>,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            keep: 3,
            keep_days: None,
        }
    }
}

/// A data dataset that a sealed snapshot has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptData {
    /// The snapshot.
    pub id: u32,
    /// Which dataset.
    pub part: Part,
    /// When it was kept: seconds since 1970, by a clock that may have been wrong.
    pub created: u64,
    /// Going back to the snapshot brings it back by itself: a reset, or a fallback, replaced it.
    pub comes_back: bool,
}

/// Why a copy stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// It is among the newest of its dataset.
    Newest,
    /// It is not old enough.
    Young,
    /// It comes back by itself, and nobody said that such data goes, too.
    ComesBack,
    /// Something else needs it.
    Needed(Need),
}

/// What needs kept data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A snapshot is booted once, and nobody knows yet what the return finds.
    Parked,
    /// The live system is on trial, and may be left for this snapshot.
    Trial,
    /// A request that waits goes to it.
    Request,
    /// `reset everything` has still to delete it, or somebody tried to go back.
    Destruction,
}

impl core::fmt::Display for Stays {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Stays::Newest => "among the newest",
            Stays::Young => "not old enough",
            Stays::ComesBack => "it comes back with the snapshot: --reset-data",
            Stays::Needed(Need::Parked) => "a snapshot is booted once",
            Stays::Needed(Need::Trial) => "the live system is on trial",
            Stays::Needed(Need::Request) => "a request waits that goes there",
            Stays::Needed(Need::Destruction) => "'reset everything' is not over",
        })
    }
}

/// Says of each copy why it stays; `None`: it goes. `needs` says what needs a snapshot's data, and `all` that data which
/// comes back by itself is treated as the rest. `now` is in seconds since 1970.
pub fn decide(
    copies: &[KeptData],
    retention: Retention,
    all: bool,
    now: u64,
    needs: impl Fn(u32) -> Option<Need>,
) -> Vec<Option<Stays>> {
    let counted = |copy: &&KeptData| all || !copy.comes_back;
    let mut newer: BTreeMap<Part, Vec<u32>> = BTreeMap::new();
    for copy in copies.iter().filter(counted) {
        newer.entry(copy.part).or_default().push(copy.id);
    }
    let is_new = |copy: &KeptData| {
        let ids = newer.get(&copy.part);
        let after = ids.map_or(0, |ids| ids.iter().filter(|id| **id > copy.id).count());
        u32::try_from(after).is_ok_and(|after| after < retention.keep)
    };
    let is_young = |copy: &KeptData| {
        let days = now.saturating_sub(copy.created) / DAY;
        retention.keep_days.is_some_and(|keep| days < keep.into())
    };
    let stays = |copy: &KeptData| match needs(copy.id) {
        Some(need) => Some(Stays::Needed(need)),
        None if !counted(&copy) => Some(Stays::ComesBack),
        None if is_new(copy) => Some(Stays::Newest),
        None if is_young(copy) => Some(Stays::Young),
        None => None,
    };
    copies.iter().map(stays).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(id: u32, part: u8, days: u64) -> KeptData {
        KeptData {
            id,
            part: Part::Data(part),
            created: days * DAY,
            comes_back: false,
        }
    }

    fn going(
        copies: &[KeptData],
        keep: u32,
        keep_days: Option<u32>,
        all: bool,
        today: u64,
    ) -> Vec<u32> {
        let retention = Retention { keep, keep_days };
        let decided = decide(copies, retention, all, today * DAY, |_| None);
        let both = copies.iter().zip(decided);
        both.filter(|(_, stays)| stays.is_none())
            .map(|(copy, _)| copy.id)
            .collect()
    }

    #[test]
    fn the_newest_of_each_dataset_stay_whatever_a_clock_says() {
        // One dataset has few copies: those of another one do not push them out. 9 was kept while the clock was wrong.
        let copies = [copy(3, 1, 1), copy(5, 0, 90), copy(7, 0, 80), copy(9, 0, 0)];
        assert_eq!(going(&copies, 1, None, false, 100), [5, 7]);
        assert_eq!(going(&copies, 2, None, false, 100), [5]);
        assert_eq!(going(&copies, 0, None, false, 100), [3, 5, 7, 9]);
        assert_eq!(going(&copies, u32::MAX, None, false, 100), [0; 0]);
    }

    #[test]
    fn what_is_young_stays_besides_and_a_wrong_clock_keeps() {
        let copies = [copy(3, 0, 1), copy(5, 0, 90), copy(7, 0, 99)];
        assert_eq!(going(&copies, 1, Some(11), false, 100), [3]);
        assert_eq!(going(&copies, 1, Some(10), false, 100), [3, 5]);
        assert_eq!(going(&copies, 0, Some(0), false, 100), [3, 5, 7]);
        // It is 1970 again, or all of them were kept in times to come.
        assert_eq!(going(&copies, 1, Some(1), false, 0), [0; 0]);
    }

    #[test]
    fn what_comes_back_by_itself_goes_only_where_that_is_said_and_is_not_counted_before() {
        let mut copies = [copy(3, 0, 1), copy(5, 0, 2), copy(7, 0, 3)];
        copies[2].comes_back = true;
        assert_eq!(going(&copies, 1, None, false, 100), [3]);
        assert_eq!(going(&copies, 1, None, true, 100), [3, 5]);
        assert_eq!(going(&copies, 0, None, true, 100), [3, 5, 7]);
    }

    #[test]
    fn what_something_needs_stays_and_is_counted() {
        let copies = [copy(3, 0, 1), copy(5, 0, 2), copy(7, 0, 3)];
        let keep = |keep| Retention {
            keep,
            keep_days: None,
        };
        let need = |id| (id == 7).then_some(Need::Trial);
        let decided = decide(&copies, keep(1), false, 0, need);
        assert_eq!(decided, [None, None, Some(Stays::Needed(Need::Trial))]);
        let need = |id| (id == 3).then_some(Need::Request);
        let decided = decide(&copies, keep(1), false, 0, need);
        let request = Some(Stays::Needed(Need::Request));
        assert_eq!(decided, [request, None, Some(Stays::Newest)]);
    }
}
