//! Which versions of which keys can still be looked up.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

use crate::fine_time::FineTime;
use crate::key_map::KeyMap;

/// A key of a table. Strings and integers never meet: a table has one type of key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Number(i64),
    Text(Rc<str>),
}

/// Which of two versions of equal `valid_from` counts, the greatest: by the table's own sequence, or
/// else, where rows come as they come, by the epoch; then by partition and position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence {
    /// With `low`, as [`super::sequence`] has it.
    pub high: i64,
    pub low: u32,
    pub partition: u32,
    pub offset: u64,
}

impl Sequence {
    const FIRST: Sequence = Sequence { high: i64::MIN, low: 0, partition: 0, offset: 0 };
}

/// A version of a key. Its values are in Arrow's row format, which is `Ord` and keeps every bit;
/// `None` says that the key has no values from then on.
///
/// The latest `valid_from` comes first: a cursor that seeks a time finds what was valid then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// To the precision that is stored.
    pub valid_from: FineTime,
    pub sequence: Sequence,
    pub values: Option<Rc<[u8]>>,
}

impl Version {
    /// Comes before every version that is valid at `time`, and behind those that begin later.
    pub fn first_at(time: FineTime) -> Self {
        Version { valid_from: time, sequence: Sequence::FIRST, values: None }
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_time = other.valid_from.cmp(&self.valid_from);
        by_time
            .then_with(|| self.sequence.cmp(&other.sequence))
            .then_with(|| self.values.cmp(&other.values))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A version that comes (1) or goes (-1).
pub type Change = ((Key, Version), isize);

/// The versions of the keys that one worker owns, as far as a lookup can still find them.
///
/// A version is superseded at time t if the key has a later one with `valid_from` ≤ t. Lookups from
/// time t on never find it, so it goes once they are all at or after t.
pub struct Versions {
    max_age_ms: Option<i64>,
    /// By key and `valid_from`.
    kept: KeyMap<Key, BTreeMap<FineTime, Version>>,
    /// When (ms) to look at a key again: a version of it supersedes another, or is too old.
    due: BinaryHeap<Reverse<(i64, Key)>>,
    held: usize,
}

impl Versions {
    /// `max_age_ms`: lookups do not find versions that are older.
    pub fn new(max_age_ms: Option<i64>) -> Self {
        Versions { max_age_ms, kept: KeyMap::default(), due: BinaryHeap::new(), held: 0 }
    }

    /// Versions held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Adds a version; returns whether it counts. It does not if the key has one of the same
    /// `valid_from` and a greater sequence.
    pub fn insert(&mut self, key: Key, version: Version, changes: &mut Vec<Change>) -> bool {
        let versions = self.kept.entry(key.clone()).or_default();
        if let Some(present) = versions.get(&version.valid_from) {
            if present.sequence >= version.sequence {
                return false;
            }
            changes.push(((key.clone(), present.clone()), -1));
            self.held -= 1;
        } else {
            self.due.push(Reverse((version.valid_from.ms_up(), key.clone())));
            if let Some(max_age) = self.max_age_ms {
                let too_old = version.valid_from.ms.saturating_add(max_age).saturating_add(1);
                self.due.push(Reverse((too_old, key.clone())));
            }
        }
        self.held += 1;
        versions.insert(version.valid_from, version.clone());
        changes.push(((key, version), 1));
        true
    }

    /// Lets go of what no lookup at `horizon` (ms) or later can find. The first such lookup is that at
    /// the very beginning of the ms.
    pub fn forget(&mut self, horizon: i64, changes: &mut Vec<Change>) {
        let first = FineTime::of_ms(horizon);
        while self.due.peek().is_some_and(|Reverse((time, _))| *time <= horizon) {
            let Some(Reverse((_, key))) = self.due.pop() else { return };
            let Some(versions) = self.kept.get_mut(&key) else { continue };
            let before = changes.len();
            let current = versions.range(..=first).next_back().map(|(time, _)| *time);
            while let Some(oldest) = versions.first_entry() {
                let superseded = current.is_some_and(|current| *oldest.key() < current);
                let deleted = *oldest.key() <= first && oldest.get().values.is_none();
                let too_old = self
                    .max_age_ms
                    .is_some_and(|max_age| oldest.key().ms.saturating_add(max_age) < horizon);
                if !(superseded || deleted || too_old) {
                    break;
                }
                changes.push(((key.clone(), oldest.remove()), -1));
            }
            self.held -= changes.len() - before;
            if versions.is_empty() {
                self.kept.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(valid_from: i64, sequence: i64, value: Option<u8>) -> Version {
        version_at(FineTime::of_ms(valid_from), sequence, value)
    }

    fn version_at(valid_from: FineTime, sequence: i64, value: Option<u8>) -> Version {
        let values = value.map(|value| Rc::from([value].as_slice()));
        let sequence = Sequence { high: sequence, ..Sequence::FIRST };
        Version { valid_from, sequence, values }
    }

    /// What is there after `changes`, as (key, valid_from, sequence).
    fn present(changes: &[Change]) -> Vec<(i64, i64, i64)> {
        let mut counts: BTreeMap<(Key, Version), isize> = BTreeMap::new();
        for (what, diff) in changes {
            *counts.entry(what.clone()).or_default() += diff;
        }
        assert!(counts.values().all(|count| (0..=1).contains(count)), "{counts:?}");
        let there = counts.into_iter().filter(|(_, count)| *count == 1);
        there
            .map(|((key, version), _)| match key {
                Key::Number(key) => (key, version.valid_from.ms, version.sequence.high),
                Key::Text(_) => panic!("keys of the tests are numbers"),
            })
            .collect()
    }

    #[test]
    fn of_equal_valid_from_the_greatest_sequence_counts() {
        let (mut versions, mut changes) = (Versions::new(None), Vec::new());
        let key = || Key::Number(1);
        assert!(versions.insert(key(), version(5, 1, Some(1)), &mut changes));
        assert!(versions.insert(key(), version(5, 3, Some(3)), &mut changes));
        assert!(!versions.insert(key(), version(5, 2, Some(2)), &mut changes));
        assert!(!versions.insert(key(), version(5, 3, Some(3)), &mut changes));
        assert_eq!((present(&changes), versions.held()), (vec![(1, 5, 3)], 1));
    }

    #[test]
    fn superseded_versions_go_and_the_current_one_stays() {
        let (mut versions, mut changes) = (Versions::new(None), Vec::new());
        for time in [10, 20, 30] {
            versions.insert(Key::Number(1), version(time, 0, Some(0)), &mut changes);
        }
        versions.insert(Key::Number(2), version(5, 0, Some(0)), &mut changes);
        versions.forget(19, &mut changes);
        assert_eq!(versions.held(), 4);
        versions.forget(20, &mut changes);
        assert_eq!(present(&changes), [(1, 30, 0), (1, 20, 0), (2, 5, 0)]);
        versions.forget(1_000, &mut changes);
        assert_eq!(present(&changes), [(1, 30, 0), (2, 5, 0)]);
        // One that comes when it is superseded already goes at the next look.
        versions.insert(Key::Number(1), version(25, 0, Some(0)), &mut changes);
        versions.forget(1_000, &mut changes);
        assert_eq!((present(&changes), versions.held()), (vec![(1, 30, 0), (2, 5, 0)], 2));
    }

    #[test]
    fn deleted_and_aged_keys_leave_nothing_behind() {
        let (mut versions, mut changes) = (Versions::new(Some(100)), Vec::new());
        versions.insert(Key::Number(1), version(10, 0, Some(0)), &mut changes);
        versions.insert(Key::Number(1), version(20, 0, None), &mut changes);
        versions.insert(Key::Number(2), version(10, 0, Some(0)), &mut changes);
        versions.forget(15, &mut changes);
        assert_eq!(versions.held(), 3);
        versions.forget(20, &mut changes);
        assert_eq!(present(&changes), [(2, 10, 0)]);
        versions.forget(110, &mut changes);
        assert_eq!(versions.held(), 1);
        versions.forget(121, &mut changes);
        assert_eq!((versions.held(), versions.kept.len(), versions.due.len()), (0, 0, 0));
        assert!(present(&changes).is_empty());
    }

    /// A lookup at the first instant of a ms still finds what one of its later instants has superseded.
    #[test]
    fn within_a_millisecond_the_earlier_version_stays_until_the_next() {
        let (mut versions, mut changes) = (Versions::new(None), Vec::new());
        for (ns, sequence) in [(0, 1), (500, 2), (501, 3)] {
            let at = FineTime { ms: 10, ns };
            versions.insert(Key::Number(1), version_at(at, sequence, Some(0)), &mut changes);
        }
        versions.forget(10, &mut changes);
        assert_eq!(present(&changes), [(1, 10, 3), (1, 10, 2), (1, 10, 1)]);
        versions.forget(11, &mut changes);
        assert_eq!((present(&changes), versions.held()), (vec![(1, 10, 3)], 1));
    }

    #[test]
    fn a_deletion_or_a_limit_of_age_within_a_millisecond_is_not_early() {
        let (mut versions, mut changes) = (Versions::new(Some(100)), Vec::new());
        let fine = |ms, ns| FineTime { ms, ns };
        versions.insert(Key::Number(1), version_at(fine(10, 7), 1, None), &mut changes);
        versions.insert(Key::Number(2), version_at(fine(10, 7), 1, Some(0)), &mut changes);
        versions.forget(10, &mut changes);
        assert_eq!(versions.held(), 2);
        versions.forget(11, &mut changes);
        assert_eq!(present(&changes), [(2, 10, 1)]);
        // At (110 ms, 7 ns) it is exactly 100 ms old.
        versions.forget(110, &mut changes);
        assert_eq!(versions.held(), 1);
        versions.forget(111, &mut changes);
        assert_eq!((versions.held(), versions.kept.len(), versions.due.len()), (0, 0, 0));
    }

    #[test]
    fn the_ends_of_the_calendar_are_times_like_others() {
        let (first, last) = (-62_135_596_800_000, 253_402_300_799_999);
        let (mut versions, mut changes) = (Versions::new(None), Vec::new());
        for time in [last, first, i64::MIN, i64::MAX - 1] {
            versions.insert(Key::Number(1), version(time, 0, Some(0)), &mut changes);
        }
        versions.forget(first, &mut changes);
        assert_eq!(present(&changes), [(1, i64::MAX - 1, 0), (1, last, 0), (1, first, 0)]);
        versions.forget(i64::MAX, &mut changes);
        assert_eq!(versions.held(), 1);
    }
}
